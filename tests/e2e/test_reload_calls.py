"""Calls, streams, signals and sockets while a reload is under way."""

import http.client
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.appliance import Appliance, running
from tests.support.faulty_neighbour import Client
from tests.support.links import toy_server
from tests.support.peers import PYZ, requires
from tests.support.processes import eventually
from tests.support.reloads import reload, rewrite

pytestmark = requires("pyz")

IN_FLIGHT = 'mcp_edge_upstream_calls_in_flight{server="b"}'
ADDRESSES = '[gateway]\nlisten = "127.0.0.1:0"\n{more}\n[admin]\nlisten = "127.0.0.1:0"\n'


def without(appliance: Appliance, server: str) -> None:
    """The config without this server's table."""
    head, _, rest = appliance.config.read_text().partition(f"[servers.{server}]\n")
    appliance.config.write_text(head + rest[rest.index("[") :].partition("\n")[2])


@contextmanager
def calling(client: Client, edge: Appliance, seconds: float) -> Iterator[Any]:
    """A call of server b that takes so long, under way."""
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.call, "b__sleep", s=seconds)
        eventually(lambda: edge.metric(IN_FLIGHT) == 1)
        yield call


def test_a_call_of_a_server_that_is_removed_is_answered_within_the_drain() -> None:
    with running(toy_server("a") + toy_server("b")) as edge:
        client = Client(edge, edge.endpoint)
        with calling(client, edge, 3) as call:
            without(edge, "b")
            assert reload(edge)[1]["removed"] == ["server b"]
            assert "b__echo" not in client.tools()
            assert client.call("b__echo", text="gone")["error"]["code"] == -32602
            assert call.result()["result"]["content"][0]["text"] == "slept"


def test_a_call_that_takes_longer_than_the_drain_gets_one_error() -> None:
    config = toy_server("a") + toy_server("b") + ADDRESSES.format(more="drain_s = 1")
    with running(config) as edge:
        client = Client(edge, edge.endpoint)
        with calling(client, edge, 60) as call:
            without(edge, "b")
            assert reload(edge)[0] == 0
            found = call.result()
        assert "result" not in found
        assert found["error"]["code"] == -32012, found
        assert client.text("a__echo", text="still here") == "still here"


def test_a_call_longer_than_any_drain_survives_another_address_of_the_listener_it_came_by() -> None:
    config = toy_server("b") + "call_timeout_s = 60\n"
    with running(config + ADDRESSES.format(more="drain_s = 0\ncall_timeout_s = 1")) as edge:
        client = Client(edge, edge.endpoint)
        # More than the drain, the gateway's own limit of a call, and the new listener's start.
        with calling(client, edge, 5) as call:
            rewrite(edge, ('[gateway]\nlisten = "127.0.0.1:0"', '[gateway]\nlisten = "127.0.0.2:0"'))
            assert reload(edge)[1]["restarted"] == ["gateway"]
            assert call.result()["result"]["content"][0]["text"] == "slept"


def test_calls_of_a_changed_stdio_server_wait_for_the_new_process_and_are_answered() -> None:
    with running(toy_server("a") + toy_server("b")) as edge:
        client = Client(edge, edge.endpoint)
        pid = next(server["pid"] for server in edge.health()["servers"] if server["name"] == "b")
        stop = threading.Event()

        def calls() -> list[str]:
            found = []
            while not stop.is_set():
                found.append(client.text("b__echo", text="hello"))
            return found

        with ThreadPoolExecutor(1) as threads:
            answers = threads.submit(calls)
            rewrite(edge, ("[servers.b]\n", "[servers.b]\nstop_grace_s = 1\n"))
            assert reload(edge)[1]["restarted"] == ["server b"]
            eventually(
                lambda: (
                    next(server["pid"] for server in edge.health()["servers"] if server["name"] == "b")
                    not in (None, pid)
                )
            )
            stop.set()
            assert set(answers.result()) == {"hello"}


def test_with_overlap_the_new_process_is_up_before_the_old_one_ends() -> None:
    with running(toy_server("b") + "overlap = true\n") as edge:
        client = Client(edge, edge.endpoint)
        before = json.loads(client.text("b__pids"))
        with calling(client, edge, 3) as call:
            rewrite(edge, ("overlap = true", 'overlap = true\nenv = { CHANGED = "1" }'))
            assert reload(edge)[1]["restarted"] == ["server b"]
            assert json.loads(client.text("b__pids")) != before
            assert not call.done()
            assert call.result()["result"]["content"][0]["text"] == "slept"


