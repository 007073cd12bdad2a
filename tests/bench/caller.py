"""How the benchmark speaks to what it measures: over HTTP or over pipes, one legacy session, one call after another.

Only for the calls that begin a measurement; the load itself is made by load.py, in a process of its own.
"""

import json
import os
import socket
import time
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tests.bench.answers import AnswerScanner, BadAnswer

VERSION = "2025-06-18"
BODY_BYTES = 520
FIRST_ID = 1_000_000  # all ids have the same length, and with them all requests and all answers
TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a session is reached. `port` 0: over two file descriptors, `to_process` and `from_process`."""

    port: int = 0
    path: str = ""
    session: str | None = None
    to_process: int = -1
    from_process: int = -1


class Caller(Protocol):
    """One session with a gateway or a server."""

    @property
    def way(self) -> Way: ...
    def initialize(self) -> None: ...
    def call(self, tool: str) -> dict[str, Any]: ...
    def close(self) -> None: ...


def initialize_request() -> bytes:
    about = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    return json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": about}).encode()


INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


def call_pieces(tool: str) -> tuple[bytes, bytes]:
    """What goes before and after the id of a call; with the id they have BODY_BYTES."""
    before = b'{"jsonrpc":"2.0","id":'
    after = b',"method":"tools/call","params":{"name":"%b","arguments":{"text":"%b"}}}'
    room = BODY_BYTES - len(before) - len(str(FIRST_ID)) - len(after % (tool.encode(), b""))
    words = b"all the same to a gateway, "
    return before, after % (tool.encode(), (words * (room // len(words) + 1))[:room])


def call_request(tool: str, call_id: int) -> bytes:
    before, after = call_pieces(tool)
    return before + str(call_id).encode() + after


def http_head(way: Way, body_bytes: int) -> bytes:
    lines = [
        f"POST {way.path} HTTP/1.1",
        f"Host: 127.0.0.1:{way.port}",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        f"Content-Length: {body_bytes}",
    ]
    if way.session is not None:
        lines += [f"Mcp-Session-Id: {way.session}", f"Mcp-Protocol-Version: {VERSION}"]
    return "\r\n".join([*lines, "", ""]).encode()


class HttpCaller:
    """A session over streamable HTTP, on one connection."""

    def __init__(self, port: int, path: str) -> None:
        self.way = Way(port=port, path=path)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def initialize(self) -> None:
        session = self._post(initialize_request()).headers.get("mcp-session-id")
        self.way = replace(self.way, session=session)
        self._post(INITIALIZED)

    def call(self, tool: str) -> dict[str, Any]:
        scanner = self._post(call_request(tool, FIRST_ID))
        if scanner.message is None:
            raise BadAnswer(f"status {scanner.status} without an answer")
        return scanner.message

    def close(self) -> None:
        self._socket.close()

    def _post(self, body: bytes) -> AnswerScanner:
        self._socket.sendall(http_head(self.way, len(body)) + body)
        scanner = AnswerScanner()
        while not scanner.has_ended:
            scanner.feed(self._socket.recv(65536))
        return scanner


class PipeCaller:
    """A session over the pipes of a process, a message per line."""

    def __init__(self, to_process: int, from_process: int) -> None:
        self.way = Way(to_process=to_process, from_process=from_process)

    def initialize(self) -> None:
        self._ask(initialize_request())
        os.write(self.way.to_process, INITIALIZED + b"\n")

    def call(self, tool: str) -> dict[str, Any]:
        return self._ask(call_request(tool, FIRST_ID))

    def close(self) -> None:
        """The pipes are their process's."""

    def _ask(self, body: bytes) -> dict[str, Any]:
        os.write(self.way.to_process, body + b"\n")
        received = b""
        while not received.endswith(b"\n"):
            chunk = os.read(self.way.from_process, 65536)
            if not chunk:
                raise BadAnswer("the process closed its stdout")
            received += chunk
        message: dict[str, Any] = json.loads(received.splitlines()[-1])
        return message


def call_until_answered(caller: Caller, tool: str, limit_s: float) -> None:
    """A gateway may listen before its server is there: initialize once, call until there is a result."""
    give_up = time.perf_counter() + limit_s
    caller.initialize()
    while True:
        message = caller.call(tool)
        result = message.get("result")
        if isinstance(result, dict) and not result.get("isError"):
            return
        if time.perf_counter() > give_up:
            raise BadAnswer(f"no result within {limit_s:g} s, but {json.dumps(message)[:300]}")
        time.sleep(0.002)
