"""Who asks for a reload, when it has its turn, and who gets which verdict."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.errors import Problem
from edge.supervise.reload import MAX_WAITING, ReloadOptions, Reloads, TooManyReloads, Verdict
from tests.support.checkpoints import cancel_at_every_step

Clock = MockClock
PLAN = ReloadOptions(plan=True)


class Applied:
    """What is applied when; each takes a second."""

    def __init__(self) -> None:
        self.story: list[tuple[float, ReloadOptions]] = []
        self.at_once = 0

    async def __call__(self, options: ReloadOptions) -> Verdict:
        self.at_once += 1
        assert self.at_once == 1, "two at a time"
        try:
            self.story.append((trio.current_time(), options))
            await trio.sleep(1)
        finally:
            self.at_once -= 1
        return Verdict(result="reloaded", source=f"file {len(self.story)}")


async def test_reloads_are_served_one_at_a_time_in_the_order_they_came(autojump_clock: Clock) -> None:
    applied = Applied()
    reloads = Reloads(applied)
    kinds = [ReloadOptions(), PLAN, ReloadOptions(confirm_s=5)]
    verdicts: list[tuple[float, str]] = []

    async def ask(options: ReloadOptions) -> None:
        verdict = await reloads.ask(options)
        verdicts.append((trio.current_time(), verdict.source))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        for options in kinds:
            nursery.start_soon(ask, options)
            await wait_all_tasks_blocked()
        assert reloads.count_waiting() == 2
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert applied.story == [(0, kinds[0]), (1, kinds[1]), (2, kinds[2])]
    assert verdicts == [(1, "file 1"), (2, "file 2"), (3, "file 3")]


async def test_equal_requests_that_wait_share_one_turn_and_one_verdict(autojump_clock: Clock) -> None:
    applied = Applied()
    reloads = Reloads(applied)
    verdicts: list[Verdict] = []

    async def ask() -> None:
        verdicts.append(await reloads.ask(ReloadOptions()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        nursery.start_soon(ask)
        await trio.sleep(0.5)  # that one is under way, with the file as it was: whoever comes now is another
        for _ in range(50):
            nursery.start_soon(ask)
            reloads.poke()
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert [at for at, _ in applied.story] == [0, 1]
    assert len(verdicts) == 51
    assert {verdict.source for verdict in verdicts} == {"file 1", "file 2"}
    assert all(verdict is verdicts[1] for verdict in verdicts[1:])


async def test_more_different_requests_than_are_kept_are_refused(autojump_clock: Clock) -> None:
    applied = Applied()
    reloads = Reloads(applied)
    for n in range(MAX_WAITING):
        reloads.poke(ReloadOptions(confirm_s=n))
    with pytest.raises(TooManyReloads):
        await reloads.ask(PLAN)
    reloads.poke(ReloadOptions(confirm_s=3))  # an equal one waits already
    assert reloads.count_waiting() == MAX_WAITING
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        await trio.sleep(0.5)
        assert (await reloads.ask(PLAN)).result == "reloaded"  # there is room again
        nursery.cancel_scope.cancel()


async def test_who_goes_away_does_not_take_the_reload_with_them(autojump_clock: Clock) -> None:
    applied = Applied()
    reloads = Reloads(applied)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        with trio.move_on_after(0.5):
            await reloads.ask(ReloadOptions())
        with trio.move_on_after(0.2):
            await reloads.ask(PLAN)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert applied.story == [(0, ReloadOptions()), (1, PLAN)]


async def test_cancelled_at_any_step_it_ends(autojump_clock: Clock) -> None:
    async def scenario() -> None:
        reloads = Reloads(Applied())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reloads.run)
            await reloads.ask(ReloadOptions())
            await reloads.ask(PLAN)
            nursery.cancel_scope.cancel()

    assert await cancel_at_every_step(scenario) > 5


@pytest.mark.parametrize(
    ("result", "is_good"),
    [
        ("reloaded", True),
        ("unchanged", True),
        ("planned", True),
        ("refused", False),
        ("rolled back", False),
        ("not rolled back", False),
    ],
)
def test_a_verdict_is_good_if_the_file_is_in_force_or_could_be(result: str, is_good: bool) -> None:
    verdict = Verdict(result=result, source="c.toml")  # type: ignore[arg-type]  # parametrize gives str
    assert verdict.is_good is is_good


def test_a_verdict_as_json_has_every_list_and_its_problems_with_place_and_text() -> None:
    verdict = Verdict(
        result="refused",
        source="c.toml",
        added=("server git",),
        problems=(Problem("servers.git.url", "is wrong"),),
        warnings=("unwise",),
    )
    assert verdict.report() == {
        "result": "refused",
        "config": "c.toml",
        "added": ["server git"],
        "removed": [],
        "restarted": [],
        "updated": [],
        "unchanged": [],
        "problems": [{"place": "servers.git.url", "text": "is wrong"}],
        "warnings": ["unwise"],
    }
