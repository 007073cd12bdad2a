"""A connected stream socket as a Trio stream that can also try to send without waiting.

Trio's own `SocketStream` is fine everywhere but on the hot path: there, an answer nearly always fits into
the kernel's buffer, so `try_send` costs one system call and no visit to the scheduler, and a read after an
answer goes straight to waiting instead of failing once first.
"""

import errno
import socket
import struct
from abc import abstractmethod
from operator import index

import trio

RECEIVE_BYTES = 65536
DEFAULT_RECEIVE_BYTES = 16384
SCRATCH = memoryview(bytearray(RECEIVE_BYTES))
"""Received into, and copied from in the same step: a buffer of such a size for each read, cut down to what came,
leaves holes in the heap that thousands of quiet connections keep apart."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class QuickStream(trio.abc.Stream):
    """A stream that can also try to send without waiting, and be cut off."""

    __slots__ = ()

    @property
    @abstractmethod
    def has_unsent(self) -> bool:
        """Some of what `try_send` took has not reached the kernel: `send_all`, of nothing at least, must follow."""

    @abstractmethod
    def try_send(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes of `data` were taken at once. Never waits, never yields.

        Not while another task is sending. Raises: BrokenResourceError, ClosedResourceError.
        """

    @abstractmethod
    def abort(self) -> None:
        """Closes at once, without a farewell; the peer sees a reset where the transport has one."""


class SocketStream(trio.abc.HalfCloseableStream, QuickStream):
    """Owns `sock` (TCP or Unix, connected). One task may read while another writes."""

    __slots__ = ("_has_sent_eof", "_sock", "_waits_to_send")

    has_unsent = False

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._waits_to_send = False
        self._has_sent_eof = False

    @property
    def is_closed(self) -> bool:
        """By us."""
        return self._sock.fileno() < 0

    @property
    def local(self) -> tuple[int, str]:
        """The family and the address that its peer connected to."""
        return self._sock.family, str(self._sock.getsockname()[0])

    def fileno(self) -> int:
        return self._sock.fileno()

    def try_send(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes the kernel took at once; 0 if it has no room."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise self._translated(exc) from exc

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check_open()
        if self._has_sent_eof:
            raise trio.ClosedResourceError("nothing can be sent after the end")
        if self._waits_to_send:
            raise trio.BusyResourceError("another task is sending")
        await trio.lowlevel.checkpoint_if_cancelled()
        sent = self.try_send(data) if data else 0
        if sent == len(data):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        with memoryview(data) as view:
            while sent < len(view):
                await self.wait_send_all_might_not_block()
                with view[sent:] as remaining:
                    sent += self.try_send(remaining)

    async def wait_send_all_might_not_block(self) -> None:
        self._check_open()
        self._waits_to_send = True
        try:
            await trio.lowlevel.wait_writable(self._sock)
        finally:
            self._waits_to_send = False

    async def wait_readable(self) -> None:
        """Until something can be received, or the end. Raises: ClosedResourceError."""
        self._check_open()
        await trio.lowlevel.wait_readable(self._sock)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        most = DEFAULT_RECEIVE_BYTES if max_bytes is None else index(max_bytes)
        if most < 1:
            raise ValueError("max_bytes must be at least 1")
        while True:
            self._check_open()
            await trio.lowlevel.wait_readable(self._sock)
            try:
                n_bytes = self._sock.recv_into(SCRATCH, min(most, len(SCRATCH)))
            except BlockingIOError:
                continue  # a spurious wake-up
            except OSError as exc:
                raise self._translated(exc) from exc
            return bytes(SCRATCH[:n_bytes])

    async def send_eof(self) -> None:
        self._check_open()
        if self._waits_to_send:
            raise trio.BusyResourceError("another task is sending")
        await trio.lowlevel.checkpoint()
        if self._has_sent_eof:
            return
        self._has_sent_eof = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise self._translated(exc) from exc

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Closes at once; what is in the kernel's buffer is still delivered. Tasks waiting on it are told."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def abort(self) -> None:
        """Closes with a reset: the kernel's buffer is dropped as well."""
        if self._sock.fileno() >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.close()

    def _check_open(self) -> None:
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError("this stream is closed")

    def _translated(self, exc: OSError) -> trio.BrokenResourceError | trio.ClosedResourceError:
        if exc.errno == errno.EBADF:
            return trio.ClosedResourceError("this stream is closed")
        return trio.BrokenResourceError(f"socket connection broken: {exc.strerror}")
