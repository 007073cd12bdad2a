"""What a server writes to stderr, as log lines: all of the usual, and not more than a part of a flood."""

import logging

import pytest
import trio
from trio.testing import MockClock

from edge.parts.stdio_channel import STDERR_LINE_CHARS, STDERR_LINES_PER_S, StderrLog
from edge.redaction import Redactor

LOG = logging.getLogger("edge.upstream")
TOKEN = "tok-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


def hiding(secret: str) -> StderrLog:
    redactor = Redactor()
    redactor.redact([secret])
    return StderrLog("git", LOG, redactor)


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


async def test_a_secret_where_a_long_line_is_cut_does_not_show_in_part() -> None:
    stderr = hiding(TOKEN)
    stderr.feed(b"x" * (STDERR_LINE_CHARS - 20) + TOKEN.encode() + b" and more\n")
    assert stderr.last == ["x" * (STDERR_LINE_CHARS - 20) + "*** and more"]


@pytest.mark.parametrize("size", [1, 7, 30, 480, 511, 5000])
async def test_a_line_without_an_end_is_shown_in_pieces_and_no_secret_in_it_in_part(size: int) -> None:
    stderr = hiding(TOKEN)
    text = (b"y" * 487 + TOKEN.encode()) * 10
    for at in range(0, len(text), size):
        stderr.feed(text[at : at + size])
    n_pieces = len(stderr.last)
    stderr.finish()
    assert n_pieces > 0
    assert set("".join(stderr.last)) <= set("y*…")


async def test_a_letter_that_comes_in_two_chunks_is_one() -> None:
    stderr = StderrLog("git", LOG)
    for chunk in (b"\xc3", b"\xa9t\xc3", b"\xa9\n", b"\xc3"):
        stderr.feed(chunk)
    stderr.finish()
    assert stderr.last == ["été", "\ufffd"]
