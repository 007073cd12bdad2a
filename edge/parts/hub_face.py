"""The hub's listener: which path is whose, who may use it, and what is answered to those who may not.

A token is judged before anything of a body is read, and a session is only found by the token that opened it. Edges
that can send no headers have theirs in the path: `/e/SECRET/register` and so on. What a path means to an edge is in
`hub_carriers.py`; what operators may do is in `hub_desk.py`.
"""

import json
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from edge.config.hub import HubConfig
from edge.errors import BadMessage
from edge.gate.edge_auth import Denied, Edge, TokenAuth, WayIn, digest_of
from edge.metrics import Metrics
from edge.net.http_server import HttpRequest, Refusal, Reply
from edge.net.websocket import HandshakeRefused, WebSocketClosed, accept_websocket
from edge.parts.edge_session import EdgeSession, Opening, Visitor
from edge.parts.edge_sessions import EdgeSessions
from edge.parts.edge_webhook import EdgeWebhook
from edge.parts.hub_carriers import EventCarrier, PollCarrier, PollingSessions, carry
from edge.parts.hub_desk import HubDesk
from edge.parts.hub_routes import DESK, OPENINGS, POLL, SSE, Route, named_session, route_of, token_of
from edge.parts.refusals import Refusals
from edge.parts.ws_carrier import WsCarrier
from edge.proto.dialect import OWN_HEADER, Event, Opened
from edge.proto.dialects.contextforge.acceptor import ContextForgeAcceptor
from edge.proto.dialects.long_poll import frames
from edge.proto.dialects.long_poll.acceptor import LongPollAcceptor
from edge.proto.dialects.mcp_reverse.acceptor import McpReverseAcceptor
from edge.proto.dialects.mcp_reverse.wire import NAME_HEADER, SESSION_HEADER, session_id
from edge.proto.jsontext import decode_text
from edge.proto.numbered import parse_offer

FRAME_SLACK_BYTES: Final = 65_536  # what wraps a message on the wire
MAX_REGISTRATION_BYTES: Final = 65_536
RETRY: Final = ("Retry-After", "5")


