"""Faults of HTTP servers, through the built .pyz: each harms its own callers at most, and nothing runs twice.

What every test shows besides, at its end, is in support/faulty_neighbour.py.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.faulty_neighbour import Stage, staged, table
from tests.support.peers import requires
from tests.support.processes import eventually
from tests.support.rude_http_server import Got, Line, RudeServer, done, response, rude_server

pytestmark = [
    requires("pyz"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc, which Linux has"),
]
UNAVAILABLE, TIMED_OUT, GONE, UNKNOWN_TOOL, FAILED = -32010, -32011, -32012, -32602, -32603
TOGETHER = 8
BARRIER_S = 30.0


def http(server: RudeServer, **options: object) -> str:
    """The server's table, called `bad`."""
    quick = {"url": f'"{server.url}"', "reconnect": "{ first_s = 0.1, limit_s = 0.5 }"}
    return table("bad", **(quick | options))


@contextmanager
def behind(server: RudeServer, *, more_fds: int = 0, **options: object) -> Iterator[Stage]:
    with staged(http(server, **options), more_fds=more_fds) as stage:
        yield stage


def work(stage: Stage, **arguments: object) -> None:
    assert stage.client.text("bad__work", **arguments) == "done"


def test_a_restarted_server_is_initialized_again_once_for_all_calls_and_each_succeeds() -> None:
    with rude_server() as server, behind(server) as stage:
        work(stage, n=0)
        assert server.initialized == ["session-1"]
        barrier = threading.Barrier(TOGETHER)

        def all_at_once(got: Got, line: Line) -> None:
            if got.fields["mcp-session-id"] == "session-1":
                barrier.wait(BARRIER_S)  # all of them meet the lost session

        server.before = all_at_once
        server.sessions.clear()
        calls = [stage.later("bad__work", n=n) for n in range(1, TOGETHER + 1)]
        assert [call.result()["result"]["content"][0]["text"] for call in calls] == ["done"] * TOGETHER
        assert server.initialized == ["session-1", "session-2"]
        assert sorted(call["n"] for call in server.executed) == list(range(TOGETHER + 1))
        assert stage.metric("upstream_session_resets_total", reason="unknown_session") == 1
        assert stage.server("bad")["state"] == "ready"


def test_a_server_that_loses_every_session_fails_its_calls_and_does_not_loop() -> None:
    with rude_server() as server, behind(server) as stage:

        def forget(got: Got, line: Line) -> None:
            server.sessions.clear()

        server.before = forget
        assert stage.client.error_code("bad__work", n=1) == UNAVAILABLE
        assert len(server.calls()) == 2
        assert server.executed == []
        server.before = server.nothing
        eventually(lambda: "result" in stage.client.call("bad__work", n=2))


def test_a_connection_that_was_closed_after_the_answer_is_not_used_again() -> None:
    with rude_server() as server, behind(server) as stage:

        def answer_and_close(got: Got, line: Line) -> None:
            server.work(got, line)
            line.drop()

        server.on_call = answer_and_close
        for n in range(20):
            work(stage, n=n)
        assert [call["n"] for call in server.calls()] == list(range(20))
        assert server.opened >= 20


@pytest.mark.parametrize("runs", [False, True], ids=["before it ran", "after it ran"])
def test_a_call_whose_reused_connection_closes_is_not_written_again(runs: bool) -> None:
    with rude_server() as server, behind(server) as stage:
        work(stage, n=0)

        def close(got: Got, line: Line) -> None:
            if runs:
                server.executed.append(got.message["params"]["arguments"])
            line.drop()

        server.on_call = close
        assert stage.client.error_code("bad__work", n=1) == GONE
        server.on_call = server.work
        work(stage, n=2)
        assert [call["n"] for call in server.calls()] == [0, 1, 2]
        assert [call["n"] for call in server.executed] == ([0, 1, 2] if runs else [0, 2])
        assert server.initialized == ["session-1"]


@pytest.mark.parametrize("kind", ["silent", "talkative"])
def test_events_that_never_end_after_the_answer_hold_neither_the_call_nor_connections(kind: str) -> None:
    with rude_server() as server, behind(server) as stage:

        def never_end(got: Got, line: Line) -> None:
            line.start_events()
            line.event(done(got))
            while kind == "talkative":
                line.event({"jsonrpc": "2.0", "method": "notifications/more", "params": {"x": "y" * 1000}})
            line.wait_gone()

        server.on_call = never_end
        for n in range(20):
            work(stage, n=n)
        eventually(lambda: server.open_connections <= 2)


