"""A `Connect` without a server: conversations that a test scripts and looks at."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from edge.errors import Unavailable
from edge.parts.channel import Channel, Inbound, Notify
from edge.parts.upstream import Upstream
from edge.proto.jsonrpc import Notification
from edge.proto.jsontext import Raw, parse
from edge.proto.mcp import NEWEST_LEGACY

Answer = str | Exception | Callable[[str | None], Awaitable[str]]
"""A result's JSON text, an error to raise, or an async function of the params that gives the text."""


def initialized(**capabilities: object) -> str:
    """A result of initialize."""
    return json.dumps(
        {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "serverInfo": {"name": "memory", "version": "1"},
        }
    )


def tools(*names: str, next_cursor: str | None = None) -> str:
    """A result of tools/list."""
    result: dict[str, Any] = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}
    if next_cursor is not None:
        result["nextCursor"] = next_cursor
    return json.dumps(result)


class ScriptedServer:
    """`answers` by method; an iterable of answers would be a callable that pops. Records what it is asked."""

    def __init__(self, **capabilities: object) -> None:
        self.answers: dict[str, Answer] = {
            "initialize": initialized(**(capabilities or {"tools": {}})),
            "tools/list": tools("echo"),
            "prompts/list": '{"prompts":[]}',
            "resources/list": '{"resources":[]}',
            "resources/templates/list": '{"resourceTemplates":[]}',
            "ping": "{}",
            "tools/call": '{"content":[]}',
        }
        self.start_errors: list[Exception] = []  # raised by the next starts, oldest first
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.asked: list[tuple[str, str | None]] = []
        self.cancelled: list[str] = []
        self.inbound: Inbound | None = None
        self._death: trio.Event = trio.Event()
        self._cause: Exception | None = None

    def count(self, method: str) -> int:
        return sum(asked == method for asked, _ in self.asked)

    @property
    def methods(self) -> list[str]:
        return [method for method, _ in self.asked]

    def die(self, cause: Exception) -> None:
        """End the conversation that is up."""
        self._cause = cause
        self._death.set()

    def tell(self, method: str, params: str | None = None) -> None:
        assert self.inbound is not None
        self.inbound.told(Notification(method, None if params is None else parse(params)))

    @asynccontextmanager
    async def connect(self, inbound: Inbound) -> AsyncIterator[Channel]:
        self.starts.append(trio.current_time())
        if self.start_errors:
            raise self.start_errors.pop(0)
        self.inbound = inbound
        self._death, self._cause = trio.Event(), None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            try:
                yield MemoryChannel(self)
            finally:
                self.ends.append(trio.current_time())
            nursery.cancel_scope.cancel()
        if self._cause is not None:
            raise self._cause

    async def _watch(self, scope: trio.CancelScope) -> None:
        await self._death.wait()
        scope.cancel()


class MemoryChannel:
    first_version = NEWEST_LEGACY
    can_ask = True
    is_suspended = False

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self.version: str | None = None

    async def request(
        self, method: str, params: str | None, *, notify: Notify | None = None, progress: bool = False
    ) -> Raw:
        self._server.asked.append((method, params))
        answer = self._server.answers[method]
        try:
            await trio.lowlevel.checkpoint()
            if isinstance(answer, Exception):
                raise answer
            return parse(answer if isinstance(answer, str) else await answer(params))
        except trio.Cancelled:
            self._server.cancelled.append(method)
            raise

    async def notify(self, method: str, params: str | None) -> None:
        await trio.lowlevel.checkpoint()
        self._server.asked.append((method, params))

    def negotiated(self, version: str) -> None:
        self.version = version


class Witness:
    """An `UpstreamEvents` that writes down what it hears."""

    def __init__(self) -> None:
        self.catalogs: list[tuple[float, tuple[str, ...]]] = []
        self.updated: list[str] = []
        self.logs: list[str] = []

    def catalog_changed(self, upstream: Upstream) -> None:
        self.catalogs.append((trio.current_time(), tuple(item.key for item in upstream.catalog.tools)))

    def resource_updated(self, upstream: Upstream, params: Raw) -> None:
        self.updated.append(params.text)

    def logged(self, upstream: Upstream, params: Raw) -> None:
        self.logs.append(params.text)


async def sleeps_forever(params: str | None) -> str:
    """An answer that never comes."""
    await trio.sleep_forever()
    raise Unavailable("memory", "unreachable")
