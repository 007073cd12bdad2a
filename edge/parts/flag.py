"""An event for parts of which there are thousands: it costs next to nothing until somebody waits for it."""

from collections.abc import Coroutine
from typing import Any

import trio


class Flag:
    """As `trio.Event`, and it can be taken down again: who has been woken by `set` stays woken."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: trio.Event | None = None  # while somebody waits, or has waited

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        if self._event is not None:
            self._event.set()
            self._event = None

    def clear(self) -> None:
        self._is_set = False

    def pulse(self) -> None:
        """Wake those who wait now, and nobody who comes later."""
        self.set()
        self.clear()

    def wait(self) -> Coroutine[Any, Any, None]:
        """To be awaited at once. A checkpoint, in every case."""
        if self._is_set:
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105  # the caller awaits it, without a frame for us
        if self._event is None:
            self._event = trio.Event()
        return self._event.wait()
