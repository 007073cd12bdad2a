"""The bytes of one HTTP connection, and what all connections of one listener share.

A `Wire` never raises for a client that vanished: reading gives b"", writing sets `gone`. A client that stops
reading is cut off after `write_timeout_s` without progress, so it holds no more than the socket's buffers and
one pending write.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import trio

from edge.metrics import Metrics
from edge.net.handshakes import Handshakes
from edge.net.socket_stream import RECEIVE_BYTES, QuickStream
from edge.net.tls_stream import PIECE_BYTES as TLS_PIECE_BYTES
from edge.net.tls_stream import TlsStream
from edge.scopes import goodbye

PIECE_BYTES = 65536  # of a write that has to wait: each piece is progress that earns a new time limit
LINGER_BYTES = 16 * 1024 * 1024
LINGER_S = 5.0
NOTHING = memoryview(b"")
LAST_REQUEST_S = 5.0  # for a request that is under way to a listener that gives way to another
FIRST_REQUEST_S = 1.0  # the same to one that ends, for the first one of a connection
NEXT_REQUEST_S = 0.1  # and for any other: its client has to allow for that a quiet connection ends


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one client may take of us."""

    max_body_bytes: int
    max_head_bytes: int = 32768
    head_timeout_s: float = 20.0  # from the first byte to the end of the head; for a TLS handshake as well
    body_timeout_s: float = 60.0  # for the whole body
    idle_timeout_s: float = 75.0  # between requests
    write_timeout_s: float = 30.0  # without the client taking anything


class Connections:
    """The open connections of one listener: `drain` tells those that wait from those that work."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.finishing = False  # each answer is the last one of its connection
        self.open = 0
        self.requests = 0
        self.tls_failures = 0
        self.handshakes = Handshakes(self.metrics)
        self._has_mistaken_tls = False
        self._first_s = self._next_s = float("inf")  # how long it may take until a request begins
        self.idle: dict[
            trio.CancelScope, bool
        ] = {}  # no request begun; longest idle first; whether one was before
        self.streams: set[trio.CancelScope] = set()  # calls of `Reply.wait_gone`

    def is_first_to_mistake_tls(self) -> bool:
        """Whether no client before this one has spoken TLS where it is not spoken, or the other way round: who does
        that does it again and again."""
        is_first, self._has_mistaken_tls = not self._has_mistaken_tls, True
        return is_first

    def drain(self) -> None:
        """Event streams end, requests are finished, and then their connections close.

        So do idle ones, in a moment: a request may be under way to us, most likely from a client that has just come.
        """
        self._finish(FIRST_REQUEST_S, NEXT_REQUEST_S)

    def finish(self) -> None:
        """As `drain`, but what is idle may ask once more within LAST_REQUEST_S.

        For connections that have a successor to go to; it takes longer than `drain` by that time.
        """
        self._finish(LAST_REQUEST_S, LAST_REQUEST_S)

    def _finish(self, first_s: float, next_s: float) -> None:
        self.finishing = True
        self._first_s, self._next_s = min(self._first_s, first_s), min(self._next_s, next_s)
        now = trio.current_time()
        for scope, has_asked in self.idle.items():
            scope.deadline = min(scope.deadline, now + self.patience_s(has_asked))
        for scope in self.streams:
            scope.cancel()

    def patience_s(self, has_asked: bool) -> float:
        """How long a connection may stay idle; infinite while more than one request may come over it."""
        return self._next_s if has_asked else self._first_s

    def evict_idle(self) -> bool:
        """Close the connection that has been idle for longest; False if none is."""
        for scope in self.idle:
            del self.idle[scope]
            scope.cancel()
            return True
        return False


class Wire:
    """One connection's stream, owned by its `serve_connection`. `rest`: bytes received and not used yet."""

    __slots__ = (
        "_connections",
        "_is_behind",
        "_limit_s",
        "_quick",
        "_unsent",
        "gone",
        "is_cut",
        "rest",
        "stream",
    )

    def __init__(self, stream: trio.abc.Stream, write_timeout_s: float, connections: Connections) -> None:
        self.stream = stream
        self.rest = b""
        self.gone = False  # nothing more can be written
        self.is_cut = False  # what was read ended without an orderly end
        self._quick = stream if isinstance(stream, QuickStream) else None
        self._limit_s = write_timeout_s
        self._is_behind = False  # `flush` has something to do
        self._unsent = NOTHING
        self._connections = connections

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end, however it came."""
        try:
            return bytes(await self.stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.is_cut = True
            return b""

    async def send(self, data: bytes) -> None:
        """All of `data`, or `gone`. No checkpoint if the kernel takes it at once."""
        if self.gone:
            return
        if self._quick is None:
            await self._send_slowly(memoryview(data))
            return
        self.send_at_once(data)
        if self._is_behind:
            await self.flush()

    def may_send_at_once(self, n_bytes: int) -> bool:
        """Whether `send_at_once` can be used: only for what a socket's buffer has room for."""
        return self._quick is not None and n_bytes <= PIECE_BYTES

    def send_at_once(self, data: bytes) -> None:
        """What the kernel takes of `data`, now; the rest waits for `flush`, which must follow."""
        assert self._quick is not None
        if self.gone:
            return
        try:
            sent = self._quick.try_send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.gone = True
            return
        if sent < len(data) or self._quick.has_unsent:
            self._is_behind = True
            self._unsent = memoryview(data)[sent:]

    async def flush(self) -> None:
        """All that `send_at_once` left, or `gone`. No checkpoint if it left nothing."""
        if self._is_behind:
            unsent, self._unsent, self._is_behind = self._unsent, NOTHING, False
            await self._send_slowly(unsent)

    async def _send_slowly(self, view: memoryview) -> None:
        is_sent = False
        size = TLS_PIECE_BYTES if isinstance(self.stream, TlsStream) else PIECE_BYTES
        with trio.CancelScope() as scope:
            try:
                for start in range(0, len(view) or 1, size):  # once for nothing: the stream has some left
                    scope.deadline = trio.current_time() + self._limit_s
                    await self.stream.send_all(view[start : start + size])
                is_sent = True
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                if not is_sent:  # cancelled half-way: what would follow could not be understood
                    self.gone = True
        if scope.cancelled_caught:
            self._connections.metrics.write_timeouts += 1
            await self.abort()

    async def abort(self) -> None:
        """Cut the connection; the client sees a reset where the transport has one. Never waits."""
        self.gone = True
        if self._quick is not None:
            self._quick.abort()
        await trio.aclose_forcefully(self.stream)

    async def linger(self, seconds: float = LINGER_S) -> None:
        """Say that we are done, and discard what the client still sends (bounded): closing with bytes unread
        would reset the connection, and the client might never see our answer."""
        with trio.move_on_after(seconds):
            if isinstance(self.stream, trio.abc.HalfCloseableStream):  # TLS is not
                try:
                    await self.stream.send_eof()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
            discarded = 0
            while discarded < LINGER_BYTES and (data := await self.receive()):
                discarded += len(data)

    async def close(self) -> None:
        """Close in an orderly way: TLS says goodbye, which may take a moment."""
        with goodbye(1.0):
            await self.stream.aclose()


