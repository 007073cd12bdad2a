"""Logging to a journal: a real datagram socket that understands the native form, as systemd's does."""

import io
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from edge.log import Format, set_up
from edge.redaction import Redactor
from tests.support.journal import JournalSocket, journal_socket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd's journal is there on Linux only")
log = logging.getLogger("edge.server")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalSocket]:
    with journal_socket(tmp_path) as journal:
        yield journal


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("edge").level, logging.raiseExceptions)
    yield
    set_up("info", stream=io.StringIO())  # closes our socket
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logging.getLogger("edge").setLevel(before[2])
    logging.raiseExceptions = before[3]


@pytest.fixture
def stderr(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "stderr").open("w+") as file:
        yield file


def start(
    form: Format, path: str, stderr: TextIO, *, leads_to_journal: bool = True, secrets: tuple[str, ...] = ()
) -> None:
    redactor = Redactor()
    redactor.redact(secrets)
    found = os.fstat(stderr.fileno())
    env = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"} if leads_to_journal else {}
    set_up("info", form, redactor=redactor, stream=stderr, env=env, journal_socket=path)


def lines(stderr: TextIO) -> list[str]:
    stderr.seek(0)
    return stderr.read().splitlines()


def test_a_record_is_an_entry_with_its_fields(journal: JournalSocket, stderr: TextIO) -> None:
    start("auto", journal.path, stderr)
    log.warning("server down", extra={"server": "git", "retry_s": 0.25, "required": True, "advice": None})
    entry = journal.take()
    assert int(entry.pop("CODE_LINE")) > 0
    assert entry.pop("CODE_FILE") == __file__
    assert entry == {
        "MESSAGE": "server down  server=git retry_s=0.25 required=true advice=none",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "mcp-edge",
        "CODE_FUNC": "test_a_record_is_an_entry_with_its_fields",
        "MCP_EDGE_MSG": "server down",
        "MCP_EDGE_LOGGER": "edge.server",
        "MCP_EDGE_SERVER": "git",
        "MCP_EDGE_RETRY_S": "0.25",
        "MCP_EDGE_REQUIRED": "true",
        "MCP_EDGE_ADVICE": "none",
    }
    assert lines(stderr) == []


def test_levels_are_syslogs_priorities(journal: JournalSocket, stderr: TextIO) -> None:
    start("journal", journal.path, stderr, leads_to_journal=False)
    levels = (logging.INFO, logging.INFO + 5, logging.WARNING, logging.ERROR, logging.CRITICAL, 99)
    for level in levels:
        log.log(level, "x")
    assert [journal.take()["PRIORITY"] for _ in levels] == ["6", "6", "4", "3", "2", "2"]


def test_a_traceback_is_a_field_and_lines_of_the_message(journal: JournalSocket, stderr: TextIO) -> None:
    start("auto", journal.path, stderr)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("part failed", extra={"part": "x"})
    entry = journal.take()
    assert entry["MCP_EDGE_EXC"].splitlines()[-2:] == ["ValueError: first", "second"]
    first, *rest = entry["MESSAGE"].split("\n")
    assert first == "part failed  part=x"
    assert rest[-1] == "    | second"


def test_an_entry_that_no_datagram_holds_goes_as_a_sealed_file(
    journal: JournalSocket, stderr: TextIO
) -> None:
    start("auto", journal.path, stderr)
    log.info("server says", extra={f"line{n}": "y" * 60_000 for n in range(20)})
    entry = journal.take()
    assert journal.was_file
    assert entry["MCP_EDGE_LINE19"] == "y" * 60_000
    assert lines(stderr) == []


def test_no_secret_gets_there(journal: JournalSocket, stderr: TextIO) -> None:
    start("auto", journal.path, stderr, secrets=("hunter2-secret",))
    try:
        raise ValueError("hunter2-secret")
    except ValueError:
        log.exception("bad hunter2-secret", extra={"reason": "hunter2-secret", "x": {"y": "hunter2-secret"}})
    entry = journal.take()
    assert "hunter2" not in "".join(entry.values())
    assert entry["MCP_EDGE_REASON"] == "***"


def test_without_a_journal_it_is_a_line_on_stderr_until_there_is_one(tmp_path: Path, stderr: TextIO) -> None:
    start("auto", str(tmp_path / "journal"), stderr)
    log.warning("first")
    with journal_socket(tmp_path) as journal:
        log.warning("second")
        assert journal.take()["MESSAGE"] == "second"
    log.warning("third")
    (first, third) = lines(stderr)
    assert first.startswith("<4>time=")
    assert "msg=first" in first
    assert "msg=third" in third


def test_a_journal_that_does_not_read_holds_nothing_up_and_loses_nothing(
    journal: JournalSocket, stderr: TextIO
) -> None:
    start("auto", journal.path, stderr)
    for number in range(2000):
        log.info("server says", extra={"number": number})
    written = [int(line.rpartition("number=")[2]) for line in lines(stderr)]
    assert written
    sent: list[int] = []
    while not journal.is_empty():
        sent.append(int(journal.take()["MCP_EDGE_NUMBER"]))
    assert sorted(sent + written) == list(range(2000))


@pytest.mark.parametrize(("form", "begins"), [("text", "<4>time="), ("json", '<4>{"time": ')])
def test_lines_that_lead_to_the_journal_begin_with_their_priority(
    journal: JournalSocket, stderr: TextIO, form: Format, begins: str
) -> None:
    start(form, journal.path, stderr)
    log.warning("server down")
    (line,) = lines(stderr)
    assert line.startswith(begins)
    assert journal.is_empty()


def test_auto_is_plain_lines_where_stderr_leads_elsewhere(journal: JournalSocket, stderr: TextIO) -> None:
    start("auto", journal.path, stderr, leads_to_journal=False)
    log.warning("server down")
    (line,) = lines(stderr)
    assert line.startswith("time=")
    assert journal.is_empty()


def test_a_stderr_that_is_the_journals_socket_is_known_by_it(journal: JournalSocket, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("w") as stream:
        start("auto", journal.path, stream)
        log.warning("server down")
        assert journal.take()["MESSAGE"] == "server down"
