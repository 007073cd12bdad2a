"""What operators may do at a hub: see and end sessions, send to one, and call a server by plain JSON-RPC.

The sessions API has the shapes of ContextForge 1.0.7 (observed), so that scripts written for it work. `/message` is
what plain clients of cpp-mcp's `proxy_server` call (observed): one JSON-RPC message in, its answer out; there may be
several edges here, so `?server=NAME` says which one. Whoever comes here has shown an operator's token.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import trio

from edge.errors import BadMessage, RpcError
from edge.metrics import Metrics
from edge.net.http_server import HttpRequest, Reply
from edge.parts.answering import answer, error_text
from edge.parts.edge_sessions import EdgeSessions
from edge.parts.edges import Edges
from edge.parts.gateway import Gateway
from edge.parts.relay import Call
from edge.parts.sessions import InFlight
from edge.parts.views import View
from edge.proto.dialects.long_poll import frames
from edge.proto.jsonrpc import INVALID_PARAMS, Notification, Request, decode, encode_result
from edge.proto.jsontext import decode_text
from edge.proto.mcp import negotiate

MESSAGE_S = 60.0  # plain clients give up after 65 s


class HubDesk:
    """Answers what has been admitted."""

    def __init__(self, sessions: EdgeSessions, edges: Edges, gateway: Gateway, metrics: Metrics) -> None:
        self._sessions = sessions
        self._edges = edges
        self._gateway = gateway
        self._metrics = metrics
        self._actions: Mapping[str, Callable[[str, HttpRequest, Reply], Awaitable[None]]] = {
            "list": self._list,
            "disconnect": self._disconnect,
            "send": self._send,
            "message": self._message,
        }

    async def handle(self, what: str, session: str, request: HttpRequest, reply: Reply) -> None:
        await self._actions[what](session, request, reply)

    # -- sessions

    async def _list(self, _: str, request: HttpRequest, reply: Reply) -> None:
        listing = self._sessions.listing()
        await tell(reply, 200, {"sessions": listing, "total": len(listing)})

    async def _disconnect(self, session: str, request: HttpRequest, reply: Reply) -> None:
        if self._sessions.disconnect(session):
            await tell(reply, 200, {"status": "disconnected", "session_id": session})
        else:
            await tell(reply, 404, {"detail": f"Session {session} not found"})

    async def _send(self, session: str, request: HttpRequest, reply: Reply) -> None:
        if not self._sessions.is_open(session):
            await tell(reply, 404, {"detail": f"Session {session} not found"})
            return
        try:
            problem = self._sessions.send(session, decode_text(request.body))
        except BadMessage as exc:
            await tell(reply, 422, {"detail": f"not a JSON-RPC request: {exc}"})
            return
        if problem is None:
            await tell(reply, 200, {"status": "sent", "session_id": session})
        else:
            await tell(reply, 503, {"detail": problem})

    # -- plain calls

    async def _message(self, _: str, request: HttpRequest, reply: Reply) -> None:
        try:
            message = decode(decode_text(request.body))
        except BadMessage:
            await tell(reply, frames.INVALID_REQUEST.status, {"error": "Invalid request"})
            return
        connected = self._edges.connected()
        wanted = next((value for key, value in parse_qsl(request.query) if key == "server"), None)
        if wanted is None and len(connected) > 1:
            await tell(reply, 400, {"error": "several servers are connected: name one with ?server=NAME"})
            return
        name = wanted or next(iter(connected), None)
        view = self._gateway.view(name) if name in connected else None
        if view is None:
            await reply.send(frames.NO_SERVERS.status, frames.NO_SERVERS.body.encode())
        elif isinstance(message, Request):
            await self._answer(message, view, reply)
        else:
            await tell(reply, 200, {})

    async def _answer(self, request: Request, view: View, reply: Reply) -> None:
        if request.method == "initialize":
            await reply.send(200, (await self._introduce(request, view)).encode())
            return
        with trio.move_on_after(MESSAGE_S):
            call = Call(request, view, session=None, flight=InFlight(trio.CancelScope()), notify=unheard)
            text = await answer(call, self._gateway, self._metrics)
            assert text is not None  # there is nobody who could have cancelled it
            await reply.send(200, text.encode())
            return
        await reply.send(frames.TIMED_OUT.status, frames.TIMED_OUT.body.encode())

    async def _introduce(self, request: Request, view: View) -> str:
        """The edge was initialized by us, long ago; its introduction is what the view knows."""
        version = request.params.value.get("protocolVersion") if request.params else None
        if not isinstance(version, str):
            exc = RpcError(INVALID_PARAMS, "params.protocolVersion must be a string")
            return error_text(request.id, exc)
        view = await self._gateway.settled(view)
        return encode_result(request.id, view.introduction(negotiate(version)))


async def unheard(note: Notification) -> None:
    """A plain client hears nothing but its answer."""


async def tell(reply: Reply, status: int, value: Mapping[str, Any]) -> None:
    await reply.send(status, json.dumps(value).encode())
