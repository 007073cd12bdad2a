"""A WebSocket as a channel of texts, either end; the libraries' exceptions stop here.

Theory of operation. trio-websocket makes the opening handshake (`net/ws_handshake.py`). Frames are read with wsproto,
the engine inside it (`net/ws_frames.py`), by the task that calls `receive`: trio-websocket's own reader task, queue and
locks cost as much per message as all the rest together, and hold memory for every idle link. So control frames are
answered while somebody receives, and only then. No extensions: permessage-deflate keeps hundreds of KiB for each
connection.
Source: RFC 6455, sections 5 and 7.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, NoReturn, Self

import trio
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from edge.net.dial import reason_of
from edge.net.http_head import HttpRequest
from edge.net.socket_stream import QuickStream
from edge.net.ws_frames import Frames
from edge.net.ws_handshake import HandshakeRefused, WebSocketClosed, answer, ask
from edge.scopes import goodbye

__all__ = ["HandshakeRefused", "WebSocket", "WebSocketClosed", "accept_websocket", "open_websocket"]

RECEIVE_BYTES = 65536
LEAVE_S = 1.0  # for the closing handshake
MAX_PIECES = 65536  # of one message: tiny fragments cost far more memory than they bring
MESSAGES = (str, TextMessage, BytesMessage)  # of what `Frames` gives
MESSAGES_PER_TURN = 64  # taken without waiting, before other tasks get a turn
NORMAL, GOING_AWAY = 1000, 1001  # the second one also of what is cancelled
NO_CODE = 1005  # RFC 6455 section 7.4.1: the close frame held none
LOST = 1006  # there was no close frame


class WebSocket:
    """One open WebSocket. One task may `receive`, any number may `send`; a message is never interleaved.

    `headers` are what the other end said in its handshake, names in lower case. `on_alive` is called, within
    `receive`, for each ping and pong; with the round trip's seconds if it is the answer to our last `ping`.
    After the first WebSocketClosed every call raises it again. Leaving its context closes it.
    """

    __slots__ = (
        "_closed",
        "_frames",
        "_has_failed",
        "_has_sent_close",
        "_is_half_written",
        "_limit",
        "_lock",
        "_n_bytes",
        "_nonces",
        "_parts",
        "_ping",
        "_pong_due",
        "_quick",
        "_rest",
        "_stream",
        "_taken",
        "headers",
        "is_behind",
        "on_alive",
    )

    def __init__(
        self, stream: trio.abc.Stream, frames: Frames, headers: Mapping[str, str], max_message_bytes: int
    ) -> None:
        self.headers = headers
        self.on_alive: Callable[[float | None], None] = ignore
        self.is_behind = False  # `try_send` has left something for `flush`
        self._stream = stream
        self._quick = stream if isinstance(stream, QuickStream) else None
        self._rest = b""  # of it, what the stream has not taken
        self._frames = frames
        self._limit = max_message_bytes
        self._lock: trio.Lock | None = None  # while somebody writes
        self._closed: WebSocketClosed | None = None
        self._has_sent_close = False
        self._has_failed = False  # the peer has
        self._is_half_written = False
        self._pong_due: bytes | None = None
        self._nonces = count(1)
        self._ping: tuple[bytes, float] | None = None  # the last one and when it was sent, until its pong
        self._parts: list[Any] = []  # of a message: all str or all bytes, wsproto lets none change its kind
        self._n_bytes = 0
        self._taken = 0  # messages since the last checkpoint

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.leave(NORMAL if kind is None else GOING_AWAY)

    async def receive(self) -> str | bytes:
        """The next message: a text, or bytes of a binary frame. Raises: WebSocketClosed."""
        self._taken += 1
        if self._taken >= MESSAGES_PER_TURN:
            self._taken = 0
            await trio.lowlevel.checkpoint()
        while True:
            self._check_open()
            while (found := self._frames.next()) is not None:
                if not isinstance(found, MESSAGES):
                    await self._control(found)
                    continue
                if self._has_sent_close:
                    continue  # only the peer's own close frame matters now
                message = found if isinstance(found, str) else await self._add(found)
                if message is not None:
                    return message
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                raise self._lost(exc) from exc
            self._taken = 0
            if not data:
                raise self._end(LOST, "the connection ended without a goodbye")
            self._frames.feed(bytes(data))

    async def send(self, text: str) -> None:
        """One text message; no checkpoint if the kernel takes it at once.

        Cancelled within a frame, it leaves a WebSocket that cannot be used any more. Raises: WebSocketClosed.
        """
        await self._write(text)

    def try_send(self, text: str) -> bool:
        """`send` in the caller's own step; False, with nothing done, where it would have to wait.

        If `is_behind` then, `flush` must follow.
        """
        if self._quick is None or self._closed is not None or self._has_sent_close or self._is_half_written:
            return False
        if self.is_behind or self._pong_due is not None or self._lock is not None:
            return False
        data = self._frames.text(text)
        try:
            sent = self._quick.try_send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False  # `send` says why
        if not sent:
            return False
        if sent < len(data) or self._quick.has_unsent:
            self.is_behind, self._rest = True, data[sent:]
        return True

    async def flush(self) -> None:
        """What `try_send` left. Raises: WebSocketClosed."""
        await self._write(None)

    async def ping(self) -> None:
        """Ask for a sign of life; does not wait for it: see `on_alive`. Raises: WebSocketClosed."""
        payload = b"%d" % next(self._nonces)
        self._ping = (payload, trio.current_time())
        await self._write(Ping(payload=payload))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; more than once does no harm. Does not wait: `receive` gives no more messages, and raises
        once the peer has said so too."""
        if self._closed is None and not self._has_sent_close:
            with suppress(WebSocketClosed):  # it is what was wanted
                await self._write(CloseConnection(code=code, reason=reason))

    async def leave(self, code: int) -> None:
        """The end, in an orderly way if that takes no longer than `LEAVE_S`."""
        with goodbye(LEAVE_S):
            await self.close(code)
            with suppress(WebSocketClosed):
                while True:
                    await self.receive()
            # A peer that broke the rules has to read why: closing with bytes unread would reset the connection.
            if self._has_failed:
                await self._discard()
            await self._stream.aclose()
        await trio.aclose_forcefully(self._stream)  # never waits; does nothing if it has been closed above

    # -- reading

    async def _add(self, event: TextMessage | BytesMessage) -> str | bytes | None:
        """The message, if `event` completes it. Raises: WebSocketClosed."""
        piece: Any = event.data if isinstance(event.data, str) else bytes(event.data)
        self._n_bytes += size_of(piece)
        if self._n_bytes > self._limit:
            await self._fail(1009, f"message over {self._limit} bytes")
        if len(self._parts) >= MAX_PIECES:
            await self._fail(1009, "message in too many pieces")
        if not event.message_finished:
            self._parts.append(piece)
            return None
        message: str | bytes = piece[:0].join([*self._parts, piece]) if self._parts else piece
        self._parts.clear()
        self._n_bytes = 0
        return message

    async def _control(self, event: Event) -> None:
        """Raises: WebSocketClosed for a close frame, and for what wsproto says is none of RFC 6455."""
        if isinstance(event, Ping):
            self.on_alive(None)
            self._pong_due = bytes(event.payload)
            # Whoever writes just now sends it as well: waiting for them, we would not read.
            if self._lock is None and not self.is_behind and not self._has_sent_close:
                await self._write(None)
        elif isinstance(event, Pong):
            rtt_s = None
            if self._ping is not None and self._ping[0] == event.payload:
                rtt_s = trio.current_time() - self._ping[1]
                self._ping = None
            self.on_alive(rtt_s)
        elif isinstance(event, CloseConnection):
            code, reason = int(event.code), event.reason or ""
            if self._frames.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                await self._fail(code, reason)  # not the peer's words, but wsproto's, of a frame that is none
            must_answer = self._frames.state is ConnectionState.REMOTE_CLOSING
            closed = self._end(code, reason)  # nobody else writes from now on
            if must_answer:
                with trio.move_on_after(LEAVE_S), suppress(WebSocketClosed):
                    await self._write(event.response())
            raise closed

    async def _fail(self, code: int, reason: str) -> NoReturn:
        """The peer broke the rules: say so, and end. Raises: WebSocketClosed."""
        self._has_failed = True
        with trio.move_on_after(LEAVE_S):
            await self.close(code, reason)
        raise self._end(code, f"the peer broke a rule: {reason}")

    async def _discard(self) -> None:
        try:
            while await self._stream.receive_some(RECEIVE_BYTES):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    # -- writing

    async def _write(self, event: Event | str | None) -> None:
        """A text or an event, and the pong that is due. Raises: WebSocketClosed."""
        lock = self._lock
        if lock is None:
            lock = self._lock = trio.Lock()
            lock.acquire_nowait()
        else:
            await lock.acquire()
        try:
            is_goodbye = isinstance(event, CloseConnection)
            if not is_goodbye:
                self._check_open()
            if self._has_sent_close:
                raise WebSocketClosed(1000, "we have said goodbye")
            if self.is_behind:
                rest, self._rest = self._rest, b""
                await self._send_all(rest)
                self.is_behind = False
            if event is not None:
                self._has_sent_close = is_goodbye
                frames = self._frames
                await self._send_all(frames.text(event) if isinstance(event, str) else frames.send(event))
            while self._pong_due is not None and not self._has_sent_close:
                payload, self._pong_due = self._pong_due, None
                await self._send_all(self._frames.send(Pong(payload=payload)))
        finally:
            lock.release()
            if not lock.locked():  # nobody has been waiting for it
                self._lock = None

    async def _send_all(self, data: bytes) -> None:
        if self._is_half_written:
            raise self._end(LOST, "a message was cut off half-way")
        self._is_half_written = True
        try:
            sent = 0 if self._quick is None else self._quick.try_send(data)
            if sent < len(data) or (self._quick is not None and self._quick.has_unsent):
                await self._stream.send_all(memoryview(data)[sent:])
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._lost(exc) from exc
        self._is_half_written = False

    # -- the end

    def _check_open(self) -> None:
        if self._closed is not None:
            raise WebSocketClosed(self._closed.code, self._closed.reason)

    def _lost(self, exc: trio.BrokenResourceError | trio.ClosedResourceError) -> WebSocketClosed:
        if isinstance(exc, trio.ClosedResourceError):
            return self._end(LOST, "the connection was closed")
        return self._end(LOST, f"the connection was lost: {reason_of(exc)}")

    def _end(self, code: int, reason: str) -> WebSocketClosed:
        """The first end is the one that is told."""
        if self._closed is None:
            self._closed = WebSocketClosed(code, reason)
        return WebSocketClosed(self._closed.code, self._closed.reason)


