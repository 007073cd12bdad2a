"""mcp-edge in a cgroup as systemd delegates one to a service: the real kernel's, but without systemd."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support import cgroups
from tests.support.appliance import Appliance, running, toml_list
from tests.support.faulty_neighbour import Client
from tests.support.peers import ROOT, requires
from tests.support.processes import Process, eventually, process

pytestmark = [
    requires("pyz"),
    pytest.mark.skipif(cgroups.why_not() is not None, reason=str(cgroups.why_not())),
]
TOY = ROOT / "tests" / "support" / "toy_server.py"
STUBBORN = ("ignore-term", "grandchild", "escaped", "daemon")


def toy(name: str, *switches: str, **settings: str) -> str:
    table = {"stop_grace_s": "0.2", "restart": "{ first_s = 0.05, limit_s = 0.1 }", **settings}
    command = toml_list([sys.executable, "-I", "-S", TOY, *switches])
    lines = [f"[servers.{name}]", f"command = {command}"]
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in table.items()), ""])


def family(edge: Appliance, name: str) -> list[Process]:
    client = Client(edge, edge.endpoint)
    return [process(pid) for pid in json.loads(client.text(f"{name}__pids"))]


def is_gone(processes: list[Process]) -> bool:
    return not any(each.is_alive for each in processes)


def logged(edge: Appliance, message: str) -> bool:
    return any(f'msg="{message}"' in line for line in edge.log)


def test_a_service_of_systemd_has_no_guard_and_its_servers_have_cgroups_of_their_own() -> None:
    servers = toy("git", *STUBBORN) + toy("plc")
    with (
        cgroups.delegated() as place,
        running(servers, env=cgroups.EVIDENCE, prefix=cgroups.inside(place)) as edge,
    ):
        assert edge.pid == edge.process.pid
        assert logged(edge, "servers get cgroups of their own")
        assert cgroups.pids_in(place / "main") == {edge.pid}
        git, plc = family(edge, "git"), family(edge, "plc")
        rooms = {path.name.partition(".")[0]: path for path in place.glob("server-*")}
        assert cgroups.pids_in(rooms["server-git"]) == {each.pid for each in git}
        assert cgroups.pids_in(rooms["server-plc"]) == {each.pid for each in plc}
        assert len(git) == 4
        assert edge.stop() == 0
        assert is_gone([*git, *plc])
        assert cgroups.rooms(place) == []


def stalled_s(file: Path) -> float:
    """As the kernel counts, in microseconds."""
    return int(file.read_text().partition("total=")[2].split()[0]) / 1e6


def test_what_servers_take_is_in_metrics_and_health() -> None:
    with (
        cgroups.delegated() as place,
        running(toy("git"), env=cgroups.EVIDENCE, prefix=cgroups.inside(place)) as edge,
    ):
        assert edge.metric('mcp_edge_server_memory_bytes{server="git"}') > 1_000_000
        assert edge.metric('mcp_edge_server_processes{server="git"}') >= 1
        assert edge.metric('mcp_edge_server_cpu_seconds_total{server="git"}') > 0
        assert edge.metric('mcp_edge_server_oom_kills_total{server="git"}') == 0
        (server,) = edge.health()["servers"]
        assert server["memory_bytes"] > 1_000_000
        assert server["cpu_s"] > 0
        if (room := next(place.glob("server-git.*")) / "cpu.pressure").exists():
            stalled = 'mcp_edge_server_pressure_stalled_seconds_total{resource="cpu",server="git"}'
            assert server["stalled_s"]["cpu"] <= edge.metric(stalled) <= stalled_s(room)
        assert server["pid"] in cgroups.pids_in(next(place.glob("server-git.*")))


def test_a_server_that_crashes_comes_back_in_a_new_cgroup_and_leaves_nobody_in_the_old_one() -> None:
    with (
        cgroups.delegated() as place,
        running(toy("git", *STUBBORN), env=cgroups.EVIDENCE, prefix=cgroups.inside(place)) as edge,
    ):
        first, rooms = family(edge, "git"), cgroups.rooms(place)
        used = edge.metric('mcp_edge_server_cpu_seconds_total{server="git"}')
        os.kill(first[0].pid, signal.SIGKILL)
        eventually(
            lambda: is_gone(first) and len(cgroups.rooms(place)) == 1 and cgroups.rooms(place) != rooms
        )
        eventually(lambda: edge.metric('mcp_edge_upstream_connected{server="git"}') == 1)
        assert edge.metric('mcp_edge_server_cpu_seconds_total{server="git"}') >= used


def test_what_a_killed_predecessor_left_is_ended_at_the_next_start() -> None:
    with cgroups.delegated() as place:
        subgroup = place / "supervised"  # as DelegateSubgroup= makes it: we are started in a leaf
        subgroup.mkdir()
        with running(toy("git", *STUBBORN), env=cgroups.EVIDENCE, prefix=cgroups.inside(subgroup)) as edge:
            left = family(edge, "git")
            assert cgroups.pids_in(subgroup) == {edge.pid}
            assert edge.stop(signal.SIGKILL) == -signal.SIGKILL
        assert not is_gone(left), "there is nobody to end them: systemd would be"
        with running(toy("git"), env=cgroups.EVIDENCE, prefix=cgroups.inside(subgroup)) as edge:
            assert is_gone(left)
            assert logged(edge, "servers of a predecessor were still there: ended")
            assert len(cgroups.rooms(place)) == 1


def test_in_a_scope_there_is_a_guard_beside_it() -> None:
    with (
        cgroups.delegated("scope") as place,
        running(
            toy("git", *STUBBORN), env=cgroups.EVIDENCE, prefix=cgroups.inside(place, is_main=False)
        ) as edge,
    ):
        assert cgroups.pids_in(place / "main") == {edge.pid, edge.process.pid}
        left = family(edge, "git")
        assert edge.stop(signal.SIGKILL) == -signal.SIGKILL
        assert is_gone(left)


def test_a_server_over_its_memory_limit_is_ended_alone_and_says_so() -> None:
    limits = "{ memory_bytes = 67_108_864 }"
    eater = "import sys; kept = bytearray(96 << 20); sys.stdin.read()"
    command = f"command = {toml_list([sys.executable, '-I', '-S', '-c', eater])}"
    greedy = re.sub(r"command = .*", lambda _: command, toy("greedy", limits=limits))
    with (
        cgroups.delegated() as place,
        running(greedy + toy("git"), env=cgroups.EVIDENCE, prefix=cgroups.inside(place)) as edge,
    ):
        git = family(edge, "git")
        text = "killed by SIGKILL: over its memory limit of 64 MiB"
        eventually(lambda: any(text in line for line in edge.log), edge.said)
        assert edge.metric('mcp_edge_server_oom_kills_total{server="greedy"}') >= 1
        assert edge.metric('mcp_edge_server_memory_limit_bytes{server="greedy"}') == 67_108_864
        assert [each.pid for each in family(edge, "git")] == [each.pid for each in git]
