"""Refusals are all counted, and said once a minute for each host and reason."""

import logging

import pytest
import trio
from trio.testing import MockClock

from edge.gate.edge_auth import Denied
from edge.metrics import HubMetrics
from edge.parts.refusals import MAX_REMEMBERED, Refusals

UNKNOWN = Denied("unknown_token", "this token is not known here")


def warnings(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.levelno == logging.WARNING for record in caplog.records)


async def test_a_flood_from_one_host_is_one_line_a_minute(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = HubMetrics()
    refusals = Refusals(metrics)
    for port in range(100):
        refusals.denied(UNKNOWN, "long-poll", f"10.0.0.1:{port}")
    assert warnings(caplog) == 1
    await trio.sleep(59)
    refusals.denied(UNKNOWN, "long-poll", "10.0.0.1:1")
    assert warnings(caplog) == 1
    await trio.sleep(2)
    refusals.denied(UNKNOWN, "long-poll", "10.0.0.1:1")
    assert warnings(caplog) == 2
    assert metrics.refused["unknown_token"] == 102


async def test_another_host_and_another_reason_are_news(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = Refusals(HubMetrics())
    refusals.denied(UNKNOWN, "long-poll", "10.0.0.1:1")
    refusals.denied(UNKNOWN, "long-poll", "10.0.0.2:1")
    refusals.denied(Denied("limit", "full"), "long-poll", "10.0.0.1:1", edge="a", name="x" * 100)
    refusals.denied(UNKNOWN, "long-poll", "unix")
    assert warnings(caplog) == 4
    limit = next(record for record in caplog.records if record.__dict__["reason"] == "full")
    assert len(limit.__dict__["name_asked"]) == 64 + len("…")


async def test_what_is_remembered_is_bounded(autojump_clock: MockClock) -> None:
    refusals = Refusals(HubMetrics())
    for n in range(3 * MAX_REMEMBERED):
        refusals.denied(UNKNOWN, "long-poll", f"10.{n}:1")
        assert refusals.remembered <= MAX_REMEMBERED
