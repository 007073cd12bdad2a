"""Which links' names are in use at which hub: two of one name would throw each other out there.

One config never asks for two (config/between.py); but what one has just taken out of force lets its calls end, and
meanwhile another one may be to take its place: of the same uplink, or of one whose table has another name, or that
leads to the same hub by another path, as for another dialect.

Two paths of one host may as well be two hubs. Within one config they count as such; so a link waits for one at
another path only if that one is out of force.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from edge.config.between import host_of, hub_of
from edge.config.uplinks import UplinkConfig


class Claim:
    """A name that is held or waited for. `in_force`: it is still asked for; once it is not, it never is again."""

    __slots__ = ("gone", "hub", "in_force")

    def __init__(self, hub: tuple[object, ...] | None, in_force: Callable[[], bool]) -> None:
        self.hub = hub
        self.in_force = in_force
        self.gone = trio.Event()


class LinkNames:
    """All that are held or waited for; none else are kept."""

    def __init__(self) -> None:
        self._claims: dict[tuple[object, ...], list[Claim]] = {}  # by host, port and name; oldest first

    @asynccontextmanager
    async def hold(
        self, uplink: UplinkConfig, name: str, waits: Callable[[], None], *, in_force: Callable[[], bool]
    ) -> AsyncIterator[None]:
        """Wait until nobody has the name at the uplink's hub, first come, first served; it is ours in the block.

        `waits` is called if it is not ours at once. `in_force` tells the others whether we are still asked for.
        """
        key = (host_of(uplink), name)
        claims = self._claims.setdefault(key, [])
        ours = Claim(hub_of(uplink), in_force)
        claims.append(ours)  # no checkpoint since the look-up: an empty list is in no dictionary
        try:
            older = first_in_the_way(claims, ours)
            if older is not None:
                waits()
            while older is not None:
                await older.gone.wait()
                older = first_in_the_way(claims, ours)
            yield
        finally:
            claims.remove(ours)
            ours.gone.set()
            if not claims:
                del self._claims[key]


def first_in_the_way(claims: list[Claim], ours: Claim) -> Claim | None:
    """Of those that came before us."""
    older = claims[: claims.index(ours)]
    return next((each for each in older if each.hub == ours.hub or not each.in_force()), None)
