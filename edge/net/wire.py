"""The bytes of one outgoing connection, plain or TLS; `net/dial.py` makes them.

A `Wire` is what the HTTP client needs of a connection and a stream does not tell: whether anything of a
message was taken before it failed, whether something is there to be read, and how to end it without waiting.
"""

import select
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from edge.net.tls_stream import TlsStream

RECEIVE_BYTES = 64 * 1024


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

    may_hide = True  # TLS records that came together may be taken out one by one

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream
        self._poll = select.poll()
        self._poll.register(stream.transport.fileno(), select.POLLIN)

    async def send(self, data: bytes) -> bool:
        sent = self._stream.try_send(data)
        if sent < len(data) or self._stream.has_unsent:
            await self._stream.send_all(memoryview(data)[sent:])
        return True

    async def receive(self) -> bytes:
        return await self._stream.receive_some(RECEIVE_BYTES)

    def is_readable(self) -> bool:
        return bool(self._poll.poll(0))

    def close(self) -> None:
        self._stream.close()
