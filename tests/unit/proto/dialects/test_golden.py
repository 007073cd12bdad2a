"""Transcripts of whole conversations: each event of one end of a carrier, and every command that must follow.

They are `tests/golden/<dialect>/<what>.txt`, UTF-8, one item a line; blank lines are for the eye.

    # a comment; the first lines say where the conversation comes from (an implementation and version, a page)
    ! {"dialect": "contextforge", "role": "connector", "heartbeat_s": 25, ...}
    @ 12.5
    >> Received {"text": {"type": "register_ack", "status": "success"}}
    << Ready {"kind": "v1"}
    = {"state": "ready", "deadline": 37.5}

* `!` comes once, before all else: which dialect and role, and the constructor's other arguments by keyword. Given
  `"quirks": {...}`, these are the flags of the `Quirks` that the dialect's module knows.
* `@ seconds` is the time from here on; it begins at 0. It may not go back.
* `>> Name {fields}` is an event of `edge/proto/dialect.py`, `<< Name {fields}` a command. A field left out has its
  default; no fields at all may be written as nothing. `>> doubt` calls `doubt` instead of `handle`.
* After each `>>` come all of its commands, in order. None listed: there must be none.
* Fields that are texts on the wire (`text`, `body`) may be written as JSON objects or arrays: they stand for that
  JSON without blanks and in ASCII. Where other letters matter, write a string.
* An enum is written as its value: `"hurry": "slow"`.
* `= {"state": ..., "own": ..., "deadline": ...}` says what must be true of the dialect now, as far as it is given.

A failure shows what came in the same form, to be read and, if it is right, pasted.
The class is the one in `edge/proto/dialects/<dialect>.py`, or `.../<dialect>/<role>.py`, whose name ends in
`Connector` or `Acceptor`. It is imported when a transcript needs it, so dialects do not depend on each other here.
"""

import json
from dataclasses import MISSING, fields
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_args

import pytest

from edge.proto import dialect as vocabulary
from edge.proto.dialect import Command, Dialect, Event, Hurry
from edge.proto.jsontext import dumps

GOLDEN = Path(__file__).resolve().parents[3] / "golden"
TRANSCRIPTS = sorted(GOLDEN.glob("*/*.txt"))
EVENTS = {kind.__name__ for kind in get_args(Event)}
COMMANDS = {kind.__name__ for kind in get_args(Command)}
WIRE_TEXTS = ("text", "body")


def module_of(dialect: str, role: str) -> ModuleType:
    package = "edge.proto.dialects." + dialect.replace("-", "_")
    found = import_module(package)
    is_package = hasattr(found, "__path__") and find_spec(f"{package}.{role}") is not None
    return import_module(f"{package}.{role}") if is_package else found


def build(arguments: dict[str, Any]) -> Dialect:
    """The dialect that a `!` line describes."""
    rest = dict(arguments)
    role = rest.pop("role")
    module = module_of(rest.pop("dialect"), role)
    if "quirks" in rest:
        rest["quirks"] = module.Quirks(**rest["quirks"])
    [kind] = [
        thing
        for name, thing in vars(module).items()
        if isinstance(thing, type) and name.endswith(role.title()) and thing.__module__ == module.__name__
    ]
    return cast(Dialect, kind(**rest))


def read_item(line: str, allowed: set[str]) -> Any:
    """An event or command from `Name {fields}`."""
    name, _, rest = line.partition(" ")
    if name not in allowed:
        raise ValueError(f"{name} is none of {', '.join(sorted(allowed))}")
    kind = getattr(vocabulary, name)
    given = json.loads(rest or "{}")
    for key, value in given.items():
        if key in WIRE_TEXTS and isinstance(value, dict | list):
            given[key] = dumps(value)
    if "hurry" in given:
        given["hurry"] = Hurry(given["hurry"])
    return kind(**given)


