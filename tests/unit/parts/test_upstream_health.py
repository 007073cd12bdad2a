"""Being ready is earned: what a server has to answer to be called ready, and how it loses that, on a mock clock."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from edge.errors import RpcError
from edge.parts.channel import Ended
from tests.support.manual import quoted, rows
from tests.support.memory_channel import Answer, ScriptedServer, sleeps_forever, tools
from tests.support.upstream_rig import GIT, Rig, after, in_turn, up

Clock = MockClock
NO_SUCH_METHOD = RpcError(-32601, "method not found")
FAILING = RpcError(-32603, "out of order")


# -- coming up


async def test_what_a_server_that_is_coming_up_has_not_answered_yet_is_said(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["initialize"] = after(5, str(server.answers["initialize"]))
    server.answers["tools/list"] = after(5, tools("echo"))
    rig = Rig(server)
    seen: list[tuple[str, str]] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        for _ in range(3):
            await trio.sleep(4)
            seen.append((rig.status.state, rig.status.reason))
        nursery.cancel_scope.cancel()
    assert seen == [
        ("starting", "no answer to initialize yet"),
        ("starting", "it has not answered for all of its lists yet"),
        ("ready", ""),
    ]


async def test_a_server_that_answers_nothing_but_initialize_is_down(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/list"] = server.answers["ping"] = sleeps_forever
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await trio.sleep(40.5)
        assert not rig.upstream.is_ready
        assert rig.status.state == "degraded"
        assert rig.status.reason == "no answer to tools/list in 30 s, nor to ping in 10 s"
        nursery.cancel_scope.cancel()
    assert server.ends == [40]


async def test_a_server_whose_list_is_never_answered_can_be_called_and_is_not_ready(
    autojump_clock: Clock,
) -> None:
    server = ScriptedServer(tools={}, prompts={})
    server.answers["tools/list"] = sleeps_forever
    server.answers["prompts/list"] = '{"prompts":[{"name":"p"}]}'
    async with up(server) as rig:
        assert trio.current_time() == 30
        assert (rig.status.state, rig.status.reason) == ("degraded", "tools/list: no answer in 30 s")
        assert [item.key for item in rig.upstream.catalog.prompts] == ["p"]
        assert await rig.call() == '{"content":[]}'
        assert rig.status.state == "degraded"
    assert "tools/list" in server.cancelled


async def test_a_list_that_fails_is_read_again_soon_and_then_less_often_until_it_is_there(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = ScriptedServer(tools={}, prompts={})
    server.answers["tools/list"] = FAILING
    async with up(server) as rig:
        assert (rig.status.state, rig.status.reason) == ("degraded", "tools/list: out of order")
        assert rig.metrics.refreshes["error"] == 1
        await trio.sleep(10 + 20 + 40 + 1)
        assert server.count("tools/list") == 4
        assert [record.message for record in caplog.records].count("list could not be read") == 1
        server.answers["tools/list"] = tools("echo")
        await trio.sleep(80)
        assert rig.status.state == "ready"
        assert [item.key for item in rig.upstream.catalog.tools] == ["echo"]
        await trio.sleep(250)
        assert server.count("tools/list") == 5


async def test_a_list_that_fails_later_keeps_what_was_read_and_the_server_is_not_ready(
    autojump_clock: Clock,
) -> None:
    server = ScriptedServer()
    server.answers["tools/list"] = in_turn(tools("echo"), FAILING, tools("echo"))
    async with up(server) as rig:
        assert rig.status.state == "ready"
        await trio.sleep(301)
        assert (rig.status.state, rig.status.reason) == ("degraded", "tools/list: out of order")
        assert [item.key for item in rig.upstream.catalog.tools] == ["echo"]
        await trio.sleep(10)
        assert rig.status.state == "ready"


async def test_after_an_interruption_a_list_that_failed_is_read_again_at_once(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/list"] = in_turn(FAILING, tools("echo"))
    async with up(server) as rig:
        rig.upstream.resumed()
        seen = [rig.status.state]
        await trio.sleep(1)
        seen.append(rig.status.state)
        assert seen == ["degraded", "ready"]


async def test_a_list_that_the_server_does_not_have_is_no_trouble(autojump_clock: Clock) -> None:
    server = ScriptedServer(tools={}, prompts={})
    server.answers["prompts/list"] = NO_SUCH_METHOD
    async with up(server) as rig:
        assert rig.status.state == "ready"


# -- staying ready


async def test_silence_is_ended_by_a_ping_and_the_server_never_gets_stale(autojump_clock: Clock) -> None:
    async with up(ScriptedServer()) as rig:
        for _ in range(200):
            await trio.sleep(1)
            assert rig.status.state == "ready"
        assert rig.metrics.health_checks["success"] == 6


async def test_a_server_that_refuses_to_ping_is_asked_for_a_list(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["ping"] = NO_SUCH_METHOD
    async with up(server, replace(GIT, list_refresh_s=1000.0)) as rig:
        for _ in range(100):
            await trio.sleep(1)
            assert rig.status.state == "ready"
        assert (server.count("ping"), server.count("tools/list")) == (1, 1 + 3)
        assert server.starts == [0]
        server.answers["tools/list"] = sleeps_forever
        await trio.sleep(41)
        assert rig.status.last_error == "no answer to tools/list in 10 s"


async def test_without_a_list_either_the_refusal_is_what_counts(autojump_clock: Clock) -> None:
    server = ScriptedServer(logging={})
    server.answers["ping"] = NO_SUCH_METHOD
    async with up(server) as rig:
        await trio.sleep(100)
        assert rig.status.state == "ready"
        assert server.starts == [0]
        assert server.count("ping") == 3


async def test_a_server_that_answers_nothing_but_errors_gets_stale_and_is_asked_on(
    autojump_clock: Clock,
) -> None:
    server = ScriptedServer()
    server.answers["ping"] = server.answers["tools/call"] = FAILING
    async with up(server) as rig:
        await trio.sleep(45)
        assert rig.status.state == "ready"
        with pytest.raises(RpcError):
            await rig.call()
        await trio.sleep(1)
        assert (rig.status.state, rig.status.since) == ("stale", 45)
        assert rig.status.reason == "nothing has succeeded for 46 s, though its connection stands"
        assert rig.upstream.is_ready
        await trio.sleep(54)
        assert server.count("ping") == 3
        server.answers["ping"] = "{}"
        await trio.sleep(30)
        assert rig.status.state == "ready"


async def test_a_server_at_work_that_answers_nothing_else_is_stale_and_only_after_ten_minutes_down(
    autojump_clock: Clock,
) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = server.answers["ping"] = sleeps_forever
    async with up(server, replace(GIT, list_refresh_s=100_000.0)) as rig, trio.open_nursery() as nursery:
        nursery.start_soon(rig.call)
        await trio.sleep(44)
        seen = [rig.status.state]
        await trio.sleep(2)
        seen.append(rig.status.state)
        await trio.sleep(550)
        seen.append(rig.status.state)
        assert seen == ["ready", "stale", "stale"]
        await trio.sleep(30)
        assert server.ends == [610]
        nursery.cancel_scope.cancel()


async def test_a_server_at_work_that_answers_pings_stays_ready(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = sleeps_forever
    async with up(server) as rig, trio.open_nursery() as nursery:
        nursery.start_soon(rig.call)
        await trio.sleep(5000)
        assert rig.status.state == "ready"
        assert server.starts == [0]
        nursery.cancel_scope.cancel()


# -- being down


async def test_health_tells_the_backoff_and_when_the_next_attempt_is(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [Ended("git", "exited with status 1")] * 3
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await trio.sleep(4)  # attempts at 0, 1, 3 and 7 s
        record = rig.status.report(trio.current_time())
        assert (record["backoff_s"], record["next_attempt_in_s"], record["state_seconds"]) == (4, 3, 4)
        await trio.sleep(4)
        record = rig.status.report(trio.current_time())
        assert (record["state"], record["backoff_s"], record["next_attempt_in_s"]) == ("ready", None, None)
        nursery.cancel_scope.cancel()


async def test_while_an_attempt_is_under_way_there_is_no_next_one(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [Ended("git", "exited with status 1")]
    server.answers["initialize"] = sleeps_forever
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await trio.sleep(5)
        record = rig.status.report(trio.current_time())
        assert (record["state"], record["reason"]) == ("degraded", "exited with status 1")
        assert (record["backoff_s"], record["next_attempt_in_s"]) == (None, None)
        nursery.cancel_scope.cancel()


# -- the manual's table


def answers(**given: Answer) -> Callable[[ScriptedServer], None]:
    """A server that answers so; the names are methods, with `_` for `/`."""
    by_method = {name.replace("_", "/"): answer for name, answer in given.items()}
    return lambda server: server.answers.update(by_method)


def ends(server: ScriptedServer) -> None:
    server.start_errors = [Ended("git", "exited with status 1")] * 100
    if server.inbound is not None:
        server.die(Ended("git", "exited with status 1"))


NOTHING = answers(initialize=sleeps_forever, ping=sleeps_forever)
SILENT = answers(tools_list=sleeps_forever, ping=sleeps_forever, tools_call=sleeps_forever)
FROM_THE_START: dict[str, Callable[[ScriptedServer], None]] = {
    "has not answered `initialize` yet": NOTHING,
    "answers nothing at all": NOTHING,
    "answers `initialize` and nothing else": SILENT,
    "answers pings and calls, but for one of its lists": answers(tools_list=sleeps_forever),
    "refuses one of its lists with an error": answers(tools_list=FAILING),
    "answers that it does not know one of its lists": answers(tools_list=NO_SUCH_METHOD),
    "ended, and does not come back": ends,
}
ONCE_IT_WAS_UP: dict[str, Callable[[ScriptedServer], None]] = {
    "is asked for nothing, and answers pings": lambda server: None,
    "does not know `ping`": answers(ping=NO_SUCH_METHOD),
    "answers nothing more, while nobody calls it": SILENT,
    "answers nothing more, while it works on a call": SILENT,
    "answers nothing more, while it works on a call for very long": SILENT,
    "answers calls and pings with nothing but errors": answers(ping=FAILING, tools_call=FAILING),
    "ended, and does not come back": ends,
}
SERVERS = {
    cells[0]: (quoted(cells[1])[0], float(cells[2].removesuffix(" s")))
    for cells in rows("health", "States")
    if len(cells) == 3
}


def test_the_table_has_these_servers() -> None:
    assert set(SERVERS) == set(FROM_THE_START) | set(ONCE_IT_WAS_UP)


@pytest.mark.parametrize("name", FROM_THE_START)
async def test_a_server_that_starts_like_this_is_what_the_table_says(
    autojump_clock: Clock, name: str
) -> None:
    state, after_s = SERVERS[name]
    server = ScriptedServer()
    FROM_THE_START[name](server)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await trio.sleep(after_s - 0.5 if after_s else 0.0)
        if after_s:
            assert rig.status.state == "starting"
            await trio.sleep(0.5)
        await trio.sleep(0.25)
        assert rig.status.state == state
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ONCE_IT_WAS_UP)
async def test_a_server_that_becomes_like_this_is_what_the_table_says(
    autojump_clock: Clock, name: str
) -> None:
    state, after_s = SERVERS[name]
    async with up(ScriptedServer()) as rig, trio.open_nursery() as nursery:
        ONCE_IT_WAS_UP[name](rig.server)
        if "works on a call" in name:
            nursery.start_soon(rig.call)
        for _ in range(int(after_s)):
            assert rig.status.state in ({"ready", "stale"} if "for very long" in name else {"ready"})
            await trio.sleep(1)
        await trio.sleep(0.25)
        for _ in range(0 if after_s else 1000):
            assert rig.status.state == state
            await trio.sleep(1)
        assert rig.status.state == state
        nursery.cancel_scope.cancel()
