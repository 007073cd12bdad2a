"""mcp-edge as a service in a box: installed, asked, and called without pause while things happen to it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.calling import PAUSE_S, Calls, try_call
from tests.support.system import System
from tests.support.systemd_sandbox import Box, enter_network

UNIT = "mcp-edge.service"
SOCKET = "mcp-edge.socket"
CONFIG = "/etc/mcp-edge/config.toml"
PATIENCE_S = (
    100.0  # above TimeoutStopSec=: systemd in a container has been seen to miss that a cgroup is empty
)


def install(box: System, package: Path) -> str:
    """Installs or upgrades; what dpkg said. The service is ready afterwards, as a good config is in force."""
    done = put(box, package)
    assert box.property(UNIT, "ActiveState") == "active", box.journal(UNIT)
    return done


def put(box: System, package: Path) -> str:
    box.copy(package, "/root/mcp-edge.deb")
    return box.out("dpkg", "--install", "/root/mcp-edge.deb")


def drop_in(box: System, *lines: str, section: str = "Service") -> None:
    """Further lines of the unit, in force from its next start."""
    box.write(f"/etc/systemd/system/{UNIT}.d/{section}.conf", "\n".join([f"[{section}]", *lines, ""]))
    box.run("systemctl", "daemon-reload")


@contextlib.contextmanager
def calling_without_pause(box: Box, tool: str = "host__memory") -> Iterator[Calls]:
    """Calls over connections of their own, from two threads, until the block ends; at least one is good before it."""
    calls = Calls()
    is_over = threading.Event()

    def work() -> None:
        enter_network(box.leader)
        while not is_over.is_set():
            if not try_call(tool, calls):
                is_over.wait(PAUSE_S)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: calls.good > 0 or bool(calls.failed))
        yield calls
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def eventually(question: Callable[[], bool], why_not: Callable[[], str] = str) -> None:
    """Returns once the answer is yes; AssertionError if it never is."""
    give_up = time.monotonic() + PATIENCE_S
    while not question():
        assert time.monotonic() < give_up, why_not()
        time.sleep(0.05)
