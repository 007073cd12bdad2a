"""HTTP/1.1 on one connection: requests in, answers out, until one side has had enough.

Theory of operation. One task serves a connection for its whole life. One cancel scope stands around it, whose
deadline is moved from step to step: idle, head, body; while the handler works there is none. A request of the
usual shape is read by `usual_head`, every other by h11. What HTTP itself forbids is answered through
`Handler.refusal` and ends the connection, because where its next request begins can no longer be trusted.
Source: RFC 9112 (HTTP/1.1), sections 2.2, 3, 6, 7 and 9.
"""

import logging
from enum import Enum
from typing import Protocol

import trio

from edge.net.http_head import (
    HEAD_END,
    BadHttp,
    Head,
    HeadMemory,
    HttpRequest,
    careful_head,
    refuse_bare_lf,
)
from edge.net.http_reply import Refusal, Reply
from edge.net.http_wire import Connections, HttpLimits, Wire
from edge.net.tls_stream import TlsStream, is_plain_http

__all__ = [
    "Connections",
    "Handler",
    "HttpLimits",
    "HttpRequest",
    "Refusal",
    "Reply",
    "refuse_connection",
    "serve_connection",
]

DRAIN_BYTES = 65536  # of a refused request's body, read so that the connection can be kept
REFUSING_S = 1.0
PIECES_PER_TURN = 64  # of a chunked body, before other tasks get a turn
TLS_HANDSHAKE = 0x16  # the first byte of a client that speaks TLS, RFC 8446 section 5.1
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logging.getLogger("edge.http")


class Handler(Protocol):
    """Who answers the requests."""

    def admit(self, head: HttpRequest) -> Refusal | None:
        """Judge a request before its body is read; `body` is still empty."""

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        """Answer it. Whatever rises becomes 500, or cuts off an answer that has begun."""

    def refusal(self, status: int, text: str) -> Refusal:
        """The shape of what the HTTP layer itself has to say: 400, 408, 413, 431, 500, 501, 503, 505.

        Must not raise.
        """


class Phase(Enum):
    """What a connection is waiting for when its deadline passes."""

    HANDSHAKE = "TLS handshake"
    IDLE = "request"
    HEAD = "request head"
    BODY = "request body"
    HANDLING = "answer"


async def serve_connection(
    stream: trio.abc.Stream,
    handler: Handler,
    limits: HttpLimits,
    *,
    peer: str,
    connections: Connections | None = None,
) -> None:
    """The whole life of one connection; closes `stream` in every case. For TLS, `stream` is a `TlsStream`.

    Keep-alive and pipelining; `connections` is what it shares with the others of its listener. Cancelling it
    cuts the connection.
    """
    connections = connections or Connections()
    connection = ServerConnection(stream, handler, limits, peer, connections)
    connections.open += 1
    try:
        await connection.run()
    finally:
        connections.open -= 1
        connections.idle.pop(connection.scope, None)
        await trio.aclose_forcefully(stream)  # never waits; does nothing if it was closed in an orderly way


async def refuse_connection(stream: trio.abc.Stream, refusal: Refusal) -> None:
    """Answer a connection there is no room for, whatever it asks, and close it; some seconds at most."""
    connections = Connections()
    wire = Wire(stream, REFUSING_S, connections)
    reply = Reply(wire, connections, is_head=False, is_http10=False, closes=True)
    try:
        await reply.send(refusal.status, refusal.body, refusal.content_type, refusal.headers)
        await wire.linger(REFUSING_S)
    finally:
        await trio.aclose_forcefully(stream)  # never waits


