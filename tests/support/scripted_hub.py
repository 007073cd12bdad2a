"""A gateway that speaks ContextForge V1 frames over loopback, as far as a test tells it to.

Source: ContextForge 1.0.7, reverse proxy (observed). Built on trio-websocket's server: nothing of ours is in it.
"""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket


class Session:
    """One WebSocket of an edge, registered or about to."""

    def __init__(self, socket: WebSocketConnection, path: str, headers: dict[str, str]) -> None:
        self.socket = socket
        self.path = path
        self.headers = headers
        self.name: str | None = None
        self.frames: list[Any] = []
        self.answers: dict[Any, Any] = {}
        self.closed: int | None = None
        self.changed = trio.Event()

    def count(self, kind: str) -> int:
        return sum(frame["type"] == kind for frame in self.frames)

    def note(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def send(self, **frame: Any) -> None:
        await self.socket.send_message(json.dumps({"sessionId": "conn-1", **frame}))

    async def ask(self, request_id: Any, method: str, **params: Any) -> None:
        payload = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        await self.send(type="request", payload=payload)

    async def tell(self, method: str, **params: Any) -> None:
        await self.send(type="request", payload={"jsonrpc": "2.0", "method": method, "params": params})

    async def answer(self, request_id: Any) -> Any:
        while request_id not in self.answers:
            await self.changed.wait()
        return self.answers[request_id]

    async def call(self, request_id: Any, tool: str, **arguments: Any) -> Any:
        await self.ask(request_id, "tools/call", name=tool, arguments=arguments)
        return await self.answer(request_id)

    async def until(self, kind: str, n: int = 1) -> None:
        while self.count(kind) < n:
            await self.changed.wait()

    async def until_closed(self) -> None:
        while self.closed is None:
            await self.changed.wait()

    async def cut(self) -> None:
        """The connection breaks without a word."""
        await trio.aclose_forcefully(self.socket._stream)  # there is no public way to be rude


class ScriptedHub:
    """`tokens` are let in. `paths` exist; any other is answered 403, as V1 does."""

    def __init__(self) -> None:
        self.tokens = {"secret-1"}
        self.paths = {"/v1/reverse-proxy/ws", "/reverse-proxy/ws"}
        self.port = 0
        self.refused: list[tuple[str, str | None]] = []
        self.sessions: list[Session] = []
        self._changed = trio.Event()

    async def session(self, n: int = 1, name: str | None = None) -> Session:
        """The `n`th that was registered (of that name)."""
        while True:
            found = [s for s in self.sessions if s.name is not None and name in (None, s.name)]
            if len(found) >= n:
                return found[n - 1]
            await self._changed.wait()

    async def until_refused(self, n: int) -> None:
        while len(self.refused) < n:
            await self._changed.wait()

    def note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _accept(self, request: WebSocketRequest) -> None:
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        given = headers.get("authorization")
        if request.path not in self.paths or given not in {f"Bearer {token}" for token in self.tokens}:
            self.refused.append((request.path, given))
            self.note()
            await request.reject(403)
            return
        session = Session(await request.accept(), request.path, headers)
        self.sessions.append(session)
        try:
            while True:
                await self._frame(session, json.loads(await session.socket.get_message()))
        except ConnectionClosed as exc:
            session.closed = exc.reason.code if exc.reason is not None else 1006
            session.note()

    async def _frame(self, session: Session, frame: Any) -> None:
        session.frames.append(frame)
        match frame["type"]:
            case "register":
                session.name = frame["server"]["name"]
                await session.send(type="register_ack", status="success")
                self.note()
            case "heartbeat":
                await session.send(type="heartbeat", timestamp="2026-01-01T00:00:00+00:00")
            case "response":
                session.answers[frame["payload"]["id"]] = frame["payload"]
        session.note()


@asynccontextmanager
async def scripted_hub(tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedHub]:
    hub = ScriptedHub()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, hub._accept, "127.0.0.1", 0, tls)
        hub.port = server.port
        yield hub
        nursery.cancel_scope.cancel()
