"""A network within the process: names of addresses lead to those who listen here, and nothing leaves it.

A connection is a pair of joined sockets, so both ends are the product's own streams, TLS included; nothing waits for
the kernel, so the clock of a test may jump. `calling` has Trio dial here for the length of a block.
"""

import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import trio

from edge.errors import EdgeError
from edge.net.addresses import Addresses, Shared
from edge.net.listen import ADVICE, ListeningSocket
from edge.net.overlap import Place as NetPlace
from edge.net.socket_stream import SocketStream

Place = tuple[str, int]
NO_SOCKET = socket.socket()  # one has to be there, and is never used: addresses here do not overlap
NO_SOCKET.close()
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class MemoryNet(trio.abc.HostnameResolver, trio.abc.SocketFactory):
    """`refused` are addresses that cannot be listened on. `dials` counts attempts by the port they went to."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.dials: dict[int, int] = {}
        self._listening: dict[str, Backlog] = {}
        self._ends: set[int] = set()  # inodes of all there have been, two of each connection

    @property
    def listening(self) -> dict[str, object]:
        """What is listened on, and by which socket."""
        return dict(self._listening)

    @property
    def open(self) -> int:
        """Ends of connections that nobody has closed."""
        return len(self._ends & set(inodes()))

    def listen(self, text: str) -> "MemoryListener":
        """Raises: EdgeError, as the real one does."""
        if text in self.refused or text in self._listening:
            raise EdgeError(f"cannot listen on {text}: {ADVICE[errno.EADDRINUSE]}")
        backlog = self._listening[text] = Backlog()
        return MemoryListener(self, text, backlog)

    def close(self, text: str) -> None:
        self._listening.pop(text).close()

    def connect(self, text: str) -> socket.socket:
        """Our end of a new connection. Raises: ConnectionRefusedError."""
        backlog = self._listening.get(text)
        if backlog is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        ours, theirs = socket.socketpair()
        self._ends.update(os.fstat(end.fileno()).st_ino for end in (ours, theirs))
        backlog.add(theirs)
        return ours

    def stream(self, text: str) -> SocketStream:
        """For a client of a test."""
        return SocketStream(self.connect(text))

    @asynccontextmanager
    async def serving(
        self, text: str, serve: Callable[[SocketStream], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Each connection to `text` in a task of its own, for the length of a block."""
        async with trio.open_nursery() as nursery:
            listener = self.listen(text)

            @nursery.start_soon
            async def accept() -> None:
                while True:
                    stream, _ = await listener.accept()
                    nursery.start_soon(serve, stream)

            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
                listener.close()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Trio's own sockets are made here."""
        before = trio.socket.set_custom_hostname_resolver(self), trio.socket.set_custom_socket_factory(self)
        try:
            yield
        finally:
            trio.socket.set_custom_hostname_resolver(before[0])
            trio.socket.set_custom_socket_factory(before[1])

    # -- as Trio asks for it

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002  Trio's word
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        assert host is not None
        await trio.lowlevel.checkpoint()
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host.decode(), int(port)))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError

    def socket(self, family: int = 0, type: int = 0, proto: int = 0) -> "MemorySocket":  # noqa: A002  Trio's word
        return MemorySocket(self)


class Backlog:
    """Connections that wait to be accepted: whoever holds a descriptor of the socket may take the next one."""

    def __init__(self) -> None:
        self._waiting: list[socket.socket] = []
        self._news = trio.Event()

    def add(self, end: socket.socket) -> None:
        self._waiting.append(end)
        self.tell()

    async def take(self, by: "MemoryListener") -> socket.socket:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._waiting:
            if by.is_closed:
                raise trio.ClosedResourceError("this listening socket is closed")
            await self._news.wait()
        end = self._waiting.pop(0)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return end

    def tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def close(self) -> None:
        for end in self._waiting:
            end.close()
        self.tell()


class MemoryListener(ListeningSocket):
    """In place of a listening socket; `lent` gives another descriptor of it."""

    def __init__(self, net: MemoryNet, address: str, backlog: Backlog, *, is_lent: bool = False) -> None:
        self.address = address
        self.sock = NO_SOCKET
        self.is_closed = False
        self._net = net
        self._backlog = backlog
        self._is_lent = is_lent

    def lent(self) -> "MemoryListener":
        return MemoryListener(self._net, self.address, self._backlog, is_lent=True)

    async def accept(self) -> tuple[SocketStream, str]:
        peer = "unix" if self.address.startswith("unix:") else "memory"
        return SocketStream(await self._backlog.take(self)), peer

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._backlog.tell()
        if not self._is_lent:
            self._net.close(self.address)


class MemoryAddresses(Addresses):
    """Listens in the memory network, and lends and takes back as usual."""

    def __init__(self, net: MemoryNet, inherited: Sequence[socket.socket] = ()) -> None:
        super().__init__(inherited)
        self._net = net

    def _open(self, owner: str, text: str, family: int, place: NetPlace, rivals: Sequence[Shared]) -> Shared:
        key = (family, place)

        def forget() -> None:
            del self._shared[key]

        shared = self._shared[key] = Shared(self._net.listen(text), owner, (), forget)
        return shared


class MemorySocket(trio.socket.SocketType):
    """What Trio dials with: half of a pair, once it is connected. Our streams take it out; httpx's use it."""

    type = socket.SOCK_STREAM
    did_shutdown_SHUT_WR = False  # noqa: N815  Trio's name

    def __init__(self, net: MemoryNet) -> None:
        super().__init__()
        self._net = net
        self._end: trio.socket.SocketType | None = None

    async def connect(self, address: Any) -> None:
        host, port = address[:2]
        self._net.dials[port] = self._net.dials.get(port, 0) + 1
        await trio.lowlevel.checkpoint()
        end = self._net.connect(f"{'127.0.0.1' if host in LOOPBACK else host}:{port}")
        self._end = trio.socket.from_stdlib_socket(end)

    async def send(self, data: Any, flags: int = 0) -> int:
        assert self._end is not None
        return await self._end.send(data, flags)

    async def recv(self, size: int, flags: int = 0) -> bytes:
        assert self._end is not None
        return await self._end.recv(size, flags)

    def is_readable(self) -> bool:
        assert self._end is not None
        return self._end.is_readable()

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        """There is no TCP here."""

    def fileno(self) -> int:
        return -1 if self._end is None else self._end.fileno()

    def detach(self) -> int:
        assert self._end is not None
        return self._end.detach()

    def close(self) -> None:
        if self._end is not None:
            self._end.close()


def inodes() -> Iterator[int]:
    """Of every descriptor of this process."""
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the one that has listed them
            yield os.fstat(int(name)).st_ino
