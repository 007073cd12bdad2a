"""Calls with a server: limits, losses, lost sessions, what is desired; and what the server says by itself."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.config.model import BackoffConfig, HttpServerConfig, StdioLimits
from edge.errors import Gone, RpcError, SessionLost, TimedOut, Unavailable
from edge.parts.channel import Ended
from edge.proto.jsonrpc import Request
from tests.support.memory_channel import ScriptedServer, initialized, sleeps_forever
from tests.support.upstream_rig import GIT, Rig, after, in_turn, up

WEB = HttpServerConfig(name="git", url="http://localhost:1/mcp", reconnect=BackoffConfig(max_attempts=3))
EXITED = Ended("git", "exited with status 1", "fatal: /etc/git is gone")

Clock = MockClock


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
    config = replace(GIT, limits=StdioLimits(concurrency=2))
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
            assert (rig.metrics.inflight_limit, rig.metrics.queue_limit) == (2, 8)
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
