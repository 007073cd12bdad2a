import logging

import pytest
import trio
from trio.testing import MockClock

from edge.errors import ConfigError, EdgeError, Problem, leaves
from edge.health import Health
from edge.metrics import Metrics
from edge.supervise.slot import Part, PartReturned, Slot
from tests.support.checkpoints import cancel_at_every_step
from tests.support.scripted_part import ScriptedPart

Story = list[tuple[float, str]]


class Bench:
    """A slot with a list of parts to build one after another; the last one is built again and again."""

    def __init__(self, *parts: ScriptedPart) -> None:
        self.metrics = Metrics()
        self.health = Health()
        self.status = self.health.add("upstream:git")
        self.built: list[float] = []
        self._parts = iter(parts)
        self._last: ScriptedPart | None = None
        self.slot = Slot("upstream", "git", self.build, metrics=self.metrics, status=self.status)

    def build(self) -> Part:
        self.built.append(trio.current_time())
        self._last = next(self._parts, self._last)
        assert self._last is not None
        return self._last


@pytest.fixture
def story() -> Story:
    return []


def crash() -> Exception:
    return RuntimeError("a bug")


async def test_a_part_is_started_and_stopped(story: Story, autojump_clock: MockClock) -> None:
    bench = Bench(ScriptedPart("git", story, start_s=3, drain_s=2))
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
        assert trio.current_time() == 3, "started when the part is"
        await trio.sleep(7)
        await bench.slot.stop(trio.current_time() + 10)
        assert trio.current_time() == 12
    assert story == [(3, "git up"), (10, "git drains"), (12, "git done")]
    assert (bench.status.state, bench.metrics.part_crashes["upstream"]) == ("stopped", 0)


async def test_what_has_not_drained_by_the_deadline_is_cancelled(
    story: Story, autojump_clock: MockClock
) -> None:
    bench = Bench(ScriptedPart("git", story, drain_s=60))
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
        await bench.slot.stop(10)
    assert story == [(0, "git up"), (0, "git drains"), (10, "git cancelled")]


async def test_a_later_deadline_does_not_lengthen_an_earlier_one(
    story: Story, autojump_clock: MockClock
) -> None:
    bench = Bench(ScriptedPart("git", story, drain_s=60))
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
        bench.slot.begin_stop(5)
        await bench.slot.stop(50)
    assert trio.current_time() == 5


async def test_a_crashed_part_is_built_again(story: Story, autojump_clock: MockClock) -> None:
    bench = Bench(ScriptedPart("first", story, up_s=20, fault=crash), ScriptedPart("second", story))
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
        await trio.sleep(30)
        assert bench.metrics.part_crashes["upstream"] == 1
        assert bench.status.restarts == 1
        assert bench.status.last_error == "internal fault (RuntimeError)"
        await bench.slot.stop(100)
    assert story == [(0, "first up"), (20, "second up"), (30, "second drains"), (30, "second done")]


async def test_a_part_that_crashes_in_a_group_is_built_again(story: Story, autojump_clock: MockClock) -> None:
    def crash_in_group() -> Exception:
        return ExceptionGroup("x", [crash()])

    bench = Bench(ScriptedPart("first", story, up_s=20, fault=crash_in_group), ScriptedPart("second", story))
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
        await trio.sleep(30)
        await bench.slot.stop(100)
    assert (20, "second up") in story


async def test_five_restarts_in_a_minute_with_growing_pauses_and_then_it_rises(
    story: Story, autojump_clock: MockClock
) -> None:
    bench = Bench(ScriptedPart("git", story, up_s=1, fault=crash))
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.slot.run)
    assert [str(exc) for exc in leaves(caught.value)] == ["a bug"]
    assert bench.built == [0, 1, 3, 6, 11, 20]
    assert (trio.current_time(), bench.metrics.part_crashes["upstream"]) == (21, 6)


async def test_crashes_that_are_far_apart_do_not_add_up(story: Story, autojump_clock: MockClock) -> None:
    bench = Bench(ScriptedPart("git", story, up_s=60, fault=crash))
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
        await trio.sleep(1000)
        await bench.slot.stop(2000)
    assert bench.built == [60 * n for n in range(17)], "restarted at once each time"


async def test_a_part_that_returns_by_itself_has_crashed(story: Story, autojump_clock: MockClock) -> None:
    bench = Bench(ScriptedPart("first", story, up_s=5), ScriptedPart("second", story))
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
        await trio.sleep(6)
        await bench.slot.stop(100)
    assert (5, "second up") in story
    assert bench.status.last_error == "internal fault (PartReturned)"


@pytest.mark.parametrize(
    "fault", [ConfigError([Problem("gateway.listen", "in use")]), EdgeError("x"), RuntimeError("bug")]
)
async def test_a_fault_before_the_first_start_rises_at_once(
    story: Story, autojump_clock: MockClock, fault: Exception
) -> None:
    bench = Bench(ScriptedPart("git", story, start_fault=fault))
    async with trio.open_nursery() as nursery:
        with pytest.raises(type(fault)) as caught:
            await nursery.start(bench.slot.run)
    assert caught.value is fault
    assert bench.built == [0]


