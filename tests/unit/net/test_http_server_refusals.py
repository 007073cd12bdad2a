"""Requests that are refused, and clients that take too long."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from edge.net.http_server import HttpLimits, HttpRequest, Reply
from tests.support.memory_http import GET, LIMITS, ScriptedHandler, post, serving

HOST = b"Host: test\r\n"


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),  # a bare LF is not waited on
        (b"GET / HTTP/1.1\r\nHost: test\nX: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\n\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /#here HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET mcp HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http:///mcp HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET ftp://test/mcp HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: \x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3, 4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: \xb2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity\r\n\r\n", 501),
        (b"CONNECT test:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),  # TLS
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9999999999999999\r\n\r\n", 413),
        (
            b"POST / HTTP/1.1\r\n"
            + HOST
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + b"1f4\r\n%b\r\n" % (b"x" * 500) * 3,
            413,
        ),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: %b\r\n\r\n" % (b"x" * 40_000), 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: %b" % (b"x" * 40_000), 431),
    ],
    ids=repr,
)
async def test_what_http_forbids_is_refused_and_the_connection_closed(wire: bytes, status: int) -> None:
    handler = ScriptedHandler()
    async with serving(handler) as client:
        response = await client.ask(wire)
        assert (response.status, response.headers["connection"]) == (status, "close")
        assert response.body
        await client.stream.aclose()
    assert handler.seen == []


@pytest.mark.parametrize("sent", [GET[:1], GET[:-1]])
async def test_a_head_that_never_ends_is_refused_after_the_head_time(
    sent: bytes, autojump_clock: MockClock
) -> None:
    async with serving() as client:
        await trio.sleep(7)
        await client.send(sent)
        began = trio.current_time()
        assert (await client.response()).status == 408
    assert trio.current_time() - began == LIMITS.head_timeout_s


async def test_sending_a_head_byte_by_byte_gains_no_time(autojump_clock: MockClock) -> None:
    async with serving() as client:
        for at in range(10):
            await client.send(GET[at : at + 1])
            await trio.sleep(2)
        assert (await client.response()).status == 408
        assert trio.current_time() == LIMITS.head_timeout_s


@pytest.mark.parametrize("fields", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
async def test_a_body_that_never_ends_is_refused_after_the_body_time(
    fields: bytes, autojump_clock: MockClock
) -> None:
    async with serving() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: test\r\n" + fields + b"\r\n\r\n1")
        assert (await client.response()).status == 408
        assert trio.current_time() == LIMITS.body_timeout_s


async def test_a_client_that_says_nothing_is_closed_without_a_word(autojump_clock: MockClock) -> None:
    async with serving() as client:
        assert await client.to_end() == b""
        assert trio.current_time() == LIMITS.head_timeout_s


async def test_an_idle_connection_is_closed_without_a_word(autojump_clock: MockClock) -> None:
    async with serving() as client:
        await trio.sleep(5)
        await client.ask(post(b"one"))
        assert await client.to_end() == b""
        assert trio.current_time() == 5 + LIMITS.idle_timeout_s


async def test_a_handler_may_take_its_time(autojump_clock: MockClock) -> None:
    async def slowly(request: HttpRequest, reply: Reply) -> None:
        await trio.sleep(300)
        await reply.send(200, request.body)

    async with serving(ScriptedHandler(slowly)) as client:
        for wire in (post(b"one")[:-1], post(b"one")[-1:]):
            await client.send(wire)
        assert (await client.response()).body == b"one"
        assert trio.current_time() == 300


async def test_a_refusal_from_the_head_keeps_the_connection_if_the_body_is_small() -> None:
    handler = ScriptedHandler(refuse={"/no": 403})
    async with serving(handler) as client:
        wire = post(b"x" * 500, path="/no")
        await client.send(wire[:-100])
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.ask(wire[-100:])).status == 403
        assert (await client.ask(b"GET /no HTTP/1.1\r\nHost: test\r\n\r\n")).status == 403
        assert (await client.ask(post(b"yes"))).body == b"yes"
    assert [request.path for request in handler.seen] == ["/mcp"]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 65537\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    ],
)
async def test_a_refusal_before_a_body_that_is_large_or_held_back_closes(head: bytes) -> None:
    async with serving(ScriptedHandler(refuse={"/no": 403})) as client:
        response = await client.ask(b"POST /no HTTP/1.1\r\nHost: test\r\n" + head)
        assert (response.status, response.headers["connection"]) == (403, "close")
        await client.stream.aclose()


async def test_what_a_refused_client_still_sends_is_discarded_for_a_bounded_time(
    autojump_clock: MockClock,
) -> None:
    async with serving(limits=HttpLimits(max_body_bytes=10)) as client:
        assert (await client.ask(post(b"x" * 500_000)[:200_000])).status == 413
        began = trio.current_time()
        await client.send(b"x" * 100_000)
        assert await client.to_end() == b""  # it is told at once that we are done
        assert trio.current_time() == began
        await trio.sleep(4.9)
        await client.send(b"x" * 100_000)
        await trio.sleep(0.2)
        with pytest.raises(trio.BrokenResourceError):
            await client.send(b"x")
