"""The bytes of one outgoing connection, plain or TLS, and how it is made.

A `Wire` is what the HTTP client needs of a connection and a stream does not tell: whether anything of a
message was taken before it failed, whether something is there to be read, and how to end it without waiting.
"""

import os
import select
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from edge.errors import Unavailable, leaves

RECEIVE_BYTES = 64 * 1024
PROBE_AFTER_S = 60  # a silent peer is asked by TCP whether it is still there: streams may be idle for hours


class Wire(Protocol):
    """One connection, used by one task at a time."""

    may_hide: bool  # bytes may be there although `is_readable` does not see them

    async def send(self, data: bytes) -> bool:
        """All of `data`. False: refused before its first byte. BrokenResourceError: somewhere within."""
        raise NotImplementedError

    async def receive(self) -> bytes:
        """Some bytes, b"" at the end. Raises BrokenResourceError."""
        raise NotImplementedError

    def is_readable(self) -> bool:
        """There are bytes, or the end, to be received at once."""
        raise NotImplementedError

    def close(self) -> None:
        """At once, without a farewell; who waits on it gets ClosedResourceError."""


Dial = Callable[[], Awaitable[Wire]]


class SocketWire:
    """A connected socket, without the cost of a stream around it."""

    may_hide = False

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    async def send(self, data: bytes) -> bool:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        rest = memoryview(data)[sent:]
        while rest:
            await trio.lowlevel.wait_writable(self._socket)
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as exc:
                raise trio.BrokenResourceError from exc
        return True

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as exc:
                raise trio.BrokenResourceError from exc

    def is_readable(self) -> bool:
        return bool(self._poll.poll(0))

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class TlsWire:
    """TLS over a socket. An end without TLS's own farewell counts as an end, as HTTP peers do it."""

    may_hide = True  # TLS records that came together are taken out one by one

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._socket = stream.transport_stream.socket
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)

    async def send(self, data: bytes) -> bool:
        await self._stream.send_all(data)
        return True

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(RECEIVE_BYTES))

    def is_readable(self) -> bool:
        return bool(self._poll.poll(0))

    def close(self) -> None:
        self._socket.close()


async def dial(host: str, port: int, tls: ssl.SSLContext | None, *, server: str, timeout_s: float) -> Wire:
    """Connect, to whichever address of `host` answers first, and shake hands; `server` is for the errors.

    Raises: Unavailable.
    """
    stream: trio.SocketStream | None = None
    has_connected = False
    try:
        with trio.fail_after(timeout_s):
            stream = await trio.open_tcp_stream(host, port)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
            wire: Wire
            if tls is None:
                wire = SocketWire(socket.socket(fileno=stream.socket.detach()))
            else:
                secure = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
                await secure.do_handshake()
                wire = TlsWire(secure)
        has_connected = True
    except trio.TooSlowError as exc:
        what = "connection" if stream is None else "TLS handshake"
        raise Unavailable(server, f"no {what} with {host}:{port} within {timeout_s:g} s") from exc
    except (OSError, UnicodeError) as exc:  # the latter of a name that DNS cannot hold
        raise Unavailable(server, f"cannot connect to {host}:{port}: {reason_of(exc)}") from exc
    except trio.BrokenResourceError as exc:
        raise Unavailable(server, f"TLS handshake with {host}:{port} failed: {reason_of(exc)}") from exc
    finally:
        if stream is not None and not has_connected:
            stream.socket.close()
    return wire


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
