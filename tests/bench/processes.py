"""The processes of the benchmark: started, looked at through /proc, and ended with all that they started."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_S = 5.0
LISTEN = "0A"  # a state of TCP, as /proc/net/tcp writes it


class Memory(NamedTuple):
    """Of one process or several, in MiB."""

    rss: float
    pss: float


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes with all their threads, without their children."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def memory(pids: Iterable[int]) -> Memory:
    kib = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(" ")
            if name in kib:
                kib[name] += int(rest.split()[0])
    return Memory(kib["Rss:"] / 1024, kib["Pss:"] / 1024)


def descendants(pid: int) -> list[int]:
    """The process's children, theirs, and so on."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


def of_the_program(pid: int) -> list[int]:
    """The process, and those below it that are forks of it: workers, or what a guard guards."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    found = [pid]
    for other in descendants(pid):
        with suppress(OSError):
            if Path(f"/proc/{other}/cmdline").read_bytes() == command:
                found.append(other)
    return found


def listener(pid: int, port: int) -> int:
    """The process, or the first below it, that listens on the port: not its guard, nor a fork that becomes a server.

    Raises: RuntimeError, if none of them does.
    """
    give_up = time.perf_counter() + STOP_S
    while time.perf_counter() < give_up:
        rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
        sockets = {
            f"socket:[{row[9]}]" for row in rows if row[3] == LISTEN and row[1].endswith(f":{port:04X}")
        }
        for candidate in [
            pid,
            *descendants(pid),
        ]:  # a parent comes before its forks, which have its sockets until exec
            if sockets & set(open_files(candidate)):
                return candidate
        time.sleep(0.05)  # what comes and goes meanwhile may be passed over
    raise RuntimeError(f"none of the processes below {pid} listens on port {port}")


def open_files(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                yield os.readlink(descriptor)


@contextmanager
def running(
    command: Sequence[str | Path], folder: Path, *, is_piped: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, with what it prints in `folder`; in the end nothing of it is left."""
    pipe = subprocess.PIPE if is_piped else None
    with (folder / "printed").open("ab") as printed:
        process = subprocess.Popen(
            command,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or printed,
            stderr=printed,
            cwd=folder,
            bufsize=0,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        others = descendants(process.pid)
        end(process)
        for pid in others:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def seconds_until_listening(
    port: int, process: subprocess.Popen[bytes], started: float, limit_s: float
) -> float:
    """When the port first took a connection, counted from `started` (perf_counter)."""
    while time.perf_counter() < started + limit_s:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return time.perf_counter() - started
        if process.poll() is not None:
            raise RuntimeError(f"it exited with status {process.returncode}")
        time.sleep(0.002)
    raise RuntimeError(f"it did not listen within {limit_s:g} s")
