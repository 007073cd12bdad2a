"""Where the control socket is: as the config says, and at a usual place: in systemd's runtime directory, or named after
the config file."""

import hashlib
import os
import re
import socket
import struct
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from edge.config.diff import ControlSpec

SYSTEM_CONFIG = Path("/etc/mcp-edge/config.toml")
SYSTEM_RUNTIME = "/run/mcp-edge"  # RuntimeDirectory= of the unit
OFF = "off"
CONTROL_LINE = re.compile(r"""^[ \t]*(?:admin\.)?control[ \t]*=[ \t]*["']([^"'\\\n]*)["']""", re.MULTILINE)
CREDENTIALS = struct.Struct("3i")  # pid, user and group: unix(7), SO_PEERCRED


def control_of(configured: str, path: Path | None, env: Mapping[str, str]) -> ControlSpec | None:
    """Where to listen; None: nowhere."""
    if configured == OFF:
        return None
    usual = usual_place(path, env)
    if configured and is_same(configured, usual):
        usual = ""
    return ControlSpec(asked_for=configured, usual=usual) if configured or usual else None


def usual_place(path: Path | None, env: Mapping[str, str]) -> str:
    """Where it is if the config says nothing, and beside what the config says; empty: nowhere."""
    folder = runtime_folder(env)
    if folder is None:
        return ""
    is_alone = bool(env.get("RUNTIME_DIRECTORY"))  # the unit's own
    return f"unix:{folder}/{'control' if is_alone else name_of(path)}.sock"


def is_same(place: str, other: str) -> bool:
    """Also by way of a link, as /var/run is one to /run."""
    return os.path.realpath(place.removeprefix("unix:")) == os.path.realpath(other.removeprefix("unix:"))


def runtime_folder(env: Mapping[str, str]) -> str | None:
    if env.get("RUNTIME_DIRECTORY"):
        return env["RUNTIME_DIRECTORY"].partition(":")[0]
    if env.get("XDG_RUNTIME_DIR"):
        return f"{env['XDG_RUNTIME_DIR']}/mcp-edge"
    return SYSTEM_RUNTIME if os.geteuid() == 0 else None


def name_of(path: Path | None) -> str:
    """The same for the same file, however it is called."""
    if path is None:
        return "built-in"
    return hashlib.sha256(os.path.realpath(path).encode(errors="surrogateescape")).hexdigest()[:16]


def places_to_ask(path: Path | None, env: Mapping[str, str]) -> list[str]:
    """Where the process that runs with this config may be, the likeliest first.

    The file may be broken: that is what the running process is to say, not we.
    """
    places = []
    configured = configured_in(path)
    if configured not in ("", OFF):
        places.append(configured)
    if usual := usual_place(path, env):
        places.append(usual)
    is_units = path is None or os.path.realpath(path) == os.path.realpath(SYSTEM_CONFIG)
    if is_units:  # for whoever asks from a shell
        places.append(f"unix:{SYSTEM_RUNTIME}/control.sock")
    return list(dict.fromkeys(places))


def running_beside(env: Mapping[str, str], asked: Collection[str]) -> list[tuple[str, int]]:
    """Control sockets of this user, and the service's, that somebody listens on, each with the process's id; without
    those that were asked already."""
    found: list[tuple[str, int]] = []
    for folder in dict.fromkeys([runtime_folder(env), SYSTEM_RUNTIME]):
        for path in sorted(Path(folder).glob("*.sock")) if folder else ():
            place = f"unix:{path}"
            if place not in asked and (pid := listener_of(str(path))) is not None:
                found.append((place, pid))
    return found


def listener_of(path: str) -> int | None:
    """The process that listens on a Unix socket; None if nobody does, or it is not for us."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.settimeout(1.0)
            sock.connect(path)
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        except (OSError, AttributeError):  # macOS has no such thing
            return None
    pid: int = CREDENTIALS.unpack(credentials)[0]
    return pid


def configured_in(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    try:
        value = tomllib.loads(text).get("admin", {}).get("control", "")
    except (ValueError, AttributeError, RecursionError):  # broken: it is a line of its own in most files
        found = CONTROL_LINE.search(text)
        value = "" if found is None else found[1]
    return value if isinstance(value, str) else ""
