"""A fresh way out, every time: the name looked up, its addresses raced, a proxy passed, TLS agreed on."""

import os
import socket
import ssl
from typing import Protocol

import idna
import trio

from edge.errors import EdgeError, Unavailable, leaves
from edge.net.proxy import Proxy, open_tunnel, place_of, proxy_for
from edge.net.socket_stream import SocketStream
from edge.net.tls_stream import TlsStream
from edge.net.wire import SocketWire, TlsWire, Wire

__all__ = ["Proxy", "open_stream", "open_wire", "proxy_for", "reason_of"]

PROBE_AFTER_S = 60  # a silent peer is asked by TCP whether it is still there: streams may be idle for hours

# X509_V_ERR_..., openssl/x509_vfy.h: nobody whom we trust has signed it, or itself has.
NOT_VOUCHED_FOR = frozenset({18, 19, 20, 21})
NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"})  # the latter since OpenSSL 3.2
CA_ADVICE = "if you trust it, give its authority's certificate by ca_file, --ca-file"
PLAIN_ADVICE = "that port seems to speak plain HTTP: use http://, or ws://"


class Place(Protocol):
    """Where to: a `net.http_client.Origin`, for one."""

    @property
    def host(self) -> str:
        raise NotImplementedError

    @property
    def port(self) -> int:
        raise NotImplementedError


async def open_stream(
    origin: Place,
    *,
    tls: ssl.SSLContext | None,
    timeout_s: float,
    proxy: Proxy | None = None,
    server: str = "",
) -> SocketStream | TlsStream:
    """Connect, to whichever address answers first, and shake hands; `server` is for the errors (else the host).

    Over TLS, an end without TLS's own farewell counts as an end, as HTTP peers do it.
    Raises: Unavailable.
    """
    stream = await connect(
        origin.host, origin.port, tls, proxy=proxy, server=server or origin.host, timeout_s=timeout_s
    )
    return stream if isinstance(stream, TlsStream) else SocketStream(stream)


async def open_wire(
    origin: Place,
    *,
    tls: ssl.SSLContext | None,
    timeout_s: float,
    proxy: Proxy | None = None,
    server: str = "",
) -> Wire:
    """`open_stream` for the connections of an `HttpPool`."""
    stream = await connect(
        origin.host, origin.port, tls, proxy=proxy, server=server or origin.host, timeout_s=timeout_s
    )
    return TlsWire(stream) if isinstance(stream, TlsStream) else SocketWire(stream)


async def connect(
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    *,
    proxy: Proxy | None,
    server: str,
    timeout_s: float,
) -> socket.socket | TlsStream:
    """Raises: Unavailable."""
    place = place_of(host, port)
    next_place = place if proxy is None else f"proxy {proxy.place}"
    step = f"connection with {next_place}"
    stream: trio.SocketStream | None = None
    transport: SocketStream | None = None
    has_connected = False
    try:
        with trio.fail_after(timeout_s):
            stream = await trio.open_tcp_stream(
                *((host, port) if proxy is None else (proxy.host, proxy.port))
            )
            prepare(stream)
            if proxy is not None:
                step = f"tunnel to {place} through {next_place}"
                await open_tunnel(stream, proxy, host, port)
            if tls is None:
                has_connected = True
                return taken_out(stream)
            step = f"TLS handshake with {place}"
            transport = SocketStream(taken_out(stream))
            secure = TlsStream(transport, tls, server_hostname=ascii_name(host), https_compatible=True)
            await secure.do_handshake()
            has_connected = True
            return secure
    except trio.TooSlowError as exc:
        raise Unavailable(server, f"no {step} within {timeout_s:g} s") from exc
    except (OSError, UnicodeError) as exc:  # the latter of a name that DNS cannot hold
        raise Unavailable(server, f"cannot connect to {next_place}: {reason_of(exc)}") from exc
    except trio.BrokenResourceError as exc:
        raise Unavailable(server, f"{step} failed: {reason_of(exc)}", advice_for(exc.__cause__)) from exc
    except EdgeError as exc:  # of the proxy
        raise Unavailable(server, str(exc)) from exc
    finally:
        if not has_connected:
            for each in (transport, None if stream is None else stream.socket):
                if each is not None:
                    each.close()


def prepare(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)


def taken_out(stream: trio.SocketStream) -> socket.socket:
    """The plain socket under Trio's stream."""
    return socket.socket(fileno=stream.socket.detach())


def ascii_name(host: str) -> str:
    """As DNS has it. Raises: UnicodeError."""
    return host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")


def reason_of(exc: BaseException) -> str:
    """Why a connection could not be made, in the words of the system that refused it."""
    cause = exc.__cause__
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message})"
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or "it speaks no TLS").lower().replace("_", " ")
    if isinstance(exc, socket.gaierror):
        return f"the host name is not known ({exc.strerror})"
    if isinstance(exc, UnicodeError):
        return "the host name is not valid"
    if isinstance(cause, BaseExceptionGroup):
        return ", ".join(dict.fromkeys(reason_of(leaf) for leaf in leaves(cause)))
    if isinstance(cause, OSError):
        return reason_of(cause)
    if isinstance(exc, OSError) and exc.errno:
        return os.strerror(exc.errno).lower()
    return "the peer closed the connection"


def advice_for(cause: BaseException | None) -> str:
    """What to do about a TLS handshake that failed for `cause`; "" if the reason has to be enough."""
    match cause:
        case ssl.SSLCertVerificationError():
            return CA_ADVICE if cause.verify_code in NOT_VOUCHED_FOR else ""
        case ssl.SSLError():
            return PLAIN_ADVICE if cause.reason in NO_TLS else ""
    return ""
