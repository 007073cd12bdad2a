"""The fast path of request heads never disagrees with h11, and h11 sees everything else.

Heads are made usual and then mutated, so that most are almost right: that is where parsers differ.
"""

import re

import h11
from hypothesis import assume, example, given
from hypothesis import strategies as st

from edge.net.http_head import HEAD_END, BadHttp, Head, HeadMemory, careful_head, usual_head

NAMES = (
    "Host", "host", "Content-Length", "content-length", "Transfer-Encoding", "Expect", "Connection", "Upgrade",
    "Accept", "X-Y", "Mcp-Session-Id", "X Y", "", "X\t", "Host ",
)  # fmt: skip
VALUES = (
    "", " ", "test", "0", "7", " 12\t", "+7", "7,7", "7, 8", "1_0", "-1", "0x7", "٣", "9" * 15, "9" * 16, "9" * 21,
    "chunked", "Chunked", "gzip, chunked", "100-continue", "close", "Close", "keep-alive", "close, x", "x,close",
    "websocket", "a b\tc", "\x7f", "\x01", "é", "a\rb", "a\nb", "\x0b", "text/event-stream",
)  # fmt: skip
TARGETS = ("/", "/mcp", "/a?b=c?d", "/%zz", "//", "*", "mcp", "http://h/p", "/a#b", "/a b", "/é", "/\x7f", "")
METHODS = ("POST", "GET", "DELETE", "HEAD", "OPTIONS", "post", "GET ", "P(ST")
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/11", "")
ENDS = ("\r\n", "\n", "\r", "\r\n ", "\r\n\t", "\r\r\n", "\n\r\n")

mostly_crlf = st.one_of(st.just("\r\n"), st.just("\r\n"), st.just("\r\n"), st.sampled_from(ENDS))
tame_fields = st.lists(
    unique_by=lambda field: field[0],
    elements=st.tuples(
        st.sampled_from(("Accept", "X-Y", "Connection")), st.sampled_from(("a", " keep-alive", "close", ""))
    ),
)
wild_fields = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES), mostly_crlf), max_size=4)
request_lines = st.one_of(
    st.just("POST /mcp HTTP/1.1"),
    st.builds("{} {} {}".format, *map(st.sampled_from, (METHODS, TARGETS, VERSIONS))),
)
mutations = st.lists(
    st.tuples(
        st.floats(0, 1), st.integers(0, 2), st.one_of(st.sampled_from(b"\r\n :,\tx"), st.integers(0, 255))
    ),
    max_size=2,
)  # where; replace, insert or delete; which byte


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    text = "POST /mcp HTTP/1.1\r\nHost: test\r\nContent-Length: 7\r\n"
    if draw(st.booleans()):
        for name, value in draw(tame_fields):
            text += f"{name}:{value}\r\n"
    else:
        if draw(st.booleans()):
            text = draw(request_lines) + draw(mostly_crlf) + draw(st.sampled_from(("", "Host: test\r\n")))
        for name, value, end in draw(wild_fields):
            text += f"{name}:{value}{end}"
    data = bytearray((text + "\r\n").encode())
    for where, how, byte in draw(mutations):
        at = int(where * (len(data) - 1))
        if how == 0:
            data[at] = byte
        elif how == 1:
            data.insert(at, byte)
        else:
            del data[at]
    before, head_end, _ = bytes(data).partition(HEAD_END)
    assume(head_end)  # the server hands over whole heads only
    return before + head_end


def judged_by_h11(data: bytes) -> tuple[h11.Request, h11.Connection]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return event, connection


def body_bytes_by_h11(connection: h11.Connection) -> int:
    """How much h11 takes for the body when it is offered more than that."""
    taken = 0
    connection.receive_data(b"x" * 100_000)
    while isinstance(event := connection.next_event(), h11.Data):
        taken += len(event.data)
    return taken if isinstance(event, h11.EndOfMessage) else 100_000  # it wants more than was offered


def usual_as_h11_has_it(data: bytes, head: Head) -> None:
    event, connection = judged_by_h11(data)
    request = head.request
    target = f"{request.path}?{request.query}" if b"?" in event.target else request.path
    assert (request.method.encode(), target.encode()) == (event.method, event.target)
    assert event.http_version == b"1.1"
    assert [(name.encode(), value.encode("latin-1")) for name, value in request.headers.items()] == list(
        event.headers
    )
    assert request.repeated == frozenset()
    assert connection.their_state is h11.SEND_BODY
    assert not connection.they_are_waiting_for_100_continue
    assert min(head.body_bytes, 100_000) == body_bytes_by_h11(connection)
    state_after: object = connection.their_state
    if head.body_bytes <= 100_000:
        assert state_after is (h11.DONE if head.keep_alive else h11.MUST_CLOSE)
    assert not head.is_http10
    assert not head.is_head


@given(heads())
@example(b"POST /mcp HTTP/1.1\r\nHost:\r\nContent-Length:\t7 \r\n\r\n")
@example(b"GET /?a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
def test_what_the_fast_path_takes_h11_takes_with_the_same_meaning(data: bytes) -> None:
    head = usual_head(data, "peer")
    if head is not None:
        usual_as_h11_has_it(data, head)
        assert careful_head(data, "peer", max_head_bytes=65536) == head


lengths = st.sampled_from(
    (b"", b"0", b"7", b"12", b"007", b"9" * 15, b"9" * 16, b"+7", b"1 2", b"7\r\nX: y", b" 8 ")
)


@given(st.lists(st.tuples(heads(), st.lists(lengths, max_size=4)), min_size=1, max_size=4))
@example(
    [(b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n", [b"8", b"", b"9\r\nContent-Length: 9"])]
)
def test_the_memory_of_heads_gives_what_the_fast_path_gives(series: list[tuple[bytes, list[bytes]]]) -> None:
    memory = HeadMemory()
    for head, others in series:
        variants = [
            re.sub(rb"(?i)(content-length:[ \t]*)[0-9]+", rb"\g<1>" + other, head) for other in others
        ]
        for data in (head, *variants, head):
            assert memory.read(data, "peer") == usual_head(data, "peer")


@given(heads())
def test_any_head_is_understood_or_refused_with_a_status(data: bytes) -> None:
    try:
        head = careful_head(data, "peer", max_head_bytes=65536)
    except BadHttp as exc:
        assert exc.status in (400, 413, 501, 505)  # noqa: PT017  both outcomes are right
    else:
        assert head.request.path.startswith("/") or head.request.path == "*"
        assert (head.chunked is not None) == (head.body_bytes == -1)
        assert not (head.chunked is not None and "content-length" in head.request.headers)


def test_the_usual_heads_of_clients_take_the_fast_path() -> None:
    for line in ("POST /mcp HTTP/1.1", "GET /servers/git/mcp?x=1 HTTP/1.1", "DELETE /mcp HTTP/1.1"):
        data = (
            f"{line}\r\nhost: 127.0.0.1:8766\r\nAccept: application/json, text/event-stream\r\n"
            "Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nMCP-Protocol-Version: 2025-11-25\r\n"
            "Mcp-Session-Id: 0123456789abcdef\r\nContent-Type: application/json\r\nContent-Length: 520\r\n\r\n"
        ).encode()
        head = usual_head(data, "peer")
        assert head is not None
        usual_as_h11_has_it(data, head)
        assert head.body_bytes == 520
