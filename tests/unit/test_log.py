import io
import json
import logging
import sys

import pytest

from edge.log import LineFormatter, set_up
from edge.redaction import Redactor


@pytest.fixture
def root() -> logging.Logger:
    return logging.getLogger()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(message: str, exc: BaseException | None = None, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "edge.test", "msg": message, "levelno": 20, "levelname": "INFO", **fields}
    )
    made.created = 1_700_000_000.25
    if exc is not None:
        made.exc_info = (type(exc), exc, exc.__traceback__)
    return made


def line(form: str, made: logging.LogRecord, *, person: bool = False, secrets: tuple[str, ...] = ()) -> str:
    redactor = Redactor()
    redactor.redact(secrets)
    return LineFormatter(form, person=person, clean=redactor.clean).format(made)  # type: ignore[arg-type]  # parametrized


def caught() -> ValueError:
    try:
        raise ValueError("first\nsecond")
    except ValueError as exc:
        return exc


def test_secrets_that_are_known_already_make_no_pattern_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    redactor = Redactor()
    redactor.redact(["hunter2"])
    with monkeypatch.context() as patch:
        patch.setattr("re.compile", None)  # of thousands of links out each tells its token at every attempt
        redactor.redact(["hunter2"])
        redactor.redact([])
    redactor.redact(["hunter2", "hunter22"])
    assert redactor.clean("hunter2 hunter22") == "*** ***"


def test_logfmt_has_the_sentence_and_the_fields() -> None:
    made = record("server ready", server="git", took_s=0.25, required=True, reason=None)
    assert line("text", made) == (
        'time=2023-11-14T22:13:20.250Z level=info logger=edge.test msg="server ready" '
        "server=git took_s=0.25 required=true reason=none"
    )


def test_json_keeps_types() -> None:
    made = record(
        "server ready", server="git", took_s=0.25, n=3, required=True, reason=None, odd=float("nan"), at={1}
    )
    assert json.loads(line("json", made)) == {
        "time": "2023-11-14T22:13:20.250Z", "level": "info", "logger": "edge.test", "msg": "server ready",
        "server": "git", "took_s": 0.25, "n": 3, "required": True, "reason": None, "odd": "nan", "at": "{1}",
    }  # fmt: skip


def test_a_person_gets_time_level_sentence_and_fields() -> None:
    text = line("auto", record("server ready", server="git"), person=True)
    assert text[8:] == " info     server ready  server=git"


def test_auto_is_for_a_person_on_a_terminal_and_logfmt_elsewhere(root: logging.Logger) -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        set_up("info", stream=stream)
        logging.getLogger("edge.test").info("hello", extra={"n": 1})
    assert "msg=" not in terminal.getvalue()
    assert "msg=hello n=1\n" in file.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("person", [True, False])
@pytest.mark.parametrize(
    "nasty", ["a\nlevel=error", "a\r\nb", "\x1b[2Jgone", "\x9b31m", "a\u2028b", "\u202etxt", "\ud800"]
)
def test_nothing_ends_the_line_or_steers_a_terminal(form: str, person: bool, nasty: str) -> None:
    for made in (
        record("x", field=nasty),
        record(nasty),
        record("%s", args=(nasty,)),
        record("x", None, **{nasty: 1}),
    ):
        text = line(form, made, person=person)
        assert text.isprintable(), ascii(text)
        text.encode()


def test_a_field_cannot_pose_as_one_of_the_lines_own() -> None:
    assert json.loads(line("json", record("real", level="error", logger="x", time="0"))) == {
        "time": "2023-11-14T22:13:20.250Z", "level": "info", "logger": "edge.test", "msg": "real",
        "level_": "error", "logger_": "x", "time_": "0",
    }  # fmt: skip


def test_a_traceback_is_one_field() -> None:
    made = record("part failed", caught())
    text = line("json", made)
    assert "\n" not in text
    assert json.loads(text)["exc"].splitlines()[-2:] == ["ValueError: first", "second"]
    assert "\n" not in line("text", made)
    assert "ValueError: first\\nsecond" in line("text", made)


def test_a_person_gets_the_traceback_indented_so_that_it_cannot_pose_as_a_line() -> None:
    first, *rest = line(
        "text", record("part failed", caught(), stack_info="Stack:\n  here"), person=True
    ).split("\n")
    assert first.endswith("part failed")
    assert all(part.startswith("    | ") for part in rest)
    assert rest[-3:] == ["    | second", "    | Stack:", "    |   here"]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("person", [True, False])
def test_secrets_are_removed_wherever_they_are(form: str, person: bool) -> None:
    secret = 'p"ss\\wörd/42'
    forms = [
        secret,
        "p%22ss%5Cw%C3%B6rd%2F42",
        "p%22ss%5Cw%C3%B6rd/42",
        json.dumps(secret, ensure_ascii=False),
    ]
    for text in forms:
        for made in (
            record(f"token {text}"),
            record("token %s", args=(text,)),
            record("x", url=f"http://h/?t={text}"),
            record("x", headers={"authorization": f"Bearer {text}"}),
            record("x", ValueError(text)),
            record("x", stack_info=text),
        ):
            got = line(form, made, person=person, secrets=(secret,))
            assert "***" in got
            assert "rd/42" not in got
            assert "rd%2F42" not in got


@pytest.mark.parametrize(
    "secret", ["level", "server", "true", '", "', 'ver": "', "edge.test", "20.25", "n=12345"]
)
def test_a_secret_hits_nothing_that_belongs_to_the_line(secret: str) -> None:
    made = record("ready", server="git", is_on=True, n=12345, took_s=20.25)
    found = json.loads(line("json", made, secrets=(secret,)))
    assert list(found) == ["time", "level", "logger", "msg", "server", "is_on", "n", "took_s"]
    assert (found["level"], found["logger"], found["is_on"], found["n"]) == ("info", "edge.test", True, 12345)
    assert found["took_s"] == ("***" if secret == "20.25" else 20.25)
    assert "level=info logger=edge.test msg=ready server=git is_on=true n=12345" in line(
        "text", made, secrets=(secret,)
    )


def test_a_number_that_is_a_secret_is_hidden() -> None:
    assert json.loads(line("json", record("x", pin=123456, n=1), secrets=("123456",)))["pin"] == "***"


def test_other_libraries_are_heard_from_warnings_up(root: logging.Logger) -> None:
    stream = io.StringIO()
    set_up("debug", "json", stream=stream)
    logging.getLogger("httpx").info("GET http://secret")
    logging.getLogger("httpx").warning("beware")
    logging.getLogger("edge.x").debug("detail")
    assert [json.loads(text)["msg"] for text in stream.getvalue().splitlines()] == ["beware", "detail"]


def test_set_up_again_replaces_what_was_there(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("info", stream=io.StringIO())
    redactor = Redactor()
    set_up("warning", redactor=redactor)
    redactor.redact(["s3cret-value"])
    logging.getLogger("edge.x").info("quiet")
    logging.getLogger("edge.x").warning("loud s3cret-value")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert 'msg="loud ***"' in err
    assert len(root.handlers) == 1


def test_a_stderr_that_is_gone_takes_nothing_down(root: logging.Logger) -> None:
    stream = io.StringIO()
    set_up("info", stream=stream)
    stream.close()
    logging.getLogger("edge.x").error("nobody hears this")
    assert not sys.stderr.closed
