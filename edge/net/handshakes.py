"""How many TLS handshakes one listener has in hand at once.

A handshake takes some fifty KiB while it lasts. Where thousands of clients come at once, as edges do when their hub
was restarted, what their connections keep was made in between, and would keep the heap from shrinking again: that
would be a sixth of what an idle link takes. So the others wait for a moment before their first bytes are looked at.
It is no limit, and no weapon: one host has a part of the turns, who dawdles is soon not counted any more, and nobody
waits for so long that a client would give up.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from edge.metrics import Metrics

AT_ONCE = 32
OF_ONE_HOST = 16
HOLD_S = 2.0  # who takes longer no longer counts
WAIT_S = 2.0  # who has waited for so long goes ahead whatever there is


class Turns:
    """So many at once."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._begun: dict[object, float] = {}  # and when; longest first
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def is_unused(self) -> bool:
        return not self._begun and not self._waiting

    @property
    def is_full(self) -> bool:
        now = trio.current_time()
        for who, since in list(self._begun.items()):
            if now < since + HOLD_S:
                break
            del self._begun[who]
        return len(self._begun) >= self._at_once

    async def take(self, who: object) -> None:
        """Wait for one. No checkpoint if there is no need to wait."""
        while self.is_full:
            with trio.move_on_at(next(iter(self._begun.values())) + HOLD_S):
                await self._waiting.park()
        self._begun[who] = trio.current_time()

    def give_back(self, who: object) -> None:
        """It need not have one."""
        self._begun.pop(who, None)
        self._waiting.unpark()


class Handshakes:
    """Those of one listener."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._all = Turns(AT_ONCE)
        self._by_host: dict[str, Turns] = {}  # of those who have one, or wait

    @asynccontextmanager
    async def turn(self, peer: str) -> AsyncIterator[None]:
        """Once it is the caller's, or after WAIT_S. `peer` as in logs: ADDRESS:PORT. No checkpoint without need."""
        me, host = object(), peer.rpartition(":")[0]
        theirs = self._by_host.setdefault(host, Turns(OF_ONE_HOST))
        try:
            self._metrics.tls_handshakes_waiting += 1
            try:
                with trio.move_on_after(WAIT_S):
                    await theirs.take(me)
                    await self._all.take(me)
            finally:
                self._metrics.tls_handshakes_waiting -= 1
            yield
        finally:
            self._all.give_back(me)
            theirs.give_back(me)
            if theirs.is_unused:
                self._by_host.pop(host, None)
