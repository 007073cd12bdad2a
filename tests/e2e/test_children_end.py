"""No process that a server left behind outlives mcp-edge, or its server, whatever ended either."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.appliance import Appliance, running, toml_list
from tests.support.faulty_neighbour import Client
from tests.support.peers import PYZ, ROOT, requires
from tests.support.processes import (
    Process,
    appliance_below,
    descendants,
    eventually,
    memory_bytes,
    process,
    stat_of,
)

pytestmark = [
    requires("pyz"),
    pytest.mark.skipif(sys.platform != "linux", reason="the guard needs Linux's child subreapers"),
]
TOY = ROOT / "tests" / "support" / "toy_server.py"
STUBBORN = (
    "ignore-term",
    "grandchild",
    "escaped",
    "daemon",
)  # it heeds neither the end of its stdin nor SIGTERM
KILLED = -signal.SIGKILL


def toy(*switches: str, name: str = "toy", **settings: Any) -> str:
    table = {"stop_grace_s": 0.2, **settings}
    command = toml_list([sys.executable, "-I", "-S", TOY, *switches])
    lines = [f"[servers.{name}]", f"command = {command}"]
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in table.items()), ""])


def family(edge: Appliance, name: str = "toy") -> list[Process]:
    """The server and all that it has started, wherever that is."""
    client = Client(edge, edge.endpoint)
    return [process(pid) for pid in json.loads(client.text(f"{name}__pids"))]


def all_gone(processes: list[Process]) -> Callable[[], bool]:
    return lambda: not any(each.is_alive for each in processes)


@contextmanager
def stubborn(prefix: Sequence[str] = ()) -> Iterator[tuple[Appliance, list[Process]]]:
    """mcp-edge, and the stubborn server's processes with the appliance itself."""
    with running(toy(*STUBBORN), prefix=prefix) as edge:
        found = family(edge)
        assert len(found) == 4
        assert edge.pid != edge.process.pid, "there is no guard"
        yield edge, [*found, process(edge.pid)]


def test_told_to_end_it_leaves_nothing() -> None:
    with stubborn() as (edge, processes):
        assert edge.stop(signal.SIGTERM) == 0
        assert all_gone(processes)()


def test_a_killed_appliance_leaves_nothing_and_its_guard_ends_as_it_did() -> None:
    with stubborn() as (edge, processes):
        assert edge.stop(signal.SIGKILL) == KILLED
        assert all_gone(processes)()
        assert edge.log[-1] == "mcp-edge: killed by SIGKILL; 4 processes of its servers have been ended"


def test_a_crashed_appliance_leaves_nothing() -> None:
    with stubborn() as (edge, processes):
        os.kill(edge.pid, signal.SIGSEGV)
        assert edge.process.wait(30) == -signal.SIGSEGV
        assert all_gone(processes)()


def test_a_killed_guard_leaves_nothing() -> None:
    with stubborn() as (edge, processes):
        edge.process.kill()
        assert edge.process.wait(30) == KILLED
        eventually(all_gone(processes), lambda: processes)


def test_a_killed_process_group_leaves_nothing() -> None:
    with stubborn(prefix=("/usr/bin/setsid",)) as (edge, processes):
        os.killpg(edge.process.pid, signal.SIGKILL)
        assert edge.process.wait(30) == KILLED
        eventually(all_gone(processes), lambda: processes)


@pytest.mark.parametrize("switches", [("escaped", "grandchild"), ("ignore-term", "escaped", "grandchild")])
def test_a_server_that_is_killed_takes_along_what_it_had_started(switches: tuple[str, ...]) -> None:
    restart = "{ first_s = 0.05, limit_s = 0.1 }"
    with running(toy(*switches, restart=restart)) as edge:
        first = family(edge)
        os.kill(first[0].pid, signal.SIGKILL)
        eventually(all_gone(first), lambda: first)
        second = eventually(lambda: family_or_none(edge), edge.said)
        assert {each.pid for each in first}.isdisjoint(each.pid for each in second)
        assert edge.stop() == 0
        assert all_gone(second)()