def test_an_open_stream_is_told_that_the_lists_have_changed() -> None:
    with running(toy_server("a")) as edge:
        client = Client(edge, edge.endpoint)
        parts = urlsplit(edge.endpoint)
        assert parts.hostname is not None
        with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)) as connection:
            connection.request("GET", parts.path, headers={"Accept": "text/event-stream", **client.headers})
            stream = connection.getresponse()
            edge.config.write_text(f"{edge.config.read_text()}\n{toy_server('b')}")
            assert reload(edge)[1]["added"] == ["server b"]
            for line in stream:
                if b"notifications/tools/list_changed" in line:
                    break
            else:
                pytest.fail("the stream ended without the news")
            assert "b__echo" in client.tools()


def test_many_signals_come_to_few_reloads_and_the_last_file_counts() -> None:
    with running(toy_server("a")) as edge:
        edge.config.write_text(f"{edge.config.read_text()}\n{toy_server('b')}")
        for n in range(50):
            if n == 49:
                edge.config.write_text(f"{edge.config.read_text()}\n{toy_server('c')}")
            edge.process.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        eventually(lambda: {server["name"] for server in edge.health()["servers"]} == {"a", "b", "c"})
        eventually(lambda: edge.metric('mcp_edge_queue_length{queue="reloads"}') == 0)
        done = 'mcp_edge_config_reloads_total{result="success"}'
        assert 1 <= edge.metric(done) <= 50
        assert edge.metric('mcp_edge_config_reloads_total{result="error"}') == 0
        assert Client(edge, edge.endpoint).text("a__echo", text="x") == "x"


def test_a_file_that_hangs_keeps_nobody_from_stopping(tmp_path: Path) -> None:
    fifo = tmp_path / "token"
    fifo.write_text("a-token\n")
    fifo.chmod(0o600)
    with running(toy_server("a") + ADDRESSES.format(more="") + f'reload_token_file = "{fifo}"\n') as edge:
        fifo.unlink()
        os.mkfifo(fifo, 0o600)
        edge.process.send_signal(signal.SIGHUP)
        eventually(lambda: edge.health()["config"]["is_reloading"])
        assert edge.request("GET", f"{edge.admin}/livez").status == 200
        assert edge.stop() == 0


def test_what_cannot_be_put_back_stays_in_force_and_the_verdict_says_so() -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = toy_server("b") + "required = true\n"
    config += f'[gateway]\nlisten = "127.0.0.1:{port}"\ndrain_s = 0\n[admin]\nlisten = "127.0.0.1:0"\n'
    with running(config) as edge, ThreadPoolExecutor(1) as threads, closing(socket.socket()) as thief:
        rewrite(edge, (f"127.0.0.1:{port}", "127.0.0.1:0"), ('"-I", "-S", ', '"-I", "-S", "/nonexistent", '))
        verdict = threads.submit(reload, edge, "--confirm-s", "4")

        def steal() -> bool:
            try:
                thief.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True

        eventually(steal)
        thief.listen()
        code, found = verdict.result()
        assert (code, found["result"]) == (69, "not rolled back")
        assert any("cannot be put back: cannot listen" in problem["text"] for problem in found["problems"])
        assert edge.request("GET", f"{edge.admin}/livez").status == 200
        edge.config.write_text(config)
        thief.close()
        assert reload(edge)[1]["result"] == "reloaded"


# -- the process: a terminal, systemd


def at_a_terminal(folder: Path, *, nohup: bool = False) -> tuple[int, int]:
    """Its process id, and the other end of its terminal."""
    config = folder / "c.toml"
    config.write_text(toy_server("a") + ADDRESSES.format(more=""))
    pid, terminal = pty.fork()
    if pid == 0:
        if nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execve(
            sys.executable,
            [sys.executable, "-I", "-S", str(PYZ), "run", "-c", str(config)],
            {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        )
    return pid, terminal


def heard(terminal: int, word: bytes) -> bytes:
    """What it says until it says this."""
    said = b""
    while word not in said:
        said += os.read(terminal, 4096)
    return said


def ended(pid: int) -> int | None:
    """Its exit code; None if it has to be killed after 30 s."""
    deadline = time.monotonic() + 30
    while (found := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    if found[0] != pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None
    return os.waitstatus_to_exitcode(found[1])


def test_the_end_of_its_terminal_ends_it(tmp_path: Path) -> None:
    pid, terminal = at_a_terminal(tmp_path)
    heard(terminal, b"is ready")
    os.kill(pid, signal.SIGHUP)
    heard(terminal, b"config unchanged")
    os.close(terminal)  # the kernel sends SIGHUP
    # In an orderly way; 120 is Python's word for last lines that there is no terminal for.
    assert ended(pid) in (0, 120)


def test_started_with_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    pid, terminal = at_a_terminal(tmp_path, nohup=True)
    said = heard(terminal, b"is ready")
    os.close(terminal)
    try:
        # It has had the kernel's SIGHUP before it gets to this.
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(PYZ), "reload", "-c", str(tmp_path / "c.toml")],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, "nothing has changed" in done.stdout) == (0, True), (said, done)
    finally:
        os.kill(pid, signal.SIGTERM)
        assert ended(pid) in (0, 120)


