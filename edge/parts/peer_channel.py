"""A channel over a duplex pipe of messages: stdio lines, or HTTP+SSE (posts go out, one stream comes in).

Three parties share it. Callers await `request` in their own tasks; the transport's reader hands every message
to `receive`, which only wakes callers; the transport's writer takes what is due from the `Outbox`. Nothing
here starts a task. When the pipe is gone the transport says so once with `lost`.
"""

import logging
from collections.abc import Callable

import trio

from edge.errors import BadMessage, Gone, RpcError, Unavailable
from edge.metrics_servers import ServerMetrics
from edge.parts.channel import Inbound, Notify, PromptCaller
from edge.parts.flag import Flag
from edge.parts.questions import Caller, Questions
from edge.proto.jsonrpc import (
    INTERNAL_ERROR,
    ErrorObject,
    Id,
    Message,
    Notification,
    Request,
    Response,
    encode_error,
    encode_notification,
    encode_result,
    may_be_answer,
)
from edge.proto.jsontext import Raw, decode_text, one_line
from edge.proto.mcp import CANCELLED, NEWEST_LEGACY
from edge.proto.peer import Answered, Asked, Peer, Stray, Told, TooManyOpen
from edge.proto.questions import CAPABILITY_OF

log = logging.getLogger("edge.upstream")


class Outbox:
    """Messages on their way to the writer, oldest first, bounded in bytes.

    `put` never waits: what has to go out on the way out (a cancellation) can. Those who can wait do so in
    `wait_room` before they put. `take` gives the writer, of which there is one, all there is.

    `try_write` may send one message at once or not at all, never a part of it. It is used for a message that is
    `alone`, and only while the writer sleeps: that saves a turn of the scheduler, which is most of what a single
    call costs. With several at once the writer's batches are cheaper.
    """

    def __init__(self, limit_bytes: int = 4 * 1024 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._lines: list[bytes] = []
        self._bytes = 0
        self._due = trio.Event()
        self._room = Flag()
        self._closed = False
        self.try_write: Callable[[bytes], bool] | None = None  # the writer's to set
        self._writer_sleeps = False
        self.put_count = 0
        self.taken_count = 0

    @property
    def is_full(self) -> bool:
        return self._bytes >= self._limit_bytes

    @property
    def is_stuck(self) -> bool:
        """Far over the limit: even what never waits has been piling up, so the peer does not read."""
        return self._bytes >= 2 * self._limit_bytes

    def put(self, line: bytes, *, alone: bool = False) -> int:
        """Queue one message; its number, to be compared with `taken_count`."""
        self.put_count += 1
        if alone and self._writer_sleeps and self.try_write is not None and self.try_write(line):
            self.taken_count += 1
            return self.put_count
        self._writer_sleeps = False
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) == 1:
            self._due.set()
        return self.put_count

    async def wait_room(self) -> None:
        """Wait until it is not full, or closed."""
        while self.is_full and not self._closed:
            await self._room.wait()

    async def take(self) -> list[bytes]:
        """All messages that are due; waits for at least one."""
        if not self._lines:
            self._due = trio.Event()
            self._writer_sleeps = True
            try:
                await self._due.wait()
            finally:
                self._writer_sleeps = False
        lines, self._lines = self._lines, []  # no checkpoint from here on
        if self.is_full:
            self._room.pulse()
        self._bytes = 0
        self.taken_count += len(lines)
        return lines

    def close(self) -> None:
        """Nobody will take anything any more: wakes those who wait for room."""
        self._closed = True
        self._room.set()


class OpenCall(Caller):
    """One request in flight: what arrived for it and is not yet taken by its caller."""

    __slots__ = ("error", "number", "response", "wake")

    def __init__(self, notify: Notify | None) -> None:
        super().__init__(notify)
        self.number = 0
        self.response: Response | None = None
        self.error: Gone | Unavailable | None = None
        self.wake = trio.Event()

    def nudge(self) -> None:
        self.wake.set()


