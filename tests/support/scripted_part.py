"""Parts that do what a test tells them to."""

from collections.abc import Callable

import trio


class ScriptedPart:
    """Starts after `start_s`, fails with `fault` after `up_s` (or never), drains for `drain_s` when intake ends.

    Writes what happens, with its time, into `story`.
    """

    def __init__(
        self,
        name: str,
        story: list[tuple[float, str]],
        *,
        start_s: float = 0.0,
        up_s: float = float("inf"),
        fault: Callable[[], BaseException] | None = None,
        start_fault: Exception | None = None,
        drain_s: float = 0.0,
        drain_fault: Exception | None = None,
    ) -> None:
        self._name = name
        self._story = story
        self._start_s = start_s
        self._up_s = up_s
        self._fault = fault
        self._start_fault = start_fault
        self._drain_s = drain_s
        self._drain_fault = drain_fault

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        try:
            await trio.sleep(self._start_s)
            if self._start_fault is not None:
                raise self._start_fault
            with trio.CancelScope() as intake:
                self._tell("up")
                task_status.started(intake)
                await trio.sleep(self._up_s)
                if self._fault is not None:
                    raise self._fault()
                return
            self._tell("drains")
            await trio.sleep(self._drain_s)
            if self._drain_fault is not None:
                raise self._drain_fault
            self._tell("done")
        except trio.Cancelled:
            self._tell("cancelled")
            raise

    def _tell(self, what: str) -> None:
        self._story.append((trio.current_time(), f"{self._name} {what}"))
