"""A conversation with a server over HTTP+SSE: one GET stream comes in, each message out is a POST.

The stream's first event names where to post; the answers come on the stream, so this is a duplex pipe and
`PeerChannel` keeps its books. The stream's end is the conversation's. A POST that the server refuses fails the
one request that it carried. Source: MCP 2024-11-05, Transports, HTTP with SSE.
"""

import logging
from typing import NoReturn
from urllib.parse import urljoin

import trio

from edge.errors import BadMessage, Gone, RemoteProtocolError, UpstreamError
from edge.net.http_client import Exchange, split_url
from edge.parts.channel import Ended, Inbound, Notify
from edge.parts.peer_channel import Outbox, PeerChannel
from edge.parts.server_http import EVENTS, HttpRefused, ServerHttp, media_type, messages_in
from edge.printable import cut
from edge.proto.jsonrpc import ErrorObject, Message, Request, Response, decode
from edge.proto.jsontext import Raw
from edge.proto.mcp import H_VERSION, NEWEST_LEGACY, fault_of
from edge.proto.sse import SseDecoder, SseEvent

log = logging.getLogger("edge.upstream")

ENDPOINT_S = 30.0  # for the stream's head and its first event
POSTS_AT_ONCE = 16
HOLD_S = 5.0  # how long messages wait for the POSTs before them to be answered
SESSION_OVER = frozenset({401, 403, 404, 410})  # answers to a POST after which no other will fare better