@contextmanager
def systemd(folder: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(folder / "notify"))
        sock.settimeout(30)
        yield sock


def next_state(sock: socket.socket) -> dict[str, str]:
    """The next message that is more than a status."""
    while True:
        fields = dict(line.split("=", 1) for line in sock.recv(4096).decode().split("\n"))
        if fields.keys() - {"STATUS", "WATCHDOG"}:
            return fields


def test_systemd_hears_of_the_start_each_reload_and_the_end(tmp_path: Path) -> None:
    with systemd(tmp_path) as sock:
        with running(toy_server("a"), env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as edge:
            assert next_state(sock)["READY"] == "1"
            edge.process.send_signal(signal.SIGHUP)
            asked_at = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            reloading = next_state(sock)
            assert reloading["RELOADING"] == "1"
            assert int(reloading["MONOTONIC_USEC"]) >= asked_at - 1_000_000
            assert next_state(sock)["READY"] == "1"
        assert next_state(sock)["STOPPING"] == "1"
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            next_state(sock)


def test_a_reload_that_is_asked_for_during_the_start_waits_until_it_is_up(tmp_path: Path) -> None:
    slow = toy_server("a", "slow=1") + "required = true\n"
    with systemd(tmp_path) as sock:
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        hasty = (sys.executable, "-c", HASTY)
        with running(slow, env=env, prefix=hasty) as edge:
            assert [next_state(sock).keys() & {"READY", "RELOADING"} for _ in range(3)] == [
                {"READY"}, {"RELOADING"}, {"READY"},
            ]  # fmt: skip
            edge.wait_said("config unchanged")


HASTY = """
import os, signal, subprocess, sys, threading, time
if (child := os.fork()) == 0:
    parent = os.getppid()
    time.sleep(1.5)
    os.kill(parent, signal.SIGHUP)
    os._exit(0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Becomes the program, and has SIGHUP sent to it while it starts."""

BECOMES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_over_restarts_with_an_inherited_socket_no_connection_is_refused(tmp_path: Path) -> None:
    with closing(socket.socket()) as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen(100)
        port = ours.getsockname()[1]
        config = tmp_path / "c.toml"
        config.write_text(
            toy_server("a") + f'[gateway]\nlisten = "127.0.0.1:{port}"\n[admin]\nenabled = false\n'
        )
        refused: list[str] = []
        answered = 0
        is_over = threading.Event()

        def ask() -> None:
            nonlocal answered
            while not is_over.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                try:
                    connection.connect()
                except OSError as exc:
                    refused.append(repr(exc))
                    continue
                with closing(connection):
                    try:
                        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
                        fields = {
                            "Content-Type": "application/json",
                            "Accept": "application/json, text/event-stream",
                        }
                        connection.request("POST", "/mcp", body, fields)
                        answered += connection.getresponse().status == 200
                    except (http.client.HTTPException, OSError):
                        pass  # accepted, and cut off by the end of that process

        with ThreadPoolExecutor(2) as threads:
            for _ in range(2):
                threads.submit(ask)
            try:
                for _ in range(3):
                    before = answered
                    child = subprocess.Popen(
                        [
                            sys.executable, "-c", BECOMES, str(ours.fileno()),
                            sys.executable, "-I", "-S", str(PYZ), "run", "-c", str(config),
                        ],
                        pass_fds=[ours.fileno()],
                        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )  # fmt: skip
                    try:
                        eventually(lambda before=before: answered > before + 5)  # type: ignore[misc]  # a lambda with a default
                    finally:
                        child.send_signal(signal.SIGTERM)
                        assert child.wait(30) == 0
                assert refused == []
            finally:
                is_over.set()
                ours.close()
