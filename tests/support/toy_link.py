"""For links that are kept up: a dialect of almost nothing, a carrier without a network, the hub at its other end."""

from collections.abc import Callable, Mapping, Sequence

import trio

from edge.errors import EdgeError
from edge.proto.dialect import (
    OWN_HEADER,
    CloseCarrier,
    Closed,
    Command,
    Deliver,
    Event,
    Hurry,
    LinkState,
    Lost,
    Opened,
    OpenWebSocket,
    Push,
    Ready,
    Received,
    Refused,
    Send,
    Start,
    Stop,
)
from edge.proto.numbered import LinkAnswer, Numbered, parse_offer


class ToyDialect:
    """Ready once it is open. What ends it says in its reason how soon to come back: `now`, `slow` or anything."""

    def __init__(self) -> None:
        self.state = LinkState.IDLE
        self.own = False
        self.deadline: float | None = None
        self.doubts = 0

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        if self.state is LinkState.CLOSED:
            return []
        match event:
            case Start(offer):
                self.state = LinkState.OPENING
                return [OpenWebSocket("/", {OWN_HEADER: offer} if offer else {})]
            case Opened(headers):
                self.state = LinkState.READY
                answer = headers.get(OWN_HEADER)
                self.own = answer is not None
                return [Ready("own" if self.own else "v1", answer)]
            case Received(text):
                return [Deliver(text)]
            case Send(text):
                return [Push(text)]
            case Refused(status):
                return self._lost(f"answered {status}", Hurry.SLOW, "look at the token")
            case Closed(reason):
                hurry = Hurry.NOW if reason == "now" else Hurry.NORMAL
                return self._lost(reason, hurry)
            case Stop(reason, code):
                return [CloseCarrier(code, reason), *self._lost(reason, Hurry.NORMAL)]
        return []

    def doubt(self, *, now: float) -> Sequence[Command]:
        self.doubts += 1
        return []

    def _lost(self, reason: str, hurry: Hurry, advice: str = "") -> Sequence[Command]:
        self.state = LinkState.CLOSED
        return [Lost(reason, hurry, advice)]


class ToyHub:
    """Takes attempts. `outcomes`: what comes of the next ones, oldest first; with none left, they are accepted.

    An outcome is an event that is fed instead of `Opened`, or an error of making the attempt. `own`: it resumes links
    under `link_id`; `forget` makes the next one a new link.
    """

    def __init__(self, *outcomes: Refused | Closed | EdgeError, own: bool = False) -> None:
        self.outcomes = list(outcomes)
        self.own = own
        self.link_id = "a" * 32
        self.answer: str | None = None  # said instead of what is right
        self.numbered = self._fresh()
        self.attempts: list[float] = []
        self.takes_s = 0.0  # to make an attempt: its token may be long in coming
        self.offers: list[str | None] = []
        self.dialects: list[ToyDialect] = []
        self.carrier: ToyCarrier | None = None
        self.closed: list[CloseCarrier] = []
        self.received: list[str] = []
        self.up = trio.Event()
        self.news = trio.Event()

    async def __call__(self) -> "tuple[ToyDialect, ToyCarrier]":
        self.attempts.append(trio.current_time())
        if self.takes_s:
            await trio.sleep(self.takes_s)
        if self.outcomes and isinstance(self.outcomes[0], EdgeError):
            raise self.outcomes.pop(0)  # type: ignore[misc]  # the line above has looked
        dialect = ToyDialect()
        self.dialects.append(dialect)
        return dialect, ToyCarrier(self)

    def accept(self, carrier: "ToyCarrier", fields: Mapping[str, str]) -> Event:
        offer = fields.get(OWN_HEADER)
        self.offers.append(offer)
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            assert not isinstance(outcome, EdgeError)
            return outcome
        self.carrier = carrier
        self.up.set()
        self.up = trio.Event()
        if not self.own or offer is None:
            return Opened({})
        asked = parse_offer(offer)
        assert asked is not None
        if asked.link == self.link_id:
            carrier.resend = self.numbered.resume(asked.received)
        else:
            self.numbered = self._fresh()
        answer = self.answer or LinkAnswer(self.link_id, self.numbered.received).encode()
        return Opened({OWN_HEADER: answer})

    def forget(self) -> None:
        self.link_id = chr(ord(self.link_id[0]) + 1) * 32

    def send(self, text: str) -> None:
        """To the edge; over a link of ours it waits for the next carrier if there is none."""
        frame = self.numbered.send(text) if self.own else text
        if self.carrier is not None:
            self.carrier.give(Received(frame))

    def cut(self, reason: str = "cut") -> None:
        assert self.carrier is not None
        self.carrier.give(Closed(reason))
        self.carrier = None

    def pushed(self, text: str) -> None:
        message = self.numbered.receive(text) if self.own else text
        if message is not None:
            self.received.append(message)
            self.news.set()

    async def read(self) -> str:
        """The next message of the edge."""
        while not self.received:
            self.news = trio.Event()
            await self.news.wait()
        return self.received.pop(0)

    def _fresh(self) -> Numbered:
        return Numbered(max_unacked_bytes=1 << 20, max_unacked=100)


class ToyCarrier:
    def __init__(self, hub: ToyHub) -> None:
        self._hub = hub
        self._commands: list[Command] = []
        self._feed: Callable[[Event], None] | None = None
        self._given, self._events = trio.open_memory_channel[Event](1000)
        self._is_closed = False
        self.resend: list[str] = []

    def perform(self, command: Command) -> None:
        match command:
            case OpenWebSocket(headers=fields):
                self.give(self._hub.accept(self, fields))
                for frame in self.resend:
                    self.give(Received(frame))
            case Push(text):
                if self._hub.carrier is self:  # else it is lost on the way
                    self._hub.pushed(text)
            case CloseCarrier() if not self._is_closed:
                self._is_closed = True
                self._hub.closed.append(command)
                self.give(Closed("closed"))

    async def flush(self) -> None:
        """There is always room."""

    def give(self, event: Event) -> None:
        self._given.send_nowait(event)

    async def run(self, feed: Callable[[Event], None]) -> None:
        while True:
            event = await self._events.receive()
            feed(event)
            if isinstance(event, Closed | Refused):
                self._is_closed = True
                return
