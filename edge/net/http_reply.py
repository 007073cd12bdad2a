"""The answer to one request: whole in one send, or an event stream written bit by bit."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import trio

from edge.errors import LocalProtocolError
from edge.net.http_wire import Connections, TakenStream, Wire

MAX_PIPELINED_BYTES = 65536  # kept of what a client sends while its event stream is open
FIELD_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
FIELD_VALUE = re.compile(r"[\t -~]*")
WITHOUT_BODY = frozenset({204, 304})

Fields = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Refusal:
    """An answer that says no."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


class DateField:
    """The Date field as bytes, made once a second."""

    __slots__ = ("_field", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._field = b""

    def at(self, wall: float) -> bytes:
        second = int(wall)
        if second != self._second:
            self._second = second
            self._field = f"Date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
        return self._field


DATE = DateField()


@lru_cache(maxsize=64)
def status_line(status: int, content_type: str) -> bytes:
    """Status line and the fields that depend on nothing else."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", "X-Content-Type-Options: nosniff"]
    if content_type:
        lines.append(f"Content-Type: {checked('Content-Type', content_type)}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def checked(name: str, value: str) -> str:
    """`value`, if it and `name` may stand in a head (no line ends). Raises: LocalProtocolError."""
    if not FIELD_NAME.fullmatch(name) or not FIELD_VALUE.fullmatch(value):
        raise LocalProtocolError(f"illegal response field {name!r}")
    return value


class Reply:
    """The answer to one request; a second task may write to the stream as well.

    Nothing here raises for a client that has left or has stopped reading: `gone` becomes true, and what is
    written then is dropped. Either `send`, or `start_stream`, `write`..., `finish`, or `take_over`.
    """

    __slots__ = (
        "_connections",
        "_is_chunked",
        "_is_head",
        "_is_http10",
        "_lock",
        "_muted",
        "_wire",
        "closes",
        "finished",
        "has_left",
        "started",
    )

    def __init__(
        self, wire: Wire, connections: Connections, *, is_head: bool, is_http10: bool, closes: bool
    ) -> None:
        self._wire = wire
        self._connections = connections
        self._is_head = is_head
        self._is_http10 = is_http10
        self._is_chunked = False
        self._muted = False  # HEAD: there is a stream's head, and nobody to write to
        self._lock: trio.Lock | None = None
        self.closes = closes  # the connection ends with this answer
        self.started = False
        self.finished = False
        self.has_left = False  # as `wait_gone` saw it: the client closed the connection in an orderly way

    @property
    def gone(self) -> bool:
        """The client left or stopped reading."""
        return self._muted or self._wire.gone

    async def send(
        self, status: int, body: bytes = b"", content_type: str = "application/json", headers: Fields = ()
    ) -> None:
        """The whole answer, in one send."""
        parts = [status_line(status, content_type if body else ""), DATE.at(time.time())]
        if status not in WITHOUT_BODY:
            parts.append(b"Content-Length: %d\r\n" % len(body))
        self._start(parts, headers)
        if not self._is_head and status not in WITHOUT_BODY:
            parts.append(body)
        self.finished = True
        data = b"".join(parts)
        del parts, body  # a client may be slow to take a big answer: it is kept once
        await self._wire.send(data)

    def try_send(
        self, status: int, body: bytes, content_type: str = "application/json", headers: Fields = ()
    ) -> bool:
        """`send` without waiting: False, with nothing done, where that cannot be. `flush` must follow."""
        if not self._wire.may_send_at_once(len(body)):
            return False
        parts = [
            status_line(status, content_type),
            DATE.at(time.time()),
            b"Content-Length: %d\r\n" % len(body),
        ]
        self._start(parts, headers)
        if not self._is_head:
            parts.append(body)
        self.finished = True
        self._wire.send_at_once(b"".join(parts))
        return True

    async def flush(self) -> None:
        """What the kernel had no room for in `try_send`."""
        await self._wire.flush()

    async def start_stream(self, headers: Fields = ()) -> None:
        """200 and an event stream: chunked, or to the end of the connection for HTTP/1.0."""
        self._is_chunked = not self._is_http10
        self.closes = self.closes or self._is_http10
        parts = [
            status_line(200, "text/event-stream"),
            DATE.at(time.time()),
            b"Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n",
        ]
        if self._is_chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        self._start(parts, headers)
        # No checkpoint until the lock is ours: whoever writes from now on comes after the head.
        self._lock = trio.Lock()
        self._lock.acquire_nowait()
        try:
            await self._wire.send(b"".join(parts))
        finally:
            self._lock.release()
        self._muted = self._is_head

    async def write(self, data: bytes) -> None:
        """`data` in one send. Dropped after `finish`: a keep-alive from another task may lose that race."""
        if not data or self.gone:
            return
        if self._lock is None:
            raise LocalProtocolError("written to a stream that was not started")
        async with self._lock:
            if not self.finished:
                await self._wire.send(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def finish(self) -> None:
        """The end of the stream. More than once does no harm."""
        if self._lock is None:
            raise LocalProtocolError("finished a stream that was not started")
        async with self._lock:
            if self.finished:
                return
            self.finished = True
            if self._is_chunked and not self.gone:
                await self._wire.send(b"0\r\n\r\n")

    async def wait_gone(self) -> None:
        """Returns when the client disconnects, or the listener drains: a stream must not hold that up.

        Reads the connection meanwhile; a client that pipelines more than is kept is treated as gone.
        """
        wire = self._wire
        with trio.CancelScope() as scope:
            self._connections.streams.add(scope)
            try:
                while not self.gone and not self._connections.finishing:
                    data = await wire.receive()
                    wire.rest += data
                    if not data or len(wire.rest) > MAX_PIPELINED_BYTES:
                        self.has_left = not data and not wire.is_cut
                        wire.gone = True
            finally:
                self._connections.streams.discard(scope)

    def take_over(self) -> TakenStream:
        """The connection itself, for another protocol than HTTP: the handler's until `handle` returns.

        It then closes. Its handler also ends it when the listener drains. Raises: LocalProtocolError.
        """
        if self.started:
            raise LocalProtocolError("a request is answered once")
        self.started = self.finished = self.closes = True
        return TakenStream(self._wire)

    def _start(self, parts: list[bytes], headers: Fields) -> None:
        """Ends the head in `parts`. Raises: LocalProtocolError, with nothing sent."""
        if self.started:
            raise LocalProtocolError("a request is answered once")
        for name, value in headers:
            parts.append(f"{name}: {checked(name, value)}\r\n".encode("ascii"))
        self.closes = self.closes or self._connections.finishing
        parts.append(b"Connection: close\r\n\r\n" if self.closes else b"\r\n")
        self.started = True
