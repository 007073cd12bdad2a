"""The gateway's whole front over memory streams: real HTTP, face, sessions, views and upstreams; scripted servers."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import trio
import trio.testing

from edge.backoff import Backoff
from edge.config.model import GatewayConfig, StdioServerConfig
from edge.gate.origin import Origins
from edge.health import Status
from edge.metrics import Metrics
from edge.net.http_server import Connections, HttpLimits, serve_connection
from edge.parts.channel import Channel, Inbound, Notify
from edge.parts.cors import CrossOrigin
from edge.parts.gateway import Gateway
from edge.parts.http_face import HttpFace
from edge.parts.sessions import LiveSession, Sessions
from edge.parts.upstream import Upstream
from edge.parts.views import Views
from edge.proto.jsonrpc import Notification
from edge.proto.jsontext import Raw, parse
from edge.proto.mcp import METHODS
from tests.support.gateway_client import Client
from tests.support.memory_channel import MemoryChannel, ScriptedServer, tools

ALL_OF_IT = {
    "tools": {"listChanged": True},
    "prompts": {},
    "resources": {"subscribe": True},
    "logging": {},
    "completions": {},
}


class Asked:
    """One request as a scripted server gets it."""

    def __init__(self, method: str, params: str | None, notify: Notify | None, *, progress: bool) -> None:
        self.method = method
        self.params = parse(params or "{}")
        self.wants_progress = progress
        self._notify = notify

    async def tell(self, method: str, params: str) -> None:
        """News on the way to the answer."""
        assert self._notify is not None
        await self._notify(Notification(method, parse(params)))

    async def progress(self, value: str, **more: object) -> None:
        """Progress as a server tells it: under the token that the channel gave it."""
        text = json.dumps({"progressToken": "p1", **more})
        await self.tell("notifications/progress", f'{text[:-1]},"progress":{value}}}')

    async def log(self, level: str, text: str) -> None:
        await self.tell("notifications/message", json.dumps({"level": level, "data": text}))


Tool = Callable[[Asked], Awaitable[str]]


async def echo(asked: Asked) -> str:
    """What came in, letter for letter."""
    return f'{{"content":[],"got":{asked.params.text}}}'


async def hang(asked: Asked) -> str:
    await trio.sleep_forever()
    raise AssertionError


class ToolServer(ScriptedServer):
    """A scripted server whose tools hear of their caller. `by_method` does the same for other methods."""

    def __init__(self, **tools_by_name: Tool) -> None:
        super().__init__(**ALL_OF_IT)
        self.tools: dict[str, Tool] = tools_by_name or {"echo": echo}
        self.by_method: dict[str, Tool] = {"tools/call": self._call}
        for method in ("logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
            self.answers[method] = "{}"
        self.list_tools(*self.tools)

    def list_tools(self, *names: str) -> None:
        self.answers["tools/list"] = tools(*names)

    def list_resources(self, *uris: str) -> None:
        listed = [{"uri": uri, "name": uri} for uri in uris]
        self.answers["resources/list"] = json.dumps({"resources": listed})

    def asked_for(self, method: str) -> list[Any]:
        """The params of each such request, parsed."""
        return [
            None if params is None else json.loads(params) for name, params in self.asked if name == method
        ]

    async def _call(self, asked: Asked) -> str:
        return await self.tools[asked.params.value["name"]](asked)

    @asynccontextmanager
    async def connect(self, inbound: Inbound) -> AsyncIterator[Channel]:
        async with super().connect(inbound):
            yield ToolChannel(self)


class ToolChannel(MemoryChannel):
    def __init__(self, server: ToolServer) -> None:
        super().__init__(server)
        self._tools = server

    async def request(
        self, method: str, params: str | None, *, notify: Notify | None = None, progress: bool = False
    ) -> Raw:
        handler = self._tools.by_method.get(method)
        if handler is None:
            return await super().request(method, params, notify=notify, progress=progress)
        self._tools.asked.append((method, params))
        try:
            return parse(await handler(Asked(method, params, notify, progress=progress)))
        except trio.Cancelled:
            self._tools.cancelled.append(method)
            raise


class Rig:
    """The parts, and clients of them."""

    def __init__(
        self,
        servers: Mapping[str, ScriptedServer],
        config: GatewayConfig,
        *,
        server_settings: Mapping[str, Any] | None = None,
        retry_s: float = 30,
        groups: Mapping[str, frozenset[str]] = MappingProxyType({}),
    ) -> None:
        self.servers = servers
        self.metrics = Metrics(methods=METHODS)
        self.connections = Connections(self.metrics)
        self.views = Views(config, groups)
        self.gateway = Gateway(
            self.views, live=self._live, call_timeout_s=config.call_timeout_s, page_size=config.page_size
        )
        self.sessions = Sessions(
            idle_s=config.session_idle_s,
            max_sessions=config.max_sessions,
            metrics=self.metrics,
            on_end=self.gateway.forget,
            tidy=self.gateway.tidy,
        )
        self.upstreams = {
            name: Upstream(
                StdioServerConfig(name=name, command=(name,), **(server_settings or {})),
                server.connect,
                events=self.gateway,
                status=Status(f"server:{name}"),
                metrics=self.metrics.server(name),
                backoff=Backoff(first_s=retry_s, limit_s=60, jitter=0),
                log=logging.getLogger("edge.upstream"),
            )
            for name, server in servers.items()
        }
        self.face = HttpFace(
            self.gateway,
            self.sessions,
            path=config.path,
            origins=Origins(config.listen, allowed_origins=config.allowed_origins),
            scheme="http",
            cross_origin=CrossOrigin(config.allowed_origins),
            metrics=self.metrics,
        )
        self.intakes: dict[str, trio.CancelScope] = {}
        self.is_over = trio.Event()
        self._limits = HttpLimits(max_body_bytes=config.max_message_bytes, idle_timeout_s=100_000)
        self._nursery: trio.Nursery | None = None
        self._clients: list[Client] = []

    def _live(self) -> list[LiveSession]:
        return list(self.sessions)

    def connect(self, path: str = "/mcp", *, lockstep: bool = False) -> Client:
        """A client on a connection of its own, without a session. `lockstep`: what it does not read, blocks."""
        assert self._nursery is not None
        pair = trio.testing.lockstep_stream_pair if lockstep else trio.testing.memory_stream_pair
        ours, theirs = pair()
        self._nursery.start_soon(self.serve, theirs)
        client = Client(ours, path)
        self._clients.append(client)
        return client

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection, to its end."""
        await serve_connection(stream, self.face, self._limits, peer="test", connections=self.connections)

    def again(self, client: Client, *, lockstep: bool = False) -> Client:
        """Another connection of the same session."""
        other = self.connect(client.path, lockstep=lockstep)
        other.session = client.session
        return other

    async def client(self, version: str = "2025-11-25", path: str = "/mcp") -> Client:
        """A client with a session."""
        client = self.connect(path)
        await client.initialize(version)
        return client

    async def drain(self) -> None:
        """As the supervisor does: the listener and the sessions at once."""
        self.connections.drain()
        self.intakes["sessions"].cancel()
        await trio.testing.wait_all_tasks_blocked()

    @asynccontextmanager
    async def running(self, *, wait: bool = True) -> AsyncIterator["Rig"]:
        """All parts up, and all servers if `wait`. Cancelled at the end, after the clients have left."""
        with trio.fail_after(200_000):  # of the mock clock's seconds
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.gateway.attach(self.upstreams)

                async def run_sessions(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
                    await self.sessions.run(task_status=task_status)
                    self.is_over.set()

                self.intakes["sessions"] = await nursery.start(run_sessions)
                for name, upstream in self.upstreams.items():
                    self.intakes[name] = await nursery.start(upstream.run)
                if wait:
                    for upstream in self.upstreams.values():
                        await upstream.wait_ready()
                yield self
                for client in self._clients:
                    await client.leave()
                nursery.cancel_scope.cancel()
        assert self.connections.open == 0
        assert not self.connections.streams


@asynccontextmanager
async def gateway(
    servers: Mapping[str, ScriptedServer] | ScriptedServer | None = None,
    *,
    wait: bool = True,
    server_settings: Mapping[str, Any] | None = None,
    retry_s: float = 30,
    groups: Mapping[str, frozenset[str]] = MappingProxyType({}),
    **config: Any,
) -> AsyncIterator[Rig]:
    """A running rig; one server alone is called `a`. `retry_s`: until one that ended is up again."""
    if servers is None or isinstance(servers, ScriptedServer):
        servers = {"a": servers or ToolServer()}
    rig = Rig(
        servers, GatewayConfig(**config), server_settings=server_settings, retry_s=retry_s, groups=groups
    )
    async with rig.running(wait=wait):
        yield rig
