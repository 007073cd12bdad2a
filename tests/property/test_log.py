"""Whatever is a secret, and whatever is logged: a JSON line stays one and keeps its names, and no form shows it."""

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from edge.log import Format, LineFormatter, Parts, journal_fields
from edge.redaction import SHORTEST_SECRET, Redactor

# Those of the line itself, of JSON, of logfmt, and of us; without `*`, which is what stands for a secret.
WORDS = [
    *("time", "level", "logger", "msg", "info", "edge.test", "server", "reason", "retry_s", "server=git"),
    *("true", "null", "1700", "2023-11", '": "', '", "', '{"time"', "\\u00e4", '\\"x\\"', ' reason="'),
    *("MESSAGE", "MCP_EDGE_SERVER", "PRIORITY", "mcp-edge", "ValueError", "Traceback", "<6>x"),
]
letters = st.characters(exclude_characters="*", exclude_categories=["Cs"])
secrets = (
    st.sampled_from(WORDS) | st.text('"\\{}:, =\n\täöab12', min_size=4) | st.text(letters, min_size=4)
).filter(lambda secret: len(secret) >= SHORTEST_SECRET)
names = st.sampled_from(["server", "reason", "retry_s", "took_s", "level", "n", "is_resumed"])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], logging.LogRecord]:
    """Secrets, and a record that has them in every place."""
    known = draw(st.lists(secrets, min_size=1, max_size=3))
    texts = st.lists(st.sampled_from([*known, *WORDS]) | st.text(letters, max_size=5), max_size=5).map(
        "".join
    )
    values = texts | st.integers() | st.floats() | st.booleans() | st.none() | st.lists(texts, max_size=2)
    record = logging.makeLogRecord(
        {"name": "edge.test", "levelno": 20, "levelname": "INFO", "msg": draw(texts)}
    )
    if draw(st.booleans()):
        record.msg, record.args = "%s", (draw(texts),)
    for name, value in draw(st.dictionaries(names, values, max_size=4)).items():
        setattr(record, "level_" if name == "level" else name, value)
    if draw(st.booleans()):
        problem = ValueError(draw(texts))
        record.exc_info = (ValueError, problem, None)
    if draw(st.booleans()):
        record.stack_info = draw(texts)
    return known, record


def redactor_of(known: list[str]) -> Redactor:
    redactor = Redactor()
    redactor.redact(known)
    return redactor


def written(form: Format, known: list[str], record: logging.LogRecord, *, person: bool = False) -> str:
    return LineFormatter(form, person=person, clean=redactor_of(known).clean).format(record)


def names_of(record: logging.LogRecord) -> set[str]:
    plain = set(vars(logging.makeLogRecord({}))) | {"message"}
    optional = {"exc": record.exc_info, "stack": record.stack_info}
    own = {name for name, given in optional.items() if given}
    return {"time", "level", "logger", "msg", *own, *(set(vars(record)) - plain)}


@given(cases())
def test_a_json_line_parses_keeps_its_names_and_has_no_secret_in_its_values(
    case: tuple[list[str], logging.LogRecord],
) -> None:
    known, record = case
    line = written("json", known, record)
    found = json.loads(line)
    assert "\n" not in line
    assert set(found) == names_of(record)
    assert (found["level"], found["logger"]) == ("info", "edge.test")
    for name in set(found) - {"time", "level", "logger"}:
        value = found[name]
        if value is not None and not isinstance(value, bool):
            assert not [secret for secret in known if secret in str(value)]


@given(cases())
def test_without_a_secret_in_it_a_value_is_what_it_was(case: tuple[list[str], logging.LogRecord]) -> None:
    _, record = case
    found = json.loads(written("json", [], record))
    for name in set(found) & set(vars(record)) - {"msg"}:
        value = getattr(record, name)
        if isinstance(value, str | int):
            assert found[name] == value


@given(cases())
def test_the_journals_fields_keep_their_names_and_have_no_secret_in_them(
    case: tuple[list[str], logging.LogRecord],
) -> None:
    known, record = case
    parts = Parts(record, redactor_of(known).clean, logging.Formatter())
    entry = dict(journal_fields(record, parts.message, parts.fields))
    fields = {f"MCP_EDGE_{name.upper()}" for name in names_of(record) - {"time", "level"}}
    assert fields <= set(entry)
    assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("6", "mcp-edge")
    for name in fields - {"MCP_EDGE_LOGGER"}:
        if entry[name] not in ("true", "false", "none"):
            assert not [secret for secret in known if secret in entry[name]]


@given(cases(), st.booleans())
def test_a_line_as_text_keeps_its_form(case: tuple[list[str], logging.LogRecord], person: bool) -> None:
    known, record = case
    line = written("text", known, record, person=person)
    if person:
        assert line[8:18] == " info     "
        assert all(more.startswith("    | ") for more in line.split("\n")[1:])
    else:
        assert " level=info logger=edge.test msg=" in line
        assert "\n" not in line
