"""The service on a kernel that has control groups of version 2 and nothing else: what only the kernel can enforce.

One machine for all: each test leaves the service running, with the config that all begin with.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import unruly_server
from tests.support.service import CONFIG, UNIT, drop_in, eventually, install
from tests.support.virtual_machine import VirtualMachine, virtual_machine, why_not

PROGRAM = "/usr/local/lib/unruly_server.py"
HOST = '[servers.host]\ncommand = ["/usr/bin/mcp-edge", "host-server"]\n'
UNRULY = f"""[servers.unruly]
command = ["/usr/bin/python3", "-I", "-S", "{PROGRAM}"]
stop_grace_s = 1
limits = {{ memory_bytes = {64 << 20}, processes = 24 }}
"""
DAEMON = " ".join(unruly_server.DAEMON)


@pytest.fixture(scope="module")
def running(package: Path) -> Iterator[VirtualMachine]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with virtual_machine() as found:
        install(found, package)
        found.write(PROGRAM, Path(unruly_server.__file__).read_text())
        drop_in(found, "RestartSec=100ms")
        yield found


@pytest.fixture
def machine(running: VirtualMachine) -> VirtualMachine:
    running.write(CONFIG, HOST + UNRULY)
    running.run("systemctl", "reload-or-restart", UNIT)
    is_good_again(running)
    return running


def group(machine: VirtualMachine) -> str:
    return f"/sys/fs/cgroup{machine.property(UNIT, 'ControlGroup')}"


def room(machine: VirtualMachine, server: str) -> str:
    """The cgroup of a server, of which there is one."""
    return machine.out("sh", "-c", f"echo {group(machine)}/server-{server}.*")


def read(machine: VirtualMachine, *files: str) -> list[str]:
    return machine.out("cat", *files).splitlines()


def event(machine: VirtualMachine, file: str, key: str) -> int:
    return int(dict(line.split() for line in read(machine, file))[key])


def health(machine: VirtualMachine, server: str) -> dict[str, Any]:
    (found,) = (
        record for record in json.loads(machine.get("/health")[1])["servers"] if record["name"] == server
    )
    return dict(found)


def metric(machine: VirtualMachine, name: str, server: str) -> float:
    text = machine.get("/metrics")[1]
    (value,) = re.findall(rf'^mcp_edge_{name}{{server="{server}"}} (\S+)$', text, re.MULTILINE)
    return float(value)


def is_good(machine: VirtualMachine) -> bool:
    try:
        return bool(health(machine, "host")["connected"] and health(machine, "unruly")["connected"])
    except AssertionError:
        return False  # nobody listens yet


def is_good_again(machine: VirtualMachine) -> None:
    eventually(lambda: is_good(machine), lambda: machine.state(UNIT))


def test_each_server_has_a_cgroup_with_its_limits(machine: VirtualMachine) -> None:
    unruly, host = room(machine, "unruly"), room(machine, "host")
    limits = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max")
    assert read(machine, *(f"{unruly}/{name}" for name in limits)) == [str(64 << 20), "0", "1", "24"]
    assert read(machine, *(f"{host}/{name}" for name in limits)) == ["max", "max", "0", "max"]
    assert read(machine, f"{unruly}/cgroup.procs") == [str(health(machine, "unruly")["pid"])]
    assert read(machine, f"{host}/cgroup.procs") == [str(health(machine, "host")["pid"])]
    assert read(machine, f"{group(machine)}/main/cgroup.procs") == [machine.property(UNIT, "MainPID")]


def test_a_server_over_its_memory_limit_is_killed_by_the_kernel_and_nobody_else_notices(
    machine: VirtualMachine,
) -> None:
    before, at = (machine.property(UNIT, "MainPID"), health(machine, "host")["pid"]), room(machine, "unruly")
    kills, restarts = (
        metric(machine, "server_oom_kills_total", "unruly"),
        health(machine, "unruly")["restarts"],
    )
    machine.call("unruly__escape")
    with machine.calling_without_pause() as calls:
        with pytest.raises(AssertionError, match="unruly"):
            machine.call("unruly__eat", mib=200)
        is_good_again(machine)
    assert calls.failed == []
    assert calls.good > 0
    assert (machine.property(UNIT, "MainPID"), health(machine, "host")["pid"]) == before
    assert event(machine, f"{group(machine)}/memory.events", "oom_kill") >= 2, "the kernel, and all of it"
    assert machine.processes(DAEMON) == []
    assert not machine.has(at)
    why = "killed by SIGKILL: over its memory limit of 64 MiB"
    assert health(machine, "unruly")["last_error"] == why
    assert health(machine, "unruly")["restarts"] == restarts + 1
    assert why in machine.journal(UNIT)
    assert metric(machine, "server_oom_kills_total", "unruly") >= kills + 2
    assert metric(machine, "server_oom_kills_total", "host") == 0


def test_a_fork_bomb_is_refused_by_the_kernel_and_nobody_else_notices(machine: VirtualMachine) -> None:
    unruly = room(machine, "unruly")
    with machine.calling_without_pause() as calls:
        assert "Resource temporarily unavailable" in str(machine.call("unruly__multiply"))
        assert event(machine, f"{unruly}/pids.events", "max") > 0
        assert read(machine, f"{unruly}/pids.current") == ["24"]
        eventually(lambda: metric(machine, "server_processes", "unruly") == 24)
        assert metric(machine, "server_processes_limit", "unruly") == 24
        machine.run("kill", "-KILL", str(health(machine, "unruly")["pid"]))
        eventually(lambda: not machine.has(unruly), lambda: machine.state(UNIT))
        is_good_again(machine)
    assert calls.failed == []
    assert calls.good > 0
    assert len(machine.processes(PROGRAM)) == 1


def test_a_server_that_is_restarted_leaves_no_descendant(machine: VirtualMachine) -> None:
    machine.call("unruly__escape")
    assert len(machine.processes(DAEMON)) == 1
    machine.write(CONFIG, f'{HOST}{UNRULY}env = {{ ROUND = "2" }}\n')
    machine.run("systemctl", "reload", UNIT)
    assert machine.processes(DAEMON) == []
    is_good_again(machine)


def test_a_stop_of_the_service_leaves_no_descendant_and_is_no_failure(machine: VirtualMachine) -> None:
    machine.call("unruly__escape")
    at = group(machine)
    machine.run("systemctl", "stop", UNIT)
    assert machine.processes(DAEMON) == []
    assert not machine.has(at)
    assert machine.property(UNIT, "Result") == "success"
    assert "timed out" not in machine.journal(UNIT)


def test_an_mcp_edge_that_is_killed_leaves_no_descendant_and_comes_back(machine: VirtualMachine) -> None:
    machine.call("unruly__escape")
    before = machine.processes("mcp-edge") + machine.processes(PROGRAM) + machine.processes(DAEMON)
    pid = machine.property(UNIT, "MainPID")
    machine.run("kill", "-KILL", pid)
    eventually(lambda: machine.property(UNIT, "MainPID") not in (pid, "0"), lambda: machine.state(UNIT))
    is_good_again(machine)
    after = machine.processes("mcp-edge") + machine.processes(PROGRAM) + machine.processes(DAEMON)
    assert not {line.split()[0] for line in before} & {line.split()[0] for line in after}
    assert machine.processes(DAEMON) == []


def test_what_servers_take_is_what_the_kernel_counts(machine: VirtualMachine) -> None:
    unruly = room(machine, "unruly")
    cpu_s = metric(machine, "server_cpu_seconds_total", "unruly")
    machine.call("unruly__eat", mib=30)
    machine.call("unruly__work", seconds=1)
    eventually(lambda: metric(machine, "server_cpu_seconds_total", "unruly") >= cpu_s + 1)
    counted_us = event(machine, f"{unruly}/cpu.stat", "usage_usec")
    assert cpu_s < metric(machine, "server_cpu_seconds_total", "unruly") <= counted_us / 1e6 + 1
    memory_bytes = int(read(machine, f"{unruly}/memory.current")[0])
    assert 30 << 20 <= memory_bytes <= 64 << 20
    assert abs(metric(machine, "server_memory_bytes", "unruly") - memory_bytes) < 4 << 20
    assert abs(health(machine, "unruly")["memory_bytes"] - memory_bytes) < 4 << 20
    assert metric(machine, "server_memory_limit_bytes", "unruly") == 64 << 20
    assert cpu_s + 1 <= health(machine, "unruly")["cpu_s"]
    assert bool(health(machine, "unruly")["stalled_s"]) == machine.has(f"{unruly}/cpu.pressure")
