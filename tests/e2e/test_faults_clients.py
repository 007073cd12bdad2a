"""Faults of clients, through the built .pyz: those that never leave, never read, never finish, or just go.

What every test shows besides, at its end, is in support/faulty_neighbour.py.
"""

import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.faulty_neighbour import Stage, connect, hello, http_head, http_post, staged, toy
from tests.support.peers import requires
from tests.support.processes import eventually, memory_bytes

pytestmark = [
    requires("pyz"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc, which Linux has"),
]
MIB = 1024 * 1024
MANY = 10_000
AT_ONCE = 250  # pipelined
STUCK = 20  # clients that do not read
BIG = 4_000_000
FILES = 2500


# -- sessions that nobody ends


def ask_many(sock: socket.socket, requests: list[bytes], status: bytes) -> list[str]:
    """Send these, pipelined, over one connection; the session ids that the answers name."""
    ids: list[str] = []
    with sock.makefile("rb") as stream:
        for start in range(0, len(requests), AT_ONCE):
            batch = requests[start : start + AT_ONCE]
            sock.sendall(b"".join(batch))
            for _ in batch:
                assert stream.readline().split()[1] == status
                length = 0
                while (field := stream.readline().lower()) != b"\r\n":
                    name, _, value = field.partition(b":")
                    if name == b"mcp-session-id":
                        ids.append(value.strip().decode())
                    elif name == b"content-length":
                        length = int(value)
                stream.read(length)
    return ids


def begin_sessions(stage: Stage) -> list[str]:
    """Ten thousand of them, and never a word again."""
    url = stage.edge.endpoint
    request = http_post(url, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello()}, {})
    with connect(url) as sock:
        ids = ask_many(sock, [request] * MANY, b"200")
    assert len(set(ids)) == MANY
    return ids


def test_ten_thousand_sessions_cost_little_and_their_memory_is_used_again() -> None:
    with staged() as stage:
        before = memory_bytes(stage.edge.pid)
        ids = begin_sessions(stage)
        assert stage.edge.metric("mcp_edge_downstream_sessions_active") == MANY + 1
        first = memory_bytes(stage.edge.pid)
        each = (first - before) / MANY
        print(f"{each:.0f} bytes per session")
        assert each < 8192
        stage.good_answers()

        url = stage.edge.endpoint
        with connect(url) as sock:
            ask_many(sock, [http_head("DELETE", url, {"Mcp-Session-Id": each}) for each in ids], b"204")
        assert stage.edge.metric("mcp_edge_downstream_sessions_active") == 1
        begin_sessions(stage)
        again = memory_bytes(stage.edge.pid)
        assert again < first + 10 * MIB, "the second ten thousand took new memory"


def test_sessions_that_are_never_deleted_expire_and_memory_stays_flat() -> None:
    ended = 'mcp_edge_downstream_session_terminations_total{reason="idle_timeout"}'
    with staged(gateway=["session_idle_s = 2"]) as stage:
        sizes: list[int] = []
        for _ in range(3):
            begin_sessions(stage)
            eventually(lambda: stage.edge.metric("mcp_edge_downstream_sessions_active") == 0)
            sizes.append(memory_bytes(stage.edge.pid))
            stage.client = stage.session()
        assert stage.edge.metric(ended) >= 3 * MANY
        assert sizes[-1] < sizes[0] + 10 * MIB, sizes


# -- clients that do not read

GATEWAY_CONNECTIONS = 'mcp_edge_connections{listener="gateway"}'
BIG_CALLS = 'mcp_edge_tool_calls_total{server="bad",tool="big"}'


@contextmanager
def stuck_clients(stage: Stage) -> Iterator[None]:
    """Clients that ask for far more than fits anywhere, and read nothing of it: each is given one answer."""
    stage.client.text("bad__big", bytes=1)
    with ExitStack() as stack:
        for _ in range(STUCK):
            sock = stack.enter_context(connect(stage.edge.endpoint, receive_bytes=4096))
            sock.sendall(b"".join(stage.client.raw("bad__big", bytes=BIG) for _ in range(20)))
        eventually(lambda: stage.edge.metric(BIG_CALLS) == STUCK + 1)
        stage.until_in_flight(0)
        yield


def test_clients_that_do_not_read_their_answers_disturb_nobody_and_cost_one_answer_each() -> None:
    with staged(toy("bad")) as stage:
        before = memory_bytes(stage.edge.pid)
        with stuck_clients(stage):
            for _ in range(20):
                stage.good_answers()
                assert stage.client.text("bad__echo", text="you too") == "you too"
            assert stage.edge.metric(BIG_CALLS) == STUCK + 1, "answers pile up for clients that do not read"
            most = memory_bytes(stage.edge.pid, "VmHWM") - before
            print(f"{most / STUCK / BIG:.1f} times the answer for each")
            assert most < STUCK * BIG * 3
        # The reset reaches those that wait; what the other 19 calls of each ask for is not answered any more.
        eventually(lambda: stage.edge.metric(GATEWAY_CONNECTIONS) <= 1)


