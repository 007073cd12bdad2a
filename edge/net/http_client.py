"""The HTTP client of the hot path: a keep-alive pool for one origin, one request at a time per connection.

    with pool.exchange() as exchange:
        await exchange.send("POST", target, fields, body)
        exchange.status, exchange.fields, await exchange.read_all(limit)

Leaving the block gives the connection back if the answer was read to its end, and closes it otherwise, so a
cancelled request ends its connection. The pool is LIFO and has no lock: nothing is awaited between looking
and taking. A connection is looked at before it is used again; a request that was written is never written
twice unless its method says that this does no harm. Redirects are the caller's to refuse.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import trio

from edge import __version__
from edge.errors import Gone, LocalProtocolError, RemoteProtocolError, Unavailable
from edge.net.http_body import Answer
from edge.net.wire import Dial, Wire

USER_AGENT = f"mcp-edge/{__version__}"
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})  # RFC 9110, section 9.2.2
MAX_IDLE = 64
IDLE_S = 4.0  # common servers end an idle connection after 5 s: stay below, or we write into a closing door
LONGEST_IDLE_S = 60.0
LINGER_S = 1.0  # how long an answer that is no longer wanted may take to end
TAIL_S = 0.05  # and to be read once its end is there


class BadAnswer(Gone):
    """What came back is no answer that can be used: broken HTTP, too long, or without what was asked for."""


class Origin(NamedTuple):
    """Where a pool connects to; `authority` is the Host field."""

    host: str
    port: int
    is_tls: bool
    authority: str


def split_url(url: str) -> tuple[Origin, str]:
    """The origin and the request target of an http or https URL; ValueError if it is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https URL")
    is_tls = parts.scheme == "https"
    usual_port = 443 if is_tls else 80
    port = usual_port if parts.port is None else parts.port
    host = parts.hostname
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    name = f"[{host}]" if ":" in host else host
    target = parts.path or "/"
    if parts.query:
        target = f"{target}?{parts.query}"
    return Origin(host, port, is_tls, name if port == usual_port else f"{name}:{port}"), target


