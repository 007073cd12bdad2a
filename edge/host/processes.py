"""The processes that use most memory or CPU.

Names only: command lines and environments hold secrets too often. CPU is measured between two looks
a moment apart, so that it says what is busy now.
"""

import os
import pwd
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.host.facts import Facts, NotHere, bytes_text

BETWEEN_LOOKS_S = 0.25
DEFAULT_LIMIT = 10
MAX_LIMIT = 50


@dataclass(frozen=True, slots=True)
class Look:
    """One process as /proc shows it; `born` tells it from a later one with the same id."""

    pid: int
    name: str
    state: str
    ticks: int
    born: int
    threads: int
    rss_bytes: int
    uid: int


def processes(
    root: Path,
    sort: str = "memory",
    limit: int = DEFAULT_LIMIT,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Facts:
    before = looks(root)
    if not before:
        raise NotHere("this system has no /proc that shows processes")
    started = time.monotonic()
    pause(BETWEEN_LOOKS_S)
    after = looks(root)
    spent_s = max(time.monotonic() - started, BETWEEN_LOOKS_S)
    per_second = os.sysconf("SC_CLK_TCK")

    def cpu_percent(look: Look) -> float:
        earlier = before.get(look.pid)
        if earlier is None or earlier.born != look.born:
            return 0.0
        return round(100 * (look.ticks - earlier.ticks) / per_second / spent_s, 1)

    rows = [(look, cpu_percent(look)) for look in after.values()]
    rows.sort(
        key=lambda row: (-row[0].rss_bytes, row[0].pid) if sort == "memory" else (-row[1], -row[0].rss_bytes)
    )
    return {
        "count": len(rows),
        "sorted_by": sort,
        "processes": [entry(look, percent) for look, percent in rows[:limit]],
    }


def processes_text(found: Facts) -> str:
    lines = [f"{found['count']} processes, the first by {found['sorted_by']}:"]
    lines += [
        f"{row['pid']:>7} {row['name']} ({row['user']}): {bytes_text(row['rss_bytes'])}, {row['cpu_percent']} % CPU, "
        f"{row['threads']} threads, state {row['state']}"
        for row in found["processes"]
    ]
    return "\n".join(lines)


def entry(look: Look, percent: float) -> dict[str, Any]:
    return {
        "pid": look.pid, "name": look.name, "user": user_name(look.uid), "state": look.state,
        "rss_bytes": look.rss_bytes, "cpu_percent": percent, "threads": look.threads,
    }  # fmt: skip


def looks(root: Path) -> dict[int, Look]:
    found: dict[int, Look] = {}
    for place in (root / "proc").glob("[0-9]*"):
        try:
            stat = (place / "stat").read_bytes()
            uid = place.stat().st_uid
        except OSError:  # it has ended meanwhile, or is hidden from us
            continue
        look = parse_stat(stat, uid)
        if look is not None:
            found[look.pid] = look
    return found


def parse_stat(stat: bytes, uid: int) -> Look | None:
    """proc_pid_stat(5): the name is in parentheses and may hold blanks and parentheses itself."""
    start, _, tail = stat.rpartition(b")")
    pid, _, name = start.partition(b" (")
    fields = tail.split()
    if not pid.isdigit() or len(fields) < 22:
        return None
    return Look(
        pid=int(pid),
        name=name.decode(errors="replace"),
        state=fields[0].decode(errors="replace"),
        ticks=int(fields[11]) + int(fields[12]),
        threads=int(fields[17]),
        born=int(fields[19]),
        rss_bytes=max(0, int(fields[21])) * os.sysconf("SC_PAGE_SIZE"),
        uid=uid,
    )


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
