"""How long to wait before a link or a child is tried again; pure arithmetic, no clock and no dice of its own.

The delay doubles with each attempt up to a limit. Coming up does not forgive the past, staying up
does: only something that was up for `forgive_after_s` starts again at the first delay.
"""

from collections.abc import Callable

SHORTEST_S = 0.001  # never a busy loop, whatever the dice say
MOST_DOUBLINGS = 60  # 2.0 ** 60 s is past every limit, and far from overflow


class Backoff:
    """The next delay from attempts, jitter and time since it was good.

    `jitter` is the share of the delay that is random: 1 is full jitter (anything from 0 to the
    delay), 0 none. `rng` gives numbers from 0 up to 1 and is needed unless `jitter` is 0.
    """

    def __init__(
        self,
        first_s: float = 1.0,
        limit_s: float = 60.0,
        jitter: float = 1.0,
        *,
        rng: Callable[[], float] | None = None,
        forgive_after_s: float = 30.0,
    ) -> None:
        if not 0 < first_s <= limit_s:
            raise ValueError("first_s must be above 0 and at most limit_s")
        if not 0 <= jitter <= 1:
            raise ValueError("jitter must be between 0 and 1")
        if rng is None and jitter > 0:
            raise ValueError("jitter needs an rng")
        self._first_s = first_s
        self._limit_s = limit_s
        self._jitter = jitter
        self._rng = rng
        self._forgive_after_s = forgive_after_s
        self._up_since: float | None = None
        self.attempts = 0  # delays given since it was last forgiven

    def started(self, now: float) -> None:
        """It came up and is good since `now`. Saying so again while it is up changes nothing."""
        if self._up_since is None:
            self._up_since = now

    def next(self, now: float) -> float:
        """It is down (again) at `now`: the seconds to wait before the next attempt."""
        if self._up_since is not None and now - self._up_since >= self._forgive_after_s:
            self.attempts = 0
        self._up_since = None
        delay = min(self._limit_s, self._first_s * 2.0 ** min(self.attempts, MOST_DOUBLINGS))
        self.attempts += 1
        if self._rng is not None:
            delay -= delay * self._jitter * (1.0 - self._rng())
        return max(SHORTEST_S, delay)
