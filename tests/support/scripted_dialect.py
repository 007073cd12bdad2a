"""A dialect as plain as can be, a carrier that remembers, and two pumps with a wire between them."""

from collections.abc import Sequence

import trio

from edge.parts.pump import Pump
from edge.proto.dialect import (
    CloseCarrier,
    Closed,
    Command,
    Deliver,
    Event,
    Hurry,
    LinkState,
    Lost,
    Opened,
    Push,
    Ready,
    Received,
    Send,
    Stop,
    Tick,
)


class PlainDialect:
    """Messages are frames as they are; anything else is as `script` has it, one list for each event, or nothing.

    `Opened` is `Ready`, `Stop` closes and is `Lost`, `Closed` is `Lost`.
    """

    def __init__(self, *, own: bool = False) -> None:
        self.state = LinkState.IDLE
        self.own = own
        self.deadline: float | None = None
        self.script: dict[type, list[Sequence[Command]]] = {}
        self.handled: list[tuple[float, Event]] = []
        self.doubted: list[float] = []
        self.next_deadline: list[float | None] = []  # what each Tick makes of it

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        self.handled.append((now, event))
        if self.state is LinkState.CLOSED:
            return []
        if isinstance(event, Tick) and self.next_deadline:
            self.deadline = self.next_deadline.pop(0)
        if scripted := self.script.get(type(event)):
            return scripted.pop(0)
        match event:
            case Opened():
                self.state = LinkState.READY
                return [Ready("plain")]
            case Received(text):
                return [Deliver(text)]
            case Send(text):
                return [Push(text)]
            case Stop(reason, code):
                self.state = LinkState.CLOSED
                return [CloseCarrier(code, reason), Lost(reason)]
            case Closed(reason):
                self.state = LinkState.CLOSED
                return [Lost(reason, Hurry.NOW)]
        return []

    def doubt(self, *, now: float) -> Sequence[Command]:
        self.doubted.append(now)
        return self.script[Stop].pop(0) if Stop in self.script else []

    def ticks(self) -> list[float]:
        return [now for now, event in self.handled if isinstance(event, Tick)]


class MemoryCarrier:
    """Remembers what it was told to do; `flush` waits while `is_stuck`."""

    def __init__(self) -> None:
        self.performed: list[Command] = []
        self.n_flushes = 0
        self._free: trio.Event | None = None

    def perform(self, command: Command) -> None:
        self.performed.append(command)

    async def flush(self) -> None:
        self.n_flushes += 1
        while self._free is not None:
            await self._free.wait()

    def stick(self) -> None:
        self._free = trio.Event()

    def free(self) -> None:
        if self._free is not None:
            self._free.set()
            self._free = None

    @property
    def pushed(self) -> list[str]:
        return [command.text for command in self.performed if isinstance(command, Push)]


class Wire(MemoryCarrier):
    """One end of a wire: what is pushed arrives at `peer` when the test says so, at most `n` at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.peer: Pump | None = None
        self._n_arrived = 0

    def move(self, n: int = 1_000_000) -> int:
        """How many arrived. Those that were not moved when the carrier is cut are lost."""
        coming = self.pushed[self._n_arrived :][:n]
        for text in coming:
            self._n_arrived += 1
            if self.peer is not None:
                self.peer.feed(Received(text))
        return len(coming)