async def test_returning_before_the_first_start_rises_too(autojump_clock: MockClock) -> None:
    class Idle:
        async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
            await trio.lowlevel.checkpoint()

    slot = Slot("admin", "main", Idle, metrics=Metrics())
    async with trio.open_nursery() as nursery:
        with pytest.raises(PartReturned, match="admin:main"):
            await nursery.start(slot.run)


async def test_an_expected_error_while_starting_again_counts_as_a_crash(
    story: Story, autojump_clock: MockClock
) -> None:
    bench = Bench(
        ScriptedPart("first", story, up_s=5, fault=crash),
        ScriptedPart("second", story, start_fault=EdgeError("address in use")),
        ScriptedPart("third", story),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
        await trio.sleep(10)
        await bench.slot.stop(100)
    assert bench.built == [0, 5, 6]


async def test_stopping_while_it_waits_to_be_restarted_ends_it_at_once(
    story: Story, autojump_clock: MockClock
) -> None:
    bench = Bench(ScriptedPart("git", story, up_s=1, fault=crash))
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
        await trio.sleep(2.5)  # two crashes; the next start would be at 3
        await bench.slot.stop(100)
        assert trio.current_time() == 2.5
    assert bench.built == [0, 1]


async def test_stopping_while_it_starts_ends_it_and_is_no_fault(
    story: Story, autojump_clock: MockClock
) -> None:
    bench = Bench(ScriptedPart("git", story, start_s=30))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nursery.start, bench.slot.run)
        await trio.sleep(4)
        await bench.slot.stop(100)
    assert story == [(4, "git cancelled")]


async def test_a_part_that_comes_up_while_it_is_stopped_is_told_at_once(
    story: Story, autojump_clock: MockClock
) -> None:
    class Stubborn(ScriptedPart):
        async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
            with trio.CancelScope(shield=True):
                await super().run(task_status=task_status)

    bench = Bench(Stubborn("git", story, start_s=5, drain_s=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nursery.start, bench.slot.run)
        await trio.sleep(2)
        await bench.slot.stop(100)
    assert story == [(5, "git up"), (5, "git drains"), (6, "git done")]


async def test_stopping_before_it_was_run_keeps_it_from_ever_starting(autojump_clock: MockClock) -> None:
    bench = Bench()
    await bench.slot.stop(100)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.slot.run)
    assert bench.built == []


async def test_a_fault_while_it_drains_is_logged_and_does_not_rise(
    story: Story, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(ScriptedPart("git", story, drain_s=1, drain_fault=RuntimeError("late bug")))
    with caplog.at_level(logging.ERROR, "edge.slot"):
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.slot.run)
            await bench.slot.stop(100)
    assert [record.message for record in caplog.records] == ["part failed while stopping"]
    assert bench.metrics.part_crashes["upstream"] == 1
    assert len(bench.built) == 1


async def test_without_a_status_it_works_the_same(story: Story, autojump_clock: MockClock) -> None:
    parts = iter([ScriptedPart("first", story, up_s=1, fault=crash), ScriptedPart("second", story)])
    slot = Slot("admin", "main", lambda: next(parts), metrics=Metrics())
    async with trio.open_nursery() as nursery:
        await nursery.start(slot.run)
        await trio.sleep(2)
        await slot.stop(100)
    assert story[-1] == (2, "second done")


async def test_a_part_that_does_not_report_is_ready_while_it_is_up(
    story: Story, autojump_clock: MockClock
) -> None:
    status = Health().add("part:sessions")
    parts = iter([ScriptedPart("a", story, up_s=1, fault=crash), ScriptedPart("b", story, start_s=2)])
    slot = Slot("sessions", "main", lambda: next(parts), metrics=Metrics(), status=status, part_reports=False)
    states = []
    async with trio.open_nursery() as nursery:
        await nursery.start(slot.run)
        for _ in range(3):
            states.append(status.state)
            await trio.sleep(1.75)
        await slot.stop(100)
    assert [*states, status.state] == ["ready", "degraded", "ready", "stopped"]


async def test_a_part_must_hand_out_its_intake(autojump_clock: MockClock) -> None:
    class Careless:
        async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
            task_status.started()  # type: ignore[call-arg]  # the mistake that is meant

    async with trio.open_nursery() as nursery:
        with pytest.raises(AssertionError, match="intake"):
            await nursery.start(Slot("admin", "main", Careless, metrics=Metrics()).run)


async def test_cancelled_from_outside_at_any_step_it_leaves_nothing(autojump_clock: MockClock) -> None:
    async def scenario() -> None:
        story: Story = []
        bench = Bench(
            ScriptedPart("a", story, start_s=1, up_s=2, fault=crash), ScriptedPart("b", story, drain_s=1)
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.slot.run)
            await trio.sleep(5)
            await bench.slot.stop(trio.current_time() + 10)

    assert await cancel_at_every_step(scenario) > 10
