"""The server behind the gateways: what it cuts out of the bytes is what JSON says."""

import json

import pytest

from tests.bench.caller import BODY_BYTES, FIRST_ID, call_request
from tests.bench.echo import answer, http_replies


@pytest.mark.parametrize(
    "request_text",
    [
        call_request("echo", FIRST_ID),
        b'{"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}},"jsonrpc":"2.0","id":"a"}',
        b'{"id": 5, "jsonrpc": "2.0", "method": "tools/call", "params": {"arguments": {"text": "hi"}}}',
    ],
)
def test_a_call_is_answered_with_its_id_and_text(request_text: bytes) -> None:
    asked, answered = json.loads(request_text), json.loads(answer(request_text))
    assert answered["id"] == asked["id"]
    assert answered["result"]["content"][0]["text"] == asked["params"]["arguments"]["text"]


def test_a_notification_gets_no_answer() -> None:
    assert answer(b'{"jsonrpc":"2.0","method":"notifications/initialized"}') == b""


def test_a_call_has_the_promised_size() -> None:
    assert len(call_request("bench__echo", FIRST_ID + 1)) == BODY_BYTES


def test_http_requests_are_answered_when_they_are_whole() -> None:
    body = call_request("echo", FIRST_ID)
    wire = b"POST /mcp HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    replies, rest = http_replies(wire + wire[:50])
    assert replies.count(b"HTTP/1.1 200 OK") == 1
    assert replies.endswith(answer(body))
    assert rest == wire[:50]


def test_a_stream_is_refused_and_a_session_may_end() -> None:
    replies, rest = http_replies(b"GET /mcp HTTP/1.1\r\n\r\nDELETE /mcp HTTP/1.1\r\n\r\n")
    assert [line[:12] for line in replies.split(b"\r\n") if line.startswith(b"HTTP")] == [
        b"HTTP/1.1 405",
        b"HTTP/1.1 200",
    ]
    assert rest == b""
