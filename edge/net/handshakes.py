"""How many TLS handshakes one listener has in hand at once.

A handshake takes some fifty KiB while it lasts. Where thousands of clients come at once, as edges do when their hub
was restarted, what their connections keep was made in between, and would keep the heap from shrinking again: that
would be a sixth of what an idle link takes. So the others wait for a moment before their first bytes are looked at.
It is no limit, and no weapon: who dawdles is soon not counted any more, and nobody waits for long.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from edge.metrics import Metrics

AT_ONCE = 32
HOLD_S = 5.0  # who takes longer no longer counts
WAIT_S = 5.0  # who has waited for so long goes ahead whatever there is


class Handshakes:
    """Those of one listener."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._begun: dict[object, float] = {}  # and when; longest first
        self._waiting = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Once it is the caller's, or after WAIT_S. No checkpoint if there is no need to wait."""
        with trio.move_on_after(WAIT_S):
            await self._wait_for_room()
        me = object()
        self._begun[me] = trio.current_time()
        try:
            yield
        finally:
            self._begun.pop(me, None)
            self._waiting.unpark()

    async def _wait_for_room(self) -> None:
        if not self._is_full():
            return
        self._metrics.tls_handshakes_waiting += 1
        try:
            while self._is_full():
                with trio.move_on_at(next(iter(self._begun.values())) + HOLD_S):
                    await self._waiting.park()
        finally:
            self._metrics.tls_handshakes_waiting -= 1

    def _is_full(self) -> bool:
        now = trio.current_time()
        for who, since in list(self._begun.items()):
            if now < since + HOLD_S:
                break
            del self._begun[who]
        return len(self._begun) >= AT_ONCE
