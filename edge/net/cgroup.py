"""A cgroup (version 2) of its own for each stdio server, where systemd has delegated ours to us.

    mcp-edge.service/            delegated: ours to divide up; it holds no processes
    ├─ main/                     mcp-edge itself (with DelegateSubgroup=, whatever that names)
    ├─ server-git.1/             a server, and whatever comes of it: memory.max, pids.max, cgroup.kill
    └─ server-plc.2/

**When it is ours.** Only on evidence, for a login session, a container's root or a slice must never be rearranged:
systemd has started us as a unit ($INVOCATION_ID), our own cgroup or its parent (DelegateSubgroup=) bears systemd's mark
of delegation (extended attribute user.delegate or trusted.delegate), that cgroup is of this very invocation, where
it says so (user.invocation_id), it can be written to, and no other processes are in it than we and our guard. The
root is never taken. Then we move into `main`, as a cgroup with controllers for its children must not have processes,
and pass memory, pids and cpu on to the children. Whichever controller is not there is done without: limits are then
watched instead (`usage.py`). Source: systemd's "Control Group APIs and Delegation"; cgroups(7).

**How a server gets in.** It is forked in `main`, and moved at once, mostly before it executes anything (start.py),
with whatever it may have started since. Servers are forked and moved one at a time (`starting`), so all that is in
`main` then, but for us and our guard, is of this one, even a daemon that has left its session, parent and environment
behind in the meantime; and what comes later is born in its cgroup. What hangs in its execution hangs there, too, and
holds up nobody. Python cannot clone into a cgroup; a `preexec_fn` is unsafe beside threads; a wrapper that moves itself
and then executes the server costs a process image, and a shell would rewrite the environment on the way.

All calls here are a few reads and writes of a file system in memory: they do not wait.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

from edge.errors import EdgeError
from edge.net.reaper import descendants

MAIN = "main"
PREFIX = "server-"
CONTROLLERS = ("memory", "pids", "cpu")
STALE_WAIT_S = 2.0  # for what a predecessor left behind; even SIGKILL takes a moment
MOVES = 20  # rounds of looking for processes that were forked while others were moved

numbers = count(1)


class NotDelegated(EdgeError):
    """There is no cgroup that is ours to divide up; the text says why."""


class Room:
    """The cgroup of one server. What cannot be read is None, what cannot be written is not enforced."""

    def __init__(
        self,
        path: Path,
        controllers: frozenset[str] = frozenset(),
        outside: Callable[[], Iterable[int]] = tuple,
    ) -> None:
        self.path = path
        self.controllers = controllers
        self._outside = outside

    def limit(self, memory_bytes: int, processes: int) -> None:
        """0 is no limit. Memory: none of it may be swapped out instead, and all of the server is ended as one."""
        if memory_bytes:
            write(self.path / "memory.max", str(memory_bytes))
            write(self.path / "memory.swap.max", "0")
            write(self.path / "memory.oom.group", "1")
        if processes:
            write(self.path / "pids.max", str(processes))

    def admit(self) -> bool:
        """Move in the server that is being started, until nobody of it is outside; False if somebody still is."""
        for _ in range(MOVES):
            outside = [*self._outside()]
            if not outside:
                return True
            for pid in outside:
                write(self.path / "cgroup.procs", str(pid))  # those that have ended meanwhile cannot be
        return False

    def pids(self) -> list[int]:
        """All processes inside, also in cgroups that the server has made below."""
        return [int(pid) for folder in folders(self.path) for pid in read(folder / "cgroup.procs").split()]

    def is_populated(self) -> bool:
        """Somebody lives inside; who is dead and not yet reaped does not count."""
        return "populated 1" in read(self.path / "cgroup.events")

    def kill(self) -> None:
        """SIGKILL to all at once, and to whatever they are just forking (Linux 5.14; before, the ladder has to do)."""
        write(self.path / "cgroup.kill", "1")

    def remove(self) -> bool:
        """False if somebody is inside."""
        for folder in folders(self.path):
            with suppress(OSError):
                folder.rmdir()
        return not self.path.exists()

    def number(self, file: str, key: str = "") -> int | None:
        """The file's only number, or the one that stands after `key`."""
        for line in read(self.path / file).splitlines():
            name, _, value = line.rpartition(" ")
            if name == key and value.isdigit():
                return int(value)
        return None

    def stalled_s(self) -> dict[str, float]:
        """How long something inside has waited for a resource, in seconds since it was made (PSI, `some`)."""
        found = {}
        for resource in ("cpu", "memory", "io"):
            for line in read(self.path / f"{resource}.pressure").splitlines():
                if line.startswith("some ") and line.rpartition("total=")[2].isdigit():
                    found[resource] = int(line.rpartition("total=")[2]) / 1e6
        return found

    def is_out_of_memory(self) -> bool:
        """Its own limit was what killed in it, and not that the machine had no more."""
        return bool(self.number("memory.events", "oom_kill") and self.number("memory.events", "oom"))


