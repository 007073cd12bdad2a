"""What /proc tells about other processes, and waiting for a condition with a bound. Linux only."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

LIMIT_S = 45.0
PAUSE_S = 0.02

T = TypeVar("T")


class Process(NamedTuple):
    """One process for good: `started` (clock ticks since boot) tells it from the next one with its pid."""

    pid: int
    started: int

    @property
    def is_alive(self) -> bool:
        stat = stat_of(self.pid)
        return stat is not None and int(stat[19]) == self.started and stat[0] not in "ZX"


def eventually(condition: Callable[[], T], what: Callable[[], object] = str, limit_s: float = LIMIT_S) -> T:
    """The first true value of `condition`; AssertionError, with what `what` says then, if none comes."""
    give_up = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < give_up, f"not in {limit_s:g} s: {what() or condition}"
        time.sleep(PAUSE_S)
    return found


def stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the program's name: state, parent, ...; None if it has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(") ")[2].split()


def process(pid: int) -> Process:
    """The process that has this pid now."""
    stat = stat_of(pid)
    assert stat is not None, f"no process {pid}"
    return Process(pid, int(stat[19]))


def descendants(pid: int) -> set[Process]:
    """All living processes below `pid`."""
    found: set[Process] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue  # a thread that has ended meanwhile
        for child in children:
            stat = stat_of(child)
            if stat is not None and stat[0] not in "ZX":
                found |= {Process(child, int(stat[19])), *descendants(child)}
    return found


def appliance_below(pid: int) -> int | None:
    """The pid of the mcp-edge that this process is the guard of; None if it is none, or not one yet."""
    try:
        if Path(f"/proc/{pid}/comm").read_text() != "mcp-edge-guard\n":
            return None
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return next(
            (found for found in children if Path(f"/proc/{found}/cmdline").read_bytes() == command), None
        )
    except OSError:
        return None


def memory_bytes(pid: int, field: str = "VmRSS") -> int:
    """Resident memory now (VmRSS), or the most that it ever was (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field}")
