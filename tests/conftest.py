"""For all tests: no process may be left over, and what was skipped is said.

`python3 build test` names a file in the environment; what came of the run is written there for its summary.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter
from hypothesis import settings

TESTS = Path(__file__).resolve().parent
WITH_PROCESSES = ("integration", "e2e", "systemd")
PR_SET_CHILD_SUBREAPER = 36

# A deadline for each example would make tests fail on a busy machine, and only there.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    """Orphans of what the tests start become our children, so that they are seen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a test does to logging, by itself or by starting the appliance, ends with it."""
    root, ours = logging.getLogger(), logging.getLogger("edge")
    before = (list(root.handlers), root.level, ours.level, logging.raiseExceptions)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.raiseExceptions = before[3]


@pytest.fixture(autouse=True)
def no_process_left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test with real processes none has been added. Those of wider fixtures were there before."""
    if request.path.relative_to(TESTS).parts[0] not in WITH_PROCESSES:
        yield
        return
    before = children()
    yield
    give_up = time.monotonic() + 3.0
    while left := {pid: what for pid, what in children().items() if pid not in before}:
        is_late = time.monotonic() > give_up
        for pid, what in left.items():
            if is_late:
                os.kill(pid, signal.SIGKILL)
            elif what.startswith("Z"):  # an adopted orphan that has ended is no trouble; nobody else reaps it
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        if is_late:
            pytest.fail(f"left over by this test: {left}")
        time.sleep(0.02)


def children() -> dict[int, str]:
    """Our children, and the state and name of each. Empty where the kernel does not tell."""
    found: dict[int, str] = {}
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread or a child that has ended meanwhile
            for pid in task.read_text().split():
                name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
                found[int(pid)] = f"{rest.split()[0]} {name}"
    return found


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    skipped: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skipped.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    if skipped:
        terminalreporter.section("skipped, so not shown to work here", sep="=", yellow=True, bold=True)
        for reason, tests in sorted(skipped.items()):
            terminalreporter.write_line(f"{len(tests):4} x {reason}")
    if file := os.environ.get("MCP_EDGE_TEST_REPORT"):
        kinds = ("passed", "failed", "error", "skipped", "xfailed", "xpassed", "warnings")
        counted = [(len(terminalreporter.getreports(kind)), kind) for kind in kinds]
        counts = ", ".join(f"{n} {kind}" for n, kind in counted if n)
        Path(file).write_text(json.dumps({"counts": counts, "skipped": skipped}))
