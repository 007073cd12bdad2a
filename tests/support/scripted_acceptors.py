"""The public ends of the two HTTP dialects as foreign software has them, over loopback, as far as a test tells them to.

Source: mcp-reverse 1.4.0 (observed); cpp-mcp's reverse proxy mode (observed), without its defects.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio

from tests.support.http_server_toys import Answer, Got, ToyServer


class SseAcceptor:
    """Takes one edge after the other; `token` is wanted on the stream and on each post."""

    def __init__(self) -> None:
        self.token = "secret-1"
        self.server = ToyServer(self._script)
        self.names: list[str] = []
        self.posts: list[Any] = []
        self.port = 0
        self._stream: Answer | None = None
        self._cut = trio.Event()
        self._changed = trio.Event()

    @property
    def session(self) -> str:
        return f"box-1-{len(self.names)}"

    async def until_open(self, n: int = 1) -> None:
        while len(self.names) < n or self._stream is None:
            await self._changed.wait()

    async def send(self, message: object) -> None:
        assert self._stream is not None
        await self._stream.event(message, lines="event: message\nid: 1\n")

    async def ask(self, request_id: Any, method: str, **params: Any) -> None:
        await self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})

    async def answer(self, request_id: Any) -> Any:
        while True:
            for post in self.posts:
                if post.get("id") == request_id and "method" not in post:
                    return post
            await self._changed.wait()

    def cut(self) -> None:
        self._cut.set()

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _script(self, got: Got, answer: Answer) -> None:
        if got.fields.get("authorization") != f"Bearer {self.token}":
            await answer.send(401, {}, b"Unauthorized")
        elif got.method == "GET":
            self.names.append(got.fields["x-mcp-server-name"])
            self._cut = trio.Event()
            await answer.start_events({"X-Session-Id": self.session})
            await answer.chunk(f": connected {self.session}\n\n".encode())
            self._stream = answer
            self._note()
            await self._cut.wait()
            self._stream = None
            await answer.drop()
        elif parse_qs(urlsplit(got.target).query).get("sessionId") != [self.session]:
            await answer.send(404, {}, b"Session not found")
        else:
            if got.body:
                self.posts.append(got.message)
            await answer.send(202)
            self._note()


class PollHub:
    """Registers edges, and hands requests to whoever polls. `sessions` are the ids that it knows."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.queue: deque[tuple[str, Any]] = deque()
        self.answers: dict[str, Any] = {}
        self.polled: list[str] = []
        self.server = ToyServer(self._script)
        self.port = 0
        self._changed = trio.Event()

    async def ask(self, request_id: str, message: object) -> Any:
        """As `/message` does: the edge's response."""
        self.queue.append((request_id, message))
        self._note()
        while request_id not in self.answers:
            await self._changed.wait()
        return self.answers[request_id]

    async def until_polled_again(self) -> None:
        """What is queued before that goes to a poll whose edge may have left."""
        seen = len(self.polled)
        while len(self.polled) == seen:
            await self._changed.wait()

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _script(self, got: Got, answer: Answer) -> None:
        parts = urlsplit(got.target)
        session = parse_qs(parts.query).get("session_id", [""])[0]
        if parts.path == "/register":
            self.sessions.append(f"{len(self.sessions) + 1:016x}")
            found = {
                "session_id": self.sessions[-1],
                "poll_endpoint": "/poll",
                "response_endpoint": "/response",
            }
            await answer.json(found)
        elif session not in self.sessions:
            await answer.json({"error": "Session not found"}, status=404)
        elif parts.path == "/poll":
            self.polled.append(session)
            self._note()
            newest = len(self.polled)
            while not self.queue:
                await self._changed.wait()
                if len(self.polled) > newest:  # whoever asked this is most likely gone
                    await answer.send(204)
                    return
            request_id, request = self.queue.popleft()
            await answer.json({"request_id": request_id, "request": request})
        else:
            self.answers[got.message["request_id"]] = got.message["response"]
            await answer.json({"status": "ok"})
            self._note()


@asynccontextmanager
async def listening(acceptor: SseAcceptor | PollHub) -> AsyncIterator[str]:
    """The URL it is to be found at."""
    async with acceptor.server.listening() as acceptor.port:
        yield f"http://127.0.0.1:{acceptor.port}"
