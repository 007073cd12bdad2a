"""The opening handshake of a WebSocket, either end, by trio-websocket.

Theory of operation. trio-websocket is shown a `Doorway` in place of the stream: of what arrives it sees one head and
nothing after it. Once that is answered, it is let go with its reader task and its queue, and the stream belongs to
`net/websocket.py`, with not a byte lost. An answer that is no 101 never gets there: it is read by our own HTTP reader,
bounded, whatever it looks like. Source: RFC 6455, section 4; trio-websocket 0.12.2.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import h11
import trio
from trio_websocket import wrap_client_stream, wrap_server_stream
from wsproto.utilities import ProtocolError as WsProtocolError

from edge.errors import EdgeError, LocalProtocolError, RemoteProtocolError
from edge.net.dial import reason_of
from edge.net.http_body import Answer
from edge.net.http_head import HEAD_END, HttpRequest

MAX_HEAD_BYTES = 32 * 1024
MAX_BODY_BYTES = 4096  # kept of a refusal's body: it is for a log line
BODY_S = 2.0  # a refusal's body may take this long; its status is told in any case
SWITCHED = re.compile(rb"HTTP/1\.1 101[ \r]")
NEEDED = ("connection", "upgrade", "sec-websocket-key", "sec-websocket-version")
LISTS = frozenset({"connection", "upgrade"})  # fields that may come more than once

Headers = Mapping[str, str]


class HandshakeRefused(EdgeError):
    """An HTTP answer in place of the switch; `headers` have names in lower case, `body` is its beginning."""

    def __init__(self, status: int, headers: Headers, body: str) -> None:
        super().__init__(f"the WebSocket handshake was answered {status}")
        self.status = status
        self.headers = headers
        self.body = body


class WebSocketClosed(EdgeError):
    """There is no WebSocket, or no longer one. `code` is 1006 where no close frame came or went."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"WebSocket closed with {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class Shaken(NamedTuple):
    """A handshake that went well: the other end's header fields, and what came after its head."""

    headers: dict[str, str]
    rest: bytes


class Doorway(trio.abc.Stream):
    """A stream for the time of the handshake. What goes wrong is kept here, and ends `scope`."""

    def __init__(self, stream: trio.abc.Stream, scope: trio.CancelScope, head: bytes = b"") -> None:
        self.received = b""
        self.sent = b""
        self.has_ended = False
        self.reason = "the connection ended during the WebSocket handshake"
        self._stream = stream
        self._scope = scope
        self._head = head  # a server's: it has been read already
        self._is_read = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._is_read:
            self._is_read = True
            if self._head:
                return self._head
            await self._read_head()
            end = self.received.find(HEAD_END) + len(HEAD_END)
            if SWITCHED.match(self.received) and end >= len(HEAD_END):
                head, self.received = self.received[:end], self.received[end:]
                return head
            self._scope.cancel()
        await trio.sleep_forever()
        raise AssertionError("it sleeps until it is cancelled")

    async def _read_head(self) -> None:
        while HEAD_END not in self.received and len(self.received) <= MAX_HEAD_BYTES:
            try:
                data = await self._stream.receive_some(MAX_HEAD_BYTES)
            except trio.BrokenResourceError as exc:
                self.reason = f"{self.reason}: {reason_of(exc)}"
                data = b""
            if not data:
                self.has_ended = True
                return
            self.received += data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            self.has_ended = True
            self._scope.cancel()
            await trio.sleep_forever()
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """trio-websocket gives up; whose stream it is closes it."""
        self._scope.cancel()
        await trio.lowlevel.checkpoint()


async def ask(stream: trio.abc.Stream, *, host: str, target: str, headers: Headers) -> Shaken:
    """The client's part. Raises: HandshakeRefused, WebSocketClosed, LocalProtocolError."""
    fields = [(encoded(name), encoded(value)) for name, value in headers.items()]
    accepted: tuple[tuple[bytes, bytes], ...] | None = None
    is_bad = False
    try:
        async with trio.open_nursery() as nursery:
            doorway = Doorway(stream, nursery.cancel_scope)
            connection = await wrap_client_stream(
                nursery,
                doorway,  # type: ignore[arg-type]  # it asks nothing of a stream but what all of them have
                host,
                target,
                extra_headers=fields,
            )
            accepted = connection.handshake_headers
            nursery.cancel_scope.cancel()
    except* (h11.LocalProtocolError, WsProtocolError) as group:
        if not doorway.sent:
            raise LocalProtocolError("a request field holds what HTTP cannot carry") from group
        is_bad = True  # trio-websocket trips over its own refusal of a bad 101
    if accepted is not None:
        return Shaken(joined(accepted), doorway.received)
    if is_bad:
        raise WebSocketClosed(1002, "the answer to the WebSocket handshake breaks its rules")
    if not doorway.received:
        raise WebSocketClosed(1006, doorway.reason)
    raise await refusal_in(stream, doorway)


async def refusal_in(stream: trio.abc.Stream, doorway: Doorway) -> HandshakeRefused | WebSocketClosed:
    """What the answer says that is no switch."""
    said, body, has_ended = Answer("GET"), b"", doorway.has_ended
    try:
        with trio.move_on_after(BODY_S):
            body = said.feed(doorway.received)
            while not said.is_complete and not has_ended and len(body) < MAX_BODY_BYTES:
                data = await stream.receive_some(MAX_BODY_BYTES)
                body += said.feed(bytes(data))
                has_ended = not data
    except (RemoteProtocolError, trio.BrokenResourceError):
        pass  # its body was cut off, or its head cannot be read
    if not said.status:
        reason = doorway.reason if doorway.has_ended else "the answer to the WebSocket handshake is not HTTP"
        return WebSocketClosed(1006, reason)
    return HandshakeRefused(said.status, said.fields, body[:MAX_BODY_BYTES].decode("utf-8", "replace"))


async def answer(stream: trio.abc.Stream, head: HttpRequest, *, headers: Headers) -> None:
    """The server's part, for a request whose head has been read from `stream`: 101, or 400 or 426.

    Raises: HandshakeRefused after a refusal was written; WebSocketClosed, LocalProtocolError.
    """
    fields = [(encoded(name), encoded(value)) for name, value in headers.items()]
    has_accepted = False
    try:
        async with trio.open_nursery() as nursery:
            doorway = Doorway(stream, nursery.cancel_scope, rebuilt(head))
            request = await wrap_server_stream(nursery, doorway)
            await request.accept(extra_headers=fields)
            has_accepted = True
            nursery.cancel_scope.cancel()
    except* (h11.LocalProtocolError, WsProtocolError) as group:
        raise LocalProtocolError("a response field holds what HTTP cannot carry") from group
    if doorway.has_ended or not doorway.sent:
        raise WebSocketClosed(1006, doorway.reason)
    if not has_accepted:
        raise HandshakeRefused(int(doorway.sent[9:12]), {}, "")


def rebuilt(head: HttpRequest) -> bytes:
    """What of a head is about the handshake. Neither subprotocols nor extensions are agreed to here."""
    lines = ["GET / HTTP/1.1", "Host: localhost"]
    for name in NEEDED:
        value = head.headers.get(name, "")
        if value and value.isascii() and (name in LISTS or name not in head.repeated):
            lines.append(f"{name}: {value}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")


def encoded(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as exc:
        raise LocalProtocolError("a header field holds what HTTP cannot carry") from exc


def joined(fields: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
