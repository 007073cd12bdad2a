"""The gateway's end of a ContextForge reverse proxy link: what a hub is to an edge.

An edge registers one server and is told `processing` until the driver has looked at it (`Discovered`), then
`register_complete`; an edge of ours is told `success` at once. Everything for the server goes out in `request`
frames, everything it says comes in `response` and `notification` frames and is judged by its shape, not its label.
A heartbeat is answered at most once a second: clients are known that answer the answer. Of frames that are none
of this protocol the first is remarked on: at once, but for an edge that has not registered; then as it registers, or
in the reason why it is gone.
Source: ContextForge 1.0.7, reverse proxy and its client (observed); the stand-alone client 1.0.0 (read in code).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from edge.errors import BadMessage, LocalProtocolError
from edge.proto.dialect import (
    Alive,
    CloseCarrier,
    Closed,
    Command,
    Deliver,
    Discovered,
    Event,
    Garbled,
    LinkState,
    Lost,
    Opened,
    Ping,
    Push,
    Ready,
    Received,
    Registering,
    Remark,
    Send,
    Stop,
    Tick,
)
from edge.proto.dialects.contextforge import frames
from edge.proto.dialects.contextforge.liveness import Liveness, Verdict
from edge.proto.jsonrpc import INTERNAL_ERROR, Request, Response, decode, encode_error

S = LinkState

TRANSITIONS: Final[Mapping[LinkState, frozenset[type]]] = {
    S.IDLE: frozenset({Opened, Stop, Closed}),
    S.REGISTERING: frozenset({
        frames.Register, frames.Unregister, frames.Heartbeat, frames.Answer, frames.Tell, frames.Ask, frames.Ack,
        frames.Complete, frames.Complaint, frames.Unknown, frames.Bad, Garbled, Alive, Tick, Stop, Closed,
    }),
    S.READY: frozenset({
        frames.Register, frames.Unregister, frames.Heartbeat, frames.Answer, frames.Tell, frames.Ask, frames.Ack,
        frames.Complete, frames.Complaint, frames.Unknown, frames.Bad, Garbled, Alive, Tick, Stop, Closed,
        Send, Discovered,
    }),
    S.CLOSED: frozenset(),
}  # fmt: skip
"""State to the steps that may follow. `Register` leads to READY, what ends a link to CLOSED, the rest stays.
What our own two ends carry while READY, either way, is seen before the table is."""

HEARD: Final = (Received, Alive, Garbled)
NEVER: Final = float("inf")

ECHO_S: Final = 1.0
"""Seconds between two answers to heartbeats, and between two complaints."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """What foreign edges need. Each flag is as that software behaves.

    `edge_max_bytes`: their clients close with 1009 above 1 MiB (observed).
    """

    edge_max_bytes: int = 1024 * 1024


class ContextForgeAcceptor:
    """One WebSocket from one edge.

    `session` is the id that both ends and the HTTP API know the connection by. `link_answer` is here because all
    acceptors are made alike: this one's goes into the upgrade's answer, which the driver writes. `unix_offset` is
    what to add to `now` for Unix time; with it the answers to heartbeats tell the time. An edge has `register_s` to
    register. One that says nothing for `heartbeat_s` is pinged, for `dead_after_s` given up, and after `doubt` for
    `doubt_s`. `max_bad_frames` is how many frames may be none of this protocol, or register once more.
    """

    def __init__(
        self,
        *,
        session: str,
        own: bool,
        link_answer: str | None = None,
        heartbeat_s: float = 25.0,
        dead_after_s: float = 60.0,
        max_message_bytes: int = 16 * 1024 * 1024,
        register_s: float = 15.0,
        doubt_s: float = 5.0,
        max_bad_frames: int = 100,
        unix_offset: float | None = None,
        quirks: Quirks | None = None,
    ) -> None:
        self.state = S.IDLE
        self.own = own
        self.deadline: float | None = None
        self.has_left = False
        """The edge said that it leaves: nobody will resume this link."""
        self._session = session
        self._heartbeat_s = heartbeat_s
        self._register_s = register_s
        edge_max_bytes = (Quirks() if quirks is None else quirks).edge_max_bytes
        self._max_bytes = min(max_message_bytes, edge_max_bytes)
        self._max_bad_frames = max_bad_frames
        self._unix_offset = unix_offset
        self._alive = Liveness(dead_after_s=dead_after_s, doubt_s=doubt_s)
        self._name = ""
        self._is_discovering = False
        self._register_by = NEVER
        self._next_ping = NEVER
        self._next_echo = 0.0
        self._next_complaint = 0.0
        self._bad_frames = 0
        self._complaint = ""  # what was wrong with the first of them
        self._remarks: tuple[str, ...] = ()

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        """What follows from `event`. A step that the table lacks changes nothing."""
        if self.own and self.state is S.READY:
            # Nearly every event of a link between our own two ends: nothing to parse, and nothing that could change.
            if isinstance(event, Send):
                return [Push(event.text)]
            if isinstance(event, Received) and frames.is_carried(event.text):
                self._hear(now)
                self.deadline = min(self._alive.due, self._next_ping)
                return [Deliver(event.text)]
        if self.state is S.CLOSED:
            return []
        step = frames.parse(event.text, own=self.own) if isinstance(event, Received) else event
        if type(step) not in TRANSITIONS[self.state]:
            if isinstance(step, frames.Carried):
                step = frames.Bad("a message before the registration")
            elif isinstance(event, Tick | Alive):
                return []  # a timer or a pong that crossed a change of state
            else:
                raise LocalProtocolError(f"{type(step).__name__} while {self.state.name}")
        if isinstance(event, HEARD):
            self._hear(now, is_pong=isinstance(event, Alive))
        return self._until(self._follow(step, now))

    def doubt(self, *, now: float) -> Sequence[Command]:
        """Asks for a pong, and gives up soon without any sign of life."""
        asks = self.state is S.READY and self._alive.doubt(now)
        return self._until([Ping()] if asks else [])

    def _hear(self, now: float, *, is_pong: bool = False) -> None:
        self._alive.hear(now, is_pong=is_pong)
        self._next_ping = now + self._heartbeat_s

    def _follow(self, step: Event | frames.Step, now: float) -> Sequence[Command]:
        match step:
            case Opened():
                self.state = S.REGISTERING
                self._hear(now)
                self._register_by = now + self._register_s
                return []
            case frames.Register(name, description, protocol):
                if self.state is S.READY:
                    return self._registered_again(name)
                return self._registered(name, description, protocol)
            case frames.Unregister():
                self.has_left = True
                return self._lose("the edge has unregistered", word="unregistered")
            case frames.Heartbeat():
                return self._echo(now)
            case frames.Answer(payload) | frames.Tell(payload):
                if self.own:
                    return self._bad("a message without a number", now)
                # Before the registration it is an answer to nothing; the oldest client sends one.
                return [Deliver(payload)] if self.state is S.READY else []
            case frames.Bad(reason) | Garbled(reason):
                return self._bad(reason, now)
            case Send(text):
                return self._outward(text)
            case Discovered(problem):
                return self._discovered(problem)
            case Stop(reason, code):
                fails = self._is_discovering and code == 1008
                told = [Push(frames.register_complete(self._session, failed=True))] if fails else []
                return [*told, *self._lose(reason, code=code)]
            case Closed(reason, code):
                # Without a word: one that was told twice to end takes no leave.
                reason = self._explained(reason or f"the edge closed the connection with code {code}")
                self.state = S.CLOSED
                return [Lost(reason)]
            case Tick():
                return self._tick(now)
            case Alive():
                return []
            case _:  # what only a gateway says, and what nobody knows: never answered by any gateway
                return self._remark("frames of an unfitting type were passed over", "debug")

    def _registered(self, name: str, description: str | None, protocol: str) -> Sequence[Command]:
        self.state = S.READY
        self._name = name
        self._register_by = NEVER
        self._is_discovering = not self.own
        kind = "own" if self.own else "standalone" if protocol == "mcp" else "legacy"
        ready = Ready(kind, name=name, session=self._session)
        said = [Remark(self._complaint)] if self._complaint else []
        # The acknowledgement first: what the driver sends when it is told of READY must come after it.
        return [Registering(name, description), *self._acknowledged(), ready, *said]

    def _registered_again(self, name: str) -> Sequence[Command]:
        self._bad_frames += 1
        if name != self._name or self._bad_frames > self._max_bad_frames:
            reason = "the edge registered a second name, or too often, on one connection"
            return self._lose(reason, code=1008, word="connection already registered")
        done = (
            []
            if self.own or self._is_discovering
            else [frames.register_complete(self._session, failed=False)]
        )
        return [*self._acknowledged(), *map(Push, done)]

    def _acknowledged(self) -> list[Command]:
        return [Push(frames.register_ack(self._session, "success" if self.own else "processing"))]

    def _discovered(self, problem: str | None) -> Sequence[Command]:
        if not self._is_discovering:
            return []  # an edge of ours was not made to wait for it; or the server was looked at once more
        self._is_discovering = False
        told = Push(frames.register_complete(self._session, failed=problem is not None))
        if problem is None:
            return [told]
        return [told, *self._lose(problem, code=1008, word="registration failed")]

    def _echo(self, now: float) -> Sequence[Command]:
        if now < self._next_echo:
            return []
        self._next_echo = now + ECHO_S
        timestamp = None
        if self._unix_offset is not None:
            timestamp = datetime.fromtimestamp(now + self._unix_offset, UTC).isoformat()
        return [Push(frames.heartbeat(self._session, timestamp))]

    def _bad(self, reason: str, now: float) -> Sequence[Command]:
        self._bad_frames += 1
        is_said = bool(self._complaint) and self.state is S.READY
        if self._bad_frames > self._max_bad_frames:
            word = "too many invalid messages"
            return self._lose("too many invalid frames", code=1008, word=word, is_said=is_said)
        self._complaint = self._complaint or reason
        said = [] if self.state is S.REGISTERING or is_said else [Remark(reason)]
        if now < self._next_complaint:
            return said
        self._next_complaint = now + ECHO_S
        return [*said, Push(frames.error(self._session, "Invalid message format"))]

    def _outward(self, text: str) -> Sequence[Command]:
        """A message in a frame, or, if it is too large for foreign edges, the error instead of its answer."""
        frame = frames.carrying("request", self._session, text)
        size = frames.size_of(frame)
        if size <= self._max_bytes:
            return [Push(frame)]
        told = f"the message has {size} bytes, and this edge takes {self._max_bytes}"
        try:
            message = decode(text)
        except BadMessage:
            message = None
        if isinstance(message, Request):
            return [Deliver(encode_error(message.id, INTERNAL_ERROR, told))]
        if isinstance(message, Response):
            error = encode_error(message.id, INTERNAL_ERROR, told)
            return [Push(frames.carrying("request", self._session, error))]
        return self._remark("a notification too large for the edge was dropped")

    def _tick(self, now: float) -> Sequence[Command]:
        verdict = self._alive.judge(now)
        if verdict is Verdict.DEAD:
            return self._lose("no sign of life from the edge", word="no sign of life")
        if verdict is Verdict.DOUBT:
            return [Ping()]
        if now >= self._register_by:
            return self._lose(
                f"no registration within {self._register_s:g} s", code=1008, word="not registered"
            )
        if now >= self._next_ping:
            self._next_ping = now + self._heartbeat_s
            return [Ping()]
        return []

    def _lose(
        self, reason: str, *, code: int = 1000, word: str | None = None, is_said: bool = False
    ) -> Sequence[Command]:
        """`word` is what the edge is told; by default the reason."""
        has_carrier = self.state is not S.IDLE
        told = reason if word is None else word
        lost = Lost(self._explained(reason), is_said=is_said)
        self.state = S.CLOSED
        return [*([CloseCarrier(code, frames.close_reason(told))] if has_carrier else []), lost]

    def _explained(self, reason: str) -> str:
        """With the complaint that has not been made."""
        is_due = self.state is S.REGISTERING and self._complaint
        return f"{reason}; before that: {self._complaint}" if is_due else reason

    def _remark(self, text: str, level: Literal["debug", "warning"] = "warning") -> Sequence[Command]:
        if text in self._remarks:
            return []
        self._remarks = (*self._remarks, text)
        return [Remark(text, level)]

    def _until(self, commands: Sequence[Command]) -> Sequence[Command]:
        """`commands`, with the deadline for what comes next."""
        is_up = self.state is S.REGISTERING or self.state is S.READY
        self.deadline = min(self._alive.due, self._register_by, self._next_ping) if is_up else None
        return commands
