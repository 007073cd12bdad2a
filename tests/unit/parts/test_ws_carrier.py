"""The commands of a dialect that speaks over a WebSocket, over memory streams."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from edge.errors import Unavailable
from edge.net.websocket import HandshakeRefused, WebSocketClosed
from edge.parts.ws_carrier import MAX_AT_ONCE_CHARS, MAX_QUEUED_CHARS, WsCarrier
from edge.proto.dialect import (
    Alive,
    CloseCarrier,
    Closed,
    Event,
    Garbled,
    HttpCall,
    Opened,
    OpenWebSocket,
    Ping,
    Push,
    Received,
    Refused,
)


class MemorySocket:
    """What the carrier uses of a `WebSocket`."""

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {"x-hub": "yes"}
        self.on_alive = print
        self.sent: list[str] = []
        self.room = 0  # for how many texts at once
        self.is_behind = False
        self.may_send = trio.Event()
        self.may_send.set()
        self._given, self._messages = trio.open_memory_channel[str | bytes | WebSocketClosed](100)

    def give(self, message: str | bytes | WebSocketClosed) -> None:
        self._given.send_nowait(message)

    async def receive(self) -> str | bytes:
        message = await self._messages.receive()
        if isinstance(message, WebSocketClosed):
            raise message
        return message

    async def send(self, text: str) -> None:
        await self.may_send.wait()
        self.sent.append(text)

    def try_send(self, text: str) -> bool:
        if self.is_behind or not self.room:
            return False
        self.room -= 1
        self.is_behind = not self.room  # the last one finds room for its beginning only
        self.sent.append(f"{text} at once")
        return True

    async def flush(self) -> None:
        await self.may_send.wait()
        self.sent.append("(flush)")
        self.is_behind = False

    async def ping(self) -> None:
        self.sent.append("(ping)")

    async def close(self, code: int, reason: str) -> None:
        self.sent.append(f"(close {code} {reason})")
        self.give(WebSocketClosed(code, "bye"))


class WsRig:
    """A carrier that runs; `outcomes` are what comes of opening, oldest first."""

    def __init__(self, *outcomes: Exception) -> None:
        self.socket = MemorySocket()
        self.outcomes = list(outcomes)
        self.opened: list[tuple[str, Mapping[str, str]]] = []
        self.events: list[Event] = []
        self.reopen: OpenWebSocket | None = None
        self.has_ended = False
        self.carrier = WsCarrier(self.open)  # type: ignore[arg-type]  # a socket that only looks like one

    @asynccontextmanager
    async def open(self, target: str, headers: Mapping[str, str]) -> AsyncIterator[MemorySocket]:
        self.opened.append((target, headers))
        await trio.lowlevel.checkpoint()
        if self.outcomes:
            raise self.outcomes.pop(0)
        yield self.socket

    def feed(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Refused) and self.reopen is not None:
            self.carrier.perform(self.reopen)
            self.reopen = None

    async def run(self) -> None:
        await self.carrier.run(self.feed)
        self.has_ended = True


@asynccontextmanager
async def carrying(*outcomes: Exception, wanted: bool = True) -> AsyncIterator[WsRig]:
    rig = WsRig(*outcomes)
    async with trio.open_nursery() as nursery:
        if wanted:
            rig.carrier.perform(OpenWebSocket("/ws", {"Authorization": "x"}))
        nursery.start_soon(rig.run)
        await settle()
        yield rig
        nursery.cancel_scope.cancel()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_it_is_opened_as_the_dialect_says() -> None:
    async with carrying() as rig:
        assert rig.opened == [("/ws", {"Authorization": "x"})]
        assert rig.events == [Opened({"x-hub": "yes"})]


async def test_texts_are_messages_and_bytes_are_none() -> None:
    async with carrying() as rig:
        rig.socket.give("a")
        rig.socket.give(b"b")
        rig.socket.on_alive(None)
        await settle()
        assert rig.events[1:] == [Alive(), Received("a"), Garbled("a binary frame")]


async def test_what_is_pushed_is_written_in_order_and_the_goodbye_comes_last() -> None:
    async with carrying() as rig:
        rig.socket.may_send = trio.Event()
        rig.carrier.perform(Push("a"))
        await settle()
        rig.carrier.perform(Ping())
        rig.carrier.perform(Push("b"))
        rig.carrier.perform(CloseCarrier(1000, "done"))
        rig.carrier.perform(Push("too late"))
        rig.carrier.perform(CloseCarrier(1008, "again"))
        rig.socket.may_send.set()
        await settle()
        assert rig.socket.sent == ["a", "(ping)", "b", "(close 1000 done)"]
        assert rig.events[-1] == Closed("bye", 1000)
        assert rig.has_ended


async def test_a_push_is_written_in_its_own_step_while_the_writer_sleeps() -> None:
    async with carrying() as rig:
        rig.socket.room = 9
        for text in "ab":
            rig.carrier.perform(Push(text))
        assert rig.socket.sent == ["a at once", "b at once"]
        rig.carrier.perform(Ping())
        rig.carrier.perform(Push("c"))  # not before the ping
        rig.carrier.perform(Push("x" * (MAX_AT_ONCE_CHARS + 1)))
        assert rig.socket.sent == ["a at once", "b at once"]
        await settle()
        assert rig.socket.sent[2:] == ["(ping)", "c", "x" * (MAX_AT_ONCE_CHARS + 1)]


async def test_what_a_push_could_not_write_goes_before_all_that_follows() -> None:
    async with carrying() as rig:
        rig.socket.room = 1
        rig.carrier.perform(Push("a"))
        rig.carrier.perform(Push("b"))
        rig.carrier.perform(CloseCarrier(1000, "done"))
        await settle()
        assert rig.socket.sent == ["a at once", "(flush)", "b", "(close 1000 done)"]


async def test_nothing_is_written_at_once_before_it_is_open_or_after_it_is_closed() -> None:
    async with carrying(wanted=False) as rig:
        rig.socket.room = 9
        rig.carrier.perform(Push("early"))
        rig.carrier.perform(OpenWebSocket("/ws"))
        await settle()
        rig.socket.give(WebSocketClosed(1012, "restart"))
        await settle()
        rig.carrier.perform(Push("late"))
        assert rig.socket.sent == ["early"]


async def test_flush_waits_while_the_other_end_does_not_read() -> None:
    async with carrying() as rig, trio.open_nursery() as nursery:
        await rig.carrier.flush()
        rig.socket.may_send = trio.Event()
        rig.carrier.perform(Push("x" * (MAX_QUEUED_CHARS + 1)))
        has_room = trio.Event()

        async def flush() -> None:
            await rig.carrier.flush()
            has_room.set()

        nursery.start_soon(flush)
        await settle()
        assert not has_room.is_set()
        rig.socket.may_send.set()
        await has_room.wait()


async def test_flush_does_not_wait_for_a_carrier_that_is_closed() -> None:
    async with carrying() as rig:
        rig.socket.may_send = trio.Event()
        rig.carrier.perform(Push("x" * (MAX_QUEUED_CHARS + 1)))
        rig.socket.give(WebSocketClosed(1012, "restart"))
        await settle()
        assert rig.events[-1] == Closed("restart", 1012)
        await rig.carrier.flush()
        rig.carrier.perform(Push("x"))
        rig.carrier.perform(CloseCarrier())
        assert rig.socket.sent == []


async def test_after_a_refusal_another_path_may_be_tried() -> None:
    refused = HandshakeRefused(404, {"server": "x"}, "nothing here")
    async with carrying(refused, wanted=False) as rig:
        rig.reopen = OpenWebSocket("/old/ws")
        rig.carrier.perform(OpenWebSocket("/ws"))
        await settle()
        assert [target for target, _ in rig.opened] == ["/ws", "/old/ws"]
        assert rig.events == [Refused(404, "nothing here", {"server": "x"}), Opened({"x-hub": "yes"})]


async def test_a_refusal_that_is_final_ends_it() -> None:
    async with carrying(HandshakeRefused(403, {}, "")) as rig:
        assert rig.events == [Refused(403, "", {}), Closed("not opened", 1006)]
        assert rig.has_ended


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (Unavailable("hq", "cannot connect to hub:443: refused"), "cannot connect to hub:443: refused"),
        (WebSocketClosed(1006, "no answer within 10 s"), "no answer within 10 s"),
    ],
)
async def test_what_cannot_be_opened_says_why(trouble: Exception, told: str) -> None:
    async with carrying(trouble) as rig:
        assert rig.events == [Closed(told, 1006)]
        assert rig.has_ended


async def test_it_ends_if_it_is_never_opened() -> None:
    async with carrying(wanted=False) as rig:
        rig.carrier.perform(CloseCarrier())
        await settle()
        assert rig.has_ended
        assert rig.opened == []


async def test_a_command_for_another_carrier_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        WsCarrier().perform(HttpCall("t", "GET", "/", {}, None, 1))
