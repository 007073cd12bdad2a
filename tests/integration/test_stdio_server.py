"""An upstream over a real stdio server, good and bad: each fault is seen, survived, and leaves nothing behind."""

import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from edge.backoff import Backoff
from edge.config.model import StdioLimits, StdioServerConfig
from edge.errors import Gone, RpcError, TimedOut, Unavailable
from edge.health import Status
from edge.metrics_servers import ServerMetrics
from edge.net import reaper
from edge.parts.stdio_channel import connect_stdio
from edge.parts.upstream import Upstream
from edge.proto.jsonrpc import Notification
from tests.support.memory_channel import Witness

TOY = str(Path(__file__).parents[1] / "support" / "toy_server.py")


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    assert list(reaper.children_of(os.getpid())) == []


class Rig:
    def __init__(self, *switches: str, command: tuple[str, ...] | None = None, **settings: Any) -> None:
        config = StdioServerConfig(
            name="toy",
            command=command or (sys.executable, TOY, *switches),
            **{"stop_grace_s": 0.3, **settings},
        )
        self.events = Witness()
        self.status = Status("server:toy")
        self.metrics = ServerMetrics()
        log = logging.getLogger("edge.upstream")
        self.upstream = Upstream(
            config,
            connect_stdio(config, metrics=self.metrics, log=log, status=self.status),
            events=self.events,
            status=self.status,
            metrics=self.metrics,
            backoff=Backoff(first_s=0.01, limit_s=0.02, jitter=0),
            log=log,
        )
        self.notes: list[Notification] = []

    async def note(self, notification: Notification) -> None:
        self.notes.append(notification)

    async def call(self, tool: str, timeout_s: float = 8, progress: bool = False, **arguments: object) -> str:
        """The text that the tool answers."""
        params = json.dumps({"name": tool, "arguments": arguments})
        raw = await self.upstream.request(
            "tools/call", params, notify=self.note, progress=progress, timeout_s=timeout_s
        )
        text = raw.value["content"][0]["text"]
        assert isinstance(text, str)
        return text

    def names(self) -> list[str]:
        return [item.key for item in self.upstream.catalog.tools]


@asynccontextmanager
async def running(rig: Rig, *, ready: bool = True) -> AsyncIterator[Rig]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.upstream.run)
            if ready:
                await rig.upstream.wait_ready()
            yield rig
            nursery.cancel_scope.cancel()


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  what a child does sets no event of ours
        await trio.sleep(0.01)


async def test_a_good_server_is_up_and_answers() -> None:
    async with running(Rig()) as rig:
        assert await rig.call("echo", text="hello ☃") == "hello ☃"
        assert [item.key for item in rig.upstream.catalog.prompts] == ["hello"]
        assert [item.key for item in rig.upstream.catalog.resources] == ["toy://one"]
        assert [item.key for item in rig.upstream.catalog.templates] == ["toy://{x}"]
        assert rig.metrics.bytes_sent > 0
        assert rig.metrics.bytes_received > 0
        with pytest.raises(RpcError) as caught:
            await rig.call("nonsense")
        assert (caught.value.code, caught.value.data) == (-32602, '{"n":1.0}')


async def test_while_it_runs_its_record_tells_what_it_takes() -> None:
    members = {"pid", "memory_bytes", "cpu_s"}
    async with running(Rig()) as rig:
        record = rig.status.report(trio.current_time())
        assert record.keys() >= members
        assert record["memory_bytes"] > 0
        assert record["cpu_s"] >= 0
        assert record["stalled_s"] == {}, "only a cgroup of its own tells"
    assert members.isdisjoint(rig.status.report(trio.current_time()))


async def test_it_ends_in_order_when_the_intake_is_cancelled() -> None:
    rig = Rig()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            intake: trio.CancelScope = await nursery.start(rig.upstream.run)
            await rig.upstream.wait_ready()
            results: list[str] = []

            async def call() -> None:
                results.append(await rig.call("sleep", s=0.3))

            nursery.start_soon(call)
            await until(lambda: bool(rig.metrics.inflight))
            intake.cancel()
    assert results == ["slept"]
    assert rig.status.state == "stopped"


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    async with running(Rig()) as rig:
        results: dict[int, str] = {}

        async def call(number: int) -> None:
            results[number] = await rig.call("echo", text=str(number))

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(call, number)
        assert results == {number: str(number) for number in range(200)}


async def test_big_results_and_big_arguments_pass_whole() -> None:
    async with running(Rig()) as rig:
        assert len(await rig.call("big", bytes=4_000_000)) == 4_000_000
        text = "a" * 3_000_000
        assert await rig.call("echo", text=text) == text


