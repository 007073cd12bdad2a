"""Cancels something at its 1st, 2nd ... nth step, and each time looks whether it came to an end."""

from collections.abc import Awaitable, Callable

import trio


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` when the tasks below `root` are about to run for the nth time."""

    def __init__(self, n: int, scope: trio.CancelScope, root: trio.lowlevel.Task) -> None:
        self._left = n
        self._scope = scope
        self._root = root

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._is_below(task):
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()

    @property
    def has_fired(self) -> bool:
        return self._left <= 0

    def _is_below(self, task: trio.lowlevel.Task) -> bool:
        above: trio.lowlevel.Task | None = task
        while above is not None:
            if above is self._root:
                return True
            above = above.parent_nursery.parent_task if above.parent_nursery else None
        return False


async def cancel_at_every_step(scenario: Callable[[], Awaitable[None]], *, most: int = 500) -> int:
    """Runs `scenario` until it ends by itself; each time before that it is cancelled one step later.

    Returns the number of runs. A scenario that leaves a task behind cannot end, as it owns its nurseries.
    """
    for n in range(1, most):
        with trio.CancelScope() as scope:
            at_step = CancelAtStep(n, scope, trio.lowlevel.current_task())
            trio.lowlevel.add_instrument(at_step)
            try:
                await scenario()
            finally:
                trio.lowlevel.remove_instrument(at_step)
        if not at_step.has_fired:
            return n
    raise AssertionError(f"not done after {most} steps")