class TakenStream(QuickStream):
    """A connection's stream in its handler's hands; what was received too early comes first.

    Writing is limited as for answers: a client that takes nothing for the write time-out is cut off. No checkpoint
    where the kernel takes it all at once. One task may read while another writes.
    """

    __slots__ = ("_quick", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._quick = wire.stream if isinstance(wire.stream, QuickStream) else None

    @property
    def has_unsent(self) -> bool:
        return self._quick is not None and self._quick.has_unsent

    def try_send(self, data: bytes | bytearray | memoryview) -> int:
        if self._wire.gone:
            raise trio.BrokenResourceError("the client left or stopped reading")
        return 0 if self._quick is None else self._quick.try_send(data)

    def receive_some(self, max_bytes: int | None = None) -> Coroutine[Any, Any, bytes | bytearray]:
        """To be awaited at once."""
        most = RECEIVE_BYTES if max_bytes is None else max_bytes
        if self._wire.rest:
            return self._receive_rest(most)
        return self._wire.stream.receive_some(most)  # without a frame for us

    async def _receive_rest(self, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        wire = self._wire
        data, wire.rest = wire.rest[:most], wire.rest[most:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._wire.send(data if isinstance(data, bytes) else bytes(data))
        if self._wire.gone:
            raise trio.BrokenResourceError("the client left or stopped reading")

    async def wait_send_all_might_not_block(self) -> None:
        await self._wire.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._wire.stream.aclose()

    def abort(self) -> None:
        if self._quick is not None:
            self._quick.abort()
