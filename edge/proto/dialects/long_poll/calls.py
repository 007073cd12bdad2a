"""The requests that a foreign hub has given to an edge: whose they are, what they are answered with, and when.

Hubs put the requests of many clients into one session, so JSON-RPC ids repeat: inwards each request has an id of
ours, outwards its own id and the hub's `request_id` come back. Each `request_id` gets exactly one answer, also
where there is nothing to say. Source: as `frames.py`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge.errors import BadMessage
from edge.proto.dialect import Command, Deliver, Remark
from edge.proto.dialects.long_poll import frames
from edge.proto.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Id,
    Notification,
    Request,
    Response,
    decode,
    encode_error,
    encode_notification,
)
from edge.proto.jsontext import Raw, dumps, members, replace_members
from edge.proto.mcp import SERVER_TIMED_OUT, SERVER_UNAVAILABLE

REMEMBER_S: Final = 300.0
REMEMBER_IDS: Final = 1024
REMEMBER_CHARS: Final = 4 * 1024 * 1024

_ANSWER_HEAD: Final = re.compile(
    r'\{"jsonrpc":"2\.0","id":([0-9]+)(?=,"(?:result|error)":)'
)  # as we write them


@dataclass(slots=True)
class ToPost:
    """An answer for the hub; `instead` is a short one, should the hub refuse it. After `until` nobody waits for it."""

    body: str
    until: float
    instead: str | None = None


@dataclass(slots=True)
class OpenCall:
    request_id: str
    id: Id
    method: str
    give_up_at: float
    until: float


@dataclass(slots=True)
class Answered:
    at: float
    body: str | None  # None: it was too much to keep


class Calls:
    """`give_up_s` after its arrival a call is answered with an error, and `wait_s` after it nobody waits."""

    def __init__(self, *, give_up_s: float, wait_s: float, max_message_bytes: int) -> None:
        self._give_up_s = give_up_s
        self._wait_s = wait_s
        self._max_bytes = max_message_bytes
        self._last = 0
        self._open: dict[Id, OpenCall] = {}  # by our id; in order of arrival
        self._running: set[str] = set()  # request ids of `_open`
        self._answered: dict[str, Answered] = {}  # oldest first
        self._kept_chars = 0

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def next_give_up(self) -> float | None:
        return next((call.give_up_at for call in self._open.values()), None)

    def take(self, found: frames.Envelope, *, now: float, refuse: bool = False) -> Sequence[Command | ToPost]:
        """What follows from a request of the hub. `refuse`: we are about to leave, nothing new is begun."""
        self._forget_old(now)
        request_id, text = found
        if request_id in self._running:
            return [Remark("the hub gave a request again while it runs", "info")]
        before = self._answered.get(request_id)
        if before is not None:
            told = before.body
            if told is None:
                lost = encode_error(None, INTERNAL_ERROR, "answered before; the answer is not kept")
                told = frames.reply_body(request_id, lost)
            return [ToPost(told, now + self._wait_s)]
        try:
            message = self._decode(text)
        except BadMessage as exc:
            return [self._answer(request_id, encode_error(exc.id, exc.code, str(exc)), now)]
        if isinstance(message, Notification):
            passed = self._notify(message, text or "", now)
            return [*passed, self._answer(request_id, "{}", now)]
        if isinstance(message, Response):
            error = encode_error(message.id, INVALID_REQUEST, "a response, where a request was awaited")
            return [self._answer(request_id, error, now)]
        if refuse:
            error = encode_error(message.id, SERVER_UNAVAILABLE, "not sent: the edge is stopping")
            return [self._answer(request_id, error, now)]
        self._last += 1
        ours = str(self._last)
        self._open[ours] = OpenCall(
            request_id, message.id, message.method, now + self._give_up_s, now + self._wait_s
        )
        self._running.add(request_id)
        return [Deliver(replace_members(text or "", {"id": ours}))]

    def send(self, text: str, *, now: float) -> Sequence[Command | ToPost]:
        """What follows from a message of ours: an answer to what was asked, or something this dialect cannot carry."""
        head = _ANSWER_HEAD.match(text)
        if head is None:
            message = decode(text)
            if isinstance(message, Request):
                told = "a request to the client cannot go over a long-poll link"
                return [Deliver(encode_error(message.id, METHOD_NOT_FOUND, told))]
            if isinstance(message, Notification):
                return [Remark("notifications to the client cannot go over a long-poll link", "debug")]
            ours = message.id
        else:
            ours = head[1]
        call = None if ours is None else self._close(ours)
        if call is None:
            return ()
        if head is not None:
            text = f'{{"jsonrpc":"2.0","id":{call.id}{text[head.end() :]}'
        else:
            text = replace_members(text, {"id": call.id})
        return [self._answer(call.request_id, text, now, call)]

    def give_up(self, now: float) -> Sequence[Command | ToPost]:
        """Ends the calls that have waited so long that the hub is about to give up itself."""
        found: list[Command | ToPost] = []
        while self._open:
            ours, call = next(iter(self._open.items()))
            if call.give_up_at > now:
                break
            self._close(ours)
            told = f"no answer in {self._give_up_s:g} s, and the hub waits no longer"
            if call.method != "initialize":  # MCP: must not be cancelled
                found.append(self._cancelled(ours, told))
            error = encode_error(call.id, SERVER_TIMED_OUT, told)
            found.append(self._answer(call.request_id, error, now, call))
        return found

    def _decode(self, text: str | None) -> Request | Notification | Response:
        if text is None:
            raise BadMessage(INVALID_REQUEST, "there is no request")
        try:
            return decode(text)
        except BadMessage:
            found = members(text)
            if "id" not in found or found["id"].value is not None or "method" not in found:
                raise
            return decode(replace_members(text, {"id": None}))  # the real edge: null is as good as none

    def _notify(self, message: Notification, text: str, now: float) -> Sequence[Command | ToPost]:
        if message.method != "notifications/cancelled":
            return [Deliver(replace_members(text, {"id": None}))]
        # An id that several clients use at the moment says nothing about whose call is meant.
        wanted = _request_id(message.params)
        meant = [ours for ours, call in self._open.items() if call.id == wanted]
        if len(meant) != 1 or self._open[meant[0]].method == "initialize":
            return ()
        call = self._close(meant[0])
        assert call is not None
        error = encode_error(call.id, INTERNAL_ERROR, "cancelled by the client")
        return [
            self._cancelled(meant[0], "cancelled by the client"),
            self._answer(call.request_id, error, now, call),
        ]

    def _cancelled(self, ours: Id, reason: str) -> Deliver:
        params = f'{{"requestId":{ours},"reason":{dumps(reason)}}}'
        return Deliver(encode_notification("notifications/cancelled", params))

    def _close(self, ours: Id) -> OpenCall | None:
        call = self._open.pop(ours, None)
        if call is not None:
            self._running.discard(call.request_id)
        return call

    def _answer(self, request_id: str, text: str, now: float, call: OpenCall | None = None) -> ToPost:
        id_text = None if call is None else call.id
        short = encode_error(id_text, INTERNAL_ERROR, "the answer is larger than the hub takes")
        if _size(text) > self._max_bytes:
            text = short
        body = frames.reply_body(request_id, text)
        self._remember(request_id, body, now)
        until = now + self._wait_s if call is None else max(call.until, now + 5.0)
        return ToPost(body, until, frames.reply_body(request_id, short))

    def _remember(self, request_id: str, body: str, now: float) -> None:
        self._answered[request_id] = Answered(now, body)
        self._kept_chars += len(body)
        if self._kept_chars > REMEMBER_CHARS:
            for old in self._answered.values():
                if self._kept_chars <= REMEMBER_CHARS:
                    break
                self._drop_text(old)
        if len(self._answered) > REMEMBER_IDS:
            self._drop_text(self._answered.pop(next(iter(self._answered))))

    def _forget_old(self, now: float) -> None:
        while self._answered:
            request_id, oldest = next(iter(self._answered.items()))
            if now - oldest.at < REMEMBER_S:
                break
            self._drop_text(oldest)
            del self._answered[request_id]

    def _drop_text(self, old: Answered) -> None:
        self._kept_chars -= len(old.body or "")
        old.body = None


def _request_id(params: Raw | None) -> Id | None:
    """`requestId` as its JSON text."""
    if params is None or "requestId" not in params.value:
        return None
    member = members(params.text)["requestId"]
    return params.text[member.start : member.end]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
