"""Reloads, one at a time: who asks waits for the verdict, and those who ask for the same meanwhile share it.

Theory of operation. `Reloads.run` is the one task that applies a config. A request waits in a small table until it is
its turn; an equal one that comes before that is not another request. Whoever asks may go away: the reload goes on, as
half of it would be worse. What applying a config means is the composition root's to say.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from edge.errors import EdgeError, Problem
from edge.health import BAD_RELOADS, Result

MAX_WAITING = 16  # different requests; a further one is told so


@dataclass(frozen=True, slots=True)
class ReloadOptions:
    """`plan`: only say what would happen. `confirm_s`: seconds after which all that was good has to be good again,
    or the config before is put back; 0: no such condition."""

    plan: bool = False
    confirm_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a reload. Parts are named as in `server git`, `uplink hq`, `gateway`.

    restarted: replaced by a new one; updated: it goes on, with other settings. `problems` say why it was refused or
    taken back, `warnings` what is in force and unwise, or needs a restart. "not rolled back": it should have been,
    and could not be, so it is in force.
    """

    result: Result
    source: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        return self.result not in BAD_RELOADS

    def report(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "result": self.result,
            "config": self.source,
            "added": list(self.added),
            "removed": list(self.removed),
            "restarted": list(self.restarted),
            "updated": list(self.updated),
            "unchanged": list(self.unchanged),
            "problems": [problem._asdict() for problem in self.problems],
            "warnings": list(self.warnings),
        }


class TooManyReloads(EdgeError):
    """More different reloads are asked for than are kept waiting."""

    def __init__(self) -> None:
        super().__init__("too many reloads wait already; try again in a moment")


class Asked:
    """A request that waits, with everybody who made it."""

    __slots__ = ("done", "verdict")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.verdict: Verdict | None = None


class Reloads:
    """`apply` applies the config as it is then; expected trouble is in its verdict, what it raises is a bug."""

    def __init__(self, apply: Callable[[ReloadOptions], Awaitable[Verdict]]) -> None:
        self._apply = apply
        self._waiting: OrderedDict[ReloadOptions, Asked] = OrderedDict()
        self._work = trio.Event()

    def count_waiting(self) -> int:
        return len(self._waiting)

    def poke(self, options: ReloadOptions = ReloadOptions()) -> Asked:
        """Ask, and do not wait. Raises: TooManyReloads."""
        if options not in self._waiting and len(self._waiting) >= MAX_WAITING:
            raise TooManyReloads
        asked = self._waiting.setdefault(options, Asked())
        self._work.set()
        return asked

    async def ask(self, options: ReloadOptions) -> Verdict:
        """The verdict, when it is there. Cancelling the call does not cancel the reload. Raises: TooManyReloads."""
        asked = self.poke(options)
        await asked.done.wait()
        if asked.verdict is None:
            raise AssertionError("done without a verdict")
        return asked.verdict

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            while not self._waiting:
                self._work = trio.Event()
                await self._work.wait()
            options, asked = self._waiting.popitem(last=False)
            asked.verdict = await self._apply(options)
            asked.done.set()
