"""An upstream that goes on with other settings, and one that takes over from another of its name."""

from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.backoff import Backoff
from edge.config.model import BackoffConfig, StdioLimits
from edge.errors import Unavailable
from edge.metrics_servers import MAX_TOOLS, UNKNOWN_TOOL, ServerMetrics
from edge.parts.channel import Ended
from tests.support.checkpoints import cancel_at_every_step
from tests.support.memory_channel import ScriptedServer
from tests.support.upstream_rig import GIT, Rig, after, up

Clock = MockClock
EXITED = Ended("git", "exited with status 1")
ANY = Backoff(first_s=7, limit_s=7, jitter=0)


def wishing() -> ScriptedServer:
    server = ScriptedServer(tools={}, resources={"subscribe": True}, logging={})
    for method in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
        server.answers[method] = "{}"
    return server


# -- update


async def test_more_places_let_calls_in_that_would_have_waited(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = after(10)
    async with up(server, replace(GIT, limits=StdioLimits(concurrency=1))) as rig:
        async with trio.open_nursery() as calls:
            calls.start_soon(rig.call)
            await wait_all_tasks_blocked()
            rig.upstream.update(replace(GIT, limits=StdioLimits(concurrency=2)), ANY)
            began = trio.current_time()
            calls.start_soon(rig.call)
            calls.start_soon(rig.call)
        assert trio.current_time() - began == 10
        assert rig.metrics.inflight == 0


async def test_fewer_places_hold_for_calls_that_come_from_now_on(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.answers["tools/call"] = after(10)
    async with up(server) as rig:
        rig.upstream.update(replace(GIT, limits=StdioLimits(concurrency=1)), ANY)
        began = trio.current_time()
        async with trio.open_nursery() as calls:
            for _ in range(3):
                calls.start_soon(rig.call)
        assert trio.current_time() - began == 30


async def test_another_way_to_retry_holds_from_the_next_failure_on(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server) as rig:
        rig.upstream.update(replace(GIT, restart=BackoffConfig(first_s=7, limit_s=7, max_attempts=2)), ANY)
        server.start_errors = [EXITED] * 5
        server.die(EXITED)
        await trio.sleep(100)
        assert server.starts == [0, 7]
        assert rig.status.state == "failed"


ONCE_MORE = BackoffConfig(first_s=1, limit_s=1, max_attempts=2)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"restart": BackoffConfig(max_attempts=0)}, id="its way to retry"),
        pytest.param({"start_timeout_s": 20}, id="what it was given up for"),
        pytest.param({"probe_s": 5}, id="anything"),
    ],
)
async def test_a_server_that_was_given_up_is_tried_again_when_a_reload_changes_its_table(
    autojump_clock: Clock, change: dict[str, Any]
) -> None:
    server = ScriptedServer()
    server.start_errors = [EXITED] * 2
    rig = Rig(server, replace(GIT, restart=ONCE_MORE))
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await trio.sleep(30)
        assert rig.status.state == "failed"
        with pytest.raises(Unavailable):
            await rig.call()
        rig.upstream.update(rig.upstream.config, ANY)
        await trio.sleep(30)
        assert rig.status.state == "failed"
        rig.upstream.update(replace(rig.upstream.config, **change), ANY)
        await rig.upstream.wait_ready()
        await rig.call()
        assert (server.starts[-1], rig.status.state) == (60, "ready")
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_tried_again_has_all_of_its_attempts(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [EXITED] * 4
    rig = Rig(server, replace(GIT, restart=ONCE_MORE))
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await trio.sleep(30)
        anew = Backoff(ONCE_MORE.first_s, ONCE_MORE.limit_s, jitter=0)
        rig.upstream.update(replace(rig.upstream.config, probe_s=5), anew)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert server.starts == [0, 1, 30, 31]
    assert rig.status.last_error is not None
    assert rig.status.last_error.startswith("given up after 2 attempts")


async def test_the_same_way_to_retry_forgets_no_failure(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [EXITED] * 3
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await trio.sleep(2)
        rig.upstream.update(replace(GIT, probe_s=5), ANY)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert server.starts == [0, 1, 3, 7]


async def test_shorter_waits_for_probes_and_lists_begin_now(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server, replace(GIT, probe_s=5000, list_refresh_s=5000)) as rig:
        server.asked.clear()
        await trio.sleep(100)
        assert server.methods == []
        rig.upstream.update(replace(GIT, probe_s=20, list_refresh_s=50), ANY)
        await trio.sleep(101)
        assert server.count("tools/list") == 2  # after 50 and 100 s
        assert server.count("ping") >= 3


async def test_another_time_to_start_in_holds_for_the_conversation_that_is_up(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    async with up(server, replace(GIT, start_timeout_s=1000, list_refresh_s=50)) as rig:
        rig.upstream.update(replace(GIT, start_timeout_s=7, list_refresh_s=50), ANY)
        server.answers["tools/list"] = after(500)
        await trio.sleep(50 + 7 + 1)
        assert rig.status.state == "degraded"
        assert "no answer in 7 s" in rig.status.reason


async def test_being_required_is_a_matter_of_the_status(autojump_clock: Clock) -> None:
    async with up(ScriptedServer()) as rig:
        rig.upstream.update(replace(GIT, required=True), ANY)
        assert rig.status.required
        assert rig.server.starts == [0], "nothing was started again"


async def test_a_call_limit_that_was_updated_while_it_is_down_is_that_of_the_next_conversation(
    autojump_clock: Clock,
) -> None:
    server = ScriptedServer()
    server.start_errors = [EXITED]
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await wait_all_tasks_blocked()
        rig.upstream.update(replace(GIT, probe_s=3), ANY)
        await trio.sleep(11)
        assert server.count("ping") == 3
        nursery.cancel_scope.cancel()


# -- succeed


async def test_subscriptions_and_log_level_are_told_to_a_successor_that_is_up(autojump_clock: Clock) -> None:
    async with up(wishing()) as older, up(wishing()) as newer:
        await older.upstream.subscribe("file:///a")
        await older.upstream.set_level("debug")
        newer.upstream.succeed(older.upstream)
        await trio.sleep(2)
        assert ("resources/subscribe", '{"uri":"file:///a"}') in newer.server.asked
        assert ("logging/setLevel", '{"level":"debug"}') in newer.server.asked


async def test_subscriptions_and_log_level_are_told_to_a_successor_that_comes_up_later(
    autojump_clock: Clock,
) -> None:
    newer = Rig(wishing())
    async with up(wishing()) as older, trio.open_nursery() as nursery:
        await older.upstream.subscribe("file:///a")
        await older.upstream.set_level("debug")
        newer.upstream.succeed(older.upstream)
        await nursery.start(newer.upstream.run)
        await newer.upstream.wait_ready()
        assert ("resources/subscribe", '{"uri":"file:///a"}') in newer.server.asked
        assert ("logging/setLevel", '{"level":"debug"}') in newer.server.asked
        nursery.cancel_scope.cancel()


async def test_a_successor_that_nobody_wishes_anything_of_is_not_asked_again(autojump_clock: Clock) -> None:
    async with up(wishing()) as older, up(wishing()) as newer:
        newer.server.asked.clear()
        newer.upstream.succeed(older.upstream)
        await trio.sleep(2)
        assert newer.server.asked == []


async def test_calls_in_flight_at_the_predecessor_hold_up_only_its_own_end(autojump_clock: Clock) -> None:
    slow = ScriptedServer()
    slow.answers["tools/call"] = after(5)
    older, newer = Rig(slow), Rig(ScriptedServer())
    answers: list[float] = []

    async def call() -> None:
        await older.call()
        answers.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        old_intake = await nursery.start(older.upstream.run)
        new_intake = await nursery.start(newer.upstream.run)
        await older.upstream.wait_ready()
        await newer.upstream.wait_ready()
        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        newer.upstream.succeed(older.upstream)
        old_intake.cancel()
        await wait_all_tasks_blocked()
        with pytest.raises(Unavailable, match="stopping"):
            await older.call()
        await newer.call()
        new_intake.cancel()
        await trio.sleep(1)
        assert newer.server.ends == [0]
    assert answers == [5]
    assert older.server.ends == [5]


async def test_cancelled_at_any_step_an_update_and_a_succession_leave_nothing(autojump_clock: Clock) -> None:
    servers: list[ScriptedServer] = []

    async def scenario() -> None:
        async with up(wishing()) as older, up(wishing()) as newer:
            servers[:] = [older.server, newer.server]
            await older.upstream.subscribe("file:///a")
            newer.upstream.succeed(older.upstream)
            newer.upstream.update(replace(GIT, probe_s=1, list_refresh_s=2), ANY)
            await trio.sleep(3)
        assert [len(server.ends) for server in servers] == [1, 1]

    assert await cancel_at_every_step(scenario) > 20


# -- metrics


def test_counters_go_on_from_those_of_the_predecessor() -> None:
    older, newer = ServerMetrics(), ServerMetrics()
    older.tool_call("echo", 0.5, None)
    older.tool_call("echo", 0.5, "cancelled")
    newer.tool_call("echo", 0.25, None)
    older.initialize("success", 1.0)
    older.bytes_sent, older.restarts, older.noise_lines = 100, 3, 7
    newer.bytes_sent = 5
    older.health_check("failure")
    newer.take_over(older)
    assert newer.tools["echo"].duration.sum == 1.25
    assert newer.tools["echo"].ends["cancelled"] == 1
    assert (newer.bytes_sent, newer.restarts, newer.noise_lines) == (105, 3, 7)
    assert newer.initializes["success"] == 1
    assert newer.initialize_duration.sum == 1.0
    assert newer.health_checks["failure"] == 1


def test_every_number_of_a_server_that_only_grows_is_taken_over() -> None:
    gauges = {
        "tools_count", "inflight", "inflight_limit", "queue_waiting", "queue_limit", "dropped_items", "backoff_s",
        "backoff_limit_s", "outbox_bytes",
    }  # fmt: skip
    older, newer = ServerMetrics(), ServerMetrics()
    counters = [
        name
        for name, value in ((name, getattr(older, name)) for name in ServerMetrics.__slots__)
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in gauges
    ]
    assert counters
    for name in counters:
        setattr(older, name, 3)
    newer.take_over(older)
    assert {name: getattr(newer, name) for name in counters} == dict.fromkeys(counters, 3)


def test_over_many_successions_tools_stay_bounded() -> None:
    metrics = ServerMetrics()
    for generation in range(3):
        newer = ServerMetrics()
        for n in range(MAX_TOOLS):
            newer.tool_call(f"tool-{generation}-{n}", 0.1, None)
        newer.take_over(metrics)
        metrics = newer
    assert len(metrics.tools) <= MAX_TOOLS + 1
    assert metrics.tools[UNKNOWN_TOOL].duration.sum == pytest.approx(2 * MAX_TOOLS * 0.1)
