"""What a server writes to stderr, as log lines: all of the usual, and not more than a part of a flood."""

import logging

import pytest
import trio
from trio.testing import MockClock

from edge.parts.stdio_channel import STDERR_LINES_PER_S, StderrLog

LOG = logging.getLogger("edge.upstream")


async def test_lines_are_logged_and_kept_under_any_chunking(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "edge.upstream")
    stderr = StderrLog("git", LOG)
    for chunk in (b"one\ntw", b"o\n\nthr", b"ee"):
        stderr.feed(chunk)
    stderr.finish()
    assert stderr.last == ["one", "two", "three"]
    assert [vars(record)["line"] for record in caplog.records] == ["one", "two", "three"]


async def test_of_a_flood_a_part_is_logged_a_second_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level("INFO", "edge.upstream")
    stderr = StderrLog("git", LOG)
    for _ in range(3):
        stderr.feed(b"x\n" * 10_000)
    assert len(caplog.records) == STDERR_LINES_PER_S
    await trio.sleep(1)
    stderr.feed(b"last\n")
    counted, last = caplog.records[STDERR_LINES_PER_S:]
    assert vars(counted)["lines"] == 30_000 - STDERR_LINES_PER_S
    assert vars(last)["line"] == "last"
    assert stderr.last[-1] == "last"
    stderr.finish()
    assert len(caplog.records) == STDERR_LINES_PER_S + 2
