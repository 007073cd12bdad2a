"""An open WebSocket: messages, signs of life, the end; and peers that break the rules."""

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from edge.net.websocket import WebSocketClosed, accept_websocket, open_websocket
from tests.support.raw_websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MOST,
    PING,
    PONG,
    TEXT,
    RawPeer,
    accepted,
    frame,
    goodbye_of,
    hold_back,
    opened,
    upgrade,
)

DIALOGUE = (
    frame(TEXT, b"a")
    + frame(TEXT, "größe".encode()[:3], final=False)
    + frame(PING, b"!")
    + frame(CONTINUATION, "größe".encode()[3:])
    + frame(TEXT)
    + frame(BINARY, b"\xff\x00")
    + frame(TEXT, b"x" * 200)
)
SAID: list[str | bytes] = ["a", "größe", "", b"\xff\x00", "x" * 200]


async def test_messages_go_both_ways_over_either_end(autojump_clock: MockClock) -> None:
    for end in (accepted, opened):
        async with end() as (websocket, peer):
            for text in ("", "{}", "grüße", "x" * 70_000):
                await websocket.send(text)
                assert await peer.hear() == (TEXT, text.encode())
            await peer.say(TEXT, b"hello")
            assert await websocket.receive() == "hello"


async def test_a_dialogue_cut_at_any_byte_is_the_same(autojump_clock: MockClock) -> None:
    for cut in range(len(DIALOGUE) + 1):
        async with accepted() as (websocket, peer):
            await peer.send(DIALOGUE[:cut])
            got: list[str | bytes] = []
            with trio.move_on_after(1):  # a receive that was given up loses nothing of a message
                while len(got) < len(SAID):
                    got.append(await websocket.receive())
            await peer.send(DIALOGUE[cut:] or b"")
            while len(got) < len(SAID):
                got.append(await websocket.receive())
            assert got == SAID
            assert await peer.hear() == (PONG, b"!")


async def test_a_flood_of_messages_lets_other_tasks_run() -> None:
    turns = 0
    async with accepted() as (websocket, peer), trio.open_nursery() as nursery:

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        await peer.send(*[frame(TEXT, b"x")] * 1000)
        nursery.start_soon(count)
        for _ in range(1000):
            await websocket.receive()
        assert turns >= 10
        nursery.cancel_scope.cancel()


async def test_a_ping_is_answered_and_tells_that_the_peer_is_there(autojump_clock: MockClock) -> None:
    async with accepted() as (websocket, peer):
        signs: list[float | None] = []
        websocket.on_alive = signs.append
        await peer.send(frame(PING, b"1"), frame(PING, b"2"), frame(TEXT, b"x"))
        await websocket.receive()
        assert [await peer.hear(), await peer.hear()] == [(PONG, b"1"), (PONG, b"2")]
        assert signs == [None, None]


async def test_a_pong_tells_the_round_trip_of_the_last_ping_only(autojump_clock: MockClock) -> None:
    async with accepted() as (websocket, peer):
        signs: list[float | None] = []
        websocket.on_alive = signs.append
        await websocket.ping()
        _, first = await peer.hear()
        await websocket.ping()
        opcode, second = await peer.hear()
        assert opcode == PING
        assert first != second
        await trio.sleep(3)
        await peer.send(*(frame(PONG, payload) for payload in (first, second, second, b"never asked")))
        await peer.say(TEXT, b"x")
        await websocket.receive()
        assert signs == [None, 3.0, None, None]


async def test_a_ping_while_a_message_is_being_written_is_answered_after_it(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = memory_stream_pair()
    may_write = trio.Event()
    async with await accept_websocket(ours, upgrade(), headers={}, max_message_bytes=MOST) as websocket:
        peer = RawPeer(theirs, is_client=True)
        await peer.head()
        hold_back(ours, may_write)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.send, "long")
            await wait_all_tasks_blocked()
            await peer.send(frame(PING, b"lost"), frame(PING, b"last"), frame(TEXT, b"x"))
            assert await websocket.receive() == "x"  # reading goes on
            may_write.set()
        assert [await peer.hear(), await peer.hear()] == [(TEXT, b"long"), (PONG, b"last")]


async def test_senders_take_turns() -> None:
    ours, theirs = memory_stream_pair()
    may_write = trio.Event()
    async with await accept_websocket(ours, upgrade(), headers={}, max_message_bytes=MOST) as websocket:
        peer = RawPeer(theirs, is_client=True)
        await peer.head()
        hold_back(ours, may_write)
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(websocket.send, name * 300)
            await wait_all_tasks_blocked()
            may_write.set()
        heard = [(await peer.hear())[1] for _ in "abc"]
        assert sorted(heard) == [b"a" * 300, b"b" * 300, b"c" * 300]


