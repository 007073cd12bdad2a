"""What the build scripts print: progress while they work, and one plain sentence when they cannot go on."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import interruption


class Stop(Exception):
    """The build cannot go on; the text says why and what to do about it."""


def line(text: str) -> None:
    print(f"build: {text}", flush=True)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Says what is being done, and when it is done how long it took."""
    line(f"{text} ...")
    started = time.monotonic()
    yield
    line(f"{text}: done in {time.monotonic() - started:.1f} s")


def run_quietly(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Runs a command whose output is of interest only if it fails; gives what it wrote on stdout.

    It leads a group of its own, which is ended if we are interrupted.
    """
    try:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as exc:
        raise Stop(f"cannot start {command[0]}: {exc.strerror}") from exc
    try:
        stdout, stderr = process.communicate()
    except BaseException:  # an interruption above all: nothing that was started is left
        interruption.end_group(process)
        raise
    if process.returncode != 0:
        said = (stdout + stderr).strip()
        raise Stop(f"{said}\nfailed with status {process.returncode}: {' '.join(map(str, command))}")
    return stdout
