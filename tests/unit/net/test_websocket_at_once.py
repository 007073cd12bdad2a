"""Messages that are written in the step of whoever has them, without waiting."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import assert_no_checkpoints, memory_stream_pair, wait_all_tasks_blocked

from edge.net.socket_stream import QuickStream
from edge.net.websocket import WebSocket, WebSocketClosed, accept_websocket
from tests.support.raw_websocket import CLOSE, MOST, PING, PONG, TEXT, RawPeer, frame, goodbye_of, upgrade


class TightStream(QuickStream):
    """A memory stream whose kernel takes `room` bytes at once; `keeps`: and takes the rest itself, as TLS does."""

    def __init__(self, stream: trio.abc.Stream, *, keeps: bool = False) -> None:
        self.room = 10_000
        self.is_broken = False
        self.taken = b""
        self._inner = stream
        self._keeps = keeps
        self._kept = b""

    @property
    def has_unsent(self) -> bool:
        return bool(self._kept)

    def try_send(self, data: bytes | bytearray | memoryview) -> int:
        if self.is_broken:
            raise trio.BrokenResourceError
        sent = min(len(data), self.room)
        self.room -= sent
        self.taken += bytes(data[:sent])
        if self._keeps and sent:
            self._kept = bytes(data[sent:])
            return len(data)
        return sent

    async def deliver(self) -> None:
        data, self.taken = self.taken, b""
        await self._inner.send_all(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        kept, self._kept = self._kept, b""
        await self.deliver()
        await self._inner.send_all(kept + bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.deliver()
        await self._inner.aclose()

    def abort(self) -> None:
        raise AssertionError("not used here")


@asynccontextmanager
async def accepted(*, keeps: bool = False) -> AsyncIterator[tuple[WebSocket, TightStream, RawPeer]]:
    ours, theirs = memory_stream_pair()
    stream = TightStream(ours, keeps=keeps)
    with trio.fail_after(10):
        async with await accept_websocket(stream, upgrade(), headers={}, max_message_bytes=MOST) as websocket:
            peer = RawPeer(theirs, is_client=True)
            await peer.head()
            yield websocket, stream, peer
            await stream.deliver()
            await peer.send(frame(CLOSE, goodbye_of(1000)))


async def test_what_fits_is_written_without_a_checkpoint() -> None:
    async with accepted() as (websocket, stream, peer):
        with assert_no_checkpoints():
            assert websocket.try_send("a")
            assert websocket.try_send("b" * 200)
            assert not websocket.is_behind
        await stream.deliver()
        assert [await peer.hear(), await peer.hear()] == [(TEXT, b"a"), (TEXT, b"b" * 200)]


@pytest.mark.parametrize("keeps", [False, True])
async def test_what_fits_in_part_is_completed_before_anything_else(keeps: bool) -> None:
    for follows in ("flush", "send", "close"):
        async with accepted(keeps=keeps) as (websocket, stream, peer):
            stream.room = 5
            assert (websocket.try_send("x" * 50), websocket.is_behind) == (True, True)
            assert not websocket.try_send("y"), "not between the halves of another one"
            if follows == "send":
                await websocket.send("z")
            elif follows == "close":
                await websocket.close()
            else:
                await websocket.flush()
            assert not websocket.is_behind
            assert await peer.hear() == (TEXT, b"x" * 50)
            if follows == "send":
                assert await peer.hear() == (TEXT, b"z")
            if follows == "close":
                assert (await peer.hear())[0] == CLOSE


async def test_what_does_not_fit_at_all_is_left_to_the_caller() -> None:
    async with accepted() as (websocket, stream, peer):
        stream.room = 0
        assert not websocket.try_send("x")
        assert not websocket.is_behind
        stream.room = 100
        assert websocket.try_send("y")
        await stream.deliver()
        assert await peer.hear() == (TEXT, b"y")


async def test_a_ping_behind_a_message_written_in_part_is_answered_by_the_flush() -> None:
    async with accepted() as (websocket, stream, peer):
        stream.room = 5
        assert websocket.try_send("x" * 50)
        await peer.send(frame(PING, b"!"), frame(TEXT, b"go on"))
        assert await websocket.receive() == "go on"  # reading does not wait for writing
        await websocket.flush()
        stream.room = 100
        assert [await peer.hear(), await peer.hear()] == [(TEXT, b"x" * 50), (PONG, b"!")]


async def test_nothing_is_written_beside_another_writer() -> None:
    async with accepted() as (websocket, stream, peer), trio.open_nursery() as nursery:
        may_go_on = trio.Event()
        send_all = stream.send_all

        async def slowly(data: bytes | bytearray | memoryview) -> None:
            await may_go_on.wait()
            await send_all(data)

        stream.room = 0
        stream.send_all = slowly  # type: ignore[method-assign]  # a peer that is slow to read
        nursery.start_soon(websocket.send, "first")
        await wait_all_tasks_blocked()
        stream.room = 100
        assert not websocket.try_send("second")
        may_go_on.set()
        await wait_all_tasks_blocked()
        assert await peer.hear() == (TEXT, b"first")


async def test_a_broken_or_closed_websocket_writes_nothing_and_send_says_why() -> None:
    async with accepted() as (websocket, stream, _):
        stream.is_broken = True
        assert not websocket.try_send("x")
        with pytest.raises(WebSocketClosed) as caught:
            await websocket.send("x")
        assert caught.value.code == 1006
        assert not websocket.try_send("x")
        stream.is_broken = False
    async with accepted() as (websocket, _, _):
        await websocket.close()
        assert not websocket.try_send("x")


async def test_a_stream_that_can_only_wait_is_waited_for() -> None:
    ours, theirs = memory_stream_pair()
    async with await accept_websocket(ours, upgrade(), headers={}, max_message_bytes=MOST) as websocket:
        peer = RawPeer(theirs, is_client=True)
        await peer.head()
        assert not websocket.try_send("x")
        await peer.send(frame(CLOSE, goodbye_of(1000)))
