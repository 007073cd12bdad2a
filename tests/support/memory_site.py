"""What a box of the tests talks to, in the memory network: a hub of ours, and an MCP server over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from edge.config.secrets import Secret
from edge.config.uplinks import DialectName
from tests.support.gateway_rig import Rig, ToolServer, gateway
from tests.support.hub_rig import HubRig, hub_config
from tests.support.memory_net import MemoryAddresses, MemoryNet

HUB = "127.0.0.1:8443"
SERVER = "127.0.0.1:3000"
SERVER_URL = f"http://{SERVER}/mcp"
NOBODY_URL = "http://127.0.0.1:3999/mcp"
PATHS: dict[DialectName, str] = {"contextforge": "", "mcp-reverse": "/mcp-reverse", "long-poll": ""}


def hub_url(dialect: DialectName, scheme: str = "http") -> str:
    return f"{scheme}://{HUB}{PATHS[dialect]}"


def token_of(edge: str) -> Secret:
    """As the hub knows it (`hub_config`)."""
    return Secret(f"token-of-{edge}")


class Site:
    """`hub` knows the edges; `server` is asked over HTTP, and `sessions` are its clients'."""

    def __init__(self, net: MemoryNet, hub: HubRig, rig: Rig, server: ToolServer) -> None:
        self.net = net
        self.hub = hub
        self.server = server
        self.rig = rig

    @property
    def links(self) -> dict[str, object]:
        """The links that are ready, by name; another object is another link."""
        edges = self.hub.acceptor.edges
        found = {name: edges.link(name) for name, one in self.hub.upstreams.items() if one.is_ready}
        return {name: link for name, link in found.items() if link is not None}

    @property
    def sessions(self) -> set[object]:
        """Of clients of the server."""
        return set(self.rig.sessions)


@asynccontextmanager
async def site(net: MemoryNet, *edges: str, **hub_settings: Any) -> AsyncIterator[Site]:
    """Running; cancelled at the end, when those who called must have gone."""
    server = ToolServer()
    hub = HubRig(
        hub_config(*edges, listen=(HUB,), **hub_settings), open_address=MemoryAddresses(net).of("site")
    )
    async with gateway(server) as rig, net.serving(SERVER, rig.serve), trio.open_nursery() as nursery:
        await nursery.start(hub.acceptor.run)
        yield Site(net, hub, rig, server)
        nursery.cancel_scope.cancel()
