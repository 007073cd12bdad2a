"""A `StreamableChannel` to a toy server in memory, for tests."""

import json
from typing import Any

import trio

from edge.config.model import BackoffConfig
from edge.parts.streamable_channel import StreamableChannel
from edge.proto.jsonrpc import Notification
from tests.support.http_server_toys import (
    VERSION,
    Listener,
    McpToy,
    MemoryNet,
    memory_http,
)

INITIALIZE = json.dumps({"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "t"}})
TOOL = '{"name":"t","arguments":{}}'


class Talk:
    """A channel to an `McpToy`, and what came of it."""

    def __init__(self, nursery: trio.Nursery, **config: Any) -> None:
        self.toy = McpToy()
        self.net = MemoryNet(self.toy.server, nursery)
        self.inbound = Listener()
        self.http = memory_http(self.net, **config)
        self.channel = StreamableChannel(self.http, self.inbound, BackoffConfig(first_s=1.0, limit_s=4.0))
        self.notes: list[Notification] = []

    async def notify(self, notification: Notification) -> None:
        await trio.lowlevel.checkpoint()
        self.notes.append(notification)

    async def begin(self) -> None:
        result = await self.channel.request("initialize", INITIALIZE)
        self.channel.negotiated(result.value["protocolVersion"])
        await self.channel.notify("notifications/initialized", None)

    async def call(self, **more: Any) -> Any:
        return (await self.channel.request("tools/call", TOOL, **more)).value
