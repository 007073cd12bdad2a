"""The way out for one published link: a fresh dialect and carrier for each attempt, everything read again.

Token, environment and certificates may have changed since the last attempt, the name may lead elsewhere: nothing is
kept but what the config says. Files are read in a thread, within `connect_timeout_s`: they may hang, and everything
else must go on then.
"""

import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from edge.config.common import BEARER
from edge.config.uplinks import UplinkConfig
from edge.errors import EdgeError
from edge.net.dial import open_stream, open_wire, proxy_for
from edge.net.file_reader import FileReader
from edge.net.http_client import USER_AGENT, HttpPool, split_url
from edge.net.tls import client_context
from edge.net.websocket import WebSocket, open_websocket
from edge.net.wire import Wire
from edge.parts.http_carrier import HttpCarrier
from edge.parts.kept_link import RunningCarrier
from edge.parts.link_store import LinkStore
from edge.parts.ws_carrier import WsCarrier
from edge.proto.dialect import Dialect

if TYPE_CHECKING:
    from edge.proto.dialects.mcp_reverse.connector import McpReverseConnector

DOUBT_S = 10.0  # after two heartbeats without an answer
MAX_CONNECTIONS = 64
MAX_OPEN_POSTS = 16  # where the order of posts does not matter
ENVELOPE_BYTES = 1024 * 1024  # what a dialect puts around a message, and several messages together


class Way:
    """Makes attempts for the link `name` of an uplink (parts/kept_link.py: `Attempt`).

    `learn` is told each token that is read, so that no log line shows it. `new_id` gives random text of visible
    ASCII; `rng` 0 up to 1.
    """

    def __init__(
        self,
        config: UplinkConfig,
        name: str,
        description: str,
        *,
        env: Mapping[str, str],
        read_secret: Callable[[str], str],
        learn: Callable[[str], None],
        files: FileReader,
        store: LinkStore,
        new_id: Callable[[], str],
        rng: Callable[[], float],
    ) -> None:
        self._config = config
        self._name = name
        self._description = description
        self._env = env
        self._read_secret = read_secret
        self._learn = learn
        self._files = files
        self._store = store
        self._new_id = new_id
        self._rng = rng
        self._mcp_reverse: McpReverseConnector | None = None
        self._scheme = urlsplit(config.url).scheme.lower()
        http_url = config.url if self._scheme.startswith("http") else f"http{config.url[2:]}"  # ws, wss
        self._origin, _ = split_url(http_url)

    async def __call__(self) -> tuple[Dialect, RunningCarrier]:
        """Raises: EdgeError, when the token, the proxy or a certificate cannot be used."""
        config, origin = self._config, self._origin
        headers = {"User-Agent": USER_AGENT, **config.headers}
        token, context = await self._fresh()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        proxy = proxy_for(config.proxy, self._scheme, origin.host, origin.port, self._env)

        @asynccontextmanager
        async def open_socket(target: str, fields: Mapping[str, str]) -> AsyncIterator[WebSocket]:
            stream = await open_stream(
                origin, tls=context, timeout_s=config.connect_timeout_s, proxy=proxy, server=config.name
            )
            async with open_websocket(
                stream,
                host=origin.authority,
                target=target,
                headers=fields,
                max_message_bytes=config.max_message_bytes + ENVELOPE_BYTES,
                timeout_s=config.connect_timeout_s,
            ) as socket:
                yield socket

        async def dial() -> Wire:
            return await open_wire(
                origin, tls=context, timeout_s=config.connect_timeout_s, proxy=proxy, server=config.name
            )

        dialect = self._dialect(headers)
        if config.dialect == "contextforge":
            return dialect, WsCarrier(open_socket)
        is_ordered = config.dialect == "mcp-reverse"
        carrier = HttpCarrier(
            HttpPool(config.name, origin, dial, max_open=MAX_CONNECTIONS),
            max_event_bytes=config.max_message_bytes + ENVELOPE_BYTES,
            max_body_bytes=config.max_message_bytes + ENVELOPE_BYTES,
            open_timeout_s=config.connect_timeout_s,
            max_posts=lambda: 1 if is_ordered or dialect.own else MAX_OPEN_POSTS,
        )
        return dialect, carrier

    def remember(self, session: str | None) -> None:
        """Keep a polling session's id for the next start."""
        self._store.save(self._name, self._config.url, session)

    async def _fresh(self) -> tuple[str | None, ssl.SSLContext | None]:
        """Token and certificates as they are now."""
        ref, tls = self._config.token_ref, self._config.tls
        if (ref is None or ref.source == "env") and tls is None:
            token, context = self._read()
        else:
            token, context = await self._files.read(self._read, self._config.connect_timeout_s)
        if ref is not None and token is not None:
            self._learn(token)
            if not BEARER.fullmatch(token):
                raise EdgeError("the token has blanks, line breaks or characters that are not ASCII")
        return token, context

    def _read(self) -> tuple[str | None, ssl.SSLContext | None]:
        """Changes nothing: it may come to its end when nobody waits for it any more."""
        config, tls = self._config, self._config.tls
        token = config.token
        if config.token_ref is not None:
            try:
                token = config.token_ref.read(self._env, self._read_secret)
            except ValueError as exc:
                raise EdgeError(f"the token cannot be read: {exc}") from exc
        context = None
        if config.is_tls:
            context = (
                client_context()
                if tls is None
                else client_context(tls.ca_file, tls.verify, tls.cert, tls.key)
            )
        return None if token is None else token.reveal(), context

    def _dialect(self, headers: Mapping[str, str]) -> Dialect:
        """Only the dialect that is used is loaded."""
        config = self._config
        parts = urlsplit(config.url)
        query = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **config.query}
        match config.dialect:
            case "contextforge":
                from edge.proto.dialects.contextforge.connector import ContextForgeConnector

                return ContextForgeConnector(
                    url_path=parts.path,
                    query=query,
                    headers=headers,
                    name=self._name,
                    session_id=self._new_id(),
                    description=self._description,
                    heartbeat_s=config.heartbeat_s,
                    dead_after_s=2 * config.heartbeat_s + DOUBT_S,
                    max_message_bytes=config.max_message_bytes,
                )
            case "mcp-reverse":
                from edge.proto.dialects.mcp_reverse.connector import McpReverseConnector

                self._mcp_reverse = McpReverseConnector(
                    url_path=parts.path,
                    query=query,
                    headers=headers,
                    name=self._name,
                    session_id=self._new_id(),
                    description=self._description,
                    heartbeat_s=config.heartbeat_s,
                    max_message_bytes=config.max_message_bytes,
                    # What the last carrier has learned about the other end: its version shows only over time.
                    quirks=self._mcp_reverse.quirks if self._mcp_reverse is not None else None,
                )
                return self._mcp_reverse
            case "long-poll":
                from edge.proto.dialects.long_poll.connector import LongPollConnector

                return LongPollConnector(
                    url_path=parts.path,
                    query=query,
                    headers=headers,
                    name=self._name,
                    description=self._description,
                    heartbeat_s=config.heartbeat_s,
                    max_message_bytes=config.max_message_bytes,
                    saved=self._store.load(self._name, config.url),
                    timestamp_ns=time.time_ns(),
                    spread=self._rng(),
                )
