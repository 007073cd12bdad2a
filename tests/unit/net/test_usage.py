"""What a server takes, and when that is too much."""

from pathlib import Path

import pytest

from edge.metrics_servers import ServerProcesses, Usage
from edge.net.cgroup import Room
from edge.net.reaper import Proc
from edge.net.usage import PAGE_BYTES, TICKS_PER_S, Consumption, in_units

NOBODY = 2**30  # no such pid, so that what only /proc knows is not found


def proc(mib: int = 1, threads: int = 1, cpu_s: float = 0.0, pid: int = NOBODY) -> Proc:
    pages, ticks = mib * 1024 * 1024 // PAGE_BYTES, int(cpu_s * TICKS_PER_S)
    return Proc(pid, "S", 1, 1, 1, 0, threads, pages, ticks)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_a_cgroup_the_processes_are_added_up() -> None:
    members = [proc(10, 2, 1.5), proc(20, 1, 0.5)]
    found = Consumption(lambda: members, None).usage()
    assert found == Usage(memory_bytes=30 * 1024 * 1024, processes=3, cpu_s=2.0, stalled_s={}, oom_kills=0)


def test_it_is_read_once_a_second_at_most_and_cpu_time_never_goes_back() -> None:
    clock, members = Clock(), [proc(10, 1, 1.0), proc(10, 1, 2.0)]
    found = Consumption(lambda: members, None, now=clock)
    assert found.usage().cpu_s == 3.0
    members.pop()
    assert found.usage().memory_bytes == 20 * 1024 * 1024
    clock.now += 1
    assert (found.usage().memory_bytes, found.usage().cpu_s) == (10 * 1024 * 1024, 3.0)


def test_after_the_end_the_last_reading_stays() -> None:
    members = [proc(10, 1, 1.0)]
    found = Consumption(lambda: members, None)
    found.over()
    members.clear()
    assert found.usage().cpu_s == 1.0


def test_a_cgroup_keeps_the_sums(tmp_path: Path) -> None:
    for name, text in {
        "memory.current": "5000\n",
        "pids.current": "4\n",
        "cpu.stat": "usage_usec 1500000\n",
        "memory.events": "oom 1\noom_kill 3\n",
        "memory.pressure": "some avg10=0.00 total=250000\n",
    }.items():
        (tmp_path / name).write_text(text)
    room = Room(tmp_path, frozenset({"memory", "pids", "cpu"}))
    found = Consumption(lambda: [proc()], room, memory_bytes=512 << 20, processes=4)
    assert found.usage() == Usage(5000, 4, 1.5, {"memory": 0.25}, 3)
    assert found.why_killed() == "over its memory limit of 512 MiB"
    assert not found.is_to_be_watched
    (tmp_path / "memory.events").write_text("oom 0\noom_kill 1\n")
    assert found.why_killed() == "the system is out of memory"
    (tmp_path / "memory.events").write_text("oom 0\noom_kill 0\n")
    assert found.why_killed() is None


def test_what_the_cgroup_cannot_do_is_added_up_and_watched(tmp_path: Path) -> None:
    room = Room(tmp_path, frozenset({"pids"}))
    found = Consumption(lambda: [proc(3)], room, memory_bytes=1 << 20, processes=4)
    assert found.usage() == Usage(3 << 20, 1, 0.0, {}, 0)
    assert found.is_to_be_watched
    assert not Consumption(list, room, processes=4).is_to_be_watched
    assert not Consumption(list, None).is_to_be_watched


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([proc(40), proc(25)], "over its memory limit of 64 MiB"),
        ([proc(1, threads=5), proc(1, threads=4)], "over its limit of 8 processes"),
        ([proc(64, threads=8)], None),
    ],
)
def test_a_server_over_its_limit_is_told_which(members: list[Proc], words: str | None) -> None:
    found = Consumption(lambda: members, None, memory_bytes=64 << 20, processes=8)
    assert found.excess() == words


def test_an_end_for_memory_is_counted() -> None:
    found = Consumption(lambda: [proc(2)], None, memory_bytes=1 << 20)
    assert found.excess() is not None
    assert found.usage().oom_kills == 1


def test_sums_go_on_over_restarts_and_what_is_now_does_not() -> None:
    def first() -> Usage:
        return Usage(1000, 3, 2.0, {"cpu": 0.5}, 1)

    def second() -> Usage:
        return Usage(500, 1, 0.5, {"cpu": 0.25}, 0)

    processes = ServerProcesses()
    processes.begun(first)
    assert processes.now() == first()
    processes.ended(first)
    assert processes.now() == Usage(0, 0, 2.0, {"cpu": 0.5}, 1)
    processes.begun(second)
    assert processes.now() == Usage(500, 1, 2.5, {"cpu": 0.75}, 1)


def test_sizes_are_said_as_a_person_says_them() -> None:
    assert [in_units(n) for n in (1 << 20, 3 << 29, 100_000, 10)] == [
        "1 MiB",
        "1.5 GiB",
        "97.7 KiB",
        "10 bytes",
    ]
