"""The opening handshake, either end: what is agreed on, and what is said when it is not."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from edge.errors import LocalProtocolError
from edge.net.websocket import HandshakeRefused, WebSocketClosed, accept_websocket, open_websocket
from tests.support.raw_websocket import KEY, TEXT, RawPeer, accept_token, frame, opened, switching, upgrade

Answer = Callable[[RawPeer, str], Awaitable[None]]
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\nX-Why: token\r\nX-Why: path\r\n\r\nnot today"


async def heads(answer: Answer, headers: dict[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """Our client's request head, and the answer's fields, where `answer` is given the key to answer to."""
    ours, theirs = memory_stream_pair()
    asked = ""

    async def serve() -> None:
        nonlocal asked
        peer = RawPeer(theirs, is_client=False)
        asked = await peer.head()
        key = next(line for line in asked.split("\r\n") if line.startswith("Sec-WebSocket-Key: "))
        await answer(peer, key.split(" ")[1])

    caught: HandshakeRefused | WebSocketClosed | None = None
    fields: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            async with open_websocket(
                ours,
                host="hub.test:8443",
                target="/v1/link?a=b",
                headers=headers or {},
                max_message_bytes=10,
                timeout_s=10,
            ) as websocket:
                fields = dict(websocket.headers)
        except (HandshakeRefused, WebSocketClosed) as exc:
            caught = exc
    if caught is not None:
        assert await theirs.receive_some(1) == b"", "the connection is closed"
        raise caught
    return asked, fields


def says(data: bytes, *, then_ends: bool = False) -> Answer:
    async def answer(peer: RawPeer, key: str) -> None:
        await peer.send(data)
        if then_ends:
            await peer.stream.send_eof()  # type: ignore[attr-defined]  # a memory stream has it

    return answer


async def test_a_client_asks_as_it_was_told_and_reads_the_answers_fields(autojump_clock: MockClock) -> None:
    async def answer(peer: RawPeer, key: str) -> None:
        for byte in switching(key, "X-Session-ID: s7", "X-More: a", "X-More: b"):
            await peer.send(bytes([byte]))

    asked, fields = await heads(answer, {"Authorization": "Bearer t", "x-latin": "ä"})
    lines = asked.split("\r\n")
    assert lines[0] == "GET /v1/link?a=b HTTP/1.1"
    assert {"Host: hub.test:8443", "Authorization: Bearer t", "Sec-WebSocket-Version: 13"} <= set(lines)
    assert "Sec-WebSocket-Extensions" not in asked
    assert fields == {"x-session-id": "s7", "x-more": "a, b"}


async def test_a_message_right_behind_the_101_is_not_lost(autojump_clock: MockClock) -> None:
    early = frame(TEXT, b"one", masked=False) + frame(TEXT, b"two", masked=False)
    for cut in range(len(early) + 1):
        async with opened(early[:cut]) as (websocket, peer):
            await peer.send(early[cut:] or frame(TEXT, b"three", masked=False))
            assert [await websocket.receive(), await websocket.receive()] == ["one", "two"]


async def test_a_refusal_has_status_fields_and_the_beginning_of_its_body(autojump_clock: MockClock) -> None:
    with pytest.raises(HandshakeRefused) as caught:
        await heads(says(FORBIDDEN))
    refused = caught.value
    assert (refused.status, refused.body) == (403, "not today")
    assert refused.headers["x-why"] == "token, path"
    assert str(refused) == "the WebSocket handshake was answered 403"

    endless = b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 9000
    with pytest.raises(HandshakeRefused) as caught:
        await heads(says(endless))
    assert (caught.value.status, caught.value.body) == (500, "x" * 4096)


@pytest.mark.parametrize(
    "answer",
    [
        says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 900\r\n\r\nhalf"),
        says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 900\r\n\r\nhalf", then_ends=True),
        says(b"HTTP/1.1 403 Forbidden\r\n\r\nhalf", then_ends=True),
        says(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"),
    ],
)
async def test_a_body_that_does_not_end_well_takes_nothing_from_the_status(
    autojump_clock: MockClock, answer: Answer
) -> None:
    with pytest.raises(HandshakeRefused) as caught:
        await heads(answer)
    assert caught.value.status == 403
    assert trio.current_time() <= 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says(b"", then_ends=True), "the connection ended during the WebSocket handshake"),
        (says(b"HTTP/1.1 101 Sw", then_ends=True), "the connection ended during the WebSocket handshake"),
        (says(b"SSH-2.0-OpenSSH_9\r\n\r\n"), "not HTTP"),
        (says(b"x" * 40_000), "not HTTP"),
        (says(b""), "no answer to the WebSocket handshake within 10 s"),
        (says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "breaks its rules"),
        (says(switching("another")), "breaks its rules"),
        (says(b"HTTP/1.1 101 Switching\r\nbad field\r\n\r\n"), "breaks its rules"),
    ],
)
async def test_an_answer_that_is_none_is_said(autojump_clock: MockClock, answer: Answer, words: str) -> None:
    with pytest.raises(WebSocketClosed, match=words):
        await heads(answer)


async def test_an_extension_nobody_asked_for_breaks_the_rules(autojump_clock: MockClock) -> None:
    async def answer(peer: RawPeer, key: str) -> None:
        await peer.send(switching(key, "Sec-WebSocket-Protocol: chat"))

    with pytest.raises(WebSocketClosed, match="breaks its rules"):
        await heads(answer)


async def test_a_broken_connection_is_an_end(autojump_clock: MockClock) -> None:
    async def answer(peer: RawPeer, key: str) -> None:
        raise AssertionError("nothing arrives")

    ours, theirs = memory_stream_pair()
    await theirs.aclose()
    with pytest.raises(WebSocketClosed, match="the connection ended during"):
        async with open_websocket(ours, host="h", target="/", headers={}, max_message_bytes=1, timeout_s=5):
            raise AssertionError("it did not open")


@pytest.mark.parametrize("headers", [{"X-A": "a\r\nb: c"}, {"X A": "a"}, {"X-A": "\u20ac"}])
async def test_a_field_that_http_cannot_carry_is_our_fault(headers: dict[str, str]) -> None:
    ours, _ = memory_stream_pair()
    with pytest.raises(LocalProtocolError):
        async with open_websocket(
            ours, host="h", target="/", headers=headers, max_message_bytes=1, timeout_s=5
        ):
            raise AssertionError("it did not open")
    ours, _ = memory_stream_pair()
    with pytest.raises(LocalProtocolError):
        async with await accept_websocket(ours, upgrade(), headers=headers, max_message_bytes=1):
            raise AssertionError("it did not open")


async def test_a_server_answers_with_its_fields_and_knows_the_clients() -> None:
    ours, theirs = memory_stream_pair()
    async with await accept_websocket(
        ours, upgrade(), headers={"X-Session-ID": "s9"}, max_message_bytes=1
    ) as websocket:
        assert websocket.headers["x-session-id"] == "s1"
        head = await RawPeer(theirs, is_client=True).head()
        await theirs.aclose()
    lines = head.split("\r\n")
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    assert {"X-Session-ID: s9", f"Sec-WebSocket-Accept: {accept_token(KEY)}"} <= set(lines)


async def test_a_server_agrees_to_no_extension_and_no_subprotocol() -> None:
    ours, theirs = memory_stream_pair()
    asked = upgrade(sec_websocket_extensions="permessage-deflate", sec_websocket_protocol="mcp, \u00e4")
    async with await accept_websocket(ours, asked, headers={}, max_message_bytes=1):
        head = await RawPeer(theirs, is_client=True).head()
        await theirs.aclose()
    assert "101" in head
    assert "deflate" not in head
    assert "Protocol:" not in head


@pytest.mark.parametrize(
    ("fields", "status"),  # a version is asked for by either status, if none came or another
    [
        ({"upgrade": "h2c"}, 400),
        ({"upgrade": ""}, 400),
        ({"connection": "keep-alive"}, 400),
        ({"connection": "\u00e4"}, 400),
        ({"sec_websocket_key": ""}, 400),
        ({"sec_websocket_version": ""}, 400),
        ({"sec_websocket_version": "8"}, 426),
    ],
)
async def test_a_request_that_is_no_handshake_is_refused(fields: dict[str, str], status: int) -> None:
    ours, theirs = memory_stream_pair()
    with pytest.raises(HandshakeRefused) as caught:
        async with await accept_websocket(ours, upgrade(**fields), headers={}, max_message_bytes=1):
            raise AssertionError("it was accepted")
    assert caught.value.status == status
    head = await RawPeer(theirs, is_client=True).head()
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert ("websocket-version: 13" in head.lower()) == ("sec_websocket_version" in fields)


async def test_a_key_that_came_twice_is_none() -> None:
    ours, _ = memory_stream_pair()
    head = upgrade(sec_websocket_key=f"{KEY}, {KEY}")
    head.repeated = frozenset({"sec-websocket-key"})
    with pytest.raises(HandshakeRefused):
        async with await accept_websocket(ours, head, headers={}, max_message_bytes=1):
            raise AssertionError("it was accepted")


async def test_a_client_that_left_before_the_answer_is_an_end() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.aclose()
    with pytest.raises(WebSocketClosed, match="ended during the WebSocket handshake"):
        async with await accept_websocket(ours, upgrade(), headers={}, max_message_bytes=1):
            raise AssertionError("it was accepted")


async def test_a_cancelled_handshake_is_cancelled_and_closes(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    with trio.move_on_after(3) as scope:
        async with open_websocket(ours, host="h", target="/", headers={}, max_message_bytes=1, timeout_s=5):
            raise AssertionError("it did not open")
    assert scope.cancelled_caught
    await RawPeer(theirs, is_client=False).hear_end()