def write_item(item: Command) -> str:
    """A command as a line of a transcript."""
    given = {}
    for field in fields(item):
        value = getattr(item, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if value != default:
            given[field.name] = value.value if isinstance(value, Enum) else value
            if field.name in WIRE_TEXTS and value is not None:
                given[field.name] = _as_json(value)
    name = type(item).__name__
    return f"<< {name} {json.dumps(given, ensure_ascii=False, default=dict)}" if given else f"<< {name}"


def _as_json(text: str) -> Any:
    """The value that a transcript may hold instead of `text`, or `text`."""
    try:
        value = json.loads(text)
        return value if isinstance(value, dict | list) and dumps(value) == text else text
    except ValueError:
        return text


def run(transcript: str) -> None:
    """Plays a transcript; AssertionError with the line's number at the first difference."""
    dialect: Dialect | None = None
    now, asked_at = 0.0, 0
    wanted: list[Command] = []
    got: list[Command] = []

    def settle(number: int) -> None:
        wants, gets = "\n".join(map(write_item, wanted)), "\n".join(map(write_item, got))
        assert got == wanted, (
            f"line {asked_at}: commands differ, up to line {number}\n-- got\n{gets}\n-- not\n{wants}"
        )
        got.clear()
        wanted.clear()

    lines = transcript.splitlines()
    for number, line in enumerate(lines, 1):
        mark, _, rest = line.strip().partition(" ")
        if mark == "<<":
            wanted.append(read_item(rest, COMMANDS))
            continue
        settle(number)
        if mark == "" or mark.startswith("#"):
            continue
        if mark == "!":
            assert dialect is None, f"line {number}: one conversation a file"
            dialect = build(json.loads(rest))
            continue
        assert dialect is not None, f"line {number}: the line with `!` comes first"
        if mark == "@":
            assert float(rest) >= now, f"line {number}: time goes back"
            now = float(rest)
        elif mark == ">>":
            asked_at = number
            got += (
                dialect.doubt(now=now)
                if rest == "doubt"
                else dialect.handle(read_item(rest, EVENTS), now=now)
            )
        elif mark == "=":
            for key, value in json.loads(rest).items():
                is_ = getattr(dialect, key)
                is_ = is_.value if isinstance(is_, Enum) else is_
                assert is_ == value, f"line {number}: {key} is {is_!r}, not {value!r}"
        else:
            raise ValueError(f"line {number} begins with {mark}")
    settle(len(lines))
    assert dialect is not None, "nothing in it"


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_conversation_goes_as_written(path: Path) -> None:
    run(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_transcript_names_its_source_and_lies_with_its_dialect(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    setting = json.loads(next(line for line in lines if line.startswith("! "))[2:])
    assert setting["dialect"] == path.parent.name


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (">> Opened\n<< Ping", "line 2: commands differ"),
        ('= {"state": "ready"}', "line 2: state is 'idle'"),
        ("@ 5\n@ 4", "line 3: time goes back"),
        ('! {"dialect": "contextforge"}', "line 2: one conversation a file"),
    ],
)
def test_a_difference_is_found_and_its_line_named(lines: str, complaint: str) -> None:
    setting = {"dialect": "contextforge", "role": "acceptor", "session": "s1", "own": False}
    with pytest.raises(AssertionError, match=complaint):
        run(f"! {json.dumps(setting)}\n{lines}")


@pytest.mark.parametrize("line", [">> Push {}", "<< Received {}", "?? what"])
def test_what_is_no_item_is_refused(line: str) -> None:
    setting = {"dialect": "contextforge", "role": "acceptor", "session": "s1", "own": False}
    with pytest.raises(ValueError, match=r"is none of|begins with"):
        run(f"! {json.dumps(setting)}\n{line}")


def test_a_command_is_written_as_it_is_read() -> None:
    for line in (
        '<< Lost {"reason": "gone", "hurry": "slow"}',
        '<< Push {"text": {"type": "heartbeat"}}',
        '<< Push {"text": "7 0 {}"}',
        '<< OpenWebSocket {"target": "/ws", "headers": {"a": "é"}}',
        "<< Ping",
    ):
        assert write_item(read_item(line.removeprefix("<< "), COMMANDS)) == line
