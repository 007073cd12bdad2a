"""What a Streamable HTTP channel keeps: of each call in flight, of the session in force, of a stream that may break."""

from collections import deque
from dataclasses import dataclass, field

import trio

from edge.net.http_client import Exchange
from edge.parts.channel import Notify
from edge.parts.questions import Caller
from edge.proto.jsonrpc import Id
from edge.proto.mcp import H_LAST_EVENT, H_SESSION, H_VERSION
from edge.proto.sse import SseDecoder

RESUME_S = 1.0  # before a broken answer is fetched again, if the server names no time
RESUME_LIMIT_S = 60.0


class HttpCall(Caller):
    """One request in flight. What came on the GET stream, and answers to the server, wait here for its own task."""

    __slots__ = ("exchange", "id", "replies")

    def __init__(self, notify: Notify | None) -> None:
        super().__init__(notify)
        self.id: Id = ""
        self.exchange: Exchange | None = None
        self.replies: deque[str] | None = None  # to what the server has asked its client

    def nudge(self) -> None:
        if self.exchange is not None:
            self.exchange.interrupt()


@dataclass(slots=True, eq=False)
class HttpSession:
    """What one `initialize` began. `has_begun` is set when the server may use the GET stream."""

    id: str | None = None
    version: str | None = None
    has_begun: trio.Event = field(default_factory=trio.Event)
    is_over: trio.Event = field(default_factory=trio.Event)
    listening: trio.CancelScope = field(default_factory=trio.CancelScope)

    def fields(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.id is not None:
            found[H_SESSION] = self.id
        if self.version is not None:
            found[H_VERSION] = self.version
        return found

    def end(self) -> None:
        self.has_begun.set()
        self.is_over.set()
        self.listening.cancel()


@dataclass(slots=True)
class Trail:
    """Where an event stream was when it broke."""

    last_event_id: str | None = None
    retry_s: float = RESUME_S
    n_events: int = 0

    def note(self, decoder: SseDecoder) -> None:
        if decoder.last_event_id is not None:
            self.last_event_id = decoder.last_event_id
        if decoder.retry_ms is not None:
            self.retry_s = min(decoder.retry_ms / 1000, RESUME_LIMIT_S)

    def fields(self) -> dict[str, str]:
        """Where to resume. An id is any text: it goes into its field as UTF-8, which fields carry as Latin-1."""
        if self.last_event_id is None:
            return {}
        return {H_LAST_EVENT: self.last_event_id.encode().decode("latin-1")}
