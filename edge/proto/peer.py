"""One end of a JSON-RPC conversation over a duplex pipe: ids out, answers in, cancellation, progress.

Sans-IO: it gives texts to send and says to whom a received message belongs. The owner of an open request is
whatever the driver waits with. Source: MCP 2025-11-25, "Cancellation" and "Progress".
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge.errors import LocalProtocolError
from edge.printable import cut
from edge.proto.jsonrpc import (
    Id,
    Message,
    Notification,
    Request,
    Response,
    encode_notification,
    encode_request,
)
from edge.proto.jsontext import members, quote, replace_members

T = TypeVar("T")


class TooManyOpen(LocalProtocolError):
    """`max_open` requests are unanswered; nothing was allotted."""

    def __init__(self, max_open: int) -> None:
        super().__init__(f"{max_open} requests are open already")
        self.max_open = max_open


@dataclass(slots=True)
class Answered(Generic[T]):
    """The answer to one of our requests, which is closed by it."""

    owner: T
    response: Response


@dataclass(slots=True)
class Told(Generic[T]):
    """A notification; `owner` is set if it is progress on a request that is open."""

    notification: Notification
    owner: T | None


@dataclass(slots=True)
class Asked:
    """A request of the other end, with its own id."""

    request: Request


@dataclass(slots=True)
class Stray:
    """Belongs to nothing that is open.

    `is_late` if it is about a request that once was (cancelled, or answered before): that is how things go,
    and nothing to warn about.
    """

    text: str
    is_late: bool


class Peer(Generic[T]):
    """Our requests that wait for an answer, and what comes in.

    Ids are integers from 1 and never used again; request 7's progress token is `"p7"`. An answer must have
    the id's very text: `"7"` or `7.0` does not answer `7`.
    """

    def __init__(self, *, max_open: int = 4096) -> None:
        self._max_open = max_open
        self._last = 0
        self._owners: dict[Id, T] = {}
        self._listeners: dict[str, T] = {}  # by progress token
        self._not_cancellable: frozenset[Id] = frozenset()

    @property
    def open_count(self) -> int:
        return len(self._owners)

    def owners(self) -> Collection[T]:
        """Those that wait, oldest first."""
        return self._owners.values()

    def open(self, owner: T, method: str, params: str | None, *, progress: bool) -> tuple[Id, str]:
        """Allots an id; returns it and the request's text. `progress` puts our token into `params._meta`.

        Raises: TooManyOpen; BadMessage if a token is to be put into params that have no room for one.
        """
        if len(self._owners) >= self._max_open:
            raise TooManyOpen(self._max_open)
        number = self._last + 1
        id = str(number)  # noqa: A001  JSON-RPC's word
        if progress:
            token = f"p{number}"
            params = _with_token(params, token)
            self._listeners[token] = owner
        self._last = number
        self._owners[id] = owner
        if method == "initialize":
            self._not_cancellable |= {id}
        return id, encode_request(id, method, params)

    def cancel(self, id: Id, reason: str) -> str | None:  # noqa: A002  JSON-RPC's word
        """Forgets the request; returns the notification to send, or None if it is not open any more.

        Also None for `initialize`, which is forgotten, but must not be cancelled on the wire.
        """
        if id not in self._owners:
            return None
        is_cancellable = id not in self._not_cancellable
        self._forget(id)
        if not is_cancellable:
            return None
        return encode_notification(
            "notifications/cancelled", f'{{"requestId":{id},"reason":{quote(reason)}}}'
        )

    def receive(self, message: Message) -> Answered[T] | Told[T] | Asked | Stray:
        """Says whose `message` is; an answer closes its request."""
        if isinstance(message, Response):
            return self._answer(message)
        if isinstance(message, Request):
            return Asked(message)
        if message.method == "notifications/progress":
            return self._progress(message)
        return Told(message, None)

    def abandon(self) -> list[T]:
        """The pipe is gone: all that still wait, oldest first. The table is empty after it."""
        owners = list(self._owners.values())
        self._owners.clear()
        self._listeners.clear()
        self._not_cancellable = frozenset()
        return owners

    def _forget(self, id: Id) -> T:  # noqa: A002  JSON-RPC's word
        if self._listeners:
            self._listeners.pop(f"p{id}", None)
        if id in self._not_cancellable:
            self._not_cancellable -= {id}
        return self._owners.pop(id)

    def _answer(self, response: Response) -> Answered[T] | Stray:
        id = response.id  # noqa: A001  JSON-RPC's word
        if id is None:
            assert response.error is not None
            return Stray(f"an error without an id: {cut(response.error.message, 200)}", is_late=False)
        if id not in self._owners:
            return Stray(f"an answer to request {cut(id, 64)}, which is not open", is_late=self._was_open(id))
        return Answered(self._forget(id), response)

    def _progress(self, notification: Notification) -> Told[T] | Stray:
        token = None if notification.params is None else notification.params.value.get("progressToken")
        if type(token) is not str:
            return Stray("progress without a token of ours", is_late=False)
        if token not in self._listeners:
            is_late = token[:1] == "p" and self._was_open(token[1:])
            return Stray(f"progress for {cut(token, 64)!r}, which is not open", is_late=is_late)
        return Told(notification, self._listeners[token])

    def _was_open(self, id: Id) -> bool:  # noqa: A002  JSON-RPC's word
        # As long as our longest id at most: int() refuses thousands of digits.
        return (
            id.isascii() and id.isdecimal() and len(id) <= len(str(self._last)) and 0 < int(id) <= self._last
        )


def _with_token(params: str | None, token: str) -> str:
    if params is None:
        return f'{{"_meta":{{"progressToken":"{token}"}}}}'
    meta = members(params).get("_meta")
    if meta is None:
        return replace_members(params, {"_meta": f'{{"progressToken":"{token}"}}'})
    edited = replace_members(params[meta.start : meta.end], {"progressToken": f'"{token}"'})
    return params[: meta.start] + edited + params[meta.end :]
