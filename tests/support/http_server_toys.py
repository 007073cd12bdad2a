"""HTTP servers for tests that do exactly what a script says, over loopback sockets or memory streams."""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
import trio.testing

from edge.config.model import HttpServerConfig, ServerLimits
from edge.errors import RpcError
from edge.metrics_servers import ServerMetrics
from edge.net.http_client import HttpPool, Origin
from edge.parts.server_http import ServerHttp
from edge.proto.jsonrpc import Notification, Request

VERSION = "2025-11-25"
JSON = {"Content-Type": "application/json"}
EVENTS = {"Content-Type": "text/event-stream"}


@dataclass
class Got:
    """One request as the server read it; field names in lower case."""

    method: str
    target: str
    fields: dict[str, str]
    body: bytes

    @property
    def message(self) -> Any:
        return json.loads(self.body)


class Answer:
    """The script's side of one answer."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.must_close = False

    async def send(self, status: int, fields: dict[str, str] | None = None, body: bytes = b"") -> None:
        await self.raw(head(status, {**(fields or {}), "Content-Length": str(len(body))}) + body)

    async def json(self, value: Any, status: int = 200, fields: dict[str, str] | None = None) -> None:
        await self.send(status, {**JSON, **(fields or {})}, json.dumps(value).encode())

    async def result(self, got: Got, result: Any, fields: dict[str, str] | None = None) -> None:
        await self.json(response(got.message["id"], result), fields=fields)

    async def start_events(self, fields: dict[str, str] | None = None) -> None:
        await self.raw(head(200, {**EVENTS, "Transfer-Encoding": "chunked", **(fields or {})}))

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, value: Any, *, lines: str = "event: message\n") -> None:
        await self.chunk(f"{lines}data: {json.dumps(value)}\n\n".encode())

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def drop(self) -> None:
        """End the connection here and now."""
        self.must_close = True
        await self.stream.aclose()

    async def raw(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def wait_client_gone(self) -> None:
        """Until the client closes the connection."""
        self.must_close = True
        try:
            while await self.stream.receive_some(1000):
                pass
        except trio.BrokenResourceError:
            pass


Script = Callable[[Got, Answer], Awaitable[None]]


def head(status: int, fields: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def response(request_id: Any, result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def error(request_id: Any, code: int, message: str, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message, **more}}


def note(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


class ToyServer:
    """Gives every request to `script`. `requests` has them in order, `connections` counts what was accepted."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Got] = []
        self.connections = 0
        self.open_connections = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            held = b""
            while True:
                while b"\r\n\r\n" not in held:
                    chunk = await stream.receive_some(65536)
                    if not chunk:
                        return
                    held += chunk
                top, _, held = held.partition(b"\r\n\r\n")
                line, *lines = top.decode("latin-1").split("\r\n")
                method, target, _ = line.split(" ")
                fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
                length = int(fields.get("content-length", "0"))
                while len(held) < length:
                    chunk = await stream.receive_some(65536)
                    if not chunk:
                        return
                    held += chunk
                got = Got(method, target, fields, held[:length])
                held = held[length:]
                self.requests.append(got)
                answer = Answer(stream)
                await self.script(got, answer)
                if answer.must_close:
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError):
            return
        finally:
            self.open_connections -= 1
            with trio.move_on_after(1, shield=True):
                await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Serve on a loopback port; its number."""
        async with trio.open_nursery() as nursery:
            serve: Any = partial(trio.serve_tcp, self.serve, 0, host="127.0.0.1")
            if tls is not None:
                serve = partial(
                    trio.serve_ssl_over_tcp, self.serve, 0, tls, host="127.0.0.1", https_compatible=True
                )
            listener = (await nursery.start(serve))[0]
            port = (listener if tls is None else listener.transport_listener).socket.getsockname()[1]
            yield port
            nursery.cancel_scope.cancel()

    def methods(self) -> list[str]:
        """What was asked, as `POST tools/call` or `GET`."""
        found = []
        for got in self.requests:
            what = got.message.get("method", "answer") if got.body else ""
            found.append(f"{got.method} {what}".strip())
        return found


class MemoryWire:
    """A `Wire` on a memory stream; whether something is to be read is asked of the other end's script."""

    may_hide = False

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self.stream = stream
        self.looks_readable = False
        self.is_closed = False

    async def send(self, data: bytes) -> bool:
        await self.stream.send_all(data)
        return True

    async def receive(self) -> bytes:
        return bytes(await self.stream.receive_some(65536))

    def is_readable(self) -> bool:
        return self.looks_readable

    def close(self) -> None:
        self.is_closed = True
        self.stream.send_stream.close()
        self.stream.receive_stream.close()


