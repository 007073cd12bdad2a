"""Streamable HTTP over memory streams: cancelled calls, broken streams taken up again, and the GET stream."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.errors import Gone, SessionLost
from edge.proto.jsonrpc import Notification
from tests.support.http_server_toys import (
    JSON,
    Answer,
    Got,
    note,
    response,
)
from tests.support.streamable_talk import INITIALIZE, Talk


@pytest.fixture
async def talk(nursery: trio.Nursery) -> Talk:
    made = Talk(nursery)
    await made.begin()
    return made


# -- cancellation


async def test_cancelling_a_call_tells_the_server_and_drops_the_stream(
    talk: Talk, autojump_clock: MockClock
) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.wait_client_gone()

    talk.toy.on_call = answer
    with trio.move_on_after(1):
        await talk.call()
    call, cancelled = talk.toy.server.requests[-2:]
    assert cancelled.message["method"] == "notifications/cancelled"
    assert cancelled.message["params"]["requestId"] == call.message["id"]
    await wait_all_tasks_blocked()
    assert talk.toy.server.open_connections == 1


async def test_cancelling_waits_a_second_at_most_for_a_server_that_is_stuck(
    talk: Talk, autojump_clock: MockClock
) -> None:
    async def stuck(got: Got, answer: Answer) -> None:
        await trio.sleep_forever()

    talk.toy.server.script = stuck
    began = trio.current_time()
    with trio.move_on_after(5):
        await talk.call()
    assert trio.current_time() - began == 6


async def test_initialize_is_never_cancelled_on_the_wire(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    talk = Talk(nursery)

    async def stuck(got: Got, answer: Answer) -> None:
        await answer.wait_client_gone()

    talk.toy.server.script = stuck
    with trio.move_on_after(5):
        await talk.channel.request("initialize", INITIALIZE)
    assert talk.toy.server.methods() == ["POST initialize"]


# -- resuming


class Polling:
    """Answers a call by a stream that breaks; the rest is given to GETs, one piece each."""

    def __init__(self, pieces: list[Callable[[Any], str] | int]) -> None:
        self.pieces = pieces
        self.asked_for: list[tuple[float, str]] = []
        self.id: Any = None

    async def on_call(self, got: Got, answer: Answer) -> None:
        self.id = got.message["id"]
        await answer.start_events()
        await answer.chunk(b"id: e-0\nretry: 3000\ndata:\n\n")
        await answer.end()

    async def on_get(self, got: Got, answer: Answer) -> None:
        self.asked_for.append((trio.current_time(), got.fields["last-event-id"]))
        piece = self.pieces.pop(0) if self.pieces else 503
        if isinstance(piece, int):
            await answer.send(piece)
            return
        await answer.start_events()
        await answer.chunk(piece(self.id).encode())
        await answer.end()


def poll(talk: Talk, *pieces: Callable[[Any], str] | int) -> Polling:
    polling = Polling(list(pieces))
    talk.toy.on_call, talk.toy.on_get = polling.on_call, polling.on_get
    return polling


async def test_a_stream_that_breaks_is_taken_up_where_it_was(talk: Talk, autojump_clock: MockClock) -> None:
    polling = poll(
        talk,
        lambda _: "id: e-1\nretry: 5000\ndata:\n\n",
        503,
        lambda call: f"id: e-2\ndata: {json.dumps(response(call, 1))}\n\n",
    )
    began = trio.current_time()
    assert await talk.call() == 1
    assert [(at - began, last) for at, last in polling.asked_for] == [(3, "e-0"), (8, "e-1"), (13, "e-1")]


async def test_a_stream_that_cannot_be_taken_up_is_gone(talk: Talk, autojump_clock: MockClock) -> None:
    polling = poll(talk)
    with pytest.raises(Gone, match="cannot be resumed"):
        await talk.call()
    assert len(polling.asked_for) == 3


async def test_a_session_lost_while_polling_is_gone_for_the_call_may_have_run(
    talk: Talk, autojump_clock: MockClock
) -> None:
    polling = poll(talk, 404)
    with pytest.raises(Gone) as caught:
        await talk.call()
    assert not isinstance(caught.value, SessionLost)
    assert len(polling.asked_for) == 1


async def test_polling_for_ever_without_a_word_ends(talk: Talk, autojump_clock: MockClock) -> None:
    polling = poll(talk, *[lambda _: ": nothing\n\n"] * 200)
    with pytest.raises(Gone, match="keeps ending"):
        await talk.call()
    assert len(polling.asked_for) == 100


# -- the GET stream


async def test_the_get_stream_opens_after_initialized_and_brings_notifications_and_requests(
    nursery: trio.Nursery,
) -> None:
    talk = Talk(nursery)

    async def on_get(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.event({"jsonrpc": "2.0", "id": 7, "method": "ping"})
        await answer.event(note("notifications/tools/list_changed"))
        await answer.wait_client_gone()

    talk.toy.on_get = on_get
    nursery.start_soon(talk.channel.listen)
    await wait_all_tasks_blocked()
    assert talk.toy.server.methods() == []
    await talk.begin()
    await talk.inbound.news.wait()
    assert talk.toy.server.methods() == [
        "POST initialize",
        "POST notifications/initialized",
        "GET",
        "POST answer",
    ]
    assert talk.toy.server.requests[2].fields["accept"] == "text/event-stream"
    assert talk.toy.server.requests[3].message == {"jsonrpc": "2.0", "id": 7, "result": {}}
    nursery.cancel_scope.cancel()


async def test_a_broken_get_stream_is_opened_again_where_it_was(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    talk = Talk(nursery)
    seen: list[str | None] = []

    async def on_get(got: Got, answer: Answer) -> None:
        seen.append(got.fields.get("last-event-id"))
        if len(seen) == 2:
            await answer.send(500)
        else:
            await answer.start_events()
            await answer.event(note("notifications/tools/list_changed"), lines=f"id: g-{len(seen)}\n")
            await (answer.wait_client_gone() if len(seen) == 4 else answer.drop())

    talk.toy.on_get = on_get
    nursery.start_soon(talk.channel.listen)
    await talk.begin()
    await trio.sleep(60)
    assert seen == [None, "g-1", "g-1", "g-3"]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [405, 404, 400, 200])
async def test_a_server_without_a_get_stream_is_asked_once(
    nursery: trio.Nursery, autojump_clock: MockClock, status: int
) -> None:
    talk = Talk(nursery)

    async def on_get(got: Got, answer: Answer) -> None:
        await answer.send(status, JSON, b"{}")

    talk.toy.on_get = on_get
    nursery.start_soon(talk.channel.listen)
    await talk.begin()
    await trio.sleep(600)
    assert talk.toy.server.methods().count("GET") == 1
    nursery.cancel_scope.cancel()


async def test_a_new_session_gets_a_get_stream_of_its_own(nursery: trio.Nursery) -> None:
    talk = Talk(nursery)

    async def on_get(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.wait_client_gone()

    talk.toy.on_get = on_get
    nursery.start_soon(talk.channel.listen)
    for _ in range(2):
        await talk.begin()
        await wait_all_tasks_blocked()
    gets = [got.fields["mcp-session-id"] for got in talk.toy.server.requests if got.method == "GET"]
    assert gets == ["session-1", "session-2"]
    assert talk.http.pool.open_count == 1
    nursery.cancel_scope.cancel()


async def test_progress_on_the_get_stream_reaches_the_call_it_belongs_to_while_it_waits(
    nursery: trio.Nursery,
) -> None:
    talk = Talk(nursery)
    token, seen = trio.Event(), trio.Event()
    tokens: list[str] = []

    async def on_call(got: Got, answer: Answer) -> None:
        tokens.append(got.message["params"]["_meta"]["progressToken"])
        token.set()
        await seen.wait()
        await answer.result(got, 1)

    async def on_get(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await token.wait()
        await answer.event(note("notifications/progress", progressToken=tokens[0], progress=1))
        await answer.event(note("notifications/progress", progressToken="p999", progress=1))
        await answer.wait_client_gone()

    async def notify(notification: Notification) -> None:
        await talk.notify(notification)
        seen.set()

    talk.toy.on_call, talk.toy.on_get = on_call, on_get
    nursery.start_soon(talk.channel.listen)
    await talk.begin()
    assert await talk.call(notify=notify, progress=True) == 1
    assert [x.method for x in talk.notes] == ["notifications/progress"]
    nursery.cancel_scope.cancel()


# -- servers that do not keep to it


async def test_an_event_id_beyond_latin_1_is_given_back_as_utf_8(
    talk: Talk, autojump_clock: MockClock
) -> None:
    given: list[str] = []

    async def on_call(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.chunk("id: schnee\u2603\ndata:\n\n".encode())
        await answer.end()

    async def on_get(got: Got, answer: Answer) -> None:
        given.append(got.fields["last-event-id"].encode("latin-1").decode())
        await answer.start_events()
        await answer.event(response(2, 1))
        await answer.end()

    talk.toy.on_call, talk.toy.on_get = on_call, on_get
    assert await talk.call() == 1
    assert given == ["schnee\u2603"]


async def test_a_bad_request_of_the_server_with_our_id_is_not_our_answer(talk: Talk) -> None:
    async def on_call(got: Got, answer: Answer) -> None:
        call = got.message["id"]
        await answer.start_events()
        await answer.event({"jsonrpc": "2.0", "id": call, "method": "roots/list", "params": []})
        await answer.event({"jsonrpc": "2.0", "method": "notifications/message", "params": []})
        await answer.event(response(call, "good"))
        await answer.end()

    talk.toy.on_call = on_call
    assert await talk.call() == "good"


async def test_white_space_without_end_is_over_the_limit(nursery: trio.Nursery) -> None:
    talk = Talk(nursery, max_bytes=20_000)
    await talk.begin()
    n_sent = 0

    async def on_call(got: Got, answer: Answer) -> None:
        nonlocal n_sent
        await answer.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while n_sent < 1000:
            await answer.chunk(b" " * 1000)
            n_sent += 1
            await wait_all_tasks_blocked()

    talk.toy.on_call = on_call
    with pytest.raises(Gone, match="over the limit"):
        await talk.call()
    assert n_sent < 50


async def test_a_call_that_waits_to_resume_ends_with_the_conversation(
    talk: Talk, autojump_clock: MockClock
) -> None:
    async def on_call(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.chunk(b"id: 1\nretry: 50000\ndata:\n\n")
        await answer.end()

    talk.toy.on_call = on_call
    async with trio.open_nursery() as nursery:

        async def ends() -> None:
            await trio.sleep(1)
            talk.http.pool.close()

        nursery.start_soon(ends)
        with pytest.raises(Gone, match="conversation ended"):
            await talk.call()
        assert trio.current_time() == 1


async def test_a_server_that_does_not_take_our_answers_gets_its_call_done(
    talk: Talk, autojump_clock: MockClock
) -> None:
    usual = talk.toy.server.script

    async def script(got: Got, answer: Answer) -> None:
        if got.body and "result" in got.message:
            await answer.wait_client_gone()
        else:
            await usual(got, answer)

    async def on_call(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.event({"jsonrpc": "2.0", "id": "q", "method": "ping"})
        await answer.event(response(got.message["id"], "good"))
        await answer.end()

    talk.toy.server.script, talk.toy.on_call = script, on_call
    assert await talk.call() == "good"
    assert trio.current_time() == 10
