"""Reads small files that may hang: on a mount that does not answer, or a pipe that nobody writes to."""

from collections.abc import Callable
from typing import TypeVar

import trio

from edge.errors import EdgeError

T = TypeVar("T")


class FileReader:
    """Reads in a thread, one thing at a time: what hangs costs one thread, and holds up who reads with the same one."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(1)

    async def read(self, what: Callable[[], T], limit_s: float) -> T:
        """What `what` gives, or raises. Its thread goes on if this is cancelled, and what comes of it is dropped.

        Raises: EdgeError, if that takes longer than `limit_s` or the one before still hangs then.
        """
        with trio.move_on_after(limit_s):
            return await trio.to_thread.run_sync(what, abandon_on_cancel=True, limiter=self._limiter)
        raise EdgeError(f"its files could not be read within {limit_s:g} s")
