"""Edges made of the standard library alone, against a hub's TLS listener: they can do what no proper one would.

    peer = BadPeer(place, hub, "bad")
    with peer.websocket() as socket:
        socket.register("bad")
        socket.send(TEXT, b"rubbish")
        assert socket.close_code() == 1008

Each `BadPeer` comes from a loopback address of its own, so that the hub's log lines about it can be told apart. What
an edge's MCP server would say is `answer_to`; it is said only while the test reads (`until`, `close_code`, `serve`).
"""

import contextlib
import http.client
import itertools
import json
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.support.appliance import Answer, Appliance
from tests.support.links import Site, port_of

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LIMIT_S = 30.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
OWN_HEADER = "MCP-Edge-Link"
ABNORMAL = 1006
ADDRESSES = itertools.count(1)

Message = dict[str, Any]


class Refused(Exception):
    """A WebSocket handshake was answered with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def answer_to(message: Message) -> Message | None:
    """What an MCP server with one tool, `echo`, says; None to what needs no answer."""
    if "id" not in message or "method" not in message:
        return None
    results: dict[str, Message] = {
        "initialize": {
            "protocolVersion": message.get("params", {}).get("protocolVersion", "2024-11-05"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "bad", "version": "0"},
        },
        "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
        "tools/call": {
            "content": [
                {"type": "text", "text": str(message.get("params", {}).get("arguments", {}).get("text"))}
            ]
        },
        "ping": {},
    }
    found = results.get(message["method"])
    what = {"error": {"code": -32601, "message": "not here"}} if found is None else {"result": found}
    return {"jsonrpc": "2.0", "id": message["id"], **what}


class BadPeer:
    """One edge's host. `token` is the edge's, unless another one is given; None shows none."""

    def __init__(self, place: Site, hub: Appliance, edge: str, token: str | None = "its own") -> None:
        self.edge = edge
        self.port = port_of(hub.hub)
        number = next(ADDRESSES)
        self.host = f"127.66.{number // 250}.{number % 250 + 1}"
        self.token = place.token(edge) if token == "its own" else token
        self.tls = ssl.create_default_context(cafile=str(place.ca))

    def connect(self, *, receive_bytes: int = 0) -> ssl.SSLSocket:
        """A TLS connection; with `receive_bytes`, the kernel takes little for us."""
        raw = self.tcp(receive_bytes=receive_bytes)
        try:
            return self.tls.wrap_socket(raw, server_hostname="127.0.0.1")
        except BaseException:
            raw.close()
            raise

    def tcp(self, *, receive_bytes: int = 0) -> socket.socket:
        """A connection before TLS."""
        raw = socket.socket()
        try:
            if receive_bytes:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            raw.settimeout(LIMIT_S)
            raw.bind((self.host, 0))
            raw.connect(("127.0.0.1", self.port))
        except BaseException:
            raw.close()
            raise
        return raw

    def head(self, method: str, target: str, length: int | None = None, /, **fields: str) -> bytes:
        """A request's head; underscores in the fields' names stand for hyphens."""
        told = {"Host": f"127.0.0.1:{self.port}"}
        if self.token is not None:
            told["Authorization"] = f"Bearer {self.token}"
        if length is not None:
            told |= {"Content-Type": "application/json", "Content-Length": str(length)}
        told |= {name.replace("_", "-"): value for name, value in fields.items()}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | object = None,
        *,
        limit_s: float = LIMIT_S,
        **fields: str,
    ) -> Answer:
        """One request and its answer, on a connection of its own. A body that is no bytes is sent as JSON."""
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(self.connect()) as connection:
            connection.settimeout(limit_s)
            head = self.head(method, target, None if sent is None else len(sent), **fields)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                connection.sendall(head + (sent or b""))  # a refusal may come, and the connection end, before
            return answer_on(connection)

    # -- contextforge

    @contextlib.contextmanager
    def websocket(
        self, path: str = "/reverse-proxy/ws", receive_bytes: int = 0, /, **fields: str
    ) -> Iterator["RawWebSocket"]:
        """After the handshake. Raises: Refused."""
        connection = self.connect(receive_bytes=receive_bytes)
        with contextlib.closing(connection):
            asked = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec_WebSocket_Key": KEY,
                "Sec_WebSocket_Version": "13",
                **fields,
            }
            connection.sendall(self.head("GET", path, **asked))
            received = b""
            while b"\r\n\r\n" not in received:
                received += some(connection)
            start, _, rest = received.partition(b"\r\n\r\n")
            first, *lines = start.decode().split("\r\n")
            status = int(first.split(" ")[1])
            if status != 101:
                raise Refused(status)
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            yield RawWebSocket(connection, rest, headers)

    @contextlib.contextmanager
    def registered(self, name: str = "", /, **fields: str) -> Iterator["RawWebSocket"]:
        """A WebSocket whose server has been looked at."""
        with self.websocket(**fields) as found:
            found.register(name or self.edge)
            found.until("register_ack")
            if OWN_HEADER.lower() not in found.headers:
                found.until("register_complete")
            yield found

    # -- mcp-reverse

    @contextlib.contextmanager
    def events(self, name: str = "", /, **fields: str) -> Iterator["RawEvents"]:
        """An open event stream. Raises: Refused."""
        named = {"Accept": "text/event-stream", "X_MCP_Server_Name": name or self.edge, **fields}
        with contextlib.closing(self.connect()) as connection:
            connection.sendall(self.head("GET", "/mcp-reverse/sse", **named))
            response = http.client.HTTPResponse(connection)
            response.begin()
            with contextlib.closing(response):
                if response.status != 200:
                    raise Refused(response.status)
                yield RawEvents(self, connection, response)

    # -- long-poll

    def polls(self, **registration: object) -> "RawPolls":
        """A registered polling session. Raises: Refused."""
        answer = self.register(**registration)
        if answer.status != 200:
            raise Refused(answer.status)
        return RawPolls(self, answer.json()["session_id"])

    def register(self, **registration: object) -> Answer:
        return self.ask("POST", "/register", {"type": "mcp_server", "timestamp": 1, **registration})


class RawWebSocket:
    """Frames by hand; always masked as a client's, unless the test says else."""

    def __init__(self, connection: ssl.SSLSocket, received: bytes, headers: Mapping[str, str]) -> None:
        self.connection = connection
        self.headers = headers
        self.heard: list[Message] = []  # frames of the protocol that were no requests
        self.calls: list[Message] = []  # requests, of MCP
        self.numbered = 0  # the last message sent, between two ends of theirs
        self._received = received

    @property
    def link(self) -> str:
        """The id of the link, if we said that we are one of theirs."""
        members = dict(part.strip().split("=") for part in self.headers[OWN_HEADER.lower()].split(";"))
        return members["link"]

    def send(self, opcode: int, payload: bytes = b"", **how: bool) -> None:
        self.connection.sendall(frame(opcode, payload, **how))

    def text(self, text: str) -> None:
        self.send(TEXT, text.encode())

    def say(self, kind: str, **members: Any) -> None:
        self.text(json.dumps({"type": kind, "sessionId": "mine", **members}))

    def register(self, name: str) -> None:
        self.say("register", server={"name": name, "protocol": "stdio"})

    def hear(self, limit_s: float = LIMIT_S) -> tuple[int, bytes]:
        """The next frame's opcode and payload. EOFError at the connection's end, TimeoutError."""
        self._give_up = time.monotonic() + limit_s
        first, second = self._exactly(2)
        assert not first & 0x70, "no extension was agreed on"
        assert not second & 0x80, "servers do not mask"
        size = second & 0x7F
        if size == 126:
            [size] = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            [size] = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, self._exactly(size)

    def until(self, kind: str, limit_s: float = LIMIT_S) -> Message:
        """The next frame of that type; meanwhile requests and pings are answered."""
        return self._serve(kind, limit_s)

    def serve(self, until: Callable[[], bool]) -> None:
        """Answer requests and pings until something is true."""
        give_up = time.monotonic() + LIMIT_S
        while not until():
            assert time.monotonic() < give_up, "not in time"
            with contextlib.suppress(TimeoutError):
                self._serve("", 0.05)

    def close_code(self, limit_s: float = LIMIT_S) -> int:
        """The code of the close frame that comes; ABNORMAL if the connection ends without one."""
        try:
            self._serve("", limit_s)
        except CloseFrame as exc:
            return exc.code
        except (EOFError, OSError) as exc:
            if isinstance(exc, TimeoutError):
                raise
            return ABNORMAL
        raise AssertionError("it serves for ever")

    def _serve(self, kind: str, limit_s: float) -> Message:
        for said in self.heard:
            if said["type"] == kind:
                self.heard.remove(said)
                return said
        give_up = time.monotonic() + limit_s
        while True:
            opcode, payload = self.hear(give_up - time.monotonic())
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                with contextlib.suppress(OSError):
                    self.send(CLOSE, payload[:2])
                raise CloseFrame(code, payload[2:].decode())
            if opcode == PING:
                self.send(PONG, payload)
                continue
            if opcode == TEXT and payload[:1].isdigit():
                self._take_numbered(payload.decode())
            if opcode != TEXT or not payload.startswith(b"{"):
                continue
            said = json.loads(payload)
            if said["type"] == kind:
                return dict(said)
            if said["type"] == "request":
                self.calls.append(said["payload"])
                answer = answer_to(said["payload"])
                if answer is not None:
                    self.say("response", payload=answer)
            else:
                self.heard.append(said)

    def _take_numbered(self, text: str) -> None:
        """A frame between two ends of theirs: number, acknowledgement, message."""
        number, _, message = text.split(" ", 2) if text.count(" ") > 1 else ("0", "0", "")
        if message:
            self.calls.append(json.loads(message))
            if (answer := answer_to(self.calls[-1])) is not None:
                self.numbered += 1
                self.text(f"{self.numbered} {number} {json.dumps(answer)}")

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            left_s = self._give_up - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            # Not by a time-out in the middle of a frame: what has come stays in `_received`.
            if not self.connection.pending() and not select.select([self.connection], [], [], left_s)[0]:
                raise TimeoutError
            data = self.connection.recv(65536)
            if not data:
                raise EOFError
            self._received += data
        taken, self._received = self._received[:size], self._received[size:]
        return taken