def test_clients_that_do_not_read_do_not_hold_up_the_end() -> None:
    with staged(toy("bad"), gateway=["drain_s = 0.5"]) as stage, stuck_clients(stage):
        assert stage.edge.metric(GATEWAY_CONNECTIONS) >= STUCK
        stage.stop()


def test_an_event_stream_that_is_not_read_costs_little_and_disturbs_nobody() -> None:
    steps = 200_000
    with staged(toy("bad")) as stage:
        before = memory_bytes(stage.edge.pid)
        params = {"name": "bad__progress", "arguments": {"n": steps}, "_meta": {"progressToken": "mine"}}
        request = http_post(
            stage.client.url, stage.client.message("tools/call", params), stage.client.headers
        )
        with connect(stage.edge.endpoint, receive_bytes=4096) as sock:
            sock.sendall(request)
            received = eventually(lambda: stage.metric("upstream_calls_in_flight"))
            while stage.metric("upstream_bytes_total", direction="received") < steps * 80:
                stage.good_answers()
            assert received == 1
            assert stage.client.text("bad__echo", text="you too") == "you too"
            assert memory_bytes(stage.edge.pid) < before + 48 * MIB
        stage.until_in_flight(0)


def test_a_session_stream_that_is_not_read_drops_the_oldest_news_and_disturbs_nobody() -> None:
    news, size = 800, 100_000
    with staged(toy("bad")) as stage:
        client = stage.client
        client.ask("logging/setLevel", {"level": "debug"})
        # While the same session waits for two calls, what the server logs belongs to neither: it goes to the stream.
        waiting = stage.later("bad__sleep", s=300)
        stage.until_in_flight(1)
        before = memory_bytes(stage.edge.pid)
        with connect(client.url, receive_bytes=4096) as sock:
            sock.sendall(http_head("GET", client.url, client.headers))
            for _ in range(news):
                assert client.text("bad__log", data="x" * size) == "logged"
            stage.good_answers()
            assert stage.edge.metric("mcp_edge_notes_dropped_total") > 0
            grown = memory_bytes(stage.edge.pid) - before
            print(f"{grown / MIB:.1f} MiB for {news * size / MIB:.1f} MiB of news")
            assert grown < 48 * MIB
        os.kill(stage.pid_of("bad"), signal.SIGKILL)
        assert "error" in waiting.result()
        stage.until_ready()


# -- clients that go, and clients that dawdle


def test_a_client_that_leaves_during_a_call_cancels_nothing_and_holds_nothing() -> None:
    with staged(toy("bad")) as stage:
        with ExitStack() as stack:
            for _ in range(50):
                sock = stack.enter_context(connect(stage.edge.endpoint))
                sock.sendall(stage.client.raw("bad__sleep", s=5))
            stage.until_in_flight(50)
        stage.good_answers()
        stage.until_in_flight(0)
        assert json.loads(stage.client.text("bad__cancelled")) == []


def test_a_client_that_leaves_in_the_middle_of_a_request_or_an_answer_holds_nothing() -> None:
    with staged(toy("bad")) as stage:
        request = stage.client.raw("bad__big", bytes=BIG)
        for cut in (1, 20, len(request) - 1):
            with connect(stage.edge.endpoint) as sock:
                sock.sendall(request[:cut])
        with connect(stage.edge.endpoint) as sock:
            sock.sendall(request)
            assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        stage.good_answers()
        eventually(lambda: stage.edge.metric(GATEWAY_CONNECTIONS) <= 1)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Enough descriptors for the clients of a test, and for the appliance, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        pytest.skip(f"this machine allows a process {hard} open files only")
    if soft != resource.RLIM_INFINITY and soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_idle_connections_leave_room_for_one_that_works() -> None:
    with staged() as stage:
        with ExitStack() as stack:
            for _ in range(1000):
                stack.enter_context(connect(stage.edge.endpoint))
            eventually(lambda: stage.edge.metric(GATEWAY_CONNECTIONS) == 1000)
            for _ in range(20):
                stage.good_answers()
            rejected = stage.edge.metric('mcp_edge_connections_rejected_total{listener="gateway"}')
            assert rejected == 0
        eventually(lambda: stage.edge.metric(GATEWAY_CONNECTIONS) <= 1)


def test_requests_that_come_byte_by_byte_do_not_block_others() -> None:
    with staged() as stage:
        request = stage.client.raw("good__echo", text="z" * 100)
        head = request.index(b"\r\n\r\n") + 4
        with ExitStack() as stack:
            slow = [stack.enter_context(connect(stage.edge.endpoint)) for _ in range(400)]
            for number, sock in enumerate(slow):
                # half of them are slow with the head, half with the body
                sock.sendall(request[: head // 2] if number % 2 else request[: head + 1])
            for step in range(20):
                for number, sock in enumerate(slow):
                    at = (head // 2 if number % 2 else head + 1) + step
                    sock.sendall(request[at : at + 1])
                stage.good_answers()
            # and they are served all the same when they are done
            for sock, at in ((slow[0], head + 21), (slow[1], head // 2 + 20)):
                sock.sendall(request[at:])
                assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        eventually(lambda: stage.edge.metric(GATEWAY_CONNECTIONS) <= 1)
