"""What a check finds, and how checks are run: some at once, each within its time, told in the order they are given.

A check is a function that says what it sees to a `Report`, so that what it saw before its time was over is kept.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Concatenate, Literal, NamedTuple, ParamSpec

import trio

P = ParamSpec("P")
Level = Literal["ok", "warning", "problem"]

AT_ONCE = 8


class Finding(NamedTuple):
    """One line. `subject` is what was looked at, as in `servers.git`; `advice` is what to do, if anything."""

    section: str
    subject: str
    level: Level
    text: str
    advice: str = ""
    took_s: float | None = None


class Report:
    """Where one check says what it sees."""

    def __init__(self, section: str, subject: str) -> None:
        self.findings: list[Finding] = []
        self._section = section
        self._subject = subject

    def ok(self, text: str, *, took_s: float | None = None) -> None:
        self.findings.append(Finding(self._section, self._subject, "ok", text, took_s=took_s))

    def warning(self, text: str, advice: str) -> None:
        self.findings.append(Finding(self._section, self._subject, "warning", text, advice))

    def problem(self, text: str, advice: str) -> None:
        self.findings.append(Finding(self._section, self._subject, "problem", text, advice))


Look = Callable[[Report], Awaitable[None]]


def at_once(look: Callable[Concatenate[Report, P], None], *args: P.args, **kwargs: P.kwargs) -> Look:
    """A look that needs no waiting, as a check has it."""

    async def looked(report: Report) -> None:
        look(report, *args, **kwargs)

    return looked


class Check(NamedTuple):
    """One thing to look at. `look` may raise nothing but bugs."""

    section: str
    subject: str
    look: Look


async def examine(checks: Sequence[Check], *, timeout_s: float) -> list[Finding]:
    """What all checks find. A child that will not end may make one last longer than its time, but not for ever."""
    reports = [Report(check.section, check.subject) for check in checks]
    places = trio.CapacityLimiter(AT_ONCE)

    async def run(check: Check, report: Report) -> None:
        async with places:
            with trio.move_on_after(timeout_s) as scope:
                await check.look(report)
            if scope.cancelled_caught:
                report.problem(f"no result within {timeout_s:g} s", "try again with a larger --timeout-s")

    async with trio.open_nursery() as nursery:
        for check, report in zip(checks, reports, strict=True):
            nursery.start_soon(run, check, report)
    return [finding for report in reports for finding in report.findings]
