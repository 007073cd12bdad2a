"""A carrier that is one WebSocket: opened when the dialect says so, then read and written until it closes.

A message is written in the very step that pushes it: that saves a turn of the scheduler. What that is not possible for
is written by a task, one at a time, so that frames never interleave and a close never overtakes what was pushed before.
It is there only while there is something to write: links are idle nearly always.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager

import trio

from edge.errors import EdgeError, UpstreamError
from edge.net.websocket import HandshakeRefused, WebSocket, WebSocketClosed
from edge.parts.flag import Flag
from edge.proto.dialect import (
    Alive,
    CloseCarrier,
    Closed,
    Command,
    Event,
    Garbled,
    Opened,
    OpenWebSocket,
    Ping,
    Push,
    Received,
    Refused,
)

Open = Callable[[str, Mapping[str, str]], AbstractAsyncContextManager[WebSocket]]
"""Dials and shakes hands for a target with these headers. Raises HandshakeRefused, or another EdgeError."""

Beside = Callable[[trio.CancelScope], Awaitable[None]]
"""Runs beside a carrier, in its nursery: so there is but one. Cancels the scope, which is the carrier's, at its end."""

MAX_QUEUED_CHARS = 256 * 1024
MAX_AT_ONCE_CHARS = 64 * 1024  # longer texts take so much time that others should have a turn
ABNORMAL = 1006


class WsCarrier:
    """Implements `Carrier` (parts/pump.py). `open_` is for the connector's `run`; an acceptor uses `serve`.

    Limits: from MAX_QUEUED_CHARS on, `flush` waits. What dialects push by themselves is little.
    """

    def __init__(self, open_: Open | None = None) -> None:
        self._open = open_
        self._wanted: OpenWebSocket | None = None
        self._socket: WebSocket | None = None  # while it is open
        self._home: trio.Nursery | None = None  # of the writer, while the socket is open
        self._is_writing = False
        self._queue: list[Push | Ping] = []
        self._chars = 0
        self._farewell: CloseCarrier | None = None
        self._is_refused = False
        self._is_over = False
        self._news = Flag()  # for `run`, before there is a socket
        self._room = Flag()

    # -- for the pump

    def perform(self, command: Command) -> None:
        match command:
            case Push(text):
                if self._is_over or self._farewell is not None:
                    return
                if not self._is_writing and self._try_write(text):
                    return
                self._queue.append(command)
                self._chars += len(text)
            case OpenWebSocket():
                self._wanted = command
            case Ping():
                self._queue.append(command)
            case CloseCarrier():
                self._farewell = self._farewell or command
            case _:
                raise AssertionError(f"{type(command).__name__} is not for a WebSocket")
        self._news.set()
        self._have_written()

    async def flush(self) -> None:
        while self._chars > MAX_QUEUED_CHARS and not self._is_over:
            await self._room.wait()

    # -- its life

    async def run(self, feed: Callable[[Event], None]) -> None:
        """Open as often as the dialect asks to, and serve; returns after the last event has been fed."""
        assert self._open is not None
        while (wanted := await self._next_wanted()) is not None:
            try:
                async with self._open(wanted.target, wanted.headers) as socket:
                    feed(Opened(socket.headers))
                    await self.serve(socket, feed)
                    return
            except HandshakeRefused as exc:
                feed(Refused(exc.status, exc.body, exc.headers))
                self._is_refused = True
            except WebSocketClosed as exc:
                self._over()
                feed(Closed(exc.reason, exc.code))
                return
            except EdgeError as exc:
                self._over()
                feed(Closed(exc.text if isinstance(exc, UpstreamError) else str(exc), ABNORMAL))
                return
        self._over()
        feed(Closed("not opened", ABNORMAL))

    async def _next_wanted(self) -> OpenWebSocket | None:
        """What the dialect wants opened; None if it has said goodbye, or takes a refusal for final."""
        while self._wanted is None and self._farewell is None and not self._is_refused:
            self._news.clear()
            await self._news.wait()
        wanted, self._wanted, self._is_refused = self._wanted, None, False
        return wanted

    async def serve(
        self, socket: WebSocket, feed: Callable[[Event], None], beside: Beside | None = None
    ) -> None:
        """Read and write until it is closed by either end; the last event is `Closed`. Then it waits for `beside`."""
        socket.on_alive = lambda rtt_s: feed(Alive())
        async with trio.open_nursery() as home:
            self._home, self._socket = home, socket
            if beside is not None:
                home.start_soon(beside, home.cancel_scope)
            try:
                self._have_written()
                closed = await self._read(socket, feed)
            finally:
                self._over()
            feed(Closed(closed.reason, closed.code))
            if beside is None:
                home.cancel_scope.cancel()

    def _over(self) -> None:
        self._is_over = True
        self._home = self._socket = None
        self._queue.clear()
        self._room.set()

    async def _read(self, socket: WebSocket, feed: Callable[[Event], None]) -> WebSocketClosed:
        while True:
            try:
                feed(
                    event_of(await socket.receive())
                )  # without a name here: it would be kept until the next one
            except WebSocketClosed as exc:
                return exc

    def _try_write(self, text: str) -> bool:
        socket = self._socket
        if socket is None or len(text) > MAX_AT_ONCE_CHARS or not socket.try_send(text):
            return False
        if socket.is_behind:
            self._have_written()
        return True

    def _have_written(self) -> None:
        """What waits, if anything does, by a task."""
        socket = self._socket
        if self._is_writing or socket is None or self._home is None:
            return
        if socket.is_behind or self._queue or self._farewell is not None:
            self._is_writing = True
            self._home.start_soon(self._write, socket)

    async def _write(self, socket: WebSocket) -> None:
        try:
            while socket.is_behind or self._queue:
                if socket.is_behind:
                    await socket.flush()
                for step in self._take():
                    if isinstance(step, Push):
                        await socket.send(step.text)
                        self._written(len(step.text))
                    else:
                        await socket.ping()
            if self._farewell is not None:
                await socket.close(self._farewell.code, self._farewell.reason)
                return  # nothing is written any more
        except WebSocketClosed:
            return  # the reader is told as well
        self._is_writing = False

    def _take(self) -> list[Push | Ping]:
        taken, self._queue = self._queue, []
        return taken

    def _written(self, n_chars: int) -> None:
        was_full = self._chars > MAX_QUEUED_CHARS
        self._chars -= n_chars
        if was_full and self._chars <= MAX_QUEUED_CHARS:
            self._room.pulse()


def event_of(message: str | bytes) -> Event:
    return Received(message) if isinstance(message, str) else Garbled("a binary frame")
