"""What the processes of one server take: by their cgroup where they have one, else added up from /proc.

Limits that no cgroup enforces are enforced here, by looking every SAMPLE_S seconds and ending a server that is over.
Why no rlimits for that: RLIMIT_AS counts address space, of which the runtimes of Node, Go and Java reserve many times
what they use; RLIMIT_NPROC counts all processes of the user, ours and other servers' as well, and none of root's; and
every rlimit is one process's and not the server's. Only RLIMIT_DATA is set, far above the limit (HEADROOM, ROOM_BYTES):
it stops what grows faster than we look.
"""

import os
import resource
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from edge.metrics_servers import Usage
from edge.net.cgroup import Room
from edge.net.reaper import Proc, look_up

SAMPLE_S = 1.0
FRESH_S = 1.0  # a reading is given again for so long
HEADROOM = 4  # RLIMIT_DATA counts whole stacks and heaps, touched or not
ROOM_BYTES = 1 << 30
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = resource.getpagesize()


class Consumption:
    """What one start of a server takes. `members` are its processes; with a `room` the kernel keeps the sums."""

    def __init__(
        self,
        members: Callable[[], Iterable[Proc]],
        room: Room | None,
        *,
        memory_bytes: int = 0,
        processes: int = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._members = members
        self._room = room
        self._memory_bytes, self._processes = memory_bytes, processes
        self._now = now
        self._last = Usage()
        self._read_at = -FRESH_S
        self._ended_for_memory = 0
        self._is_over = False

    @property
    def is_to_be_watched(self) -> bool:
        """It has a limit that no cgroup enforces."""
        enforced = self._room.controllers if self._room is not None else frozenset()
        return bool(
            (self._memory_bytes and "memory" not in enforced) or (self._processes and "pids" not in enforced)
        )

    def usage(self) -> Usage:
        """At most FRESH_S old; the last one, once it is `over`."""
        if not self._is_over and self._now() - self._read_at >= FRESH_S:
            self._last = self._read()
            self._read_at = self._now()
        return self._last

    def over(self) -> None:
        """Read for the last time: it ends."""
        self._read_at = self._now() - FRESH_S
        self.usage()
        self._is_over = True

    def excess(self) -> str | None:
        """Which limit it is over, in words; None if it is not. To be asked only if it `is_to_be_watched`."""
        members = list(self._members())
        if self._processes and sum(proc.threads for proc in members) > self._processes:
            return f"over its limit of {self._processes} processes"
        memory_bytes = rss_bytes(members)
        if self._memory_bytes and memory_bytes > self._memory_bytes:
            memory_bytes = sum(map(pss_bytes, members))  # what they share counts once; this takes longer
        if self._memory_bytes and memory_bytes > self._memory_bytes:
            self._ended_for_memory += 1
            return self.memory_words()
        return None

    def why_killed(self) -> str | None:
        """In words, if the kernel has killed in it because there was not enough memory."""
        if self._room is None or not self._room.number("memory.events", "oom_kill"):
            return None
        return self.memory_words() if self._room.is_out_of_memory() else "the system is out of memory"

    def memory_words(self) -> str:
        return f"over its memory limit of {in_units(self._memory_bytes)}"

    def _read(self) -> Usage:
        room, members = self._room, list(self._members())
        memory_bytes, processes, cpu_us = None, None, None
        kills = self._ended_for_memory
        if room is not None:
            memory_bytes, processes = room.number("memory.current"), room.number("pids.current")
            cpu_us = room.number("cpu.stat", "usage_usec")
            kills += room.number("memory.events", "oom_kill") or 0
        cpu_s = sum(proc.cpu_ticks for proc in members) / TICKS_PER_S if cpu_us is None else cpu_us / 1e6
        return Usage(
            memory_bytes=rss_bytes(members) if memory_bytes is None else memory_bytes,
            processes=sum(proc.threads for proc in members) if processes is None else processes,
            # What has ended in the background, and was reaped by us, is missing: a sum never goes down for that.
            cpu_s=max(cpu_s, self._last.cpu_s),
            stalled_s=room.stalled_s() if room is not None else {},
            oom_kills=kills,
        )


def members_of(leader: int, others: Iterable[Proc]) -> list[Proc]:
    """The leader, dead or alive but not reaped, and the others."""
    first = look_up(leader)
    return [*([first] if first is not None else []), *others]


def rss_bytes(members: Iterable[Proc]) -> int:
    """Resident memory; what processes share counts for each of them."""
    return sum(proc.rss_pages for proc in members) * PAGE_BYTES


def pss_bytes(proc: Proc) -> int:
    """Resident memory, with its part only of what is shared; RSS if the kernel does not tell."""
    with suppress(OSError, ValueError), open(f"/proc/{proc.pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return proc.rss_pages * PAGE_BYTES


def cap_data(pid: int, memory_bytes: int) -> None:
    """The net below the watching, for this process and what it starts from now on."""
    most = max(HEADROOM * memory_bytes, ROOM_BYTES)
    with suppress(
        OSError, ValueError, AttributeError
    ):  # it has ended; a lower limit is there; this is no Linux
        resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))


def in_units(n_bytes: int) -> str:
    """512 MiB, 1.5 GiB, 1000 bytes."""
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if n_bytes >= size:
            return f"{round(n_bytes / size, 1):g} {unit}"
    return f"{n_bytes} bytes"
