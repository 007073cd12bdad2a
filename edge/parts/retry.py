"""When a server that failed is tried again, what is said of that, and why it cannot be called meanwhile."""

import logging

import trio

from edge.backoff import Backoff
from edge.config.common import BackoffConfig
from edge.config.model import StdioServerConfig, UpstreamConfig
from edge.errors import EdgeError, Unavailable, UpstreamError
from edge.health import Status
from edge.metrics_servers import ServerMetrics
from edge.parts.channel import Ended


class Retry:
    """Of one upstream. `down` is why it cannot be called; `is_given_up`: nobody tries it any more.

    After a failure come `fail` and `wait`, in this order.
    """

    __slots__ = (
        "_backoff", "_log", "_max_attempts", "_metrics", "_name", "_next_at", "_other_terms", "_said", "_status",
        "down", "is_given_up",
    )  # fmt: skip

    def __init__(
        self,
        config: UpstreamConfig,
        backoff: Backoff,
        *,
        status: Status,
        metrics: ServerMetrics,
        log: logging.Logger,
    ) -> None:
        self.down = "not started yet"
        self.is_given_up = False
        self._log = log
        self._name = config.name
        self._backoff = backoff
        self._max_attempts = retry_of(config).max_attempts
        self._status = status
        self._metrics = metrics
        self._next_at: float | None = None
        self._said: str | None = None
        self._other_terms: trio.Event | None = None  # while given up: a reload has changed its table

    def begin(self) -> None:
        """An attempt."""
        self.down, self._next_at = "starting", None

    def succeed(self) -> None:
        self._backoff.started(trio.current_time())
        self._said = None

    def update(self, before: UpstreamConfig, config: UpstreamConfig, backoff: Backoff) -> bool:
        """Go by these terms; True: it had been given up, and is tried again. No checkpoint."""
        is_tried_again = self._other_terms is not None and config != before
        retry = retry_of(config)
        if is_tried_again or retry != retry_of(before):
            self._backoff = backoff
            self._max_attempts = retry.max_attempts
        if is_tried_again and self._other_terms is not None:
            self.is_given_up = False
            self._other_terms.set()
        return is_tried_again

    def fail(self, cause: EdgeError) -> None:
        """Say what happened, and what follows."""
        metrics = self._metrics
        now = trio.current_time()
        delay = self._backoff.next(now)
        metrics.reconnects += 1
        metrics.reconnect_attempt("error")
        text = cause.text if isinstance(cause, UpstreamError) else str(cause)
        self.down = cause.reason if isinstance(cause, Ended) else text
        attempts = self._backoff.attempts
        if self._max_attempts and attempts >= self._max_attempts:
            self.is_given_up = True
            metrics.in_backoff = False
            metrics.backoff_s = 0.0
            self._status.failed(f"given up after {attempts} attempt{'s'[: attempts != 1]}: {text}")
            self._log.error("server given up", extra={"server": self._name, "reason": text})
            return
        self._next_at = now + delay
        metrics.in_backoff = True
        metrics.backoff_s = delay
        self._status.degraded(text)
        self._status.retries_in(delay)
        # Said again only when there is news: a server may be down for weeks, and /health has the present state.
        extra = {"server": self._name, "reason": text, "retry_s": round(delay, 3)}
        if isinstance(cause, Ended) and cause.is_told:
            self._log.debug("server down", extra=extra)
        elif text != self._said:
            self._log.warning("server down", extra=extra)
            self._said = text
        else:
            self._log.debug("server still down", extra=extra)

    async def wait(self) -> None:
        """Until the next attempt; if there is none, until a reload changes its config."""
        if self._next_at is None:
            self._other_terms = trio.Event()
            try:
                await self._other_terms.wait()
            finally:
                self._other_terms = None
            return
        metrics, began = self._metrics, trio.current_time()
        await trio.sleep_until(self._next_at)
        metrics.in_backoff = False
        metrics.backoff_s = 0.0
        metrics.backoff_total += trio.current_time() - began

    def unavailable(self) -> Unavailable:
        """Why, and how long that will last if it is known."""
        if self.is_given_up:
            return Unavailable(self._name, f"given up: {self.down}")
        if self._next_at is None:
            return Unavailable(self._name, self.down)
        wait_s = max(0.0, self._next_at - trio.current_time())
        return Unavailable(self._name, f"restarting in {wait_s:.1f} s: {self.down}")


def retry_of(config: UpstreamConfig) -> BackoffConfig:
    """How long it waits before it is tried again."""
    return config.restart if isinstance(config, StdioServerConfig) else config.reconnect