@asynccontextmanager
async def open_websocket(
    stream: trio.abc.Stream,
    *,
    host: str,
    target: str,
    headers: Mapping[str, str],
    max_message_bytes: int,
    timeout_s: float,
) -> AsyncIterator[WebSocket]:
    """A client's WebSocket on a fresh connection, which is closed in every case. `host` is the Host field.

    Raises: HandshakeRefused; WebSocketClosed if no answer came within `timeout_s`, or none that can be used.
    """
    try:
        try:
            with trio.fail_after(timeout_s):
                shaken = await ask(stream, host=host, target=target, headers=headers)
        except trio.TooSlowError as exc:
            raise WebSocketClosed(
                LOST, f"no answer to the WebSocket handshake within {timeout_s:g} s"
            ) from exc
        frames = Frames(is_client=True, limit=max_message_bytes, rest=shaken.rest)
        async with WebSocket(stream, frames, shaken.headers, max_message_bytes) as websocket:
            yield websocket
    finally:
        await trio.aclose_forcefully(stream)  # never waits; does nothing if it was closed in an orderly way


async def accept_websocket(
    stream: trio.abc.Stream, head: HttpRequest, *, headers: Mapping[str, str], max_message_bytes: int
) -> WebSocket:
    """A server's WebSocket on a connection (`Reply.take_over`) whose request `head` asks for one.

    It is to be entered. `headers` go into our answer. Raises: HandshakeRefused, when 400 or 426 was answered:
    `head` is no handshake.
    """
    await answer(stream, head, headers=headers)
    frames = Frames(is_client=False, limit=max_message_bytes)
    return WebSocket(stream, frames, head.headers, max_message_bytes)


def size_of(piece: str | bytes) -> int:
    return len(piece) if isinstance(piece, bytes) or piece.isascii() else len(piece.encode())


def ignore(rtt_s: float | None) -> None:
    """Nobody wants to know."""