class MemoryNet:
    """Connections to a `ToyServer` without sockets; `wires` are ours, in order."""

    def __init__(self, server: ToyServer, nursery: trio.Nursery) -> None:
        self.server = server
        self.wires: list[MemoryWire] = []
        self._nursery = nursery

    async def dial(self) -> MemoryWire:
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.serve, theirs)
        self.wires.append(MemoryWire(ours))
        return self.wires[-1]

    def pool(self, *, max_open: int = 8) -> HttpPool:
        return HttpPool("toy", Origin("toy", 80, False, "toy"), self.dial, max_open=max_open)


def memory_http(net: MemoryNet, *, max_bytes: int = 100_000, max_open: int = 8, **config: Any) -> ServerHttp:
    """What a channel needs to talk to a memory server."""
    made = HttpServerConfig(
        name="toy",
        url="http://toy/mcp",
        limits=ServerLimits(concurrency=8, max_line_bytes=max_bytes),
        **config,
    )
    return ServerHttp(made, net.pool(max_open=max_open), "/mcp", ServerMetrics())


@dataclass
class Listener:
    """An `Inbound` that keeps what it is told, and answers `ping` only."""

    heard: list[Notification] = field(default_factory=list)
    questions: list[Request] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)
    doubts: int = 0

    def told(self, notification: Notification) -> None:
        self.heard.append(notification)
        self.news.set()

    def waiting(self, reason: str) -> None:
        raise AssertionError("only links wait")

    def doubted(self) -> None:
        self.doubts += 1

    def asked(self, request: Request) -> str:
        self.questions.append(request)
        if request.method == "ping":
            return "{}"
        raise RpcError(-32601, "not here")


class McpToy:
    """A small Streamable HTTP server with sessions; replace `on_call` and `on_get` to have it misbehave."""

    def __init__(self) -> None:
        self.server = ToyServer(self.script)
        self.sessions: set[str] = set()
        self.n_initialized = 0
        self.executed: list[Any] = []  # tools/call ids that really ran
        self.on_call: Script = self.answer_call
        self.on_get: Script = self.refuse_get
        self.deleted: list[str] = []

    async def script(self, got: Got, answer: Answer) -> None:
        session = got.fields.get("mcp-session-id", "")
        if got.method == "DELETE":
            self.deleted.append(session)
            self.sessions.discard(session)
            await answer.send(200)
        elif got.method == "POST" and got.message.get("method") == "initialize":
            self.n_initialized += 1
            session = f"session-{self.n_initialized}"
            self.sessions.add(session)
            result = {
                "protocolVersion": VERSION,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "toy", "version": "1"},
            }
            await answer.result(got, result, {"Mcp-Session-Id": session})
        elif session not in self.sessions:
            await answer.json(error(None, -32001, "Session not found"), status=404)
        elif got.method == "GET":
            await self.on_get(got, answer)
        elif "id" not in got.message or "method" not in got.message:
            await answer.send(202)
        else:
            await self.on_call(got, answer)

    async def answer_call(self, got: Got, answer: Answer) -> None:
        self.executed.append(got.message["id"])
        await answer.result(got, {"content": []})

    async def refuse_get(self, got: Got, answer: Answer) -> None:
        await answer.send(405)
