"""Medians, paired ratios and targets."""

import pytest

from tests.bench.figures import Key, calls_per_s, ratio, start_ms, targets
from tests.bench.load import Outcome
from tests.bench.measure import Reading
from tests.bench.processes import Memory
from tests.bench.report import table


def reading(rate: float, *, first_call_s: float = 0.2) -> Reading:
    outcome = Outcome(calls=1, calls_per_s=rate, p50_us=1e6 / rate, p99_us=0.0, cpu_us=100.0, own_cpu_us=5.0)
    return Reading(0.1, first_call_s, Memory(30, 20), Memory(35, 25), {1: outcome, 32: outcome})


EDGE, PIP, ALONE = Key("stdio", "mcp-edge"), Key("stdio", "pip-mcp-proxy"), Key("stdio", "direct")


def test_a_ratio_is_the_median_of_pairs_from_the_same_round() -> None:
    rounds = {EDGE: [reading(6), reading(20), reading(100)], PIP: [reading(3), reading(5), reading(1)]}
    assert ratio(rounds, EDGE, PIP, calls_per_s(32)) == 4


def test_the_start_is_counted_without_that_of_the_server() -> None:
    rounds = {EDGE: [reading(1, first_call_s=0.25)], ALONE: [reading(1, first_call_s=0.05)]}
    assert start_ms(rounds, EDGE) == pytest.approx(200)


def test_a_target_is_met_missed_or_not_measured() -> None:
    found = {each.text: each.is_met for each in targets({EDGE: [reading(10)], PIP: [reading(4)]})}
    assert found["idle RSS with a stdio server"] is True
    assert found["stdio: calls/s of pip mcp-proxy, 32 at once"] is False
    assert found["stdio: calls/s of npm mcp-proxy, 32 at once"] is None


def test_a_table_has_columns_of_even_width() -> None:
    assert table(["", "n"], [["long", "1,000"]]) == "|      |     n |\n| ---- | ----: |\n| long | 1,000 |"