class Delegated:
    """The cgroup that is ours to divide up, with ourselves in a leaf of it."""

    def __init__(
        self, path: Path, controllers: frozenset[str], leaf: Path, ours: frozenset[int] = frozenset()
    ) -> None:
        self.path = path
        self.controllers = controllers
        self._leaf = leaf
        self._ours = ours

    def room(self, server: str) -> Room:
        """A new cgroup for one start of a server. Raises: OSError."""
        while True:
            path = self.path / f"{PREFIX}{server}.{next(numbers)}"
            with suppress(FileExistsError):
                path.mkdir()
                return Room(path, self.controllers, self._strangers)

    def _strangers(self) -> set[int]:
        """Who is in our leaf and is neither we nor our guard; descendants of ours only, should an operator look in."""
        inside = {int(pid) for pid in read(self._leaf / "cgroup.procs").split()} - self._ours
        return inside & {proc.pid for proc in descendants(os.getpid())} if inside else inside

    def clear(self) -> int:
        """End what a predecessor left behind; how many cgroups of servers there were. Waits STALE_WAIT_S at most."""
        rooms = [Room(path) for path in sorted(self.path.glob(f"{PREFIX}*")) if path.is_dir()]
        give_up = time.monotonic() + STALE_WAIT_S
        for room in rooms:
            room.kill()
        for room in rooms:
            while not room.remove() and time.monotonic() < give_up:
                time.sleep(0.01)
        return len(rooms)


Marks = Callable[[Path, str], str]


def claim(
    env: Mapping[str, str],
    ours: frozenset[int],
    *,
    proc: Path = Path("/proc/self"),
    mark: Marks | None = None,
) -> Delegated:
    """Divide up our cgroup, if it is ours; `ours` are the processes that may be in it. Raises: NotDelegated."""
    invocation = env.get("INVOCATION_ID")
    if not invocation:
        raise NotDelegated("not started by systemd")
    name, root = own_path(read(proc / "cgroup")), mount_point(read(proc / "mountinfo"))
    if name is None or root is None:
        raise NotDelegated("no cgroups of version 2 here")
    own = root / name.lstrip("/")
    path = next((path for path in (own, own.parent) if is_delegated(path, root, mark or attribute)), None)
    if path is None:
        raise NotDelegated(f"{name} is not delegated")
    if (mark or attribute)(path, "invocation_id") not in ("", invocation):
        raise NotDelegated(f"{name} is another unit's")
    if not os.access(path / "cgroup.procs", os.W_OK) or not os.access(path, os.W_OK):
        raise NotDelegated(f"{name} cannot be written to")
    if path == own:
        if not set(map(int, read(path / "cgroup.procs").split())) <= ours:
            raise NotDelegated(f"others are in {name}, too")
        move_into_leaf(path, ours)
        own = path / MAIN
    for controller in CONTROLLERS:
        write(path / "cgroup.subtree_control", f"+{controller}")
    controllers = frozenset(read(path / "cgroup.subtree_control").split())
    return Delegated(path, controllers & frozenset(CONTROLLERS), own, ours)


def move_into_leaf(path: Path, pids: Iterable[int]) -> None:
    """Raises: NotDelegated."""
    leaf = path / MAIN
    try:
        leaf.mkdir(exist_ok=True)
    except OSError as exc:
        raise NotDelegated(f"{leaf} cannot be made: {exc.strerror}") from exc
    for pid in pids:
        if not write(leaf / "cgroup.procs", str(pid)):
            raise NotDelegated(f"process {pid} cannot be moved into {leaf}")


def is_delegated(path: Path, root: Path, mark: Marks) -> bool:
    return path != root and root in path.parents and mark(path, "delegate") == "1"


def attribute(path: Path, name: str) -> str:
    """systemd's mark on a cgroup; the one in the namespace `trusted` is for root only."""
    for namespace in ("user", "trusted"):
        with suppress(OSError, AttributeError):  # there is none, or this is no Linux
            return os.getxattr(path, f"{namespace}.{name}").decode(errors="replace")
    return ""


def own_path(text: str) -> str | None:
    """Our path in the version 2 hierarchy, from /proc/self/cgroup; None also for the root."""
    for line in text.splitlines():
        if line.startswith("0::/") and line != "0::/" and "/.." not in line:
            return line.removeprefix("0::")
    return None


def mount_point(text: str) -> Path | None:
    """Where the whole of the version 2 hierarchy is mounted, from /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if after.startswith("cgroup2 ") and fields[3] == "/" and "\\" not in fields[4]:
            return Path(fields[4])
    return None


def folders(path: Path) -> list[Path]:
    """`path` and all below it, the deepest first."""
    return [Path(folder) for folder, _, _ in os.walk(path, topdown=False)]


def read(path: Path) -> str:
    """Empty if it cannot be read: the file may be of a later kernel, or the cgroup gone."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def write(path: Path, text: str) -> bool:
    """One write, as these files want it; False if it is refused."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(file, text.encode())
    except OSError:
        return False
    finally:
        os.close(file)
    return True