def encode_head(method: str, target: str, fields: dict[str, str], n_bytes: int) -> bytes:
    """A request's head. Raises LocalProtocolError if a field would break out of its line."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    if n_bytes or method == "POST":
        lines.append(f"Content-Length: {n_bytes}")
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        raise LocalProtocolError("a request field holds a line break")
    try:
        return f"{text}\r\n\r\n".encode("latin-1")
    except UnicodeEncodeError as exc:
        raise LocalProtocolError("a request field holds what HTTP cannot carry") from exc


class Connection:
    """One connection, and what it is in the middle of."""

    __slots__ = ("answer", "is_new", "until", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.answer: Answer | None = None  # the present or the last one
        self.until = 0.0  # while idle: when it is to be closed
        self.is_new = True


class HttpPool:
    """Connections to one origin: at most `max_open` in use and MAX_IDLE waiting.

    `keep_tidy` closes what has been idle for too long; run it beside the users of the pool.
    """

    def __init__(self, server: str, origin: Origin, dial: Dial, *, max_open: int) -> None:
        self.server = server
        self.host_field = {"Host": origin.authority}
        self._dial = dial
        self._max_open = max_open
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._opening = 0
        self._closed = trio.Event()
        self._has_idle = trio.Event()
        self._answers_end = True  # False once an answer lingered: then unfinished ones are closed at once

    @property
    def open_count(self) -> int:
        return len(self._busy) + self._opening

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    def is_closed(self) -> bool:
        return self._closed.is_set()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def exchange(self, between: Callable[[], Awaitable[None]] | None = None) -> "Exchange":
        """One request and its answer.

        `between` is awaited before each wait for bytes, and again whenever `Exchange.interrupt` ends a wait.
        """
        return Exchange(self, between)

    async def take(self, *, fresh: bool) -> Connection:
        """A connection that is good as far as one can see, the one used last first, or else a new one."""
        if self.is_closed():
            raise Unavailable(self.server, "the connection pool is closed")
        if self.open_count >= self._max_open:
            raise Unavailable(self.server, f"{self._max_open} connections are in use")
        self._opening += 1
        try:
            connection = await self._take_idle() if self._idle and not fresh else None
            if connection is None:
                connection = Connection(await self._dial())
        finally:
            self._opening -= 1
        self._busy.add(connection)
        if self.is_closed():
            self.release(connection, may_linger=False)
            raise Unavailable(self.server, "the connection pool is closed")
        return connection

    async def _take_idle(self) -> Connection | None:
        """Checkpoints only where an answer's end is still to be read."""
        now = trio.current_time()
        for at in range(len(self._idle) - 1, -1, -1):
            connection = self._idle[at]
            is_readable = connection.wire.is_readable()
            if connection.answer is not None and not connection.answer.is_complete:
                if not is_readable and not connection.wire.may_hide:
                    continue  # it has until `until`
                del self._idle[at]
                if await self._read_tail(connection, connection.answer):
                    return connection
                return None
            del self._idle[at]
            if connection.until > now and not is_readable:
                return connection
            connection.wire.close()
        return None

    async def _read_tail(self, connection: Connection, answer: Answer) -> bool:
        """The rest of an answer that nobody waits for: whether it ended, and the connection is still good."""
        is_good = False
        with trio.move_on_after(TAIL_S):
            try:
                answer.feed(await connection.wire.receive())
                is_good = answer.is_reusable and not connection.wire.is_readable()
            except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
                is_good = False
            finally:
                if not is_good:
                    connection.wire.close()
        if not answer.is_complete:
            self._answers_end = False
        return is_good

    def release(self, connection: Connection, *, may_linger: bool) -> None:
        """Take back a connection: to wait if it can be used again, else to be closed."""
        self._busy.discard(connection)
        answer = connection.answer
        if answer is not None and not self.is_closed() and len(self._idle) < MAX_IDLE:
            now = connection.until = trio.current_time()
            if answer.is_reusable:
                connection.until = now + idle_s(answer.fields.get("keep-alive"))
            elif may_linger and not answer.is_complete and self._answers_end:
                connection.until = now + LINGER_S
            if connection.until > now:
                connection.is_new = False
                self._idle.append(connection)
                if len(self._idle) == 1:
                    self._has_idle.set()
                return
        connection.wire.close()

    async def keep_tidy(self) -> None:
        """Close what has waited for too long; never returns."""
        while True:
            if not self._idle:
                self._has_idle = trio.Event()
                await self._has_idle.wait()
            await trio.sleep(LINGER_S)
            now = trio.current_time()  # no checkpoint until the list is in order
            kept: list[Connection] = []
            for connection in self._idle:
                if connection.until > now:
                    kept.append(connection)
                    continue
                answer = connection.answer
                if answer is not None and not answer.is_complete and not connection.wire.may_hide:
                    self._answers_end = connection.wire.is_readable()
                connection.wire.close()
            self._idle[:] = kept

    def close(self) -> None:
        """Close every connection; exchanges under way end with Gone."""
        self._closed.set()
        for connection in [*self._idle, *self._busy]:
            connection.wire.close()
        self._idle.clear()


def idle_s(keep_alive: str | None) -> float:
    """How long to keep a connection, from the server's Keep-Alive field (`timeout=5, max=100`)."""
    for parameter in (keep_alive or "").split(","):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "timeout" and value.isascii() and value.isdigit() and len(value) < 10:
            return min(LONGEST_IDLE_S, int(value) - 1.0)
    return IDLE_S


