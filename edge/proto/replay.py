"""Events of a session's streams, kept for a while for clients that come back with `Last-Event-ID`.

Source: MCP 2025-11-25, Transports (Resumability and Redelivery): ids are unique within the session, and only
the stream that broke is replayed. One ring for all streams of a session, so that its bounds are the
session's. Oldest events go first; a client that missed one that is gone gets the rest all the same: the
progress before an answer is worth little, the answer everything.
"""

import re
from collections import deque
from typing import Final, NamedTuple

from edge.errors import LocalProtocolError

_EVENT_ID: Final = re.compile(r"([1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})")


class StoredEvent(NamedTuple):
    """One event as it was sent. Ids are `<stream>-<n>`, n counting from 1."""

    stream: str
    n: int
    data: str
    at: float

    @property
    def id(self) -> str:
        return f"{self.stream}-{self.n}"


class Replay(NamedTuple):
    """What a client has missed of `stream`, as far as it is still here; `is_finished`: nothing will follow."""

    stream: str
    events: list[StoredEvent]
    is_finished: bool


class _Stream:
    __slots__ = ("first_kept", "is_finished", "next")

    def __init__(self) -> None:
        self.next = 1
        self.first_kept = 1
        self.is_finished = False


class ReplayRing:
    """`now` is monotonic seconds and never goes back.

    Limits: `max_events`, `max_bytes` (UTF-8, of the data) and `keep_s` seconds; an event that is larger than
    all of the ring is not kept. A finished stream is forgotten with its last event; how many are open at once
    is bounded by the calls that the driver allows.
    """

    __slots__ = ("_bytes", "_events", "_keep_s", "_last_stream", "_max_bytes", "_max_events", "_streams")

    def __init__(self, *, max_events: int = 256, max_bytes: int = 1_048_576, keep_s: float = 60.0) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._keep_s = keep_s
        self._events: deque[tuple[StoredEvent, int]] = deque()
        self._bytes = 0
        self._streams: dict[str, _Stream] = {}
        self._last_stream = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def kept_bytes(self) -> int:
        return self._bytes

    @property
    def streams(self) -> frozenset[str]:
        """Streams that are open, or still have events here."""
        return frozenset(self._streams)

    def open_stream(self) -> str:
        """A new stream; its id is never used again."""
        self._last_stream += 1
        stream = str(self._last_stream)
        self._streams[stream] = _Stream()
        return stream

    def start_id(self, stream: str) -> str:
        """The id before the stream's first event: coming back with it replays all of the stream."""
        return f"{stream}-0"

    def append(self, stream: str, data: str, *, now: float) -> str:
        """Keep an event of an open stream; its id."""
        state = self._open(stream)
        event = StoredEvent(stream, state.next, data, now)
        size = len(data) if data.isascii() else len(data.encode("utf-8", "surrogatepass"))
        state.next += 1
        self._events.append((event, size))
        self._bytes += size
        self.expire(now)
        while len(self._events) > self._max_events or self._bytes > self._max_bytes:
            self._drop_oldest()
        return event.id

    def close_stream(self, stream: str, *, now: float) -> None:
        """No more events will come. Its events stay for a while; closing twice changes nothing."""
        state = self._streams.get(stream)
        if state is None:
            return
        self.expire(now)
        state.is_finished = True
        self._forget_if_done(stream)

    def is_finished(self, stream: str) -> bool:
        """Whether nothing will follow on it; true for one that is not known."""
        state = self._streams.get(stream)
        return state is None or state.is_finished

    def after(self, last_event_id: str, *, now: float) -> Replay | None:
        """The events of that id's stream that follow it and are still here; None if the id is unknown."""
        self.expire(now)
        parsed = _EVENT_ID.fullmatch(last_event_id)
        if parsed is None:
            return None
        stream, n = parsed[1], int(parsed[2])
        state = self._streams.get(stream)
        if state is None or n >= state.next:
            return None
        missed = [event for event, _ in self._events if event.stream == stream and event.n > n]
        return Replay(stream, missed, state.is_finished)

    def _open(self, stream: str) -> _Stream:
        state = self._streams.get(stream)
        if state is None or state.is_finished:
            raise LocalProtocolError(f"stream {stream} is not open")
        return state

    def expire(self, now: float) -> None:
        """Let go of events that are too old. The other methods do it too; a stream that has gone quiet needs this."""
        while self._events and now - self._events[0][0].at > self._keep_s:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        event, size = self._events.popleft()
        self._bytes -= size
        self._streams[event.stream].first_kept = event.n + 1
        self._forget_if_done(event.stream)

    def _forget_if_done(self, stream: str) -> None:
        state = self._streams[stream]
        if state.is_finished and state.first_kept == state.next:
            del self._streams[stream]
