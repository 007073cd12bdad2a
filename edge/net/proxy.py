"""Which proxy leads to a host, and the tunnel through it (CONNECT with Basic authentication).

CONNECT is used for plain targets as well: a link is a long conversation, and a tunnel is all it needs of a proxy.
Source: RFC 9110, sections 9.3.6 and 11.7.2; `NO_PROXY` as curl 8 and Go's net/http read it.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import trio

from edge.errors import EdgeError, RemoteProtocolError

MAX_HEAD_BYTES = 32 * 1024
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")
LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that is asked for tunnels. `authorization` is the value of Proxy-Authorization."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        return place_of(self.host, self.port)


class ProxyRefused(EdgeError):
    """The proxy answered, and gave no tunnel."""

    def __init__(self, proxy: Proxy, status: int) -> None:
        advice = ""
        if status == 407:
            wants = "another user or password" if proxy.authorization else "a user and a password"
            advice = f": it wants {wants}"
        super().__init__(f"proxy {proxy.place} answered {status}{advice}")
        self.status = status


def proxy_for(setting: str, scheme: str, host: str, port: int, env: Mapping[str, str]) -> Proxy | None:
    """The proxy on the way to `host`; None: straight on.

    `setting` is `none`, a proxy's URL, or `env`: `HTTPS_PROXY` (`HTTP_PROXY` for http and ws), else `ALL_PROXY`,
    lower case first, but for hosts in `NO_PROXY` and this machine itself.
    Raises: EdgeError, with a text that can be shown, if the URL is no proxy that can be used.
    """
    if setting == "none":
        return None
    if setting != "env":
        return read_proxy(setting, "the proxy")
    kind = "https_proxy" if scheme in ("https", "wss") else "http_proxy"
    for name in (kind, kind.upper(), "all_proxy", "ALL_PROXY"):
        if url := env.get(name, "").strip():
            if is_local(host) or is_exempt(host, port, env.get("no_proxy") or env.get("NO_PROXY") or ""):
                return None
            return read_proxy(url, f"the proxy in {name}")
    return None


def read_proxy(url: str, what: str) -> Proxy:
    """`http://user:password@host:port`; the scheme may be missing. Never shows the URL: it may hold a password."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError as exc:
        raise EdgeError(f"{what} cannot be used: it is not a URL") from exc
    if parts.scheme != "http":
        raise EdgeError(f"{what} cannot be used: only proxies that are reached by http:// are supported")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise EdgeError(f"{what} cannot be used: its port is not a number up to 65535") from exc
    if not host:
        raise EdgeError(f"{what} cannot be used: its URL names no host")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return Proxy(host, 80 if port is None else port, authorization)


def is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in LOCAL_NAMES


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether an entry of `no_proxy` covers the host: `*`, a domain (with all below it), an address, a network,
    each but `*` and networks with a port or without."""
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    return any(covers(entry.lower(), host, address, port) for entry in re.split(r"[\s,]+", no_proxy) if entry)


def covers(
    entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int
) -> bool:
    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass  # a name, or something with a port
    else:
        return address is not None and address in network
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdecimal():
        if int(digits) != port:
            return False
        entry = name
    if address is not None:
        try:
            return address == ipaddress.ip_address(entry.strip("[]"))
        except ValueError:
            return False
    domain = entry.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith("." + domain))


async def open_tunnel(stream: trio.abc.Stream, proxy: Proxy, host: str, port: int) -> None:
    """Ask the proxy at the other end of `stream` for a tunnel; afterwards the stream leads to `host`.

    Raises: ProxyRefused, RemoteProtocolError, trio.BrokenResourceError.
    """
    target = place_of(host, port)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    await stream.send_all("".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii"))
    received = b""
    while b"\r\n\r\n" not in received:
        data = await stream.receive_some(MAX_HEAD_BYTES)
        received += data
        if not data or len(received) > MAX_HEAD_BYTES:
            raise RemoteProtocolError(f"proxy {proxy.place} gave no answer that can be read")
    match = STATUS_LINE.match(received)
    if match is None:
        raise RemoteProtocolError(f"proxy {proxy.place} does not answer in HTTP")
    if not 200 <= int(match[1]) < 300:
        raise ProxyRefused(proxy, int(match[1]))
    if not received.endswith(b"\r\n\r\n") or received.count(b"\r\n\r\n") > 1:
        # whoever is at the tunnel's other end has nothing to say before we have spoken
        raise RemoteProtocolError(f"proxy {proxy.place} sent more than its answer")


def place_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
