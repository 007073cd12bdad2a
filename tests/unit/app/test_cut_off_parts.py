"""Every part that the appliance is made of, cut off at each of its steps, in a network of memory."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edge.app.appliance import App
from edge.config.diff import ControlSpec, PartKey
from edge.config.model import EdgeConfig, GatewayConfig, HttpServerConfig, StdioServerConfig
from edge.net.socket_stream import SocketStream
from edge.parts.control import Control
from edge.parts.listener import Listener
from edge.parts.reload_face import ControlFace, ReloadDesk
from edge.supervise.sd_notify import SdNotify
from tests.support.certificates import Certificates
from tests.support.cut_off import cut_off_at_every_step, live_as_part
from tests.support.cut_off_world import call, world
from tests.support.gateway_client import Client
from tests.support.memory_http import RawClient
from tests.support.memory_net import MemoryNet
from tests.support.memory_site import SERVER_URL
from tests.support.old_server import OldServer

CONTROL = "unix:/run/mcp-edge/control.sock"
GATEWAY, ADMIN, OLD, SECURE = (f"127.0.0.1:{port}" for port in (8766, 9766, 3001, 3443))
HTTP = HttpServerConfig(name="h", url=SERVER_URL, probe_s=1)
STDIO = StdioServerConfig(name="s", command=("s",), probe_s=1)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


async def test_a_stdio_server(autojump_clock: MockClock) -> None:
    async with world() as around:
        config = EdgeConfig(servers={"s": STDIO})
        assert await around.try_out(("upstream", "s"), config, lambda part: call(part, "echo")) > 15


@pytest.mark.parametrize("transport", ["auto", "streamable"])
async def test_an_http_server(autojump_clock: MockClock, transport: Any) -> None:
    async with world() as around:
        config = EdgeConfig(servers={"h": replace(HTTP, transport=transport)})
        assert await around.try_out(("upstream", "h"), config, lambda part: call(part, "a__echo")) > 40


async def test_an_http_server_over_tls(autojump_clock: MockClock, certificates: Certificates) -> None:
    async with world() as around:

        async def serve(stream: SocketStream) -> None:
            await around.place.rig.serve(certificates.server_side(stream))

        server = replace(HTTP, url=f"https://{SECURE}/mcp", ca_file=certificates.ca_file)
        async with around.net.serving(SECURE, serve):
            config = EdgeConfig(servers={"h": server})
            assert await around.try_out(("upstream", "h"), config, lambda part: call(part, "a__echo")) > 40


@pytest.mark.parametrize("transport", ["auto", "sse"])
async def test_an_http_server_of_the_old_transport(autojump_clock: MockClock, transport: Any) -> None:
    async with world() as around:
        old = OldServer("/mcp")
        config = EdgeConfig(servers={"h": replace(HTTP, url=f"http://{OLD}/mcp", transport=transport)})
        async with around.net.serving(OLD, old.serve):
            assert await around.try_out(("upstream", "h"), config, lambda part: call(part, "work")) > 25
            assert (old.sessions, old.open_connections) == (set(), 0)


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


async def try_gateway(
    config: EdgeConfig, prepared: Callable[[SocketStream], Awaitable[trio.abc.Stream]]
) -> int:
    """A session with a call that takes its time, and a stream that is open when the end comes."""
    async with world() as around:

        def make() -> App:
            return around.app(config)

        async def live(app: App) -> None:
            parts = app.loaded.parts
            keys: list[PartKey] = [("sessions", "main"), ("listener", "main")]
            made = [app.workshop.build(key, parts[key], app.loaded, "box").subject for key in keys]

            async def use() -> None:
                async with around.net.stream(GATEWAY) as one, around.net.stream(GATEWAY) as other:
                    client = Client(await prepared(one), "/mcp")
                    await client.initialize("2025-11-25")
                    await client.ask("tools/list")
                    listening = Client(await prepared(other), "/mcp")
                    listening.session = client.session
                    await listening.listen()
                    await trio.sleep(1.5)

            await live_as_part(made[0], lambda: live_as_part(made[1], use))

        return await cut_off_at_every_step(make, live, left=around.left)


async def plain(stream: SocketStream) -> SocketStream:
    return stream


async def test_the_gateway_listener_and_its_sessions(autojump_clock: MockClock) -> None:
    assert await try_gateway(EdgeConfig(), plain) > 30


async def test_the_gateway_listener_over_tls(autojump_clock: MockClock, certificates: Certificates) -> None:
    config = EdgeConfig(gateway=GatewayConfig(tls=certificates.tls))
    assert await try_gateway(config, certificates.client_side) > 35


async def test_what_systemd_is_told(autojump_clock: MockClock) -> None:
    async def live(notify: SdNotify) -> None:
        with trio.move_on_after(20):
            await notify.run(lambda: f"at {trio.current_time()}")

    assert await cut_off_at_every_step(lambda: SdNotify("@nobody", watchdog_s=4), live) > 5
