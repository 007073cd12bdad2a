"""Parts that go on with other settings: views, sessions, and what clients see of it."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.config.model import GatewayConfig
from edge.parts.sessions import TooManySessions
from edge.parts.views import group_key
from tests.support.gateway_client import Client
from tests.support.gateway_rig import Rig, ToolServer, gateway

Clock = MockClock


async def names(client: Client) -> list[str]:
    return [tool["name"] for tool in (await client.result("tools/list"))["tools"]]


def configure(rig: Rig, config: GatewayConfig, **groups: frozenset[str] | None) -> None:
    rig.gateway.configure(config, groups, rig.upstreams)


async def test_other_names_hold_from_the_next_request_on_and_old_ones_no_longer(
    autojump_clock: Clock,
) -> None:
    async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig:
        client = await rig.client()
        assert await names(client) == ["a__echo", "b__echo"]
        configure(rig, GatewayConfig(separator="--"))
        assert await names(client) == ["a--echo", "b--echo"]
        assert (await client.ask("tools/call", {"name": "a__echo"})).error["code"] == -32602
        assert "got" in await client.result("tools/call", {"name": "a--echo"})


async def test_other_names_are_told_to_open_streams(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer()}) as rig:
        client = await rig.client()
        stream = await rig.again(client).listen()
        await trio.sleep(1)
        configure(rig, GatewayConfig(prefix="never"))
        assert (await stream.message())["method"] == "notifications/tools/list_changed"
        assert await names(client) == ["echo"]


async def test_a_config_that_makes_the_same_names_tells_nobody_anything(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer()}) as rig:
        client = await rig.client()
        stream = await rig.again(client).listen()
        configure(rig, GatewayConfig(call_timeout_s=7, page_size=1))
        with trio.move_on_after(100) as silence:
            await stream.message()
        assert silence.cancelled_caught
        assert await names(client) == ["a__echo"]


async def test_groups_come_and_go(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig:
        assert rig.gateway.view(group_key("hq")) is None
        configure(rig, GatewayConfig(), hq=frozenset({"b"}))
        view = rig.gateway.view(group_key("hq"))
        assert view is not None
        assert view.tool("b__echo") is not None
        assert view.tool("a__echo") is None
        configure(rig, GatewayConfig(), hq=None)
        view = rig.gateway.view(group_key("hq"))
        assert view is not None
        assert view.tool("a__echo") is not None
        configure(rig, GatewayConfig())
        assert rig.gateway.view(group_key("hq")) is None


async def test_a_page_has_another_size_from_the_next_request_on(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig:
        client = await rig.client()
        configure(rig, GatewayConfig(page_size=1))
        first = await client.result("tools/list")
        assert len(first["tools"]) == 1
        assert "nextCursor" in first


async def test_a_server_that_is_gone_is_an_error_of_the_call_and_no_bug(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig:
        alone = await rig.client(path="/servers/b/mcp")
        both = await rig.client()
        del rig.upstreams["b"]
        configure(rig, GatewayConfig())
        assert await names(both) == ["a__echo"]
        found = (await alone.ask("tools/call", {"name": "echo"})).json
        assert "error" in found
        assert found["error"]["code"] != -32603


async def test_a_shorter_idle_time_ends_sessions_that_are_idle_for_longer(autojump_clock: Clock) -> None:
    async with gateway(session_idle_s=1000.0) as rig:
        client = await rig.client()
        await trio.sleep(50)
        rig.sessions.update(idle_s=60, max_sessions=100)
        await client.result("ping")
        await trio.sleep(55)
        assert len(rig.sessions) == 1
        await trio.sleep(1000)
        assert len(rig.sessions) == 0


async def test_fewer_sessions_leave_those_there_are_and_no_room_for_more(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        clients = [await rig.client() for _ in range(3)]
        streams = [await rig.again(client).listen() for client in clients]
        rig.sessions.update(idle_s=1000, max_sessions=1)
        for client in clients:
            await client.result("ping")
        with pytest.raises(TooManySessions):
            rig.sessions.create(version="2025-11-25", view=None)
        assert len(rig.sessions) == len(streams) == 3
        await wait_all_tasks_blocked()