class SseChannel:
    """Implements `Channel`. `run` is the conversation's life; until it knows where to post, callers wait."""

    first_version = NEWEST_LEGACY
    can_ask = True
    is_suspended = False

    def __init__(self, http: ServerHttp, url: str, inbound: Inbound) -> None:
        self._http = http
        self._server = http.name
        self._url = url
        self._outbox = Outbox()
        self._channel = PeerChannel(http.name, self._outbox, inbound, http.metrics)
        self._fields: dict[str, str] = {}
        self._ended: UpstreamError | None = None

    async def request(
        self, method: str, params: str | None, *, notify: Notify | None = None, progress: bool = False
    ) -> Raw:
        return await self._channel.request(method, params, notify=notify, progress=progress)

    async def notify(self, method: str, params: str | None) -> None:
        await self._channel.notify(method, params)

    def negotiated(self, version: str) -> None:
        self._fields = {H_VERSION: version}

    async def run(self) -> NoReturn:
        """Hold the stream; raises UpstreamError when it ends, or is none."""
        ended: UpstreamError = Ended(self._server, "stopped")
        try:
            with self._http.pool.exchange() as exchange:
                decoder = SseDecoder(self._http.max_bytes)
                target = await self._begin(exchange, decoder)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._post_all, target, nursery)
                    nursery.start_soon(self._read, exchange, decoder, nursery.cancel_scope)
            ended = self._ended or ended
        except UpstreamError as exc:
            ended = exc
        finally:
            self._channel.lost(ended.reason if isinstance(ended, Ended) else ended.text)
        raise ended

    def _end(self, why: UpstreamError, scope: trio.CancelScope) -> None:
        """The first reason counts."""
        self._ended = self._ended or why
        scope.cancel()

    # -- what comes in

    async def _begin(self, exchange: Exchange, decoder: SseDecoder) -> str:
        """Open the stream and wait for its first event; where to post."""
        with trio.move_on_after(ENDPOINT_S):
            await self._http.get(exchange, self._http.target, {})
            if exchange.status // 100 != 2:
                text = await self._http.read_refusal(exchange)
                raise self._http.refusal(exchange, text)
            if media_type(exchange.fields) != EVENTS:
                raise Ended(self._server, "answered GET without an event stream")
            while chunk := await self._http.read(exchange):
                events = self._feed(decoder, chunk)
                while events and events[0].event != "endpoint" and not events[0].data:
                    del events[0]
                if events:
                    target = self._target(events[0])
                    self._take(events[1:])
                    return target
            raise Ended(self._server, "ended its event stream", "before it named an endpoint")
        raise Ended(self._server, "named no endpoint", f"nothing came in {ENDPOINT_S:g} s")

    def _target(self, event: SseEvent) -> str:
        """The request target of the endpoint, which must be of the stream's own origin."""
        if event.event != "endpoint":
            raise Ended(self._server, "named no endpoint", f"its first event is {cut(event.event, 64)!r}")
        try:
            origin, target = split_url(urljoin(self._url, event.data.strip()))
        except ValueError as exc:
            raise Ended(self._server, "named an endpoint that is no URL") from exc
        if origin != split_url(self._url)[0]:
            raise Ended(self._server, "named an endpoint of another origin", cut(origin.authority, 255))
        if not target.isascii() or not target.isprintable() or " " in target:
            raise Ended(self._server, "named an endpoint that is no URL")
        return target

    async def _read(self, exchange: Exchange, decoder: SseDecoder, scope: trio.CancelScope) -> None:
        try:
            while chunk := await self._http.read(exchange):
                self._take(self._feed(decoder, chunk))
            self._take(self._feed(decoder, b""))
        except Gone as exc:
            self._end(Ended(self._server, "lost its event stream", exc.text), scope)
        except UpstreamError as exc:
            self._end(exc, scope)
        else:
            self._end(Ended(self._server, "ended its event stream"), scope)

    def _feed(self, decoder: SseDecoder, chunk: bytes) -> list[SseEvent]:
        """The events that `chunk` completes; b"" is the end of the stream."""
        try:
            return decoder.feed(chunk) if chunk else decoder.close()
        except RemoteProtocolError as exc:
            raise Ended(self._server, "sent a broken event stream", str(exc)) from exc

    def _take(self, events: list[SseEvent]) -> None:
        for event in events:
            if event.event != "message" or not event.data.strip():
                continue  # a sign of life
            try:
                messages = messages_in(event.data)
            except BadMessage as exc:
                self._http.metrics.noise_lines += 1
                log.debug("event skipped", extra={"server": self._server, "reason": str(exc)})
                self._channel.garbled(event.data, exc)
                continue
            for message in messages:
                self._channel.receive(message)

    # -- what goes out

    async def _post_all(self, target: str, posting: trio.Nursery) -> None:
        """Post what is due: requests side by side, but not past a notification, which may be about them."""
        try:
            while True:
                together: list[tuple[str, Message]] = []
                for line in await self._outbox.take():
                    text = line.decode()
                    message = decode(text)
                    if not isinstance(message, Request) or len(together) == POSTS_AT_ONCE:
                        await self._post_together(target, together, posting)
                        together = []
                    together.append((text, message))
                    if not isinstance(message, Request):
                        await self._post_together(target, together, posting)
                        together = []
                await self._post_together(target, together, posting)
        except BadMessage as exc:
            raise AssertionError("a message of ours is none") from exc

    async def _post_together(
        self, target: str, messages: list[tuple[str, Message]], posting: trio.Nursery
    ) -> None:
        """Wait until the server has taken them, but not for one that answers a POST when its work is done."""
        taken: list[trio.Event] = []
        for text, message in messages:
            taken.append(trio.Event())
            posting.start_soon(self._post, target, text, message, posting.cancel_scope, taken[-1])
        with trio.move_on_after(HOLD_S):
            for event in taken:
                await event.wait()

    async def _post(
        self, target: str, text: str, message: Message, scope: trio.CancelScope, taken: trio.Event
    ) -> None:
        try:
            with self._http.pool.exchange() as exchange:
                await self._http.post(exchange, target, self._fields, text)
                if exchange.status // 100 == 2:
                    exchange.leave()
                    return
                said = await self._http.read_refusal(exchange)
                raise self._http.refusal(exchange, said)
        except UpstreamError as exc:
            if isinstance(exc, HttpRefused) and exc.status in SESSION_OVER:
                self._end(exc, scope)
            elif isinstance(message, Request):
                fault = fault_of(exc)
                failed = ErrorObject(fault.code, fault.message, fault.data)
                self._channel.receive(Response(message.id, None, failed))
            log.debug("message not taken", extra={"server": self._server, "reason": str(exc)})
        finally:
            taken.set()
