"""Every part that the appliance is made of, cut off at each of its steps, in a network of memory."""

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.config.diff import ControlSpec, PartKey
from edge.config.model import (
    AdminConfig,
    BackoffConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    StdioServerConfig,
)
from edge.config.uplinks import DIALECTS, DialectName, UplinkConfig
from edge.parts.connector import Uplink
from edge.parts.control import Control
from edge.parts.link_store import LinkStore
from edge.parts.listener import Listener
from edge.parts.reload_face import ControlFace, ReloadDesk
from edge.redaction import Redactor
from edge.supervise.reload import ReloadOptions
from edge.supervise.sd_notify import SdNotify
from tests.support.cut_off import cut_off_at_every_step, live_as_part
from tests.support.gateway_client import Client
from tests.support.gateway_rig import gateway
from tests.support.hub_rig import HubRig, hub_config
from tests.support.memory_channel import ScriptedServer
from tests.support.memory_http import RawClient
from tests.support.memory_net import MemoryAddresses, MemoryNet
from tests.support.memory_site import HUB, SERVER_URL, Site, hub_url, site, token_of
from tests.support.memory_workshop import MemoryWorkshop
from tests.support.uplink_rig import UplinkRig, eventually

GATEWAY, ADMIN, CONTROL = "127.0.0.1:8766", "127.0.0.1:9766", "unix:/run/mcp-edge/control.sock"
HTTP = HttpServerConfig(name="h", url=SERVER_URL, probe_s=1)
STDIO = StdioServerConfig(name="s", command=("s",), probe_s=1)


class World:
    """A network with somebody in it. Each part is of an appliance of its own."""

    def __init__(self, place: Site) -> None:
        self.place = place
        self.net = place.net

    def app(
        self, config: EdgeConfig, control: ControlSpec | None = None, afterwards: EdgeConfig | None = None
    ) -> App:
        """`afterwards` is what a reload finds."""
        app = App(
            Loaded(config=config, control=control),
            redactor=Redactor(),
            addresses=MemoryAddresses(self.net),
            load=lambda: Loaded(config=afterwards or config, control=control),
            load_limit_s=float("inf"),
        )
        app.workshop = MemoryWorkshop(app, lambda spec: ScriptedServer())
        return app

    async def try_out(
        self,
        key: PartKey,
        config: EdgeConfig,
        use: Callable[[Any], Awaitable[None]],
        *,
        control: ControlSpec | None = None,
        stride: int = 1,
    ) -> int:
        """Cut the part off at every step of a life in which `use` does something with it."""

        def make() -> Any:
            app = self.app(config, control)
            return app.workshop.build(key, app.loaded.parts[key], app.loaded, "box").subject

        async def live(part: Any) -> None:
            await live_as_part(part, lambda: use(part))

        return await cut_off_at_every_step(make, live, left=self.left, stride=stride)

    def left(self) -> object:
        return self.net.open, self.net.listening


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    net = MemoryNet()
    with net.calling():
        async with site(net, "box", heartbeat_s=1.5, dead_after_s=4, resume_grace_s=5) as place:
            yield World(place)


async def call(upstream: Any, tool: str) -> None:
    """Once it is up; later it is probed, as nobody asks it any more."""
    await upstream.wait_ready()
    await upstream.request("tools/call", json.dumps({"name": tool}), timeout_s=5)
    await trio.sleep(1.5)


async def test_a_stdio_server(autojump_clock: MockClock) -> None:
    async with world() as around:
        config = EdgeConfig(servers={"s": STDIO})
        assert await around.try_out(("upstream", "s"), config, lambda part: call(part, "echo")) > 15


@pytest.mark.parametrize("transport", ["auto", "streamable"])
async def test_an_http_server(autojump_clock: MockClock, transport: Any) -> None:
    async with world() as around:
        config = EdgeConfig(servers={"h": replace(HTTP, transport=transport)})
        assert await around.try_out(("upstream", "h"), config, lambda part: call(part, "a__echo")) > 40


