"""A Streamable HTTP server that misbehaves as a test says; threads, standard library only, real sockets.

It is a decent MCP server with one tool, `work`, until its `on_call` or `before` is replaced. It counts what
it received and what it executed, so that a test can show that nothing ran twice.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

VERSION = "2025-11-25"
JOIN_S = 10.0
INTRODUCTION = {
    "protocolVersion": VERSION,
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "rude", "version": "1"},
}


@dataclass
class Got:
    """One request as it was read; field names in lower case."""

    method: str
    fields: dict[str, str]
    message: dict[str, Any]


class Line:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def raw(self, data: bytes) -> None:
        self._sock.sendall(data)

    def send(self, status: int, body: bytes = b"", **fields: str) -> None:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        lines = [f"{name}: {value}" for name, value in {**named, "Content-Length": str(len(body))}.items()]
        self.raw("\r\n".join([f"HTTP/1.1 {status} Whatever", *lines, "", ""]).encode() + body)

    def json(self, value: Any, status: int = 200, **fields: str) -> None:
        body = json.dumps(value).encode()
        self.send(status, body, Content_Type="application/json", **fields)

    def result(self, got: Got, result: Any, **fields: str) -> None:
        self.json(response(got, result), 200, **fields)

    def start_events(self) -> None:
        self.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    def event(self, value: Any) -> None:
        data = f"event: message\ndata: {json.dumps(value)}\n\n".encode()
        self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def drop(self) -> None:
        """End the connection here and now."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def wait_gone(self) -> None:
        """Until the client closes the connection."""
        while self._sock.recv(65536):
            pass


Script = Callable[[Got, Line], None]


def response(got: Got, result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": got.message["id"], "result": result}


def done(got: Got) -> dict[str, Any]:
    """A good answer to a call of the tool."""
    return response(got, {"content": [{"type": "text", "text": "done"}]})


class RudeServer:
    """Listens on loopback while `open`; the same port again when it is opened again."""

    def __init__(self) -> None:
        self.initialized: list[str] = []  # session ids, in order
        self.sessions: set[str] = set()
        self.received: list[Got] = []
        self.executed: list[Any] = []  # arguments of the calls that ran
        self.on_call: Script = self.work
        self.before: Script = self.nothing  # runs for each call, before its session is looked at
        self.opened = 0  # connections so far
        self.port = 0
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._accepting: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def calls(self) -> list[Any]:
        """Arguments of the calls that were received, whether or not they ran."""
        return [
            got.message["params"]["arguments"]
            for got in list(self.received)
            if got.message.get("method") == "tools/call"
        ]

    def told(self, method: str) -> list[dict[str, Any]]:
        """The notifications of this method that came."""
        return [got.message for got in list(self.received) if got.message.get("method") == method]

    def reserve(self) -> None:
        """Take a port without listening on it: who connects is refused."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]

    def start(self) -> None:
        """Listen, on the reserved port or any."""
        if self._listener is None:
            self.reserve()
        assert self._listener is not None
        self._listener.listen(128)
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """As if it were killed: no port, no connections, and all sessions are forgotten."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):  # not connected: it wakes `accept` all the same
                listener.shutdown(socket.SHUT_RDWR)
        if self._accepting is not None:
            self._accepting.join(JOIN_S)
            assert not self._accepting.is_alive()
            self._accepting = None
        if listener is not None:
            listener.close()
        with self._lock:
            threads = list(self._connections.values())
            for sock in self._connections:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(JOIN_S)
            assert not thread.is_alive()
        self.sessions.clear()

    def nothing(self, got: Got, line: Line) -> None:
        """Nothing is wrong."""

    def work(self, got: Got, line: Line) -> None:
        """Run the call, and answer it as one should."""
        self.executed.append(got.message["params"]["arguments"])
        line.json(done(got))

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            with self._lock:
                self.opened += 1
                self._connections[sock] = thread
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError), sock.makefile("rb") as stream:
                while (got := read_request(stream)) is not None:
                    self.received.append(got)
                    self._answer(got, Line(sock))
        finally:
            with self._lock:
                del self._connections[sock]
            sock.close()

    def _answer(self, got: Got, line: Line) -> None:
        message, session = got.message, got.fields.get("mcp-session-id", "")
        if message.get("method") == "tools/call":
            self.before(got, line)
        match got.method, message.get("method"):
            case "POST", "initialize":
                session = f"session-{len(self.initialized) + 1}"
                self.initialized.append(session)
                self.sessions.add(session)
                line.result(got, INTRODUCTION, Mcp_Session_Id=session)
            case _ if session not in self.sessions:
                error = {"code": -32001, "message": "Session not found"}
                line.json({"jsonrpc": "2.0", "id": None, "error": error}, 404)
            case "DELETE", _:
                self.sessions.discard(session)
                line.send(200)
            case "GET", _:
                line.send(405)
            case _ if "id" not in message:
                line.send(202)
            case _, "tools/list":
                line.result(got, {"tools": [{"name": "work", "inputSchema": {"type": "object"}}]})
            case _, "tools/call":
                self.on_call(got, line)
            case _:
                line.result(got, {})


def read_request(stream: Any) -> Got | None:
    """The next request of a connection; None at its end."""
    line = stream.readline()
    if not line:
        return None
    fields: dict[str, str] = {}
    while (field := stream.readline().decode("latin-1").strip()) != "":
        name, _, value = field.partition(":")
        fields[name.lower()] = value.strip()
    body = stream.read(int(fields.get("content-length", "0")))
    return Got(line.decode("latin-1").split(" ")[0], fields, json.loads(body) if body else {})


@contextlib.contextmanager
def rude_server(*, listening: bool = True) -> Iterator[RudeServer]:
    """One server, on a port of its own; not `listening`: connections to it are refused until `start`."""
    server = RudeServer()
    server.start() if listening else server.reserve()
    try:
        yield server
    finally:
        server.stop()