def family_or_none(edge: Appliance) -> list[Process]:
    with suppress(AssertionError, KeyError):
        return family(edge)
    return []


def test_a_job_of_the_shell_that_became_mcp_edge_is_left_alone(tmp_path: Path) -> None:
    with running(
        toy(), prefix=("/bin/sh", "-c", 'sleep 300 </dev/null >/dev/null 2>&1 & exec "$@"', "sh")
    ) as edge:
        jobs = [each for each in descendants(edge.process.pid) if each.pid != edge.pid]
        job = next(each for each in jobs if Path(f"/proc/{each.pid}/comm").read_text() == "sleep\n")
        assert edge.stop(signal.SIGKILL) == KILLED
        assert job.is_alive
        os.kill(job.pid, signal.SIGKILL)


# -- what the guard must not change


def test_a_signal_to_the_whole_group_counts_once() -> None:
    with running(toy(), prefix=("/usr/bin/setsid",)) as edge:
        assert os.getpgid(edge.process.pid) == edge.process.pid
        os.killpg(edge.process.pid, signal.SIGTERM)
        assert edge.process.wait(30) == 0
        assert not any("told twice" in line for line in edge.log)


def test_exit_codes_are_those_of_the_appliance(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    wrong, not_ours = "listen = 5", 'listen = "192.0.2.1:1"\ninsecure_public = true'
    for text, code in ((wrong, 78), (not_ours, 69)):
        config.write_text(f'[gateway]\n{text}\n[admin]\nlisten = "127.0.0.1:0"\n')
        command = [sys.executable, "-I", "-S", str(PYZ), "run", "-c", str(config)]
        done = subprocess.run(command, capture_output=True, timeout=60)
        assert done.returncode == code, done.stderr


def test_the_guard_is_small() -> None:
    with running(toy()) as edge:
        assert memory_bytes(edge.process.pid) < memory_bytes(edge.pid) / 2


def test_a_terminals_ctrl_c_ends_it_once_and_ctrl_z_stops_both(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[gateway]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n{toy()}')
    master, slave = pty.openpty()
    command = f"{sys.executable} -I -S {PYZ} run -c {config}"
    # A shell with job control: only such a one can resume what Ctrl-Z has stopped.
    shell = subprocess.Popen(
        ["/bin/bash", "--norc", "--noprofile", "-i", "-m"],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=own_terminal,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PS1": "ready-for-more$ "},
    )  # fmt: skip
    os.close(slave)
    screen = Screen(master)
    try:
        os.write(master, f"{command}; echo 'ended with' $?\n".encode())
        screen.until(r"status +http")
        guard = next(each.pid for each in descendants(shell.pid) if appliance_below(each.pid))
        appliance = appliance_below(guard)
        assert appliance is not None
        os.write(master, b"\x1a")
        eventually(lambda: states(guard, appliance) == "TT", lambda: states(guard, appliance))
        os.write(master, b"fg\n")
        eventually(lambda: "T" not in states(guard, appliance), lambda: states(guard, appliance))
        os.write(master, b"\x03")
        screen.until(r"stopping")
        eventually(lambda: stat_of(guard) is None, screen.read)
        os.write(master, b"echo 'it gave' $?\n")
        assert "told twice" not in screen.until(r"it gave 0")
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


def own_terminal() -> None:
    """In the new session: the pty becomes its controlling terminal."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def states(*pids: int) -> str:
    found = [stat_of(pid) for pid in pids]
    return "".join(stat[0] if stat else "-" for stat in found)


class Screen:
    """What has been written to a terminal."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._text = ""
        os.set_blocking(master, False)

    def read(self) -> str:
        with suppress(BlockingIOError):
            while chunk := os.read(self._master, 65536):
                self._text += chunk.decode(errors="replace")
        return self._text

    def until(self, pattern: str) -> str:
        eventually(lambda: re.search(pattern, self.read()), lambda: self._text)
        return self._text
