"""Logging set-up: one line a record on stderr, for a person or as logfmt or JSON, without secrets.

A call site gives a constant sentence and fields: `log.info("server ready", extra={"server": name})`.
Whatever a field or message holds, it cannot end the line or steer a terminal: control characters
are escaped. Tracebacks are one field, or, in the form for a person, indented lines of their own.

Lines are written by the task that logs, at once; a reader of stderr that stands still holds us up,
as it does any program. That is accepted: a log that quietly loses lines is worse on a small box.
"""

import json
import logging
import re
import sys
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Format = Literal["auto", "text", "json"]

SHORTEST_SECRET = 4  # a shorter value is in half of all lines; redacting it would only blur them
HIDDEN = "***"
OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# C0, C1, line and paragraph separators, bidirectional overrides, lone surrogates
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
BARE_VALUE = re.compile(r"[A-Za-z0-9_.:/@+,*%<>\[\](){}~#!?&;|^$-]+")
SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Redactor:
    """Removes the values of secrets, and their URL and JSON forms, from any text."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def redact(self, values: Iterable[str]) -> None:
        """From now on these are hidden, too. Values under four characters are not: see above."""
        for value in values:
            if len(value) >= SHORTEST_SECRET:
                once = written_forms(value)
                self._values.update({value}, once, *map(written_forms, once))  # JSON in a repr, and the like
        if self._values:  # longest first, so that one secret inside another leaves no rest
            self._pattern = re.compile("|".join(map(re.escape, sorted(self._values, key=len, reverse=True))))

    def clean(self, text: str) -> str:
        return self._pattern.sub(HIDDEN, text) if self._pattern else text


def written_forms(value: str) -> set[str]:
    """How a value looks in a URL, in JSON and in a Python repr."""
    return {
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote(value),
        quoted(value)[1:-1],
        json.dumps(value)[1:-1],
        repr(value)[1:-1],
    }


def set_up(
    level: str, form: Format = "auto", *, redactor: Redactor | None = None, stream: TextIO | None = None
) -> None:
    """Replace all logging by ours: `edge.*` from `level` up, other libraries from warnings up.

    `auto` is the form for a person on a terminal, logfmt elsewhere.
    """
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    handler.setFormatter(LineFormatter(form, person=out.isatty(), clean=(redactor or Redactor()).clean))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("edge").setLevel(level.upper())
    logging.raiseExceptions = False  # stderr that is gone must not take anything down with it


class LineFormatter(logging.Formatter):
    """A record as one line. `person` decides what `auto` means."""

    def __init__(self, form: Format, *, person: bool, clean: Callable[[str], str]) -> None:
        super().__init__()
        self._clean = clean
        self._write = {
            "auto": for_a_person if person else as_logfmt,
            "text": for_a_person if person else as_logfmt,
            "json": as_json,
        }[form]

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in OWN_ATTRIBUTES}
        fields = {key(name): self._tidy(value) for name, value in extra.items()}
        if record.exc_info:
            fields["exc"] = self._clean(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = self._clean(record.stack_info)
        # once more over the whole: a secret may have been put together from message and field
        return self._clean(self._write(record, self._clean(record.getMessage()), fields))

    def _tidy(self, value: object) -> str | int | float | bool | None:
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._clean(str(value))


Fields = Mapping[str, str | int | float | bool | None]


def for_a_person(record: logging.LogRecord, message: str, fields: Fields) -> str:
    at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
    short = {name: value for name, value in fields.items() if name not in ("exc", "stack")}
    line = f"{at} {record.levelname.lower():<8} {escaped(message)}"
    if short:
        line += "  " + " ".join(f"{name}={logfmt_value(value)}" for name, value in short.items())
    for block in (fields.get("exc"), fields.get("stack")):
        if isinstance(block, str):
            line += "".join(f"\n    | {escaped(part)}" for part in block.split("\n"))
    return line


def as_logfmt(record: logging.LogRecord, message: str, fields: Fields) -> str:
    whole = {**head(record), "msg": message, **fields}
    return " ".join(f"{name}={logfmt_value(value)}" for name, value in whole.items())


def as_json(record: logging.LogRecord, message: str, fields: Fields) -> str:
    whole: dict[str, Any] = {**head(record), "msg": message}
    whole |= {name: value if is_json(value) else str(value) for name, value in fields.items()}
    return "{" + ", ".join(f"{quoted(name)}: {json_value(value)}" for name, value in whole.items()) + "}"


def head(record: logging.LogRecord) -> dict[str, str]:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return {"time": at.replace("+00:00", "Z"), "level": record.levelname.lower(), "logger": record.name}


def key(name: str) -> str:
    """A field's name: nothing but word characters, and never one of the line's own."""
    safe = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"{safe}_" if safe in ("time", "level", "logger", "msg") else safe


def logfmt_value(value: object) -> str:
    text = str(value).lower() if value is None or isinstance(value, bool) else str(value)
    return text if BARE_VALUE.fullmatch(text) else quoted(text)


def json_value(value: object) -> str:
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def is_json(value: object) -> bool:
    return not isinstance(value, float) or value - value == 0  # NaN and the infinities are no JSON


def quoted(text: str) -> str:
    """A JSON string: readable beyond ASCII, harmless on a terminal."""
    return UNSAFE.sub(as_unicode_escape, json.dumps(text, ensure_ascii=False))


def escaped(text: str) -> str:
    return UNSAFE.sub(lambda match: SHORT_ESCAPES.get(match[0]) or as_unicode_escape(match), text)


def as_unicode_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
