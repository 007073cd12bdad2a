"""Edges that a test plays by hand against a hub: one a dialect, each as bare as its protocol lets it be.

What an edge's MCP server says is `Script`'s; an edge that is to misbehave is driven by its own methods.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from edge.errors import leaves
from edge.proto.numbered import LinkAnswer, Numbered, parse_answer

Message = dict[str, Any]


class Script:
    """An MCP server with one tool, `echo`. `hold`: calls wait for `release`. `seen`: the methods asked for."""

    def __init__(self, *, tools: tuple[str, ...] = ("echo",), refuse: bool = False) -> None:
        self.tools = tools
        self.refuse = refuse
        self.seen: list[str] = []
        self.hold = False
        self.release = trio.Event()
        self.cancelled: list[Any] = []

    async def answer(self, message: Message) -> Message | None:
        method = message.get("method")
        if method is None:
            return None
        self.seen.append(method)
        if method == "notifications/cancelled":
            self.cancelled.append(message["params"]["requestId"])
        if "id" not in message:
            return None
        if self.refuse:
            return self._error(message, -32603, "the server is broken")
        if method == "initialize":
            version = message["params"]["protocolVersion"]
            info = {"name": "scripted", "version": "1"}
            return self._result(
                message, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
            )
        if method == "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in self.tools]
            return self._result(message, {"tools": tools})
        if method == "tools/call":
            if self.hold:
                await self.release.wait()
            text = json.dumps(message["params"].get("arguments"))
            return self._result(message, {"content": [{"type": "text", "text": text}]})
        if method == "ping":
            return self._result(message, {})
        return self._error(message, -32601, "not found")

    def _result(self, message: Message, result: Message) -> Message:
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}

    def _error(self, message: Message, code: int, text: str) -> Message:
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}}


class Answer:
    """An HTTP answer, whole."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HubClient:
    """Requests to a hub, each on a connection of its own."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.token = token

    def fields(self, more: Mapping[str, str]) -> dict[str, str]:
        own = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return {"Host": f"{self.host}:{self.port}", **own, **more}

    def head(self, method: str, target: str, more: Mapping[str, str]) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in self.fields(more).items())]
        return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"

    async def begin(
        self, method: str, target: str, body: bytes | None = None, **headers: str
    ) -> trio.SocketStream:
        """A request that is sent, and whose answer is not read yet."""
        stream = await trio.open_tcp_stream(self.host, self.port)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            more |= {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        await stream.send_all(self.head(method, target, {**more, "Connection": "close"}) + (body or b""))
        return stream

    async def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        async with await self.begin(method, target, body, **headers) as stream:
            return await read_answer(stream)


async def read_answer(stream: trio.SocketStream) -> Answer:
    """To the end of the connection. EOFError if it was cut off."""
    data = b""
    with suppress(trio.BrokenResourceError):
        async for chunk in stream:
            data += chunk
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        raise EOFError(data)
    status_line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(status_line.split(" ")[1]), headers, body)


# -- ContextForge


class WebSocketEdge:
    """A raw ContextForge client. With `numbered` it is one of ours: messages are numbered frames, and its answers are
    made in `home`, which outlives the connection."""

    def __init__(
        self,
        socket: WebSocketConnection,
        script: Script,
        numbered: Numbered | None = None,
        home: trio.Nursery | None = None,
    ) -> None:
        self.socket = socket
        self.script = script
        self.numbered = numbered
        self.home = home
        self.is_resumed = trio.Event()  # what the hub lacks has been sent: only then may anything new be
        self.frames: list[Message] = []  # those that are no requests
        self.closed: tuple[int, str] | None = None
        self._news = trio.Event()

    async def send(self, **frame: Any) -> None:
        await self.socket.send_message(json.dumps(frame))

    async def register(self, name: str, **more: Any) -> None:
        await self.send(type="register", sessionId="mine", server={"name": name, "protocol": "stdio", **more})

    async def frame(self, kind: str, **members: Any) -> Message:
        """The next frame of that type, with these members."""
        while True:
            for frame in self.frames:
                if frame["type"] == kind and members.items() <= frame.items():
                    self.frames.remove(frame)
                    return frame
            assert self.closed is None, f"closed with {self.closed} before {kind}"
            await self._news.wait()

    def cut(self) -> None:
        """Gone, without a goodbye."""
        stream = self.socket._stream
        assert isinstance(stream, trio.SocketStream)
        stream.socket.close()

    async def wait_closed(self) -> tuple[int, str]:
        while self.closed is None:
            await self._news.wait()
        return self.closed

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    text = await self.socket.get_message()
                    assert isinstance(text, str)
                    if self.numbered is not None and text[0].isdigit():
                        if (message := self.numbered.receive(text)) is not None:
                            (self.home or nursery).start_soon(self._answer, json.loads(message))
                        continue
                    frame = json.loads(text)
                    if frame["type"] == "request":
                        nursery.start_soon(self._answer, frame["payload"])
                    else:
                        self.frames.append(frame)
                        self._tell()
            except ConnectionClosed as exc:
                reason = exc.reason
                self.closed = (reason.code, reason.reason or "") if reason is not None else (1006, "")
                self._tell()
            nursery.cancel_scope.cancel()

    async def _answer(self, payload: Message) -> None:
        answer = await self.script.answer(payload)
        if answer is None:
            return
        with suppress(ConnectionClosed):
            if self.numbered is not None:
                if self.closed is None:
                    await self.is_resumed.wait()
                await self.socket.send_message(self.numbered.send(json.dumps(answer)))
            else:
                await self.send(type="response", sessionId="mine", payload=answer)

    @property
    def link_answer(self) -> LinkAnswer:
        """What a hub of ours said when it accepted."""
        fields = {name.lower(): value for name, value in self.socket.handshake_headers}
        answer = parse_answer(fields[b"mcp-edge-link"].decode())
        assert answer is not None
        return answer

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def websocket_edge(
    client: HubClient,
    script: Script | None = None,
    *,
    path: str = "/reverse-proxy/ws",
    numbered: Numbered | None = None,
    home: trio.Nursery | None = None,
    **headers: str,
) -> AsyncIterator[WebSocketEdge]:
    """Connected, and not registered. Raises: the HTTP status, as `Refused`."""
    fields = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    if client.token is not None:
        fields.append((b"Authorization", f"Bearer {client.token}".encode()))
    stream = await trio.open_tcp_stream(client.host, client.port)
    refused: Refused | None = None
    try:
        async with trio.open_nursery() as nursery:
            socket = await wrap_client_stream(nursery, stream, client.host, path, extra_headers=fields)
            edge = WebSocketEdge(socket, script or Script(), numbered, home)
            nursery.start_soon(edge.run)
            try:
                yield edge
            finally:
                with trio.move_on_after(0.2, shield=True):
                    await socket.aclose()
                nursery.cancel_scope.cancel()
    except* ConnectionRejected as group:
        refused = Refused(next(e.status_code for e in leaves(group) if isinstance(e, ConnectionRejected)))
    finally:
        await trio.aclose_forcefully(stream)
    if refused is not None:
        raise refused


class Refused(Exception):
    """A handshake was answered with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


