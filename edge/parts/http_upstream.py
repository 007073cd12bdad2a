"""The `Connect` of an HTTP server: a connection pool, and the transport that the config names or the server shows.

With `auto`, `initialize` is posted as Streamable HTTP; a server that refuses it in the way servers of 2024-11-05
do is asked for its HTTP+SSE stream instead. What it turns out to speak is remembered for as long as its config.
Source: MCP 2025-11-25, Transports, backwards compatibility.
"""

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Literal

import trio

from edge.config.model import HttpServerConfig
from edge.errors import EdgeError
from edge.metrics_servers import ServerMetrics
from edge.net.dial import open_wire
from edge.net.file_reader import FileReader
from edge.net.http_client import HttpPool, split_url
from edge.net.tls import client_context
from edge.net.wire import Wire
from edge.parts.channel import Channel, Connect, Ended, Inbound, Notify
from edge.parts.server_http import HttpRefused, ServerHttp
from edge.parts.sse_channel import SseChannel
from edge.parts.streamable_channel import StreamableChannel
from edge.proto.jsontext import Raw
from edge.proto.mcp import NEWEST_LEGACY
from edge.redaction import Redactor
from edge.scopes import goodbye

SPARE_CONNECTIONS = 16  # beside one per call: GET streams, answers to the server, farewells
FAREWELL_S = 1.0
OLD_TRANSPORT = frozenset({400, 404, 405, 406, 415, 422})  # answers to a POST that such a server may give


def connect_http(
    config: HttpServerConfig,
    *,
    metrics: ServerMetrics,
    log: logging.Logger | None = None,
    redactor: Redactor | None = None,
) -> Connect:
    """One server's `Connect`; what it remembers lives as long as what is returned.

    Where its words are shortened for an error, `redactor` has taken the secrets out before.
    """
    server = HttpServer(config, metrics, log or logging.getLogger("edge.upstream"), redactor or Redactor())

    def connect(inbound: Inbound) -> AbstractAsyncContextManager[Channel]:
        return server.open(inbound)

    return connect


class HttpServer:
    """What outlives one conversation: the verdict on the transport, and the TLS context."""

    def __init__(
        self, config: HttpServerConfig, metrics: ServerMetrics, log: logging.Logger, redactor: Redactor
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._log = log
        self._redactor = redactor
        self._transport: Literal["auto", "streamable", "sse"] = config.transport
        self._tls: ssl.SSLContext | None = None
        self._files = FileReader()
        self._origin, self._target = split_url(config.url)

    @asynccontextmanager
    async def open(self, inbound: Inbound) -> AsyncIterator[Channel]:
        """Raises UpstreamError, maybe in a group, if the conversation ends before the block does."""
        config = self._config
        await self._load_tls()
        pool = HttpPool(
            config.name, self._origin, self._dial, max_open=2 * config.limits.concurrency + SPARE_CONNECTIONS
        )
        http = ServerHttp(config, pool, self._target, self._metrics, self._redactor)
        streamable = StreamableChannel(http, inbound, config.reconnect)
        sse = SseChannel(http, config.url, inbound)
        channel = AutoChannel(config.name, streamable, sse, self._transport, self._found)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.keep_tidy)
                nursery.start_soon(channel.run)
                yield channel
                nursery.cancel_scope.cancel()
        finally:
            if not channel.is_sse:
                with goodbye(FAREWELL_S):
                    await streamable.end()
            pool.close()

    def _found(self, transport: Literal["streamable", "sse"]) -> None:
        """What `auto` came to; kept for the conversations to come."""
        self._log.info("transport found", extra={"server": self._config.name, "transport": transport})
        self._transport = transport

    async def _load_tls(self) -> None:
        """For each conversation, as `ca_file` may have been renewed; files that have not are not read again."""
        config = self._config
        if self._origin.is_tls:
            load = partial(client_context, config.ca_file, config.verify)
            try:
                self._tls = (
                    load()
                    if config.ca_file is None
                    else await self._files.read(load, config.connect_timeout_s)
                )
            except EdgeError as exc:
                raise Ended(self._config.name, "could not be reached", str(exc)) from exc

    async def _dial(self) -> Wire:
        config = self._config
        return await open_wire(
            self._origin, tls=self._tls, server=config.name, timeout_s=config.connect_timeout_s
        )


class AutoChannel:
    """Implements `Channel` by one of the two others: by which, the answer to `initialize` may have to tell."""

    first_version = NEWEST_LEGACY
    can_ask = True
    is_suspended = False

    def __init__(
        self,
        server: str,
        streamable: StreamableChannel,
        sse: SseChannel,
        verdict: Literal["auto", "streamable", "sse"],
        found: Callable[[Literal["streamable", "sse"]], None],
    ) -> None:
        self._server = server
        self._streamable = streamable
        self._sse = sse
        self.verdict = verdict
        self._found = found
        self._refused: HttpRefused | None = None  # how Streamable HTTP failed
        self._wants_sse = trio.Event()
        if verdict == "sse":
            self._wants_sse.set()

    @property
    def is_sse(self) -> bool:
        return self._wants_sse.is_set()

    async def run(self) -> None:
        """The tasks of whichever transport is in use; never returns. Raises UpstreamError."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._streamable.listen)
            await self._wants_sse.wait()
            nursery.cancel_scope.cancel()
        try:
            await self._sse.run()
        except HttpRefused as exc:
            if self._refused is None:
                raise
            texts = f"{self._refused.text}; as HTTP+SSE: {exc.text}"
            raise type(self._refused)(self._server, self._refused.status, texts) from exc

    async def request(
        self, method: str, params: str | None, *, notify: Notify | None = None, progress: bool = False
    ) -> Raw:
        if self.is_sse:
            result = await self._sse.request(method, params, notify=notify, progress=progress)
            self._decide("sse")
            return result
        try:
            result = await self._streamable.request(method, params, notify=notify, progress=progress)
        except HttpRefused as exc:
            if self.verdict != "auto" or method != "initialize" or exc.status not in OLD_TRANSPORT:
                raise
            self._refused = exc
            self._wants_sse.set()
        else:
            self._decide("streamable")
            return result
        result = await self._sse.request(method, params)
        self._decide("sse")
        return result

    def _decide(self, transport: Literal["streamable", "sse"]) -> None:
        if self.verdict == "auto":
            self.verdict = transport
            self._found(transport)

    async def notify(self, method: str, params: str | None) -> None:
        await (self._sse if self.is_sse else self._streamable).notify(method, params)

    def negotiated(self, version: str) -> None:
        (self._sse if self.is_sse else self._streamable).negotiated(version)
