"""One part's scopes, restarts and orderly end.

A slot has two scopes. The part hands out its *intake* by `task_status.started(intake)` when it can
be supervised; the slot owns the *outer* one. Stopping cancels the intake, gives the part until a
deadline to drain, and then cancels the rest.

Expected trouble is handled inside the part. What comes out of its `run` is a fault: the slot logs
it and builds the part again, a few times; then it lets the fault rise, and the process ends.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from edge.health import Status
from edge.metrics import Metrics

log = logging.getLogger("edge.slot")

MAX_RESTARTS = 5
WINDOW_S = 60.0
PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0)  # before the 1st, 2nd ... restart within the window


class Part(Protocol):
    """A long-running component that owns a nursery.

    `run` reports the scope that ends its intake, and returns after that scope was cancelled and
    the work in flight has ended.
    """

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None: ...


class Slot:
    """Holds one part. `kind` and `name` make its key; `build` makes the part, and again after a crash.

    `run` reports started when the part has. A fault before that rises as it is: whoever starts
    us should see why. It returns only after `stop`. If the part does not report to `status` itself
    (`part_reports` is False), being up is what makes it ready.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        build: Callable[[], Part],
        *,
        metrics: Metrics,
        status: Status | None = None,
        part_reports: bool = True,
        max_restarts: int = MAX_RESTARTS,
        window_s: float = WINDOW_S,
    ) -> None:
        self.kind = kind
        self.name = name
        self.key = f"{kind}:{name}"
        self._build = build
        self._metrics = metrics
        self._status = status
        self._part_reports = part_reports
        self._max_restarts = max_restarts
        self._window_s = window_s
        self._outer = trio.CancelScope()
        self._intake: trio.CancelScope | None = None
        self._has_begun = False
        self._stop_asked = trio.Event()
        self._ended = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        handover = Handover(self, task_status)
        self._has_begun = True
        try:
            with self._outer:
                await self._keep_up(handover)
        except Exception as exc:
            if not self._stop_asked.is_set():
                raise
            self._metrics.part_crashes.add(self.kind)
            log.error("part failed while stopping", exc_info=exc, extra={"part": self.key})
        finally:
            self._ended.set()
        handover.give_up()
        if self._status is not None:
            self._status.stopped()

    async def stop(self, deadline: float) -> None:
        """Intake off now, what is left is cancelled at `deadline`; returns when the part has ended.

        Cancelling the call leaves the slot to end by itself at the deadline.
        """
        self.begin_stop(deadline)
        await self.wait_ended()

    def schedule(self) -> None:
        """Its `run` will be called, sooner or later: whoever waits for its end waits for that as well."""
        self._has_begun = True

    @property
    def has_ended(self) -> bool:
        """One that never began has nothing to end."""
        return not self._has_begun or self._ended.is_set()

    async def wait_ended(self) -> None:
        """Until `has_ended`."""
        if self._has_begun:
            await self._ended.wait()

    def begin_stop(self, deadline: float) -> None:
        """The part of `stop` that does not wait. No checkpoint: several slots can be told at once."""
        self._stop_asked.set()
        self._outer.deadline = min(self._outer.deadline, deadline)
        if self._intake is None:  # not up yet, or waiting to be restarted: nothing to drain
            self._outer.cancel()
        else:
            self._intake.cancel()

    def take_intake(self, intake: trio.CancelScope) -> None:
        self._intake = intake
        if self._status is not None and not self._part_reports:
            self._status.ready()
        if self._stop_asked.is_set():  # it came up while it was being stopped
            intake.cancel()

    async def _keep_up(self, handover: "Handover") -> None:
        crashes: deque[float] = deque()
        while not self._stop_asked.is_set():
            try:
                await self._build().run(task_status=handover)
                if not self._stop_asked.is_set():
                    raise PartReturned(f"part {self.key} returned without being asked to")
            except Exception as exc:
                if self._stop_asked.is_set() or not handover.is_done:
                    raise
                self._intake = None
                pause_s = self._judge_crash(exc, crashes)
                await trio.sleep(pause_s)

    def _judge_crash(self, exc: Exception, crashes: deque[float]) -> float:
        """Count it; seconds until the part is built again. Raises `exc` if it has crashed too often."""
        now = trio.current_time()
        self._metrics.part_crashes.add(self.kind)
        while crashes and now - crashes[0] >= self._window_s:
            crashes.popleft()
        crashes.append(now)
        if self._status is not None:
            self._status.degraded(f"internal fault ({type(exc).__name__})")
        if len(crashes) > self._max_restarts:
            log.critical("part failed too often", extra={"part": self.key, "within_s": self._window_s})
            raise exc
        pause_s = PAUSES_S[min(len(crashes), len(PAUSES_S)) - 1]
        log.error("part failed", exc_info=exc, extra={"part": self.key, "restart_in_s": pause_s})
        if self._status is not None:
            self._status.restarts += 1
        return pause_s


class PartReturned(RuntimeError):
    """A part's `run` came to an end though nobody had stopped it: a bug."""


class Handover:
    """What a part sees as `task_status`: passes each new intake on, and reports the first one."""

    def __init__(self, slot: Slot, task_status: trio.TaskStatus[None]) -> None:
        self._slot = slot
        self._task_status = task_status
        self.is_done = False

    def started(self, value: trio.CancelScope | None = None) -> None:
        assert value is not None, "a part hands out its intake"
        self._slot.take_intake(value)
        if not self.is_done:
            self.is_done = True
            self._task_status.started()

    def give_up(self) -> None:
        """Stopped before it was up: whoever waits for the start should not take it for a fault."""
        if not self.is_done:
            self.is_done = True
            self._task_status.started()
