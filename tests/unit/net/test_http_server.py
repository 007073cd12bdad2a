"""Requests of every allowed shape, and what the connection does between them."""

import trio
import trio.testing
from trio.testing import MockClock

from edge.net.http_server import Connections, HttpRequest, Reply, serve_connection
from tests.support.memory_http import GET, LIMITS, RawClient, ScriptedHandler, post, serving


async def test_a_post_is_handed_over_with_its_body_and_answered() -> None:
    handler = ScriptedHandler()
    async with serving(handler) as client:
        response = await client.ask(post(b'{"a":1}', "X-Two:  spaced out \t", path="/mcp?q=1&r=%20"))
    assert (response.status, response.body) == (200, b'{"a":1}')
    assert handler.seen == [
        HttpRequest(
            method="POST",
            path="/mcp",
            query="q=1&r=%20",
            headers={"host": "test", "content-length": "7", "x-two": "spaced out"},
            repeated=frozenset(),
            body=b'{"a":1}',
            peer="test",
        )
    ]


async def test_an_answer_says_what_it_is() -> None:
    async with serving() as client:
        response = await client.ask(post(b"hello"))
    assert response.headers.pop("date").endswith(" GMT")
    assert response.headers == {
        "content-length": "5",
        "content-type": "text/plain",
        "x-content-type-options": "nosniff",
    }


async def test_a_connection_is_kept_for_further_requests() -> None:
    async with serving() as client:
        for body in (b"one", b"two", b"three"):
            assert (await client.ask(post(body))).body == body
        assert (await client.ask(GET)).body == b"nothing"


async def test_pipelined_requests_are_answered_in_order() -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
    async with serving() as client:
        await client.send(post(b"one") + chunked + post(b"three") + GET + post(b"five"))
        bodies = [(await client.response()).body for _ in range(5)]
    assert bodies == [b"one", b"two", b"three", b"nothing", b"five"]


async def test_a_client_that_pipelines_does_not_keep_others_from_their_turn() -> None:
    turns = 0
    async with serving() as client, trio.open_nursery() as nursery:

        async def take_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(take_turns)
        await client.send(GET * 50)
        for _ in range(50):
            await client.response()
        nursery.cancel_scope.cancel()
    assert turns >= 50


async def test_requests_may_come_one_byte_at_a_time() -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\ntwo\r\n0\r\nA: b\r\n\r\n"
    async with serving() as client:
        for wire, body in ((post(b"one"), b"one"), (chunked, b"two"), (b"\r\n" + GET, b"nothing")):
            for at in range(len(wire)):
                await client.send(wire[at : at + 1])
                await trio.testing.wait_all_tasks_blocked()
            assert (await client.response()).body == body


async def test_one_empty_line_before_a_request_is_forgiven() -> None:
    async with serving() as client:
        assert (await client.ask(b"\r\n" + post(b"one"))).body == b"one"
        assert (await client.ask(b"\r\n" + post(b"two"))).body == b"two"
        assert (await client.ask(b"\r\n\r\n" + post(b"three"))).status == 400


async def test_chunks_make_one_body() -> None:
    head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: Chunked\r\n\r\n"
    async with serving() as client:
        assert (await client.ask(head + b"1\r\na\r\n2\r\nbc\r\n" * 100 + b"0\r\n\r\n")).body == b"abc" * 100


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    async with serving() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"body")).body == b"body"


async def test_a_client_that_expects_100_but_does_not_wait_is_not_told() -> None:
    async with serving() as client:
        response = await client.ask(post(b"body", "Expect: 100-continue"))
    assert (response.status, response.body) == (200, b"body")


async def test_http_1_0_is_answered_and_closed() -> None:
    async with serving() as client:
        response = await client.ask(
            b"POST / HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc"
        )
        assert (response.body, response.headers["connection"]) == (b"abc", "close")
        assert await client.to_end() == b""


async def test_connection_close_is_honoured() -> None:
    async with serving() as client:
        response = await client.ask(post(b"abc", "Connection: Close"))
        assert (response.body, response.headers["connection"]) == (b"abc", "close")
        assert await client.to_end() == b""
    async with serving() as client:
        response = await client.ask(post(b"abc", "Connection: x, close"))
        assert response.headers["connection"] == "close"


