"""Network interfaces, addresses, default routes and name servers.

Addresses come from the kernel by netlink, which needs no program to be installed.
Source: Linux rtnetlink(7), RTM_GETADDR.
"""

import ipaddress
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge.host.facts import Facts, read

MAX_INTERFACES = 64
RTM_NEWADDR, RTM_GETADDR = 20, 22
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFA_ADDRESS, IFA_LOCAL = 1, 2
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
ATTRIBUTE = struct.Struct("=HH")  # length, type
RTF_UP, RTF_GATEWAY = 0x1, 0x2
ANSWER_S = 2.0


def network(root: Path, *, addresses: Callable[[], list[tuple[int, str]]] | None = None) -> Facts:
    """`addresses` gives interface index and `address/prefix`; by default the kernel is asked."""
    by_index: dict[int, list[str]] = {}
    found: Facts = {"interfaces": [], "default_routes": default_routes(root), **name_servers(root)}
    try:
        for index, address in (addresses or kernel_addresses)():
            by_index.setdefault(index, []).append(address)
    except OSError as exc:
        found["note"] = f"addresses cannot be read here: {exc.strerror or exc}"
    names = sorted(socket.if_nameindex() if root == Path("/") else indexes(root))
    for index, name in names[:MAX_INTERFACES]:
        place = root / "sys/class/net" / name
        interface: dict[str, Any] = {"name": name, "addresses": sorted(by_index.get(index, []))}
        if state := read(place / "operstate").strip():
            interface["state"] = state
        if (mtu := read(place / "mtu").strip()).isdigit():
            interface["mtu"] = int(mtu)
        found["interfaces"].append(interface)
    return found


def network_text(found: Facts) -> str:
    lines = [
        f"{interface['name']} ({interface.get('state', 'state unknown')}): "
        + (", ".join(interface["addresses"]) or "no address")
        for interface in found["interfaces"]
    ]
    lines += [
        f"default route by {route['gateway']} on {route['interface']}" for route in found["default_routes"]
    ]
    if not found["default_routes"]:
        lines.append("no default route")
    lines.append(f"name servers: {', '.join(found['name_servers']) or 'none'}")
    if found["search"]:
        lines.append(f"search domains: {', '.join(found['search'])}")
    if "note" in found:
        lines.append(found["note"])
    return "\n".join(lines)


def indexes(root: Path) -> Iterator[tuple[int, str]]:
    for place in (root / "sys/class/net").glob("*"):
        if (index := read(place / "ifindex").strip()).isdigit():
            yield int(index), place.name


def kernel_addresses() -> list[tuple[int, str]]:
    """Raises: OSError where there is no netlink or it is not allowed."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        raise OSError("no netlink on this system")
    with socket.socket(family, socket.SOCK_RAW, 0) as netlink:
        netlink.settimeout(ANSWER_S)
        body = ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        netlink.send(
            HEADER.pack(HEADER.size + len(body), RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body
        )
        found: list[tuple[int, str]] = []
        while True:
            addresses, is_done = parse_addresses(netlink.recv(1 << 18))
            found += addresses
            if is_done:
                return found


def parse_addresses(datagram: bytes) -> tuple[list[tuple[int, str]], bool]:
    """The addresses of one netlink datagram, and whether it was the last."""
    found: list[tuple[int, str]] = []
    at = 0
    while at + HEADER.size <= len(datagram):
        length, kind, *_ = HEADER.unpack_from(datagram, at)
        if kind == NLMSG_DONE or length < HEADER.size:
            return found, True
        if kind == NLMSG_ERROR:
            raise OSError("netlink refused")
        if kind == RTM_NEWADDR:
            _, prefix, _, _, index = ADDRESS.unpack_from(datagram, at + HEADER.size)
            attributes = dict(parse_attributes(datagram[at + HEADER.size + ADDRESS.size : at + length]))
            packed = attributes.get(IFA_LOCAL) or attributes.get(
                IFA_ADDRESS
            )  # LOCAL is ours on point-to-point
            if packed is not None and len(packed) in (4, 16):
                found.append((index, f"{ipaddress.ip_address(packed)}/{prefix}"))
        at += (length + 3) & ~3
    return found, False


def parse_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size:
            return
        yield kind, data[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def default_routes(root: Path) -> list[dict[str, str]]:
    routes: list[dict[str, str]] = []
    for line in read(root / "proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == fields[7] == "00000000" and int(fields[3], 16) & RTF_UP:
            packed = int(fields[2], 16)  # in the byte order of the machine
            gateway = str(ipaddress.IPv4Address(struct.pack("=I", packed))) if packed else "the link itself"
            routes.append({"interface": fields[0], "gateway": gateway})
    for line in read(root / "proc/net/ipv6_route").splitlines():
        fields = line.split()
        if (
            len(fields) >= 10
            and fields[0] == "0" * 32
            and fields[1] == "00"
            and int(fields[8], 16) & RTF_GATEWAY
        ):
            routes.append(
                {"interface": fields[9], "gateway": str(ipaddress.IPv6Address(bytes.fromhex(fields[4])))}
            )
    return routes


def name_servers(root: Path) -> dict[str, list[str]]:
    """As programs see them; behind systemd-resolved's own address, those it asks."""
    servers, search = resolv_conf(read(root / "etc/resolv.conf"))
    if servers == ["127.0.0.53"]:
        real, real_search = resolv_conf(read(root / "run/systemd/resolve/resolv.conf"))
        servers, search = real or servers, real_search or search
    return {"name_servers": servers, "search": search}


def resolv_conf(text: str) -> tuple[list[str], list[str]]:
    servers: list[str] = []
    search: list[str] = []
    for line in text.splitlines():
        word, *values = re.split(r"[#;]", line)[0].split() or [""]
        if word == "nameserver":
            servers += values[:1]
        elif word in ("search", "domain"):
            search = values
    return servers, search
