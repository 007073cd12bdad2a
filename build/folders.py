"""Removing a folder without ever reaching into what is mounted in it."""

import re
import shutil
from pathlib import Path

from say import Stop, line, run_quietly

MOUNTS = Path("/proc/self/mountinfo")


def remove(folder: Path) -> None:
    """First unmounts what is mounted there; if that cannot be done nothing is removed. Raises: Stop."""
    if not folder.exists():
        return
    for mount in reversed(mounts_in(folder)):
        run_quietly(["umount", "--lazy", mount])
    if left := mounts_in(folder):
        raise Stop(f"{folder} is not removed: something is mounted on {left[0]}")
    try:
        shutil.rmtree(folder)
    except OSError as exc:
        raise Stop(f"cannot remove {folder}: {exc}") from exc


def clear_away(folder: Path) -> None:
    """The same, for when there is more to do than this: what goes wrong is only said."""
    try:
        remove(folder)
    except Stop as exc:
        line(str(exc))


def mounts_in(folder: Path, mounts: Path = MOUNTS) -> list[Path]:
    """The folder's own and those below it, the earliest first; none where the system has no such list.

    Source: proc_pid_mountinfo(5): the fifth field, in which blanks and the like are octal.
    """
    try:
        lines = mounts.read_bytes().splitlines()
    except OSError:
        return []
    place = folder.resolve()
    found = [Path(unescaped(each.split()[4]).decode(errors="surrogateescape")) for each in lines]
    return [each for each in found if each.is_relative_to(place)]


def unescaped(text: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), text)