# -- mcp-reverse


class EventEdge:
    """A raw mcp-reverse client: reads its event stream, and posts what its server answers."""

    def __init__(self, client: HubClient, script: Script, name: str) -> None:
        self.client = client
        self.script = script
        self.name = name
        self.session = ""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.events: list[str] = []
        self.comments: list[str] = []
        self.has_ended = trio.Event()
        self._stream: trio.SocketStream | None = None

    async def post(self, message: Any, *, session: str | None = None, token: str | None = None) -> Answer:
        client = self.client if token is None else HubClient(f"{self.client.host}:{self.client.port}", token)
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return await client.ask("POST", f"/mcp-reverse/message?sessionId={session or self.session}", body)

    async def open(self) -> None:
        """GET the stream, up to the end of the answer's head."""
        stream = self._stream = await trio.open_tcp_stream(self.client.host, self.client.port)
        more = {"Accept": "text/event-stream", "X-MCP-Server-Name": self.name}
        await stream.send_all(self.client.head("GET", f"/mcp-reverse/sse?server_name={self.name}", more))
        self._data = b""
        while b"\r\n\r\n" not in self._data:
            chunk = await stream.receive_some()
            if not chunk:
                raise EOFError(self._data)
            self._data += chunk
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode().split("\r\n")
        self.status = int(status_line.split(" ")[1])
        self.headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        self.session = self.headers.get("x-session-id", "")

    async def run(self) -> None:
        """Read events and answer, until the stream ends."""
        assert self._stream is not None
        text = ""
        async with trio.open_nursery() as nursery:
            while True:
                while b"\r\n" in self._data:  # of the chunked coding: a length, the chunk, an empty line
                    length_text, _, rest = self._data.partition(b"\r\n")
                    length = int(length_text, 16)
                    if len(rest) < length + 2:
                        break
                    text += rest[:length].decode()
                    self._data = rest[length + 2 :]
                    if length == 0:
                        self.has_ended.set()
                while "\n\n" in text:
                    event, _, text = text.partition("\n\n")
                    await self._event(event, nursery)
                chunk = b""
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    chunk = await self._stream.receive_some()
                if not chunk:
                    break
                self._data += chunk
            self.has_ended.set()
            nursery.cancel_scope.cancel()

    async def _event(self, event: str, nursery: trio.Nursery) -> None:
        if event.startswith(":"):
            self.comments.append(event[1:].strip())
            return
        data = next(line[5:].strip() for line in event.split("\n") if line.startswith("data:"))
        self.events.append(data)
        nursery.start_soon(self._answer, json.loads(data))

    async def _answer(self, message: Message) -> None:
        answer = await self.script.answer(message)
        if answer is not None:
            with suppress(OSError, EOFError):  # the hub may be gone
                await self.post(answer)

    def cut(self) -> None:
        if self._stream is not None:
            self._stream.socket.close()


