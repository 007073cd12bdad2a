"""Host and Origin: whether a request was meant for this gateway, and may come from the page that sent it.

A browser can be led to send requests here by any page, and by DNS rebinding under any name. So a Host must be
one of our own names, and an Origin (which only browsers send) one that the operator listed or a page of this
machine. Source: MCP 2025-11-25, Transports (Security Warning); RFC 9110 section 7.2 (Host); RFC 6454 section
6 (Origin).

Own names: of a loopback or Unix listener (and of one on all interfaces, which loopback reaches too) every
loopback name, with any port, as ports get forwarded; of any other its own address and port. A loopback name
in a Host is safe: a rebinding page's requests carry the page's own name. Names are compared without regard to
case.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from edge.config.address import Address, parse_address
from edge.config.host_header import DEFAULT_PORTS, canonical_origin, split_host, split_web_origin

MAX_REMEMBERED: Final = 256

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Foreign:
    """Why a request is refused: 421 for its Host, 403 for its Origin. `reason` is a metric label."""

    status: int
    reason: Literal["host", "origin"]
    text: str


class Origins:
    """The check for one set of listeners. What is allowed was judged when the config was read (ValueError otherwise).

    `allowed_hosts`: `example.com` (any port), `example.com:8443`, `*.example.com` (any name below it).
    `allowed_origins`: `https://app.example.com`, or whatever a browser sends (`null`, `vscode-webview://x`).
    """

    def __init__(
        self,
        listen: Sequence[str | Address],
        *,
        allowed_hosts: Sequence[str] = (),
        allowed_origins: Sequence[str] = (),
        hosts_key: str = " (gateway.allowed_hosts)",
    ) -> None:
        self._hosts_key = hosts_key  # where others would be allowed, if anywhere
        addresses = [
            address if isinstance(address, Address) else parse_address(address) for address in listen
        ]
        self._is_local = any(address.is_local for address in addresses)
        self._takes_loopback = self._is_local or any(_is_wildcard(address.host) for address in addresses)
        named = [address for address in addresses if address.host and not _is_wildcard(address.host)]
        self._own = {(_canonical(address.host), address.port) for address in named}
        self._hosts: set[tuple[str, int | None]] = set()
        self._suffixes: set[tuple[str, int | None]] = set()
        self._origins: set[str] = set()
        self._good: set[tuple[str | None, str]] = (
            set()
        )  # Host and scheme of requests that passed without an Origin
        for text in allowed_hosts:
            host, port = _judged(split_host(text.removeprefix("*.")), text)
            if text.startswith("*."):
                self._suffixes.add((f".{host}", port))
            else:
                self._hosts.add((host, port))
        for text in allowed_origins:
            self._origins.add(_judged(canonical_origin(text), text))

    def check(self, host: str | None, origin: str | None, scheme: str = "http") -> Foreign | None:
        """The headers as they came (several joined by a comma: refused), and the scheme we are served by."""
        if origin is None and (host, scheme) in self._good:
            return None
        if host is None:
            return Foreign(421, "host", "a Host header is required")
        named = split_host(host)
        if named is None:
            return Foreign(421, "host", "the Host header is not a host, maybe with a port")
        if not self._is_ours(*named, DEFAULT_PORTS.get(scheme)):
            return Foreign(421, "host", f"this Host is not served here{self._hosts_key}")
        if origin is not None and not self._is_welcome(origin):
            return Foreign(403, "origin", "this Origin is not allowed here (gateway.allowed_origins)")
        if len(self._good) < MAX_REMEMBERED:
            self._good.add((host, scheme))
        return None

    def _is_ours(self, name: str, port: int | None, default_port: int | None) -> bool:
        if self._takes_loopback and is_loopback(name):
            return True
        port = default_port if port is None else port
        if (name, port) in self._own or (name, port) in self._hosts or (name, None) in self._hosts:
            return True
        return any(name.endswith(suffix) and wanted in (None, port) for suffix, wanted in self._suffixes)

    def _is_welcome(self, origin: str) -> bool:
        canonical = canonical_origin(origin)
        if canonical is None:
            return False
        if canonical in self._origins:
            return True
        web = split_web_origin(canonical)
        if web is None or not self._is_local:
            return False
        named = split_host(web[1])
        assert named is not None  # it is canonical
        return is_loopback(named[0])


def is_loopback(name: str) -> bool:
    """Whether a host (lower case, IPv6 without brackets) is this machine whatever a name server says."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _canonical(host: str) -> str:
    """A listening host as `_split_host` writes it."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _is_wildcard(host: str) -> bool:
    """All interfaces: an address to listen on, and nobody's name."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _judged(parsed: _T | None, text: str) -> _T:
    if parsed is None:
        raise ValueError(f"{text!r} is neither a host nor an origin")
    return parsed
