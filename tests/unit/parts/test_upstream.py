"""Keeping a server up: handshake, lists, retries, sessions, limits and the end, on a mock clock."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.backoff import Backoff
from edge.config.model import BackoffConfig, HttpServerConfig, ServerConfig, ServerLimits, StdioServerConfig
from edge.errors import Gone, RpcError, SessionLost, TimedOut, Unavailable
from edge.health import Status
from edge.metrics import ServerMetrics
from edge.parts.channel import Ended
from edge.parts.upstream import Upstream
from edge.proto.jsonrpc import Request
from tests.support.memory_channel import ScriptedServer, Witness, initialized, sleeps_forever, tools

GIT = StdioServerConfig(name="git", command=("git-server",))
WEB = HttpServerConfig(name="git", url="http://localhost:1/mcp", reconnect=BackoffConfig(max_attempts=3))
EXITED = Ended("git", "exited with status 1", "fatal: /etc/git is gone")

Clock = MockClock


class Rig:
    """An upstream over a scripted server, and all that can be seen of it."""

    def __init__(self, server: ScriptedServer, config: ServerConfig = GIT) -> None:
        self.server = server
        self.events = Witness()
        self.status = Status("server:git")
        self.metrics = ServerMetrics()
        self.upstream = Upstream(
            config,
            server.connect,
            events=self.events,
            status=self.status,
            metrics=self.metrics,
            backoff=Backoff(first_s=1, limit_s=60, jitter=0),
            log=logging.getLogger("edge.upstream"),
        )

    async def call(self, method: str = "tools/call", timeout_s: float = 0) -> str:
        return (await self.upstream.request(method, '{"name":"echo"}', timeout_s=timeout_s)).text


@asynccontextmanager
async def up(server: ScriptedServer, config: ServerConfig = GIT) -> AsyncIterator[Rig]:
    """Running and ready; cancelled at the end."""
    rig = Rig(server, config)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await rig.upstream.wait_ready()
        yield rig
        nursery.cancel_scope.cancel()


def after(seconds: float, text: str = "{}") -> Callable[[str | None], Awaitable[str]]:
    async def answer(params: str | None) -> str:
        await trio.sleep(seconds)
        return text

    return answer


def in_turn(*answers: str | Exception) -> Callable[[str | None], Awaitable[str]]:
    rest = list(answers)

    async def answer(params: str | None) -> str:
        now = rest.pop(0) if len(rest) > 1 else rest[0]
        if isinstance(now, Exception):
            raise now
        return now

    return answer


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


async def test_a_list_that_fails_is_empty_and_the_others_are_there(autojump_clock: Clock) -> None:
    server = ScriptedServer(tools={}, prompts={})
    server.answers["tools/list"] = RpcError(-32603, "no")
    server.answers["prompts/list"] = '{"prompts":[{"name":"p"}]}'
    async with up(server) as rig:
        assert rig.upstream.catalog.tools == ()
        assert [item.key for item in rig.upstream.catalog.prompts] == ["p"]
        assert rig.metrics.refreshes["error"] == 1


async def test_a_list_that_is_never_answered_does_not_keep_the_server_down(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/list"] = sleeps_forever
    async with up(server):
        assert trio.current_time() == 30
        assert server.cancelled == ["tools/list"]


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


async def test_refusing_a_ping_is_a_sign_of_life(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["ping"] = RpcError(-32601, "method not found")
    async with up(server) as rig:
        await trio.sleep(100)
        assert server.starts == [0]
        assert rig.metrics.health_checks == {"success": 3, "failure": 0}


async def test_a_server_at_work_is_not_pinged_for_ten_minutes(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = sleeps_forever
    server.answers["ping"] = sleeps_forever
    config = replace(GIT, list_refresh_s=100_000.0)
    async with up(server, config) as rig, trio.open_nursery() as nursery:
        nursery.start_soon(rig.call)
        await trio.sleep(599)
        assert server.count("ping") == 0
        await trio.sleep(30)
        assert server.ends == [610]
        nursery.cancel_scope.cancel()


async def test_a_call_that_finds_nobody_makes_it_look_at_once(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server, WEB) as rig:
        server.answers["tools/call"] = server.answers["ping"] = Unavailable("git", "connection refused")
        with pytest.raises(Unavailable):
            await rig.call()
        await wait_all_tasks_blocked()
        assert not rig.upstream.is_ready
        assert (rig.status.state, rig.status.reason) == ("degraded", "connection refused")


# -- calls


async def test_the_time_limit_cancels_the_request(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = sleeps_forever
    async with up(server) as rig:
        with pytest.raises(TimedOut, match="no answer in 7 s"):
            await rig.call(timeout_s=7)
        assert trio.current_time() == 7
        assert server.cancelled == ["tools/call"]
        assert rig.metrics.inflight == 0


async def test_calls_over_the_limit_wait_and_too_many_are_refused(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = after(1)
    config = replace(GIT, limits=ServerLimits(concurrency=2))
    ends: list[float] = []
    refused: list[str] = []

    async with up(server, config) as rig:

        async def call() -> None:
            try:
                await rig.call()
                ends.append(trio.current_time())
            except Unavailable as exc:
                refused.append(exc.text)

        async with trio.open_nursery() as nursery:
            for _ in range(11):
                nursery.start_soon(call)
            await trio.sleep(0.5)
            assert (rig.metrics.inflight, rig.metrics.queue_waiting) == (2, 8)
    assert ends == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert refused == ["busy: 2 calls run and 8 wait"]


async def test_a_call_that_was_lost_is_not_repeated(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = Gone("git", "connection reset")
    async with up(server) as rig:
        with pytest.raises(Gone):
            await rig.call()
        assert server.count("tools/call") == 1


async def test_a_read_that_was_lost_is_repeated_once(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    gone = Gone("git", "connection reset")
    server.answers["resources/read"] = in_turn(gone, '{"contents":[]}', gone)
    async with up(server) as rig:
        assert await rig.call("resources/read") == '{"contents":[]}'
        with pytest.raises(Gone):
            await rig.call("resources/read")
        assert server.count("resources/read") == 4


async def test_a_read_that_cannot_be_repeated_says_what_happened_first(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["resources/read"] = in_turn(Gone("git", "killed by SIGKILL"), Unavailable("git", "gone"))
    async with up(server) as rig:
        with pytest.raises(Gone, match="killed by SIGKILL"):
            await rig.call("resources/read")


async def test_an_error_answer_passes_as_it_is(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = RpcError(-32042, "open this", '{"n":1.0}')
    async with up(server) as rig:
        with pytest.raises(RpcError) as caught:
            await rig.call()
    assert (caught.value.code, caught.value.message, caught.value.data) == (-32042, "open this", '{"n":1.0}')


# -- lost sessions


def loses_session(server: ScriptedServer, method: str = "tools/call") -> None:
    """The method fails until initialize has come again."""
    before = server.count("initialize")

    async def answer(params: str | None) -> str:
        await trio.sleep(0.1)
        if server.count("initialize") == before:
            raise SessionLost("git", "unknown_session")
        return '{"content":["again"]}'

    server.answers[method] = answer


async def test_calls_that_lose_a_session_together_cause_one_initialize(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server, WEB) as rig:
        loses_session(server)
        server.answers["initialize"] = after(1, initialized(tools={}))
        results: list[str] = []

        async def call() -> None:
            results.append(await rig.call())

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(call)
            await trio.sleep(0.5)
            nursery.start_soon(call)  # comes in between: waits, and is sent once
        assert results == ['{"content":["again"]}'] * 11
        assert server.count("initialize") == 2
        assert server.count("tools/call") == 21
        assert rig.metrics.session_resets["unknown_session"] == 1
        await trio.sleep(1)
        assert server.count("tools/list") == 2
        assert server.starts == [0]


async def test_what_is_desired_is_said_again_in_a_new_session(autojump_clock: Clock) -> None:
    server = ScriptedServer(tools={}, logging={}, resources={"subscribe": True})
    server.answers["resources/subscribe"] = server.answers["logging/setLevel"] = "{}"
    async with up(server, WEB) as rig:
        await rig.upstream.subscribe("file:///a")
        await rig.upstream.set_level("debug")
        server.asked.clear()
        loses_session(server)
        await rig.call()
        assert server.asked[1:5] == [
            ("initialize", server.asked[1][1]),
            ("notifications/initialized", None),
            ("logging/setLevel", '{"level":"debug"}'),
            ("resources/subscribe", '{"uri":"file:///a"}'),
        ]


async def test_a_session_lost_twice_is_an_error(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server, WEB) as rig:
        server.answers["tools/call"] = SessionLost("git", "expired")
        with pytest.raises(SessionLost):
            await rig.call()
        assert (server.count("tools/call"), server.count("initialize")) == (2, 2)


async def test_a_call_whose_error_only_sounds_like_a_lost_session_is_not_run_twice(
    autojump_clock: Clock,
) -> None:
    server = ScriptedServer()
    async with up(server, WEB) as rig:
        said = RpcError(-32000, "login session expired after the transfer", '{"n":1.0}')
        server.answers["tools/call"] = SessionLost("git", "expired", answer=said)
        with pytest.raises(RpcError) as caught:
            await rig.call()
        assert caught.value is said
        assert (server.count("tools/call"), server.count("initialize")) == (1, 1)


async def test_a_read_whose_error_sounds_like_a_lost_session_is_asked_again(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server, WEB) as rig:
        said = RpcError(-32000, "session expired")
        server.answers["resources/read"] = in_turn(SessionLost("git", "expired", answer=said), "{}")
        assert (await rig.upstream.request("resources/read", None, timeout_s=9)).text == "{}"
        assert server.count("initialize") == 2


async def test_if_there_is_no_new_session_the_server_is_down(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server, WEB) as rig:
        loses_session(server)
        server.answers["initialize"] = in_turn(RpcError(-32000, "full"), initialized(tools={}))
        with pytest.raises(SessionLost):
            await rig.call()
        await wait_all_tasks_blocked()
        assert rig.status.reason == "refused initialize: full (-32000)"
        await rig.upstream.wait_ready()
        assert await rig.call() == '{"content":["again"]}'


# -- what is desired


async def test_subscriptions_and_level_survive_a_restart(autojump_clock: Clock) -> None:
    server = ScriptedServer(logging={}, resources={"subscribe": True})
    for method in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
        server.answers[method] = "{}"
    async with up(server) as rig:
        for uri in ("file:///a", "file:///b", "file:///a"):
            await rig.upstream.subscribe(uri)
        await rig.upstream.unsubscribe("file:///b")
        await rig.upstream.unsubscribe("file:///never")
        await rig.upstream.set_level("error")
        await rig.upstream.set_level("error")
        wishes = ("resources/subscribe", "resources/unsubscribe", "logging/setLevel")
        assert [method for method in server.methods if method in wishes] == [
            "resources/subscribe",
            "resources/subscribe",
            "resources/unsubscribe",
            "logging/setLevel",
        ]
        server.asked.clear()
        server.die(EXITED)
        await trio.sleep(2)
        assert [asked for asked in server.asked if asked[0] in wishes] == [
            ("logging/setLevel", '{"level":"error"}'),
            ("resources/subscribe", '{"uri":"file:///a"}'),
        ]


async def test_a_wish_that_is_refused_after_a_restart_does_not_keep_it_down(autojump_clock: Clock) -> None:
    server = ScriptedServer(resources={"subscribe": True})
    server.answers["resources/subscribe"] = in_turn("{}", RpcError(-32002, "no such resource"))
    async with up(server) as rig:
        await rig.upstream.subscribe("file:///a")
        server.die(EXITED)
        await trio.sleep(2)
        assert rig.upstream.is_ready


async def test_a_refused_subscription_is_not_remembered(autojump_clock: Clock) -> None:
    server = ScriptedServer(resources={"subscribe": True})
    server.answers["resources/subscribe"] = RpcError(-32002, "no such resource")
    async with up(server) as rig:
        for _ in range(2):
            with pytest.raises(RpcError, match="no such resource"):
                await rig.upstream.subscribe("file:///a")
        assert server.count("resources/subscribe") == 2


async def test_a_server_without_the_capability_is_not_asked(autojump_clock: Clock) -> None:
    server = ScriptedServer(resources={})
    async with up(server) as rig:
        with pytest.raises(RpcError, match="does not support") as caught:
            await rig.upstream.subscribe("file:///a")
        assert caught.value.code == -32601
        await rig.upstream.set_level("debug")
        assert server.count("logging/setLevel") == 0


# -- what it says by itself


async def test_what_belongs_to_no_call_goes_to_the_events(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server) as rig:
        server.tell("notifications/resources/updated", '{"uri":"file:///a"}')
        server.tell("notifications/message", '{"level":"info","data":1.0}')
        server.tell("notifications/unheard/of")
        server.tell("notifications/message")
        assert rig.events.updated == ['{"uri":"file:///a"}']
        assert rig.events.logs == ['{"level":"info","data":1.0}']


async def test_it_answers_ping_and_refuses_all_else(autojump_clock: Clock) -> None:
    rig = Rig(ScriptedServer())
    assert rig.upstream.asked(Request("1", "ping", None)) == "{}"
    for method in ("sampling/createMessage", "roots/list", "elicitation/create"):
        with pytest.raises(RpcError) as caught:
            rig.upstream.asked(Request("1", method, None))
        assert caught.value.code == -32601
