"""What systemd is told: READY, RELOADING, STOPPING, STATUS, and WATCHDOG from the event loop itself.

A datagram on the socket that `$NOTIFY_SOCKET` names; without one, nothing is said and nothing is lost. Source:
sd_notify(3), sd_watchdog_enabled(3). A manager that does not take what it is told must not hold us up: sending never
waits, and a failure is logged once.
"""

import logging
import socket
import time
from collections.abc import Callable, Mapping

import trio

STATUS_S = 5.0  # between two looks at whether there is something new to say

log = logging.getLogger("edge.systemd")


class SdNotify:
    """`address` is the socket's, a path or `@NAME`; empty: there is none. `watchdog_s`: within so many seconds systemd
    wants to hear of us, 0: it does not."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_s = watchdog_s
        self._status = ""
        self._has_failed = False

    @classmethod
    def from_env(cls, env: Mapping[str, str], pid: int) -> "SdNotify":
        """As this process was started."""
        usec = env.get("WATCHDOG_USEC", "")
        is_ours = env.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog_s = int(usec) / 1e6 if usec.isdigit() and is_ours else 0.0
        return cls(env.get("NOTIFY_SOCKET", ""), watchdog_s)

    def ready(self, status: str) -> None:
        self._status = status
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Until `ready` is said again. systemd waits for that if it asked for the reload (Type=notify-reload)."""
        # As systemd reads it: CLOCK_MONOTONIC, also while a test's clock stands.
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=reloading the config")

    def stopping(self, status: str) -> None:
        self._tell(f"STOPPING=1\nSTATUS={status}")

    async def run(self, sentence: Callable[[], str]) -> None:
        """Prove that the loop turns, and keep the status fresh; returns at once if nobody listens."""
        if not self._address:
            return
        # Half of it, so that one that is late is not one too few.
        pause_s = min(STATUS_S, self._watchdog_s / 2) if self._watchdog_s else STATUS_S
        while True:
            if self._watchdog_s:
                self._tell("WATCHDOG=1")
            await trio.sleep(pause_s)
            if (status := sentence()) != self._status:
                self._status = status
                self._tell(f"STATUS={status}")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(text.encode(), self._address)
        except OSError as exc:
            if not self._has_failed:
                log.warning("systemd cannot be told", extra={"reason": exc.strerror})
            self._has_failed = True
