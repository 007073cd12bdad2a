"""Notices that this process did not run for a while: the machine slept, or somebody had stopped it.

Timers do not tell: Trio's clock may have stood still as well. What tells is a clock that counts suspended time,
looked at every second. Whoever holds connections should then doubt them instead of waiting for a deadline.
"""

import logging
import time
from collections.abc import Callable

import trio

log = logging.getLogger("edge.wake")

EVERY_S = 1.0
MISSING_S = 5.0  # more than a busy machine makes us late


def since_boot() -> float:
    """Seconds that count on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def watch(
    woken: Callable[[], None],
    *,
    each: Callable[[], None] | None = None,
    clock: Callable[[], float] = since_boot,
) -> None:
    """Calls `woken` after a gap of MISSING_S or more, and `each` every second. Never returns."""
    last = clock()
    while True:
        await trio.sleep(EVERY_S)
        now = clock()
        gap_s, last = now - last - EVERY_S, now
        if gap_s >= MISSING_S:
            log.info("was asleep", extra={"for_s": round(gap_s, 1)})
            woken()
        if each is not None:
            each()
