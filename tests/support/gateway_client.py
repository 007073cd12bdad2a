"""An MCP client over a memory stream that is as exact, or as rude, as a test wants it to be."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import trio

from edge.proto.sse import SseDecoder, SseEvent
from tests.support.memory_http import RawClient, Response

BOTH = "application/json, text/event-stream"


class Answer:
    """A whole answer; `events` if it was a stream."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.body
        self.text = response.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    @property
    def events(self) -> list[SseEvent]:
        assert self.is_stream
        decoder = SseDecoder(1_000_000)
        return [*decoder.feed(self.body), *decoder.close()]

    @property
    def messages(self) -> list[Any]:
        """The events that are JSON-RPC messages, parsed."""
        return [json.loads(event.data) for event in self.events if event.data]

    @property
    def error(self) -> Any:
        return self.json["error"]


class EventStream:
    """An event stream that is still open."""

    def __init__(self, raw: RawClient, headers: dict[str, str]) -> None:
        self.headers = headers
        self.pieces: list[bytes] = []  # each as it was written
        self._raw = raw
        self._decoder = SseDecoder(1_000_000)
        self._ready: list[SseEvent] = []
        self._is_over = False

    async def event(self) -> SseEvent:
        """The next event. EOFError after the last one."""
        while not self._ready:
            await self._more()
        return self._ready.pop(0)

    async def message(self) -> Any:
        """The next event that has data, parsed."""
        while not (event := await self.event()).data:
            pass
        return json.loads(event.data)

    async def rest(self) -> list[Any]:
        """All messages up to its end."""
        found: list[Any] = []
        try:
            while True:
                found.append(await self.message())
        except EOFError:
            return found

    async def piece(self) -> bytes:
        """The next write of the server, keep-alives included."""
        await self._more()
        return self.pieces[-1]

    async def _more(self) -> None:
        if self._is_over:
            raise EOFError
        size = int(await self._raw.until(b"\r\n"), 16)  # EOFError if the connection breaks
        data = await self._raw.exactly(size)
        assert await self._raw.exactly(2) == b"\r\n"
        if not size:
            self._is_over = True
            raise EOFError
        self.pieces.append(data)
        self._ready += self._decoder.feed(data)


class Client:
    """One connection. `session` is sent along once there is one."""

    def __init__(self, stream: trio.abc.Stream, path: str) -> None:
        self.raw = RawClient(stream)
        self.path = path
        self.session: str | None = None

    async def send(
        self,
        method: str,
        body: bytes = b"",
        headers: Mapping[str, str | None] | None = None,
        *,
        path: str | None = None,
    ) -> None:
        fields: dict[str, str | None] = {"Host": "localhost", "Accept": BOTH}
        if method == "POST":
            fields["Content-Type"] = "application/json"
        if body:
            fields["Content-Length"] = str(len(body))
        if self.session is not None:
            fields["Mcp-Session-Id"] = self.session
        fields.update(headers or {})
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        head = "\r\n".join([f"{method} {path or self.path} HTTP/1.1", *lines])
        await self.raw.send(f"{head}\r\n\r\n".encode() + body)

    async def request(
        self, method: str, body: bytes = b"", headers: Mapping[str, str | None] | None = None, **where: str
    ) -> Answer:
        await self.send(method, body, headers, **where)
        return await self.answer()

    async def answer(self) -> Answer:
        """The whole answer to what was sent last."""
        head = await self.raw.response(has_body=False)
        if head.status == 204:
            return Answer(head)
        if head.headers.get("transfer-encoding") != "chunked":
            return Answer(replace(head, body=await self.raw.exactly(int(head.headers["content-length"]))))
        stream = EventStream(self.raw, head.headers)
        try:
            while True:
                await stream.piece()
        except EOFError:
            return Answer(replace(head, body=b"".join(stream.pieces)))

    async def post(self, message: object, **headers: str) -> Answer:
        """A message (text, bytes, or anything that JSON can say) and its answer; `accept` and so on are headers."""
        return await self.request("POST", as_bytes(message), as_fields(headers))

    async def ask(self, method: str, params: object = None, request_id: object = 1, **headers: str) -> Answer:
        """A request and its answer; `params` may be JSON text."""
        return await self.post(request(method, params, request_id), **headers)

    async def result(self, method: str, params: object = None) -> Any:
        answer = await self.ask(method, params)
        assert answer.status == 200, answer.text
        assert "result" in answer.json, answer.text
        return answer.json["result"]

    async def call(self, tool: str, arguments: str = "{}", **more: Any) -> Any:
        """The response to a tool call: of a stream, the last message."""
        params = f'{{"name":{json.dumps(tool)},"arguments":{arguments}}}'
        answer = await self.ask("tools/call", params, **more)
        assert answer.status == 200, answer.text
        return answer.messages[-1] if answer.is_stream else answer.json

    async def tell(self, method: str, params: object = None) -> Answer:
        message: dict[str, object] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        return await self.post(message)

    async def initialize(
        self, version: str = "2025-11-25", *, capabilities: object = None, **headers: str
    ) -> Any:
        """The result of initialize; the session is remembered, and confirmed."""
        params = {
            "protocolVersion": version,
            "capabilities": {} if capabilities is None else capabilities,
            "clientInfo": {"name": "test", "version": "0"},
        }
        answer = await self.ask("initialize", params, **headers)
        assert answer.status == 200, answer.text
        self.session = answer.headers["mcp-session-id"]
        assert (await self.tell("notifications/initialized")).status == 202
        return answer.json["result"]

    async def stream(self) -> EventStream:
        """What was sent last is answered by a stream; its head has come."""
        response = await self.raw.response(has_body=False)
        assert response.status == 200, response
        assert response.headers["content-type"] == "text/event-stream"
        return EventStream(self.raw, response.headers)

    async def listen(self, last_event_id: str | None = None, **headers: str) -> EventStream:
        """Open the GET stream."""
        await self.send("GET", b"", {**as_fields(headers), "Last-Event-ID": last_event_id})
        return await self.stream()

    async def leave(self) -> None:
        """Close the connection, without a word."""
        await trio.aclose_forcefully(self.raw.stream)


def as_bytes(message: object) -> bytes:
    if isinstance(message, bytes):
        return message
    return (message if isinstance(message, str) else json.dumps(message)).encode()


def as_fields(headers: Mapping[str, str]) -> dict[str, str | None]:
    return {name.replace("_", "-").title(): value for name, value in headers.items()}


def request(method: str, params: object = None, request_id: object = 1) -> str:
    """A request's text. `params` and `request_id` are taken as they are if they are text."""
    text = f'{{"jsonrpc":"2.0","id":{_text(request_id)},"method":{json.dumps(method)}'
    return text + (f',"params":{_text(params)}}}' if params is not None else "}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
