"""How checks are run: bounded, in time, and told in the order they are given."""

import trio
from trio.testing import MockClock

from edge.doctor.finding import AT_ONCE, Check, Finding, Report, at_once, examine


async def test_findings_are_told_in_the_order_of_the_checks(autojump_clock: MockClock) -> None:
    def check(name: str, wait_s: float) -> Check:
        async def look(report: Report) -> None:
            await trio.sleep(wait_s)
            report.ok("good", took_s=wait_s)

        return Check("section", name, look)

    found = await examine([check("slow", 5), check("quick", 1)], timeout_s=10)
    assert found == [
        Finding("section", "slow", "ok", "good", took_s=5),
        Finding("section", "quick", "ok", "good", took_s=1),
    ]


async def test_what_was_seen_before_the_time_was_over_is_kept(autojump_clock: MockClock) -> None:
    async def look(report: Report) -> None:
        report.ok("it begins well")
        await trio.sleep_forever()

    found = await examine([Check("s", "x", look)], timeout_s=3)
    assert trio.current_time() == 3
    assert [(each.level, each.text) for each in found] == [
        ("ok", "it begins well"),
        ("problem", "no result within 3 s"),
    ]


async def test_only_some_run_at_once_and_each_has_its_whole_time(autojump_clock: MockClock) -> None:
    running = most = 0

    async def look(report: Report) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(2)
        running -= 1
        report.ok("good")

    found = await examine([Check("s", str(n), look) for n in range(3 * AT_ONCE)], timeout_s=3)
    assert most == AT_ONCE
    assert {each.level for each in found} == {"ok"}


async def test_a_look_that_needs_no_waiting_is_a_check_as_well() -> None:
    def look(report: Report, text: str) -> None:
        report.warning(text, "do it")

    found = await examine([Check("s", "x", at_once(look, "hm"))], timeout_s=1)
    assert found == [Finding("s", "x", "warning", "hm", "do it")]