class Exchange:
    """One request on a connection of the pool, and its answer. Use it as a context; see the module's top.

    Raises: Unavailable (certainly not written), Gone (written, and lost before the answer's end), BadAnswer.
    """

    __slots__ = (
        "_answer",
        "_between",
        "_connection",
        "_is_done",
        "_pending",
        "_pool",
        "_waiting",
        "is_written",
    )

    def __init__(self, pool: HttpPool, between: Callable[[], Awaitable[None]] | None) -> None:
        self._pool = pool
        self._between = between
        self._waiting: trio.CancelScope | None = None
        self._connection: Connection | None = None
        self._answer = Answer("GET")
        self._pending = b""
        self._is_done = False
        self.is_written = False  # something of the request may have reached the server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._pool.release(self._connection, may_linger=self._is_done and kind is None)
            self._connection = None

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def fields(self) -> dict[str, str]:
        """The answer's fields by their names in lower case."""
        return self._answer.fields

    async def send(
        self,
        method: str,
        target: str,
        fields: dict[str, str],
        body: bytes = b"",
        *,
        may_repeat: bool = True,
    ) -> None:
        """Send the request and wait for the head of the answer, as long as the caller likes.

        A connection that was used before may end without an answer: then a request that changes nothing is sent once
        more over a new one. Not so if `may_repeat` is False: for a GET that takes something away.
        """
        data = encode_head(method, target, self._pool.host_field | fields, len(body)) + body
        connection = await self._open(method, fresh=False)
        while not await self._try(connection, data):
            is_harmless = not self.is_written or (may_repeat and method in REPEATABLE)
            self._drop(connection)
            if connection.is_new or not is_harmless:
                if self.is_written:
                    raise Gone(self._pool.server, "the connection ended before the answer came")
                raise Unavailable(self._pool.server, "the connection ended before the request was sent")
            self.is_written = False
            connection = await self._open(method, fresh=True)

    async def _open(self, method: str, *, fresh: bool) -> Connection:
        connection = await self._pool.take(fresh=fresh)
        self._connection = connection
        self._answer = connection.answer = Answer(method)
        return connection

    async def _try(self, connection: Connection, data: bytes) -> bool:
        """Write the request and read the answer's head; False if not one byte of that came."""
        self.is_written = True
        try:
            if not await connection.wire.send(data):
                self.is_written = False
                return False
        except trio.BrokenResourceError:
            pass  # a server may answer, and close, before it has read everything
        except trio.ClosedResourceError:
            return False
        chunk = await self._receive(connection)
        if not chunk:
            return False
        self._feed(chunk)
        while not self._answer.status:
            self._feed(await self._receive(connection))
        return True

    async def read(self) -> bytes:
        """Some of the body, b"" at its end."""
        connection = self._connection
        if connection is None:
            raise LocalProtocolError("no answer is being read")
        while not self._pending and not self._answer.is_complete:
            self._feed(await self._receive(connection))
        chunk, self._pending = self._pending, b""
        return chunk

    async def read_all(self, max_bytes: int) -> bytes:
        """The whole body; BadAnswer if it is longer than `max_bytes`."""
        length = self._answer.fields.get("content-length", "")
        if length.isdigit() and int(length) > max_bytes:
            raise BadAnswer(self._pool.server, f"the answer is over the limit of {max_bytes} bytes")
        chunks: list[bytes] = []
        n_bytes = 0
        while chunk := await self.read():
            chunks.append(chunk)
            n_bytes += len(chunk)
            if n_bytes > max_bytes:
                raise BadAnswer(self._pool.server, f"the answer is over the limit of {max_bytes} bytes")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def leave(self) -> None:
        """The rest of the answer is not wanted and expected to end soon: the connection may wait for that."""
        self._is_done = True

    def interrupt(self) -> None:
        """Have `between` awaited now, by the task that waits for bytes."""
        if self._waiting is not None:
            self._waiting.cancel()

    async def _receive(self, connection: Connection) -> bytes:
        try:
            if self._between is None:
                return await connection.wire.receive()
            while True:
                await self._between()  # no checkpoint until it waits
                with trio.CancelScope() as self._waiting:
                    return await connection.wire.receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def _feed(self, chunk: bytes) -> None:
        try:
            self._pending += self._answer.feed(chunk)
        except RemoteProtocolError as exc:
            if not chunk:
                raise Gone(self._pool.server, "the connection ended before the answer did") from exc
            raise BadAnswer(self._pool.server, f"not an HTTP answer: {exc}") from exc

    def _drop(self, connection: Connection) -> None:
        self._connection = None
        connection.answer = None
        self._pool.release(connection, may_linger=False)
