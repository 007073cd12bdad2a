"""One live conversation with an MCP server, whatever carries it: the protocol between upstream and transport.

`Upstream` (parts/upstream.py) keeps a server up through a `Connect`; stdio, Streamable HTTP and HTTP+SSE
each give one. A channel knows ids, framing and sessions; it does not know what a method means, except that
`initialize` is never cancelled and that log messages may belong to the one call in flight.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from edge.errors import UpstreamError
from edge.proto.jsonrpc import Notification, Request
from edge.proto.jsontext import Raw

Notify = Callable[[Notification], Awaitable[None]]
"""Takes what the server tells about one request, in the caller's own task: a slow client holds up that call
and no other. Never raises for a client that has gone."""


class PromptCaller(ABC):
    """A `notify` that wants the result at once, in the reader's own step, a turn of the scheduler before its task.

    A channel may call `answered`, once, if nothing that belongs before the result waits; the result is returned to
    the caller all the same.
    """

    __slots__ = ()

    @abstractmethod
    async def __call__(self, note: Notification) -> None:
        """As `Notify` has it."""

    @abstractmethod
    def answered(self, result: Raw) -> None:
        """Synchronous; must not raise."""


class Inbound(Protocol):
    """Where a channel hands what belongs to no single request. Synchronous; must not block."""

    def told(self, notification: Notification) -> None:
        """A notification for nobody in particular: a list changed, a resource was updated, a log message."""

    def waiting(self, reason: str) -> None:
        """There is nobody to talk to yet, and nobody is at fault: a link that the other end has to make."""

    def doubted(self) -> None:
        """Something failed that works with a server that is well: look whether this one is."""

    def asked(self, request: Request) -> str:
        """The result's JSON text for a request of the server that is not for a client; raises RpcError to refuse it."""
        raise NotImplementedError


class Channel(Protocol):
    """One end of a conversation that is up. Any number of tasks may call it at once."""

    @property
    def first_version(self) -> str:
        """The revision that `initialize` begins with."""
        raise NotImplementedError

    @property
    def can_ask(self) -> bool:
        """Requests of the server to its client would reach us."""
        raise NotImplementedError

    @property
    def is_suspended(self) -> bool:
        """Nothing can be sent for the moment, and it may be resumed: silence says nothing about the server."""
        raise NotImplementedError

    async def request(
        self, method: str, params: str | None, *, notify: Notify | None = None, progress: bool = False
    ) -> Raw:
        """The result, as received and parsed.

        `progress` asks the server for progress under a token of ours; `notify` then gets
        notifications/progress with that token still in it. Cancelling the caller sends
        notifications/cancelled, never for initialize.
        Raises: RpcError (the server's error, kept), Gone (lost in flight), Unavailable (certainly not
        written), SessionLost.
        """
        raise NotImplementedError

    async def notify(self, method: str, params: str | None) -> None:
        """Send a notification; raises Unavailable, Gone or SessionLost."""

    def negotiated(self, version: str) -> None:
        """After initialize: the version in force, which HTTP names in every further request."""


Connect = Callable[[Inbound], AbstractAsyncContextManager[Channel]]
"""Entering starts the process or the streams, whose tasks live in the context's own nursery; leaving ends
them in order. If the conversation dies by itself, the body is cancelled and UpstreamError raised from the
context, possibly in an exception group."""


class Ended(UpstreamError):
    """It is over, or could not begin: `reason` is fit for clients, `detail` is for log and health.

    `is_told`: whoever ended it says so in the log.
    """

    def __init__(self, server: str, reason: str, detail: str = "", *, is_told: bool = False) -> None:
        super().__init__(server, f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.is_told = is_told

    @classmethod
    def explained(cls, server: str, reason: str, text: str) -> "Ended":
        """`text` is what log and health have in place of reason and detail."""
        ended = cls(server, reason)
        ended.text = text
        return ended
