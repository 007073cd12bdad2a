"""What the readings of links say."""

from tests.bench.links import IdleReading, LinkReading
from tests.bench.links_report import link_tables, link_targets, times_p50
from tests.bench.load import Outcome


def reading(p50_us: float) -> LinkReading:
    outcome = Outcome(
        calls=1,
        calls_per_s=1e6 / p50_us,
        p50_us=p50_us,
        p99_us=0.0,
        cpu_us=300.0,
        own_cpu_us=5.0,
        cpu_us_each=(200.0, 100.0),
    )
    return LinkReading({1: outcome, 32: outcome}, 40.0, 38.0)


IDLE = IdleReading(
    count=1000, up_s=9.0, hub_kib=50.0, edge_kib=70.0, watched_s=60.0, hub_cpu=0.01, edge_cpu=0.02
)


def test_a_link_is_compared_with_the_gateway_of_its_own_round() -> None:
    rounds = {"direct": [reading(100), reading(10), reading(1000)], "contextforge": [reading(250)] * 3}
    assert times_p50(rounds, "contextforge", 1) == 2.5


def test_what_a_link_adds_and_holds_has_targets() -> None:
    rounds = {"direct": [reading(100)], "contextforge": [reading(290)]}
    found = {each.text: (each.value, each.is_met) for each in link_targets(rounds, [IDLE])}
    assert found["WebSocket link: adds to the direct gateway's p50, 1 at once"] == (1.9, True)
    assert found["idle link: memory of the hub"] == (50.0, True)


def test_what_was_not_measured_meets_no_target_and_has_no_table() -> None:
    assert {each.is_met for each in link_targets({}, [])} == {None}
    assert link_tables({}, []) == ""


def test_the_tables_have_both_ends() -> None:
    tabled = link_tables({"direct": [reading(100)], "long-poll": [reading(400)]}, [IDLE])
    [direct, polls] = [
        line.split("|") for line in tabled.splitlines() if "| long-poll " in line or "alone" in line
    ][:2]
    assert [cell.strip() for cell in polls[2:8]] == ["2,500", "400", "4", "0", "200", "100"]
    assert [cell.strip() for cell in direct[2:8]] == ["10,000", "100", "", "0", "200", ""]
    assert "1,000 idle links" in tabled