@asynccontextmanager
async def event_edge(client: HubClient, name: str, script: Script | None = None) -> AsyncIterator[EventEdge]:
    edge = EventEdge(client, script or Script(), name)
    async with trio.open_nursery() as nursery:
        try:
            await edge.open()
            nursery.start_soon(edge.run)
            yield edge
        finally:
            edge.cut()
            nursery.cancel_scope.cancel()


# -- long poll


class PollingEdge:
    """A raw client of cpp-mcp's kind: one request at a time, and a new connection for each call."""

    def __init__(self, client: HubClient, script: Script, *, prefix: str = "") -> None:
        self.client = client
        self.script = script
        self.prefix = prefix
        self.session = ""
        self.statuses: list[int] = []  # of the polls
        self.on_poll: Callable[[Answer], Awaitable[None]] | None = None

    async def register(self, **more: Any) -> Answer:
        body = json.dumps({"type": "mcp_server", "timestamp": 1, **more}).encode()
        answer = await self.client.ask("POST", f"{self.prefix}/register", body)
        if answer.status == 200:
            self.session = answer.json["session_id"]
        return answer

    async def poll(self, session: str | None = None) -> Answer:
        return await self.client.ask("GET", f"{self.prefix}/poll?session_id={session or self.session}")

    async def respond(self, request_id: Any, response: Any, session: str | None = None) -> Answer:
        body = json.dumps({"request_id": request_id, "response": response}).encode()
        return await self.client.ask(
            "POST", f"{self.prefix}/response?session_id={session or self.session}", body
        )

    async def run(self) -> None:
        """Poll and answer until a poll is refused."""
        while True:
            answer = await self.poll()
            self.statuses.append(answer.status)
            if answer.status not in (200, 204):
                return
            if answer.status == 200:
                envelope = answer.json
                response = await self.script.answer(envelope["request"])
                await self.respond(envelope["request_id"], {} if response is None else response)


@asynccontextmanager
async def polling_edge(client: HubClient, script: Script | None = None) -> AsyncIterator[PollingEdge]:
    """Registered and polling."""
    edge = PollingEdge(client, script or Script())
    async with trio.open_nursery() as nursery:
        answer = await edge.register()
        assert answer.status == 200, answer.body
        nursery.start_soon(edge.run)
        yield edge
        nursery.cancel_scope.cancel()
