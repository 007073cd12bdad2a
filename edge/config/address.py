"""Listen addresses as they are written in the config: `host:port`, `[::1]:port`, `unix:/path`."""

import ipaddress
import re
from dataclasses import dataclass

LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*\.?")
MAX_UNIX_PATH_BYTES = 107  # sun_path of Linux, without its final NUL


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One place to listen on: `host` and `port`, or `unix_path` (then host is empty and port 0)."""

    host: str = ""
    port: int = 0
    unix_path: str = ""

    @property
    def is_local(self) -> bool:
        """Only this machine can reach it."""
        if self.unix_path:
            return True
        if ip_or_none(self.host) is not None:
            return ipaddress.ip_address(self.host).is_loopback
        name = self.host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")


def ip_or_none(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP literal that `host` is, if it is one."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def reaches(host: str, port: int, listening: Address) -> bool:
    """Whether a call to `host` and `port` arrives at our own listener, as far as names and numbers tell."""
    if listening.unix_path or port != listening.port:
        return False
    return bare(host) == bare(listening.host) or (is_here(host) and is_here(listening.host))


def bare(host: str) -> str:
    """One spelling for each host."""
    ip = ip_or_none(host)
    return host.lower().rstrip(".") if ip is None else str(getattr(ip, "ipv4_mapped", None) or ip)


def is_here(host: str) -> bool:
    """Loopback, or the wildcard address, which as a destination is this machine, too."""
    ip = ip_or_none(bare(host))
    return Address(host=bare(host)).is_local if ip is None else ip.is_loopback or ip.is_unspecified


def parse_address(text: str) -> Address:
    """Text to `Address`; a ValueError's words are for the operator. Port 0 means any free port."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError("a Unix socket needs an absolute path, as in unix:/run/mcp-edge/mcp.sock")
        if len(path.encode("utf-8", "surrogatepass")) > MAX_UNIX_PATH_BYTES:
            raise ValueError(f"a Unix socket's path may have at most {MAX_UNIX_PATH_BYTES} bytes")
        return Address(unix_path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise ValueError("must be host:port (port 0 to 65535), [ipv6]:port or unix:/path")
    if host.startswith("[") and host.endswith("]"):
        if not isinstance(ip_or_none(host[1:-1]), ipaddress.IPv6Address):
            raise ValueError("what is in the brackets is not an IPv6 address")
        return Address(host=host[1:-1], port=int(port))
    if ":" in host:
        raise ValueError("an IPv6 address goes into brackets, as in [::1]:8766")
    if not host:
        raise ValueError("the host is missing; all interfaces are 0.0.0.0:port or [::]:port")
    looks_numeric = host.replace(".", "").isdigit()
    if ip_or_none(host) is None and (looks_numeric or not HOST_NAME.fullmatch(host)):
        raise ValueError("the host is neither an IP address nor a host name")
    return Address(host=host, port=int(port))