def test_events_that_never_bring_the_answer_end_with_the_time_limit() -> None:
    with rude_server() as server, behind(server, call_timeout_s=0.5) as stage:

        def talk(got: Got, line: Line) -> None:
            line.start_events()
            while True:
                line.event({"jsonrpc": "2.0", "method": "notifications/more", "params": {"x": "y" * 1000}})

        server.on_call = talk
        call = stage.later("bad__work", n=1)
        while not call.done():
            stage.good_answers()
        assert call.result()["error"]["code"] == TIMED_OUT


def test_a_call_that_hangs_ends_with_the_time_limit_and_the_server_is_told() -> None:
    with rude_server() as server, behind(server, call_timeout_s=0.5) as stage:
        hung: list[Got] = []

        def hang(got: Got, line: Line) -> None:
            hung.append(got)
            line.wait_gone()

        server.on_call = hang
        call = stage.later("bad__work", n=1)
        while not call.done():
            stage.good_answers()
        assert call.result()["error"]["code"] == TIMED_OUT
        told = eventually(lambda: server.told("notifications/cancelled"))
        assert [note["params"]["requestId"] for note in told] == [hung[0].message["id"]]
        server.on_call = server.work
        work(stage, n=2)


def whole(body: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    """An answer whose HTTP is good."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


GARBAGE = {
    "no HTTP": b"220 mail.example.com ESMTP\r\n",
    "a web page": whole(b"<h1>Hi</h1>", "text/html"),
    "half a message": whole(b'{"jsonrpc'),
    "half an answer": whole(b'{"jsonrpc": "2.0"}')[:-5],
    "an empty answer": whole(b""),
    "another id": whole(b'{"jsonrpc": "2.0", "id": "other", "result": {}}'),
    "a bare result": whole(b'{"content": []}'),
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "broken events": whole(b"data: {not json\n\n", "text/event-stream"),
    "no events": whole(b": nothing\n\n", "text/event-stream"),
    "not UTF-8": whole(b"{\xff}"),
    "nested too deeply": whole(b"[" * 200_000),
    "status 500": whole(b"oops", "text/plain", "500 Oops"),
}


def test_garbage_for_an_answer_is_one_error_each_and_the_server_stays_in_use() -> None:
    with rude_server() as server, behind(server) as stage:
        codes: dict[str, int] = {}
        for name, garbage in GARBAGE.items():

            def answer(got: Got, line: Line, garbage: bytes = garbage) -> None:
                line.raw(garbage)
                line.drop()

            server.on_call = answer
            codes[name] = stage.client.error_code("bad__work", what=name)
            server.on_call = server.work
            work(stage, what=f"after {name}")
            stage.good_answers()
        assert codes.pop("status 500") == FAILED
        assert codes == dict.fromkeys(codes, GONE)
        assert len(server.calls()) == 2 * len(GARBAGE), "a call was written again"
        assert server.initialized == ["session-1"]


def test_an_answer_over_the_limit_fails_its_call_alone() -> None:
    limits = "{ max_line_bytes = 1048576 }"
    with rude_server() as server, behind(server, limits=limits) as stage:
        text = {"content": [{"type": "text", "text": "x" * 20_000_000}]}
        server.on_call = lambda got, line: line.json(response(got, text))
        assert stage.client.error_code("bad__work", n=1) == GONE
        server.on_call = server.work
        work(stage, n=2)


def test_a_server_that_refuses_connections_is_used_when_it_is_back() -> None:
    # Connections to it are kept for later calls, and there were none at first.
    with rude_server(listening=False) as server, behind(server, more_fds=2) as stage:
        assert stage.server("bad")["state"] == "degraded"
        assert "refused" in stage.server("bad")["last_error"].lower()
        assert stage.client.error_code("bad__work") == UNKNOWN_TOOL
        server.start()
        stage.until_ready()
        work(stage, n=1)

        server.stop()
        assert stage.client.error_code("bad__work", n=2) in (UNAVAILABLE, UNKNOWN_TOOL)
        eventually(lambda: stage.server("bad")["state"] == "degraded")
        stage.good_answers()

        server.start()
        stage.until_ready()
        work(stage, n=3)
        assert [call["n"] for call in server.executed] == [1, 3]
