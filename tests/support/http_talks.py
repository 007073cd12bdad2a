"""Conversations with toy HTTP servers over loopback sockets, for tests."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from edge.config.model import HttpServerConfig, ServerLimits
from edge.metrics_servers import ServerMetrics
from edge.parts.channel import Channel, Connect
from edge.parts.http_upstream import connect_http
from tests.support.http_server_toys import (
    VERSION,
    Listener,
    McpToy,
)

LOG = logging.getLogger("test")
INITIALIZE = json.dumps({"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "t"}})
TOOL = '{"name":"t","arguments":{}}'
LIMIT_S = 10


def config_for(port: int, *, path: str = "/mcp", scheme: str = "http", **more: Any) -> HttpServerConfig:
    more.setdefault("limits", ServerLimits(concurrency=8, max_line_bytes=100_000))
    return HttpServerConfig(name="toy", url=f"{scheme}://127.0.0.1:{port}{path}", **more)


def connect_to(port: int, **more: Any) -> Connect:
    return connect_http(config_for(port, **more), metrics=ServerMetrics(), log=LOG)


async def begin(channel: Channel) -> None:
    result = await channel.request("initialize", INITIALIZE)
    channel.negotiated(result.value["protocolVersion"])
    await channel.notify("notifications/initialized", None)


@asynccontextmanager
async def talking(toy: McpToy, **more: Any) -> AsyncIterator[Channel]:
    async with toy.server.listening() as port, connect_to(port, **more)(Listener()) as channel:
        await begin(channel)
        yield channel


async def call(channel: Channel, **more: Any) -> Any:
    return (await channel.request("tools/call", TOOL, **more)).value
