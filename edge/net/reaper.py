"""Who descends from us, read from /proc, and the burial of those that were orphaned and came to us.

A server may leave processes of its own behind. As we are child subreaper (Linux), orphans are re-parented to
us and not to init, so that they can be found, ended and reaped. Only descendants are ever looked at: the walk
starts at our own pid. Which server an orphan belongs to is told by its session and process group, by having
been seen below that server before, or by the marker that every child has in its environment.
"""

import os
import signal
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MARKER = "MCP_EDGE_CHILD"  # environment variable of every child: inherited by what it starts
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
MOST_PROCESSES = 4096  # looked at in one walk

leaders: set[int] = set()
"""Pids of children that somebody else in this process waits for; never reaped here."""

adopter = 0  # the process that has asked for orphans: what was forked from it has not


class Proc(NamedTuple):
    """A line of /proc/PID/stat. `start` (clock ticks since boot) tells a pid from its next use.

    `cpu_ticks` are those of the process and of the children that it has reaped.
    """

    pid: int
    state: str
    ppid: int
    pgrp: int
    session: int
    start: int
    threads: int = 1
    rss_pages: int = 0
    cpu_ticks: int = 0

    @property
    def is_alive(self) -> bool:
        return self.state not in "ZXx"


def adopt_orphans() -> bool:
    """Make this process a child subreaper, once. False where the system knows no such thing."""
    global adopter
    if adopter == os.getpid():
        return True
    done = prctl(PR_SET_CHILD_SUBREAPER, 1)
    if done:
        adopter = os.getpid()
    return done


def name_process(name: str) -> None:
    """What `ps -o comm` and `top` show of this process: 15 bytes at most."""
    prctl(PR_SET_NAME, name.encode())


def prctl(option: int, value: int | bytes) -> bool:
    """prctl(2); False if the system refuses, or has none."""
    try:
        import ctypes  # only here: not every start needs it

        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal


def parse_stat(text: str) -> Proc | None:
    """The second field, the program's name, is the program's to choose: it may hold blanks and brackets."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    if len(fields) < 22 or not pid.isdigit():
        return None
    ppid, pgrp, session = map(int, fields[1:4])
    cpu_ticks = sum(map(int, fields[11:15]))
    return Proc(
        int(pid), fields[0], ppid, pgrp, session, int(fields[19]), int(fields[17]), int(fields[21]), cpu_ticks
    )


def look_up(pid: int) -> Proc | None:
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None


def children_of(pid: int) -> Iterator[Proc]:
    """Living and dead, by any of its threads. Empty if the kernel does not tell."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        try:
            pids = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in pids:
            proc = look_up(int(child))
            if proc is not None and proc.ppid == pid:
                yield proc


def descendants(pid: int, spared: Container[tuple[int, int]] = ()) -> list[Proc]:
    """All below `pid`, parents before children; without `spared` (pid and start) and what is below those."""
    found = [proc for proc in children_of(pid) if (proc.pid, proc.start) not in spared]
    for proc in found:  # grows while it is walked
        if len(found) >= MOST_PROCESSES:
            break
        found += [child for child in children_of(proc.pid) if (child.pid, child.start) not in spared]
    return found


def has_marker(pid: int, marker: str) -> bool:
    try:
        return f"{MARKER}={marker}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


class Family:
    """What one server started: itself, the leader of its session and group, and all that came of it.

    `also` are further pids that are known to be of it.
    """

    def __init__(self, leader: int, marker: str, also: Callable[[], Iterable[int]] = tuple) -> None:
        self._leader = leader
        self._marker = marker
        self._also = also
        self._seen: set[tuple[int, int]] = set()  # pid and start of members, so that orphans are known again

    def members(self) -> list[Proc]:
        """All that are ours and not yet reaped, without the leader."""
        found = descendants(self._leader)
        for proc in children_of(os.getpid()):
            if proc.pid not in leaders and self._is_ours(proc):
                found += [proc, *descendants(proc.pid)]
        for pid in {*self._also()} - {self._leader, *(proc.pid for proc in found)}:
            if (also := look_up(pid)) is not None:
                found.append(also)
        self._seen = {(proc.pid, proc.start) for proc in found}
        return found

    def reap(self) -> int:
        """Bury dead orphans of this server; how many of the family still live, the leader not counted."""
        alive = 0
        for proc in self.members():
            if proc.is_alive:
                alive += 1
            elif proc.ppid == os.getpid():
                try:
                    os.waitpid(proc.pid, os.WNOHANG)
                except ChildProcessError:
                    continue  # somebody else was quicker
            else:
                alive += 1  # dead, and still its parent's to bury: when that has gone as well, it comes to us
        return alive

    def send(self, number: signal.Signals) -> None:
        """Signal every living member below the leader. What died and was replaced meanwhile is left alone."""
        for proc in self.members():
            if proc.is_alive:
                send_to(proc, number)

    def _is_ours(self, proc: Proc) -> bool:
        return (
            self._leader in (proc.session, proc.pgrp)
            or (proc.pid, proc.start) in self._seen
            or has_marker(proc.pid, self._marker)
        )


def send_to(proc: Proc, number: signal.Signals) -> None:
    """Signal exactly this process: the pidfd holds on to it, then its start time is compared."""
    try:
        fd = os.pidfd_open(proc.pid)
    except OSError:
        return  # it has gone
    try:
        now = look_up(proc.pid)
        if now is not None and now.start == proc.start:
            signal.pidfd_send_signal(fd, number)
    except OSError:
        return  # gone meanwhile, or another user's (a set-uid program): not ours to end
    finally:
        os.close(fd)
