"""The scanner of the load generator: every framing that gateways answer with, under any chunking."""

import pytest

from tests.bench.answers import AnswerScanner, BadAnswer, Shape, shape_of

MESSAGE = b'{"jsonrpc":"2.0","id":1000001,"result":{"content":[]}}'
NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"event: message\r\nid: 7_x\r\ndata: " + MESSAGE + b"\r\n\r\n"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


WITH_LENGTH = JSON_HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(MESSAGE), MESSAGE)
IN_CHUNKS = JSON_HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(MESSAGE[:9], MESSAGE[9:])
AS_EVENTS = STREAM_HEAD + chunked(b": \n\n", b"data: " + NOTE + b"\n\n", EVENT[:30], EVENT[30:])


@pytest.mark.parametrize("wire", [WITH_LENGTH, IN_CHUNKS, AS_EVENTS])
def test_every_framing_gives_the_answer_under_any_chunking(wire: bytes) -> None:
    for size in range(1, len(wire) + 1):
        scanner = AnswerScanner()
        for at in range(0, len(wire), size):
            assert not scanner.has_ended
            scanner.feed(wire[at : at + size])
        assert scanner.has_ended
        assert scanner.message == {"jsonrpc": "2.0", "id": 1000001, "result": {"content": []}}


def test_an_event_answers_before_its_stream_ends() -> None:
    scanner = AnswerScanner()
    scanner.feed(AS_EVENTS.removesuffix(b"0\r\n\r\n"))
    assert (scanner.message is not None, scanner.has_ended) == (True, False)
    scanner.feed(b"0\r\n\r\n")
    assert scanner.has_ended


def test_the_next_answer_begins_afresh() -> None:
    scanner = AnswerScanner()
    scanner.feed(WITH_LENGTH)
    scanner.begin()
    scanner.feed(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
    assert (scanner.status, scanner.has_ended, scanner.message) == (202, True, None)


def test_accepted_needs_no_length() -> None:
    scanner = AnswerScanner()
    scanner.feed(b"HTTP/1.1 202 Accepted\r\n\r\n")
    assert scanner.has_ended


def test_headers_are_found_by_their_names_in_lower_case() -> None:
    scanner = AnswerScanner()
    scanner.feed(b"HTTP/1.1 200 OK\r\nMcp-Session-Id: a:b \r\nContent-Length: 0\r\n\r\n")
    assert scanner.headers["mcp-session-id"] == "a:b"


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlost", "status 404: b'lost'"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", "ends with its connection"),
        (b"SSH-2.0-x\r\n\r\n", "no HTTP answer"),
        (b"", "closed before"),
    ],
)
def test_what_cannot_be_measured_is_refused(wire: bytes, words: str) -> None:
    with pytest.raises(BadAnswer, match=words):
        AnswerScanner().feed(wire)


def test_bytes_after_the_end_are_refused() -> None:
    scanner = AnswerScanner()
    scanner.feed(WITH_LENGTH)
    with pytest.raises(BadAnswer, match="more bytes"):
        scanner.feed(b"x")


def test_the_shape_tells_where_the_id_is_and_what_follows() -> None:
    assert shape_of(b"head 1000001 tail", b"1000001") == Shape(17, 5, b" tail")


@pytest.mark.parametrize("received", [b"id: 1000001\ndata: 1000001", b"no id"])
def test_an_answer_without_exactly_one_id_has_no_shape(received: bytes) -> None:
    with pytest.raises(BadAnswer, match="exactly once"):
        shape_of(received, b"1000001")
