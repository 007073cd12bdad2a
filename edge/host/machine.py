"""Facts of the machine as a whole: what it is, how long it is up, how busy it is, its memory.

Read from /proc and /etc under `root`; what a system does not tell is left out of the answer.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.host.facts import Facts, NotHere, bytes_text, duration_text, read

MEMORY_FIELDS = {
    "MemTotal": "total_bytes", "MemAvailable": "available_bytes", "MemFree": "free_bytes",
    "Buffers": "buffers_bytes", "Cached": "cached_bytes", "SwapTotal": "swap_total_bytes",
    "SwapFree": "swap_free_bytes",
}  # fmt: skip


def overview(root: Path) -> Facts:
    system = os.uname()
    found: Facts = {
        "hostname": system.nodename,
        "os": os_name(root) or system.sysname,
        "kernel": f"{system.sysname} {system.release}",
        "architecture": system.machine,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "load": [round(load, 2) for load in os.getloadavg()],
        "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    if uptime := read(root / "proc/uptime").split():
        found["uptime_seconds"] = float(uptime[0])
    if pressure := pressure_of(root, "cpu"):
        found["cpu_pressure"] = pressure
    return found


def overview_text(found: Facts) -> str:
    uptime = found.get("uptime_seconds")
    lines = [
        f"{found['hostname']}: {found['os']}, {found['kernel']}, {found['architecture']}",
        f"up for {duration_text(uptime)}" if uptime is not None else "uptime unknown",
        f"load {' '.join(f'{load:.2f}' for load in found['load'])} on {found['cpus']} CPUs",
        *pressure_lines("CPU", found.get("cpu_pressure")),
    ]
    return "\n".join(lines)


def memory(root: Path) -> Facts:
    kibibytes: dict[str, int] = {}
    for line in read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()
        if number and number[0].isdigit():
            kibibytes[name] = int(number[0])
    if "MemTotal" not in kibibytes:
        raise NotHere("this system has no /proc/meminfo that can be read")
    found: Facts = {ours: kibibytes[name] * 1024 for name, ours in MEMORY_FIELDS.items() if name in kibibytes}
    found.setdefault("available_bytes", found.get("free_bytes", 0))
    found["used_bytes"] = found["total_bytes"] - found["available_bytes"]
    found["used_percent"] = round(100 * found["used_bytes"] / max(1, found["total_bytes"]), 1)
    if "swap_total_bytes" in found and "swap_free_bytes" in found:
        found["swap_used_bytes"] = found["swap_total_bytes"] - found.pop("swap_free_bytes")
    if pressure := pressure_of(root, "memory"):
        found["pressure"] = pressure
    return found


def memory_text(found: Facts) -> str:
    lines = [
        f"{bytes_text(found['used_bytes'])} of {bytes_text(found['total_bytes'])} in use ({found['used_percent']} %), "
        f"{bytes_text(found['available_bytes'])} available",
    ]
    if found.get("swap_total_bytes"):
        lines.append(
            f"swap: {bytes_text(found['swap_used_bytes'])} of {bytes_text(found['swap_total_bytes'])} in use"
        )
    else:
        lines.append("no swap")
    return "\n".join([*lines, *pressure_lines("memory", found.get("pressure"))])


def os_name(root: Path) -> str:
    for line in read(root / "etc/os-release").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return ""


def pressure_of(root: Path, resource: str) -> dict[str, Any]:
    """Pressure stall information: share of time that some, or all, tasks waited; empty if the kernel has none."""
    found: dict[str, Any] = {}
    for line in read(root / "proc/pressure" / resource).splitlines():
        who, *fields = line.split()
        shares = dict(field.split("=", 1) for field in fields if "=" in field)
        if who in ("some", "full") and {"avg10", "avg60", "avg300"} <= shares.keys():
            found[who] = {span: float(shares[span]) for span in ("avg10", "avg60", "avg300")}
    return found


def pressure_lines(what: str, pressure: dict[str, Any] | None) -> list[str]:
    if not pressure or "some" not in pressure:
        return []
    some = pressure["some"]
    return [
        f"{what} pressure: tasks waited {some['avg10']} % of the last 10 s, {some['avg300']} % of the last 5 min"
    ]
