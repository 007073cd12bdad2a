"""A connection that its handler takes over for another protocol."""

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from edge.errors import LocalProtocolError
from edge.net.http_server import Connections, HttpLimits, HttpRequest, Reply
from tests.support.memory_http import LIMITS, ScriptedHandler, serving

UPGRADE = b"GET /link HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: mirror\r\n\r\n"


async def mirror(request: HttpRequest, reply: Reply) -> None:
    """Gives back what it gets, reversed, until the client has no more to say."""
    stream = reply.take_over()
    while data := await stream.receive_some():
        await stream.send_all(data[::-1])


async def test_bytes_that_came_with_the_request_come_first() -> None:
    async def by_twos(request: HttpRequest, reply: Reply) -> None:
        stream = reply.take_over()
        got = [await stream.receive_some(2), await stream.receive_some(2), await stream.receive_some(2)]
        await stream.send_all(b"|".join(got))

    async with serving(ScriptedHandler(by_twos)) as client:
        await client.send(UPGRADE + b"abc")
        await wait_all_tasks_blocked()
        await client.send(b"de")
        assert await client.to_end() == b"ab|c|de"


async def test_nothing_is_answered_but_what_the_handler_writes() -> None:
    handler = ScriptedHandler(mirror)
    async with serving(handler) as client:
        await client.send(UPGRADE)
        await client.send(b"abc")
        assert await client.exactly(3) == b"cba"
        await client.stream.send_eof()  # type: ignore[attr-defined]  # a memory stream has it
        assert await client.to_end() == b""
    assert [request.headers["upgrade"] for request in handler.seen] == ["mirror"]


async def test_the_connection_closes_when_the_handler_is_done() -> None:
    async def once(request: HttpRequest, reply: Reply) -> None:
        stream = reply.take_over()
        await stream.wait_send_all_might_not_block()
        await stream.send_all(bytearray(b"bye"))

    async with serving(ScriptedHandler(once)) as client:
        await client.send(UPGRADE)
        assert await client.to_end() == b"bye"


async def test_a_handler_may_close_it_itself() -> None:
    async def closing(request: HttpRequest, reply: Reply) -> None:
        await reply.take_over().aclose()

    async with serving(ScriptedHandler(closing)) as client:
        await client.send(UPGRADE)
        assert await client.to_end() == b""


async def test_a_refused_upgrade_is_answered_in_http() -> None:
    async with serving(ScriptedHandler(mirror, refuse={"/link": 403})) as client:
        assert (await client.ask(UPGRADE)).status == 403


async def test_a_bug_after_the_hand_over_ends_the_connection_and_adds_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def buggy(request: HttpRequest, reply: Reply) -> None:
        await reply.take_over().send_all(b"x")
        raise RuntimeError("bug")

    async with serving(ScriptedHandler(buggy)) as client:
        await client.send(UPGRADE)
        assert await client.to_end() == b"x"
    assert "request failed" in caplog.text


async def test_an_answered_request_cannot_be_taken_over_and_a_taken_one_not_answered() -> None:
    caught: list[LocalProtocolError] = []

    async def both(request: HttpRequest, reply: Reply) -> None:
        await reply.send(200, b"x")
        with pytest.raises(LocalProtocolError):
            reply.take_over()

    async def neither(request: HttpRequest, reply: Reply) -> None:
        reply.take_over()
        with pytest.raises(LocalProtocolError) as info:
            await reply.send(200, b"x")
        caught.append(info.value)

    async with serving(ScriptedHandler(both)) as client:
        assert (await client.ask(UPGRADE)).status == 200
    async with serving(ScriptedHandler(neither)) as client:
        await client.send(UPGRADE)
        assert await client.to_end() == b""
    assert len(caught) == 1


async def test_a_client_that_takes_nothing_is_cut_off(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    cut = trio.Event()
    connections = Connections()

    async def never() -> None:
        await trio.sleep_forever()

    theirs.send_stream.send_all_hook = never

    async def flood(request: HttpRequest, reply: Reply) -> None:
        stream = reply.take_over()
        started = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")
        assert trio.current_time() == started + 7
        cut.set()

    limits = HttpLimits(max_body_bytes=1, write_timeout_s=7)
    async with serving(ScriptedHandler(flood), limits, connections, (ours, theirs)) as client:
        await client.send(UPGRADE)
        await cut.wait()
    assert connections.metrics.write_timeouts == 1


async def test_no_time_limit_of_http_ends_a_link(autojump_clock: MockClock) -> None:
    async with serving(ScriptedHandler(mirror)) as client:
        await client.send(UPGRADE)
        await trio.sleep(100 * LIMITS.idle_timeout_s / 75)
        await client.send(b"ab")
        assert await client.exactly(2) == b"ba"
