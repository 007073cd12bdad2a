"""Live legacy sessions: they outlive connections, end by DELETE or idleness, and own what is in flight for them.

A call runs in its connection's task, and its cancel scope is entered here under the client's request id. So
`notifications/cancelled`, DELETE and expiry end it, and a client that merely disconnects does not (MCP
2025-11-25, Transports). The `Sessions` part has one ticker for all of them: expiry, and a sign of life on
every answer that has been quiet for long.
"""

import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal, NamedTuple, Protocol

import trio

from edge.errors import CutOff, EdgeError
from edge.metrics import Metrics
from edge.parts.questions import Unanswered
from edge.proto.jsonrpc import Id, encode_notification
from edge.proto.replay import ReplayRing
from edge.proto.session import Session

log = logging.getLogger("edge.sessions")

EndReason = Literal["client_delete", "idle_timeout", "init_failed", "gateway_shutdown", "limit", "link_ended"]

OUTBOX_LIMIT = 256
OUTBOX_BYTES = 1_048_576
"""Notifications kept for a session's GET stream, and their letters; over it the oldest is dropped and counted."""

NEWS_KEEP_S = 60.0
"""How long they are kept while no GET stream is open: as long as the events of one that broke (proto/replay.py)."""

TICK_S = 1.0
TIDY_EVERY_S = 5.0
TIDY_LIMIT_S = 10.0


class TooManySessions(EdgeError):
    """Every session is in use, up to the configured limit; none could be ended to make room."""


class Waiting(Protocol):
    """An answer that may be quiet for long (parts/exchange.py)."""

    PATIENCE_S: float
    KEEPALIVE_S: float

    async def tick(self) -> None:
        """Show the client a sign of life."""


class InFlight:
    """One call of a session: the scope that ends it, and the server it went to (for log messages)."""

    __slots__ = ("cancelled", "cut_off", "limit_s", "scope", "server")

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        self.server: str | None = None
        self.limit_s = 0.0
        self.cancelled = False
        self.cut_off: CutOff | None = None

    def ask(self, server: str, limit_s: float) -> None:
        """The call goes to `server` now and has `limit_s` seconds."""
        self.server = server
        self.limit_s = limit_s
        self.scope.deadline = trio.current_time() + limit_s

    @property
    def is_late(self) -> bool:
        """Whether its time ran out, and nobody ended it before that."""
        return not self.cancelled and self.cut_off is None and trio.current_time() >= self.scope.deadline

    def cancel(self) -> None:
        """Ended by its client, who expects no answer to it any more."""
        self.cancelled = True
        self.scope.cancel()

    def cut(self, why: CutOff) -> None:
        """Ended by us: its client is told."""
        self.cut_off = why
        self.scope.cancel()


class News(NamedTuple):
    """A notification for GET streams. One object for all the sessions that are told: there may be very many."""

    at: float
    text: str


def news(method: str, params: str | None) -> News:
    return News(trio.current_time(), encode_notification(method, params))


