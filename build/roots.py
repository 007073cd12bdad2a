"""Root file systems of Debian releases, in which tests boot a systemd: `.peers/systemd-SUITE`.

They are made by debootstrap, from the archive that this machine's own apt takes its packages from.
A test boots them with a layer of its own above, so they stay as they are.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import machine
from places import PEERS
from say import progress, run_quietly

PREFIX = "systemd-"
SUITES = {f"{PREFIX}{suite}": suite for suite in ("bookworm", "trixie")}
TOOLS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
}  # and the packages that have them
# libnss-systemd is what every system has that was not made minimal.
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "libnss-systemd",
    "dbus",
    "procps",
    "python3",
    "ca-certificates",
    "logrotate",
)
# Quick and quiet: nothing for consoles, logins, networks and time, which a container has from outside or not at all.
MASKED = (
    "getty.target",
    "console-getty.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "logrotate.timer",
)
STAMP = "made-from"  # beside the root: what it was made from
VERSION = "1"  # of what follows; another one makes the roots anew


class Source(NamedTuple):
    """Where apt has packages from."""

    uri: str
    suites: frozenset[str]
    components: frozenset[str]


def prepare(name: str) -> str | None:
    """None once the root is there, or what this machine lacks. Raises: Stop if debootstrap fails."""
    folder, suite = PEERS / name, SUITES[name]
    wanted = f"{VERSION} {suite} {' '.join(PACKAGES)} {' '.join(MASKED)}"
    stamp = folder.with_name(f"{name}.{STAMP}")
    if (folder / "etc/debian_version").exists() and stamp.exists() and stamp.read_text() == wanted:
        return missing_tool("systemd-nspawn")
    if os.geteuid() != 0:
        return "a systemd of its own can be started by root only"
    for tool in TOOLS:
        if (reason := missing_tool(tool)) is not None:
            return reason
    if (archive := archive_of_this_machine()) is None:
        return f"this machine's apt has no archive of Debian, from which {suite} could be had"
    make(folder, suite, archive)
    stamp.write_text(wanted)
    return None


def missing_tool(tool: str) -> str | None:
    return machine.missing_command(tool, TOOLS[tool])


def make(folder: Path, suite: str, archive: str) -> None:
    half_done = folder.with_name(f"{folder.name}.{os.getpid()}")
    with progress(f"making a root file system of Debian {suite}"):
        try:
            packages = ",".join(PACKAGES)
            run_quietly(
                ["debootstrap", "--variant=minbase", f"--include={packages}", suite, half_done, archive]
            )
            for package in (half_done / "var/cache/apt/archives").glob("*.deb"):
                package.unlink()
            (half_done / "etc/machine-id").write_text("")
            for unit in MASKED:
                link = half_done / "etc/systemd/system" / unit
                link.unlink(missing_ok=True)
                link.symlink_to("/dev/null")
            if folder.exists():
                shutil.rmtree(folder)
            half_done.rename(folder)
        finally:
            if half_done.exists():
                shutil.rmtree(half_done)


def archive_of_this_machine() -> str | None:
    """The URI of the archive that the running release comes from; None if that is not Debian's."""
    try:
        facts = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    except OSError:
        return None
    if facts.get("ID") != "debian":
        return None
    codename = facts.get("VERSION_CODENAME", "")
    for source in sources(Path("/etc/apt")):
        if codename in source.suites and "main" in source.components:
            return source.uri
    return None


def sources(apt: Path) -> Iterator[Source]:
    """Of both forms of apt's files. Source: sources.list(5)."""
    for file in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*"))]:
        try:
            text = file.read_text()
        except OSError:
            continue
        if file.suffix == ".list":
            yield from lines_of(text)
        elif file.suffix == ".sources":
            yield from stanzas_of(text)


def lines_of(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        found = re.match(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line.strip())
        if found:
            yield Source(found[1], frozenset({found[2]}), frozenset(found[3].split()))


def stanzas_of(text: str) -> Iterator[Source]:
    without_comments = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", without_comments):
        fields = {key.lower(): value.split() for key, value in re.findall(r"(?m)^([\w-]+):(.*)$", stanza)}
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            for uri in fields.get("uris", []):
                yield Source(
                    uri, frozenset(fields.get("suites", [])), frozenset(fields.get("components", []))
                )
