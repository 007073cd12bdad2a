"""The way to another host, step by step: name, connection, proxy, TLS; and what to do about the step that fails."""

import socket
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

import trio

from edge.doctor.finding import Report
from edge.errors import EdgeError, Unavailable
from edge.net.dial import Proxy, ascii_name, open_stream, reason_of
from edge.net.http_client import Origin
from edge.net.proxy import ProxyRefused, place_of
from edge.net.tls_stream import TlsStream

DAY_S = 86_400
SOON_DAYS = 14
# X509_V_ERR_..., openssl/x509_vfy.h: what to do about a certificate that is not trusted.
BY_CERTIFICATE = {
    9: "is this machine's clock right? its certificate is not good yet",
    10: "its certificate has expired: whoever runs it renews it (or is this machine's clock wrong?)",
    18: "it has signed its certificate itself: its certificate goes into ca_file, if you know it to be the right one",
    19: "an authority of your own (or a proxy that opens TLS): its certificate goes into ca_file",
    20: "an authority of your own (or a proxy that opens TLS): its certificate goes into ca_file",
    21: "it sends no chain, or an authority of your own has signed it: ca_file",
    62: "the certificate is for another host: use the name that is in it, in url",
    64: "the certificate is for another address: use the name that is in it, in url",
}
MUTE = "a firewall drops it, or only a proxy leads there (HTTPS_PROXY, proxy)"
NO_NAME = "check the name, and /etc/resolv.conf; `getent hosts NAME` asks the same"


class Target(NamedTuple):
    """Where to, and how. `tls` makes the context (it reads files); None: plain."""

    name: str
    origin: Origin
    proxy: Proxy | None
    tls: Callable[[], ssl.SSLContext] | None
    timeout_s: float


async def go(report: Report, target: Target) -> bool:
    """Whether all of the way is good. What is found on it is reported."""
    next_host, next_port = target.origin.host, target.origin.port
    if target.proxy is not None:
        next_host, next_port = target.proxy.host, target.proxy.port
    if not await look_up(report, next_host, next_port):
        return False
    straight = target._replace(origin=Origin(next_host, next_port, False, ""), proxy=None, tls=None)
    whose = "proxy " if target.proxy is not None else ""
    if not await connect(report, straight, f"{whose}{place_of(next_host, next_port)} answers"):
        return False
    if target.proxy is None and target.tls is None:
        return True
    what = f"the tunnel through proxy {target.proxy.place}" if target.proxy is not None else ""
    if target.tls is not None:
        what += f"{' and ' if what else ''}TLS with {place_of(target.origin.host, target.origin.port)}"
    return await connect(report, target, f"{what}: good")


async def look_up(report: Report, host: str, port: int) -> bool:
    began = time.monotonic()
    try:
        found = await trio.socket.getaddrinfo(ascii_name(host), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        report.problem(f"{host}: {reason_of(exc)}", NO_NAME)
        return False
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    if addresses != [host]:
        report.ok(f"{host} is {', '.join(addresses[:4])}", took_s=time.monotonic() - began)
    return True


async def connect(report: Report, target: Target, good: str) -> bool:
    began = time.monotonic()
    try:
        tls = None if target.tls is None else target.tls()
        stream = await open_stream(
            target.origin, tls=tls, timeout_s=target.timeout_s, proxy=target.proxy, server=target.name
        )
    except EdgeError as exc:
        report.problem(exc.fact if isinstance(exc, Unavailable) else str(exc), advice_for(exc))
        return False
    took_s = time.monotonic() - began
    certificate = stream.peer_certificate() if isinstance(stream, TlsStream) else {}
    stream.close()
    report.ok(good, took_s=took_s)
    ends = certificate.get("notAfter")
    if isinstance(ends, str):
        days = (ssl.cert_time_to_seconds(ends) - time.time()) / DAY_S
        if days < SOON_DAYS:
            report.warning(f"its certificate expires in {days:.0f} days", "whoever runs it should renew it")
    return True


def advice_for(exc: BaseException) -> str:
    """What to do about a connection that could not be made; decided by what is behind it."""
    for cause in causes_of(exc):
        match cause:
            case ssl.SSLCertVerificationError():
                return BY_CERTIFICATE.get(cause.verify_code, "its authority's certificate goes into ca_file")
            case ssl.SSLError():
                return "does it speak TLS there? else http:// (or ws://), or another port"
            case ProxyRefused(status=407):
                return "set them in the proxy's URL: http://USER:${PASSWORD}@HOST:PORT"
            case ProxyRefused():
                return "ask who runs the proxy to let this host and port through, or name it in NO_PROXY"
            case socket.gaierror():
                return NO_NAME
            case trio.TooSlowError():
                return MUTE
            case ConnectionRefusedError():
                return "nothing listens there: is it running, and is the port right?"
            case OSError(errno=int()):
                return "check the network: `ip route`, a firewall, a VPN that is down"
    return "try it by hand: curl -v"


def causes_of(exc: BaseException) -> list[BaseException]:
    """The error and all that are behind it, in groups, too."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [exc]
    while waiting and len(found) < 50:
        each = waiting.pop(0)
        if each is None or each in found:
            continue
        found.append(each)
        waiting += [each.__cause__, *(each.exceptions if isinstance(each, BaseExceptionGroup) else ())]
    return found