class LiveSession:
    """A session's state, its calls in flight, and what waits for its GET stream."""

    __slots__ = (
        "_changed",
        "_dropped",
        "_keeps",
        "_outbox",
        "_outbox_chars",
        "_ring",
        "born",
        "calls",
        "ended",
        "listener",
        "questions",
        "standing_stream",
        "state",
    )

    def __init__(
        self,
        state: Session,
        *,
        now: float,
        dropped: Callable[[int], None],
        keeps: Callable[["LiveSession"], None],
    ) -> None:
        self.state = state
        self.born = now
        self.calls: dict[Id, InFlight] = {}
        self.listener: trio.CancelScope | None = None
        self.questions: Unanswered | None = None  # made when it is asked something
        self.standing_stream: str | None = None
        self.ended = False
        # Made when first needed: most sessions never stream, and there may be very many of them.
        self._outbox: deque[News] | None = None
        self._outbox_chars = 0
        self._ring: ReplayRing | None = None
        self._changed: trio.Event | None = None
        self._dropped = dropped
        self._keeps = keeps

    @property
    def ring(self) -> ReplayRing:
        if self._ring is None:
            self._ring = ReplayRing()
        return self._ring

    @property
    def busy(self) -> bool:
        return bool(self.calls) or self.listener is not None

    @property
    def queued(self) -> int:
        return len(self._outbox) if self._outbox is not None else 0

    def tell(self, news: News) -> None:
        """Queue a notification for the GET stream; one that is opened later gets it too."""
        if self._outbox is None:
            self._outbox = deque()
        self._outbox.append(news)
        self._outbox_chars += len(news.text)
        while len(self._outbox) > OUTBOX_LIMIT or (
            self._outbox_chars > OUTBOX_BYTES and len(self._outbox) > 1
        ):
            self._outbox_chars -= len(self._outbox.popleft().text)
            self._dropped(1)
        self._keeps(self)
        self._wake()

    def list_changed(self, kind: str) -> None:
        """Remember that a list changed: told once, however often it happens before the client listens."""
        self.state.list_changed(kind)
        self._wake()

    def take_news(self) -> list[str]:
        """What the GET stream has to say now; empties the queue."""
        news = [
            encode_notification(f"notifications/{kind}/list_changed", None)
            for kind in self.state.take_dirty()
        ]
        if self._outbox:
            news += [told.text for told in self._outbox]
            self._outbox, self._outbox_chars = None, 0
        return news

    async def wait_changed(self) -> None:
        """Until there may be news: something told, an event recorded, or the end of the session."""
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def record(self, stream: str, text: str) -> str:
        """Keep an event of `stream` for clients that come back; its id."""
        event_id = self.ring.append(stream, text, now=trio.current_time())
        self._keeps(self)
        self._wake()
        return event_id

    def open_stream(self) -> str:
        """A stream of events with ids, for one answer."""
        return self.ring.open_stream()

    def close_stream(self, stream: str) -> None:
        self.ring.close_stream(stream, now=trio.current_time())
        self._wake()

    def stand(self) -> str:
        """A new stream of events that belong to no answer. The one before it, if any, goes on no longer."""
        if self.standing_stream is not None:
            self.close_stream(self.standing_stream)
        self.standing_stream = self.ring.open_stream()
        return self.standing_stream

    def let_go(self, now: float) -> bool:
        """Drop what has been kept for too long; whether anything is left. A client that never comes back for it
        would otherwise hold it until its session expires."""
        outbox = self._outbox
        if outbox and self.listener is None:
            before = len(outbox)
            while outbox and now - outbox[0].at > NEWS_KEEP_S:
                self._outbox_chars -= len(outbox.popleft().text)
            self._dropped(before - len(outbox))
        if self._ring is not None:
            self._ring.expire(now)
        return bool(outbox) or bool(self._ring)

    def end(self) -> None:
        self.ended = True
        for call in self.calls.values():
            call.cut(CutOff("session_ended"))
        if self.listener is not None:
            self.listener.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