class ServerConnection:
    """One connection, seen from the server."""

    __slots__ = (
        "_connections",
        "_handler",
        "_has_asked",
        "_heads",
        "_limits",
        "_lingers",
        "_peer",
        "_phase",
        "_wire",
        "scope",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        handler: Handler,
        limits: HttpLimits,
        peer: str,
        connections: Connections,
    ) -> None:
        self.scope = trio.CancelScope()
        self._wire = Wire(stream, limits.write_timeout_s, connections)
        self._handler = handler
        self._heads = HeadMemory()
        self._limits = limits
        self._peer = peer
        self._connections = connections
        self._phase = Phase.IDLE
        self._has_asked = False
        self._lingers = False  # the client may still be sending when we close

    async def run(self) -> None:
        with self.scope:
            if await self._shake_hands():
                await self._converse()
        if self.scope.cancelled_caught and self._phase in (Phase.HEAD, Phase.BODY):
            await self._refuse(self._handler.refusal(408, f"{self._phase.value} took too long"))
        if self._wire.gone:
            await self._wire.abort()
            return
        if self._lingers:
            await self._wire.linger()
        await self._wire.close()

    async def _shake_hands(self) -> bool:
        """False: no TLS could be agreed on."""
        if not isinstance(self._wire.stream, TlsStream):
            return True
        self._phase = Phase.HANDSHAKE
        self._wait_for(self._limits.head_timeout_s)
        self._connections.idle[self.scope] = False
        try:
            await self._wire.stream.transport.wait_readable()  # who says nothing takes nobody's turn
            async with self._connections.handshakes.turn(self._peer):
                await self._wire.stream.do_handshake()
        except trio.BrokenResourceError as exc:
            self._connections.tls_failures += 1
            if is_plain_http(exc.__cause__):
                if self._connections.is_first_to_mistake_tls():
                    log.info("a client speaks plain HTTP on a port with TLS", extra={"peer": self._peer})
                self._wire = Wire(
                    self._wire.stream.transport, self._limits.write_timeout_s, self._connections
                )
                await self._refuse(
                    self._handler.refusal(400, "this port speaks TLS: use https:// (or wss://)")
                )
                return False
            self._wire.gone = True
            log.debug("TLS handshake failed", extra={"peer": self._peer, "reason": str(exc.__cause__ or exc)})
            return False
        return True

    async def _converse(self) -> None:
        wait_s = self._limits.head_timeout_s  # a client that has just come has something to say
        while not self._wire.gone:
            reply: Reply | None = None
            try:
                head = await self._read_head(wait_s)
                if head is None:
                    return
                self._connections.requests += 1
                self._has_asked = True
                refusal = self._handler.admit(head.request)
                if refusal is None:
                    if head.body_bytes and not await self._read_body(head):
                        return
                    self._phase = Phase.HANDLING
                    reply = self._reply_to(head)
                    handling = self._handler.handle(head.request, reply)
                    del head  # it may be a long time: what a link's handler lets go of need not be kept here
                    await handling
                    await self._complete(reply)
                else:
                    reply = self._reply_to(head)
                    if not await self._skip_body(head, reply):
                        return
                    await reply.send(refusal.status, refusal.body, refusal.content_type, refusal.headers)
            except BadHttp as exc:
                log.debug("request refused", extra={"peer": self._peer, "reason": str(exc)})
                await self._refuse(self._handler.refusal(exc.status, str(exc)))
                return
            except Exception:
                # One of the two boundaries for bugs: they end a request, never the listener.
                log.exception("request failed", extra={"peer": self._peer})
                if reply is None:
                    await self._refuse(self._handler.refusal(500, "internal error"))
                    return
                if reply.started and not reply.finished:
                    self._wire.gone = True
                elif not reply.started:
                    await self._send(reply, self._handler.refusal(500, "internal error"))
            if reply.closes:
                return
            wait_s = self._limits.idle_timeout_s

    def _reply_to(self, head: Head) -> Reply:
        return Reply(
            self._wire,
            self._connections,
            is_head=head.is_head,
            is_http10=head.is_http10,
            closes=not head.keep_alive,
        )

    async def _complete(self, reply: Reply) -> None:
        """What a handler left open."""
        if not reply.started:
            if not reply.gone:
                log.error("request left without an answer", extra={"peer": self._peer})
                await self._send(reply, self._handler.refusal(500, "no answer"))
        elif not reply.finished:
            await reply.finish()

    # -- reading

    async def _read_head(self, wait_s: float) -> Head | None:
        """The next request's head, and no deadline any more; None if the client has gone or we drain."""
        wire = self._wire
        data = wire.rest
        if data:
            await trio.lowlevel.checkpoint()  # a client that pipelines must not keep the others waiting
        else:
            self._phase = Phase.IDLE
            self._wait_for(wait_s)
            idle = self._connections.idle
            idle[self.scope] = self._has_asked
            data = await wire.receive()
            idle.pop(self.scope, None)
            if not data:
                return None
        end = data.find(HEAD_END)
        if end < 0 or data.startswith(b"\r\n"):
            received = await self._rest_of_head(data)
            if received is None:
                return None
            data, end = received
        end += len(HEAD_END)
        if end > self._limits.max_head_bytes:
            raise BadHttp(431)
        self.scope.deadline = float("inf")
        if self.scope.cancel_called:  # the deadline passed, or we were evicted, as the bytes arrived
            return None
        wire.rest = data[end:]
        data = data[:end]
        return self._heads.read(data, self._peer) or careful_head(
            data, self._peer, max_head_bytes=self._limits.max_head_bytes
        )

    async def _rest_of_head(self, data: bytes) -> tuple[bytes, int] | None:
        """All that was received, and where in it the head ends; None if the client left."""
        self._phase = Phase.HEAD
        self._wait_for(self._limits.head_timeout_s)
        received = bytearray(data)
        seen = 0  # bytes that are known to hold neither the end nor a bare LF
        forgiven = False
        while True:
            if not forgiven and received.startswith(b"\r\n"):
                del received[:2]  # one empty line before a request, RFC 9112 section 2.2
                seen, forgiven = 0, True
            if received and received[0] < 0x21 and received != b"\r":
                if received[0] == TLS_HANDSHAKE and self._connections.is_first_to_mistake_tls():
                    log.info("a client speaks TLS on a port without it", extra={"peer": self._peer})
                raise BadHttp(400, "not HTTP; is this a TLS client on a port without TLS?")
            end = received.find(HEAD_END, max(0, seen - 3))
            if end >= 0:
                return bytes(received), end
            refuse_bare_lf(received, seen)
            seen = len(received)
            if seen > self._limits.max_head_bytes:
                raise BadHttp(431)
            data = await self._wire.receive()
            if not data:
                return None
            received += data

    async def _read_body(self, head: Head) -> bool:
        """Puts the body into the request; False if the client left. Raises: BadHttp."""
        wire, length, most = self._wire, head.body_bytes, self._limits.max_body_bytes
        if length > most:
            raise BadHttp(413, f"request body over {most} bytes")
        if 0 < length <= len(wire.rest):
            head.request.body = wire.rest[:length]
            wire.rest = wire.rest[length:]
            return True
        self._phase = Phase.BODY
        self._wait_for(self._limits.body_timeout_s)
        if head.wants_continue and not wire.rest:
            await wire.send(CONTINUE)
        body = await (self._read_chunked(head) if head.chunked else self._read_exactly(length))
        self.scope.deadline = float("inf")
        if body is None or self.scope.cancel_called:
            return False
        head.request.body = body
        return True

    async def _read_exactly(self, length: int) -> bytes | None:
        wire = self._wire
        pieces, missing = [wire.rest], length - len(wire.rest)
        while missing > 0:
            data = await wire.receive()
            if not data:
                return None
            pieces.append(data)
            missing -= len(data)
        received = b"".join(pieces)
        wire.rest = received[length:]
        return received[:length]

    async def _read_chunked(self, head: Head) -> bytes | None:
        assert head.chunked is not None
        chunked, wire, most = head.chunked, self._wire, self._limits.max_body_bytes
        body = bytearray()
        turns = 0
        if wire.rest:
            chunked.feed(wire.rest)
        while not chunked.is_complete:
            piece = chunked.take()
            if piece is not None:
                body += piece
                if len(body) > most:
                    raise BadHttp(413, f"request body over {most} bytes")
                turns += 1
                if turns % PIECES_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()
            elif not chunked.is_complete:
                data = await wire.receive()
                if not data:
                    return None
                chunked.feed(data)
        wire.rest = chunked.rest
        return bytes(body)

    async def _skip_body(self, head: Head, reply: Reply) -> bool:
        """Before a refusal: a small body is read to keep the connection. False: the client left."""
        missing = head.body_bytes
        if missing < 0 or missing > DRAIN_BYTES or (head.wants_continue and missing):
            reply.closes = self._lingers = True
        elif missing:
            self._phase = Phase.BODY
            self._wait_for(self._limits.body_timeout_s)
            if await self._read_exactly(missing) is None:
                return False
            self.scope.deadline = float("inf")
        return True

    # -- refusing

    async def _refuse(self, refusal: Refusal) -> None:
        """The last answer on a connection that has lost its framing or its time."""
        self._lingers = True
        reply = Reply(self._wire, self._connections, is_head=False, is_http10=False, closes=True)
        await self._send(reply, refusal)

    async def _send(self, reply: Reply, refusal: Refusal) -> None:
        self.scope.deadline = float("inf")
        await reply.send(refusal.status, refusal.body, refusal.content_type, refusal.headers)

    def _wait_for(self, seconds: float) -> None:
        if self._connections.finishing and self._phase in (Phase.IDLE, Phase.HANDSHAKE):
            seconds = min(seconds, self._connections.patience_s(self._has_asked))
        self.scope.deadline = trio.current_time() + seconds
