"""The vocabulary between a dialect and what drives it: what happened (`Event`), and what to do (`Command`).

A dialect is the wire form of a link, sans-IO, one object per carrier: one WebSocket, one event stream with its
POSTs, one polling session. `handle` is synchronous, so whoever has an event calls it; a driver (`parts/pump.py`)
does what the commands say. Messages in and out are opaque texts: one JSON-RPC message each, or, where both ends
are ours (`own`), frames of `proto/numbered.py`, which a dialect carries and never looks into.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol

OWN_HEADER = "mcp-edge-link"
"""Offered by a connector when it opens, answered by an acceptor that is ours too: see `proto/numbered.py`."""


class LinkState(Enum):
    """Where one carrier stands. Only READY carries calls; a connector may have to serve lists while REGISTERING."""

    IDLE = "idle"
    OPENING = "opening"
    REGISTERING = "registering"
    READY = "ready"
    CLOSED = "closed"


class Hurry(Enum):
    """How soon a connector should try again."""

    NOW = "now"  # at once, up to 250 ms of jitter; the next failure in a row counts as NORMAL
    NORMAL = "normal"  # by the backoff
    SLOW = "slow"  # it will not help to hurry: at the backoff's limit, or a minute, whichever is longer


# -- events


@dataclass(frozen=True, slots=True)
class Start:
    """Connector: begin. `offer` is the value of OWN_HEADER to send; None: do not offer."""

    offer: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The WebSocket or the event stream is open. `headers` (names in lower case) are the other end's.

    For an acceptor: it has been authenticated, and the answer's head has been written.
    """

    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """Connector: what `OpenWebSocket` or `OpenStream` got instead: an HTTP answer that is no success."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """A WebSocket text frame, or the data of one event of the stream."""

    text: str


@dataclass(frozen=True, slots=True)
class Garbled:
    """Something arrived that cannot be a message: a binary frame, too long an event. `reason` says what."""

    reason: str


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign of life that carries nothing: a comment, a pong."""


@dataclass(frozen=True, slots=True)
class Replied:
    """Connector: the answer to the `HttpCall` with this tag."""

    tag: str
    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallFailed:
    """Connector: no answer to the `HttpCall` with this tag. `may_have_arrived`: some of it was sent."""

    tag: str
    reason: str
    may_have_arrived: bool


@dataclass(frozen=True, slots=True)
class Requested:
    """Acceptor: an HTTP request on this session, authenticated. `what` is the dialect's own word for it.

    Each is answered by exactly one `Respond` with its tag, sooner or later.
    """

    tag: int
    what: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class RequestGone:
    """Acceptor: who made the request has left. If `Respond` was given for it before, its answer was not fully
    written (it cannot have been read whole)."""

    tag: int


@dataclass(frozen=True, slots=True)
class Written:
    """Acceptor: the `Respond` with this tag was written whole."""

    tag: int


@dataclass(frozen=True, slots=True)
class Send:
    """A message for the other end. Those sent before READY wait, bounded, or are refused by the driver."""

    text: str


@dataclass(frozen=True, slots=True)
class Discovered:
    """Acceptor: the first MCP handshake and lists over this link came to an end; `problem` None: they are good."""

    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """We leave, in an orderly way. `code` is a WebSocket close code where there is a WebSocket."""

    reason: str
    code: int = 1000


@dataclass(frozen=True, slots=True)
class Closed:
    """The carrier has ended; nothing else will come. `code`: a WebSocket close code, 1006 if there was none."""

    reason: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """`deadline` has come (or passed long ago, if the process was frozen)."""


Event = (
    Start | Opened | Refused | Received | Garbled | Alive | Replied | CallFailed | Requested | RequestGone
    | Written | Send | Discovered | Stop | Closed | Tick
)  # fmt: skip


# -- commands


@dataclass(frozen=True, slots=True)
class OpenWebSocket:
    """GET `target` (path and query) with Upgrade; leads to `Opened`, `Refused` or `Closed`."""

    target: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenStream:
    """GET `target` as an event stream; leads to `Opened`, `Refused` or `Closed`. No time limit once open."""

    target: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request; leads to `Replied` or `CallFailed` with this tag. Any number may be open at once.

    `timeout_s` counts to the end of the answer. The driver adds nothing but Host and Content-Length.
    """

    tag: str
    method: Literal["GET", "POST"]
    target: str
    headers: Mapping[str, str]
    body: str | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Push:
    """A text frame on the WebSocket; for an acceptor of event streams, one event's data under `event_id`."""

    text: str
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Comment:
    """Acceptor of event streams: a comment line."""

    text: str


@dataclass(frozen=True, slots=True)
class Ping:
    """A WebSocket ping; its pong is `Alive`."""


@dataclass(frozen=True, slots=True)
class Respond:
    """Acceptor: the answer to `Requested` with this tag; leads to `Written` or `RequestGone`."""

    tag: int
    status: int
    body: str = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CloseCarrier:
    """End the WebSocket with this code, or the stream, or the polling, after what was pushed has been written."""

    code: int = 1000
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """The link is up. `kind` says what the other end turned out to be: `own`, `v1`, `v2`, `1.1.0`, ... (closed sets).

    `answer` is the other end's value of OWN_HEADER (connector). `name` is what an acceptor's other end calls itself.
    `session` is the id that both ends and the HTTP API know this carrier by. `mcp_version` is the revision with
    which an acceptor should begin `initialize`; None: the newest.
    """

    kind: str
    answer: str | None = None
    name: str | None = None
    session: str | None = None
    mcp_version: str | None = None


@dataclass(frozen=True, slots=True)
class Registering:
    """Acceptor: the other end asks to be registered as `name`; the driver decides, then either sends
    `Discovered` or `Stop` with the reason. Dialects whose opening names the server do not use it."""

    name: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message from the other end."""

    text: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The link is over, or could not be made: the last command. `advice` is for the operator: what to do.

    Acceptors give it too, with `hurry` NORMAL. `is_said`: a remark has told of the cause as a warning.
    """

    reason: str
    hurry: Hurry = Hurry.NORMAL
    advice: str = ""
    is_said: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """Worth a log line, at most once per carrier and text: what a peer did that it should not."""

    text: str
    level: Literal["debug", "info", "warning"] = "warning"


@dataclass(frozen=True, slots=True)
class Remember:
    """Connector of polling links: keep this session id for the next start; None: forget it."""

    session: str | None


Command = (
    OpenWebSocket | OpenStream | HttpCall | Push | Comment | Ping | Respond | CloseCarrier | Ready | Registering
    | Deliver | Lost | Remark | Remember
)  # fmt: skip


class Dialect(Protocol):
    """One end of one carrier. After `Lost` every event gives no commands."""

    state: LinkState
    own: bool
    """Whether both ends are ours, so that messages are frames of `proto/numbered.py`."""
    deadline: float | None
    """When to send `Tick`; monotonic seconds, as `now`."""

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        """What follows from `event`. Never raises for what a peer sent."""
        raise NotImplementedError

    def doubt(self, *, now: float) -> Sequence[Command]:
        """The process slept, or the network changed: find out soon (some seconds) whether the other end is there."""
        raise NotImplementedError