class Sessions:
    """The table of live sessions, oldest use first, and the part that expires them.

    Limits: `max_sessions`; at the limit the session that has been idle longest makes room, and if none is idle
    a new one is refused (TooManySessions).
    """

    def __init__(
        self,
        *,
        idle_s: float,
        max_sessions: int,
        metrics: Metrics,
        on_end: Callable[[LiveSession], None],
        tidy: Callable[[], Awaitable[None]],
    ) -> None:
        self._idle_s = idle_s
        self._max = max_sessions
        self._metrics = metrics
        self._live: OrderedDict[str, LiveSession] = OrderedDict()
        self._waiting: dict[Waiting, float] = {}
        self._keepers: dict[LiveSession, None] = {}
        self.sessionless: set[InFlight] = set()
        self._quiet = trio.Event()
        self.draining = False
        self._on_end = on_end
        self._tidy = tidy

    def update(self, *, idle_s: float, max_sessions: int) -> None:
        """Sessions over a lower limit stay until they end, or until a new one needs the room."""
        self._idle_s = idle_s
        self._max = max_sessions

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(self._live.values())

    def count_queued(self) -> int:
        """Notifications that wait for their sessions' GET streams."""
        return sum(session.queued for session in self._live.values())

    def count_waiting(self) -> int:
        """Answers that are not complete yet."""
        return len(self._waiting)

    def create(
        self, *, version: str, view: str | None, declared: frozenset[str] = frozenset()
    ) -> LiveSession:
        """A new session with an id nobody can guess (128 random bits, visible ASCII)."""
        if len(self._live) >= self._max:
            self._make_room()
        now = trio.current_time()
        state = Session(id=secrets.token_hex(16), version=version, view=view, now=now, declared=declared)
        session = LiveSession(state, now=now, dropped=self._count_dropped, keeps=self._note_keeper)
        self._live[state.id] = session
        self._metrics.session_created()
        return session

    def get(self, session_id: str, view: str | None) -> LiveSession | None:
        """The live session of that id, if it belongs to this view; counts as use."""
        session = self._live.get(session_id)
        if session is None or session.state.view != view:
            return None
        self._use(session)
        return session

    def used(self, session: LiveSession) -> None:
        """A call or stream of it is over: idleness counts from here."""
        if session.state.id in self._live:
            self._use(session)

    def end(self, session: LiveSession, reason: EndReason) -> None:
        """End it: its calls are cancelled, its streams close. Ending one that has ended changes nothing."""
        if self._live.pop(session.state.id, None) is None:
            return
        self._keepers.pop(session, None)
        session.end()
        self._metrics.session_ended(reason, trio.current_time() - session.born)
        self._on_end(session)

    def give_up_calls(self) -> None:
        """The time for draining is nearly over: calls in flight end now, so that their clients can be told."""
        for session in self._live.values():
            for call in session.calls.values():
                call.cut(CutOff("stopping"))
        for call in self.sessionless:
            call.cut(CutOff("stopping"))

    def watch(self, exchange: Waiting) -> None:
        """Let the ticker keep this answer alive until `unwatch`."""
        self._waiting[exchange] = trio.current_time() + exchange.PATIENCE_S

    def unwatch(self, exchange: Waiting) -> None:
        """The answer is complete, or given up."""
        self._waiting.pop(exchange, None)
        if not self._waiting:
            self._quiet.set()

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick, nursery)
            nursery.start_soon(self._tidy_up)
            with trio.CancelScope() as intake:
                task_status.started(intake)
                await trio.sleep_forever()
            # The listeners drain beside us: calls in flight end as they would have, long streams end now.
            self.draining = True
            for session in self._live.values():
                if session.listener is not None:
                    session.listener.cancel()
            while self._waiting:
                self._quiet = trio.Event()
                await self._quiet.wait()
            for session in list(self._live.values()):
                self.end(session, "gateway_shutdown")
            nursery.cancel_scope.cancel()

    async def _tick(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(TICK_S)
            now = trio.current_time()
            self._expire(now)
            for session in [session for session in self._keepers if not session.let_go(now)]:
                del self._keepers[session]
            for exchange, due in list(self._waiting.items()):
                if due <= now:
                    self._waiting[exchange] = now + exchange.KEEPALIVE_S
                    # A slow client may hold this task for the write timeout; the others must not wait for it.
                    nursery.start_soon(exchange.tick)

    async def _tidy_up(self) -> None:
        while True:
            await trio.sleep(TIDY_EVERY_S)
            with trio.move_on_after(TIDY_LIMIT_S):
                await self._tidy()

    def _expire(self, now: float) -> None:
        # The table is ordered by use, so the first one that is young enough ends the walk.
        for session in list(self._oldest(now - self._idle_s)):
            if session.busy:
                self._use(session)
            else:
                self.end(session, "idle_timeout")

    def _use(self, session: LiveSession) -> None:
        session.state.touch(trio.current_time())
        self._live.move_to_end(session.state.id)

    def _oldest(self, used_before: float) -> Iterator[LiveSession]:
        for session in self._live.values():
            if session.state.last_used >= used_before:
                return
            yield session

    def _make_room(self) -> None:
        for session in self._live.values():
            if not session.busy:
                self.end(session, "limit")
                return
        raise TooManySessions(
            f"{len(self._live)} sessions are in use, which is the limit (gateway.max_sessions)"
        )

    def _count_dropped(self, n: int) -> None:
        self._metrics.notes_dropped += n

    def _note_keeper(self, session: LiveSession) -> None:
        if not session.ended:  # the last words of a call that its session's end cancelled
            self._keepers[session] = None
