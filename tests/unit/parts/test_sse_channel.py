"""HTTP+SSE over memory streams: the endpoint, the answers on the stream, refused posts, and the end."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.errors import EdgeError, Gone, RpcError, Unavailable, UpstreamError
from edge.parts.channel import Ended
from edge.parts.server_http import HttpRefused
from edge.parts.sse_channel import SseChannel
from edge.proto.jsonrpc import Notification
from tests.support.http_server_toys import (
    Answer,
    Got,
    Listener,
    MemoryNet,
    ToyServer,
    error,
    memory_http,
    note,
    response,
)


class SseToy:
    """A server of 2024-11-05. `on_post` may answer otherwise than by the stream."""

    def __init__(self) -> None:
        self.server = ToyServer(self.script)
        self.first = "event: endpoint\ndata: /messages?session=1\n\n"
        self.stream: Answer | None = None
        self.has_stream = trio.Event()
        self.turn = trio.Lock()
        self.on_post: Callable[[Got, Answer], Any] = self.answer_post

    async def script(self, got: Got, answer: Answer) -> None:
        if got.method == "GET":
            await answer.start_events()
            await answer.chunk(self.first.encode())
            self.stream = answer
            self.has_stream.set()
            await answer.wait_client_gone()
        else:
            await self.on_post(got, answer)

    async def answer_post(self, got: Got, answer: Answer) -> None:
        await answer.send(202, body=b"Accepted")
        message = got.message
        if "id" in message and "method" in message:
            await self.say(response(message["id"], {"got": message["method"]}))

    async def say(self, value: Any) -> None:
        assert self.stream is not None
        async with self.turn:
            await self.stream.event(value)


class Talk:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.toy = SseToy()
        self.net = MemoryNet(self.toy.server, nursery)
        self.inbound = Listener()
        self.http = memory_http(self.net, max_open=32)
        self.channel = SseChannel(self.http, "http://toy/mcp", self.inbound)
        self.ended: list[EdgeError] = []

    async def run(self) -> None:
        try:
            await self.channel.run()
        except UpstreamError as exc:
            self.ended.append(exc)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            yield
            nursery.cancel_scope.cancel()

    async def call(self, method: str = "tools/call", **more: Any) -> Any:
        return (await self.channel.request(method, "{}", **more)).value


@pytest.fixture
async def talk(nursery: trio.Nursery) -> AsyncIterator[Talk]:
    made = Talk(nursery)
    async with made.running():
        yield made


async def test_answers_come_on_the_stream(talk: Talk) -> None:
    assert await talk.call() == {"got": "tools/call"}
    talk.channel.negotiated("2025-06-18")
    await talk.channel.notify("notifications/initialized", None)
    await wait_all_tasks_blocked()
    get, post, told = talk.toy.server.requests
    assert (get.method, get.target, get.fields["accept"]) == ("GET", "/mcp", "text/event-stream")
    assert (post.method, post.target) == ("POST", "/messages?session=1")
    assert "mcp-protocol-version" not in post.fields
    assert told.fields["mcp-protocol-version"] == "2025-06-18"


async def test_many_calls_at_once_get_their_own_answers(talk: Talk) -> None:
    got: list[str] = []

    async def one(method: str) -> None:
        got.append((await talk.call(method))["got"])

    methods = [f"m/{number}" for number in range(40)]
    async with trio.open_nursery() as many:
        for method in methods:
            many.start_soon(one, method)
    assert sorted(got) == sorted(methods)


async def test_a_message_is_never_posted_before_the_request_it_is_about(talk: Talk) -> None:
    order: list[str] = []

    async def on_post(got: Got, answer: Answer) -> None:
        await answer.send(202)
        order.append(got.message["method"])

    talk.toy.on_post = on_post
    async with trio.open_nursery() as many:
        many.start_soon(talk.call, "a")
        many.start_soon(talk.call, "b")
        await wait_all_tasks_blocked()
        many.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert sorted(order[:2]) == ["a", "b"]
    assert order[2:] == ["notifications/cancelled"] * 2


async def test_notifications_and_requests_of_the_server_are_heard(talk: Talk) -> None:
    await talk.toy.has_stream.wait()
    await talk.toy.say(note("notifications/tools/list_changed"))
    await talk.toy.say({"jsonrpc": "2.0", "id": "q", "method": "ping"})
    await talk.inbound.news.wait()
    await wait_all_tasks_blocked()
    assert [x.method for x in talk.inbound.heard] == ["notifications/tools/list_changed"]
    assert talk.toy.server.requests[-1].message == {"jsonrpc": "2.0", "id": "q", "result": {}}


async def test_what_is_no_message_is_skipped_and_counted(talk: Talk) -> None:
    await talk.toy.has_stream.wait()
    assert talk.toy.stream is not None
    await talk.toy.stream.chunk(b"data: nonsense\n\nevent: ping\ndata: x\n\n")
    assert await talk.call() == {"got": "tools/call"}
    assert talk.http.metrics.noise_lines == 1


async def test_progress_goes_to_its_call(talk: Talk) -> None:
    notes: list[Notification] = []

    async def notify(notification: Notification) -> None:
        await trio.lowlevel.checkpoint()
        notes.append(notification)

    async def on_post(got: Got, answer: Answer) -> None:
        await answer.send(202)
        token = got.message["params"]["_meta"]["progressToken"]
        await talk.toy.say(note("notifications/progress", progressToken=token, progress=1))
        await talk.toy.say(error(got.message["id"], -32000, "no"))

    talk.toy.on_post = on_post
    with pytest.raises(RpcError, match="no"):
        await talk.call(notify=notify, progress=True)
    assert [x.method for x in notes] == ["notifications/progress"]


async def test_a_refused_post_fails_its_call_and_no_other(talk: Talk) -> None:
    async def on_post(got: Got, answer: Answer) -> None:
        if got.message["method"] == "big":
            await answer.send(413, body=b"too big")
        else:
            await talk.toy.answer_post(got, answer)

    talk.toy.on_post = on_post
    with pytest.raises(RpcError, match="server toy failed"):
        await talk.call("big")
    assert await talk.call("small") == {"got": "small"}


async def test_a_post_that_finds_no_session_ends_the_conversation(talk: Talk) -> None:
    async def on_post(got: Got, answer: Answer) -> None:
        await answer.send(404, body=b"no such session")

    talk.toy.on_post = on_post
    with pytest.raises(Gone):
        await talk.call()
    await wait_all_tasks_blocked()
    (ended,) = talk.ended
    assert isinstance(ended, HttpRefused)
    assert ended.status == 404
    with pytest.raises(Unavailable):
        await talk.call()


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (b"0\r\n\r\n", "ended its event stream"),
        (b"x", "lost its event stream"),
        (b"", "lost its event stream"),
    ],
)
async def test_the_end_of_the_stream_is_the_end_of_all_calls(talk: Talk, last: bytes, reason: str) -> None:
    async def on_post(got: Got, answer: Answer) -> None:
        await answer.send(202)
        assert talk.toy.stream is not None
        if last:
            await talk.toy.stream.raw(last)
        if last in (b"", b"x"):
            await talk.toy.stream.stream.aclose()

    talk.toy.on_post = on_post
    with pytest.raises(Gone, match=reason):
        await talk.call()
    await wait_all_tasks_blocked()
    (ended,) = talk.ended
    assert isinstance(ended, Ended)
    assert ended.reason == reason


@pytest.mark.parametrize(
    ("first", "target"),
    [
        ("event: endpoint\ndata: http://toy:80/x?y\n\n", "/x?y"),
        ("event: endpoint\ndata: messages\n\n", "/messages"),
        (": hello\n\nevent: ping\ndata:\n\nevent: endpoint\ndata: ?a=b\n\n", "/mcp?a=b"),
    ],
)
async def test_the_endpoint_may_be_absolute_or_relative(
    nursery: trio.Nursery, first: str, target: str
) -> None:
    talk = Talk(nursery)
    talk.toy.first = first
    async with talk.running():
        await talk.call()
    assert talk.toy.server.requests[1].target == target


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("event: endpoint\ndata: http://evil.example/x\n\n", "of another origin"),
        ("event: endpoint\ndata: //evil.example/x\n\n", "of another origin"),
        ("event: endpoint\ndata: https://toy/x\n\n", "of another origin"),
        ("event: endpoint\ndata: http://toy:8080/x\n\n", "of another origin"),
        ("event: endpoint\ndata: file:///x\n\n", "that is no URL"),
        ("event: endpoint\ndata: /x y\n\n", "that is no URL"),
        ("event: message\ndata: /x\n\n", "named no endpoint"),
    ],
)
async def test_another_endpoint_is_refused_and_nothing_is_posted(
    nursery: trio.Nursery, first: str, reason: str
) -> None:
    talk = Talk(nursery)
    talk.toy.first = first
    with pytest.raises(Ended, match=reason):
        await talk.channel.run()
    assert talk.toy.server.methods() == ["GET"]


async def test_a_stream_that_names_no_endpoint_in_time_is_given_up(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    talk = Talk(nursery)
    talk.toy.first = ": wait\n\n"
    with pytest.raises(Ended, match="nothing came in 30 s"):
        await talk.channel.run()


async def refuse(got: Got, answer: Answer) -> None:
    await answer.send(405, body=b"no")


async def page(got: Got, answer: Answer) -> None:
    await answer.send(200, {"Content-Type": "text/html"}, b"<html>")


async def nothing(got: Got, answer: Answer) -> None:
    await answer.start_events()
    await answer.end()


@pytest.mark.parametrize(
    ("script", "text"),
    [(refuse, "HTTP 405: no"), (page, "without an event stream"), (nothing, "before it named an endpoint")],
)
async def test_a_server_that_gives_no_stream_is_refused(
    nursery: trio.Nursery, script: Callable[[Got, Answer], Any], text: str
) -> None:
    talk = Talk(nursery)
    talk.toy.server.script = script
    with pytest.raises(UpstreamError, match=text):
        await talk.channel.run()


async def test_a_broken_stream_ends_the_conversation(talk: Talk) -> None:
    await talk.toy.has_stream.wait()
    assert talk.toy.stream is not None
    await talk.toy.stream.chunk(b"data: \xff\n\n")
    await wait_all_tasks_blocked()
    (ended,) = talk.ended
    assert "sent a broken event stream" in str(ended)


async def test_stopping_ends_the_calls_that_are_open(nursery: trio.Nursery) -> None:
    talk = Talk(nursery)

    async def on_post(got: Got, answer: Answer) -> None:
        await answer.send(202)

    talk.toy.on_post = on_post
    failed: list[EdgeError] = []

    async def call() -> None:
        try:
            await talk.call()
        except Gone as exc:
            failed.append(exc)

    nursery.start_soon(call)
    async with talk.running():
        await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    assert [str(exc) for exc in failed] == ["server toy: stopped"]


async def test_a_post_that_is_answered_late_holds_up_others_for_seconds_only(
    talk: Talk, autojump_clock: MockClock
) -> None:
    usual = talk.toy.on_post

    async def on_post(got: Got, answer: Answer) -> None:
        if got.message["method"] == "tools/call":
            await trio.sleep(60)  # it answers the POST when the call is done
        await usual(got, answer)

    talk.toy.on_post = on_post
    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk.channel.request, "tools/call", None)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        assert (await talk.channel.request("ping", None)).value == {"got": "ping"}
        assert trio.current_time() - began == 5
