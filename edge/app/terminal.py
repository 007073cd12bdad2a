"""The terminal that we were started from, which decides what SIGHUP means: its end is the signal's own meaning.

Whoever outlives its terminal is a daemon from then on. The signal of a hang-up comes at once, so one that comes long
after the terminal has gone is not that.
"""

import os
from collections.abc import Callable

import trio

LOOK_S = 2.0
HANG_UP_S = 10.0


def can_open_terminal() -> bool:
    """Whether there is a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class Terminal:
    """Ours, if `is_there` says so when `watch` begins."""

    def __init__(self, is_there: Callable[[], bool] = can_open_terminal) -> None:
        self._is_there = is_there
        self._is_heeded = False

    @property
    def has_hung_up(self) -> bool:
        """Whether a SIGHUP that has just come was its last word."""
        return self._is_heeded and not self._is_there()

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until we have outlived it; at once where there is none."""
        self._is_heeded = self._is_there()
        task_status.started()
        if not self._is_heeded:
            return
        while True:
            await trio.sleep(LOOK_S)
            if not self._is_there():
                break
        await trio.sleep(HANG_UP_S)
        self._is_heeded = False