@pytest.mark.parametrize(
    ("dialect", "publish"), [*((dialect, "each") for dialect in DIALECTS), ("mcp-reverse", "all")]
)
async def test_an_uplink(autojump_clock: MockClock, dialect: DialectName, publish: Any) -> None:
    """A call comes over it, and it is quiet for longer than a heartbeat."""
    async with world() as around, gateway(groups={"hq": frozenset({"a"})}) as rig:
        hub = around.place.hub
        config = UplinkConfig(
            name="hq",
            dialect=dialect,
            url=hub_url(dialect),
            token=token_of("box"),
            proxy="none",
            publish=publish,
            heartbeat_s=1.5,
        )
        name, tool = ("box-a", "echo") if publish == "each" else ("box", "a__echo")

        async def live(part: Uplink) -> None:
            async def use() -> None:
                await eventually(lambda: all(status.is_good for status in part.statuses))
                await hub.ready(name)
                await hub.ask(name, "tools/call", name=tool, arguments={})
                await trio.sleep(2 * config.heartbeat_s)

            await live_as_part(part, use)

        steps = await cut_off_at_every_step(
            lambda: UplinkRig(rig, config, LinkStore(None)).uplink, live, left=around.left, again_every=4
        )
        assert steps > 50


async def ask(net: MemoryNet, address: str, *requests: str) -> None:
    """Over one connection, which is then left idle."""
    async with net.stream(address) as stream:
        client = RawClient(stream)
        for request in requests:
            response = await client.ask(f"{request} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert response.status == 200
        await trio.sleep(1)


async def test_the_admin_listener(autojump_clock: MockClock) -> None:
    async with world() as around:

        async def use(part: Listener) -> None:
            await ask(around.net, ADMIN, "GET /livez", "GET /metrics", "GET /status", "GET /health")

        assert await around.try_out(("admin", "main"), EdgeConfig(), use) > 15


@pytest.mark.parametrize("asked_for", ["", CONTROL])
async def test_the_control_socket(autojump_clock: MockClock, tmp_path: Path, asked_for: str) -> None:
    """At its usual place, where it may fail, alone or beside another one; `Control` itself is the part."""

    async def nobody_asks(plan: bool, confirm_s: float) -> tuple[int, dict[str, Any]]:
        raise AssertionError("a reload")

    async with world() as around:
        spec = ControlSpec(asked_for=asked_for, usual=f"unix:{tmp_path}/here/control.sock")

        def make() -> Control:
            app = around.app(EdgeConfig())
            return Control(
                spec,
                ControlFace(ReloadDesk(nobody_asks, None)),
                status=app.health.make("part:control"),
                metrics=app.metrics,
                open_address=app.sockets.of("control"),
            )

        async def live(part: Control) -> None:
            async def use() -> None:
                for place in spec.places:
                    async with around.net.stream(place) as stream:
                        answer = await RawClient(stream).ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
                        assert answer.status == 404

            await live_as_part(part, use)

        assert await cut_off_at_every_step(make, live, left=around.left) > 10


async def test_the_gateway_listener_and_its_sessions(autojump_clock: MockClock) -> None:
    """A session with a call that takes its time, and a stream that is open when the end comes."""
    async with world() as around:

        def make() -> App:
            return around.app(EdgeConfig())

        async def live(app: App) -> None:
            parts = app.loaded.parts
            keys: list[PartKey] = [("sessions", "main"), ("listener", "main")]
            made = [app.workshop.build(key, parts[key], app.loaded, "box").subject for key in keys]

            async def use() -> None:
                async with around.net.stream(GATEWAY) as one, around.net.stream(GATEWAY) as other:
                    client = Client(one, "/mcp")
                    await client.initialize("2025-11-25")
                    await client.ask("tools/list")
                    listening = Client(other, "/mcp")
                    listening.session = client.session
                    await listening.listen()
                    await trio.sleep(1.5)

            await live_as_part(made[0], lambda: live_as_part(made[1], use))

        assert await cut_off_at_every_step(make, live, left=around.left) > 30


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_hub_with_an_edge(autojump_clock: MockClock, dialect: DialectName) -> None:
    """The edge comes again by itself; each life of the hub has a link with a call."""
    net = MemoryNet()
    with net.calling():
        async with gateway() as rig:
            config = UplinkConfig(
                name="hq", dialect=dialect, url=hub_url(dialect), token=token_of("box"), proxy="none",
                reconnect=BackoffConfig(first_s=0.1, limit_s=0.1), heartbeat_s=1.5, connect_timeout_s=1,
            )  # fmt: skip

            def make() -> HubRig:
                return HubRig(
                    hub_config("box", listen=(HUB,), heartbeat_s=1.5, dead_after_s=4, resume_grace_s=5),
                    open_address=MemoryAddresses(net).of("hub"),
                )

            async def live(hub: HubRig) -> None:
                async def use() -> None:
                    edge = UplinkRig(rig, config, LinkStore(None)).uplink

                    async def call() -> None:
                        await eventually(lambda: all(status.is_good for status in edge.statuses))
                        await hub.ready("box-a")
                        await hub.ask("box-a", "tools/call", name="echo", arguments={})

                    await live_as_part(edge, call)

                await live_as_part(hub.acceptor, use)

            def left() -> object:
                return net.open, net.listening

            assert await cut_off_at_every_step(make, live, left=left, again_every=4) > 60


async def test_what_systemd_is_told(autojump_clock: MockClock) -> None:
    async def live(notify: SdNotify) -> None:
        with trio.move_on_after(20):
            await notify.run(lambda: f"at {trio.current_time()}")

    assert await cut_off_at_every_step(lambda: SdNotify("@nobody", watchdog_s=4), live) > 5


EVERYTHING = EdgeConfig(
    name="box",
    servers={"s": replace(STDIO, required=True), "h": HTTP},
    uplinks={
        dialect: UplinkConfig(
            name=dialect, dialect=dialect, url=hub_url(dialect), token=token_of("box"), proxy="none",
            link_name=f"box-{dialect}", heartbeat_s=1.5, servers=("s",),
        )
        for dialect in DIALECTS
    },
    hub=hub_config("other", listen=("127.0.0.1:8444",)),
)  # fmt: skip
AFTERWARDS = replace(
    EVERYTHING,
    gateway=GatewayConfig(path="/other"),
    admin=AdminConfig(listen="127.0.0.1:9767"),
    servers={"s": replace(STDIO, command=("another",)), "h": replace(HTTP, probe_s=2)},
    uplinks={name: each for name, each in EVERYTHING.uplinks.items() if name != "long-poll"},
)
STRIDE = 13  # each life takes long, and the parts' own steps are all tried above


async def test_the_whole_appliance_with_a_reload(autojump_clock: MockClock) -> None:
    # One that was cut off may have gone when the signal comes: it must not be the end of the tests.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        await the_whole_appliance()
    finally:
        signal.signal(signal.SIGTERM, before)


async def the_whole_appliance() -> None:
    async with world() as around:

        def make() -> App:
            return around.app(EVERYTHING, ControlSpec(asked_for=CONTROL), AFTERWARDS)

        async def live(app: App) -> None:
            async with trio.open_nursery() as nursery:
                is_up = trio.Event()
                nursery.start_soon(app.run, lambda app: is_up.set())
                await is_up.wait()
                assert (await app.reloads.ask(ReloadOptions())).result == "reloaded"
                await trio.sleep(1)
                signal.raise_signal(signal.SIGTERM)

        steps = await cut_off_at_every_step(make, live, left=around.left, stride=STRIDE, again_every=8)
        assert steps > 200
