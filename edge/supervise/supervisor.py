"""Starts all slots in order and stops them in order; the one place where parts meet a nursery.

Start: admin, sessions, upstreams, acceptor, listeners, uplinks; each kind is up before the next one begins.
Stop: all that takes calls and the sessions at once (the sessions' long streams would keep the listeners'
connections busy), then the acceptor and the upstreams, on which the last calls have been finishing, and the
admin listener last, so that it can be asked about the end. One deadline holds for all of it.
"""

from collections.abc import Sequence

import trio

from edge.supervise.slot import Slot

START_ORDER = ("admin", "sessions", "upstream", "acceptor", "listener", "uplink")
STOP_ORDER = (("uplink", "listener", "sessions"), ("acceptor", "upstream"), ("admin",))


class Supervisor:
    """Runs slots. A fault that a slot lets rise cancels all others and rises from `run`, in a group."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        unknown = sorted({slot.kind for slot in slots} - set(START_ORDER))
        if unknown:
            raise ValueError(f"no place in the start order for {', '.join(unknown)}")
        self._slots = tuple(slots)
        self._is_stopping = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reports started when every part is up (or `stop` came first); returns when all have ended."""
        async with trio.open_nursery() as nursery:
            for kind in START_ORDER:
                if not self._is_stopping:
                    await self._start([slot for slot in self._slots if slot.kind == kind], nursery)
            task_status.started()

    async def stop(self, drain_s: float) -> None:
        """All slots have ended when it returns: at the latest `drain_s` from now, plus what the parts'
        own last words (bounded, each) take."""
        self._is_stopping = True
        deadline = trio.current_time() + drain_s
        for kinds in STOP_ORDER:
            slots = [slot for slot in self._slots if slot.kind in kinds]
            for slot in slots:
                slot.begin_stop(deadline)
            for slot in slots:
                await slot.stop(deadline)

    async def _start(self, slots: Sequence[Slot], nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as starting:
            for slot in slots:
                starting.start_soon(nursery.start, slot.run)