async def test_a_server_killed_during_a_call_costs_that_call_and_the_next_works() -> None:
    async with running(Rig()) as rig:
        with pytest.raises(Gone, match="killed by SIGKILL"):
            await rig.call("kill")
        await rig.upstream.wait_ready()
        assert await rig.call("echo", text="again") == "again"
        assert rig.metrics.restarts == 1


async def test_a_server_that_exits_during_calls_ends_them_all_at_once() -> None:
    async with running(Rig()) as rig:
        lost: list[str] = []

        async def call() -> None:
            with pytest.raises(Gone) as caught:
                await rig.call("sleep", s=60)
            lost.append(caught.value.text)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call)
            await until(lambda: rig.metrics.inflight >= 5)
            with pytest.raises(Gone):
                await rig.call("exit", status=7)
        assert lost == ["exited with status 7"] * 5
        await rig.upstream.wait_ready()
        assert rig.status.last_error == "exited with status 7: last words"


async def test_a_server_that_exits_at_start_is_tried_again_and_says_why() -> None:
    async with running(Rig("exit=5"), ready=False) as rig:
        await until(lambda: rig.metrics.reconnects >= 3)
        assert rig.status.last_error == "exited with status 5: cannot find my configuration"
        with pytest.raises(Unavailable):
            await rig.call("echo")
        assert rig.status.detail["stderr"] == ["cannot find my configuration"]


async def test_a_server_that_exits_only_at_first_comes_up(tmp_path: Path) -> None:
    async with running(Rig(f"exit-once={tmp_path / 'seen'}")) as rig:
        assert rig.metrics.reconnects == 1
        assert await rig.call("echo", text="x") == "x"


async def test_a_command_that_does_not_exist_is_named_with_the_path() -> None:
    async with running(Rig(command=("no-such-server", "--stdio")), ready=False) as rig:
        await rig.upstream.wait_settled()
        assert rig.status.last_error is not None
        assert rig.status.last_error.startswith(
            "could not be started: the command no-such-server was not found"
        )
        assert "in PATH (" in rig.status.last_error
        with pytest.raises(Unavailable) as caught:
            await rig.call("echo")
        assert "PATH" not in str(caught.value)


async def test_a_server_that_never_answers_is_not_ready_and_costs_nothing_else() -> None:
    async with running(Rig("mute", start_timeout_s=0.2), ready=False) as rig, running(Rig()) as other:
        await rig.upstream.wait_settled()
        assert rig.status.last_error == "no answer in 0.2 s"
        assert await other.call("echo", text="x") == "x"


async def test_a_call_without_an_answer_times_out_and_the_server_hears_of_it() -> None:
    async with running(Rig()) as rig:
        with pytest.raises(TimedOut):
            await rig.call("sleep", s=60, timeout_s=0.1)
        assert await rig.call("echo", text="x") == "x"
        assert len(json.loads(await rig.call("cancelled"))) == 1


async def test_a_cancelled_call_is_cancelled_at_the_server() -> None:
    async with running(Rig()) as rig:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: rig.call("sleep", s=60))
            await until(lambda: bool(rig.metrics.inflight))
            nursery.cancel_scope.cancel()
        assert len(json.loads(await rig.call("cancelled"))) == 1


async def test_banner_and_noise_on_stdout_are_skipped_and_counted() -> None:
    async with running(Rig("banner", "noise")) as rig:
        assert await rig.call("noise", n=1000) == "noisy"
        assert rig.metrics.noise_lines > 1000
        assert rig.upstream.is_ready


async def test_a_flood_on_stdout_does_not_keep_others_waiting() -> None:
    async with running(Rig()) as rig, running(Rig()) as other, trio.open_nursery() as nursery:

        async def flood() -> None:
            assert await rig.call("flood", n=100_000) == "flooded"

        nursery.start_soon(flood)
        for number in range(20):
            assert await other.call("echo", text=str(number)) == str(number)


async def test_a_line_of_20_mb_is_skipped_and_the_next_one_read() -> None:
    async with running(Rig()) as rig:
        assert await rig.call("line20") == "after the line"
        assert (rig.metrics.noise_lines, rig.metrics.oversized_lines) == (1, 0)
    async with running(Rig(limits=StdioLimits(max_line_bytes=1_000_000))) as rig:
        assert await rig.call("line20") == "after the line"
        assert (rig.metrics.noise_lines, rig.metrics.oversized_lines) == (0, 1)


async def test_a_result_of_20_mb_passes() -> None:
    async with running(Rig()) as rig:
        assert len(await rig.call("big", bytes=20_000_000)) == 20_000_000


