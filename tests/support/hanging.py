"""Programs that cannot be started because the kernel waits for somebody who does not answer. Linux only.

with leased(path): ...      whoever opens or executes the file waits, for /proc/sys/fs/lease-break-time seconds
with dead_mount(path): ...  whoever looks at anything in the folder waits, as with a network mount that is gone
"""

import ctypes
import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

HOLDER = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel asks for the lease, and gets no answer
fcntl.fcntl(os.open(sys.argv[1], os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""
MNT_DETACH = 2


@contextmanager
def leased(path: Path) -> Iterator[None]:
    """Nobody may have the file open; it has to be the user's own."""
    holder = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n", f"{path} cannot be leased on this file system"
        yield
    finally:
        holder.communicate()


def is_leased(path: Path) -> bool:
    """Whoever opens it has to wait still."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except BlockingIOError:
        return True
    return False


@contextmanager
def dead_mount(path: Path) -> Iterator[None]:
    """A FUSE file system whose server never says a word. When it is over, whoever waits is told that it is gone."""
    path.mkdir(exist_ok=True)
    with mounted(path):
        yield


@cache
def why_no_dead_mount() -> str | None:
    """None if one can be made here."""
    if os.geteuid() != 0:
        return "mounting needs root"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted(Path(folder)):
                return None
        except OSError as exc:
            return f"no FUSE file system can be mounted here: {exc.strerror}"


@contextmanager
def mounted(path: Path) -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"dead", os.fsencode(path), b"fuse", 0, options) != 0:
            code = ctypes.get_errno() or errno.EIO
            raise OSError(code, os.strerror(code))
        try:
            yield
        finally:
            libc.umount2(os.fsencode(path), MNT_DETACH)
    finally:
        os.close(server)
