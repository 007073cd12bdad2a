"""Starts slots in order, replaces some while the others go on, and stops them in order: where parts meet a nursery.

Start: admin and control, sessions, upstreams, acceptor, listeners, uplinks; each kind is up before the next begins.
Stop: all that takes calls and the sessions at once (the sessions' long streams would keep the listeners'
connections busy), then the acceptor and the upstreams, on which the last calls have been finishing, and the
admin listener last, so that it can be asked about the end. One deadline holds for all of it.

Replace: new ones start beside the old, except those that cannot live twice; then one synchronous step puts them in
force, and the old ones drain. If one does not start, those that did are stopped, and nothing has changed. What talks
to others starts last and waits for nothing: for as long as it takes to listen, either may get a connection.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import trio

from edge.errors import EdgeError
from edge.supervise.slot import Slot

START_ORDER = ("admin", "control", "sessions", "upstream", "acceptor", "listener", "uplink")
STOP_ORDER = (("uplink", "listener", "sessions"), ("acceptor", "upstream"), ("admin", "control"))

Key = tuple[str, str]


class Stopping(EdgeError):
    """Nothing is replaced any more: the process is about to end."""

    def __init__(self) -> None:
        super().__init__("mcp-edge is stopping")


class Supervisor:
    """Runs slots. A fault that a slot lets rise cancels all others and rises from `run`, in a group."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        unknown = sorted({slot.kind for slot in slots} - set(START_ORDER))
        if unknown:
            raise ValueError(f"no place in the start order for {', '.join(unknown)}")
        self._slots: dict[Key, Slot] = {(slot.kind, slot.name): slot for slot in slots}
        self._leaving: set[Slot] = set()  # out of force
        self._arrival: trio.CancelScope | None = None  # of those that are not in force yet
        self._is_stopping = False
        self._home: trio.Nursery | None = None

    @property
    def draining(self) -> int:
        """Parts that are out of force and let their last calls end."""
        return len(self._still_leaving())

    def is_leaving(self, key: Key) -> bool:
        """Whether one that had this key has not ended yet."""
        return any((slot.kind, slot.name) == key for slot in self._still_leaving())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reports started when every part is up (or `stop` came first); returns when all have ended."""
        try:
            async with trio.open_nursery() as nursery:
                self._home = nursery
                for kind in START_ORDER:
                    if not self._is_stopping:
                        await self._start(
                            [slot for slot in self._slots.values() if slot.kind == kind], nursery
                        )
                task_status.started()
        finally:
            self._home = None

    async def replace(
        self,
        new: Mapping[Key, Slot],
        *,
        removed: Collection[Key] = (),
        late: Collection[Key] = (),
        settle: Callable[[], Awaitable[None]],
        commit: Callable[[], None],
        drain_s: Callable[[str], float],
    ) -> None:
        """Put `new` in force in place of the slots of the same keys, and let those and `removed` drain.

        Those in `late` start when all that had their keys have ended, the others now; `settle` may wait for more of
        the new upstreams than that they are up. `commit` makes true all else that belongs to it, and must not raise.
        Returns then: what is out of force has `drain_s` of its kind to end. Only once `run` has started.
        Raises: Stopping, what `settle` raises, or what a new part raises before it is up, maybe in a group; like
        cancellation it leaves everything as it was.
        """
        beside = [slot for key, slot in new.items() if key not in late]
        if self._is_stopping or self._home is None:
            raise Stopping
        home = self._home
        is_good = False
        try:
            with trio.CancelScope() as self._arrival:
                for kind in START_ORDER:
                    # The nursery may have come to its end together with us.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    await self._start([slot for slot in beside if slot.kind == kind], home)
                    if kind == "upstream":
                        await settle()
                is_good = not self._is_stopping
        finally:
            self._arrival = None
            if not is_good:
                self._let_go(beside, lambda kind: 0.0)
        if not is_good:
            raise Stopping
        # No checkpoint from here on: everybody sees the old parts, or the new ones.
        try:
            commit()
        except BaseException:  # a bug, which must not leave parts that nobody owns
            self._let_go(beside, lambda kind: 0.0)
            raise
        gone = {key: self._slots.pop(key) for key in (*removed, *new) if key in self._slots}
        self._slots.update(new)
        self._let_go(gone.values(), drain_s)
        for key in late:
            new[key].schedule()
            before = [slot for slot in self._still_leaving() if (slot.kind, slot.name) == key]
            home.start_soon(self._succeed, before, new[key])

    async def stop(self, drain_s: float) -> None:
        """All slots have ended when it returns: at the latest `drain_s` from now, plus what the parts'
        own last words (bounded, each) take."""
        self._is_stopping = True
        deadline = trio.current_time() + drain_s
        if self._arrival is not None:
            self._arrival.cancel()  # what is being put in force comes to nothing
        for kinds in STOP_ORDER:
            slots = [slot for slot in (*self._slots.values(), *self._still_leaving()) if slot.kind in kinds]
            for slot in slots:
                slot.begin_stop(deadline)
            for slot in slots:
                await slot.wait_ended()

    def _let_go(self, slots: Iterable[Slot], drain_s: Callable[[str], float]) -> None:
        for slot in slots:
            slot.begin_stop(trio.current_time() + drain_s(slot.kind))
            self._leaving.add(slot)

    def _still_leaving(self) -> set[Slot]:
        self._leaving = {slot for slot in self._leaving if not slot.has_ended}
        return self._leaving

    async def _start(self, slots: Sequence[Slot], nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as starting:
            for slot in slots:
                starting.start_soon(nursery.start, slot.run)

    async def _succeed(self, before: Sequence[Slot], slot: Slot) -> None:
        for older in before:
            await older.wait_ended()
        await slot.run()
