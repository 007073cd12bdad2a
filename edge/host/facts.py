"""What all facts share: how they are read, how numbers are said, and how "not on this system" is."""

from pathlib import Path
from typing import Any

Facts = dict[str, Any]
"""One tool's answer: plain JSON values."""


class NotHere(Exception):
    """This system does not have, or does not show, what was asked for."""


def read(path: Path) -> str:
    """A small file's text, or nothing if it cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def bytes_text(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"


def duration_text(seconds: float) -> str:
    minutes = int(seconds) // 60
    days, minutes = divmod(minutes, 1440)
    hours, minutes = divmod(minutes, 60)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
