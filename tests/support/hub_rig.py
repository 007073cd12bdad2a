"""A hub on a loopback port: acceptor, gateway and sessions, and what a test asks of them."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from edge.config.hub import HubConfig, HubEdge
from edge.config.model import GatewayConfig
from edge.health import Health
from edge.metrics import Metrics
from edge.net.listen import open_listeners
from edge.parts.acceptor import Acceptor
from edge.parts.gateway import Gateway
from edge.parts.listener import Acceptor as ListeningSocket
from edge.parts.relay import Call
from edge.parts.sessions import InFlight
from edge.parts.upstream import Upstream
from edge.parts.views import Views
from edge.proto.jsonrpc import Notification, Request
from edge.proto.jsontext import parse
from edge.proto.mcp import METHODS
from tests.support.scripted_edge import HubClient

OPERATOR = "the-operators-token"


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def hub_config(*edges: str, **more: Any) -> HubConfig:
    """Each edge's token is `token-of-NAME`."""
    settings: dict[str, Any] = {
        "listen": ("127.0.0.1:0",),
        "edges": {name: HubEdge(name=name, token_sha256=(hashed(f"token-of-{name}"),)) for name in edges},
        "operator_token_sha256": (hashed(OPERATOR),),
    }
    return HubConfig(**(settings | more))


class HubRig:
    """A hub and all that can be seen of it."""

    def __init__(
        self,
        config: HubConfig,
        taken: frozenset[str] = frozenset(),
        open_address: Callable[[str], Awaitable[Sequence[ListeningSocket]]] = open_listeners,
    ) -> None:
        self.config = config
        self.metrics = Metrics(methods=METHODS)
        self.health = Health()
        self.upstreams: Mapping[str, Upstream] = {}
        self.gateway = Gateway(Views(GatewayConfig()), live=list, call_timeout_s=300, page_size=1000)
        self.acceptor = Acceptor(
            config,
            self.gateway,
            attach=self._attach,
            taken=taken,
            health=self.health,
            metrics=self.metrics,
            status=self.health.add("listener:hub"),
            open_address=open_address,
        )
        self.intake: trio.CancelScope | None = None

    def _attach(self, upstreams: Mapping[str, Upstream]) -> None:
        self.upstreams = upstreams
        self.gateway.attach(upstreams)

    @property
    def address(self) -> str:
        return self.acceptor.bound[0]

    def client(self, edge: str) -> HubClient:
        return HubClient(self.address, f"token-of-{edge}")

    @property
    def operator(self) -> HubClient:
        return HubClient(self.address, OPERATOR)

    async def ready(self, name: str) -> Upstream:
        """Once that edge's server can be called."""
        await until(lambda: name in self.upstreams and self.upstreams[name].is_ready)
        # Views are made anew when there is time for it.
        await until(lambda: self.gateway.view(name) is not None and self.tools(name) != [])
        return self.upstreams[name]

    async def down(self, name: str) -> None:
        """Once that name has no link."""
        await until(lambda: not self.upstreams[name].is_ready)

    def tools(self, name: str | None) -> list[str]:
        view = self.gateway.view(name)
        assert view is not None
        return [tool["name"] for tool in json.loads(view.listed.page("tools/list", None, 100))["tools"]]

    async def ask(self, view_key: str | None, method: str, **params: Any) -> Any:
        """The result, as a client of that view gets it. Raises EdgeError."""
        view = self.gateway.view(view_key)
        assert view is not None, f"no view of {view_key}"
        request = Request("1", method, parse(json.dumps(params)))
        flight = InFlight(trio.CancelScope())
        with flight.scope:
            return json.loads(
                await self.gateway.dispatch(Call(request, view, session=None, flight=flight, notify=unheard))
            )

    async def call(self, name: str, **arguments: Any) -> Any:
        """What the edge's `echo` gives back."""
        result = await self.ask(name, "tools/call", name="echo", arguments=arguments)
        return json.loads(result["content"][0]["text"])

    async def drain(self) -> None:
        assert self.intake is not None
        self.intake.cancel()


async def unheard(note: Notification) -> None:
    pass


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  the product has no event for what only a test waits for
        await trio.sleep(0.01)


@asynccontextmanager
async def hub(
    *edges: str, taken: frozenset[str] = frozenset(), seconds: float = 15, **config: Any
) -> AsyncIterator[HubRig]:
    """A running hub that knows these edges. Cancelled at the end."""
    rig = HubRig(hub_config(*edges, **config), taken)
    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            rig.intake = await nursery.start(rig.acceptor.run)
            yield rig
            nursery.cancel_scope.cancel()
