"""The whole appliance, cut off at each of its steps: from its start over a reload to the end of its drain."""

import gc
import json
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from edge.app.appliance import App
from edge.config.diff import ControlSpec
from edge.config.model import AdminConfig, EdgeConfig, GatewayConfig, HttpServerConfig, StdioServerConfig
from edge.config.uplinks import DIALECTS, UplinkConfig
from tests.support.cut_off import cut_off_at_every_step
from tests.support.cut_off_world import World, world
from tests.support.hub_rig import hub_config
from tests.support.memory_http import RawClient
from tests.support.memory_site import SERVER_URL, hub_url, token_of

CONTROL = "unix:/run/mcp-edge/control.sock"
STDIO = StdioServerConfig(name="s", command=("s",), probe_s=1, required=True)
HTTP = HttpServerConfig(name="h", url=SERVER_URL, probe_s=1)
EVERYTHING = EdgeConfig(
    name="box",
    servers={"s": STDIO, "h": HTTP},
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
    servers={"s": replace(STDIO, command=("another",), required=False), "h": replace(HTTP, probe_s=2)},
    uplinks={name: each for name, each in EVERYTHING.uplinks.items() if name != "long-poll"},
)


@pytest.fixture(autouse=True)
def signalled_too_late() -> Iterator[None]:
    """One that was cut off may have gone when the signal comes: it must not be the end of the tests."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def nothing_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start and reload collects the garbage of all the tests before it, which takes most of the time."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


async def reload(around: World, app: App) -> None:
    """As `mcp-edge reload` asks for it: over the control socket, on a connection that then is left open."""
    async with around.net.stream(CONTROL) as stream:
        client = RawClient(stream)
        with around.loading(app):
            answer = await client.ask(b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert json.loads(answer.body)["result"] == "reloaded", answer
        await trio.sleep(1)


async def test_it_leaves_nothing_behind_whenever_it_is_cut_off(autojump_clock: MockClock) -> None:
    async with world() as around:

        def make() -> App:
            return around.app(EVERYTHING, ControlSpec(asked_for=CONTROL), AFTERWARDS)

        async def live(app: App) -> None:
            async with trio.open_nursery() as nursery:
                is_up = trio.Event()
                nursery.start_soon(app.run, lambda app: is_up.set())
                await is_up.wait()
                await reload(around, app)
                signal.raise_signal(signal.SIGTERM)

        assert await cut_off_at_every_step(make, live, left=around.left, again_every=8) > 200
