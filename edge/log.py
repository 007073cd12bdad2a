"""Logging set-up: one line a record on stderr, for a person or as logfmt or JSON, or the journal's own fields.

A call site gives a constant sentence and fields: `log.info("server ready", extra={"server": name})`.
Whatever a field or message holds, it cannot end the line or steer a terminal: control characters
are escaped. Tracebacks are one field, or, in the form for a person, indented lines of their own.

No form has secrets: they are taken out of each text by itself, as it was given, before anything is escaped or put
together. So a secret that is a word such as `level` cannot hit what belongs to the form, nor what we always say of a
record: names of fields, level, logger and place in the code are constants.

Lines are written by the task that logs, at once; a reader of stderr that stands still holds us up,
as it does any program. That is accepted: a log that quietly loses lines is worse on a small box.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from edge import journal
from edge.printable import escaped, quoted
from edge.redaction import Redactor

Format = Literal["auto", "text", "json", "journal"]

OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
BARE_VALUE = re.compile(r"[A-Za-z0-9_.:/@+,*%<>\[\](){}~#!?&;|^$-]+")
# Syslog's, which the journal has too.
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
IDENTIFIER = "mcp-edge"
PREFIX = "MCP_EDGE_"  # of our fields in the journal


def set_up(
    level: str,
    form: Format = "auto",
    *,
    redactor: Redactor | None = None,
    stream: TextIO | None = None,
    env: Mapping[str, str] = os.environ,
    journal_socket: str = journal.SOCKET,
) -> None:
    """Replace all logging by ours: `edge.*` from `level` up, other libraries from warnings up.

    `auto` is the journal's form if `stream` (stderr) leads to it, as `$JOURNAL_STREAM` in `env` says; else the form for
    a person on a terminal, and logfmt elsewhere. Lines to the journal over a stream begin with their priority.
    """
    out = sys.stderr if stream is None else stream
    clean = (redactor or Redactor()).clean
    goes_to_journal = has_descriptor(out) and journal.is_stream_of(env, out.fileno())
    if form == "auto" and goes_to_journal:
        form = "journal"
    lines = logging.StreamHandler(out)
    lines.setFormatter(LineFormatter(form, person=out.isatty(), clean=clean, with_priority=goes_to_journal))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        if isinstance(old, JournalHandler):
            old.close()
    root.addHandler(
        JournalHandler(journal.Journal(journal_socket), lines, clean) if form == "journal" else lines
    )
    root.setLevel(logging.WARNING)
    logging.getLogger("edge").setLevel(level.upper())
    logging.raiseExceptions = False  # stderr that is gone must not take anything down with it


def has_descriptor(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True


class Parts:
    """A record taken apart, without secrets: its sentence and its fields, tracebacks among them.

    A number that is a secret becomes a text.
    """

    __slots__ = ("fields", "message")

    def __init__(
        self, record: logging.LogRecord, clean: Callable[[str], str], formatter: logging.Formatter
    ) -> None:
        extra = {name: value for name, value in vars(record).items() if name not in OWN_ATTRIBUTES}
        self.message = clean(record.getMessage())
        self.fields: dict[str, str | int | float | bool | None] = {}
        for name, value in extra.items():
            self.fields[key(name)] = cleaned(value, clean)
        if record.exc_info:
            self.fields["exc"] = clean(formatter.formatException(record.exc_info))
        if record.stack_info:
            self.fields["stack"] = clean(record.stack_info)


def cleaned(value: object, clean: Callable[[str], str]) -> str | int | float | bool | None:
    """A field's value without secrets: as it is, if there is none in it and JSON has its like, else as text."""
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    without = clean(text)
    return value if isinstance(value, int | float) and without == text else without


class LineFormatter(logging.Formatter):
    """A record as one line. `person` decides what `auto` means; `with_priority`: `<6>` and the like come first."""

    def __init__(
        self, form: Format, *, person: bool, clean: Callable[[str], str], with_priority: bool = False
    ) -> None:
        super().__init__()
        self._clean = clean
        self._with_priority = with_priority
        self._write = as_json if form == "json" else for_a_person if person else as_logfmt

    def format(self, record: logging.LogRecord) -> str:
        parts = Parts(record, self._clean, self)
        text = self._write(record, parts.message, parts.fields)
        return f"<{priority(record)}>{text}" if self._with_priority else text


class JournalHandler(logging.Handler):
    """Records as entries of the journal; what cannot be sent there, for whatever reason, becomes a line."""

    def __init__(self, way: journal.Journal, lines: logging.Handler, clean: Callable[[str], str]) -> None:
        super().__init__()
        self._way = way
        self._lines = lines
        self._clean = clean
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        parts = Parts(record, self._clean, self._formatter)
        try:
            self._way.send(journal.encoded(journal_fields(record, parts.message, parts.fields)))
        except OSError:
            self._lines.handle(record)

    def close(self) -> None:
        self._way.close()
        super().close()


Fields = Mapping[str, str | int | float | bool | None]


def for_a_person(record: logging.LogRecord, message: str, fields: Fields) -> str:
    at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
    return f"{at} {record.levelname.lower():<8} {in_words(message, fields)}"


def in_words(message: str, fields: Fields) -> str:
    """Sentence, fields, and tracebacks as lines of their own, which cannot pose as others."""
    short = {name: value for name, value in fields.items() if name not in ("exc", "stack")}
    line = escaped(message)
    if short:
        line += "  " + " ".join(f"{name}={logfmt_value(value)}" for name, value in short.items())
    for block in (fields.get("exc"), fields.get("stack")):
        if isinstance(block, str):
            line += "".join(f"\n    | {escaped(part)}" for part in block.split("\n"))
    return line


def journal_fields(record: logging.LogRecord, message: str, fields: Fields) -> Iterator[tuple[str, str]]:
    """Names and values of an entry. MESSAGE has it all, as `journalctl` shows nothing else; MCP_EDGE_MSG is what does
    not vary."""
    yield "MESSAGE", in_words(message, fields)
    yield "PRIORITY", str(priority(record))
    yield "SYSLOG_IDENTIFIER", IDENTIFIER
    yield "CODE_FILE", record.pathname
    yield "CODE_LINE", str(record.lineno)
    yield "CODE_FUNC", str(record.funcName)
    yield f"{PREFIX}MSG", message
    yield f"{PREFIX}LOGGER", record.name
    for name, value in fields.items():
        long_name = journal.field_name(name, PREFIX)
        if long_name is not None:
            yield long_name, str(value).lower() if value is None or isinstance(value, bool) else str(value)


def priority(record: logging.LogRecord) -> int:
    """Syslog's number for a level; one that is in between counts as the one below."""
    return next((number for level, number in reversed(PRIORITIES.items()) if record.levelno >= level), 7)


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
