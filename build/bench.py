"""`python3 build bench`: makes what the benchmark compares, then hands over to tests/bench."""

from collections.abc import Sequence

import environments
import interruption
import peers
import pyz
from places import DEV_LOCK, ROOT, VENV
from say import line


def main(args: Sequence[str]) -> int:
    python = environments.from_lock(VENV, DEV_LOCK)
    lacks, failed = peers.prepare(peers.FOR_BENCH)
    pyz.make_current()
    for name, reason in (lacks | failed).items():
        line(f"not compared with {name}: {reason}")
    return interruption.run_in_view([python, "-m", "tests.bench", *args], cwd=ROOT)
