"""Files that the config names: who can read and write them, and how long certificates are good."""

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from edge.config.model import EdgeConfig, HttpServerConfig, StdioServerConfig
from edge.config.private import is_named_secret
from edge.config.rules import dotted
from edge.config.secrets import Expanded
from edge.doctor.certificates import validities
from edge.doctor.finding import Check, Report, at_once

SECTION = "files"
SOON = timedelta(days=21)
MIN_FREE_BYTES = 64 * 1024 * 1024
MAX_PEM_BYTES = 8 * 1024 * 1024
SECRET_KEYS = frozenset({"token", "bearer", "secret"})


class TlsFiles(NamedTuple):
    """The files of one table: whose it is, and the certificate, key and authorities in it."""

    place: str
    cert: str | None
    key: str | None
    ca: str | None


def file_checks(
    config: EdgeConfig, raw: Mapping[str, Any], path: Path | None, env: Mapping[str, str], state: Path | None
) -> Iterator[Check]:
    """`raw` is the config as TOML has it: only there secrets still have the names of their files."""
    if path is not None:
        yield Check(SECTION, str(path), at_once(look_at_config, path, has_secrets(config)))
    for place, name in secret_files(raw, env):
        yield Check(SECTION, place, at_once(look_at_secret, Path(name)))
    for files in tls_files(config):
        yield Check(SECTION, files.place, at_once(look_at_tls, files))
    for text in (*config.gateway.listen, config.admin.listen, *(config.hub.listen if config.hub else ())):
        if text.startswith("unix:"):
            yield Check(SECTION, text, at_once(look_at_folder, Path(text.removeprefix("unix:")).parent))
    if state is not None and any(uplink.dialect == "long-poll" for uplink in config.uplinks.values()):
        yield Check(SECTION, "state directory", at_once(look_at_state, state))
    yield Check(SECTION, "disk", at_once(look_at_disk, path.parent if path is not None else Path.cwd()))