async def test_leaving_says_goodbye_and_waits_for_the_peers(autojump_clock: MockClock) -> None:
    heard: list[tuple[int, bytes]] = []

    async def answer(peer: RawPeer) -> None:
        heard.append(await peer.hear())
        await trio.sleep(0.5)
        await peer.send(frame(TEXT, b"too late"), frame(CLOSE, goodbye_of(1000)))
        assert await peer.hear_end() == b""

    async with trio.open_nursery() as nursery:
        async with accepted() as (_, peer):
            nursery.start_soon(answer, peer)
        assert trio.current_time() == 0.5
    assert heard == [(CLOSE, goodbye_of(1000))]


async def test_a_peer_that_never_says_goodbye_is_left_after_a_second(autojump_clock: MockClock) -> None:
    async with accepted() as (_, peer):
        pass
    assert trio.current_time() == 1
    assert await peer.hear() == (CLOSE, goodbye_of(1000))


async def test_a_link_that_is_cancelled_says_that_it_goes_away(autojump_clock: MockClock) -> None:
    with trio.move_on_after(5):
        async with accepted() as (websocket, peer):
            await websocket.receive()
    assert trio.current_time() == 6
    assert await peer.hear() == (CLOSE, goodbye_of(1001))


async def test_a_peer_that_takes_nothing_does_not_hold_the_end_up(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    async with await accept_websocket(ours, upgrade(), headers={}, max_message_bytes=MOST) as websocket:
        await RawPeer(theirs, is_client=True).head()
        hold_back(ours, trio.Event())
        with trio.move_on_after(5):
            await websocket.send("x")
        with pytest.raises(WebSocketClosed, match="cut off half-way"):  # the rest could not be understood
            await websocket.send("y")
    assert trio.current_time() <= 6


async def test_closing_ends_receiving_once_the_peer_agrees(autojump_clock: MockClock) -> None:
    async with accepted() as (websocket, peer):
        await websocket.close(1008, "not you")
        await websocket.close(1000)
        assert await peer.hear() == (CLOSE, goodbye_of(1008, "not you"))
        with pytest.raises(WebSocketClosed):
            await websocket.send("x")
        await peer.send(frame(TEXT, b"x"), frame(PING, b"x"), frame(CLOSE, goodbye_of(1008)))
        with pytest.raises(WebSocketClosed) as caught:
            await websocket.receive()
        assert caught.value.code == 1008
    assert await peer.hear_end() == b""
    assert trio.current_time() == 0


async def test_a_long_reason_is_cut_to_what_a_close_frame_holds(autojump_clock: MockClock) -> None:
    async with accepted() as (websocket, peer):
        await websocket.close(1008, "ö" * 200)
        _, payload = await peer.hear()
        assert payload == goodbye_of(1008, "ö" * 61)


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (goodbye_of(1000), 1000, ""),
        (goodbye_of(1012, "restart"), 1012, "restart"),
        (goodbye_of(4711, "x"), 4711, "x"),
        (b"", 1005, ""),
    ],
)
async def test_the_peers_goodbye_is_answered_and_told(
    autojump_clock: MockClock, payload: bytes, code: int, reason: str
) -> None:
    async with accepted() as (websocket, peer):
        await peer.send(frame(TEXT, b"last"), frame(CLOSE, payload))
        assert await websocket.receive() == "last"
        for call in (websocket.receive, websocket.ping):
            with pytest.raises(WebSocketClosed) as caught:
                await call()
            assert (caught.value.code, caught.value.reason) == (code, reason)
        await websocket.close()
    opcode, answered = await peer.hear()
    assert opcode == CLOSE
    assert answered[:2] == payload[:2]
    assert await peer.hear_end() == b""
    assert trio.current_time() == 0


async def test_the_end_of_the_connection_is_1006(autojump_clock: MockClock) -> None:
    async with accepted() as (websocket, peer):
        await peer.send(frame(TEXT, b"half")[:-1])
        await peer.stream.aclose()
        with pytest.raises(WebSocketClosed, match="without a goodbye") as caught:
            await websocket.receive()
        assert caught.value.code == 1006
        with pytest.raises(WebSocketClosed, match="without a goodbye"):
            await websocket.send("x")
    assert trio.current_time() == 0


