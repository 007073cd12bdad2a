"""A network of the test's own: two namespaces and a router between them that can drop every packet silently.

    with network() as net:
        running(config, prefix=net.near)      # a process on one side; net.far is the other
        net.in_far(function)                  # a thread of ours there, for its loopback
        net.drop(); net.carry()

Linux and root only; `why_not()` says what is missing. Packets are dropped by the router, so neither end is told.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import ParamSpec, TypeVar

from tests.support.peers import missing

P = ParamSpec("P")
T = TypeVar("T")

CLONE_NEWNET = 0x40000000
NEAR_ADDRESS, FAR_ADDRESS = "10.98.0.2", "10.99.0.1"


@cache
def why_not() -> str | None:
    """None if namespaces can be made here."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if (reason := missing("ip")) is not None:
        return reason
    name = f"mcpe-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=False)
    return None


class Network:
    """Three namespaces: near (an edge's), router, far (a hub's)."""

    def __init__(self, mark: str) -> None:
        self._near, self._router, self._far = (f"mcpe-{mark}-{which}" for which in ("near", "mid", "far"))
        self.near = ("ip", "netns", "exec", self._near)
        self.far = ("ip", "netns", "exec", self._far)
        self._threads: list[ThreadPoolExecutor] = []

    def make(self) -> None:
        for name in (self._near, self._router, self._far):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        self._join("n", self._near, NEAR_ADDRESS, "10.98.0.1")
        self._join("f", self._far, FAR_ADDRESS, "10.99.0.2")
        ip("-n", self._near, "route", "add", "default", "via", "10.98.0.1")
        ip("-n", self._far, "route", "add", "default", "via", "10.99.0.2")
        self.carry()

    def drop(self) -> None:
        """Every packet between the two is lost."""
        self._forward("0")

    def carry(self) -> None:
        self._forward("1")

    def threads_in_far(self) -> ThreadPoolExecutor:
        """Threads of this process whose sockets are in the far namespace."""
        return self._pool(self._far)

    def threads_in_near(self) -> ThreadPoolExecutor:
        return self._pool(self._near)

    def remove(self) -> None:
        for pool in self._threads:
            pool.shutdown()
        for name in (self._near, self._router, self._far):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def _pool(self, name: str) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(16, initializer=enter, initargs=(name,))
        self._threads.append(pool)
        return pool

    def _join(self, letter: str, name: str, address: str, gateway: str) -> None:
        ip(
            "-n",
            self._router,
            "link",
            "add",
            f"to-{letter}",
            "type",
            "veth",
            "peer",
            "name",
            "up0",
            "netns",
            name,
        )
        ip("-n", name, "address", "add", f"{address}/24", "dev", "up0")
        ip("-n", name, "link", "set", "up0", "up")
        ip("-n", self._router, "address", "add", f"{gateway}/24", "dev", f"to-{letter}")
        ip("-n", self._router, "link", "set", f"to-{letter}", "up")

    def _forward(self, value: str) -> None:
        write = f"echo {value} > /proc/sys/net/ipv4/ip_forward"
        subprocess.run(["ip", "netns", "exec", self._router, "sh", "-c", write], check=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def enter(name: str) -> None:
    """Moves the calling thread into a namespace; os.setns is there only from Python 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(Path("/run/netns", name), "rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def network(mark: str) -> Iterator[Network]:
    """`mark` tells networks of one process apart, in a few letters."""
    found = Network(f"{os.getpid()}{mark}")
    try:
        found.make()
        yield found
    finally:
        found.remove()


def inside(pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function gives in one of those threads."""
    return pool.submit(function, *args, **kwargs).result()
