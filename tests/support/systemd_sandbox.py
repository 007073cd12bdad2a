"""A Debian with a systemd of its own as PID 1, for tests of units and packages: real, and gone afterwards.

    with booted("bookworm") as box:
        box.run("systemctl", "start", "some.service")
        box.in_network(function)        # our own code, with the box's loopback

systemd-nspawn starts it from a root file system that `python3 build test` has prepared (build/roots.py), with a layer
in memory above: nothing that happens in it is kept. It has a network of its own, with loopback only. Root only.
"""

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tests.support.namespaces import CLONE_NEWNET
from tests.support.peers import PEERS, missing
from tests.support.system import ENVIRONMENT, System

P = ParamSpec("P")
T = TypeVar("T")

SUITES = ("bookworm", "trixie")
BOOT_LIMIT_S = 60.0
POWER_OFF = signal.SIGRTMIN + 4  # systemd(1): as `systemctl poweroff`


@functools.cache
def why_not(suite: str) -> str | None:
    """None if this release can be booted here. Within most containers, such as those of CI, it cannot."""
    if os.geteuid() != 0:
        return "a systemd of its own can be started by root only"
    if shutil.which("systemd-nspawn") is None or shutil.which("nsenter") is None:
        return "systemd-nspawn is missing: apt-get install systemd-container"
    if (reason := missing(f"systemd-{suite}")) is not None:
        return reason
    command = [*nspawn(suite, "--console=pipe"), "true"]
    probe = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = (probe.stderr.strip().splitlines() or [f"status {probe.returncode}"])[-1]
    return f"systemd-nspawn cannot start a container here: {said}" if probe.returncode else None


class Box(System):
    def __init__(self, suite: str, leader: int) -> None:
        self.suite = suite
        self.leader = leader  # its PID 1, as seen from here

    def attempt(
        self, command: tuple[str, ...], text: str, limit_s: float
    ) -> subprocess.CompletedProcess[str]:
        inside = [
            "nsenter",
            f"--target={self.leader}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
        ]
        return subprocess.run(
            [*inside, "--root", "--wd", *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=ENVIRONMENT,
            check=False,
        )

    def path(self, inside: str) -> Path:
        """A path of it as seen from here."""
        return Path(f"/proc/{self.leader}/root", inside.lstrip("/"))

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f"{target.name}.new")
        new.write_text(text)
        new.chmod(mode)
        new.rename(target)

    def copy(self, file: Path, inside: str) -> None:
        shutil.copyfile(file, self.path(inside))

    def in_network(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function gives in a thread of ours that is in the box's network."""
        found: list[T] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                enter_network(self.leader)
                found.append(function(*args, **kwargs))
            except BaseException as exc:  # it is raised where it was asked for, below
                failed.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]


def enter_network(leader: int) -> None:
    """Moves the calling thread into a box's network; os.setns is there only from Python 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{leader}/ns/net", "rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def booted(suite: str, *options: str) -> Iterator[Box]:
    """A system that has come up. It is powered off at the end. `options` are systemd-nspawn's, such as binds."""
    with tempfile.NamedTemporaryFile(prefix="mcp-edge-console-") as console:
        command = nspawn(suite, "--boot", "--console=pipe", *options)
        process = start(command, console)
        try:
            box = Box(suite, wait_for(lambda: leader_of(process), process, console.name))
            wait_for(lambda: is_up(box), process, console.name)
            yield box
        finally:
            end(process)


@contextlib.contextmanager
def contained(
    suite: str, *options: str, command: Sequence[str]
) -> Iterator[tuple[Box, subprocess.Popen[bytes]]]:
    """One command as PID 1 of a container, as container engines start it; it is up when the block begins."""
    with tempfile.NamedTemporaryFile(prefix="mcp-edge-console-") as console:
        process = start([*nspawn(suite, "--console=pipe"), *options, *command], console)
        try:
            yield Box(suite, wait_for(lambda: leader_of(process), process, console.name)), process
        finally:
            end(process)


def nspawn(suite: str, *options: str) -> list[str]:
    return [
        "systemd-nspawn",
        "--quiet",
        f"--directory={PEERS.resolve() / f'systemd-{suite}'}",
        f"--machine=mcpe-{suite}-{os.getpid()}",
        "--register=no",
        "--keep-unit",
        "--volatile=overlay",
        "--private-network",
        *options,
    ]


def start(command: Sequence[str], console: Any) -> subprocess.Popen[bytes]:
    # The hierarchy of control groups inside is the unified one, even where it is not out here.
    env = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=env)


def wait_for(question: Callable[[], T | None], process: subprocess.Popen[bytes], console: str) -> T:
    give_up = time.monotonic() + BOOT_LIMIT_S
    while not (answer := question()):
        is_late = time.monotonic() > give_up
        if is_late or process.poll() is not None:
            said = Path(console).read_text(errors="replace")
            raise AssertionError(f"systemd-nspawn {'took too long' if is_late else 'ended'}:\n{said}")
        time.sleep(0.05)
    return answer


def leader_of(process: subprocess.Popen[bytes]) -> int | None:
    """The child of nspawn that is PID 1 inside, once it has become what was asked for."""
    try:
        pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        name = Path(f"/proc/{pids[0]}/comm").read_text().strip() if pids else ""
    except OSError:
        return None
    return int(pids[0]) if name and not name.startswith(("(sd", "systemd-nspawn", "nspawn")) else None


def is_up(box: Box) -> bool:
    state = box.run("systemctl", "is-system-running", check=False).stdout.strip()
    return state in ("running", "degraded")


def end(process: subprocess.Popen[bytes]) -> None:
    """Powers it off, and does not wait for ever."""
    leader = leader_of(process)
    with contextlib.suppress(ProcessLookupError):
        if leader is not None and Path(f"/proc/{leader}/comm").read_text().strip() == "systemd":
            os.kill(leader, POWER_OFF)
        else:
            process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