async def test_a_connection_lost_in_writing_is_1006(autojump_clock: MockClock) -> None:
    async with accepted() as (websocket, peer):
        await peer.stream.aclose()
        with pytest.raises(WebSocketClosed) as caught:
            await websocket.send("x")
        assert caught.value.code == 1006


async def test_a_stream_that_somebody_closed_is_1006(autojump_clock: MockClock) -> None:
    ours, _ = memory_stream_pair()
    async with await accept_websocket(ours, upgrade(), headers={}, max_message_bytes=MOST) as websocket:
        await ours.aclose()
        for call in (websocket.receive, websocket.ping):
            with pytest.raises(WebSocketClosed) as caught:
                await call()
            assert caught.value.code == 1006


TOO_LONG = "ö" * 501
BROKEN = {
    "oversize": (frame(TEXT, b"x" * 1001), 1009),
    "oversize in bytes, not in characters": (frame(TEXT, TOO_LONG.encode()), 1009),
    "oversize in two": (frame(TEXT, b"x" * 600, final=False) + frame(CONTINUATION, b"x" * 600), 1009),
    "oversize and unfinished": (frame(TEXT, b"x" * 2000)[:1100], 1009),
    "oversize binary": (frame(BINARY, b"x" * 1001), 1009),
    "not masked": (frame(TEXT, b"x", masked=False), 1002),
    "unknown opcode": (frame(3, b"x"), 1002),
    "reserved bit": (bytes([0xC1]) + frame(TEXT, b"x")[1:], 1002),
    "continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "message within a message": (frame(TEXT, b"x", final=False) + frame(TEXT, b"x"), 1002),
    "fragmented ping": (frame(PING, b"x", final=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "no UTF-8": (frame(TEXT, b"\xff"), 1007),
    "cut UTF-8": (frame(TEXT, "ö".encode()[:1]), 1007),
    "close of one byte": (frame(CLOSE, b"x"), 1002),
    "close with a code that is none": (frame(CLOSE, goodbye_of(1006)), 1002),
    "close with a reason that is no UTF-8": (frame(CLOSE, goodbye_of(1000) + b"\xff"), 1007),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_peer_that_breaks_the_rules_is_told_why(autojump_clock: MockClock, name: str) -> None:
    data, code = BROKEN[name]
    async with accepted() as (websocket, peer):
        await peer.send(frame(TEXT, b"fine"), data)
        assert await websocket.receive() == "fine"
        with pytest.raises(WebSocketClosed) as caught:
            await websocket.receive()
        assert caught.value.code == code
        assert "broke a rule" in caught.value.reason
        opcode, payload = await peer.hear()
        assert (opcode, payload[:2]) == (CLOSE, goodbye_of(code))
        await peer.send(b"\x00" * 5000)  # it does not listen
    assert trio.current_time() == 1
    assert await peer.hear_end() == b""


async def test_a_message_of_exactly_the_limit_is_taken(autojump_clock: MockClock) -> None:
    async with accepted() as (websocket, peer):
        await peer.send(frame(TEXT, b"x" * MOST), frame(TEXT, "ö".encode() * (MOST // 2)))
        assert [await websocket.receive(), await websocket.receive()] == ["x" * MOST, "ö" * (MOST // 2)]


async def test_endless_empty_fragments_are_refused(autojump_clock: MockClock) -> None:
    async with accepted() as (websocket, peer):
        await peer.send(frame(TEXT, final=False), *[frame(CONTINUATION, final=False)] * 70_000)
        with pytest.raises(WebSocketClosed, match="too many pieces") as caught:
            await websocket.receive()
        assert caught.value.code == 1009


async def test_a_client_refuses_masked_frames(autojump_clock: MockClock) -> None:
    async with opened() as (websocket, peer):
        await peer.send(frame(TEXT, b"x", masked=True))
        with pytest.raises(WebSocketClosed) as caught:
            await websocket.receive()
        assert caught.value.code == 1002


async def test_an_error_of_the_user_rises_as_it_is(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with accepted():
            raise KeyError("mine")


async def test_nothing_is_left_of_a_websocket_that_is_cancelled_anywhere(autojump_clock: MockClock) -> None:
    async def converse(stream: trio.abc.Stream) -> None:
        async with open_websocket(
            stream, host="h", target="/", headers={}, max_message_bytes=10, timeout_s=5
        ) as websocket:
            await websocket.send("x")
            await websocket.receive()

    for at in range(30):
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, ours)
            for _ in range(at):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await RawPeer(theirs, is_client=False).hear_end()
