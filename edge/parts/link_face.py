"""The face of one logical link: what comes over it is served as from any client, with one session for the link.

`receive` is synchronous and called by the link's reader; each request becomes a task of `run`. A short way for a
lone call: its answer is put into the outbox in the very step that got it from the server. The session begins with
`initialize` and ends with the link; another `initialize` replaces it and lets calls in flight go on, because behind
some gateways several clients share one link. Leaving `run` cancels every call, and their servers are told.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import trio

from edge.errors import BadMessage, RpcError, Unavailable
from edge.metrics import Metrics
from edge.parts.answering import answer, error_text, open_session, taken_id_text
from edge.parts.flag import Flag
from edge.parts.gateway import Gateway
from edge.parts.link import Link
from edge.parts.questions import Unanswered
from edge.parts.relay import Call
from edge.parts.sessions import InFlight, LiveSession, Sessions, TooManySessions
from edge.parts.views import View
from edge.proto.classify import Ignored, Initialize, Refused, classify
from edge.proto.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    ErrorObject,
    Id,
    Notification,
    Request,
    Response,
    decode,
    encode_error,
    encode_notification,
    encode_result,
    may_be_answer,
)
from edge.proto.jsontext import is_array, one_line
from edge.proto.mcp import SERVER_UNAVAILABLE, cancelled_id, label_of

log = logging.getLogger("edge.link")

BUSY = '{"reason":"busy"}'
STOPPING = '{"reason":"stopping"}'


class LinkFace:
    """Serves what arrives over `link` from the view of `view_key`. At most `max_calls` at once.

    `can_ask`: requests of our servers can go over the link, to the other end's client.
    """

    # As `Waiting` (parts/sessions.py): sessions drain after our calls. There is nothing to keep alive by ticks.
    PATIENCE_S: float = 1e9
    KEEPALIVE_S: float = 1e9

    def __init__(
        self,
        link: Link,
        gateway: Gateway,
        sessions: Sessions,
        view_key: str | None,
        *,
        metrics: Metrics,
        max_calls: int,
        extra: Mapping[str, object],
        can_ask: bool = False,
    ) -> None:
        self._link = link
        self._gateway = gateway
        self._sessions = sessions
        self._view_key = view_key
        self._metrics = metrics
        self._max_calls = max_calls
        self._extra = extra
        self._can_ask = can_ask
        self._questions = Unanswered()  # the link's, whichever session it has
        self._nursery: trio.Nursery | None = None
        self._backlog: list[
            Callable[[], Awaitable[None]]
        ] = []  # what was received before `run` began; `max_calls` bounds it
        self._has_ended = False
        self._calls: dict[Id, InFlight] = {}
        self._session: LiveSession | None = None
        self._is_initialized = False
        self._has_turned = trio.Event()  # another session, or it is initialized now
        self._is_draining = False
        self._is_idle = Flag()
        self._is_idle.set()
        self._has_dropped = False

    @property
    def inflight(self) -> int:
        return len(self._calls)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; what was received before is served first."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for serve in self._backlog:
                    nursery.start_soon(serve)
                self._backlog.clear()
                task_status.started()
                await self._tell_news()
        finally:
            self._nursery, self._has_ended = None, True
            if self._session is not None:
                self._sessions.end(self._session, "link_ended")

    async def drain(self) -> None:
        """Take no more requests, and return when those in flight have been answered."""
        self._is_draining = True
        await self._is_idle.wait()  # nothing is taken any more: idle once is idle for good

    async def tick(self) -> None:
        """The link has its own signs of life."""

    # -- what comes in

    def receive(self, text: str) -> None:
        """One message. Never waits, never raises for what it holds."""
        try:
            message = decode(text)
        except BadMessage as exc:
            self._garbled(text, exc)
            return
        match message:
            case Request():
                self._request(message)
            case Notification():
                self._told(message)
            case _:
                self._questions.answered(message)

    def _request(self, request: Request) -> None:
        session = self._live_session()
        verdict = classify(
            request,
            session_named=session is not None,
            session_version=session.state.version if session is not None else None,
            version_header=None,
        )
        view = self._gateway.view(self._view_key)
        if isinstance(verdict, Refused):
            refusal = encode_error(request.id, verdict.code, verdict.text, verdict.data)
        elif view is None:
            refusal = error_text(request.id, Unavailable(self._view_key or "gateway", "not served here"))
        elif self._is_draining or self._has_ended:
            refusal = encode_error(request.id, SERVER_UNAVAILABLE, "mcp-edge is stopping", STOPPING)
        elif request.id in self._calls:
            refusal = taken_id_text(request.id)
        elif len(self._calls) >= self._max_calls:
            text = f"{len(self._calls)} calls are in flight over this link, which is its limit"
            refusal = encode_error(request.id, SERVER_UNAVAILABLE, text, BUSY)
        else:
            flight = self._enter(request.id, session)
            serve = self._initialize if isinstance(verdict, Initialize) else self._serve
            if self._nursery is not None:
                self._nursery.start_soon(serve, request, flight, view, session)
            else:
                self._backlog.append(partial(serve, request, flight, view, session))
            return
        self._metrics.request(label_of(request.method), "error", 0.0)
        self._put_unless_stuck(refusal)

    def _told(self, message: Notification) -> None:
        session = self._live_session()
        verdict = classify(
            message,
            session_named=session is not None,
            session_version=session.state.version if session is not None else None,
            version_header=None,
        )
        if isinstance(verdict, Ignored) and message.method != "notifications/cancelled":
            return
        self._metrics.request(label_of(message.method), "success", 0.0)
        if message.method == "notifications/initialized":
            self._is_initialized = True
            self._turn()
        elif message.method == "notifications/cancelled" and message.params is not None:
            flight = self._calls.get(cancelled_id(message.params.text) or "")
            if flight is not None:
                flight.cancel()

    def _garbled(self, text: str, exc: BadMessage) -> None:
        """Something that is no message. Only what can have been meant as a request is answered."""
        self._metrics.request("invalid", "error", 0.0)
        if is_array(text):
            self._put_unless_stuck(
                encode_error(None, INVALID_REQUEST, "batches are not served over a link: send one by one")
            )
        elif exc.id is not None and not may_be_answer(text):
            self._put_unless_stuck(encode_error(exc.id, exc.code, str(exc)))
        elif exc.id is not None:
            error = ErrorObject(INTERNAL_ERROR, f"the client's answer is not valid: {exc}", None)
            self._questions.answered(Response(exc.id, None, error))
        log.debug("not a message", extra={**self._extra, "reason": str(exc)})

    # -- one request

    def _enter(self, request_id: Id, session: LiveSession | None) -> InFlight:
        flight = InFlight(trio.CancelScope())
        if not self._calls:
            self._is_idle.clear()
            self._sessions.watch(self)
        self._calls[request_id] = flight
        if session is None:
            self._sessions.sessionless.add(flight)
        return flight

    def _leave(self, request_id: Id, flight: InFlight) -> None:
        """Its answer is on its way, or none will be: the id may be used again. A second time changes nothing."""
        if self._calls.get(request_id) is not flight:
            return
        del self._calls[request_id]
        self._sessions.sessionless.discard(flight)
        if not self._calls:
            self._sessions.unwatch(self)
            self._is_idle.set()

    async def _serve(
        self, request: Request, flight: InFlight, view: View, session: LiveSession | None
    ) -> None:
        outbox = self._link.outbox
        is_answered = False

        async def notify(note: Notification) -> None:
            await self._put(encode_notification(note.method, note.params.text if note.params else None))

        def early(result: str) -> None:
            nonlocal is_answered
            if flight.scope.cancel_called or outbox.is_full:
                return
            is_answered = True
            line = one_line(encode_result(request.id, result)).encode()
            outbox.put(line, alone=len(self._calls) == 1)
            self._leave(request.id, flight)

        try:
            ask = self._put if self._can_ask else None
            call = Call(request, view, session=session, flight=flight, notify=notify, early=early, ask=ask)
            text = await answer(call, self._gateway, self._metrics)
            if text is not None and not is_answered:
                await self._put(text)
        except Exception:  # the boundary of a request: a fault in one must not end the link
            log.exception("request failed", extra={**self._extra, "method": label_of(request.method)})
            if not is_answered:
                self._put_unless_stuck(encode_error(request.id, INTERNAL_ERROR, "internal error"))
        finally:
            self._leave(request.id, flight)

    async def _initialize(
        self, request: Request, flight: InFlight, view: View, session: LiveSession | None
    ) -> None:
        """A session for the link. Not under the flight's scope: `initialize` is never cancelled."""
        started = trio.current_time()
        result = "error"
        try:
            fresh, introduction = await open_session(request, view, self._gateway, self._sessions)
            self._take(fresh)
            text = encode_result(request.id, introduction)
            result = "success"
        except RpcError as exc:
            text = error_text(request.id, exc)
        except TooManySessions as exc:
            text = encode_error(request.id, INTERNAL_ERROR, str(exc))
        finally:
            self._leave(request.id, flight)
            self._metrics.request("initialize", result, trio.current_time() - started)
        await self._put(text)

    def _take(self, session: LiveSession) -> None:
        """`session` is the link's from now on, with all that is in flight."""
        old, self._session = self._session, session
        session.calls = self._calls
        session.questions = self._questions
        session.listener = (
            trio.CancelScope()
        )  # in use as long as the link is: it neither expires nor makes room
        self._is_initialized = False
        if old is not None:
            old.calls = {}
            self._sessions.end(old, "client_delete")
        self._turn()

    def _live_session(self) -> LiveSession | None:
        return self._session if self._session is not None and not self._session.ended else None

    # -- what goes out

    async def _tell_news(self) -> None:
        """Lists that changed, resources that were updated, log messages: once the other end is initialized."""
        while True:
            session = self._live_session()
            if session is None or not self._is_initialized:
                await self._has_turned.wait()
                continue
            news = session.take_news()
            for text in news:
                await self._put(text)
            if not news:
                await session.wait_changed()

    def _turn(self) -> None:
        self._has_turned.set()
        self._has_turned = trio.Event()

    async def _put(self, text: str) -> None:
        outbox = self._link.outbox
        if outbox.is_full:
            await outbox.wait_room()
        outbox.put(one_line(text).encode(), alone=len(self._calls) <= 1)

    def _put_unless_stuck(self, text: str) -> None:
        """An answer from the reader, which must not wait: left out for a peer that asks and does not read."""
        if not self._link.outbox.is_stuck:
            self._link.outbox.put(one_line(text).encode())
        elif not self._has_dropped:
            self._has_dropped = True
            log.warning("the other end asks but does not read the answers", extra=self._extra)
