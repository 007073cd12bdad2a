"""A short answer goes out in the step that received it, and never before what belongs before it."""

import socket

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.metrics_servers import ServerMetrics
from edge.net.http_reply import Reply
from edge.net.http_server import Connections
from edge.net.http_wire import Wire
from edge.net.socket_stream import SocketStream
from edge.parts.channel import PromptCaller
from edge.parts.exchange import Exchange
from edge.parts.peer_channel import Outbox, PeerChannel
from edge.proto.jsonrpc import Notification, Request, decode
from edge.proto.jsontext import Raw

PROGRESS = '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p1","progress":1}}'
ANSWER = '{"jsonrpc":"2.0","id":1,"result":{"a":1.0}}'


class Caller(PromptCaller):
    """Remembers in which order it is told what."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def __call__(self, note: Notification) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append(note.method)

    def answered(self, result: Raw) -> None:
        self.told.append(result.text)


class Nobody:
    def told(self, notification: Notification) -> None:
        raise AssertionError

    def waiting(self, reason: str) -> None:
        raise AssertionError("only links wait")

    def doubted(self) -> None:
        raise AssertionError

    def asked(self, request: Request) -> str:
        raise AssertionError


async def ask(caller: Caller, *lines: str) -> list[str]:
    """What the caller had been told when the reader was through with these lines, before any other task ran."""
    channel = PeerChannel("a", Outbox(), Nobody(), ServerMetrics())
    async with trio.open_nursery() as nursery:

        async def call() -> None:
            result = await channel.request("tools/call", None, notify=caller, progress=True)
            assert result.text == '{"a":1.0}'

        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        for line in lines:
            channel.receive(decode(line))
        return list(caller.told)


async def test_a_result_is_told_in_the_readers_own_step_and_returned_as_well() -> None:
    assert await ask(Caller(), ANSWER) == ['{"a":1.0}']


async def test_a_result_does_not_overtake_what_the_server_said_before() -> None:
    caller = Caller()
    assert await ask(caller, PROGRESS, ANSWER) == []
    assert caller.told == ["notifications/progress"]


def pair(send_bytes: int = 65536) -> tuple[Reply, Wire, trio.SocketStream]:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
    theirs.setblocking(False)
    connections = Connections()
    wire = Wire(SocketStream(ours), 30, connections)
    reply = Reply(wire, connections, is_head=False, is_http10=False, closes=False)
    return reply, wire, trio.SocketStream(trio.socket.from_stdlib_socket(theirs))


async def read_all(stream: trio.SocketStream) -> bytes:
    async with stream:
        return b"".join([chunk async for chunk in stream])


async def test_what_the_kernel_has_no_room_for_is_sent_by_flush() -> None:
    reply, wire, client = pair(send_bytes=4096)
    body = b"x" * 60_000
    assert reply.try_send(200, body)
    async with trio.open_nursery() as nursery:

        async def finish() -> None:
            await reply.flush()
            await wire.stream.aclose()

        nursery.start_soon(finish)
        received = await read_all(client)
    assert received.endswith(b"\r\n\r\n" + body)
    assert f"Content-Length: {len(body)}".encode() in received


async def test_an_answer_that_went_out_at_once_is_not_sent_again() -> None:
    reply, wire, client = pair()
    exchange = Exchange(reply, None, accepts_sse=True, accepts_json=True)
    exchange.answer_at_once('{"a":1}')
    assert exchange.done
    await exchange.tick()
    await exchange.finish('{"b":2}')
    await wire.stream.aclose()
    assert (await read_all(client)).count(b"HTTP/1.1 200 OK") == 1


async def test_what_must_be_a_stream_or_part_of_a_batch_waits_for_its_task(autojump_clock: MockClock) -> None:
    for is_single, accepts_json, streams in ((False, True, False), (True, False, False), (True, True, True)):
        reply, wire, client = pair()
        exchange = Exchange(reply, None, accepts_sse=True, accepts_json=accepts_json)
        exchange.is_single = is_single
        if streams:
            await exchange.notify("{}")
        exchange.answer_at_once('{"a":1}')
        assert not exchange.done
        await exchange.finish('{"a":1}')
        await wire.stream.aclose()
        assert (await read_all(client)).count(b'{"a":1}') == 1
