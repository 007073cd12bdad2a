"""The bytes of an accepted link, for each dialect: a WebSocket, an event stream with POSTs, polls.

Theory of operation. A WebSocket or an event stream is served by the task of its connection: that task reads the one
and writes the other; beside it runs the pump. A polling session has no connection of its own, so `PollingSessions`
runs its pump. An HTTP request on a session waits in its own connection's task until the dialect answers it, and
watches meanwhile whether the edge has left: no task is started for it.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from edge.net.http_reply import Reply
from edge.parts.edge_session import EdgeSession
from edge.parts.edge_sessions import EdgeSessions
from edge.parts.flag import Flag
from edge.parts.pump import Pump
from edge.parts.ws_carrier import Beside
from edge.proto.dialect import (
    CloseCarrier,
    Closed,
    Command,
    Comment,
    Event,
    Lost,
    Push,
    Requested,
    RequestGone,
    Respond,
    Written,
)
from edge.proto.sse import encode_event

FAREWELL_S = 2.0  # for what was pushed last, and the closing handshake
MAX_QUEUED_BYTES = 256 * 1024
NO_SESSION = Respond(0, 404, '{"error":"Session not found"}')
NORMAL, ABNORMAL = 1000, 1006  # RFC 6455 section 7.4.1, for lack of a code of its own

log = logging.getLogger("edge.hub")

Feed = Callable[[Event], None]


class Requests:
    """The HTTP requests on one session that wait for its dialect's answer."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}
        self._count = 0

    def respond(self, command: Respond) -> None:
        waiting = self._waiting.get(command.tag)
        if waiting is not None:
            waiting.answer = command
            waiting.scope.cancel()

    def abandon(self) -> None:
        """The session is over: those that wait are told so."""
        for waiting in self._waiting.values():
            waiting.scope.cancel()

    async def ask(self, pump: Pump, feed: Feed, what: str, body: str, reply: Reply) -> None:
        """One request, from its arrival to its written answer. `feed` leads to `pump`."""
        self._count += 1
        tag = self._count
        waiting = self._waiting[tag] = Waiting()
        is_written = False
        try:
            feed(Requested(tag, what, body))
            if waiting.answer is None and pump.lost is None:
                with waiting.scope:
                    await reply.wait_gone()
            answer = waiting.answer or NO_SESSION
            fields = tuple(answer.headers.items())
            await reply.send(answer.status, answer.body.encode(), answer.content_type, headers=fields)
            is_written = waiting.answer is not None and not reply.gone
        finally:
            del self._waiting[tag]
            feed(Written(tag) if is_written else RequestGone(tag))


class Waiting:
    """One of them."""

    __slots__ = ("answer", "scope")

    def __init__(self) -> None:
        self.answer: Respond | None = None
        self.scope = trio.CancelScope()


class EventCarrier:
    """Implements `Carrier` for one event stream. Limits: from MAX_QUEUED_BYTES on, `flush` waits."""

    def __init__(self, reply: Reply) -> None:
        self.requests = Requests()
        self._reply = reply
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._is_leaving = False
        self._is_over = False
        self._due = trio.Event()
        self._room = trio.Event()

    def perform(self, command: Command) -> None:
        match command:
            case Push(text, event_id):
                self._put(encode_event(text, event="message", id=event_id))
            case Comment(text):
                self._put(f": {text}\n\n".encode())
            case Respond():
                self.requests.respond(command)
            case CloseCarrier():
                self._is_leaving = True
                self._due.set()
            case _:
                raise AssertionError(f"{type(command).__name__} is not for an event stream")

    async def flush(self) -> None:
        while self._bytes > MAX_QUEUED_BYTES and not self._is_over:
            await self._room.wait()

    async def run(self, feed: Feed, beside: Beside) -> None:
        """Write until it is closed by either end; the last event is `Closed`. Then it waits for `beside`."""
        async with trio.open_nursery() as home:
            home.start_soon(beside, home.cancel_scope)
            try:
                await self._serve()
            finally:
                self._is_over = True
                self._queue.clear()
                self._room.set()
                self.requests.abandon()
            if self._reply.has_left:
                feed(Closed("the edge closed its event stream", NORMAL))
            else:
                feed(Closed("the event stream to the edge broke off", ABNORMAL))

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            await self._write()
            nursery.cancel_scope.cancel()

    def _put(self, data: bytes) -> None:
        if not self._is_over and not self._is_leaving:
            self._queue.append(data)
            self._bytes += len(data)
            self._due.set()

    async def _watch(self, scope: trio.CancelScope) -> None:
        await self._reply.wait_gone()
        scope.cancel()

    async def _write(self) -> None:
        while not self._reply.gone:
            if self._queue:
                data = b"".join(self._queue) if len(self._queue) > 1 else self._queue[0]
                self._queue.clear()
                await self._reply.write(data)
                was_full = self._bytes > MAX_QUEUED_BYTES
                self._bytes -= len(data)
                if was_full and self._bytes <= MAX_QUEUED_BYTES:
                    self._room.set()
                    self._room = trio.Event()
            elif self._is_leaving:
                await self._reply.finish()
                return
            else:
                self._due = trio.Event()
                await self._due.wait()


class PollCarrier:
    """Implements `Carrier` for a polling session. What is sent waits in the dialect, which bounds it, for a poll."""

    def __init__(self) -> None:
        self.requests = Requests()

    def perform(self, command: Command) -> None:
        if isinstance(command, Respond):
            self.requests.respond(command)

    async def flush(self) -> None:
        """Nothing is queued here."""
        await trio.lowlevel.checkpoint()


async def carry(
    session: EdgeSession, run: Callable[[Feed, Beside], Awaitable[None]], sessions: EdgeSessions
) -> None:
    """A carrier's life, in the task of its connection: `run` moves its bytes until it is closed, the pump beside it."""
    is_closed = Flag()

    def feed(event: Event) -> None:
        sessions.heard(session, event)
        if isinstance(event, Closed):
            is_closed.set()

    async def drive(carrier: trio.CancelScope) -> None:
        lost: Lost | None = None
        try:
            lost = await session.pump.run()
        finally:
            sessions.close(session, lost)  # before the goodbye, which may take its time
        with trio.move_on_after(FAREWELL_S):
            await is_closed.wait()
        carrier.cancel()

    await run(feed, drive)


class PollingSessions:
    """Runs the pumps of polling sessions."""

    def __init__(self, sessions: EdgeSessions) -> None:
        self._sessions = sessions
        self._due: deque[tuple[EdgeSession, Requests]] = deque()
        self._changed = trio.Event()

    def begin(self, session: EdgeSession, requests: Requests) -> None:
        """Bounded by what `EdgeSessions` lets open."""
        self._due.append((session, requests))
        self._changed.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                while self._due:
                    nursery.start_soon(self._serve, *self._due.popleft())
                await self._changed.wait()
                self._changed = trio.Event()

    async def _serve(self, session: EdgeSession, requests: Requests) -> None:
        lost: Lost | None = None
        try:
            lost = await session.pump.run()
        finally:
            self._sessions.close(session, lost)
            requests.abandon()
