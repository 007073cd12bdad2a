"""Root file systems of Debian releases, in which tests boot a systemd: `.peers/systemd-SUITE`.

They are made by debootstrap, from the archive that this machine's own apt takes its packages from.
A test boots them with a layer of its own above, so they stay as they are.

Until a root is whole it is in a folder with a longer name, which goes if anything comes between. debootstrap mounts
/proc in it, and more: in namespaces of its own, so that its mounts and processes go with it, even if we are killed.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import machine
from folders import clear_away, remove
from places import PEERS
from say import Stop, line, progress, run_quietly

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
APART = (
    "setpriv",
    "--pdeathsig=KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
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
    if os.geteuid() == 0:
        clear_leftovers(folder)
    if (folder / "etc/debian_version").exists() and stamp.exists() and stamp.read_text() == wanted:
        return missing_tool("systemd-nspawn")
    if os.geteuid() != 0:
        return "a systemd of its own can be started by root only"
    for tool in TOOLS:
        if (reason := missing_tool(tool)) is not None:
            return reason
    if (archive := archive_of_this_machine()) is None:
        return f"this machine's apt has no archive of Debian, from which {suite} could be had"
    stamp.unlink(missing_ok=True)
    make(folder, suite, archive)
    stamp.write_text(wanted)
    return None


def missing_tool(tool: str) -> str | None:
    return machine.missing_command(tool, TOOLS[tool])


def make(folder: Path, suite: str, archive: str) -> None:
    packages = ",".join(PACKAGES)
    with progress(f"making a root file system of Debian {suite}"), half_made(folder) as root:
        run_quietly(
            [*apart(), "debootstrap", "--variant=minbase", f"--include={packages}", suite, root, archive]
        )
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
        (root / "etc/machine-id").write_text("")
        for unit in MASKED:
            link = root / "etc/systemd/system" / unit
            link.unlink(missing_ok=True)
            link.symlink_to("/dev/null")
        remove(folder)
        root.rename(folder)


def apart() -> tuple[str, ...]:
    """What to put before a command so that it has namespaces of its own, and ends when we do.

    Nothing where that cannot be done, as in most containers; there it cannot mount anything, either.
    """
    try:
        run_quietly([*APART, "true"])
    except Stop:
        return ()
    return APART


@contextmanager
def half_made(folder: Path) -> Iterator[Path]:
    """A new folder beside the one that it is to become; removed at the end, if it is still there.

    It is locked for as long as somebody works on it, whom `clear_leftovers` leaves alone.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    claim = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX)
        place.chmod(0o755)
        yield place
    finally:
        clear_away(place)
        os.close(claim)


def clear_leftovers(folder: Path) -> None:
    """Removes what builds that were killed have left beside it."""
    for place in folder.parent.glob(f"{folder.name}.*"):
        if place.is_symlink() or not place.is_dir():
            continue
        claim = os.open(place, os.O_RDONLY)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            line(f"{place.name} is left alone: another build works on it")
        else:
            line(f"{place.name} is left over from a build that was killed; removing it")
            clear_away(place)
        finally:
            os.close(claim)


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
    for each in text.splitlines():
        found = re.match(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", each.strip())
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
