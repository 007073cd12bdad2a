"""A conversation with a server over Streamable HTTP: each message is a POST, answered by JSON or events.

A call is one task: it posts, reads until the response with its id, and tells its caller what comes before.
`listen` keeps the GET stream of the session that is in force; progress that a server sends there is handed
to the call it belongs to, which delivers it itself. A session begins when `initialize` is sent.
Source: MCP 2025-03-26, 2025-06-18 and 2025-11-25, Transports.
"""

import logging
import random
from collections import deque
from functools import partial

import trio

from edge.backoff import Backoff
from edge.config.model import BackoffConfig
from edge.errors import (
    BadMessage,
    Gone,
    RemoteProtocolError,
    RpcError,
    SessionLost,
    Unavailable,
    UpstreamError,
)
from edge.net.http_client import BadAnswer, Exchange
from edge.parts.channel import Inbound, Notify
from edge.parts.http_call import HttpCall, HttpSession, Trail
from edge.parts.questions import Askable, Caller, Questions
from edge.parts.server_http import (
    EVENTS,
    JSON,
    ServerHttp,
    answer_in,
    is_sure_loss,
    loss_reason,
    loss_reason_of,
    media_type,
    messages_in,
)
from edge.proto.jsonrpc import (
    Id,
    Message,
    Request,
    Response,
    encode_error,
    encode_notification,
    encode_result,
    may_be_answer,
)
from edge.proto.jsontext import Raw
from edge.proto.mcp import CANCELLED, H_SESSION, NEWEST_LEGACY
from edge.proto.peer import Peer, Told, TooManyOpen
from edge.proto.questions import CAPABILITY_OF
from edge.proto.sse import SseDecoder, SseEvent
from edge.scopes import goodbye

log = logging.getLogger("edge.upstream")

SAY_S = 10.0  # for a message that has no answer to be taken
UNDECIDED_BYTES = 4096  # of white space, before a body that does not say what it is counts as JSON
SKIPPED_EVENTS = frozenset({"ping", "keepalive", "heartbeat"})
MAX_FAILED_RESUMES = 3
EVENT_EXCERPT_CHARS = 200
MAX_EMPTY_RESUMES = 100  # a server may let us poll, but not for ever without a word
NO_PUSH = frozenset(
    {400, 401, 403, 404, 405, 406, 415, 501}
)  # answers to GET that say: I have no such stream


