"""Who was not let in, counted and said: one log line a minute for each host and reason, however many come."""

import logging
from collections.abc import Mapping

import trio

from edge.gate.edge_auth import Denied
from edge.metrics import HubMetrics
from edge.printable import cut

REPEAT_S = 60.0
MAX_REMEMBERED = 1024

log = logging.getLogger("edge.hub")


class Refusals:
    """Peers are told apart by their host: each connection has another port."""

    def __init__(self, metrics: HubMetrics) -> None:
        self._metrics = metrics
        self._said: dict[tuple[str, str, int], float] = {}

    @property
    def remembered(self) -> int:
        """How many hosts and reasons."""
        return len(self._said)

    def denied(
        self, denied: Denied, dialect: str, peer: str, *, edge: str | None = None, name: str | None = None
    ) -> None:
        """An edge was refused; `name` is what it wanted to be called."""
        asked = None if name is None else cut(name, 64)
        extra = {"dialect": dialect, "edge": edge, "name_asked": asked}
        self.note(denied.reason, "edge refused", peer, denied.text, extra)

    def note(
        self,
        label: str,
        text: str,
        peer: str,
        reason: str,
        extra: Mapping[str, object | None],
        level: int = logging.WARNING,
    ) -> None:
        """`label` is one of the metric's; `text` is constant; `level` is for what is news."""
        self._metrics.refused.add(label)
        now = trio.current_time()
        key = (peer.rpartition(":")[0] or peer, label, level)
        is_news = now >= self._said.get(key, now)
        if is_news:
            if len(self._said) >= MAX_REMEMBERED:
                self._said.clear()
            self._said[key] = now + REPEAT_S
        told = {name: value for name, value in extra.items() if value is not None}
        log.log(level if is_news else logging.DEBUG, text, extra={**told, "peer": peer, "reason": reason})
