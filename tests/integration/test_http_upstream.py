"""Streamable HTTP servers over real sockets: faults, sessions, connections, and how a conversation ends."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from edge.backoff import Backoff
from edge.config.model import BackoffConfig, HttpServerConfig
from edge.errors import Gone, Unavailable, UpstreamError
from edge.health import Health
from edge.metrics_servers import ServerMetrics
from edge.net.dial import open_wire
from edge.net.http_client import BadAnswer, Origin
from edge.net.http_cold import client
from edge.parts.channel import Ended
from edge.parts.http_upstream import connect_http
from edge.parts.server_http import AuthFailed, HttpRefused
from edge.parts.upstream import Upstream
from edge.proto.jsonrpc import Notification
from edge.proto.jsontext import Raw
from tests.support.hanging_files import hanging_pipe
from tests.support.http_server_toys import (
    Answer,
    Got,
    Listener,
    McpToy,
    ToyServer,
    head,
    note,
    response,
)
from tests.support.http_talks import (
    INITIALIZE,
    LIMIT_S,
    LOG,
    TOOL,
    begin,
    call,
    config_for,
    connect_to,
    talking,
)


@pytest.fixture(autouse=True)
async def time_limit() -> AsyncIterator[None]:
    with trio.fail_after(LIMIT_S):
        yield


async def test_a_session_from_initialize_to_delete() -> None:
    toy = McpToy()
    async with talking(toy) as channel:
        assert await call(channel) == {"content": []}
    methods = [method for method in toy.server.methods() if method != "GET"]  # which may come at any time
    assert methods == ["POST initialize", "POST notifications/initialized", "POST tools/call", "DELETE"]
    assert toy.deleted == ["session-1"]


async def test_calls_one_after_another_use_one_connection() -> None:
    toy = McpToy()
    async with talking(toy) as channel:
        for _ in range(20):
            await call(channel)
    assert toy.server.connections <= 2  # the other one asked for the GET stream


async def test_progress_comes_before_the_result_and_chunks_may_be_cut_anywhere() -> None:
    toy = McpToy()
    notes: list[Notification] = []

    async def on_call(got: Got, answer: Answer) -> None:
        token = got.message["params"]["_meta"]["progressToken"]
        await answer.start_events()
        progress = note("notifications/progress", progressToken=token, progress=1)
        wire = b"".join(
            b"data: %s\n\n" % json.dumps(x).encode()
            for x in (progress, response(got.message["id"], "x" * 5000))
        )
        for at in range(0, len(wire), 700):
            await answer.chunk(wire[at : at + 700])
        await answer.end()

    async def notify(notification: Notification) -> None:
        notes.append(notification)

    toy.on_call = on_call
    async with talking(toy) as channel:
        assert await call(channel, notify=notify, progress=True) == "x" * 5000
    assert [x.method for x in notes] == ["notifications/progress"]


async def test_a_stream_that_stays_open_after_the_answer_is_closed_soon() -> None:
    toy = McpToy()
    closed = trio.Event()

    async def on_call(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.event(response(got.message["id"], 1))
        await answer.wait_client_gone()
        closed.set()

    toy.on_call = on_call
    async with talking(toy) as channel:
        assert await call(channel) == 1
        await closed.wait()


async def test_a_used_connection_that_the_server_closed_is_noticed_and_nothing_runs_twice() -> None:
    toy = McpToy()
    closed = trio.Event()

    async def on_call(got: Got, answer: Answer) -> None:
        await toy.answer_call(got, answer)
        await answer.drop()  # without having said so
        closed.set()

    toy.on_call = on_call
    async with talking(toy) as channel:
        for _ in range(5):
            await call(channel)
            await closed.wait()
    assert len(toy.executed) == len(set(toy.executed)) == 5


async def test_a_call_that_is_lost_on_a_used_connection_is_not_run_again() -> None:
    toy = McpToy()

    async def on_call(got: Got, answer: Answer) -> None:
        toy.executed.append(got.message["id"])
        if len(toy.executed) == 2:
            await answer.drop()
        else:
            await answer.result(got, 1)

    toy.on_call = on_call
    async with talking(toy) as channel:
        assert await call(channel) == 1
        with pytest.raises(Gone):
            await call(channel)
        assert await call(channel) == 1
    assert len(toy.executed) == 3


async def oversized(got: Got, answer: Answer) -> None:
    await answer.raw(head(200, {"Content-Type": "application/json", "Content-Length": "200000"}))
    await answer.raw(b" " * 200_000)


async def oversized_chunks(got: Got, answer: Answer) -> None:
    await answer.raw(head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}))
    for _ in range(200):
        await answer.chunk(b" " * 1000)


async def oversized_event(got: Got, answer: Answer) -> None:
    await answer.start_events()
    for _ in range(200):
        await answer.chunk(b"data: " + b"x" * 1000)


async def oversized_head(got: Got, answer: Answer) -> None:
    await answer.raw(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 1_000_000)


async def garbage(got: Got, answer: Answer) -> None:
    await answer.raw(b"\x00\x01\x02 what is this\r\n\r\n")


async def half_an_answer(got: Got, answer: Answer) -> None:
    await answer.raw(head(200, {"Content-Type": "application/json", "Content-Length": "20"}) + b"{")
    await answer.drop()


async def redirect(got: Got, answer: Answer) -> None:
    await answer.send(308, {"Location": "http://elsewhere.example/mcp"})


async def unauthorized(got: Got, answer: Answer) -> None:
    await answer.send(401, {"WWW-Authenticate": "Bearer"}, b'{"error":"invalid_token"}')


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        (oversized, BadAnswer, "over the limit of 100000 bytes"),
        (oversized_chunks, BadAnswer, "over the limit of 100000 bytes"),
        (oversized_event, BadAnswer, "more than 100000 bytes"),
        (oversized_head, BadAnswer, "not an HTTP answer"),
        (garbage, BadAnswer, "not an HTTP answer"),
        (half_an_answer, Gone, "ended before the answer did"),
        (redirect, HttpRefused, "HTTP 308, a redirect to elsewhere.example"),
        (unauthorized, AuthFailed, 'HTTP 401: {"error":"invalid_token"}'),
    ],
)
async def test_a_bad_answer_fails_its_call_and_the_next_one_works(
    script: Any, kind: type[UpstreamError], text: str
) -> None:
    toy = McpToy()
    toy.on_call = script
    async with talking(toy) as channel:
        with pytest.raises(kind) as caught:
            await call(channel)
        assert text in str(caught.value)
        toy.on_call = toy.answer_call
        assert await call(channel) == {"content": []}


async def test_a_request_larger_than_any_buffer_arrives_whole() -> None:
    toy = McpToy()

    async def on_call(got: Got, answer: Answer) -> None:
        await answer.result(got, len(got.message["params"]["arguments"]["text"]))

    toy.on_call = on_call
    async with talking(toy) as channel:
        params = json.dumps({"name": "t", "arguments": {"text": "x" * 8_000_000}})
        assert (await channel.request("tools/call", params)).value == 8_000_000


async def test_cancelling_a_call_that_waits_for_a_slow_head_tells_the_server_and_closes() -> None:
    toy = McpToy()
    has_call, is_closed = trio.Event(), trio.Event()

    async def on_call(got: Got, answer: Answer) -> None:
        has_call.set()
        await answer.wait_client_gone()
        is_closed.set()

    toy.on_call = on_call
    async with talking(toy) as channel:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, channel)
            await has_call.wait()
            nursery.cancel_scope.cancel()
        await is_closed.wait()
    assert "POST notifications/cancelled" in toy.server.methods()


async def test_a_server_that_is_not_there_is_unavailable_and_says_why() -> None:
    async with ToyServer(garbage).listening() as port:
        pass
    async with connect_to(port)(Listener()) as channel:
        with pytest.raises(Unavailable, match=f"cannot connect to 127.0.0.1:{port}: connection refused"):
            await channel.request("initialize", INITIALIZE)


async def test_a_server_whose_certificates_hang_is_unavailable_while_all_else_goes_on(tmp_path: Path) -> None:
    with hanging_pipe(tmp_path / "ca.pem") as path:
        config = HttpServerConfig(
            name="toy", url="https://127.0.0.1:1/mcp", ca_file=path, connect_timeout_s=0.1
        )
        with pytest.raises(Ended, match=r"its files could not be read within 0\.1 s"):
            async with connect_http(config, metrics=ServerMetrics(), log=LOG)(Listener()):
                pass


async def test_a_host_that_is_not_known_is_unavailable() -> None:
    config = HttpServerConfig(name="toy", url="http://no-such-host.invalid/mcp", connect_timeout_s=5.0)
    async with connect_http(config, metrics=ServerMetrics(), log=LOG)(Listener()) as channel:
        with pytest.raises(Unavailable, match=r"no-such-host.invalid"):
            await channel.request("initialize", INITIALIZE)


@pytest.mark.parametrize("host", ["two..dots.invalid", f"{'a' * 64}.invalid"])
async def test_a_host_name_that_dns_cannot_hold_is_said(host: str) -> None:
    with trio.fail_after(LIMIT_S), pytest.raises(Unavailable, match="the host name is not valid"):
        await open_wire(Origin(host, 80, False, host), tls=None, server="web", timeout_s=LIMIT_S)


async def test_a_notification_on_the_get_stream_is_heard() -> None:
    toy = McpToy()
    inbound = Listener()

    async def on_get(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.event(note("notifications/tools/list_changed"))
        await answer.wait_client_gone()

    toy.on_get = on_get
    async with toy.server.listening() as port:
        async with connect_to(port)(inbound) as channel:
            await begin(channel)
            await inbound.news.wait()
        assert [x.method for x in inbound.heard] == ["notifications/tools/list_changed"]
        assert toy.deleted == ["session-1"]


async def test_leaving_does_not_wait_for_a_server_that_is_stuck() -> None:
    toy = McpToy()

    async def stuck(got: Got, answer: Answer) -> None:
        await answer.wait_client_gone()

    async with toy.server.listening() as port:
        async with connect_to(port)(Listener()) as channel:
            await begin(channel)
            toy.server.script = stuck
            began = trio.current_time()
        assert trio.current_time() - began < 5
        assert toy.server.methods()[-1] == "DELETE"


# -- with the upstream above


class Events:
    def catalog_changed(self, upstream: Upstream) -> None: ...

    def resource_updated(self, upstream: Upstream, params: Raw) -> None: ...

    def logged(self, upstream: Upstream, params: Raw) -> None: ...


@asynccontextmanager
async def upstream_of(port: int) -> AsyncIterator[Upstream]:
    config = config_for(port, reconnect=BackoffConfig(first_s=0.01, limit_s=0.05))
    metrics = ServerMetrics()
    upstream = Upstream(
        config,
        connect_http(config, metrics=metrics, log=LOG),
        events=Events(),
        status=Health().add("server:toy", required=False),
        metrics=metrics,
        backoff=Backoff(0.01, 0.05, jitter=0),
        log=LOG,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(upstream.run)
        await upstream.wait_ready()
        yield upstream
        nursery.cancel_scope.cancel()


class RestartingToy(McpToy):
    """Knows `tools/list` besides calls."""

    async def answer_call(self, got: Got, answer: Answer) -> None:
        if got.message["method"] == "tools/list":
            await answer.result(got, {"tools": []})
        else:
            await super().answer_call(got, answer)


async def test_two_calls_that_find_their_session_lost_initialize_once_and_both_succeed() -> None:
    toy = RestartingToy()
    async with toy.server.listening() as port, upstream_of(port) as upstream:
        toy.sessions.clear()  # it was restarted
        results: list[Any] = []

        async def one() -> None:
            results.append((await upstream.request("tools/call", TOOL, timeout_s=5)).value)

        async with trio.open_nursery() as both:
            both.start_soon(one)
            both.start_soon(one)
        assert results == [{"content": []}] * 2
        assert toy.n_initialized == 2
        assert len(toy.executed) == 2
        assert upstream.metrics.session_resets["unknown_session"] == 1
        assert upstream.is_ready


async def test_a_server_that_comes_back_is_found_again() -> None:
    toy = RestartingToy()
    async with toy.server.listening() as port, upstream_of(port) as upstream:
        real, toy.server.script = toy.server.script, garbage
        with pytest.raises(Gone):
            await upstream.request("tools/call", TOOL, timeout_s=5)
        while upstream.is_ready:  # noqa: ASYNC110  the upstream has no event for going down
            await trio.sleep(0.01)
        toy.server.script = real
        await upstream.wait_ready()
        assert (await upstream.request("tools/call", TOOL, timeout_s=5)).value == {"content": []}


# -- the cold client


async def test_the_cold_client_sends_our_name_and_follows_no_redirect() -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await answer.send(302, {"Location": "/x"}, b"hello")

    def fetch(port: int) -> tuple[int, str]:
        with client(timeout_s=5, use_proxy=False) as cold:
            answer = cold.get(f"http://127.0.0.1:{port}/readyz")
            return answer.status_code, answer.text

    server = ToyServer(answer)
    async with server.listening() as port:
        assert await trio.to_thread.run_sync(fetch, port) == (302, "hello")
    assert server.requests[0].fields["user-agent"].startswith("mcp-edge/")
