"""Whether the other end is there, told from when it was last heard; no clock of its own."""

from enum import Enum
from typing import Final

LATE_S: Final = 5.0
"""Looking so much later than asked to means that the process was stopped, or the machine slept. What was sent
meanwhile may still wait to be read, so nobody is given up for it."""


class Verdict(Enum):
    """What silence means."""

    FINE = "fine"
    DOUBT = "doubt"  # ask for a sign of life
    DEAD = "dead"


class Liveness:
    """Silence for `dead_after_s` is the end, and for `doubt_s` where there is a reason to doubt."""

    def __init__(self, *, dead_after_s: float, doubt_s: float) -> None:
        self._dead_after_s = dead_after_s
        self._doubt_s = doubt_s
        self.due = float("inf")
        """When to `judge`."""
        self.is_doubted = False

    def hear(self, now: float, *, is_pong: bool = False) -> None:
        """Anything at all arrived. A doubt ends with a pong: all else may have lain here since before the sleep."""
        self.is_doubted = self.is_doubted and not is_pong
        self.due = now + (self._doubt_s if self.is_doubted else self._dead_after_s)

    def doubt(self, now: float) -> bool:
        """There is a reason: True if a sign of life should be asked for, False if that has been done."""
        if self.is_doubted:
            return False
        soon = now + self._doubt_s
        self.due = soon if self.due <= now else min(self.due, soon)
        self.is_doubted = True
        return True

    def judge(self, now: float) -> Verdict:
        """DOUBT has been entered by the time it is returned."""
        if now < self.due:
            return Verdict.FINE
        if now - self.due > LATE_S:
            self.due = now + self._doubt_s
            self.is_doubted = True
            return Verdict.DOUBT
        return Verdict.DEAD