class CloseFrame(Exception):
    """The hub has closed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class RawEvents:
    """An event stream, and the POSTs that belong to it."""

    def __init__(self, peer: BadPeer, connection: ssl.SSLSocket, response: http.client.HTTPResponse) -> None:
        self.peer = peer
        self._connection = connection
        self.session = response.headers["X-Session-ID"]
        self.headers = response.headers
        self.calls: list[Message] = []
        self._response = response

    def post(self, body: bytes | object, session: str | None = None) -> int:
        """The status that a message is answered with."""
        target = f"/mcp-reverse/message?sessionId={session or self.session}"
        return self.peer.ask("POST", target, body).status

    def serve(self, until: Callable[[], bool]) -> None:
        """Answer what is asked until something is true; looked at with each line, comments included."""
        give_up = time.monotonic() + LIMIT_S
        while not until():
            assert time.monotonic() < give_up, "not in time"
            message = self._read()
            if message is not None:
                self.calls.append(message)
                if (answer := answer_to(message)) is not None:
                    assert self.post(answer) == 202

    def next(self) -> Message:
        """The next event's message. EOFError at the stream's end."""
        while (found := self._read()) is None:
            pass
        return found

    def _read(self) -> Message | None:
        """The next line's message, if it has one. EOFError at the stream's end."""
        try:
            line = self._response.readline(1 << 20)
        except http.client.IncompleteRead as exc:
            raise EOFError from exc
        if not line:
            raise EOFError
        text = line[5:].strip() if line.startswith(b"data:") else b""
        return dict(json.loads(text)) if text else None

    def leave(self) -> None:
        """End the connection with TLS's farewell."""
        with contextlib.suppress(OSError):
            self._connection.unwrap()

    def ended(self) -> bool:
        """It ends, in an orderly way or not, whatever comes before."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self.next()
        return True


class RawPolls:
    """A polling session."""

    def __init__(self, peer: BadPeer, session: str) -> None:
        self.peer = peer
        self.session = session
        self.calls: list[Message] = []

    def poll(self, session: str | None = None) -> Answer:
        return self.peer.ask("GET", f"/poll?session_id={session or self.session}")

    def respond(self, body: bytes | object, session: str | None = None) -> int:
        return self.peer.ask("POST", f"/response?session_id={session or self.session}", body).status

    def serve(self, until: Callable[[], bool]) -> None:
        """Poll and answer until something is true."""
        give_up = time.monotonic() + LIMIT_S
        while not until():
            assert time.monotonic() < give_up, "not in time"
            answer = self.poll()
            assert answer.status in (200, 204), answer
            if answer.status == 200:
                self.answer(answer)

    def answer(self, polled: Answer) -> None:
        """Do what a poll brought."""
        envelope = polled.json()
        self.calls.append(envelope["request"])
        said = {"request_id": envelope["request_id"], "response": answer_to(envelope["request"]) or {}}
        assert self.respond(said) == 200


def frame(
    opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = True, reserved: bool = False
) -> bytes:
    head = bytes([opcode | (0x80 if final else 0) | (0x40 if reserved else 0)])
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    return head + (bytes(4) if masked else b"") + payload  # a mask of zeros is one


def some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise EOFError
    return data


def answer_on(connection: socket.socket) -> Answer:
    """The answer that comes on a connection. EOFError if it ends without one."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
    except (http.client.RemoteDisconnected, ConnectionError) as exc:
        raise EOFError from exc
    with contextlib.closing(response):
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())
