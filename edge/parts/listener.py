"""A listener: accepts connections on the addresses of one face and serves each in a task of its own.

Intake off: it stops accepting, event streams end, requests that are being worked on are answered with
`Connection: close`, and idle connections close in a moment: nobody's request is lost because it was under way just
then. For one that gives way to another that moment is a few seconds long. Over `max_connections`, the connection
that has been idle for longest makes room; if none is idle, the new one is told 503, closed and counted.
"""

import errno
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from edge.errors import EdgeError
from edge.health import Status
from edge.metrics import Metrics
from edge.net.http_server import Connections, Handler, HttpLimits, refuse_connection, serve_connection
from edge.net.listen import open_listeners
from edge.net.socket_stream import SocketStream
from edge.net.tls_stream import TlsStream

ACCEPT_PAUSE_S = 0.25  # after the system had nothing left for another connection
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
MAX_REFUSING = 64  # connections that are being told 503; beyond, they are only closed

log = logging.getLogger("edge.listener")


class Acceptor(Protocol):
    """A listening socket, as `net.listen` makes them."""

    address: str

    async def accept(self) -> tuple[trio.abc.Stream, str]:
        """The next connection, and its peer as text. OSError rises."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop listening."""


class Listener:
    """Accepts on `addresses` and has `handler` answer. `name` (gateway, admin) is its label in the metrics.

    While it runs, `bound` are the real addresses, `connections` what it serves.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[str],
        tls: ssl.SSLContext | None,
        handler: Handler,
        limits: HttpLimits,
        *,
        max_connections: int,
        status: Status,
        metrics: Metrics,
        open_address: Callable[[str], Awaitable[Sequence[Acceptor]]] = open_listeners,
    ) -> None:
        self.name = name
        self.bound: tuple[str, ...] = ()
        self.connections = Connections(metrics)
        self._addresses = tuple(addresses)
        self._tls = tls
        self._handler = handler
        self._limits = limits
        self._max_connections = max_connections
        self._status = status
        self._metrics = metrics
        self._open_address = open_address
        self._open = 0
        self._refusing = 0
        self._gives_way = False

    def update(
        self,
        tls: ssl.SSLContext | None,
        limits: HttpLimits,
        *,
        max_connections: int,
        is_stricter: bool = False,
    ) -> None:
        """For connections that are made from now on. `is_stricter`: those that are there end with their request, as
        they might not be let in any more."""
        if is_stricter:
            self.connections.finish()
            self.connections = Connections(self._metrics)
        self._tls = tls
        self._limits = limits
        self._max_connections = max_connections

    @property
    def max_connections(self) -> int:
        return self._max_connections

    def give_way(self) -> None:
        """Another one accepts in our place already: when the intake ends, nobody has to be hurried away."""
        self._gives_way = True

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Raises: EdgeError, before it has started, if an address cannot be listened on."""
        acceptors: list[Acceptor] = []
        try:
            for address in self._addresses:
                acceptors += await self._open_address(address)
            self.bound = tuple(acceptor.address for acceptor in acceptors)
            async with trio.open_nursery() as serving:
                with trio.CancelScope() as intake:
                    async with trio.open_nursery() as accepting:
                        for acceptor in acceptors:
                            accepting.start_soon(self._accept, acceptor, serving)
                        self._status.ready()
                        log.info(
                            "listening", extra={"listener": self.name, "addresses": ", ".join(self.bound)}
                        )
                        task_status.started(intake)
                close_all(acceptors)
                if self._gives_way:
                    self.connections.finish()
                else:
                    self.connections.drain()
        except EdgeError as exc:  # of an address; what happens in a connection stays there
            self._status.failed(str(exc))
            raise
        finally:
            close_all(acceptors)

    async def _accept(self, acceptor: Acceptor, serving: trio.Nursery) -> None:
        """One connection a turn, so that a flood of new ones does not starve those that are open."""
        is_exhausted = False
        while True:
            try:
                stream, peer = await acceptor.accept()
            except OSError as exc:
                if exc.errno not in EXHAUSTED:
                    raise
                if not is_exhausted:
                    is_exhausted = True
                    self._status.degraded(f"cannot accept connections: {exc.strerror}")
                    log.warning(
                        "cannot accept connections", extra={"listener": self.name, "reason": exc.strerror}
                    )
                self.connections.evict_idle()
                await trio.sleep(ACCEPT_PAUSE_S)
                continue
            if is_exhausted:
                is_exhausted = False
                self._status.ready()
            if self._open < self._max_connections or self.connections.evict_idle():
                self._open += 1  # before its task runs, so that the limit holds
                serving.start_soon(self._serve, stream, peer)
            else:
                self._metrics.connections_rejected[self.name] += 1
                serving.start_soon(self._reject, stream)

    async def _serve(self, stream: trio.abc.Stream, peer: str) -> None:
        counts = self._metrics
        counts.connections_accepted[self.name] += 1
        counts.connections[self.name] += 1
        try:
            if self._tls is not None:
                assert isinstance(stream, SocketStream)  # memory streams, in tests, have no TLS
                stream = TlsStream(stream, self._tls, server_side=True)
            await serve_connection(
                stream, self._handler, self._limits, peer=peer, connections=self.connections
            )
        finally:
            counts.connections[self.name] -= 1
            self._open -= 1

    async def _reject(self, stream: trio.abc.Stream) -> None:
        """503 where that is cheap: not after a TLS handshake, and not for a flood."""
        if self._tls is not None or self._refusing >= MAX_REFUSING:
            await trio.aclose_forcefully(stream)
            return
        self._refusing += 1
        try:
            await refuse_connection(stream, self._handler.refusal(503, "too many connections"))
        finally:
            self._refusing -= 1


def close_all(acceptors: Sequence[Acceptor]) -> None:
    for acceptor in acceptors:
        acceptor.close()
