"""The hub's end of an mcp-reverse link: one event stream to an edge, and the POSTs that come back.

The link is ready as soon as the stream is: an edge of version 1.4.0 leaves if it is not initialized within 15 s.
An edge that says nothing is not given up here, because real ones post only to answer; a ping over the link, which
they do answer, is the matter of whoever uses it. Ours post at every heartbeat, so silence means something.
Source: mcp-reverse 1.1.0, 1.2.0 and 1.4.0 (read in code, and observed).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.errors import LocalProtocolError
from edge.proto.dialect import (
    Alive,
    CloseCarrier,
    Closed,
    Command,
    Comment,
    Deliver,
    Discovered,
    Event,
    LinkState,
    Lost,
    Opened,
    Push,
    Ready,
    Remark,
    Requested,
    RequestGone,
    Respond,
    Send,
    Stop,
    Tick,
    Written,
)
from edge.proto.dialects.mcp_reverse.wire import BYE, NAME_HEADER
from edge.proto.jsontext import one_line
from edge.proto.numbered import size_of

S = LinkState

TRANSITIONS: Final[Mapping[LinkState, frozenset[type]]] = {
    S.IDLE: frozenset({Opened, Stop, Closed}),
    S.READY: frozenset({Requested, RequestGone, Written, Send, Discovered, Alive, Tick, Stop, Closed}),
    S.CLOSED: frozenset(),
}
"""State to the events that may follow."""

LATE_S: Final = (
    5.0  # looking so much later than asked to means that we were stopped: the edge may have posted
)
TEXT: Final = "text/plain"


@dataclass(frozen=True, slots=True)
class Quirks:
    """What foreign edges need.

    `edge_dies_after_s`: 1.1.0 to 1.4.0 leave a stream that was silent for so long (read), so the heartbeat comes
    three times as often, whatever is configured.
    """

    edge_dies_after_s: float = 45.0


class McpReverseAcceptor:
    """One session of one edge.

    `dead_after_s` without any POST ends a link to an edge of ours, `doubt_s` after `doubt`, which asks it to post.
    The session is over with `Lost`: the driver answers 404 to a POST that comes later.
    """

    def __init__(
        self,
        *,
        session: str,
        own: bool,
        link_answer: str | None = None,  # goes into the stream's head, which the driver writes
        heartbeat_s: float = 15.0,
        dead_after_s: float = 60.0,
        doubt_s: float = 10.0,
        max_message_bytes: int = 16 * 1024 * 1024,
        quirks: Quirks | None = None,
    ) -> None:
        self.state = S.IDLE
        self.own = own
        self.deadline: float | None = None
        self._session = session
        self._beat_s = min(heartbeat_s, (quirks or Quirks()).edge_dies_after_s / 3)
        self._dead_after_s = dead_after_s
        self._doubt_s = doubt_s
        self._max_bytes = max_message_bytes
        self._beat_at = 0.0
        self._dead_at = float("inf")  # a foreign edge's never comes
        self._is_doubted = False
        self._n_events = 0

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        """What follows from `event`."""
        if type(event) not in TRANSITIONS[self.state]:
            if self.state is S.CLOSED or isinstance(event, Tick):
                return []
            raise LocalProtocolError(f"{type(event).__name__} while {self.state.name}")
        commands = self._follow(event, now)
        self.deadline = min(self._beat_at, self._dead_at) if self.state is S.READY else None
        return commands

    def doubt(self, *, now: float) -> Sequence[Command]:
        """Asks an edge of ours for a POST; a foreign one gets a comment, which fails if nobody takes it."""
        if self.state is not S.READY:
            return []
        said = self._doubt(now)
        self.deadline = min(self._beat_at, self._dead_at)
        return said

    def _follow(self, event: Event, now: float) -> Sequence[Command]:
        match event:
            case Opened(headers):
                self.state = S.READY
                self._beat_at = now + self._beat_s
                self._hear(now)
                name = headers.get(NAME_HEADER.lower())
                kind = "own" if self.own else "foreign"
                return [Comment(f"connected {self._session}"), Ready(kind, name=name, session=self._session)]
            case Requested(tag, what, body):
                return self._requested(tag, what, body, now)
            case Send(text):
                self._n_events += 1
                self._beat_at = now + self._beat_s
                return [Push(one_line(text), str(self._n_events))]
            case Stop(reason, code):
                is_open = self.state is S.READY
                self.state = S.CLOSED
                return [*([CloseCarrier(code, reason)] if is_open else []), Lost(reason)]
            case Closed(reason):
                self.state = S.CLOSED
                return [Lost(reason)]
            case Tick():
                return self._tick(now)
            case _:  # a write that went well or not, a sign of life: the carrier's end will say what matters
                return []

    def _requested(self, tag: int, what: str, body: str, now: float) -> Sequence[Command]:
        """The answer goes out before the message is looked at; 202 says that it was read, no more."""
        if what != "message":
            return [Respond(tag, 404, "Not found", TEXT)]
        self._hear(now)
        if size_of(body) > self._max_bytes:
            return [
                Respond(tag, 413, "Payload too large", TEXT),
                Remark("a message that was too large was refused"),
            ]
        taken = Respond(tag, 202, "", TEXT)
        if self.own:
            if body:
                *lines, last = body.split("\n")
                if last != BYE:
                    return [taken, *map(Deliver, [*lines, last])]
                self.state = S.CLOSED
                reason = "the edge has left"
                return [taken, *map(Deliver, lines), CloseCarrier(1000, reason), Lost(reason)]
            self._beat_at = now + self._beat_s
            return [taken, Comment("here")]
        if body[:64].lstrip().startswith("{"):
            return [taken, Deliver(body)]
        return [taken, Remark("a POST that holds no JSON object was passed over")] if body else [taken]

    def _hear(self, now: float) -> None:
        if self.own:
            self._dead_at = now + self._dead_after_s
            self._is_doubted = False

    def _doubt(self, now: float) -> Sequence[Command]:
        if not self.own:
            return [Comment("ping")]
        if self._is_doubted and now < self._dead_at:
            return []
        self._dead_at = (
            now + self._doubt_s if now >= self._dead_at else min(self._dead_at, now + self._doubt_s)
        )
        self._is_doubted = True
        return [Push("")]

    def _tick(self, now: float) -> Sequence[Command]:
        said: list[Command] = []
        if now >= self._dead_at:
            if now - self._dead_at <= LATE_S:
                self.state = S.CLOSED
                reason = "no sign of life from the edge"
                return [CloseCarrier(1001, reason), Lost(reason)]
            said += self._doubt(now)
        if now >= self._beat_at:
            self._beat_at = now + self._beat_s
            said.append(Comment("ping"))
        return said
