"""A raw HTTP client on a memory stream, and a handler that answers as a test says."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
import trio.testing

from edge.net.http_server import Connections, HttpLimits, HttpRequest, Refusal, Reply, serve_connection

LIMITS = HttpLimits(max_body_bytes=1000)
Answer = Callable[[HttpRequest, Reply], Awaitable[None]]
GET = b"GET /mcp HTTP/1.1\r\nHost: test\r\n\r\n"


def post(body: bytes, *fields: str, path: str = "/mcp") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *fields]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


async def echo(request: HttpRequest, reply: Reply) -> None:
    await reply.send(200, request.body or b"nothing", "text/plain")


class ScriptedHandler:
    """Answers with `answer`; admits what `refuse` has no path for. `seen`: the requests it was handed."""

    def __init__(self, answer: Answer = echo, *, refuse: dict[str, int] | None = None) -> None:
        self.answer = answer
        self.refuse = refuse or {}
        self.seen: list[HttpRequest] = []

    def admit(self, head: HttpRequest) -> Refusal | None:
        assert head.body == b"", "the body is not read yet"
        status = self.refuse.get(head.path)
        return None if status is None else self.refusal(status, "refused")

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        self.seen.append(request)
        await self.answer(request, reply)

    def refusal(self, status: int, text: str) -> Refusal:
        return Refusal(status, text.encode(), "text/plain")


@dataclass(frozen=True)
class Response:
    """One answer; `is_whole` is False if it ended before its framing said so."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool = True


class RawClient:
    """Sends bytes, reads answers."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._received = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def ask(self, data: bytes) -> Response:
        await self.send(data)
        return await self.response()

    async def response(self, *, has_body: bool = True) -> Response:
        """The next answer. EOFError if the connection ends before its head does."""
        head = (await self.until(b"\r\n\r\n")).decode("ascii")
        status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(status_line.split(" ")[1])
        if not has_body:
            return Response(status, headers, b"")
        try:
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.until(b"\r\n"), 16):
                    body += await self.exactly(size)
                    assert await self.exactly(2) == b"\r\n"
                assert await self.exactly(2) == b"\r\n"
            elif "content-length" in headers:
                body = await self.exactly(int(headers["content-length"]))
            else:
                body = await self.to_end()
        except EOFError:
            return Response(status, headers, body, is_whole=False)
        return Response(status, headers, body)

    async def until(self, end: bytes) -> bytes:
        while end not in self._received:
            await self._more()
        taken, self._received = self._received.split(end, 1)
        return taken + end

    async def exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._more()
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    async def to_end(self) -> bytes:
        """All that comes until the server closes."""
        try:
            while True:
                await self._more()
        except EOFError:
            taken, self._received = self._received, b""
            return taken

    async def _more(self) -> None:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise EOFError
        self._received += data


@asynccontextmanager
async def serving(
    handler: ScriptedHandler | None = None,
    limits: HttpLimits = LIMITS,
    connections: Connections | None = None,
    streams: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
) -> AsyncIterator[RawClient]:
    """A client of one served connection, which must end by itself once the client has closed."""
    ours, theirs = streams or trio.testing.memory_stream_pair()
    connections = connections or Connections()
    with trio.fail_after(600):  # of the mock clock's seconds
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await serve_connection(
                    theirs, handler or ScriptedHandler(), limits, peer="test", connections=connections
                )

            nursery.start_soon(serve)
            yield RawClient(ours)
            await ours.aclose()
    assert connections.open == 0
    assert not connections.idle
    assert not connections.streams
