"""What is put in force in place of what runs: beside it, in one step, and the old drains; or nothing happens."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from edge.errors import EdgeError, leaves
from edge.metrics import Metrics
from edge.supervise.slot import Slot
from edge.supervise.supervisor import START_ORDER, Stopping, Supervisor
from tests.support.checkpoints import CancelAtStep, cancel_at_every_step
from tests.support.scripted_part import ScriptedPart

Clock = MockClock
Story = list[tuple[float, str]]
IN_USE = EdgeError("address in use")


def slot(kind: str, name: str, *parts: ScriptedPart) -> Slot:
    left = iter(parts)
    return Slot(kind, name, lambda: next(left), metrics=Metrics())


class Rig:
    """A supervisor whose parts write into one story, as `replace` does when it commits."""

    def __init__(self, *slots: Slot) -> None:
        self.supervisor = Supervisor(slots)
        self.story: Story = []

    async def replace(
        self,
        *new: Slot,
        removed: tuple[tuple[str, str], ...] = (),
        late: tuple[tuple[str, str], ...] = (),
        settle_s: float = 0,
        drain_s: Callable[[str], float] = lambda kind: 10,
    ) -> None:
        async def settle() -> None:
            await trio.sleep(settle_s)

        await self.supervisor.replace(
            {(one.kind, one.name): one for one in new},
            removed=removed,
            late=late,
            settle=settle,
            commit=lambda: self.story.append((trio.current_time(), "commit")),
            drain_s=drain_s,
        )


GIT = ("upstream", "git")


def rig(*names: str, kind: str = "upstream", drain_s: float = 0) -> Rig:
    """With parts of these names, which let work go on for `drain_s`."""
    made = Rig()
    made.supervisor = Supervisor([
        slot(kind, name, ScriptedPart(f"old {name}", made.story, drain_s=drain_s)) for name in names
    ])  # fmt: skip
    return made


def new(made: Rig, name: str = "git", kind: str = "upstream", word: str = "new", start_s: float = 0) -> Slot:
    return slot(kind, name, ScriptedPart(f"{word} {name}", made.story, start_s=start_s))


async def test_a_new_part_starts_beside_the_old_which_drains_after_the_commit(autojump_clock: Clock) -> None:
    made = rig("git", drain_s=4)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        await made.replace(new(made, start_s=2))
        assert made.supervisor.draining == 1
        await trio.sleep(10)
        assert made.supervisor.draining == 0
        assert made.story == [
            (0, "old git up"), (2, "new git up"), (2, "commit"), (2, "old git drains"), (6, "old git done"),
        ]  # fmt: skip
        await made.supervisor.stop(10)


async def test_servers_settle_before_anything_listens(autojump_clock: Clock) -> None:
    made = rig("plc")
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        await made.replace(new(made, kind="listener", name="main"), new(made), settle_s=5)
        assert made.story[1:] == [(0, "new git up"), (5, "new main up"), (5, "commit")]
        await made.supervisor.stop(10)


async def test_a_removed_part_drains_and_is_cut_off_in_its_time(autojump_clock: Clock) -> None:
    made = rig("git", drain_s=1000)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        await made.replace(removed=(GIT,), drain_s=lambda kind: {"upstream": 7}[kind])
        await trio.sleep(20)
        assert made.story[1:] == [(0, "commit"), (0, "old git drains"), (7, "old git cancelled")]
        await made.supervisor.stop(10)


async def test_one_that_cannot_live_twice_waits_for_the_end_of_the_other(autojump_clock: Clock) -> None:
    made = rig("git", drain_s=4)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        await made.replace(new(made), late=(GIT,))
        assert made.story[1:] == [(0, "commit")]
        await trio.sleep(10)
        assert made.story[2:] == [(0, "old git drains"), (4, "old git done"), (4, "new git up")]
        await made.supervisor.stop(10)


async def test_one_that_waits_and_is_replaced_itself_never_begins(autojump_clock: Clock) -> None:
    made = rig("git", drain_s=4)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        await made.replace(new(made, word="second"), late=(GIT,))
        await trio.sleep(1)
        await made.replace(new(made, word="third"), late=(GIT,))
        await trio.sleep(10)
        assert [what for _, what in made.story] == [
            "old git up", "commit", "old git drains", "commit", "old git done", "third git up",
        ]  # fmt: skip
        assert made.supervisor.draining == 0
        await made.supervisor.stop(10)


async def test_one_that_comes_again_waits_for_the_end_of_the_one_that_was_removed(
    autojump_clock: Clock,
) -> None:
    made = rig("git", drain_s=4)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        await made.replace(removed=(GIT,))
        assert made.supervisor.is_leaving(GIT)
        await trio.sleep(1)
        await made.replace(new(made), late=(GIT,))
        await trio.sleep(10)
        assert made.story[-2:] == [(4, "old git done"), (4, "new git up")]
        assert not made.supervisor.is_leaving(GIT)
        await made.supervisor.stop(10)


@pytest.mark.parametrize("kind", START_ORDER)
async def test_a_new_part_that_does_not_start_leaves_everything_as_it_was(
    kind: str, autojump_clock: Clock
) -> None:
    made = Rig()
    made.supervisor = Supervisor([
        slot(each, "main", ScriptedPart(f"old {each}", made.story)) for each in START_ORDER
    ])  # fmt: skip
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        made.story.clear()
        fresh = [
            slot(
                each,
                "main",
                ScriptedPart(
                    f"new {each}", made.story, start_s=1, start_fault=IN_USE if each == kind else None
                ),
            )
            for each in START_ORDER
        ]
        with pytest.raises(ExceptionGroup) as caught:
            await made.replace(*fresh)
        assert list(leaves(caught.value)) == [IN_USE]
        await trio.sleep(10)
        ups = [what for _, what in made.story if what.endswith("up")]
        ends = [what for _, what in made.story if what.endswith(("done", "cancelled"))]
        assert ups == [f"new {each} up" for each in START_ORDER[: START_ORDER.index(kind)]]
        assert sorted(ends) == sorted(f"{what.removesuffix('up')}cancelled" for what in ups)
        assert (made.supervisor.draining, "commit") not in [(0, what) for _, what in made.story]
        made.story.clear()
        await made.supervisor.stop(10)
    assert {what.split()[0] for _, what in made.story} == {"old"}


async def test_what_settle_raises_leaves_everything_as_it_was(autojump_clock: Clock) -> None:
    made = rig("git")

    async def fails() -> None:
        raise EdgeError("not settled")

    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        with pytest.raises(EdgeError, match="not settled"):
            await made.supervisor.replace(
                {GIT: new(made)}, settle=fails, commit=made.story.clear, drain_s=lambda kind: 10
            )
        await trio.sleep(10)
        assert made.story == [(0, "old git up"), (0, "new git up"), (0, "new git cancelled")]
        await made.supervisor.stop(10)


async def test_a_bug_in_the_commit_leaves_no_part_that_nobody_owns(autojump_clock: Clock) -> None:
    made = rig("git")

    def fails() -> None:
        raise RuntimeError("a bug")

    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        with pytest.raises(RuntimeError):
            await made.supervisor.replace(
                {GIT: new(made)}, settle=trio.lowlevel.checkpoint, commit=fails, drain_s=lambda kind: 10
            )
        await trio.sleep(10)
        assert made.story == [(0, "old git up"), (0, "new git up"), (0, "new git cancelled")]
        await made.supervisor.stop(10)


async def test_after_a_failure_the_next_one_may_succeed(autojump_clock: Clock) -> None:
    made = rig("git")
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        bad = slot("listener", "main", ScriptedPart("bad", made.story, start_fault=IN_USE))
        with pytest.raises(ExceptionGroup):
            await made.replace(bad, new(made, word="refused"))
        await made.replace(new(made, kind="listener", name="main"), new(made, word="good"))
        await trio.sleep(10)
        made.story.clear()
        await made.supervisor.stop(10)
    assert {what for _, what in made.story if what.endswith("done")} == {"new main done", "good git done"}


async def test_stop_during_the_start_ends_it_at_once_and_nothing_is_put_in_force(
    autojump_clock: Clock,
) -> None:
    made = rig("git")
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)

        async def replace() -> None:
            with pytest.raises(Stopping):
                await made.replace(
                    new(made, name="slow", start_s=500), new(made, kind="listener", name="main")
                )

        nursery.start_soon(replace)
        await trio.sleep(3)
        await made.supervisor.stop(10)
    assert trio.current_time() == 3
    assert "commit" not in [what for _, what in made.story]
    assert (3, "new slow cancelled") in made.story
    assert "new main up" not in [what for _, what in made.story]


async def test_stop_while_servers_settle_ends_it_at_once(autojump_clock: Clock) -> None:
    made = rig("git")
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)

        async def replace() -> None:
            with pytest.raises(Stopping):
                await made.replace(new(made, name="slow"), settle_s=500)

        nursery.start_soon(replace)
        await trio.sleep(3)
        await made.supervisor.stop(10)
    assert trio.current_time() == 3


async def test_nothing_is_replaced_once_it_stops(autojump_clock: Clock) -> None:
    made = rig("git", drain_s=5)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        nursery.start_soon(made.supervisor.stop, 10)
        await trio.sleep(1)
        with pytest.raises(Stopping):
            await made.replace(new(made))


async def test_stop_waits_for_what_drains_already_and_for_what_has_not_begun(autojump_clock: Clock) -> None:
    made = rig("git", drain_s=4)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        await made.replace(new(made), late=(GIT,))
        await trio.sleep(1)
        await made.supervisor.stop(10)
        assert trio.current_time() == 4
    assert "new git up" not in [what for _, what in made.story]


async def test_stop_shortens_a_drain_that_would_last_longer(autojump_clock: Clock) -> None:
    made = rig("main", kind="listener", drain_s=1000)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.supervisor.run)
        await made.replace(new(made, kind="listener", name="main"), drain_s=lambda kind: 300)
        await trio.sleep(1)
        await made.supervisor.stop(10)
        assert trio.current_time() == 11


async def test_cancelled_at_any_step_it_leaves_the_old_in_place_or_the_new_and_never_both(
    autojump_clock: Clock,
) -> None:
    outcomes: list[set[str]] = []
    for step in range(1, 200):
        made = rig("git", "plc", drain_s=1)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.supervisor.run)
            with trio.CancelScope() as scope:
                at_step = CancelAtStep(step, scope, trio.lowlevel.current_task())
                trio.lowlevel.add_instrument(at_step)
                try:
                    listener = new(made, kind="listener", name="main", start_s=1)
                    await made.replace(new(made, start_s=1), listener, settle_s=1)
                finally:
                    trio.lowlevel.remove_instrument(at_step)
            await trio.sleep(20)
            has_committed = "commit" in [what for _, what in made.story]
            made.story.clear()
            await made.supervisor.stop(10)
        outcomes.append({what for _, what in made.story if what.endswith("done")})
        old, fresh = {"old git done", "old plc done"}, {"new git done", "old plc done", "new main done"}
        assert outcomes[-1] == (fresh if has_committed else old), step
        if not at_step.has_fired:
            break
    assert len(outcomes) > 10
    assert outcomes[0] != outcomes[-1]


async def test_cancelled_from_outside_at_any_step_it_leaves_nothing(autojump_clock: Clock) -> None:
    async def scenario() -> None:
        made = rig("git", "plc", drain_s=1)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.supervisor.run)
            await made.replace(
                new(made, start_s=1),
                new(made, name="plc", start_s=1),
                new(made, kind="listener", name="main"),
                late=(("upstream", "plc"),),
                settle_s=1,
            )
            await trio.sleep(1)
            await made.supervisor.stop(10)

    assert await cancel_at_every_step(scenario) > 20
