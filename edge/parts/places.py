"""How many calls may run at once at one server."""

import trio


class Places:
    """As `trio.Semaphore`, without the queue while nobody waits in it: a hub has one for each of thousands of links.

    Who waits gets a place in the order of coming, ahead of all who come later.
    """

    __slots__ = ("_free", "_waiting")

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: trio.lowlevel.ParkingLot | None = None

    def take(self) -> bool:
        """Whether there was one."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Until there is one, which then is the caller's. Only where `take` has just failed."""
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        await self._waiting.park()

    def give_back(self) -> None:
        if self._waiting:
            self._waiting.unpark()  # it goes from hand to hand
        else:
            self._free += 1
