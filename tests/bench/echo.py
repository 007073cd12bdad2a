"""An MCP server with one tool, `echo`, as cheap as Python allows: what stands behind every gateway.

Run as a program without site packages: `echo.py stdio`, or `echo.py http PORT` for streamable HTTP with JSON
answers. It trusts what gateways send: calls in compact JSON are answered by cutting the id and the text out of
the bytes; everything else goes through `json`. The HTTP half knows no chunked bodies and no sessions but one.
"""

import os
import select
import socket
import sys

ANSWER = b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"%b"}]}}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: bench\r\nContent-Length: %d\r\n\r\n%b"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
NO_STREAM = b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST, DELETE\r\nContent-Length: 0\r\n\r\n"
ENDED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHUNK = 65536


def answer(message: bytes) -> bytes:
    """The answer to one message; empty for a notification."""
    if b'"tools/call"' in message:
        at = message.find(b'"id":') + 5
        text = message.find(b'"text":"') + 8
        if at > 4 and text > 7:
            end = message.find(b",", at)
            call_id = message[at:end] if end > 0 else message[at:].rstrip(b"} \r\n")
            return ANSWER % (call_id, message[text : message.find(b'"', text)])
    return rare_answer(message)


def rare_answer(message: bytes) -> bytes:
    import json

    request = json.loads(message)
    if "id" not in request or "method" not in request:
        return b""
    result: dict[str, object] = {}
    params = request.get("params") or {}
    match request["method"]:
        case "initialize":
            result = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "echo", "version": "1"},
            }
        case "tools/list":
            schema = {"type": "object", "properties": {"text": {"type": "string"}}}
            result = {"tools": [{"name": "echo", "description": "Says it again.", "inputSchema": schema}]}
        case "tools/call":
            result = {"content": [{"type": "text", "text": params["arguments"]["text"]}]}
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()


def serve_stdio() -> None:
    rest = b""
    while chunk := os.read(0, CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        if answers := [found for line in lines if (found := answer(line))]:
            os.write(1, b"\n".join(answers) + b"\n")


def serve_http(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    rests: dict[int, bytes] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                continue
            try:
                chunk = os.read(fd, CHUNK)
                if chunk:
                    replies, rest = http_replies(rests.pop(fd, b"") + chunk)
                    if rest:
                        rests[fd] = rest
                    if replies:
                        os.write(fd, replies)
            except OSError:
                chunk = b""
            if not chunk:
                rests.pop(fd, None)
                connections.pop(fd).close()


def http_replies(received: bytes) -> tuple[bytes, bytes]:
    """What to send for the whole requests in `received`, and the beginning of the next one."""
    replies = b""
    while (end := received.find(b"\r\n\r\n") + 4) > 3:
        head = received[:end].lower()
        at = head.find(b"content-length:")
        end += int(head[at + 15 : head.find(b"\r\n", at)]) if at > 0 else 0
        if len(received) < end:
            break
        replies += http_reply(received[:5], received[len(head) : end])
        received = received[end:]
    return replies, received


def http_reply(method: bytes, body: bytes) -> bytes:
    if method != b"POST ":
        return NO_STREAM if method == b"GET /" else ENDED
    content = answer(body)
    if not content:
        return ACCEPTED
    return (BEGUN if b'"initialize"' in body else OK) % (len(content), content)


if __name__ == "__main__":
    if sys.argv[1] == "http":
        serve_http(int(sys.argv[2]))
    else:
        serve_stdio()
