"""Both ends of links, cut off at each of their steps, in a network of memory: with TLS, and however edges are known."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import jwt
import pytest
import trio
from trio.testing import MockClock

from edge.config.hub import HubConfig, HubJwt, HubWebhook
from edge.config.model import BackoffConfig
from edge.config.secrets import Secret
from edge.config.uplinks import DIALECTS, DialectName, UplinkConfig, UplinkTls
from edge.parts.connector import Uplink
from edge.parts.link_store import LinkStore
from tests.support.certificates import Certificates
from tests.support.cut_off import cut_off_at_every_step, live_as_part
from tests.support.cut_off_world import QUICK_HUB, world
from tests.support.gateway_rig import Rig, gateway
from tests.support.hub_rig import HubRig, hub_config
from tests.support.memory_net import MemoryAddresses, MemoryNet
from tests.support.memory_site import HUB, hub_url, token_of
from tests.support.token_service import TokenService
from tests.support.uplink_rig import UplinkRig, eventually

CARRIERS: tuple[DialectName, ...] = ("contextforge", "long-poll")  # WebSockets, and HTTP requests
SERVICE = "127.0.0.1:7000"
SHARED = "a secret of the hub and of who makes tokens"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def uplink_to(dialect: DialectName, **more: Any) -> UplinkConfig:
    settings: dict[str, Any] = {
        "url": hub_url(dialect),
        "token": token_of("box"),
        "proxy": "none",
        "heartbeat_s": 1.5,
    }
    return UplinkConfig(name="hq", dialect=dialect, **(settings | more))


def with_tls(config: UplinkConfig, certificates: Certificates) -> UplinkConfig:
    return replace(config, url=hub_url(config.dialect, "https"), tls=UplinkTls(ca_file=certificates.ca_file))


async def try_uplink(config: UplinkConfig, **hub_settings: Any) -> int:
    """A call comes over it, and it is quiet for longer than a heartbeat."""
    async with world(**hub_settings) as around, gateway(groups={"hq": frozenset({"a"})}) as rig:
        hub = around.place.hub
        name, tool = ("box-a", "echo") if config.publish == "each" else ("box", "a__echo")

        async def live(part: Uplink) -> None:
            async def use() -> None:
                await eventually(lambda: all(status.is_good for status in part.statuses))
                await hub.ready(name)
                await hub.ask(name, "tools/call", name=tool, arguments={})
                await trio.sleep(2 * config.heartbeat_s)

            await live_as_part(part, use)

        return await cut_off_at_every_step(
            lambda: UplinkRig(rig, config, LinkStore(None)).uplink, live, left=around.left, again_every=4
        )


@pytest.mark.parametrize(
    ("dialect", "publish"), [*((dialect, "each") for dialect in DIALECTS), ("mcp-reverse", "all")]
)
async def test_an_uplink(autojump_clock: MockClock, dialect: DialectName, publish: Any) -> None:
    assert await try_uplink(uplink_to(dialect, publish=publish)) > 50


@pytest.mark.parametrize("dialect", CARRIERS)
async def test_an_uplink_over_tls(
    autojump_clock: MockClock, dialect: DialectName, certificates: Certificates
) -> None:
    config = with_tls(uplink_to(dialect), certificates)
    assert await try_uplink(config, tls=certificates.tls) > 50


async def try_hub(rig: Rig, net: MemoryNet, hub: HubConfig, edge: UplinkConfig) -> int:
    """The edge comes again by itself; each life of the hub has a link with a call."""
    edge = replace(edge, reconnect=BackoffConfig(first_s=0.1, limit_s=0.1), connect_timeout_s=1)

    async def live(hub: HubRig) -> None:
        async def use() -> None:
            uplink = UplinkRig(rig, edge, LinkStore(None)).uplink

            async def call() -> None:
                await eventually(lambda: all(status.is_good for status in uplink.statuses))
                await hub.ready("box-a")
                await hub.ask("box-a", "tools/call", name="echo", arguments={})

            await live_as_part(uplink, call)

        await live_as_part(hub.acceptor, use)

    def make() -> HubRig:
        return HubRig(hub, open_address=MemoryAddresses(net).of("hub"))

    def left() -> object:
        return net.open, net.listening

    return await cut_off_at_every_step(make, live, left=left, again_every=4)


@asynccontextmanager
async def edge_and_net() -> AsyncIterator[tuple[Rig, MemoryNet]]:
    """What an edge publishes, and a network with a service that knows a token."""
    net = MemoryNet()
    service = TokenService({"a-token-of-the-service": "box"})
    with net.calling():
        async with gateway() as rig, net.serving(SERVICE, service.serve):
            yield rig, net


def hub_of(*edges: str, **settings: Any) -> HubConfig:
    return hub_config(*edges, listen=(HUB,), **QUICK_HUB, **settings)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_hub_with_an_edge(autojump_clock: MockClock, dialect: DialectName) -> None:
    async with edge_and_net() as (rig, net):
        assert await try_hub(rig, net, hub_of("box"), uplink_to(dialect)) > 60


@pytest.mark.parametrize("dialect", CARRIERS)
async def test_the_hub_with_an_edge_over_tls(
    autojump_clock: MockClock, dialect: DialectName, certificates: Certificates
) -> None:
    async with edge_and_net() as (rig, net):
        edge = with_tls(uplink_to(dialect), certificates)
        assert await try_hub(rig, net, hub_of("box", tls=certificates.tls), edge) > 60


# What httpx has of a body that was not sent to its end is a generator over bytes; nothing of ours hangs on it.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx._content.ByteStream:ResourceWarning")
@pytest.mark.parametrize("dialect", CARRIERS)
async def test_the_hub_with_an_edge_that_its_webhook_knows(
    autojump_clock: MockClock, dialect: DialectName
) -> None:
    async with edge_and_net() as (rig, net):
        hub = hub_of(webhook=HubWebhook(url=f"http://{SERVICE}/who"))
        edge = uplink_to(dialect, token=Secret("a-token-of-the-service"))
        assert await try_hub(rig, net, hub, edge) > 70


async def test_the_hub_with_an_edge_that_shows_a_jwt(autojump_clock: MockClock) -> None:
    token = jwt.encode({"sub": "box", "exp": time.time() + 3600}, SHARED, algorithm="HS256")
    async with edge_and_net() as (rig, net):
        hub = hub_of(jwt=HubJwt(secret=Secret(SHARED)))
        assert await try_hub(rig, net, hub, uplink_to("contextforge", token=Secret(token))) > 60
