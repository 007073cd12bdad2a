"""What clients are shown while servers come and go."""

import itertools
import time

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.parts.channel import Ended
from edge.parts.upstream import Upstream
from edge.parts.views import View, group_key
from tests.support.gateway_client import Client, EventStream
from tests.support.gateway_rig import Rig, ToolServer, echo, gateway
from tests.support.memory_channel import ScriptedServer, initialized

Clock = MockClock
LIST_CHANGED = "notifications/tools/list_changed"


def ended(server: str) -> Ended:
    return Ended(server, "exited with status 1")


async def names(client: Client) -> list[str]:
    return [tool["name"] for tool in (await client.result("tools/list"))["tools"]]


async def told(stream: EventStream, seconds: float) -> list[tuple[float, str]]:
    """What the stream tells from now on, and when."""
    found = []
    with trio.move_on_after(seconds):
        while True:
            message = await stream.message()
            found.append((trio.current_time(), message["method"]))
    return found


async def go_down(rig: Rig, name: str, seconds: float) -> None:
    """The server ends, and comes up again after so many seconds (30 at the first attempt, then 60)."""
    server = rig.servers[name]
    assert isinstance(server, ScriptedServer)
    server.start_errors = [ended(name)] * (0 if seconds <= 30 else 1)
    server.die(ended(name))
    await wait_all_tasks_blocked()