async def test_a_server_that_reads_nothing_any_more_costs_its_callers_only_their_time() -> None:
    async with running(Rig("deaf")) as rig:
        fill = "x" * 1_000_000
        timed_out = 0
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                nonlocal timed_out
                with pytest.raises(TimedOut):
                    await rig.call("echo", text=fill, timeout_s=0.5)
                timed_out += 1

            for _ in range(20):
                nursery.start_soon(call)
        assert timed_out == 20
        assert rig.metrics.inflight == 0


@pytest.mark.parametrize("switch", ["ignore-term", "grandchild", "escaped"])
async def test_whatever_it_leaves_behind_is_ended(switch: str) -> None:
    async with running(Rig(switch)) as rig:
        pids = json.loads(await rig.call("pids"))
    for pid in pids:
        found = reaper.look_up(pid)
        assert found is None or not found.is_alive


@pytest.mark.parametrize("switch", ["grandchild", "escaped"])
async def test_what_a_killed_server_leaves_behind_is_ended_before_the_next_start(switch: str) -> None:
    async with running(Rig(switch)) as rig:
        before = json.loads(await rig.call("pids"))
        with pytest.raises(Gone):
            await rig.call("kill")
        await rig.upstream.wait_ready()
        for pid in before:
            found = reaper.look_up(pid)
            assert found is None or not found.is_alive
        assert await rig.call("echo", text="x") == "x"


async def test_slow_servers_are_waited_for() -> None:
    async with running(Rig("slow=0.05")) as rig:
        assert await rig.call("echo", text="x") == "x"


async def test_progress_comes_in_order_and_before_the_answer() -> None:
    async with running(Rig()) as rig:
        assert await rig.call("progress", n=5, progress=True) == "done"
        assert [note.params.value["progress"] for note in rig.notes if note.params] == [0, 1, 2, 3, 4]


async def test_a_log_message_reaches_the_only_call() -> None:
    async with running(Rig()) as rig:
        assert await rig.call("log", data="hello") == "logged"
        assert [note.method for note in rig.notes] == ["notifications/message"]
        assert rig.events.logs == []


async def test_a_changed_list_is_read_again() -> None:
    async with running(Rig()) as rig:
        before = rig.names()
        await rig.call("change")
        await until(lambda: len(rig.events.catalogs) >= 2)
        assert len(rig.names()) == len(before) + 1


async def test_updates_of_subscribed_resources_arrive() -> None:
    async with running(Rig()) as rig:
        await rig.upstream.subscribe("toy://one")
        await until(lambda: bool(rig.events.updated))
        assert rig.events.updated == ['{"uri":"toy://one"}']


@pytest.mark.parametrize(
    ("switch", "count"), [("pages=4", 15), ("cycle", 15), ("endless", 100), ("invalid", 15), ("no-lists", 0)]
)
async def test_odd_lists_are_read_within_bounds(switch: str, count: int) -> None:
    async with running(Rig(switch)) as rig:
        assert len(rig.names()) == count


async def test_the_server_may_ask_and_is_answered() -> None:
    async with running(Rig()) as rig:
        assert json.loads(await rig.call("ask", method="ping"))["result"] == {}
        assert json.loads(await rig.call("ask", method="sampling/createMessage"))["error"]["code"] == -32601


async def test_its_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "s3cret")
    async with running(Rig(env={"TOY": "1"})) as rig:
        env = json.loads(await rig.call("env"))
        assert (env["TOY"], env["PATH"]) == ("1", os.environ["PATH"])
        assert "GATEWAY_SECRET" not in env


async def test_stderr_goes_to_the_log_with_the_servers_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="edge.upstream")
    async with running(Rig("stderr=" + "e" * 2000)) as rig:
        await rig.call("echo")
        assert rig.status.detail["stderr"] == ["e" * 500 + "…"]
    records = [vars(record) for record in caplog.records if record.message == "server says"]
    assert [(record["server"], record["line"]) for record in records] == [("toy", "e" * 500 + "…")]


async def test_cancelled_at_any_moment_nothing_is_left() -> None:
    for delay in (0, 0.005, 0.02, 0.05, 0.1, 0.15):
        rig = Rig("grandchild")
        with trio.fail_after(10), trio.move_on_after(delay):
            await rig.upstream.run()
        assert list(reaper.children_of(os.getpid())) == []


async def test_an_answer_over_the_limit_is_an_error_at_once_and_the_next_call_works() -> None:
    async with running(Rig(limits=StdioLimits(max_line_bytes=100_000))) as rig:
        with pytest.raises(RpcError) as caught:
            await rig.call("big", bytes=200_000)
        assert "which is over the limit" in caught.value.message
        assert await rig.call("echo", text="hello") == "hello"
        assert rig.metrics.oversized_lines == 1
