"""When views are made anew: at once where that is cheap; with thousands of edges, at most a part of the time.

What is put off is done when a client next asks for a view, or by `Gateway.tidy`.
"""

import gc
import time
from collections.abc import Mapping

import trio

from edge.parts.upstream import Upstream
from edge.parts.views import Views

CHEAP_S = 0.005  # of the processor
SHARE = 20.0  # it takes no more than one part in so many of the time
URGENT_SHARE = 4.0  # also if clients ask for names that are not there


class Rebuild:
    """Of the views of one gateway. `is_put_off`: catalogues have changed since they were made."""

    def __init__(self, views: Views) -> None:
        self.is_put_off = False
        self._views = views
        self._next_at = 0.0
        self._urgent_at = 0.0  # the same for a request that may miss what has just come

    def hurry(self) -> None:
        """What is there must not be used any more: the next one is made whatever it costs."""
        self._next_at = 0.0

    def hurry_for_a_request(self) -> None:
        """As `hurry`, but no more often than one part in URGENT_SHARE of the time allows."""
        if self.is_put_off and trio.current_time() >= self._urgent_at:
            self._next_at = 0.0

    def changed(self, upstreams: Mapping[str, Upstream]) -> Mapping[str | None, list[str]] | None:
        """The kinds of lists that are others now, by view; None: it is put off."""
        now = trio.current_time()
        if now < self._next_at:
            self.is_put_off = True
            return None
        began = time.thread_time()
        gc.disable()  # it makes many objects and no cycles: looking for those would double the cost
        try:
            changed = self._views.rebuild(upstreams)
        finally:
            gc.enable()
        cost_s = time.thread_time() - began
        self.is_put_off = False
        is_dear = cost_s > CHEAP_S
        self._next_at = now + SHARE * cost_s if is_dear else 0.0
        self._urgent_at = now + URGENT_SHARE * cost_s if is_dear else 0.0
        return changed
