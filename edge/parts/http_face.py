"""Streamable HTTP for MCP clients: POST, GET and DELETE on `/mcp` and `/servers/NAME/mcp`.

Legacy revisions 2025-03-26 to 2025-11-25 (MCP, Transports). What a POST is, is decided in proto/classify.py; this
file turns that into sessions, calls and answers. A request is one task, the connection's own: it reads, calls
`Gateway.dispatch` and writes. See parts/exchange.py for the form of the answer.
"""

import re
from functools import lru_cache

import trio

from edge.errors import BadMessage, RpcError
from edge.gate.origin import Origins
from edge.metrics import Metrics
from edge.net.http_server import HttpRequest, Refusal, Reply
from edge.parts.answering import answer, error_text, open_session, taken_id_text
from edge.parts.cors import CrossOrigin
from edge.parts.event_stream import Occupied, stream_events
from edge.parts.exchange import AT_ONCE_CHARS, Exchange
from edge.parts.gateway import Gateway
from edge.parts.relay import Call
from edge.parts.sessions import InFlight, LiveSession, Sessions, TooManySessions
from edge.parts.views import View
from edge.proto.classify import Batch, Ignored, Initialize, InSession, Refused, Sessionless, classify
from edge.proto.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Message,
    Notification,
    Request,
    Response,
    decode,
    decode_batch,
    encode_error,
    encode_notification,
    encode_result,
)
from edge.proto.jsontext import decode_text
from edge.proto.mcp import H_LAST_EVENT, H_SESSION, H_VERSION, cancelled_id, label_of

ONE_SERVER = re.compile(r"/servers/([A-Za-z0-9_.-]+)/mcp")


