"""Who is starting, ready, degraded or failed, since when and why; what `/readyz` and `/health` say.

A part reports about itself through its `Status`; nobody else decides for it. Being ready is earned:
a part says `ready()` after a real exchange over the path it stands for, and takes it back itself. Where it has
said for how long that counts, it is lost without another one: what was ready is `stale` then.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import trio

from edge.errors import Problem
from edge.printable import CUT

State = Literal["starting", "ready", "stale", "degraded", "failed", "stopped"]
Verdict = Literal["ok", "degraded", "failing"]
Result = Literal["reloaded", "unchanged", "planned", "refused", "rolled back", "not rolled back"]
"""What a reload comes to."""

MAX_REASON_CHARS = 400
# kind -> member of the report; all others: "parts"
SHELVES = {"server": "servers", "uplink": "uplinks", "edge": "edges", "listener": "listeners"}


class BadReload(NamedTuple):
    """What is said, wherever it is, of a reload that was not good: what became of the new config, and which one is in
    force now."""

    came_to: str
    in_force: str


BAD_RELOADS: Mapping[str, BadReload] = MappingProxyType(
    {
        "refused": BadReload("refused", "the one before stays in force"),
        "rolled back": BadReload("taken back", "the one before is in force again"),
        "not rolled back": BadReload("not good and could not be taken back", "it stays in force"),
    }
)
"""By `Result`; all others are good."""


def unchanged(text: str) -> str:
    return text


class Status:
    """One thing's record. `key` is `kind:name`, as in `server:git` or `listener:gateway`.

    states: starting (not up yet) | ready | stale (was ready, and nothing has succeeded for `stale_after_s`) |
    degraded (down or doubtful, and being retried) | failed (given up until somebody acts) | stopped (on purpose).
    `detail` is shown as it is in `/health`: plain JSON values, or functions that give them, with secrets removed.
    `restarts`, `detail` and `stale_after_s` (None: what was ready stays so) are the owner's to write.
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
        self.stale_after_s: float | None = None
        self.last_success: float | None = None  # monotonic, as `now`
        self.last_error: str | None = None  # kept when it is good again
        self.last_error_at: float | None = None
        self.restarts = 0
        self.detail: dict[str, Any] = {}
        self.backoff_s: float | None = None  # the present wait for another attempt
        self._state: State = "starting"
        self._reason = ""
        self._next_attempt_at: float | None = None
        self._now, self._wall, self._clean = now, wall, clean
        self._since = now()
        self._since_wall = wall()

    def starting(self, reason: str = "") -> None:
        self._become("starting", reason)

    def ready(self) -> None:
        """It is good, shown by an exchange that has just succeeded."""
        self.succeeded()
        self._become("ready", "")

    def succeeded(self) -> None:
        """An exchange succeeded; the state stays what it is. Cheap: called for every answer."""
        self.last_success = self._now()

    def trying(self, reason: str = "") -> None:
        """An attempt is under way. How long it has been down is counted from when it went down, so that stays."""
        self.backoff_s = self._next_attempt_at = None
        if self._state != "degraded":
            self._become("starting", reason)

    def retries_in(self, seconds: float) -> None:
        """It is down, and the next attempt begins after so long."""
        self.backoff_s = seconds
        self._next_attempt_at = self._now() + seconds

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

    @property
    def state(self) -> State:
        return "stale" if self._stale_since is not None else self._state

    @property
    def since(self) -> float:
        """When the state began, monotonic."""
        stale_since = self._stale_since
        return self._since if stale_since is None else stale_since

    @property
    def reason(self) -> str:
        if self._stale_since is None or self.last_success is None:
            return self._reason
        return (
            f"nothing has succeeded for {ago(self._now() - self.last_success)}, though its connection stands"
        )

    @property
    def _stale_since(self) -> float | None:
        """When it lost what it had earned; None while it has it, or is not said to be ready anyway."""
        if self._state != "ready" or self.stale_after_s is None or self.last_success is None:
            return None
        until = self.last_success + self.stale_after_s
        return until if self._now() > until else None

    @property
    def next_attempt_in_s(self) -> float | None:
        """None while none is waited for."""
        return None if self._next_attempt_at is None else max(0.0, self._next_attempt_at - self._now())

    def line(self, *, reasons: bool = True) -> str:
        """For a person: mark, key, state, how long, why. One line whatever the reason holds."""
        text = f"[{'+' if self.is_good else '-'}] {self.key} {self.state} for {ago(self._now() - self.since)}"
        if self.required and self.kind != "listener":
            text += " (required)"
        return f"{text}: {self.reason}" if self.reason and reasons else text

    def report(self, now: float) -> dict[str, Any]:
        """The record as JSON values; what the owner put into `detail` cannot hide the rest."""

        def since(moment: float | None) -> float | None:
            return None if moment is None else round(now - moment, 3)

        seen, next_at = self.last_success, self._next_attempt_at
        return {
            **self._cleaned(self.detail),
            "name": self.name,
            "state": self.state,
            "required": self.required,
            "connected": self.is_good,
            "since": iso(self._since_wall + self.since - self._since),
            "state_seconds": since(self.since),
            "reason": self.reason or None,
            "last_success": None if seen is None else iso(round(self._wall() - (now - seen))),
            "last_seen_seconds_ago": since(seen),
            "last_error": self.last_error,
            "last_error_seconds_ago": since(self.last_error_at),
            "restarts": self.restarts,
            "backoff_s": None if self.backoff_s is None else round(self.backoff_s, 3),
            "next_attempt_in_s": None if next_at is None else round(max(0.0, next_at - now), 1),
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
        if state != self._state:
            self._state = state
            self._since, self._since_wall = self._now(), self._wall()
        if state != "degraded":
            self.backoff_s = self._next_attempt_at = None
        self._reason = self._tidy(reason)

    def _tidy(self, reason: str) -> str:
        return tidy(self._clean(reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class LastReload:
    """What came of it, and `at` what Unix time. `problems` say why it was refused or taken back, with their places."""

    at: float
    result: Result
    problems: tuple[Problem, ...] = ()

    @property
    def is_good(self) -> bool:
        return self.result not in BAD_RELOADS


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigState:
    """Which config is in force, and what came of the last attempt to replace it. Times are Unix time.

    What is in force does not change by a refusal, and neither does any verdict. `last_reload` is None before the first.
    """

    source: str
    loaded_at: float
    is_reloading: bool = False
    last_reload: LastReload | None = None

    def line(self, now: float, clean: Callable[[str], str], *, reasons: bool) -> str:
        """As `Status.line`; `now` is Unix time."""
        if self.is_reloading:
            return "[+] config is being reloaded"
        last = self.last_reload
        if last is not None and not last.is_good:
            came_to, in_force = BAD_RELOADS[last.result]
            text = f"[-] config {came_to} {ago(now - last.at)} ago, {in_force}"
            first, more = last.problems[:1], len(last.problems) - 1
            if first and reasons:
                text += f": {tidy(clean(str(first[0])))}" + (f" (and {more} more)" if more else "")
            return text
        text = f"[+] config in force for {ago(now - self.loaded_at)}"
        return f"{text}: {tidy(clean(self.source))}" if reasons else text

    def report(self, clean: Callable[[str], str]) -> dict[str, Any]:
        """As JSON values."""
        last = self.last_reload
        return {
            "source": clean(self.source),
            "loaded_at": iso(self.loaded_at),
            "is_reloading": self.is_reloading,
            "last_reload_at": None if last is None else iso(last.at),
            "last_reload_ok": None if last is None else last.is_good,
            "last_reload_result": None if last is None else last.result,
            "last_reload_problems": [
                {"place": tidy(clean(problem.place)), "text": tidy(clean(problem.text))}
                for problem in (() if last is None else last.problems)
            ],
        }


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
        self.config: ConfigState | None = None  # whoever loads configs replaces it

    def add(self, key: str, *, required: bool | None = None) -> Status:
        """A new status, `starting`. A key that exists already is replaced: its part was.

        Not said to be required or not, a listener is and anything else is not.
        """
        status = self.make(key, required=required)
        self.put(status)
        return status

    def make(self, key: str, *, required: bool | None = None) -> Status:
        """As `add`, of something that is not in force yet: `put` makes it so."""
        if required is None:
            required = key.startswith("listener:")
        return Status(key, required=required, now=self._now, wall=self._wall, clean=self._clean)

    def put(self, status: Status) -> None:
        """From now on the status of its key."""
        if self._started is None:
            self._started = status.since
        self.statuses[status.key] = status

    def remove(self, key: str) -> None:
        self.statuses.pop(key, None)

    def is_ready(self) -> bool:
        statuses = self.statuses.values()
        return not self.stopping and any(s.required for s in statuses) and not any(map(blocks, statuses))

    def verdict(self) -> Verdict:
        """`failing`: a required thing is not good. `degraded`: another one is not. Otherwise `ok`.

        Edges of a hub come and go by themselves; one that is away is not the hub's trouble.
        """
        if not self.is_ready():
            return "failing"
        return "ok" if all(urgency(status) > 1 for status in self.statuses.values()) else "degraded"

    def lines(self, *, verbose: bool = True, reasons: bool = True) -> list[str]:
        """What `/readyz` says: the verdict, then each status with age and reason: first what stands in the way, then
        what else is not good, then the rest. The config comes last.

        Not verbose: only what stands in the way.
        """
        lines = ["ready" if self.is_ready() else "not ready"]
        if self.stopping:
            lines.append("[-] process stopping")
        if not any(status.required for status in self.statuses.values()):
            lines.append("[-] process starting: nothing that is required has been set up yet")
        shown = sorted(self._sorted(), key=urgency) if verbose else [s for s in self._sorted() if blocks(s)]
        lines += [status.line(reasons=reasons) for status in shown]
        if verbose and self.config is not None:
            lines.append(self.config.line(self._wall(), self._clean, reasons=reasons))
        return lines

    def report(self, now: float) -> dict[str, Any]:
        """The body of `/health`; lists are sorted by name."""
        report: dict[str, Any] = {
            "time": iso(self._wall()),
            "status": self.verdict(),
            "ready": self.is_ready(),
            "stopping": self.stopping,
            "uptime_seconds": 0.0 if self._started is None else round(now - self._started, 3),
            "config": None if self.config is None else self.config.report(self._clean),
            **{shelf: [] for shelf in (*SHELVES.values(), "parts")},
        }
        for status in self._sorted():
            report[SHELVES.get(status.kind, "parts")].append(status.report(now))
        return report

    def _sorted(self) -> Iterator[Status]:
        for key in sorted(self.statuses):
            yield self.statuses[key]


def blocks(status: Status) -> bool:
    """It stands in the way of being ready."""
    return status.required and not status.is_good


def urgency(status: Status) -> int:
    """0: stands in the way, 1: is not good and degrades the verdict, 2: is an edge that is away, 3: is good."""
    if status.is_good:
        return 3
    return 0 if status.required else 1 + (status.kind == "edge")


def tidy(text: str) -> str:
    """One line of bounded length."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_REASON_CHARS else text[: MAX_REASON_CHARS - 1] + CUT


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
