"""What systemd has meant for the process that it started, where that is the guard."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.processes import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guard needs Linux's child subreapers")

STANDS = """
import os, sys
from pathlib import Path
from edge.cli import guard

first = os.getpid()
os.environ.update({name: str(first) for name in sys.argv[1].split()})
code = guard.stand()
if code is not None:
    raise SystemExit(code)
assert os.getpid() != first, "there is no guard"
while Path(f"/proc/{first}/comm").read_text() != "mcp-edge-guard\\n":
    pass  # it has done by then what it does before it waits
"""
TELLS_PIDS = (
    STANDS
    + """
whose = {str(first): "the guard's", str(os.getpid()): "the appliance's"}
print(*(whose.get(os.environ[name], os.environ[name]) for name in ("LISTEN_PID", "WATCHDOG_PID")), sep=", ")
"""
)
LETS_GO = (
    STANDS
    + """
os.close(3)
print("let go", flush=True)
sys.stdin.read()
"""
)
LOOKS = (
    STANDS
    + """
import select
print("the guard is", "gone" if select.select([guard.lifeline], [], [], 0)[0] else "there")
"""
)


@contextmanager
def standing(
    code: str, ours: str, env: dict[str, str], sock: socket.socket | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Python with this code; the variables named in `ours` say its own pid, as systemd sets them. `sock` is its 3."""
    words = [sys.executable, "-c", code, ours]
    if sock is not None:
        words = [sys.executable, "-c", TAKES_3, str(sock.fileno()), *words]
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[] if sock is None else [sock.fileno()],
        env={"PATH": os.environ["PATH"], **env},
        cwd=Path(__file__).parents[2],
    )
    try:
        yield process
    finally:
        process.communicate(timeout=30)
    assert process.returncode == 0


TAKES_3 = """
import os, sys
number = int(sys.argv[1])
os.dup2(number, 3)
if number != 3:
    os.close(number)
os.execv(sys.argv[2], sys.argv[2:])
"""


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def test_what_was_meant_for_the_one_process_is_meant_for_the_appliance() -> None:
    with standing(TELLS_PIDS, "LISTEN_PID WATCHDOG_PID", {}) as process:
        assert said(process) == "the appliance's, the appliance's"


def test_what_is_meant_for_another_process_stays_so() -> None:
    with standing(TELLS_PIDS, "LISTEN_PID", {"WATCHDOG_PID": "1"}) as process:
        assert said(process) == "the appliance's, 1"


def test_an_inherited_address_is_free_when_the_appliance_has_let_it_go() -> None:
    with closing(socket.socket()) as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        place = ours.getsockname()
        with standing(LETS_GO, "LISTEN_PID", {"LISTEN_FDS": "1"}, ours) as process:
            assert said(process) == "let go"
            ours.close()

            def is_free() -> bool:
                with closing(socket.socket()) as other:
                    other.settimeout(5)  # whoever listens and does not accept has room for some only
                    return other.connect_ex(place) == errno.ECONNREFUSED

            eventually(is_free, limit_s=10)


def test_descriptors_that_are_promised_and_not_there_do_not_cost_the_lifeline() -> None:
    with standing(LOOKS, "LISTEN_PID", {"LISTEN_FDS": "5"}) as process:
        assert said(process) == "the guard is there"
