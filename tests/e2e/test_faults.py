"""Faults of stdio servers, through the built .pyz: each harms its own callers at most, and leaves nothing behind.

What every test shows besides, at its end, is in support/faulty_neighbour.py.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faulty_neighbour import staged, table, toy
from tests.support.peers import PYZ, requires
from tests.support.processes import descendants, eventually, memory_bytes, process

pytestmark = [
    requires("pyz"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc, which Linux has"),
]
UNAVAILABLE, TIMED_OUT, GONE, UNKNOWN_TOOL, FAILED = -32010, -32011, -32012, -32602, -32603
MIB = 1024 * 1024


def test_a_server_killed_during_calls_gives_each_caller_one_error_and_the_next_call_works() -> None:
    with staged(toy("bad")) as stage:
        calls = [stage.later("bad__sleep", s=300) for _ in range(5)]
        stage.until_in_flight(5)
        first = stage.pid_of("bad")
        os.kill(first, signal.SIGKILL)
        errors = [call.result()["error"] for call in calls]
        assert [error["code"] for error in errors] == [GONE] * 5
        assert [error["data"] for error in errors] == [{"server": "bad", "reason": "gone"}] * 5
        assert stage.client.text("bad__echo", text="back") == "back"
        assert stage.pid_of("bad") != first
        assert stage.server("bad")["restarts"] == 1
        assert "killed by SIGKILL" in stage.server("bad")["last_error"]


def test_a_server_that_exits_during_a_call_is_remembered_with_its_last_words() -> None:
    with staged(toy("bad")) as stage:
        assert stage.client.error_code("bad__exit", status=4) == GONE
        assert stage.client.text("bad__echo", text="back") == "back"
        assert stage.server("bad")["last_error"] == "exited with status 4: last words"


def test_a_server_that_never_answers_a_call_is_told_that_it_is_cancelled() -> None:
    with staged(toy("bad", call_timeout_s=0.5)) as stage:
        response = stage.client.call("bad__sleep", s=300)
        assert response["error"]["code"] == TIMED_OUT
        stage.good_answers()
        cancelled = json.loads(stage.client.text("bad__cancelled"))
        assert len(cancelled) == 1
        assert stage.server("bad")["restarts"] == 0


def test_a_server_that_never_answers_initialize_is_ended_and_tried_again() -> None:
    retry = {"start_timeout_s": 0.3, "restart": "{ first_s = 0.05, limit_s = 0.4 }", "stop_grace_s": 0.2}
    with staged(toy("bad", "mute=initialize", **retry)) as stage:
        eventually(lambda: stage.metric("upstream_initialize_total", result="error") >= 3)
        assert len(descendants(stage.edge.pid)) <= 2, "a server that was given up lives on"
        assert stage.server("bad")["last_error"] == "no answer in 0.3 s"
        assert stage.client.error_code("bad__echo") == UNKNOWN_TOOL
        alone = stage.session(stage.edge.endpoint.replace("/mcp", "/servers/bad/mcp"))
        assert alone.ask("prompts/list", {})["result"] == {"prompts": []}
        stage.good_answers()


def test_a_flood_of_noise_on_stdout_is_counted_and_others_answer_meanwhile() -> None:
    with staged(toy("bad")) as stage:
        before = memory_bytes(stage.edge.pid)
        flood = stage.later("bad__noise", n=1_000_000)
        answered = 0
        while not flood.done():
            stage.good_answers()
            answered += 1
        assert answered > 1
        assert flood.result()["result"]["content"][0]["text"] == "noisy"
        assert stage.metric("upstream_noise_lines_total") == 1_000_000
        assert memory_bytes(stage.edge.pid, "VmHWM") < before + 48 * MIB
        assert len(stage.log("not a message on stdout, skipped", server="bad")) < 10, "the log is flooded too"


def test_a_flood_of_notifications_is_taken_and_others_answer_meanwhile() -> None:
    with staged(toy("bad")) as stage:
        flood = stage.later("bad__flood", n=100_000)
        while not flood.done():
            stage.good_answers()
        assert flood.result()["result"]["content"][0]["text"] == "flooded"
        assert stage.metric("upstream_noise_lines_total") == 0


def test_a_banner_on_stdout_is_skipped() -> None:
    with staged(toy("bad", "banner", "noise")) as stage:
        assert stage.client.text("bad__echo", text="hello") == "hello"
        assert stage.metric("upstream_noise_lines_total") >= 3
        assert stage.server("bad")["state"] == "ready"


@pytest.mark.parametrize(
    ("limit_bytes", "metric"),
    [(20_971_520, "upstream_noise_lines_total"), (MIB, "upstream_oversized_lines_total")],
    ids=["within the limit", "over the limit"],
)
def test_a_line_of_20_mb_that_is_no_message_is_skipped(limit_bytes: int, metric: str) -> None:
    with staged(toy("bad", limits=f"{{ max_line_bytes = {limit_bytes} }}")) as stage:
        assert stage.client.text("bad__line20") == "after the line"
        assert stage.metric(metric) == 1
        assert stage.client.text("bad__echo", text="on") == "on"


def test_an_answer_of_20_mb_arrives() -> None:
    with staged(toy("bad")) as stage:
        assert len(stage.client.text("bad__big", bytes=20_000_000)) == 20_000_000


def test_an_answer_over_the_limit_fails_its_call_alone() -> None:
    with staged(toy("bad", limits=f"{{ max_line_bytes = {MIB} }}")) as stage:
        other = stage.later("bad__sleep", s=0.5)
        error = stage.client.call("bad__big", bytes=20_000_000)[
            "error"
        ]  # at once: there is a time limit of minutes
        assert error["code"] == FAILED
        assert "over the limit" in error["message"]
        assert "result" in other.result()
        assert stage.metric("upstream_oversized_lines_total") == 1
        assert stage.client.text("bad__big", bytes=1000) == "x" * 1000


def test_a_server_that_exits_at_start_is_tried_again_with_growing_delay() -> None:
    # Attempts that fail for the same reason as the one before are told at level debug.
    with staged(toy("bad", "exit=7", restart="{ first_s = 0.02, limit_s = 60 }"), log_level="debug") as stage:
        # The jitter is full: a single delay may be short, but not all of those that may be 16 times as long.
        eventually(lambda: max(stage.retries(), default=0) > 0.02 * 16, stage.retries)
        for attempt, delay in enumerate(stage.retries()):
            assert delay <= round(0.02 * 2**attempt, 3)
        report = stage.server("bad")
        assert report["last_error"] == "exited with status 7: cannot find my configuration"
        assert report["stderr"][-1] == "cannot find my configuration"
        assert (
            "cannot find my configuration"
            in stage.edge.request("GET", f"{stage.edge.admin}/status").body.decode()
        )
        assert stage.client.error_code("bad__echo") == UNKNOWN_TOOL


def test_a_server_that_ignores_sigterm_and_the_end_of_its_stdin_is_killed_at_stop() -> None:
    with staged(toy("bad", "ignore-term", stop_grace_s=0.3)) as stage:
        stubborn = process(stage.pid_of("bad"))
        stage.settle()
        stage.stop()
        assert not stubborn.is_alive


def test_a_server_that_reads_nothing_any_more_is_no_trouble_for_others() -> None:
    with staged(toy("bad", "deaf", call_timeout_s=1, stop_grace_s=0.3)) as stage:
        # More than pipe and buffers take: some of these wait for room, all of them end.
        calls = [stage.later("bad__echo", text="x" * MIB) for _ in range(16)]
        while not all(call.done() for call in calls):
            stage.good_answers()
        assert {call.result()["error"]["code"] for call in calls} <= {TIMED_OUT, UNAVAILABLE, GONE}


@pytest.mark.parametrize("kind", ["grandchild", "escaped"])
def test_what_a_server_started_ends_with_it(kind: str) -> None:
    with staged(toy("bad", kind, stop_grace_s=0.3)) as stage:
        first = [process(pid) for pid in json.loads(stage.client.text("bad__pids"))]
        assert len(first) == 2
        os.kill(first[0].pid, signal.SIGKILL)
        eventually(lambda: not any(each.is_alive for each in first), lambda: first)
        stage.until_ready()
        second = [process(pid) for pid in json.loads(stage.client.text("bad__pids"))]
        stage.settle()
        stage.stop()
        assert not any(each.is_alive for each in second)


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    server = table("bad", command='["no-such-program", "--flag"]', env=f'{{ PATH = "{tmp_path}:/usr/bin" }}')
    with staged(server) as stage:
        expected = (
            "the command no-such-program was not found, or is not executable, in PATH (2 folders); "
            "install it, or write its whole path"
        )
        assert expected in stage.server("bad")["last_error"]
        assert expected in stage.log("server down", server="bad")[0]["reason"]
        assert stage.client.error_code("bad__echo") == UNKNOWN_TOOL
        file = tmp_path / "config.toml"
        file.write_text(server)
        done = subprocess.run(
            [sys.executable, "-I", "-S", PYZ, "validate", "-c", file], capture_output=True, text=True
        )
        assert done.returncode == 0, done


def test_our_own_sigkill_ends_the_servers() -> None:
    with staged(toy("bad"), toy("third")) as stage:
        call = stage.later("bad__sleep", s=300)
        stage.until_in_flight(1)
        family = descendants(stage.edge.pid)
        assert len(family) == 3
        assert stage.edge.stop(signal.SIGKILL) == -signal.SIGKILL
        with pytest.raises((ConnectionError, OSError)):
            call.result()
        eventually(lambda: not any(each.is_alive for each in family), lambda: family)


def test_calls_in_flight_end_well_when_it_is_told_to_stop() -> None:
    with staged(toy("bad")) as stage:
        calls = [stage.later("bad__sleep", s=1) for _ in range(5)]
        stage.until_in_flight(5)
        stage.stop()
        assert [call.result()["result"]["content"][0]["text"] for call in calls] == ["slept"] * 5


def test_calls_that_outlast_the_drain_get_one_error_each_and_do_not_hold_up_the_end() -> None:
    with staged(toy("bad"), gateway=["drain_s = 0.5"]) as stage:
        calls = [stage.later("bad__sleep", s=300) for _ in range(5)]
        stage.until_in_flight(5)
        stage.stop()
        assert [call.result()["error"]["code"] for call in calls] == [GONE] * 5
