"""Bytes to the endpoint and back over a real socket, for requests that no HTTP client would send."""

import json
import re
import socket
from typing import Any, NamedTuple

BOTH = "application/json, text/event-stream"


class Raw(NamedTuple):
    """An answer, and whether the server closed the connection after it."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_closed: bool

    @property
    def error(self) -> Any:
        """The one JSON-RPC error that every refusal is."""
        document = json.loads(self.body)
        assert self.headers["content-type"] == "application/json"
        assert set(document) == {"jsonrpc", "id", "error"}
        return document["error"]

    @property
    def id(self) -> Any:
        return json.loads(self.body)["id"]


def talk_to(address: tuple[str, int], data: bytes, *, has_body: bool = True) -> Raw:
    """One answer to some bytes, on a connection of its own."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(data)
        answer, rest = next_answer(connection, has_body=has_body)
        assert rest == b""
        if answer.is_closed:
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        return answer


def next_answer(
    connection: socket.socket, received: bytes = b"", *, has_body: bool = True
) -> tuple[Raw, bytes]:
    """The next answer, and what was received beyond it."""
    while b"\r\n\r\n" not in received:
        received += more(connection)
    start, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = start.decode("ascii").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0")) if has_body else 0
    while len(body) < length:
        body += more(connection)
    is_closed = headers.get("connection") == "close"
    return Raw(int(status_line.split()[1]), headers, body[:length], is_closed), body[length:]


def more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    assert data, "closed before the answer was whole"
    return data


def address_of(endpoint: str) -> tuple[str, int]:
    """Host and port of the endpoint's URL."""
    found = re.fullmatch(r"http://([^:/]+):(\d+)/mcp", endpoint)
    assert found is not None, endpoint
    return found[1], int(found[2])


def head(method: str, length: int | None, session: str | None, **fields: str | None) -> bytes:
    """A request's head; `None` leaves a field out."""
    usual: dict[str, str | None] = {"Host": "localhost", "Accept": BOTH, "Mcp-Session-Id": session}
    if length is not None:
        usual |= {"Content-Type": "application/json", "Content-Length": str(length)}
    usual |= {name.replace("_", "-").title(): value for name, value in fields.items() if name != "path"}
    lines = [f"{name}: {value}" for name, value in usual.items() if value is not None]
    return "\r\n".join([f"{method} {fields.get('path') or '/mcp'} HTTP/1.1", *lines, "", ""]).encode()


def post(body: str | bytes, session: str | None = None, **fields: str | None) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return head("POST", len(data), session, **fields) + data
