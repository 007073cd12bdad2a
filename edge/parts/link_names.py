"""Which links' names are in use at which hub: two of one name would throw each other out there.

One config never asks for two (config/between.py); but what one has just taken out of force lets its calls end, and
meanwhile another one may be to take its place: of the same uplink, or of one whose table has another name.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from edge.config.between import hub_of
from edge.config.uplinks import UplinkConfig


class LinkNames:
    """All that are held or waited for; none else are kept."""

    def __init__(self) -> None:
        self._locks: dict[tuple[object, ...], trio.Lock] = {}

    @asynccontextmanager
    async def hold(self, uplink: UplinkConfig, name: str, waits: Callable[[], None]) -> AsyncIterator[None]:
        """Wait until nobody has the name at the uplink's hub, first come, first served; it is ours in the block.

        `waits` is called if it is not ours at once.
        """
        key = (hub_of(uplink), name)
        lock = self._locks.setdefault(key, trio.Lock())
        if lock.locked():
            waits()
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(key, None)