class HubFace:
    """The `Handler` of the hub's listener."""

    def __init__(
        self,
        config: HubConfig,
        auth: TokenAuth,
        webhook: EdgeWebhook | None,
        sessions: EdgeSessions,
        polling: PollingSessions,
        desk: HubDesk,
        refusals: Refusals,
        metrics: Metrics,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._auth = auth
        self._webhook = webhook
        self._sessions = sessions
        self._polling = polling
        self._desk = desk
        self._refusals = refusals
        self._metrics = metrics
        self._wall = wall

    def update(self, config: HubConfig, auth: TokenAuth, webhook: EdgeWebhook | None) -> None:
        """For requests that begin from now on."""
        self._config = config
        self._auth = auth
        self._webhook = webhook

    # -- decided from the head alone

    def admit(self, head: HttpRequest) -> Refusal | None:
        route = route_of(head.path)
        if route is None or route.dialect not in (DESK, *self._config.dialects):
            return self._refusal(DESK, 404, "there is nothing at this path")
        if head.method != route.method:
            return self._refusal(
                route.dialect, 405, f"this path is for {route.method}", ("Allow", route.method)
            )
        if route.dialect == DESK:
            return self._admit_operator(route, head)
        if route.what in OPENINGS:
            return self._admit_opening(route, head)
        return self._admit_request(route, head)

    def _admit_operator(self, route: Route, head: HttpRequest) -> Refusal | None:
        token = token_of(route, head)
        if self._auth.is_operator(token):
            return None
        status = 401 if token is None else 403
        self._metrics.auth_failures.add("missing_header" if token is None else "wrong_token")
        return self._refusal(DESK, status, "an operator's token is needed: Authorization: Bearer TOKEN")

    def _admit_opening(self, route: Route, head: HttpRequest) -> Refusal | None:
        if self._sessions.is_closing:
            return self._refusal(route.dialect, 503, "the hub is restarting", RETRY)
        verdict = self._judge(route, head)
        if isinstance(verdict, Denied):
            return self._deny(route, verdict, head.peer)
        limit = MAX_REGISTRATION_BYTES if route.what == "register" else 0
        if not body_fits(head, limit):
            return self._refusal(route.dialect, 413, "the body is too large")
        if route.what == "websocket" and head.headers.get("upgrade", "").lower() != "websocket":
            return self._refusal(route.dialect, 426, "this path is for a WebSocket", ("Upgrade", "websocket"))
        return None

    def _admit_request(self, route: Route, head: HttpRequest) -> Refusal | None:
        if route.what == "poll" and not body_fits(head, 0):  # whose token may still have to be asked for
            return self._refusal(POLL, 413, "a poll has no body")
        named = named_session(route, head)
        if named is None:
            missing = "sessionId" if route.dialect == SSE else "session_id"
            return self._refusal(route.dialect, 400, f"Missing {missing}")
        token = token_of(route, head)
        if token is not None and self._sessions.get(named, digest_of(token)) is not None:
            return None
        if route.dialect == SSE:
            if self._sessions.is_open(named):
                denied = Denied("unknown_token", "Unauthorized")
                return self._deny(route, denied, head.peer)
            return self._refusal(SSE, 404, "Session not found")
        verdict = self._judge(route, head)
        if isinstance(verdict, Denied):
            return self._deny(route, verdict, head.peer)
        if route.what == "poll" and self._may_adopt(named, head, verdict):
            return None
        return self._refusal(POLL, 404, "Session not found")

    def _may_adopt(self, named: str, head: HttpRequest, edge: Edge | None) -> bool:
        """A real edge never registers again, so a session that we do not know is taken up, if the token is good. Our
        edges register when they are told 404. `edge` None: the webhook will say."""
        if OWN_HEADER in head.headers or not frames.is_session_id(named):
            return False
        return self._sessions.may_adopt(named, None if edge is None else edge.name)

    def _judge(self, route: Route, head: HttpRequest) -> Edge | Denied | None:
        """None: the webhook has to be asked."""
        verdict = self._auth.judge(token_of(route, head), self._wall())
        if isinstance(verdict, Denied):
            return None if verdict.reason == "unknown_token" and self._webhook is not None else verdict
        return verdict if verdict.may_speak(route.dialect) else wrong_dialect(route)

    def _deny(self, route: Route, denied: Denied, peer: str) -> Refusal:
        self._refusals.denied(denied, route.dialect, peer)
        return self._refused(route, denied)

    def _refused(self, route: Route, denied: Denied) -> Refusal:
        fields = (("WWW-Authenticate", "Bearer"),) if denied.status == 401 else ()
        more = (RETRY,) if denied.status == 503 else ()
        return self._refusal(route.dialect, denied.status, denied.text, *fields, *more)

    def refusal(self, status: int, text: str) -> Refusal:
        return self._refusal(DESK, status, text)

    def _refusal(self, dialect: str, status: int, text: str, *headers: tuple[str, str]) -> Refusal:
        """In the words of that dialect."""
        self._metrics.refused(status)
        if dialect == SSE:
            return Refusal(status, text.encode(), "text/plain", headers)
        key = "error" if dialect == POLL else "detail"
        return Refusal(status, json.dumps({key: text}).encode(), "application/json", headers)

    # -- with the body

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        route = route_of(request.path)
        assert route is not None  # or it had not been admitted
        match route.what:
            case "websocket":
                await self._websocket(route, request, reply)
            case "events":
                await self._events(route, request, reply)
            case "register":
                await self._register(route, request, reply)
            case "post" | "poll" | "response":
                await self._request(route, request, reply)
            case _:
                await self._desk.handle(route.what, route.argument, request, reply)

    async def _websocket(self, route: Route, request: HttpRequest, reply: Reply) -> None:
        visitor = await self._visitor(route, request, reply, None)
        if visitor is None:
            return
        opening = await self._prepare(route, request, reply, visitor, session=secrets.token_hex(16))
        if opening is None:
            return
        config = self._config
        carrier = WsCarrier()
        dialect = ContextForgeAcceptor(
            session=opening.session,
            own=opening.answer is not None,
            heartbeat_s=config.heartbeat_s,
            dead_after_s=config.dead_after_s,
            max_message_bytes=config.max_message_bytes,
            register_s=config.handshake_timeout_s,
            unix_offset=self._wall() - trio.current_time(),
        )
        session = self._sessions.open(opening, carrier, dialect)
        answer = {} if opening.answer is None else {OWN_HEADER: opening.answer}
        limit = config.max_message_bytes + FRAME_SLACK_BYTES
        try:
            async with await accept_websocket(
                reply.take_over(), request, headers=answer, max_message_bytes=limit
            ) as socket:
                session.pump.feed(Opened(request.headers))
                request.headers.clear()  # a link lives for weeks, and nobody looks at them again
                await carry(session, partial(carrier.serve, socket), self._sessions)
        except (HandshakeRefused, WebSocketClosed):
            session.ending = "broken"
        finally:
            self._sessions.close(session, None)

    async def _events(self, route: Route, request: HttpRequest, reply: Reply) -> None:
        asked = request.headers.get(NAME_HEADER.lower())
        visitor = await self._visitor(route, request, reply, asked)
        if visitor is None:
            return
        name = asked or visitor.edge.name
        named = session_id(name, int(self._wall() * 1000), secrets.token_hex(16))
        opening = await self._prepare(route, request, reply, visitor, session=named, name=name)
        if opening is None:
            return
        config = self._config
        carrier = EventCarrier(reply)
        dialect = McpReverseAcceptor(
            session=named,
            own=opening.answer is not None,
            heartbeat_s=config.heartbeat_s,
            dead_after_s=config.dead_after_s,
            max_message_bytes=config.max_message_bytes + FRAME_SLACK_BYTES,
        )
        session = self._sessions.open(opening, carrier, dialect)
        fields = [(SESSION_HEADER, named)]
        if opening.answer is not None:
            fields.append((OWN_HEADER, opening.answer))
        try:
            await reply.start_stream(fields)
            session.pump.feed(Opened(request.headers))
            await carry(session, carrier.run, self._sessions)
        finally:
            self._sessions.close(session, None)

    async def _register(self, route: Route, request: HttpRequest, reply: Reply) -> None:
        body = await self._text(route, request, reply)
        if body is None:
            return
        registration = frames.read_registration(body)
        if isinstance(registration, frames.Answer):
            await self._send(reply, self._refusal(POLL, registration.status, "Invalid request"))
            return
        visitor = await self._visitor(route, request, reply, registration.name)
        if visitor is None:
            return
        opening = await self._prepare(
            route,
            request,
            reply,
            visitor,
            session=secrets.token_hex(16),
            name=registration.name or visitor.edge.name,
            description=registration.description,
        )
        if opening is not None:
            await self._poll_session(route, opening, request, reply, "register", body)

    async def _request(self, route: Route, request: HttpRequest, reply: Reply) -> None:
        """A POST or a poll on a session."""
        named, token = named_session(route, request), token_of(route, request)
        assert named is not None
        assert token is not None
        body = await self._text(route, request, reply)
        if body is None:
            return
        session = self._sessions.get(named, digest_of(token))
        if session is not None:
            await self._ask(session, "message" if route.dialect == SSE else route.what, body, reply)
            return
        visitor = None
        if route.what == "poll":
            visitor = await self._visitor(route, request, reply, None)
            if visitor is None:
                return
        if visitor is None or not self._may_adopt(named, request, visitor.edge):
            await self._send(reply, self._refusal(route.dialect, 404, "Session not found"))
            return
        name = visitor.edge.name
        opening = await self._prepare(route, request, reply, visitor, session=named, name=name)
        if opening is not None:
            await self._poll_session(route, opening, request, reply, "poll", body)

    async def _poll_session(
        self, route: Route, opening: Opening, request: HttpRequest, reply: Reply, what: str, body: str
    ) -> None:
        """A new polling session, and the request that began it."""
        config = self._config
        carrier = PollCarrier()
        dialect = LongPollAcceptor(
            session=opening.session,
            nonce=secrets.token_hex(4),
            own=opening.answer is not None,
            link_answer=opening.answer,
            url_path=route.prefix,
            heartbeat_s=config.heartbeat_s,
            dead_after_s=config.dead_after_s,
            max_message_bytes=config.max_message_bytes,
            max_queue_bytes=config.max_pending_bytes,
        )
        session = self._sessions.open(opening, carrier, dialect)
        session.pump.feed(Opened(request.headers))
        self._polling.begin(session, carrier.requests)
        await self._ask(session, what, body, reply)

    async def _ask(self, session: EdgeSession, what: str, body: str, reply: Reply) -> None:
        carrier = session.carrier
        if not isinstance(carrier, EventCarrier | PollCarrier):  # a WebSocket's id, where POSTs go
            await self._send(reply, self._refusal(session.opening.dialect, 404, "Session not found"))
            return

        def feed(event: Event) -> None:
            self._sessions.heard(session, event)

        await carrier.requests.ask(session.pump, feed, what, body, reply)

    async def _prepare(
        self,
        route: Route,
        request: HttpRequest,
        reply: Reply,
        visitor: Visitor,
        *,
        session: str,
        name: str | None = None,
        description: str | None = None,
    ) -> Opening | None:
        """What a new carrier needs to know; None if the edge was refused."""
        offer = parse_offer(request.headers.get(OWN_HEADER))
        opening = self._sessions.prepare(
            visitor, route.dialect, offer, session=session, name=name, description=description
        )
        if isinstance(opening, Denied):
            edge = visitor.edge.name
            self._refusals.denied(opening, route.dialect, request.peer, edge=edge, name=name)
            await self._send(reply, self._refused(route, opening))
            return None
        return opening

    async def _visitor(
        self, route: Route, request: HttpRequest, reply: Reply, name: str | None
    ) -> Visitor | None:
        """Who it is that wants to be called `name`; None if the edge was refused."""
        token = token_of(route, request) or ""
        digest = digest_of(token)
        way: WayIn = "webhook"
        while (verdict := self._judge(route, request)) is None:
            webhook = self._webhook
            assert webhook is not None
            answer = await webhook.judge(token, name, route.dialect, request.peer)
            if webhook is self._webhook:  # otherwise a reload has made others the judges meanwhile
                verdict = answer
                if isinstance(answer, Edge) and not answer.may_speak(route.dialect):
                    verdict = wrong_dialect(route)
                break
        else:
            way = "jwt" if self._auth.edge_of(digest) is None else "token"
        if isinstance(verdict, Denied):
            await self._send(reply, self._deny(route, verdict, request.peer))
            return None
        return Visitor(verdict, digest, request.peer, way)

    async def _text(self, route: Route, request: HttpRequest, reply: Reply) -> str | None:
        """The body; None if it was refused, for it is no text."""
        try:
            return decode_text(request.body)
        except BadMessage as exc:
            await self._send(reply, self._refusal(route.dialect, 400, str(exc)))
            return None

    async def _send(self, reply: Reply, refusal: Refusal) -> None:
        await reply.send(refusal.status, refusal.body, refusal.content_type, refusal.headers)


def body_fits(head: HttpRequest, limit: int) -> bool:
    """Whether the body has a length, and that is within `limit`."""
    length = head.headers.get("content-length", "0")
    return "transfer-encoding" not in head.headers and length.isdecimal() and int(length) <= limit


def wrong_dialect(route: Route) -> Denied:
    return Denied("dialect", f"this edge may not connect by {route.dialect}")
