"""Mounted file systems and how full they are.

Only local file systems are asked: `statvfs` on a network mount whose server is away can hang for
ever, so those are listed without figures.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.host.facts import Facts, NotHere, bytes_text, read

# Kernel views and images that are always full
PSEUDO = frozenset({
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
    "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "squashfs",
    "sysfs", "tracefs",
})  # fmt: skip
NOT_FOR_FILES = ("/proc/", "/sys/", "/dev/")
REMOTE = re.compile(r"nfs\d?|cifs|smb\d?|smbfs|9p|ceph|afs|glusterfs|lustre|virtiofs|fuse(\..*)?")
FULL_PERCENT = 90.0


def disks(root: Path, *, statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> Facts:
    mounts = read(root / "proc/self/mounts")
    if not mounts:
        raise NotHere("this system has no /proc/self/mounts that can be read")
    found: dict[str, dict[str, Any]] = {}  # by mount: a later one hides an earlier one
    seen: set[tuple[str, str]] = set()
    for line in mounts.splitlines():
        fields = [unescaped(field) for field in line.split(" ")]
        if len(fields) < 4 or fields[2] in PSEUDO:
            continue
        device, mount, kind, options = fields[:4]
        if mount.startswith(NOT_FOR_FILES):
            continue
        if device.startswith("/") and (device, kind) in seen:
            continue  # the same file system once more: a bind mount
        disk: dict[str, Any] = {
            "mount": mount, "device": device, "type": kind, "read_only": "ro" in options.split(","),
        }  # fmt: skip
        if REMOTE.fullmatch(kind):
            disk["note"] = "a network or user-space file system; not asked, it might not answer"
        else:
            try:
                usage = usage_of(statvfs(mount))
            except OSError as exc:
                disk["note"] = f"cannot be asked: {exc.strerror}"
            else:
                if usage is None:
                    continue
                disk |= usage
        seen.add((device, kind))
        found[mount] = disk
    return {"disks": list(found.values())}


def usage_of(stat: os.statvfs_result) -> dict[str, Any] | None:
    """As `df` counts it: what root keeps for itself is neither used nor available."""
    if stat.f_blocks == 0:
        return None
    used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    available = stat.f_bavail * stat.f_frsize
    usage = {
        "total_bytes": stat.f_blocks * stat.f_frsize,
        "used_bytes": used,
        "available_bytes": available,
        "used_percent": round(100 * used / max(1, used + available), 1),
    }
    if stat.f_files:
        usage |= {"inodes": stat.f_files, "inodes_used": stat.f_files - stat.f_ffree}
    return usage


def disks_text(found: Facts) -> str:
    return "\n".join(disk_line(disk) for disk in found["disks"]) or "no file systems"


def disk_line(disk: dict[str, Any]) -> str:
    line = (
        f"{disk['mount']} ({disk['type']} on {disk['device']}{', read-only' if disk['read_only'] else ''}): "
    )
    if "total_bytes" not in disk:
        return f"{line}{disk['note']}"
    line += (
        f"{bytes_text(disk['used_bytes'])} of {bytes_text(disk['total_bytes'])} in use ({disk['used_percent']} %), "
        f"{bytes_text(disk['available_bytes'])} available"
    )
    if disk["used_percent"] >= FULL_PERCENT and not disk["read_only"]:
        line += ", NEARLY FULL"
    if "inodes" in disk:
        inodes_percent = 100 * disk["inodes_used"] / disk["inodes"]
        line += f"; inodes {inodes_percent:.0f} %"
    return line


def unescaped(field: str) -> str:
    r"""The kernel writes a blank in a path as `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