async def test_a_server_that_is_down_for_a_moment_stays_listed_and_then_not(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig:
        client = await rig.client()
        await trio.sleep(1)
        await go_down(rig, "b", 30)
        for wait, listed in ((0, ["a__echo", "b__echo"]), (10, ["a__echo", "b__echo"]), (10, ["a__echo"])):
            await trio.sleep(wait)
            assert await names(client) == listed
        await trio.sleep(12)
        assert await names(client) == ["a__echo", "b__echo"]


async def test_clients_are_told_when_the_grace_is_over_and_when_it_is_back(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig:
        clients = [await rig.client(path=path) for path in ("/mcp", "/servers/a/mcp", "/servers/b/mcp")]
        streams = [await client.listen() for client in clients]
        await trio.sleep(1)
        await go_down(rig, "b", 30)
        heard: dict[int, list[tuple[float, str]]] = {}

        async def hear(index: int) -> None:
            heard[index] = await told(streams[index], 60)

        async with trio.open_nursery() as nursery:
            for index in range(3):
                nursery.start_soon(hear, index)
        changes = [(15, LIST_CHANGED), (31, LIST_CHANGED)]
        assert heard == {0: changes, 1: [], 2: changes}


async def test_a_server_that_is_back_in_time_is_no_news(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server, retry_s=9) as rig:
        stream = await (await rig.client()).listen()
        server.die(ended("a"))
        assert await told(stream, 30) == []
        assert len(server.starts) == 2


async def test_a_call_to_a_server_that_is_down_says_so_however_long_it_is(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig:
        alone, client = await rig.client(path="/servers/b/mcp"), await rig.client()
        await go_down(rig, "b", 90)
        for _ in range(3):
            assert (await client.call("b__echo"))["error"]["code"] == -32010
            assert (await alone.call("echo"))["error"]["code"] == -32010
            assert "result" in await client.call("a__echo")
            await trio.sleep(20)


async def test_a_name_means_what_the_list_says_while_a_server_is_down(autojump_clock: Clock) -> None:
    servers = {"a": ToolServer(both=echo), "b": ToolServer(both=echo)}
    for server in servers.values():
        server.list_resources("x://same")
        server.by_method["resources/read"] = echo
    async with gateway(servers, prefix="on-collision") as rig:
        client = await rig.client()
        assert await names(client) == ["a__both", "b__both"]
        await go_down(rig, "a", 90)
        await trio.sleep(16)
        assert await names(client) == ["both"]
        before = servers["b"].count("tools/call")
        for name in ("both", "b__both"):  # as it is now, and as the client may remember it
            assert "result" in await client.call(name)
        assert servers["b"].count("tools/call") == before + 2
        assert (await client.call("a__both"))["error"]["code"] == -32010
        [resource] = (await client.result("resources/list"))["resources"]
        assert (await client.result("resources/read", {"uri": resource["uri"]}))["got"] == {"uri": "x://same"}
        assert servers["b"].count("resources/read") == 1


async def test_one_server_alone_is_listed_as_empty_when_its_grace_is_over(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client(path="/servers/a/mcp")
        await go_down(rig, "a", 90)
        assert await names(client) == ["echo"]
        await trio.sleep(16)
        assert await names(client) == []


async def test_what_a_server_can_do_is_remembered_while_it_is_down(autojump_clock: Clock) -> None:
    async with gateway(ScriptedServer()) as rig:
        await go_down(rig, "a", 90)
        await trio.sleep(16)
        assert (await rig.connect().initialize())["capabilities"] == {"tools": {"listChanged": True}}


async def test_a_server_that_comes_up_late_is_news(autojump_clock: Clock) -> None:
    async def late(params: str | None) -> str:
        await trio.sleep(20)
        return initialized(tools={})

    server = ScriptedServer()
    server.answers["initialize"] = late
    async with gateway(server, wait=False) as rig:
        client = await rig.client()
        stream = await rig.again(client).listen()
        assert await told(stream, 30) == [(20, LIST_CHANGED)]
        assert await names(client) == ["a__echo"]


async def test_a_server_that_is_removed_is_gone_at_once(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig:
        remaining = {name: upstream for name, upstream in rig.upstreams.items() if name == "a"}
        assert rig.views.rebuild(remaining) == {None: ["tools"]}
        assert rig.views.get("b") is None
        view = rig.views.get(None)
        assert view is not None
        assert (view.tool("a__echo"), view.tool("b__echo")) == (("a", "echo"), None)


async def test_without_servers_there_is_an_empty_view(autojump_clock: Clock) -> None:
    async with gateway({}) as rig:
        client = rig.connect()
        assert (await client.initialize())["capabilities"] == {}
        assert await names(client) == []


def catalogued(upstream: Upstream, view: View | None) -> list[str]:
    assert view is not None
    return view.listed.keys("tools")


async def test_a_request_sees_one_state_of_all_views(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        older = rig.views.get(None)
        server.list_tools("other")
        server.tell(LIST_CHANGED)
        await trio.sleep(1)
        upstream = rig.upstreams["a"]
        assert catalogued(upstream, older) == ["a__echo"]
        assert catalogued(upstream, rig.views.get(None)) == ["a__other"]


async def test_what_is_published_under_another_name_is_logged_once(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "edge.gateway")
    servers = {"a": ToolServer(), "b": ToolServer()}
    for server in servers.values():
        server.list_resources("x://same")
    async with gateway(servers) as rig:
        server.list_tools("more")
        server.tell(LIST_CHANGED)
        await trio.sleep(1)
        assert len(rig.views.problems) == 1
    said = [record.getMessage() for record in caplog.records if record.name == "edge.gateway"]
    assert said == ["some names are published differently", "published differently"]


async def test_a_group_shows_its_servers_and_no_other(autojump_clock: Clock) -> None:
    servers = {"a": ToolServer(), "b": ToolServer(), "c": ToolServer()}
    async with gateway(servers, groups={"hq": frozenset({"a", "c"})}) as rig:
        key = group_key("hq")
        view = rig.views.get(key)
        assert view is not None
        assert (view.key, view.server) == (key, None)
        assert view.listed.keys("tools") == ["a__echo", "c__echo"]
        assert view.tool("b__echo") is None
        assert rig.views.servers_of(key, rig.upstreams) == ["a", "c"]
        assert [rig.views.covers(k, "b") for k in (None, "b", "a", key)] == [True, True, False, False]


async def test_a_view_whose_servers_have_not_changed_is_kept(autojump_clock: Clock) -> None:
    servers = {"a": ToolServer(), "b": ToolServer()}
    async with gateway(servers, groups={"one": frozenset({"a"})}) as rig:
        keys = (None, "a", "b", group_key("one"))
        before = [rig.views.get(key) for key in keys]
        servers["b"].list_tools("other")
        servers["b"].tell(LIST_CHANGED)
        await trio.sleep(1)
        assert [rig.views.get(key) is view for key, view in zip(keys, before, strict=True)] == [
            False,
            True,
            False,
            True,
        ]


async def test_when_making_views_is_dear_changes_wait_for_whoever_asks(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "thread_time", lambda: next(ticks) * 0.1)  # each making costs 0.1 s
    servers = {"a": ToolServer(), "b": ToolServer()}
    async with gateway(servers) as rig:
        await trio.sleep(3)
        client = await rig.client()
        stream = await rig.again(client).listen()
        await trio.sleep(3)
        servers["a"].list_tools("first")
        servers["a"].tell(LIST_CHANGED)
        await trio.sleep(0.5)
        servers["b"].list_tools("second")
        servers["b"].tell(LIST_CHANGED)
        await trio.sleep(0.5)
        assert await names(client) == ["a__first", "b__echo"]
        await trio.sleep(2)
        assert await names(client) == ["a__first", "b__second"]
        assert len(await told(stream, 3)) == 2
        servers["a"].list_tools("third")
        servers["a"].tell(LIST_CHANGED)
        await trio.sleep(0.5)
        servers["b"].list_tools("fourth")
        servers["b"].tell(LIST_CHANGED)
        await trio.sleep(1.5)
        assert [method for _, method in await told(stream, 0.1)] == [LIST_CHANGED]
        await trio.sleep(6)  # nobody asks: the tidying of every 5 s makes them
        assert [method for _, method in await told(stream, 0.1)] == [LIST_CHANGED]
        assert await names(client) == ["a__third", "b__fourth"]
