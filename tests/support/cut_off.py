"""Cuts the life of a part off at its 1st, 2nd ... nth step, looks for what it has left behind, and starts it again."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from edge.supervise.slot import Part
from tests.support.checkpoints import CancelAtStep

Thing = TypeVar("Thing")
Live = Callable[[Thing], Awaitable[None]]

LIFE_S = 300.0  # of the clock's seconds, which mostly is a mock
PATIENCE_S = 20.0  # the same: until those whom it talked to have seen that it is gone
LOOK_S = 0.5


class Watched:
    """A part that must not come to an end unless it was told to: else it has swallowed a cancellation."""

    def __init__(self, part: Part) -> None:
        self._part = part

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        handover = Handover(task_status)
        await self._part.run(task_status=handover)
        assert handover.intake is not None, "it ended before it had started"
        assert handover.intake.cancel_called, "it ended by itself"


class Handover:
    """What a part sees as `task_status`."""

    def __init__(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        self.intake: trio.CancelScope | None = None
        self._task_status = task_status

    def started(self, value: trio.CancelScope | None = None) -> None:
        assert value is not None, "a part hands out its intake"
        self.intake = value
        self._task_status.started(value)


async def live_as_part(part: Part, use: Callable[[], Awaitable[None]]) -> None:
    """From its start over `use` to the end of its drain."""
    async with trio.open_nursery() as nursery:
        intake: trio.CancelScope = await nursery.start(Watched(part).run)
        await use()
        intake.cancel()


class Errors(logging.Handler):
    """What was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = vars(record)
        cause = record.exc_info[1] if record.exc_info else fields.get("reason", fields.get("text"))
        self.texts.append(f"{record.name}: {record.getMessage()} {cause!r}")


async def cut_off_at_every_step(
    make: Callable[[], Thing],
    live: Live[Thing],
    *,
    left: Callable[[], object] = lambda: None,
    stride: int = 1,
    again_every: int = 1,
    most: int = 5000,
    first: int = 1,
    patience_s: float = PATIENCE_S,
    look_s: float = LOOK_S,
) -> int:
    """Makes a thing, and has it `live` through a whole life that is cancelled at its 1st, 2nd ... nth step.

    After each time it has left nothing behind: no task, nothing that `left` counts, once those whom it talked to have
    seen that it is gone; nothing was logged as an error; and one that is made anew lives through its life, to its end.
    Returns the number of steps. With a `stride`, only every so-manieth step is tried, from the `first` on; with
    `again_every`, only every so-manieth of those that were cut off has a successor. Others get `patience_s` to see
    that it is gone, and are looked at every `look_s`.
    """
    errors = Errors()
    root = logging.getLogger()
    root.addHandler(errors)

    def seen() -> tuple[int, object]:
        return trio.lowlevel.current_statistics().tasks_living, left()

    async def look(when: str) -> None:
        with trio.move_on_after(patience_s):
            while seen() != before:  # noqa: ASYNC110  nobody tells us of what others do
                await trio.sleep(look_s)
        assert seen() == before, f"left {when}: {seen()}, and not {before}"
        assert not errors.texts, f"logged {when}: {errors.texts}"

    try:
        await cut_off(live, make(), most)  # others may remember it from now on
        await trio.sleep(patience_s)
        before = seen()
        for n in range(first, most, stride):
            if not await cut_off(live, make(), n):
                return n
            await look(f"by one that was cut off at step {n}")
            if (n // stride) % again_every:
                continue
            await cut_off(live, make(), most)
            await look(f"by the successor of one that was cut off at step {n}")
        raise AssertionError(f"not done after {most} steps")
    finally:
        root.removeHandler(errors)


async def cut_off(live: Live[Thing], thing: Thing, n: int) -> bool:
    """Cancel its life at the nth step. False: it had come to its end before."""
    instruments: list[CancelAtStep] = []

    async def a_life() -> None:
        with trio.CancelScope() as scope:
            at_step = CancelAtStep(n, scope, trio.lowlevel.current_task())
            instruments.append(at_step)
            trio.lowlevel.add_instrument(at_step)
            try:
                await live(thing)
            finally:
                trio.lowlevel.remove_instrument(at_step)

    with trio.fail_after(LIFE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a_life)  # a task of its own: its steps are not those of its surroundings
    return instruments[0].has_fired