class StreamableChannel:
    """Implements `Channel`. `listen` runs beside its users, `end` is called when they are done."""

    first_version = NEWEST_LEGACY
    can_ask = True
    is_suspended = False

    def __init__(self, http: ServerHttp, inbound: Inbound, reconnect: BackoffConfig) -> None:
        self._http = http
        self._server = http.name
        self._inbound = inbound
        self._reconnect = reconnect
        self._peer: Peer[HttpCall] = Peer()
        self._session = HttpSession()
        self._questions = Questions(self._peer.owners, self._replied)

    async def request(
        self, method: str, params: str | None, *, notify: Notify | None = None, progress: bool = False
    ) -> Raw:
        call = HttpCall(notify)
        try:
            call.id, text = self._peer.open(call, method, params, progress=progress and notify is not None)
        except TooManyOpen as exc:
            raise Unavailable(self._server, "too many requests are open") from exc
        if method == "initialize":
            self._session.end()
            self._session = HttpSession()
        session = self._session
        between = None
        if progress or (isinstance(notify, Askable) and notify.may_be_asked):
            between = partial(self._deliver, call, session)
        try:
            with self._http.pool.exchange(between) as exchange:
                call.exchange = exchange
                try:
                    response = await self._ask(exchange, session, call, text)
                except trio.Cancelled:
                    farewell = self._peer.cancel(call.id, "the caller gave up")
                    if farewell is not None and exchange.is_written:
                        with goodbye(1.0):
                            await self._say(farewell, session)
                    raise
        finally:
            self._peer.cancel(call.id, "")  # forgets it, if nothing has yet
            call.exchange = None
            if call.questions is not None:
                self._questions.left(call)
            if call.replies:
                with goodbye(1.0):
                    await self._post_replies(call, session)
        await call.pass_on()
        if response.error is not None:
            error = response.error
            answer = RpcError(error.code, error.message, error.data)
            if session.id is not None and method != "initialize" and (reason := loss_reason_of(error)):
                raise SessionLost(self._server, reason, answer=None if is_sure_loss(error) else answer)
            raise answer
        if response.result is None:
            raise AssertionError("an answer has a result or an error")
        return response.result

    async def notify(self, method: str, params: str | None) -> None:
        session = self._session
        await self._post(encode_notification(method, params), session)
        if method == "notifications/initialized":
            session.has_begun.set()

    def negotiated(self, version: str) -> None:
        self._session.version = version

    async def end(self) -> None:
        """Tell the server that the session is over. Best effort, within the time the caller gives."""
        session = self._session
        session.end()
        if session.id is None:
            return
        try:
            with self._http.pool.exchange() as exchange:
                await self._http.delete(exchange, session.fields())
                await self._http.read_refusal(exchange)
        except UpstreamError as exc:
            log.debug("session not deleted", extra={"server": self._server, "reason": str(exc)})

    async def _deliver(self, call: HttpCall, session: HttpSession) -> None:
        """In the call's own task: what is there for its client, and what came from it."""
        if call.notes:
            await call.pass_on()
        if call.replies:
            await self._post_replies(call, session)

    async def _post_replies(self, call: HttpCall, session: HttpSession) -> None:
        while call.replies:
            await self._say(call.replies.popleft(), session)

    def _replied(self, caller: Caller, text: str) -> None:
        """The answer to what the server has asked: the call that it belongs to posts it."""
        assert isinstance(caller, HttpCall)
        if caller.replies is None:
            caller.replies = deque()
        caller.replies.append(text)
        caller.nudge()

    async def _ask(self, exchange: Exchange, session: HttpSession, call: HttpCall, text: str) -> Response:
        await self._http.post(exchange, self._http.target, session.fields(), text)
        if exchange.status // 100 != 2:
            return await self._refused(exchange, session, call.id)
        self._adopt(exchange, session)
        kind = media_type(exchange.fields)
        first = b""
        if kind == JSON:
            body = await self._http.read_all(exchange)
            if body[:1] == b"{":
                return await self._answer_in_body(body, session, call)
            kind, first = kind_of(body), body
        elif kind != EVENTS:
            kind = ""
            while not kind and len(first) < UNDECIDED_BYTES and (chunk := await self._http.read(exchange)):
                first += chunk
                kind = kind_of(first)
        if kind == EVENTS:
            return await self._follow(exchange, first, session, call)
        return await self._answer_in_body(first + await self._http.read_all(exchange), session, call)

    async def _answer_in_body(self, body: bytes, session: HttpSession, call: HttpCall) -> Response:
        text = self._http.decode(body)
        if not text.strip():
            raise BadAnswer(self._server, "the answer is empty")
        try:
            messages = messages_in(text)
        except BadMessage as exc:
            raise BadAnswer(self._server, f"the answer is no JSON-RPC message: {exc}") from exc
        response: Response | None = None
        for message in messages:
            response = await self._take(message, session, call) or response
        if response is None:
            raise BadAnswer(self._server, "the answer has another id than the request")
        return response

    async def _follow(
        self, exchange: Exchange, first: bytes, session: HttpSession, call: HttpCall
    ) -> Response:
        """The response from an event stream, which is taken up again where it broke if the server lets us."""
        trail = Trail()
        response = await self._read_events(exchange, first, session, call, trail)
        n_failed = n_empty = 0
        while response is None:
            if trail.last_event_id is None:
                raise Gone(self._server, "the event stream ended before the response")
            with trio.move_on_after(trail.retry_s):
                await self._http.pool.wait_closed()
                raise Gone(self._server, "the conversation ended before the response")
            n_before = trail.n_events
            try:
                response = await self._resume(session, call, trail)
            except BadAnswer:
                raise
            except UpstreamError as exc:
                n_failed += 1
                # A lost session too: the call may have run, so it must not be repeated in a new one.
                if n_failed == MAX_FAILED_RESUMES or isinstance(exc, SessionLost):
                    raise Gone(self._server, f"a broken event stream cannot be resumed: {exc.text}") from exc
                continue
            n_failed = 0
            n_empty = 0 if trail.n_events > n_before else n_empty + 1
            if response is None and n_empty == MAX_EMPTY_RESUMES:
                raise Gone(self._server, "a resumed event stream keeps ending without the response")
        return response

    async def _resume(self, session: HttpSession, call: HttpCall, trail: Trail) -> Response | None:
        between = partial(self._deliver, call, session) if call.notify is not None else None
        with self._http.pool.exchange(between) as exchange:
            call.exchange = exchange
            fields = session.fields() | trail.fields()
            await self._http.get(exchange, self._http.target, fields)
            if exchange.status // 100 != 2:
                return await self._refused(exchange, session, call.id)
            if media_type(exchange.fields) != EVENTS:
                raise BadAnswer(self._server, "a resumed event stream is no event stream")
            return await self._read_events(exchange, b"", session, call, trail)

    async def _read_events(
        self, exchange: Exchange, first: bytes, session: HttpSession, call: HttpCall | None, trail: Trail
    ) -> Response | None:
        """Take the stream's messages until the response to `call`, or the stream's end: None."""
        decoder = SseDecoder(self._http.max_bytes)
        decoder.last_event_id = trail.last_event_id
        while True:
            try:
                chunk = first or await self._http.read(exchange)
                events = decoder.feed(chunk) if chunk else decoder.close()
            except RemoteProtocolError as exc:
                raise BadAnswer(self._server, f"the event stream cannot be read: {exc}") from exc
            except BadAnswer:
                raise
            except Gone:
                return None
            first = b""
            trail.note(decoder)
            trail.n_events += len(events)
            for event in events:
                response = await self._take_event(event, session, call)
                if response is not None:
                    exchange.leave()
                    return response
            if not chunk:
                return None

    async def _take_event(
        self, event: SseEvent, session: HttpSession, call: HttpCall | None
    ) -> Response | None:
        text = event.data.strip()
        if not text or text == "[DONE]" or event.event in SKIPPED_EVENTS:
            return None
        if event.event == "error":
            said = self._http.redactor.excerpt(text, EVENT_EXCERPT_CHARS)
            raise BadAnswer(self._server, f"the event stream reports an error: {said}")
        try:
            messages = messages_in(text)
        except BadMessage as exc:
            is_ours = call is not None and event.event == "message" and exc.id in (None, call.id)
            if is_ours and may_be_answer(text):
                raise BadAnswer(self._server, f"an event is no JSON-RPC message: {exc}") from exc
            log.debug("event skipped", extra={"server": self._server, "reason": str(exc)})
            return None
        response: Response | None = None
        for message in messages:
            response = await self._take(message, session, call) or response
        return response

    async def _take(self, message: Message, session: HttpSession, call: HttpCall | None) -> Response | None:
        """Do with a message what its kind asks for; the response to `call` is given back."""
        if isinstance(message, Response):
            if call is not None and message.id in (call.id, None):
                return message  # without an id: it could not read our request, nobody else can be meant
            log.debug("stray answer", extra={"server": self._server})
        elif isinstance(message, Request):
            await self._answer(message, session, call)
        elif message.method == "notifications/progress":
            told = self._peer.receive(message)
            if isinstance(told, Told) and told.owner is not None:
                if told.owner is call:
                    call.offer(message)
                    await call.pass_on()
                elif not told.owner.offer(message):
                    self._http.metrics.notes_dropped += 1
        elif message.method == "notifications/message" and call is not None and call.notify is not None:
            await call.notify(message)
        elif message.method != CANCELLED or not self._questions.taken_back(message):
            self._inbound.told(message)
        return None

    async def _answer(self, request: Request, session: HttpSession, call: HttpCall | None) -> None:
        """A request of the server: on a call's own stream it belongs to that call."""
        try:
            if request.method in CAPABILITY_OF:
                self._questions.ask(request, call)
                if call is not None:
                    await call.pass_on()
                return
            text = encode_result(request.id, self._inbound.asked(request))
        except RpcError as exc:
            text = encode_error(request.id, exc.code, exc.message, exc.data)
        await self._say(text, session)

    async def _refused(self, exchange: Exchange, session: HttpSession, request_id: Id) -> Response:
        """An answer that is not 2xx: a JSON-RPC error with our id is an answer, all else raises."""
        text = await self._http.read_refusal(exchange)
        if session.id is not None and (reason := loss_reason(exchange.status, text)) is not None:
            raise SessionLost(self._server, reason)
        answer = answer_in(text, request_id)
        if answer is not None:
            return answer
        raise self._http.refusal(exchange, text)

    def _adopt(self, exchange: Exchange, session: HttpSession) -> None:
        """A good answer may name the session; a late one of an earlier session has no say."""
        named = exchange.fields.get(H_SESSION)
        if named and named.isascii() and named.isprintable() and " " not in named:
            session.id = named

    async def _post(self, text: str, session: HttpSession) -> None:
        with self._http.pool.exchange() as exchange:
            await self._http.post(exchange, self._http.target, session.fields(), text)
            if exchange.status // 100 != 2:
                await self._refused(exchange, session, "")
            self._adopt(exchange, session)
            exchange.leave()  # what it says besides is of no use

    async def _say(self, text: str, session: HttpSession) -> None:
        """Send what nobody waits for: that it failed is for the log, and a stream must not stand still over it."""
        try:
            with trio.move_on_after(SAY_S):
                await self._post(text, session)
        except UpstreamError as exc:
            log.debug("message not sent", extra={"server": self._server, "reason": str(exc)})

    async def listen(self) -> None:
        """Keep the GET stream of whichever session is in force; never returns, nor fails with the server."""
        while True:
            session = self._session
            await session.has_begun.wait()
            if not session.is_over.is_set():
                with session.listening:
                    await self._listen_in(session)
                await session.is_over.wait()
            if self._session is session:  # and none follows: the context is on its way out
                await trio.sleep_forever()

    async def _listen_in(self, session: HttpSession) -> None:
        config = self._reconnect
        backoff = Backoff(config.first_s, config.limit_s, rng=random.random)
        trail = Trail(retry_s=0.0)
        while True:
            try:
                if not await self._listen_once(session, trail, backoff):
                    return
            except UpstreamError as exc:
                log.debug("notification stream broken", extra={"server": self._server, "reason": str(exc)})
                self._inbound.doubted()
            await trio.sleep(max(trail.retry_s, backoff.next(trio.current_time())))

    async def _listen_once(self, session: HttpSession, trail: Trail, backoff: Backoff) -> bool:
        """Open the stream and read it to its end; False if the server has none."""
        fields = session.fields() | trail.fields()
        with self._http.pool.exchange() as exchange:
            await self._http.get(exchange, self._http.target, fields)
            if exchange.status in NO_PUSH:
                return False
            if exchange.status // 100 != 2:
                raise self._http.refusal(exchange, "")
            if media_type(exchange.fields) != EVENTS:
                return False
            backoff.started(trio.current_time())
            await self._read_events(exchange, b"", session, None, trail)
            return True


def kind_of(body: bytes) -> str:
    """The media type of a body that begins so, whatever its head says; empty if too little of it is there."""
    start = body.lstrip()
    if start.startswith((b"event:", b"data:")):
        return EVENTS
    return "" if b"event:".startswith(start) or b"data:".startswith(start) else JSON
