"""Whether our addresses can be listened on, and if not, who has them: it may be we ourselves, running."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from edge.config.address import parse_address
from edge.config.model import EdgeConfig
from edge.doctor.finding import Check, Report
from edge.errors import EdgeError
from edge.net.dial import open_wire
from edge.net.http_client import HttpPool, Origin
from edge.net.listen import open_listeners
from edge.net.wire import Wire

SECTION = "ports"
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  bound there, asked here
ASK_S = 2.0
MAX_REPORT_BYTES = 4_194_304
LISTENING = "0A"  # TCP_LISTEN, as /proc/net/tcp has it
HOLDERS_SHOWN = 3
TAKEN = "stop it, or take another port"


def port_checks(config: EdgeConfig) -> Iterator[Check]:
    admin = config.admin.listen if config.admin.enabled else None
    owners: dict[str, str] = {}
    if config.gateway.enabled:
        owners |= dict.fromkeys(config.gateway.listen, "gateway.listen")
    if admin is not None:
        owners[admin] = "admin.listen"
    if config.hub is not None:
        owners |= dict.fromkeys(config.hub.listen, "hub.listen")
    for text, place in owners.items():
        yield Check(SECTION, place, partial(look_at_address, text=text, admin=admin))


async def look_at_address(report: Report, text: str, admin: str | None) -> None:
    try:
        listeners = await open_listeners(text)
    except EdgeError as exc:
        if not is_in_use(exc):
            said, _, advice = str(exc).partition("; ")
            report.problem(said, advice or "listen on another address")
            return
    else:
        for listener in listeners:
            listener.close()
        report.ok(f"{text} is free")
        return
    pids = holders_of(parse_address(text).port)
    name = await running_name(admin) if admin is not None else None
    if (
        name is not None
        and admin is not None
        and (text == admin or not pids or pids & holders_of(parse_address(admin).port))
    ):
        report.ok(f"{text} is in use by mcp-edge itself, which runs as {name}")
    elif pids:
        holders = ", ".join(f"process {pid} ({program_of(pid)})" for pid in sorted(pids)[:HOLDERS_SHOWN])
        report.problem(f"{text} is in use by {holders}", TAKEN)
    else:
        report.problem(f"{text} is in use", f"{TAKEN} (ss -ltnp names the program)")


def is_in_use(exc: EdgeError) -> bool:
    return isinstance(exc.__cause__, OSError) and exc.__cause__.errno == errno.EADDRINUSE


async def running_name(admin: str) -> str | None:
    """The name of the mcp-edge that answers there, if it is one."""
    address = parse_address(admin)
    if address.unix_path or not address.port:
        return None
    host = EVERYWHERE.get(address.host, address.host)
    origin = Origin(
        host, address.port, False, f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
    )

    async def dial() -> Wire:
        return await open_wire(origin, tls=None, timeout_s=ASK_S)

    pool = HttpPool("admin", origin, dial, max_open=1)
    try:
        with pool.exchange() as exchange:
            await exchange.send("GET", "/health", {})
            found: Any = json.loads(await exchange.read_all(MAX_REPORT_BYTES))
    except (EdgeError, ValueError):
        return None
    finally:
        pool.close()
    is_ours = isinstance(found, dict) and "ready" in found and isinstance(found.get("name"), str)
    return found["name"] if is_ours else None


def holders_of(port: int) -> frozenset[int]:
    """The processes that have a TCP port's listening socket, as far as we may see: with socket activation systemd and
    the program, after a fork parent and child."""
    sockets: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    if not sockets or not port:
        return frozenset()
    processes = Path("/proc").glob("[0-9]*")
    return frozenset(int(folder.name) for folder in processes if sockets.intersection(open_files(folder)))


def open_files(process: Path) -> Iterator[str]:
    """What the descriptors of a process are; nothing if it is another user's, or has ended."""
    with suppress(OSError):
        for each in os.listdir(process / "fd"):
            with suppress(OSError):  # closed meanwhile
                yield os.readlink(process / "fd" / each)


def program_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "which has ended"
