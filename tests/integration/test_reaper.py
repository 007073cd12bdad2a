"""The family of a server: who still counts, and who buries whom."""

import os
import subprocess
import sys

import pytest

from edge.net import reaper
from tests.support.processes import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans come to us on Linux only")

BURIES_NOBODY = """
import os, sys
child = os.fork()
if child == 0:
    os._exit(0)
print(child, flush=True)
sys.stdin.read()
os._exit(0)
"""


def test_the_dead_whom_a_living_parent_does_not_bury_count_until_they_come_to_us_and_are_buried() -> None:
    assert reaper.adopt_orphans()
    parent = subprocess.Popen(
        [sys.executable, "-c", BURIES_NOBODY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    dead = int(parent.stdout.readline())

    def has_ended() -> bool:
        found = reaper.look_up(dead)
        return found is not None and not found.is_alive

    eventually(has_ended)
    family = reaper.Family(parent.pid, "no marker")
    assert family.reap() == 1
    parent.communicate()
    found = reaper.look_up(dead)
    assert found is not None
    assert found.ppid == os.getpid()
    assert family.reap() == 0
    assert reaper.look_up(dead) is None
