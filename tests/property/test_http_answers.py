"""The short way of reading an HTTP answer says what h11 says, whatever the bytes and however they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import RemoteProtocolError
from edge.net.http_body import Answer, open_h11

FIELDS = st.lists(
    st.sampled_from(
        [
            b"Content-Type: application/json",
            b"content-length: 5",
            b"Content-Length: 0",
            b"Content-Length: 5, 5",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: Chunked ",
            b"Connection: close",
            b"Connection: Keep-Alive",
            b"Connection: keep-alive, x",
            b"Mcp-Session-Id: \t a b ",
            b"Empty:",
            b" folded: x",
            b"No colon",
            b"Sp ace: x",
            b"Ctl: a\x01b",
            b"High: \xe9",
        ]
    ),
    max_size=4,
)
START = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 No",
        b"HTTP/1.1 404 \t",
        b"HTTP/1.1  200",
    ]
)
BODY = st.sampled_from(
    [
        b"",
        b"hello",
        b"hel",
        b"hello again",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
        b"5\r\nhellox",
    ]
)


@st.composite
def wires(draw: st.DrawFn) -> bytes:
    data = b"\r\n".join([draw(START), *draw(FIELDS)]) + b"\r\n\r\n"
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(max_size=1)) + data[at + 1 :]
    return data + draw(BODY)


def outcome(answer: Answer, chunks: list[bytes]) -> tuple[object, ...]:
    body = b""
    try:
        for chunk in chunks:
            if answer.is_complete:
                break
            body += answer.feed(chunk)
    except RemoteProtocolError:
        return ("broken",)
    fields = answer.fields
    if coding := fields.get("transfer-encoding"):
        fields["transfer-encoding"] = coding.lower()  # h11 does
    return answer.status, fields, body, answer.is_complete, answer.is_reusable


def by_h11(data: bytes) -> tuple[object, ...]:
    answer = Answer("POST")
    answer._any = open_h11("POST")  # as if its head had been unusual
    return outcome(answer, [data])


@given(wires())
def test_the_short_way_agrees_with_h11(data: bytes) -> None:
    assert outcome(Answer("POST"), [data]) == by_h11(data)


@given(wires(), st.lists(st.integers(1, 20), max_size=10))
def test_any_chunking_gives_the_same_answer(data: bytes, cuts: list[int]) -> None:
    chunks, rest = [], data
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    chunks = [chunk for chunk in [*chunks, rest] if chunk]
    # What follows the answer is seen only if it came with the answer's end; whether it is broken, only if read.
    assert outcome(Answer("POST"), chunks)[:4] == outcome(Answer("POST"), [data])[:4]