def secret_files(raw: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The place of each secret that is in a file or credential, and the file."""

    def walk(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for key, value in table.items():
            name, _, source = key.rpartition("_")
            if isinstance(value, Mapping):
                yield from walk(value, (*path, key))
            elif name.rpartition("_")[2] in SECRET_KEYS and isinstance(value, str):  # reload_token, too
                if source == "file":
                    yield dotted((*path, key)), value
                elif source == "credential":
                    yield dotted((*path, key)), f"{env.get('CREDENTIALS_DIRECTORY', '')}/{value}"

    yield from walk(raw, ())


def tls_files(config: EdgeConfig) -> Iterator[TlsFiles]:
    hub = config.hub
    for place, tls in (("gateway.tls", config.gateway.tls), ("hub.tls", hub.tls if hub else None)):
        if tls is not None:
            yield TlsFiles(place, tls.cert, tls.key, tls.client_ca)
    for name, uplink in config.uplinks.items():
        if uplink.tls is not None and (uplink.tls.cert or uplink.tls.ca_file):
            own = uplink.tls
            yield TlsFiles(dotted(("uplinks", name, "tls")), own.cert, own.key or own.cert, own.ca_file)
    for name, server in config.servers.items():
        if isinstance(server, HttpServerConfig) and server.ca_file:
            yield TlsFiles(dotted(("servers", name, "ca_file")), None, None, server.ca_file)


def has_secrets(config: EdgeConfig) -> bool:
    """Secrets may stand in the file itself."""
    texts = [
        text
        for server in config.servers.values()
        if isinstance(server, StdioServerConfig)
        for name, text in server.env.items()
        if is_named_secret(name, text)
    ]
    return config.insecure_plain_secrets or any(not isinstance(text, Expanded) for text in texts)


def look_at_config(report: Report, path: Path, has_secrets: bool) -> None:
    found = stat_of(report, path)
    if found is None:
        return
    if found.st_mode & stat.S_IWOTH:
        report.problem(
            "everyone on this machine can change it, and so run commands as us", f"chmod o-w {path}"
        )
    elif found.st_uid not in (0, os.geteuid()):
        report.warning(f"belongs to user {found.st_uid}, who can run commands as us", f"chown it: {path}")
    elif has_secrets and found.st_mode & stat.S_IROTH:
        report.problem("holds secrets, and everyone on this machine can read it", f"chmod 600 {path}")
    else:
        report.ok(f"mode {stat.S_IMODE(found.st_mode):03o}")


def look_at_secret(report: Report, path: Path) -> None:
    found = stat_of(report, path)
    if found is not None:
        look_at_private(report, path, found, "secret")


def look_at_private(report: Report, path: Path, found: os.stat_result, what: str) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IROTH:
        report.problem(
            f"everyone on this machine can read this {what} ({path}, mode {mode:03o})", f"chmod 600 {path}"
        )
    elif mode & (stat.S_IWOTH | stat.S_IWGRP):
        report.problem(f"others can change this {what} ({path}, mode {mode:03o})", f"chmod 600 {path}")
    elif not os.access(path, os.R_OK):
        report.problem(f"we may not read this {what} ({path})", "chown it to the user that mcp-edge runs as")
    else:
        report.ok(f"{path}, mode {mode:03o}")


def look_at_tls(report: Report, files: TlsFiles) -> None:
    """That they can be used together was seen when the config was loaded."""
    if files.key is not None and (found := stat_of(report, Path(files.key))) is not None:
        look_at_private(report, Path(files.key), found, "key")
    now = datetime.now(UTC)
    for name in filter(None, (files.cert, files.ca)):
        try:
            with open(name, "rb") as file:
                times = list(validities(file.read(MAX_PEM_BYTES).decode("ascii", "replace")))
        except (OSError, ValueError) as exc:
            report.warning(f"the dates of {name} cannot be read: {exc}", "is it a PEM file?")
            continue
        if not times:
            report.warning(f"{name} holds no certificate", "is it a PEM file?")
            continue
        # Of a chain all must be good; of authorities, one that is over harms nobody.
        ends = min(each.ends for each in times) if name == files.cert else max(each.ends for each in times)
        begins = (
            max(each.begins for each in times) if name == files.cert else min(each.begins for each in times)
        )
        day = f"{ends:%Y-%m-%d}"
        if ends < now:
            report.problem(f"{name} expired on {day}", "renew it, and start mcp-edge anew")
        elif begins > now:
            report.problem(
                f"{name} is good only from {begins:%Y-%m-%d %H:%M} UTC on", "is this machine's clock right?"
            )
        elif ends - now < SOON:
            report.warning(f"{name} expires on {day}", "renew it soon")
        else:
            report.ok(f"{name} is good until {day}")


def look_at_folder(report: Report, folder: Path) -> None:
    """Of a Unix socket."""
    if not folder.is_dir():
        report.problem(f"the directory {folder} does not exist", "make it, or RuntimeDirectory= in the unit")
    elif not os.access(folder, os.W_OK | os.X_OK):
        report.problem(f"we may not write to {folder}", "chown it to the user that mcp-edge runs as")
    else:
        report.ok(f"{folder} can be written to")


def look_at_state(report: Report, folder: Path) -> None:
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        report.ok(f"{folder} can be written to")
    else:
        advice = (
            "StateDirectory= in the unit, or chown it; without it a polling link begins anew at each start"
        )
        report.warning(f"we may not write to {folder}", advice)


def look_at_disk(report: Report, folder: Path, min_free_bytes: int = MIN_FREE_BYTES) -> None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as exc:
        report.warning(f"cannot be looked at: {exc.strerror}", f"is {folder} there?")
        return
    shown = f"{usage.free / 1e6:.0f} MB free at {folder}"
    if usage.free < min_free_bytes:
        report.problem(shown, "make room: logs and servers cannot write")
    else:
        report.ok(shown)


def stat_of(report: Report, path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a name that a file can have"
        report.problem(f"{path} cannot be looked at: {reason}", "is the path right, and may we go there?")
        return None
