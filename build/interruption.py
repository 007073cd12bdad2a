"""Interrupted by Ctrl-C, by SIGTERM or by a terminal that goes away, the build tidies up and takes nobody with it.

The signal becomes a KeyboardInterrupt, once: on its way up what is half made is undone, undisturbed by further ones,
and programs that were started are ended and waited for.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_S = 10.0  # between asking a program to end and killing it
BY_ITSELF_S, AFTER_ASKING_S = 5.0, 15.0  # the same for one that Ctrl-C has reached, too


def listen() -> None:
    """Signals that are ignored stay so: nohup's, or a shell's for what it runs in the background."""
    for each in SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, interrupt)


def interrupt(_signum: int, _frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def end_group(leader: subprocess.Popen[str]) -> None:
    """Ends a process and the group that it leads. Returns once none of them holds its pipes any more."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, signum)
        with suppress(subprocess.TimeoutExpired):
            leader.communicate(timeout=PATIENCE_S)
            return


def run_in_view(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> int:
    """Runs a command whose output is seen as it comes, and which can read what is typed; gives its status."""
    process = subprocess.Popen(command, cwd=cwd, env=env)
    try:
        return process.wait()
    except BaseException:  # an interruption above all: nothing that was started is left
        end(process)
        raise


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process of our own group, in a way that lets pytest end what its tests have started."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(BY_ITSELF_S)
        return
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(AFTER_ASKING_S)
        return
    process.kill()
    process.wait()
