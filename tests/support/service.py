"""mcp-edge as a service in a box: installed, asked, and called without pause while things happen to it."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.systemd_sandbox import Box, enter_network

UNIT = "mcp-edge.service"
SOCKET = "mcp-edge.socket"
CONFIG = "/etc/mcp-edge/config.toml"
GATEWAY, ADMIN = 8766, 9766
PATIENCE_S = (
    100.0  # above TimeoutStopSec=: systemd in a container has been seen to miss that a cgroup is empty
)


def install(box: Box, package: Path) -> str:
    """Installs or upgrades; what dpkg said. The service is ready afterwards, as a good config is in force."""
    done = put(box, package)
    assert box.property(UNIT, "ActiveState") == "active", box.journal(UNIT)
    return done


def put(box: Box, package: Path) -> str:
    box.copy(package, "/root/mcp-edge.deb")
    return box.out("dpkg", "--install", "/root/mcp-edge.deb")


def drop_in(box: Box, *lines: str, section: str = "Service") -> None:
    """Further lines of the unit, in force from its next start."""
    box.write(f"/etc/systemd/system/{UNIT}.d/{section}.conf", "\n".join([f"[{section}]", *lines, ""]))
    box.run("systemctl", "daemon-reload")


def call(tool: str = "host__memory", *, port: int = GATEWAY, limit_s: float = 20) -> dict[str, Any]:
    """The result of one call over a connection of its own; to be run in the box's network.

    Raises: OSError if there is no connection; AssertionError if there is another answer than a result.
    """
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit_s)
    with contextlib.closing(connection):
        connection.request("POST", "/mcp", json.dumps(asked), headers)
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status == 200, (answer.status, body)
    result = json.loads(body).get("result")
    assert result is not None, body
    return dict(result)


def get(path: str, *, port: int = ADMIN) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@dataclass
class Calls:
    """What came of calls that were made one after the other."""

    good: int = 0
    failed: list[str] = field(default_factory=list)


@contextlib.contextmanager
def calling_without_pause(box: Box, tool: str = "host__memory") -> Iterator[Calls]:
    """Calls over connections of their own, from two threads, until the block ends; at least one is good before it."""
    calls = Calls()
    is_over = threading.Event()

    def work() -> None:
        enter_network(box.leader)
        while not is_over.is_set():
            try:
                assert call(tool)["isError"] is False
            except (OSError, http.client.HTTPException, AssertionError) as exc:
                calls.failed.append(f"{type(exc).__name__}: {exc}")
                is_over.wait(0.05)
            else:
                calls.good += 1

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
