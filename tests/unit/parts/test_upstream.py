"""Keeping a server up: handshake, lists, retries, signs of life and the end, on a mock clock."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.config.model import BackoffConfig, HttpServerConfig
from edge.errors import RpcError, Unavailable
from edge.parts.catalog_loader import LIST_CHARS
from edge.parts.channel import Ended
from tests.support.memory_channel import ScriptedServer, sleeps_forever, tools
from tests.support.upstream_rig import GIT, Rig, after, in_turn, up

WEB = HttpServerConfig(name="git", url="http://localhost:1/mcp", reconnect=BackoffConfig(max_attempts=3))
EXITED = Ended("git", "exited with status 1", "fatal: /etc/git is gone")

Clock = MockClock


# -- coming up


async def test_child_that_keeps_dying_is_retried_with_growing_delay(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [EXITED] * 4
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert server.starts == [0, 1, 3, 7, 15][:4]


async def test_a_conversation_begins_with_initialize_initialized_and_the_lists(autojump_clock: Clock) -> None:
    server = ScriptedServer(tools={}, prompts={}, resources={}, logging={})
    async with up(server):
        pass
    assert server.methods == [
        "initialize",
        "notifications/initialized",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
    ]
    params = server.asked[0][1]
    assert params is not None
    assert '"protocolVersion":"2025-11-25"' in params


async def test_only_lists_that_the_capabilities_name_are_asked_for(autojump_clock: Clock) -> None:
    server = ScriptedServer(prompts={})
    async with up(server):
        pass
    assert server.methods == ["initialize", "notifications/initialized", "prompts/list"]


async def test_all_pages_are_read(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/list"] = in_turn(
        tools("a", next_cursor='x"'), tools("b", next_cursor=""), tools("c")
    )
    async with up(server) as rig:
        assert [item.key for item in rig.upstream.catalog.tools] == ["a", "b", "c"]
    assert [params for method, params in server.asked if method == "tools/list"] == [
        None,
        '{"cursor":"x\\""}',
        '{"cursor":""}',
    ]
    assert rig.metrics.refreshes["success"] == 1


async def test_a_cursor_that_comes_again_ends_the_list(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/list"] = tools("a", next_cursor="again")
    async with up(server) as rig:
        assert server.count("tools/list") == 2
        assert [item.key for item in rig.upstream.catalog.tools] == ["a"]
        assert "a cursor came again" in "".join(rig.upstream.catalog.dropped)


async def test_cursors_without_end_stop_at_a_hundred_pages(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    pages = [tools(f"t{n}", next_cursor=str(n)) for n in range(200)]
    server.answers["tools/list"] = in_turn(*pages)
    async with up(server) as rig:
        assert len(rig.upstream.catalog.tools) == 100


async def test_a_list_is_read_up_to_so_many_characters(autojump_clock: Clock) -> None:
    server = ScriptedServer(prompts={})
    long = "d" * (LIST_CHARS // 3)
    page = '{"prompts":[{"name":"p%d","description":"%s"}],"nextCursor":"%d"}'
    server.answers["prompts/list"] = in_turn(*(page % (n, long, n) for n in range(50)))
    async with up(server) as rig:
        assert [item.key for item in rig.upstream.catalog.prompts] == ["p0", "p1"]
        assert server.count("prompts/list") == 3
        assert "more than 8388608 characters" in "".join(rig.upstream.catalog.dropped)


async def test_pages_without_end_that_hold_little_are_read_up_to_so_many_characters(
    autojump_clock: Clock,
) -> None:
    server = ScriptedServer(prompts={})
    long = "d" * (LIST_CHARS // 3)
    page = '{"prompts":[{"name":"p%d"}],"nextCursor":"%d","more":"%s"}'
    server.answers["prompts/list"] = in_turn(*(page % (n, n, long) for n in range(50)))
    async with up(server) as rig:
        assert [item.key for item in rig.upstream.catalog.prompts] == ["p0", "p1", "p2"]
        assert server.count("prompts/list") == 3


async def test_a_server_without_templates_is_whole(autojump_clock: Clock) -> None:
    server = ScriptedServer(resources={})
    server.answers["resources/templates/list"] = RpcError(-32601, "method not found")
    async with up(server) as rig:
        assert rig.metrics.refreshes["success"] == 1


async def test_one_invalid_tool_is_dropped_and_counted(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/list"] = '{"tools":[{"name":"a","inputSchema":{"type":"object"}},{"name":"b"}]}'
    async with up(server) as rig:
        assert [item.key for item in rig.upstream.catalog.tools] == ["a"]
        assert (rig.metrics.tools_count, rig.metrics.dropped_items) == (1, 1)


async def test_no_answer_to_initialize_is_a_failed_start(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["initialize"] = sleeps_forever
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await rig.upstream.wait_settled()
        assert trio.current_time() == 30
        assert (rig.status.state, rig.status.reason) == ("degraded", "no answer in 30 s")
        assert rig.metrics.initializes["error"] == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RpcError(-32000, "not today"), "refused initialize: not today (-32000)"),
        ('{"protocolVersion":"1.0"}', "answered initialize wrongly: the server wants protocol version '1.0'"),
    ],
)
async def test_why_initialize_failed_is_in_the_status(
    autojump_clock: Clock, answer: str | Exception, reason: str
) -> None:
    server = ScriptedServer()
    server.answers["initialize"] = answer
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await rig.upstream.wait_settled()
        assert rig.status.reason.startswith(reason)
        nursery.cancel_scope.cancel()


# -- going down


async def test_while_it_is_down_calls_fail_at_once_and_say_why(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [EXITED, EXITED]
    rig = Rig(server)
    with pytest.raises(Unavailable, match="not started yet"):
        await rig.call()
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await trio.sleep(1.5)
        with pytest.raises(Unavailable, match=r"server git: restarting in 1.5 s: exited with status 1$"):
            await rig.call()
        assert trio.current_time() == 1.5
        await rig.upstream.wait_ready()
        assert trio.current_time() == 3
        assert await rig.call() == '{"content":[]}'
        nursery.cancel_scope.cancel()


async def test_a_server_that_dies_takes_its_catalogue_along_and_comes_back(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server) as rig:
        server.die(EXITED)
        await wait_all_tasks_blocked()
        assert not rig.upstream.is_ready
        assert not rig.metrics.connected
        seen = (rig.status.state, rig.status.reason)
        assert seen == ("degraded", "exited with status 1: fatal: /etc/git is gone")
        assert rig.metrics.backoff_s == 1
        await rig.upstream.wait_ready()
        assert (rig.status.state, rig.status.reason) == ("ready", "")
        assert (rig.status.restarts, rig.metrics.restarts, rig.metrics.reconnects) == (1, 1, 1)
        assert rig.metrics.reconnect_attempts == {"success": 1, "error": 1}
        assert (rig.metrics.in_backoff, rig.metrics.backoff_total) == (False, 1)
    assert rig.events.catalogs == [(0, ("echo",)), (0, ()), (1, ("echo",)), (1, ())]


async def test_the_past_is_forgiven_after_it_was_good_for_a_while(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [EXITED, EXITED]
    async with up(server):
        await trio.sleep(60)
        server.die(EXITED)
        await trio.sleep(1.5)
    assert server.starts == [0, 1, 3, 64]


async def test_a_server_that_stays_down_is_said_to_be_so_once(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = ScriptedServer()
    server.start_errors = [Unavailable("git", "connection refused")] * 9
    rig = Rig(server, GIT)
    with caplog.at_level("WARNING"):
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.upstream.run)
            await trio.sleep(100)
            nursery.cancel_scope.cancel()
    assert len(server.starts) > 3
    assert [record.message for record in caplog.records] == ["server down"]


async def test_an_end_that_was_told_is_not_told_again(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = ScriptedServer()
    refused = Ended("git", "refused initialize", "no")
    server.start_errors = [refused, Ended("git", "the link was lost", "cut", is_told=True), refused]
    rig = Rig(server, GIT)
    with caplog.at_level("INFO"):
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.upstream.run)
            await rig.upstream.wait_ready()
            assert len(server.starts) == 4
            nursery.cancel_scope.cancel()
    assert [(record.message, record.levelname) for record in caplog.records] == [
        ("server down", "WARNING"),
        ("server ready", "INFO"),
    ]


async def test_a_doubt_is_looked_into_at_once(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server) as rig:
        asked = server.count("ping")
        rig.upstream.doubted()
        await wait_all_tasks_blocked()
        assert server.count("ping") == asked + 1


async def test_a_server_is_given_up_after_its_attempts(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [Unavailable("git", "connection refused")] * 9
    rig = Rig(server, WEB)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        with pytest.raises(Unavailable, match="given up: connection refused"):
            await rig.upstream.wait_ready()
        assert server.starts == [0, 1, 3]
        assert rig.status.state == "failed"
        await trio.sleep(1000)
        assert len(server.starts) == 3
        nursery.cancel_scope.cancel()


async def test_a_bug_is_not_retried(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [ZeroDivisionError()]
    rig = Rig(server)
    with pytest.raises(BaseExceptionGroup) as caught:
        await rig.upstream.run()
    assert caught.group_contains(ZeroDivisionError)
    assert rig.status.state == "stopped"


async def test_running_calls_end_before_the_channel_when_the_intake_is_cancelled(
    autojump_clock: Clock,
) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = after(5, '{"content":[1]}')
    rig = Rig(server)
    results: list[str] = []

    async def call() -> None:
        results.append(await rig.call())

    async with trio.open_nursery() as nursery:
        intake: trio.CancelScope = await nursery.start(rig.upstream.run)
        await rig.upstream.wait_ready()
        nursery.start_soon(call)
        await trio.sleep(1)
        intake.cancel()
        await trio.sleep(1)
        with pytest.raises(Unavailable, match="stopping"):
            await rig.call()
    assert results == ['{"content":[1]}']
    assert server.ends == [5]
    assert rig.status.state == "stopped"


async def test_it_ends_at_once_when_nothing_runs(autojump_clock: Clock) -> None:
    rig = Rig(ScriptedServer())
    async with trio.open_nursery() as nursery:
        intake: trio.CancelScope = await nursery.start(rig.upstream.run)
        await rig.upstream.wait_ready()
        intake.cancel()
    assert trio.current_time() == 0


async def test_cancelled_at_any_checkpoint_it_leaves_no_conversation_open(autojump_clock: Clock) -> None:
    for steps in range(40):
        server = ScriptedServer(tools={}, prompts={}, resources={})
        rig = Rig(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.upstream.run)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert len(server.starts) == len(server.ends)
        assert not rig.upstream.is_ready
        assert rig.status.state == "stopped"


# -- lists


async def test_a_server_that_changes_all_the_time_is_read_the_more_seldom_the_longer_it_takes(
    autojump_clock: Clock,
) -> None:
    async def slow(params: str | None) -> str:
        await trio.sleep(0.5)
        return tools("echo")

    server = ScriptedServer()
    server.answers["tools/list"] = slow
    async with up(server):
        before = server.count("tools/list")
        for _ in range(300):
            server.tell("notifications/tools/list_changed")
            await trio.sleep(0.1)
        assert 8 <= server.count("tools/list") - before <= 11


async def test_a_burst_of_list_changed_is_one_refresh_of_that_list(autojump_clock: Clock) -> None:
    server = ScriptedServer(tools={"listChanged": True}, prompts={})
    async with up(server) as rig:
        server.answers["tools/list"] = tools("echo", "new")
        for _ in range(5):
            server.tell("notifications/tools/list_changed")
        await trio.sleep(1)
        assert rig.events.catalogs == [(0, ("echo",)), (0.2, ("echo", "new"))]
        assert (server.count("tools/list"), server.count("prompts/list")) == (2, 1)


async def test_lists_are_read_again_now_and_then(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    config = replace(GIT, list_refresh_s=100.0)
    async with up(server, config) as rig:
        await trio.sleep(250)
        assert server.count("tools/list") == 3
        assert rig.events.catalogs == [(0, ("echo",))]


async def test_a_refresh_that_fails_leaves_the_list_as_it_was(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server) as rig:
        server.answers["tools/list"] = RpcError(-32603, "no")
        server.tell("notifications/tools/list_changed")
        await trio.sleep(1)
        assert [item.key for item in rig.upstream.catalog.tools] == ["echo"]
        server.answers["tools/list"] = Unavailable("git", "connection refused")
        server.tell("notifications/tools/list_changed")
        await trio.sleep(1)
        assert [item.key for item in rig.upstream.catalog.tools] == ["echo"]


# -- signs of life


async def test_a_silent_server_is_pinged(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server) as rig:
        await trio.sleep(29)
        assert server.count("ping") == 0
        await rig.call()
        await trio.sleep(29)
        assert server.count("ping") == 0
        await trio.sleep(2)
        assert server.count("ping") == 1
        assert rig.metrics.health_checks == {"success": 1, "failure": 0}


async def test_a_server_that_does_not_answer_a_ping_is_started_again(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server) as rig:
        server.answers["ping"] = sleeps_forever
        await trio.sleep(40.5)
        assert rig.status.reason == "no answer to ping in 10 s"
        assert rig.metrics.health_checks == {"success": 0, "failure": 1}
        await trio.sleep(1)
        assert server.starts == [0, 41]


async def test_a_server_is_pinged_while_a_list_keeps_it_waiting(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server) as rig:
        await trio.sleep(20)
        server.answers["tools/list"] = server.answers["ping"] = sleeps_forever
        server.tell("notifications/tools/list_changed")
        await trio.sleep(20.5)
        assert rig.status.reason == "no answer to ping in 10 s"
        await trio.sleep(1)
        assert server.starts == [0, 41]


async def test_a_doubt_while_a_list_is_read_is_looked_into_at_once(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server) as rig:
        server.answers["tools/list"] = sleeps_forever
        server.tell("notifications/tools/list_changed")
        await trio.sleep(1)
        rig.upstream.doubted()
        await trio.sleep(0.5)
        assert server.count("ping") == 1


async def test_a_call_that_finds_nobody_makes_it_look_at_once(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server, WEB) as rig:
        server.answers["tools/call"] = server.answers["ping"] = Unavailable("git", "connection refused")
        with pytest.raises(Unavailable):
            await rig.call()
        await wait_all_tasks_blocked()
        assert not rig.upstream.is_ready
        assert (rig.status.state, rig.status.reason) == ("degraded", "connection refused")
