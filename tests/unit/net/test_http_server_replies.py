"""Answers: whole ones, streams, clients that leave or stop reading, handlers that fail, draining."""

import logging

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from edge.errors import LocalProtocolError
from edge.net.http_server import Connections, HttpRequest, Reply
from tests.support.memory_http import GET, LIMITS, ScriptedHandler, post, serving


async def test_a_stream_is_chunked_and_the_connection_is_kept() -> None:
    async def stream(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream([("Mcp-Session-Id", "abc")])
        for data in (b"data: 1\n\n", b"", b"data: 2\n\n"):
            await reply.write(data)
        await reply.finish()
        await reply.finish()
        await reply.write(b"a keep-alive that came too late")

    async with serving(ScriptedHandler(stream)) as client:
        for _ in range(2):
            response = await client.ask(post(b"x"))
            assert (response.status, response.body) == (200, b"data: 1\n\ndata: 2\n\n")
            response.headers.pop("date")
            assert response.headers == {
                "cache-control": "no-store",
                "content-type": "text/event-stream",
                "mcp-session-id": "abc",
                "transfer-encoding": "chunked",
                "x-accel-buffering": "no",
                "x-content-type-options": "nosniff",
            }


async def test_a_stream_for_http_1_0_ends_with_the_connection() -> None:
    async def stream(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream()
        await reply.write(b"data: 1\n\n")

    async with serving(ScriptedHandler(stream)) as client:
        response = await client.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert response.body == b"data: 1\n\n"
    assert response.headers["connection"] == "close"
    assert "transfer-encoding" not in response.headers


async def test_a_stream_asked_for_with_head_is_only_a_head() -> None:
    async def stream(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream()
        assert reply.gone
        await reply.write(b"data: 1\n\n")
        await reply.wait_gone()

    async with serving(ScriptedHandler(stream)) as client:
        for _ in range(2):
            await client.send(b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n")
            assert (await client.response(has_body=False)).headers["transfer-encoding"] == "chunked"


async def test_what_two_tasks_write_comes_after_the_head_and_unmixed() -> None:
    async def stream(request: HttpRequest, reply: Reply) -> None:
        async def write(letter: bytes) -> None:
            for _ in range(3):
                await reply.write(letter * 100)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply.start_stream)
            while not reply.started:
                await trio.lowlevel.checkpoint()
            nursery.start_soon(write, b"a")
            nursery.start_soon(write, b"b")

    ours, theirs = trio.testing.lockstep_stream_pair()
    async with serving(ScriptedHandler(stream), streams=(ours, theirs)) as client:
        body = (await client.ask(post(b"x"))).body
    events = {body[at : at + 100] for at in range(0, 600, 100)}
    assert (len(body), events) == (600, {b"a" * 100, b"b" * 100})


async def test_an_answer_without_a_body_says_so() -> None:
    async def nothing(request: HttpRequest, reply: Reply) -> None:
        await reply.send(int(request.path[1:]))

    async with serving(ScriptedHandler(nothing)) as client:
        accepted = await client.ask(post(b"x", path="/202"))
        assert (accepted.status, accepted.headers["content-length"]) == (202, "0")
        assert "content-type" not in accepted.headers
        await client.send(post(b"x", path="/204"))
        assert "content-length" not in (await client.response(has_body=False)).headers
        assert (await client.ask(post(b"x", path="/299"))).status == 299


@pytest.mark.parametrize("field", [("X", "a\r\nSet-Cookie: b"), ("X:", "a"), ("X", "\0")])
async def test_a_response_field_cannot_start_another_line(
    field: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async def inject(request: HttpRequest, reply: Reply) -> None:
        with pytest.raises(LocalProtocolError):
            await reply.send(200, b"x", headers=[field])

    async with serving(ScriptedHandler(inject)) as client:
        response = await client.ask(post(b"x"))
    assert response.status == 500
    assert "set-cookie" not in response.headers


async def test_a_handler_that_fails_gives_500_a_traceback_and_the_next_request_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(request: HttpRequest, reply: Reply) -> None:
        if request.body == b"group":
            async with trio.open_nursery():
                raise KeyError("secret")
        if request.body == b"bad":
            raise KeyError("secret")
        await reply.send(200, b"fine")

    async with serving(ScriptedHandler(fail)) as client:
        for body in (b"bad", b"group"):
            response = await client.ask(post(body))
            assert response.status == 500
            assert b"secret" not in response.body
        assert (await client.ask(post(b"good"))).body == b"fine"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.message for record in errors] == ["request failed"] * 2
    assert all(record.exc_info for record in errors)


async def test_a_failure_while_judging_the_head_gives_500(caplog: pytest.LogCaptureFixture) -> None:
    class Careless(ScriptedHandler):
        def admit(self, head: HttpRequest) -> None:
            raise KeyError("x")

    async with serving(Careless()) as client:
        assert (await client.ask(post(b"x"))).status == 500
        await client.stream.aclose()


async def test_a_stream_whose_handler_fails_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream()
        await reply.write(b"data: 1\n\n")
        raise KeyError("x")

    async with serving(ScriptedHandler(fail)) as client:
        response = await client.ask(post(b"x"))
    assert (response.status, response.body, response.is_whole) == (200, b"data: 1\n\n", False)


async def test_a_failure_after_the_answer_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: HttpRequest, reply: Reply) -> None:
        await reply.send(200, request.body)
        raise KeyError("x")

    async with serving(ScriptedHandler(fail)) as client:
        assert (await client.ask(post(b"one"))).body == b"one"
        assert (await client.ask(post(b"two"))).body == b"two"
    assert [record.message for record in caplog.records] == ["request failed"] * 2


async def test_a_handler_that_says_nothing_gives_500(caplog: pytest.LogCaptureFixture) -> None:
    async def silent(request: HttpRequest, reply: Reply) -> None:
        await trio.lowlevel.checkpoint()

    async with serving(ScriptedHandler(silent)) as client:
        assert (await client.ask(post(b"x"))).status == 500
        assert (await client.ask(post(b"x"))).status == 500


async def test_answering_twice_or_writing_before_the_start_is_a_bug() -> None:
    async def confused(request: HttpRequest, reply: Reply) -> None:
        for wrong in (reply.write(b"x"), reply.finish()):
            with pytest.raises(LocalProtocolError):
                await wrong
        await reply.send(200, b"x")
        for wrong in (reply.send(200, b"x"), reply.start_stream()):
            with pytest.raises(LocalProtocolError):
                await wrong

    async with serving(ScriptedHandler(confused)) as client:
        assert (await client.ask(post(b"x"))).status == 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_stops_reading_is_cut_off_and_its_handler_ends_in_peace(
    streamed: bool, autojump_clock: MockClock
) -> None:
    ended: list[tuple[float, bool]] = []

    async def answer(request: HttpRequest, reply: Reply) -> None:
        if streamed:
            await reply.start_stream()
            await reply.write(b"x")
            await reply.write(b"y")
            await reply.finish()
        else:
            await reply.send(200, b"x")
        ended.append((trio.current_time(), reply.gone))

    connections = Connections()
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with serving(ScriptedHandler(answer), connections=connections, streams=(ours, theirs)) as client:
        await client.send(post(b"x"))
        await trio.sleep(100)
    assert ended == [(LIMITS.write_timeout_s, True)]
    assert connections.metrics.write_timeouts == 1


async def test_a_client_that_reads_slowly_but_steadily_gets_everything(autojump_clock: MockClock) -> None:
    async def large(request: HttpRequest, reply: Reply) -> None:
        await reply.send(200, b"x" * 1_000_000)

    ours, theirs = trio.testing.lockstep_stream_pair()
    async with serving(ScriptedHandler(large), streams=(ours, theirs)) as client:
        await client.send(GET)
        received = 0
        while received < 1_000_000:
            received += len(await client.stream.receive_some(65536))
            await trio.sleep(LIMITS.write_timeout_s - 1)
    assert trio.current_time() > 10 * LIMITS.write_timeout_s


async def test_a_write_that_was_cancelled_half_way_ends_the_connection(autojump_clock: MockClock) -> None:
    async def impatient(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream()
        with trio.move_on_after(1):
            await reply.write(b"x" * 10)
        assert reply.gone
        await reply.write(b"y" * 10)

    ours, theirs = trio.testing.lockstep_stream_pair()
    async with serving(ScriptedHandler(impatient), streams=(ours, theirs)) as client:
        await client.send(GET)
        await client.until(b"\r\n\r\n")
        await trio.sleep(2)
        assert b"y" not in await client.to_end()


async def test_writing_to_a_client_that_has_left_is_silent() -> None:
    seen: list[bool] = []

    async def stream(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream()
        await reply.wait_gone()
        await reply.write(b"data: 1\n\n")
        await reply.finish()
        seen.append(reply.gone)

    async with serving(ScriptedHandler(stream)) as client:
        await client.send(GET)
        await client.until(b"\r\n\r\n")
    assert seen == [True]


async def test_an_answer_nobody_waits_for_is_silent() -> None:
    seen: list[bool] = []

    async def late(request: HttpRequest, reply: Reply) -> None:
        await trio.testing.wait_all_tasks_blocked()
        await reply.send(200, b"x")
        seen.append(reply.gone)

    async with serving(ScriptedHandler(late)) as client:
        await client.send(GET)
        await trio.lowlevel.checkpoint()
        await client.stream.aclose()
    assert seen == [True]


async def test_requests_pipelined_behind_a_stream_are_kept_for_later(autojump_clock: MockClock) -> None:
    async def stream(request: HttpRequest, reply: Reply) -> None:
        if request.method == "POST":
            await reply.send(200, request.body)
            return
        await reply.start_stream()
        with trio.move_on_after(1):
            await reply.wait_gone()

    async with serving(ScriptedHandler(stream)) as client:
        await client.send(GET)
        await trio.testing.wait_all_tasks_blocked()
        await client.send(post(b"one") + post(b"two"))
        assert [(await client.response()).body for _ in range(3)] == [b"", b"one", b"two"]


async def test_a_client_that_floods_its_stream_is_gone() -> None:
    async def stream(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream()
        await reply.wait_gone()
        assert reply.gone

    async with serving(ScriptedHandler(stream)) as client:
        await client.send(GET + b"x" * 100_000)
        assert not (await client.response()).is_whole


async def test_draining_closes_an_idle_connection_in_a_moment(autojump_clock: MockClock) -> None:
    connections = Connections()
    async with serving(connections=connections) as client:
        await client.ask(post(b"x"))
        await trio.testing.wait_all_tasks_blocked()
        connections.drain()
        assert await client.to_end() == b""
        assert trio.current_time() == 0.1


async def test_draining_answers_what_was_under_way_on_an_idle_connection(autojump_clock: MockClock) -> None:
    connections = Connections()
    async with serving(connections=connections) as client:
        await client.ask(post(b"x"))
        await trio.testing.wait_all_tasks_blocked()
        connections.drain()
        response = await client.ask(post(b"y"))
        assert (response.body, response.headers["connection"]) == (b"y", "close")
        assert await client.to_end() == b""
        assert trio.current_time() == 0


async def test_draining_answers_a_client_that_had_just_come(autojump_clock: MockClock) -> None:
    connections = Connections()
    async with serving(connections=connections) as client:
        await trio.testing.wait_all_tasks_blocked()
        connections.drain()
        await trio.sleep(0.9)
        response = await client.ask(post(b"y"))
        assert (response.body, response.headers["connection"]) == (b"y", "close")
        assert await client.to_end() == b""


async def test_draining_lets_a_busy_connection_finish_and_close() -> None:
    connections, release = Connections(), trio.Event()

    async def wait(request: HttpRequest, reply: Reply) -> None:
        await release.wait()
        await reply.send(200, request.body)

    async with serving(ScriptedHandler(wait), connections=connections) as client:
        await client.send(post(b"one") + post(b"two"))
        await trio.testing.wait_all_tasks_blocked()
        connections.drain()
        release.set()
        response = await client.response()
        assert (response.body, response.headers["connection"]) == (b"one", "close")
        assert await client.to_end() == b""


async def test_draining_ends_a_stream_that_only_waits() -> None:
    connections = Connections()

    async def stream(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream()
        await reply.wait_gone()
        assert not reply.gone

    async with serving(ScriptedHandler(stream), connections=connections) as client:
        await client.send(GET)
        await trio.testing.wait_all_tasks_blocked()
        connections.drain()
        response = await client.response()
        assert (response.status, response.is_whole) == (200, True)
        assert await client.to_end() == b""


async def test_finishing_answers_a_request_that_was_under_way_and_then_closes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    connections = Connections()
    async with serving(connections=connections) as client:
        await client.ask(post(b"x"))
        await trio.testing.wait_all_tasks_blocked()
        connections.finish()
        await trio.sleep(4)
        response = await client.ask(post(b"y"))
        assert (response.body, response.headers["connection"]) == (b"y", "close")
        assert await client.to_end() == b""


@pytest.mark.parametrize("comes_late", [False, True])
async def test_finishing_closes_what_stays_idle_a_few_seconds_later(
    autojump_clock: trio.testing.MockClock, comes_late: bool
) -> None:
    connections = Connections()
    if comes_late:
        connections.finish()
    async with serving(connections=connections) as client:
        await trio.testing.wait_all_tasks_blocked()
        connections.finish()
        assert await client.to_end() == b""
        assert trio.current_time() == 5


async def test_finishing_ends_a_stream_that_only_waits(autojump_clock: MockClock) -> None:
    connections = Connections()

    async def stream(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream()
        await reply.wait_gone()
        assert not reply.gone

    async with serving(ScriptedHandler(stream), connections=connections) as client:
        await client.send(GET)
        await trio.testing.wait_all_tasks_blocked()
        connections.finish()
        assert (await client.response()).is_whole
        assert await client.to_end() == b""


async def test_a_connection_that_comes_while_draining_may_ask_once_at_most(
    autojump_clock: MockClock,
) -> None:
    connections = Connections()
    connections.drain()
    async with serving(connections=connections) as client:
        assert await client.to_end() == b""
        assert trio.current_time() == 1
    async with serving(connections=connections) as client:
        assert (await client.ask(post(b"y"))).headers["connection"] == "close"
        assert await client.to_end() == b""


async def test_the_longest_idle_connection_makes_room() -> None:
    connections = Connections()
    assert not connections.evict_idle()
    async with serving(connections=connections) as first:
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:

            async def second() -> None:
                async with serving(connections=Connections()) as client:
                    assert (await client.ask(post(b"x"))).body == b"x"

            nursery.start_soon(second)
        assert connections.evict_idle()
        assert not connections.evict_idle()
        assert await first.to_end() == b""
