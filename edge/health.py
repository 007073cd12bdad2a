"""Who is starting, ready, degraded or failed, since when and why; what `/readyz` and `/health` say.

A part reports about itself through its `Status`; nobody else decides for it. Being ready is earned:
a part says `ready()` after a real exchange over the path it stands for, and takes it back itself.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Literal

import trio

State = Literal["starting", "ready", "degraded", "failed", "stopped"]
Verdict = Literal["ok", "degraded", "failing"]

MAX_REASON_CHARS = 400
# kind -> member of the report; all others: "parts"
SHELVES = {"server": "servers", "uplink": "uplinks", "edge": "edges", "listener": "listeners"}


def unchanged(text: str) -> str:
    return text


class Status:
    """One thing's record. `key` is `kind:name`, as in `server:git` or `listener:gateway`.

    states: starting (not up yet) | ready | degraded (down or doubtful, and being retried) |
    failed (given up until somebody acts) | stopped (on purpose). `detail` is shown as it is in
    `/health`: plain JSON values, or functions that give them, with secrets removed. `restarts` and `detail` are
    the owner's to write.
    """

    def __init__(
        self,
        key: str,
        *,
        required: bool = False,
        now: Callable[[], float] = trio.current_time,
        wall: Callable[[], float] = time.time,
        clean: Callable[[str], str] = unchanged,
    ) -> None:
        self.key = key
        self.kind, _, self.name = key.partition(":")
        self.required = required
        self.state: State = "starting"
        self.reason = ""
        self.last_success: float | None = None  # monotonic, as `now`
        self.last_error: str | None = None  # kept when it is good again
        self.last_error_at: float | None = None
        self.restarts = 0
        self.detail: dict[str, Any] = {}
        self._now, self._wall, self._clean = now, wall, clean
        self.since = now()
        self.since_wall = wall()

    def starting(self, reason: str = "") -> None:
        self._become("starting", reason)

    def ready(self) -> None:
        """It is good, shown by an exchange that has just succeeded."""
        self.succeeded()
        self._become("ready", "")

    def succeeded(self) -> None:
        """An exchange succeeded; the state stays what it is. Cheap: called for every answer."""
        self.last_success = self._now()

    def degraded(self, reason: str) -> None:
        self._failed_with(reason)
        self._become("degraded", reason)

    def failed(self, reason: str) -> None:
        self._failed_with(reason)
        self._become("failed", reason)

    def stopped(self, reason: str = "") -> None:
        self._become("stopped", reason)

    @property
    def is_good(self) -> bool:
        return self.state == "ready"

    def line(self, *, reasons: bool = True) -> str:
        """For a person: mark, key, state, how long, why. One line whatever the reason holds."""
        text = f"[{'+' if self.is_good else '-'}] {self.key} {self.state} for {ago(self._now() - self.since)}"
        if self.required and self.kind != "listener":
            text += " (required)"
        return f"{text}: {self.reason}" if self.reason and reasons else text

    def report(self, now: float) -> dict[str, Any]:
        """The record as JSON values; what the owner put into `detail` cannot hide the rest."""
        seen = None if self.last_success is None else round(now - self.last_success, 3)
        return {
            **self._cleaned(self.detail),
            "name": self.name,
            "state": self.state,
            "required": self.required,
            "connected": self.is_good,
            "since": iso(self.since_wall),
            "state_seconds": round(now - self.since, 3),
            "reason": self.reason or None,
            "last_seen_seconds_ago": seen,
            "last_error": self.last_error,
            "last_error_seconds_ago": None
            if self.last_error_at is None
            else round(now - self.last_error_at, 3),
            "restarts": self.restarts,
        }

    def _cleaned(self, value: Any) -> Any:
        """JSON values without secrets: a detail may quote what a server wrote."""
        match value:
            case _ if callable(value):
                return self._cleaned(value())
            case str():
                return self._clean(value)
            case dict():
                return {name: self._cleaned(item) for name, item in value.items()}
            case list() | tuple():
                return [self._cleaned(item) for item in value]
        return value

    def _failed_with(self, reason: str) -> None:
        self.last_error = self._tidy(reason)
        self.last_error_at = self._now()

    def _become(self, state: State, reason: str) -> None:
        if state != self.state:
            self.state = state
            self.since, self.since_wall = self._now(), self._wall()
        self.reason = self._tidy(reason)

    def _tidy(self, reason: str) -> str:
        text = " ".join(self._clean(reason).split())
        return text if len(text) <= MAX_REASON_CHARS else text[: MAX_REASON_CHARS - 1] + "…"


class Health:
    """All statuses, and the verdict over them.

    Ready: at least one required thing is known, and every required one is ready. Listeners are
    always required, servers if their config says so. `clean` removes secrets from reasons.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = trio.current_time,
        wall: Callable[[], float] = time.time,
        clean: Callable[[str], str] = unchanged,
    ) -> None:
        self._now, self._wall, self._clean = now, wall, clean
        self._started: float | None = None
        self.statuses: dict[str, Status] = {}
        self.stopping = False  # set once, when the process has been asked to end

    def add(self, key: str, *, required: bool | None = None) -> Status:
        """A new status, `starting`. A key that exists already is replaced: its part was.

        Not said to be required or not, a listener is and anything else is not.
        """
        if required is None:
            required = key.startswith("listener:")
        status = Status(key, required=required, now=self._now, wall=self._wall, clean=self._clean)
        if self._started is None:
            self._started = status.since
        self.statuses[key] = status
        return status

    def remove(self, key: str) -> None:
        self.statuses.pop(key, None)

    def is_ready(self) -> bool:
        required = [status for status in self.statuses.values() if status.required]
        return not self.stopping and bool(required) and all(status.is_good for status in required)

    def verdict(self) -> Verdict:
        """`failing`: a required thing is not good. `degraded`: another one is not. Otherwise `ok`.

        Edges of a hub come and go by themselves; one that is away is not the hub's trouble.
        """
        if not self.is_ready():
            return "failing"
        counted = (status for status in self.statuses.values() if status.kind != "edge")
        return "ok" if all(status.is_good for status in counted) else "degraded"

    def lines(self, *, verbose: bool = True, reasons: bool = True) -> list[str]:
        """What `/readyz` says: the verdict, then each status with age and reason.

        Not verbose: only those that stand in the way.
        """
        lines = ["ready" if self.is_ready() else "not ready"]
        if self.stopping:
            lines.append("[-] process stopping")
        if not any(status.required for status in self.statuses.values()):
            lines.append("[-] process starting: nothing that is required has been set up yet")
        lines += [
            s.line(reasons=reasons) for s in self._sorted() if verbose or (s.required and not s.is_good)
        ]
        return lines

    def report(self, now: float) -> dict[str, Any]:
        """The body of `/health`; lists are sorted by name."""
        report: dict[str, Any] = {
            "status": self.verdict(),
            "ready": self.is_ready(),
            "stopping": self.stopping,
            "uptime_seconds": 0.0 if self._started is None else round(now - self._started, 3),
            **{shelf: [] for shelf in (*SHELVES.values(), "parts")},
        }
        for status in self._sorted():
            report[SHELVES.get(status.kind, "parts")].append(status.report(now))
        return report

    def _sorted(self) -> Iterator[Status]:
        for key in sorted(self.statuses):
            yield self.statuses[key]


def ago(seconds: float) -> str:
    """A duration as a person says it: two units at most."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {secs} s" if minutes else f"{secs} s"


def iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
