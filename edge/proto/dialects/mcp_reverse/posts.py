"""Messages that wait to be posted, in the order in which they may go. One is under way at a time."""

from collections import deque
from dataclasses import dataclass
from typing import Final

BULKY: Final = 64 * 1024
"""An answer above this waits for everything smaller: it would hold up progress and pings for seconds."""

BATCH: Final = 256 * 1024
"""Frames between our own ends share a POST up to this. Both in characters."""

PATIENCE: Final = 16
"""So many messages may overtake a bulky answer, then it goes."""


@dataclass(slots=True)
class Post:
    """One POST, under way or to be tried again at `retry_at`."""

    body: str
    sent_at: float
    is_keepalive: bool = False
    is_urgent: bool = False  # a failure decides
    failures: int = 0
    retry_at: float | None = None


class PostQueue:
    """First in, first out, but for bulky answers of a foreign link, which the rest may overtake.

    Nothing else may: a request is never behind its own cancellation, nor a notification behind an older one.
    """

    def __init__(self) -> None:
        self.size = 0
        self._quick: deque[str] = deque()
        self._bulky: deque[str] = deque()
        self._n_overtaken = 0

    def __bool__(self) -> bool:
        return bool(self._quick or self._bulky)

    def put(self, text: str, *, may_be_overtaken: bool = False) -> None:
        (self._bulky if may_be_overtaken else self._quick).append(text)
        self.size += len(text)

    def take(self) -> str:
        """The next message; there must be one."""
        if self._quick and self._n_overtaken < PATIENCE:
            self._n_overtaken += bool(self._bulky)
            text = self._quick.popleft()
        else:
            self._n_overtaken = 0
            text = self._bulky.popleft()
        self.size -= len(text)
        return text

    def take_batch(self, most: int = BATCH) -> str:
        """The next frames, a line each and `most` characters or one; there must be one."""
        taken = [self.take()]
        n_chars = len(taken[0])
        while self._quick and n_chars + len(self._quick[0]) < most:
            taken.append(self.take())
            n_chars += len(taken[-1]) + 1
        return "\n".join(taken)

    def clear(self) -> None:
        self._quick.clear()
        self._bulky.clear()
        self.size = 0