class PeerChannel:
    """Implements `Channel`; `receive` and `lost` are for the transport that carries it."""

    first_version = NEWEST_LEGACY
    can_ask = True

    def __init__(self, server: str, outbox: Outbox, inbound: Inbound, metrics: ServerMetrics) -> None:
        self._server = server
        self._outbox = outbox
        self._inbound = inbound
        self._metrics = metrics
        self._peer: Peer[OpenCall] = Peer()
        self._lost: str | None = None
        self._has_dropped_answers = False
        self._questions = Questions(self._peer.owners, self._reply)

    @property
    def is_suspended(self) -> bool:
        return False

    async def request(
        self, method: str, params: str | None, *, notify: Notify | None = None, progress: bool = False
    ) -> Raw:
        if self._lost is not None or self._outbox.is_full:
            await self._wait_room()
        call = OpenCall(notify)  # no checkpoint until it waits for the answer
        try:
            request_id, text = self._peer.open(call, method, params, progress=progress and notify is not None)
        except TooManyOpen as exc:
            raise Unavailable(self._server, "too many requests are open") from exc
        call.number = self._outbox.put(one_line(text).encode(), alone=self._peer.open_count == 1)
        try:
            await self._wait_answer(call)
        finally:
            if call.response is None and call.error is None:
                farewell = self._peer.cancel(request_id, "the caller gave up")
                if farewell is not None:
                    self._outbox.put(farewell.encode())
            if call.questions is not None:
                self._questions.left(call)
        if call.error is not None:
            raise call.error
        response = call.response
        if response is None:
            raise AssertionError("woken without an answer")
        if response.error is not None:
            raise RpcError(response.error.code, response.error.message, response.error.data)
        if response.result is None:
            raise AssertionError("an answer has a result or an error")
        return response.result

    async def notify(self, method: str, params: str | None) -> None:
        if self._lost is not None or self._outbox.is_full:
            await self._wait_room()
        self._outbox.put(one_line(encode_notification(method, params)).encode())

    def negotiated(self, version: str) -> None:
        """A pipe has no header to put the version in."""

    def receive(self, message: Message) -> None:
        """Take one message from the server. Synchronous: it wakes callers, and never waits for one."""
        match self._peer.receive(message):
            case Answered(owner, response):
                owner.response = response
                if response.result is not None and isinstance(owner.notify, PromptCaller) and not owner.notes:
                    owner.notify.answered(response.result)
                owner.wake.set()
            case Told(notification, owner):
                self._told(notification, owner)
            case Asked(request):
                self._answer(request)
            case Stray(text, is_late):
                if not is_late:
                    log.debug("stray message", extra={"server": self._server, "reason": text})

    def garbled(self, text: bytes | str, exc: BadMessage) -> bool:
        """A message that is none. If it looks like the answer to an open call, it is: nothing else will come
        for that. Whether a call has ended so."""
        if exc.id is None or not may_be_answer(text if isinstance(text, str) else decode_text(text)):
            return False
        open_count = self._peer.open_count
        error = ErrorObject(INTERNAL_ERROR, f"the server's answer is not valid: {exc}", None)
        self.receive(Response(exc.id, None, error))
        return self._peer.open_count < open_count

    def oversized(self, request_id: Id | None, n_bytes: int) -> None:
        """A message was skipped for its size. If it was an open call's answer, its caller need not wait for more."""
        if request_id is not None:
            text = f"the server's answer has {n_bytes} bytes, which is over the limit"
            self.receive(Response(request_id, None, ErrorObject(INTERNAL_ERROR, text, None)))

    def lost(self, reason: str) -> None:
        """The pipe is gone: every open call ends now, further ones are refused."""
        if self._lost is not None:
            return
        self._lost = reason
        for call in self._peer.abandon():
            if call.number > self._outbox.taken_count:
                call.error = Unavailable(self._server, reason)
            else:
                call.error = Gone(self._server, reason)
            call.wake.set()
        self._outbox.close()

    async def _wait_room(self) -> None:
        await self._outbox.wait_room()
        if self._lost is not None:
            raise Unavailable(self._server, self._lost)

    async def _wait_answer(self, call: OpenCall) -> None:
        while True:
            await call.wake.wait()
            if call.notes:
                await call.pass_on()
            if call.response is not None or call.error is not None:
                return
            call.wake = trio.Event()  # no checkpoint since the notes were seen to be empty

    def _told(self, notification: Notification, owner: OpenCall | None) -> None:
        if owner is None and notification.method == "notifications/message":
            owner = self._only_listener()
        if owner is None or owner.notify is None:
            if notification.method != CANCELLED or not self._questions.taken_back(notification):
                self._inbound.told(notification)
        elif not owner.offer(notification):
            self._metrics.notes_dropped += 1

    def _only_listener(self) -> OpenCall | None:
        """The call that takes notes, if there is one such call and no more."""
        listening = (call for call in self._peer.owners() if call.notify is not None)
        only = next(listening, None)
        return only if next(listening, None) is None else None

    def _answer(self, request: Request) -> None:
        try:
            if request.method in CAPABILITY_OF:
                self._questions.ask(request)
                return
            text = encode_result(request.id, self._inbound.asked(request))
        except RpcError as exc:
            text = encode_error(request.id, exc.code, exc.message, exc.data)
        self._reply(None, text)

    def _reply(self, caller: Caller | None, text: str) -> None:
        """The answer to a request of the server's."""
        if self._lost is not None:
            return
        if not self._outbox.is_stuck:
            self._outbox.put(one_line(text).encode())
        elif not self._has_dropped_answers:
            self._has_dropped_answers = True
            log.warning("server asks but does not read the answers", extra={"server": self._server})
