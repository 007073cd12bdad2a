"""What is read as an HTTP answer."""

import pytest

from edge.errors import RemoteProtocolError
from edge.net.http_body import Answer as HttpAnswer
from tests.support.http_server_toys import head


def read_whole(data: bytes, *, step: int, method: str = "POST") -> tuple[int, bytes, bool, bool]:
    answer, body = HttpAnswer(method), b""
    for at in range(0, len(data), step):
        body += answer.feed(data[at : at + step])
    return answer.status, body, answer.is_complete, answer.is_reusable


ANSWERS = {
    "length": (head(200, {"Content-Length": "5"}) + b"hello", (200, b"hello", True, True)),
    "empty": (head(202, {"Content-Length": "0"}), (202, b"", True, True)),
    "chunks": (
        head(200, {"Transfer-Encoding": "chunked"}) + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n",
        (200, b"hello", True, True),
    ),
    "close": (
        head(200, {"Content-Length": "5", "Connection": "close"}) + b"hello",
        (200, b"hello", True, False),
    ),
    "interim first": (
        b"HTTP/1.1 103 Early\r\n\r\n" + head(200, {"Content-Length": "5"}) + b"hello",
        (200, b"hello", True, True),
    ),
    "no body by status": (b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n", (204, b"", True, True)),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", (200, b"hello", True, False)),
    "until the end": (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello", (200, b"hello", False, False)),
}


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_under_any_chunking(name: str, step: int) -> None:
    data, expected = ANSWERS[name]
    assert read_whole(data, step=step) == expected


@pytest.mark.parametrize(
    "data",
    [
        head(200, {"Content-Length": "4"}) + b"hello",
        head(200, {"Content-Length": "0"}) + b"h",
        head(200, {"Transfer-Encoding": "chunked"}) + b"4\r\nhell\r\n0\r\n\r\no",
        b"HTTP/1.1 204 No\r\nA: b\r\n\r\no",
    ],
)
def test_a_connection_that_says_more_than_it_was_asked_is_not_used_again(data: bytes) -> None:
    _, _, is_complete, is_reusable = read_whole(data, step=1000)
    assert (is_complete, is_reusable) == (True, False)


def test_an_answer_without_length_ends_with_the_connection() -> None:
    answer = HttpAnswer("GET")
    assert answer.feed(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello") == b"hello"
    assert answer.feed(b"") == b""
    assert answer.is_complete
    assert not answer.is_reusable


def test_field_names_are_lower_case_and_repeated_fields_are_joined() -> None:
    answer = HttpAnswer("GET")
    answer.feed(b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 0\r\na:  c \r\n\r\n")
    assert answer.fields == {"a": "b, c", "content-length": "0"}


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000,
        head(200, {"Transfer-Encoding": "chunked"}) + b"5x\r\nhello\r\n",
        head(200, {"Transfer-Encoding": "chunked"}) + b"5\r\nhello!\r\n",
        head(200, {"Transfer-Encoding": "chunked"}) + b"0" * 300,
        head(200, {"Transfer-Encoding": "chunked"}) + b"0\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    ],
)
def test_broken_http_is_an_error(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        HttpAnswer("GET").feed(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        head(200, {"Content-Length": "5"}) + b"hell",
        head(200, {"Transfer-Encoding": "chunked"}) + b"5\r\nhello\r\n",
    ],
)
def test_an_answer_cut_short_is_an_error(data: bytes) -> None:
    answer = HttpAnswer("GET")
    if data:
        answer.feed(data)
    with pytest.raises(RemoteProtocolError):
        answer.feed(b"")