async def test_head_is_answered_like_get_without_a_body() -> None:
    handler = ScriptedHandler()
    async with serving(handler) as client:
        await client.send(b"HEAD /mcp HTTP/1.1\r\nHost: test\r\n\r\n")
        response = await client.response(has_body=False)
        assert (response.status, response.headers["content-length"]) == (200, "7")
        assert (await client.ask(GET)).body == b"nothing"
    assert [request.method for request in handler.seen] == ["GET", "GET"]


async def test_a_target_in_absolute_form_is_split_and_wins_over_host() -> None:
    handler = ScriptedHandler()
    async with serving(handler) as client:
        for target in ("http://other:81/mcp?x", "HTTPS://other", "http://other?x"):
            await client.ask(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        await client.ask(b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n")
    assert [(seen.path, seen.query, seen.headers["host"]) for seen in handler.seen] == [
        ("/mcp", "x", "other:81"),
        ("/", "", "other"),
        ("/", "x", "other"),
        ("*", "", "test"),
    ]


async def test_repeated_headers_are_joined_and_named() -> None:
    handler = ScriptedHandler()
    async with serving(handler) as client:
        await client.ask(post(b"", "Accept: a", "accept: b", "Content-Length: 0"))
    assert handler.seen[0].headers["accept"] == "a, b"
    assert handler.seen[0].repeated == {"accept"}


async def test_a_client_that_closes_its_sending_side_still_gets_its_answer() -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def slowly(request: HttpRequest, reply: Reply) -> None:
        await trio.testing.wait_all_tasks_blocked()
        await reply.send(200, request.body)

    async with serving(ScriptedHandler(slowly), streams=(ours, theirs)) as client:
        await client.send(post(b"last words"))
        await ours.send_eof()
        assert (await client.response()).body == b"last words"
        assert await client.to_end() == b""


async def test_a_client_that_leaves_in_the_middle_of_a_request_is_let_go() -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"
    handler = ScriptedHandler(refuse={"/no": 403})
    for wire in (post(b"abc")[:10], post(b"abc")[:-1], chunked, post(b"abc", path="/no")[:-1]):
        async with serving(handler) as client:
            await client.send(wire)
    assert handler.seen == []


async def test_cancelling_it_anywhere_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async def both(request: HttpRequest, reply: Reply) -> None:
        if request.body:
            await reply.send(200, request.body)
        else:
            await reply.start_stream()
            await reply.write(b"data: x\n\n")
            with trio.move_on_after(1):
                await reply.wait_gone()

    class CancelAt(trio.abc.Instrument):
        def __init__(self, step: int) -> None:
            self.left = step
            self.task: trio.lowlevel.Task | None = None
            self.scope = trio.CancelScope()

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task is self.task:
                self.left -= 1
                if self.left == 0:
                    self.scope.cancel()

    chunked = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
    wires = [post(b"one")[:30], post(b"one")[30:-1], b"e" + chunked[:-6], chunked[-6:] + GET, b"bad\r\n\r\n"]
    step, was_cancelled = 0, True
    while was_cancelled:
        step += 1
        ours, theirs = trio.testing.memory_stream_pair()
        connections = Connections()
        instrument = CancelAt(step)

        async def serve(
            instrument: CancelAt = instrument,
            stream: trio.abc.Stream = theirs,
            connections: Connections = connections,
        ) -> None:
            instrument.task = trio.lowlevel.current_task()
            with instrument.scope:
                await serve_connection(
                    stream, ScriptedHandler(both), LIMITS, peer="test", connections=connections
                )

        trio.lowlevel.add_instrument(instrument)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                for wire in wires:
                    await ours.send_all(wire)
                    await trio.testing.wait_all_tasks_blocked()
                await RawClient(ours).to_end()
            except trio.BrokenResourceError:
                pass  # it was cut
            await ours.aclose()
        trio.lowlevel.remove_instrument(instrument)
        was_cancelled = instrument.scope.cancel_called
        assert (connections.open, connections.idle, connections.streams) == (0, {}, set())
    assert step > 10
