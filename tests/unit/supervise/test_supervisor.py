import pytest
import trio
from trio.testing import MockClock

from edge.errors import EdgeError, leaves
from edge.metrics import Metrics
from edge.supervise.slot import Slot
from edge.supervise.supervisor import Supervisor
from tests.support.checkpoints import cancel_at_every_step
from tests.support.scripted_part import ScriptedPart

Story = list[tuple[float, str]]


def slot(kind: str, name: str, *parts: ScriptedPart) -> Slot:
    left = iter(parts)
    return Slot(kind, name, lambda: next(left), metrics=Metrics())


def one_of_each(story: Story) -> list[Slot]:
    """Every part needs a second to start; listeners first in the list, to show that it does not matter."""
    return [
        slot("listener", "gateway", ScriptedPart("listener", story, start_s=1, drain_s=3)),
        slot("upstream", "git", ScriptedPart("git", story, start_s=1, drain_s=2)),
        slot("upstream", "plc", ScriptedPart("plc", story, start_s=1, drain_s=1)),
        slot("sessions", "main", ScriptedPart("sessions", story, start_s=1, drain_s=1)),
        slot("admin", "main", ScriptedPart("admin", story, start_s=1)),
    ]


async def test_a_hubs_edges_outlive_what_calls_them_and_uplinks_come_last(autojump_clock: MockClock) -> None:
    story: Story = []
    kinds = ("uplink", "acceptor", "listener", "upstream")
    slots = [slot(kind, "x", ScriptedPart(kind, story, start_s=1, drain_s=1)) for kind in kinds]
    supervisor = Supervisor(slots)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert story == [(1, "upstream up"), (2, "acceptor up"), (3, "listener up"), (4, "uplink up")]
        story.clear()
        await supervisor.stop(10)
    assert sorted(story) == [
        (4, "listener drains"), (4, "uplink drains"),
        (5, "acceptor drains"), (5, "listener done"), (5, "uplink done"), (5, "upstream drains"),
        (6, "acceptor done"), (6, "upstream done"),
    ]  # fmt: skip


async def test_kinds_start_one_after_another_and_those_of_a_kind_together(autojump_clock: MockClock) -> None:
    story: Story = []
    supervisor = Supervisor(one_of_each(story))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert sorted(story) == [
            (1, "admin up"),
            (2, "sessions up"),
            (3, "git up"),
            (3, "plc up"),
            (4, "listener up"),
        ]
        await supervisor.stop(10)


async def test_listeners_and_sessions_stop_first_then_upstreams_then_admin(autojump_clock: MockClock) -> None:
    story: Story = []
    supervisor = Supervisor(one_of_each(story))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await trio.sleep(6)
        story.clear()
        await supervisor.stop(10)
        assert trio.current_time() == 15
    assert sorted(story) == [
        (10, "listener drains"), (10, "sessions drains"), (11, "sessions done"),
        (13, "git drains"), (13, "listener done"), (13, "plc drains"), (14, "plc done"),
        (15, "admin done"), (15, "admin drains"), (15, "git done"),
    ]  # fmt: skip


async def test_one_deadline_holds_for_all(autojump_clock: MockClock) -> None:
    story: Story = []
    hangs = [
        slot(kind, kind, ScriptedPart(kind, story, drain_s=1000))
        for kind in ("admin", "sessions", "upstream", "listener")
    ]
    supervisor = Supervisor(hangs)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.stop(7)
        assert trio.current_time() == 7
    assert sum(what.endswith("cancelled") for _, what in story) == 4


async def test_a_crash_of_one_part_restarts_only_that_part(autojump_clock: MockClock) -> None:
    story: Story = []

    def bug() -> Exception:
        return RuntimeError("a bug")

    supervisor = Supervisor([
        slot("upstream", "git", ScriptedPart("git", story, up_s=5, fault=bug), ScriptedPart("git", story)),
        slot("upstream", "plc", ScriptedPart("plc", story)),
        slot("listener", "gateway", ScriptedPart("listener", story)),
    ])  # fmt: skip
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await trio.sleep(20)
        assert sorted(story) == [(0, "git up"), (0, "listener up"), (0, "plc up"), (5, "git up")]
        await supervisor.stop(10)


async def test_a_fault_at_start_rises_and_ends_what_was_up(autojump_clock: MockClock) -> None:
    story: Story = []
    in_use = EdgeError("address in use")
    supervisor = Supervisor([
        slot("admin", "main", ScriptedPart("admin", story)),
        slot("listener", "gateway", ScriptedPart("listener", story, start_fault=in_use)),
    ])  # fmt: skip
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
    assert list(leaves(caught.value)) == [in_use]
    assert story == [(0, "admin up"), (0, "admin cancelled")]


async def test_a_slot_that_gives_up_ends_all(autojump_clock: MockClock) -> None:
    story: Story = []

    def bug() -> Exception:
        return RuntimeError("a bug")

    failing = Slot(
        "upstream",
        "git",
        lambda: ScriptedPart("git", story, up_s=1, fault=bug),
        metrics=Metrics(),
        max_restarts=0,
    )
    supervisor = Supervisor([failing, slot("admin", "main", ScriptedPart("admin", story))])
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
    assert [str(exc) for exc in leaves(caught.value)] == ["a bug"]
    assert (1, "admin cancelled") in story


async def test_stop_during_start_up_starts_nothing_more(autojump_clock: MockClock) -> None:
    story: Story = []
    supervisor = Supervisor([
        slot("admin", "main", ScriptedPart("admin", story)),
        slot("upstream", "git", ScriptedPart("git", story, start_s=30)),
        slot("listener", "gateway", ScriptedPart("listener", story)),
    ])  # fmt: skip
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nursery.start, supervisor.run)
        await trio.sleep(5)
        await supervisor.stop(10)
    assert story == [(0, "admin up"), (5, "git cancelled"), (5, "admin drains"), (5, "admin done")]


async def test_without_slots_there_is_nothing_to_do(autojump_clock: MockClock) -> None:
    supervisor = Supervisor([])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.stop(10)
    assert trio.current_time() == 0


def test_a_kind_without_a_place_in_the_order_is_refused() -> None:
    with pytest.raises(ValueError, match="no place in the start order for kitchen"):
        Supervisor([Slot("kitchen", "main", lambda: ScriptedPart("x", []), metrics=Metrics())])


async def test_cancelled_from_outside_at_any_step_it_leaves_nothing(autojump_clock: MockClock) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(one_of_each([]))
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            await trio.sleep(1)
            await supervisor.stop(10)

    assert await cancel_at_every_step(scenario) > 20
