"""A cgroup as systemd delegates one, made by the tests themselves; and starting a program inside.

    with delegated() as path:
        running(config, prefix=inside(path), env=EVIDENCE)

Linux and root only; `why_not()` says what is missing. Which controllers there are is the machine's affair.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path

from tests.support.processes import eventually

INVOCATION = "0123456789abcdef0123456789abcdef"
EVIDENCE = {"INVOCATION_ID": INVOCATION}
numbers = count(1)


@cache
def why_not() -> str | None:
    """None if cgroups can be made here."""
    if sys.platform != "linux":
        return "cgroups are Linux's"
    if (root := hierarchy()) is None:
        return "no cgroups of version 2 are mounted here"
    if os.geteuid() != 0:
        return "making cgroups needs root"
    try:
        with delegated():
            return None
    except OSError as exc:
        return f"no cgroup can be made in {root}: {exc.strerror}"


@cache
def hierarchy() -> Path | None:
    """Where the cgroups of version 2 are."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


@contextmanager
def delegated(kind: str = "service") -> Iterator[Path]:
    """An empty cgroup with systemd's marks; whatever is in it in the end is killed."""
    root = hierarchy()
    assert root is not None
    path = root / f"mcp-edge-test-{os.getpid()}-{next(numbers)}.{kind}"
    path.mkdir()
    try:
        os.setxattr(path, "user.delegate", b"1")
        os.setxattr(path, "user.invocation_id", INVOCATION.encode())
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    (path / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (path / "cgroup.events").read_text())
    for folder, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)
    assert not path.exists(), f"{path} is still there"


def inside(path: Path, *, is_main: bool = True) -> tuple[str, ...]:
    """Words before a command: it is started in the cgroup, and told that it is the main process of a service."""
    told = "SYSTEMD_EXEC_PID=$$" if is_main else ""
    return ("/bin/sh", "-c", f'echo $$ > "$1/cgroup.procs" && shift && {told} exec "$@"', "sh", str(path))


def pids_in(path: Path) -> set[int]:
    return {int(pid) for pid in (path / "cgroup.procs").read_text().split()}


def rooms(path: Path) -> list[str]:
    """The names of the servers' cgroups, with the number of the start."""
    return sorted(each.name for each in path.glob("server-*"))