class HttpFace:
    """The `Handler` of the gateway's listeners."""

    def __init__(
        self,
        gateway: Gateway,
        sessions: Sessions,
        *,
        path: str,
        origins: Origins,
        scheme: str,
        cross_origin: CrossOrigin,
        metrics: Metrics,
    ) -> None:
        self._gateway = gateway
        self._sessions = sessions
        self._path = path
        self._origins = origins
        self._scheme = scheme
        self._cross_origin = cross_origin
        self._metrics = metrics

    def update(self, *, path: str, origins: Origins, cross_origin: CrossOrigin) -> None:
        """For requests that begin from now on."""
        self._path = path
        self._origins = origins
        self._cross_origin = cross_origin

    # -- decided from the head alone

    def admit(self, head: HttpRequest) -> Refusal | None:
        """Host, Origin, path, method and media types, in that order; before the body is read."""
        refusal = self._judge(head)
        if refusal is not None:
            refusal.headers += self._cross_origin.fields(head.headers)
        return refusal

    def _judge(self, head: HttpRequest) -> Refusal | None:
        denied = self._origins.check(head.headers.get("host"), head.headers.get("origin"), self._scheme)
        if denied is not None:
            self._metrics.denied(denied.reason)
            return self.refusal(denied.status, denied.text)
        try:
            self._view_key(head.path)
        except LookupError:
            return self.refusal(404, f"nothing is served at {head.path}; MCP is at {self._path}")
        match head.method:
            case "POST":
                return self._admit_post(head)
            case "GET":
                if not accepts(head.headers.get("accept", ""), "text/event-stream"):
                    return self.refusal(406, "GET needs Accept: text/event-stream")
            case "DELETE":
                pass
            case "OPTIONS" if self._cross_origin.preflight(head.headers) is not None:
                pass
            case _:
                return self.refusal(
                    405, f"{head.method} is not for this path", ("Allow", "GET, POST, DELETE")
                )
        return None

    def _admit_post(self, head: HttpRequest) -> Refusal | None:
        content_type = head.headers.get("content-type", "")
        if (
            content_type != "application/json"
            and content_type.partition(";")[0].strip().lower() != "application/json"
        ):
            return self.refusal(415, "Content-Type must be application/json")
        accept = head.headers.get("accept", "")
        if not accepts(accept, "application/json") and not accepts(accept, "text/event-stream"):
            return self.refusal(406, "Accept must name application/json and text/event-stream")
        return None

    def refusal(self, status: int, text: str, *headers: tuple[str, str]) -> Refusal:
        """An error that has no request to answer to; `headers` are added to it."""
        code = INVALID_REQUEST if status < 500 else INTERNAL_ERROR
        self._metrics.refused(status)
        return Refusal(status, encode_error(None, code, text).encode(), "application/json", headers)

    # -- with the body

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        key = self._view_key(request.path)
        view = self._gateway.view(key)
        if view is None:
            await self._refuse(request, reply, self.refusal(404, f"no server is called {key!r} here"))
        elif request.method == "POST":
            await self._post(request, reply, view)
        elif request.method == "GET":
            await self._get(request, reply, view)
        elif request.method == "DELETE":
            await self._delete(request, reply, view)
        else:
            await reply.send(204, headers=self._cross_origin.preflight(request.headers) or ())

    async def _post(self, http: HttpRequest, reply: Reply, view: View) -> None:
        session_id = http.headers.get(H_SESSION)
        session = self._sessions.get(session_id, view.key) if session_id is not None else None
        try:
            text = decode_text(http.body)
            message: Message | Batch = decode_batch(text) or decode(text)
        except BadMessage as exc:
            self._metrics.request("invalid", "error", 0.0)
            self._metrics.refused(400)
            await self._send(http, reply, 400, encode_error(exc.id, exc.code, str(exc)))
            return
        verdict = classify(
            message,
            session_named=session_id is not None,
            session_version=session.state.version if session is not None else None,
            version_header=http.headers.get(H_VERSION),
        )
        match verdict:
            case InSession():
                assert session is not None  # its version was given
                exchange = self._exchange(http, reply, session)
                if isinstance(message, Request):
                    await self._one(message, exchange, view, session)
                elif isinstance(message, (Notification, Response)):
                    self._told(message, session)
                    await self._send(http, reply, 202)
                else:
                    await self._batch(message, exchange, view, session)
            case Initialize():
                await self._initialize(verdict.request, http, reply, view)
            case Sessionless():
                await self._one(verdict.request, self._exchange(http, reply, None), view, None)
            case Ignored():
                await self._send(http, reply, 202)
            case Refused():
                self._metrics.request("invalid", "error", 0.0)
                self._metrics.refused(verdict.http_status)
                error = encode_error(verdict.id, verdict.code, verdict.text, verdict.data)
                await self._send(http, reply, verdict.http_status, error)

    async def _one(
        self, request: Request, exchange: Exchange, view: View, session: LiveSession | None
    ) -> None:
        """One request, answered as the only message of its POST."""
        self._sessions.watch(exchange)
        try:
            flight = self._enter(request, session)
            await exchange.finish(await self._answer(request, flight, exchange, view, session))
        finally:
            self._over(exchange, session)

    async def _batch(self, batch: Batch, exchange: Exchange, view: View, session: LiveSession) -> None:
        """All at once; the answers in one array, or one by one where the answer became a stream."""
        answers: list[str] = []
        exchange.is_single = False

        async def one(request: Request, flight: InFlight | None) -> None:
            answer = await self._answer(request, flight, exchange, view, session)
            if answer is not None and exchange.streaming:
                await exchange.notify(answer)
            elif answer is not None:
                answers.append(answer)

        self._sessions.watch(exchange)
        try:
            async with trio.open_nursery() as nursery:
                for member in batch:
                    match member:
                        case Request():
                            # Entered before its task runs: the batch itself may cancel it.
                            nursery.start_soon(one, member, self._enter(member, session))
                        case BadMessage():
                            answers.append(encode_error(member.id, member.code, str(member)))
                        case _:
                            self._told(member, session)
            await exchange.finish_batch(answers)
        finally:
            self._over(exchange, session)

    def _over(self, exchange: Exchange, session: LiveSession | None) -> None:
        self._sessions.unwatch(exchange)
        if session is not None:
            self._sessions.used(session)

    def _enter(self, request: Request, session: LiveSession | None) -> InFlight | None:
        """The request's place among those in flight, which `_answer` gives back; None if its id is taken."""
        flight = InFlight(trio.CancelScope())
        if session is None:
            self._sessions.sessionless.add(flight)
        elif request.id in session.calls:
            return None
        else:
            session.calls[request.id] = flight
        return flight

    async def _answer(
        self,
        request: Request,
        flight: InFlight | None,
        exchange: Exchange,
        view: View,
        session: LiveSession | None,
    ) -> str | None:
        """The response's text; None if the call was cancelled by its client, who then expects none."""
        if flight is None:
            return taken_id_text(request.id)

        async def notify(note: Notification) -> None:
            await exchange.notify(encode_notification(note.method, note.params.text if note.params else None))

        def early(result: str) -> None:
            if len(result) > AT_ONCE_CHARS or flight.scope.cancel_called:
                return
            exchange.answer_at_once(encode_result(request.id, result))
            if exchange.done and session is not None:
                session.calls.pop(request.id, None)  # its client may use the id again before this task runs

        try:
            ask = exchange.notify if exchange.takes_events else None
            call = Call(request, view, session=session, flight=flight, notify=notify, early=early, ask=ask)
            return await answer(call, self._gateway, self._metrics)
        finally:
            if session is None:
                self._sessions.sessionless.discard(flight)
            elif session.calls.get(request.id) is flight:
                del session.calls[request.id]

    def _told(self, message: Notification | Response, session: LiveSession) -> None:
        """A notification of the client, or its answer to what a server asked."""
        if isinstance(message, Response):
            if session.questions is not None:
                session.questions.answered(message)
            return
        self._metrics.request(label_of(message.method), "success", 0.0)
        if message.method == "notifications/cancelled" and message.params is not None:
            request_id = cancelled_id(message.params.text)
            if request_id in session.calls:
                session.calls[request_id].cancel()

    async def _initialize(self, request: Request, http: HttpRequest, reply: Reply, view: View) -> None:
        started = trio.current_time()
        try:
            session, result = await open_session(request, view, self._gateway, self._sessions)
        except RpcError as exc:
            self._metrics.request("initialize", "error", trio.current_time() - started)
            await self._exchange(http, reply, None).finish(error_text(request.id, exc))
            return
        except TooManySessions as exc:
            self._metrics.request("initialize", "error", trio.current_time() - started)
            self._metrics.refused(503)
            error = encode_error(request.id, INTERNAL_ERROR, str(exc))
            await self._send(http, reply, 503, error, ("Retry-After", "5"))
            return
        exchange = self._exchange(http, reply, None, ("Mcp-Session-Id", session.state.id))
        await exchange.finish(encode_result(request.id, result))
        self._metrics.request("initialize", "success", trio.current_time() - started)
        if reply.gone:
            self._sessions.end(session, "init_failed")

    async def _get(self, http: HttpRequest, reply: Reply, view: View) -> None:
        session = await self._named_session(http, reply, view)
        if session is None:
            return
        started = trio.current_time()
        try:
            await stream_events(
                session, reply, http.headers.get(H_LAST_EVENT), self._cross_origin.fields(http.headers)
            )
        except Occupied:
            self._metrics.request("listen", "error", 0.0)
            await self._refuse(http, reply, self.refusal(409, "this session has a GET stream already"))
            return
        self._sessions.used(session)
        self._metrics.request("listen", "success", trio.current_time() - started)

    async def _delete(self, http: HttpRequest, reply: Reply, view: View) -> None:
        session = await self._named_session(http, reply, view)
        if session is not None:
            self._sessions.end(session, "client_delete")
            self._metrics.request("terminate", "success", 0.0)
            await self._send(http, reply, 204)

    async def _named_session(self, http: HttpRequest, reply: Reply, view: View) -> LiveSession | None:
        """The session of a GET or DELETE; answers the client if there is none."""
        session_id = http.headers.get(H_SESSION)
        if session_id is None:
            # Clients probe with GET before they have a session; 405 tells them that there is no stream for them.
            text = f"{http.method} needs the Mcp-Session-Id header"
            await self._refuse(http, reply, self.refusal(405, text, ("Allow", "POST")))
            return None
        session = self._sessions.get(session_id, view.key)
        if session is None:
            await self._refuse(http, reply, self.refusal(404, "no such session: initialize again"))
        return session

    async def _refuse(self, http: HttpRequest, reply: Reply, refusal: Refusal) -> None:
        await self._send(http, reply, refusal.status, refusal.body.decode(), *refusal.headers)

    async def _send(
        self, http: HttpRequest, reply: Reply, status: int, body: str = "", *headers: tuple[str, str]
    ) -> None:
        """An answer that is no response to a request."""
        fields = (*headers, *self._cross_origin.fields(http.headers))
        await reply.send(status, body.encode(), headers=fields)

    def _exchange(
        self, http: HttpRequest, reply: Reply, session: LiveSession | None, *headers: tuple[str, str]
    ) -> Exchange:
        accept = http.headers.get("accept", "")
        return Exchange(
            reply,
            session,
            accepts_sse=accepts(accept, "text/event-stream"),
            accepts_json=accepts(accept, "application/json"),
            headers=(*headers, *self._cross_origin.fields(http.headers)),
        )

    def _view_key(self, path: str) -> str | None:
        """None for all servers, or the name of one; LookupError if nothing is at that path."""
        if path == self._path:
            return None
        one = ONE_SERVER.fullmatch(path)
        if one is None:
            raise LookupError(path)
        return one[1]


@lru_cache(maxsize=64)
def accepts(accept: str, media_type: str) -> bool:
    """Whether an Accept header's value takes `media_type`; a missing one takes nothing, as MCP wants it named."""
    wanted = {media_type, media_type.partition("/")[0] + "/*", "*/*"}
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name in wanted:
            return not any(re.fullmatch(r"q=0(\.0{0,3})?", parameter) for parameter in parameters)
    return False
