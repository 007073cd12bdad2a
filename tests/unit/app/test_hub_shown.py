"""What health and metrics have of a hub's edges when the hub is another one, or none, after a reload."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.config.model import EdgeConfig, StdioServerConfig
from edge.config.uplinks import UplinkConfig
from edge.supervise.reload import ReloadOptions
from tests.support.hub_rig import hub_config
from tests.support.memory_channel import ScriptedServer
from tests.support.memory_net import MemoryAddresses, MemoryNet
from tests.support.memory_site import HUB, hub_url, token_of
from tests.support.memory_workshop import memory_app, quiet_config, running
from tests.support.uplink_rig import eventually

SERVER = StdioServerConfig(name="s", command=("s",))
UPLINK = UplinkConfig(
    name="hq", dialect="contextforge", url=hub_url("contextforge"), token=token_of("box"), proxy="none",
    servers=("s",), link_name="box",
)  # fmt: skip
ITS_OWN_EDGE = quiet_config(SERVER, hub=hub_config("box", listen=(HUB,)), uplinks={"hq": UPLINK})


def exposition(app: App) -> list[str]:
    body, _ = app.metrics.exposition("")
    return [line for line in body.decode().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    "afterwards",
    [
        pytest.param(quiet_config(SERVER), id="no hub"),
        pytest.param(
            replace(ITS_OWN_EDGE, hub=hub_config("box", listen=("127.0.0.1:8444",)), uplinks={}),
            id="another address, where nobody comes",
        ),
    ],
)
async def test_edges_that_the_hub_in_force_does_not_know_have_no_series(
    afterwards: EdgeConfig, autojump_clock: MockClock
) -> None:
    net = MemoryNet()
    app = memory_app(
        ITS_OWN_EDGE,
        lambda: Loaded(config=afterwards, source="test.toml"),
        lambda spec: ScriptedServer(),
        addresses=MemoryAddresses(net),
    )
    with net.calling():
        async with running(app):
            with trio.fail_after(10):
                await eventually(lambda: 'mcp_edge_hub_link_up{edge="box-s"} 1.0' in exposition(app))
            assert (await app.reloads.ask(ReloadOptions())).result == "reloaded"
            assert [line for line in exposition(app) if 'edge="box-s"' in line] == []
            assert "mcp_edge_hub_pending_bytes 0.0" in exposition(app)
            assert "edge:box-s" not in app.health.statuses
