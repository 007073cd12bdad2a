"""`python3 build test`: everything that has to be green, all of it even if some of it is red, and a summary.

With arguments only pytest runs, with these arguments, and only what these tests need is prepared.
"""

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import environments
import interruption
import peers
import pyz
import selection
from places import DEV_LOCK, ROOT, VENV
from say import Stop, line

REPORT = "MCP_EDGE_TEST_REPORT"  # names the file into which tests/conftest.py writes what came of it
RULE = "=" * 100
USAGE = """usage: python3 build test [ARGUMENTS]

Without arguments: linters, types, all tests with their coverage, and a summary. Exit code 0 if all is green.

With arguments only pytest runs, with these: paths (tests/unit tests/e2e/test_run.py), -k WORDS, -x, --lf and so on;
.venv/bin/python -m pytest --help has them all.

Before that it makes what is not there yet: .venv, dist/mcp-edge.pyz and, under .peers, the real clients, servers and
systems that the tests talk to. The first time that takes some ten minutes more, for what it downloads. Paths spare
what their tests have no use for:
  tests/unit tests/property tests/integration   need none of them
  tests/e2e                                     needs clients, servers and a gateway
  tests/systemd                                 needs root file systems of Debian, most of those ten minutes; root only
"""


class Step(NamedTuple):
    """What came of one step; `detail` is one line for the summary."""

    name: str
    is_ok: bool
    took_s: float
    detail: str = ""


class Preparation(NamedTuple):
    steps: list[Step]
    lacks: dict[str, str]  # what the machine does not have, and how to get it


def main(args: Sequence[str]) -> int:
    if "-h" in args or "--help" in args:
        print(USAGE, end="")
        return 0
    python = environments.from_lock(VENV, DEV_LOCK)
    preparation = prepare(selection.peers_for(args))
    steps = list(preparation.steps)
    if not args:
        steps += [run_step(name, command) for name, command in linters(python.parent).items()]
    tested, report = run_pytest(python, args, with_coverage=not args)
    steps.append(tested)
    if not args:
        run_step("coverage combine", [python, "-m", "coverage", "combine", "--quiet"])
        steps.append(run_step("coverage report", [python, "-m", "coverage", "report"]))
    summarize(steps, preparation.lacks, report)
    return 0 if all(step.is_ok for step in steps) else 1


def prepare(names: Sequence[str]) -> Preparation:
    """These peers and the .pyz. Tests run even without them; those that need them are skipped, and say so."""
    steps: list[Step] = []
    lacks: dict[str, str] = {}
    if names:
        started = time.monotonic()
        lacks, failed = peers.prepare(names)
        detail = f"not installed: {', '.join(failed)}" if failed else ""
        steps.append(Step("peers", not failed, time.monotonic() - started, detail))
    started = time.monotonic()
    try:
        pyz.make_current()
    except Stop as exc:
        line(str(exc))
        steps.append(Step("pyz", False, time.monotonic() - started, "not built, see above"))
    else:
        steps.append(Step("pyz", True, time.monotonic() - started))
    return Preparation(steps, lacks)


def linters(commands: Path) -> dict[str, list[str | Path]]:
    return {
        "ruff check": [commands / "ruff", "check"],
        "ruff format": [commands / "ruff", "format", "--check"],
        "mypy": [commands / "mypy"],
        "import rules": [commands / "lint-imports"],
    }


def run_step(name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Step:
    line(name)
    started = time.monotonic()
    status = interruption.run_in_view(command, cwd=ROOT, env=env)
    return Step(name, status == 0, time.monotonic() - started, f"status {status}" if status else "")


def run_pytest(
    python: Path, args: Sequence[str], *, with_coverage: bool
) -> tuple[Step, dict[str, list[str]]]:
    """Runs the tests; gives the step, and the skipped tests by reason."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = [str(python), "-m", "pytest", *args]
        if with_coverage:
            run_step("coverage erase", [python, "-m", "coverage", "erase"])
            command[2:2] = ["coverage", "run", "-m"]
        step = run_step("pytest", command, env=os.environ | {REPORT: str(file)})
        try:
            report = json.loads(file.read_text())
        except (OSError, ValueError):
            return step._replace(is_ok=False, detail=f"{step.detail}, ended without a report"), {}
    return step._replace(detail=report["counts"]), report["skipped"]


def summarize(steps: Sequence[Step], lacks: Mapping[str, str], skipped: Mapping[str, Sequence[str]]) -> None:
    print(f"\n{RULE}\nSUMMARY")
    for step in steps:
        verdict = "ok" if step.is_ok else "FAILED"
        print(f"  {step.name:<16} {verdict:<7} {step.took_s:6.1f} s  {step.detail}".rstrip())
    if skipped:
        print(f"\nSKIPPED, so not shown to work here: {sum(map(len, skipped.values()))} tests")
        for reason, tests in sorted(skipped.items()):
            print(f"  {len(tests):4} x {reason}")
            for test in sorted(tests)[:5]:
                print(f"           {test}")
            if len(tests) > 5:
                print(f"           and {len(tests) - 5} more")
    if lacks:
        print("\nTHIS MACHINE LACKS")
        for reason in lacks.values():
            print(f"  {reason}")
    red = [step.name for step in steps if not step.is_ok]
    print(
        f"\n{'FAILED: ' + ', '.join(red) if red else 'PASSED' + (' with skipped tests' if skipped else '')}"
    )
    print(RULE, flush=True)
