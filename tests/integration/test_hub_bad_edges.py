"""Edges that do what they should not: one log line, the right close code or status, and nobody else disturbed."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.support.hub_rig import HubRig, hub, until
from tests.support.scripted_edge import (
    HubClient,
    PollingEdge,
    Refused,
    Script,
    event_edge,
    polling_edge,
    websocket_edge,
)

OURS = ("edge.hub", "edge.link", "edge.http", "edge.server")


@asynccontextmanager
async def beside(
    caplog: pytest.LogCaptureFixture, *, lines: int | None, **config: Any
) -> AsyncIterator[HubRig]:
    """A hub with a good edge, whose calls must work throughout; `lines` warnings are expected. `bad` may connect."""
    caplog.set_level(logging.INFO)
    async with hub("good", "bad", **config) as rig, websocket_edge(rig.client("good")) as good:
        await good.register("good")
        await rig.ready("good")
        caplog.clear()
        yield rig
        assert await rig.call("good", n=1) == {"n": 1}
        assert good.closed is None
        assert rig.metrics.part_crashes["acceptor"] == 0
        told = [r for r in caplog.records if r.levelno >= logging.WARNING and r.name in OURS]
        texts = [(r.message, getattr(r, "reason", getattr(r, "remark", ""))) for r in told]
        assert lines is None or len(told) == lines, texts
        assert "token-of" not in caplog.text


# -- who it is


@pytest.mark.parametrize("path", ["/reverse-proxy/ws", "/v1/reverse-proxy/ws"])
async def test_a_wrong_token_opens_no_websocket(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=1) as rig:
        for _ in range(3):
            with pytest.raises(Refused) as caught:
                async with websocket_edge(HubClient(rig.address, "wrong"), path=path):
                    pass
            assert caught.value.status == 401
        assert rig.metrics.hub.refused["unknown_token"] == 3


@pytest.mark.parametrize(("token", "reason"), [("wrong", "unknown_token"), (None, "missing")])
@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/mcp-reverse/sse"), ("POST", "/register"), ("GET", "/poll?session_id=0123456789abcdef")],
)
async def test_a_wrong_token_opens_nothing(
    method: str, target: str, token: str | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with beside(caplog, lines=1) as rig:
        answer = await HubClient(rig.address, token).ask(
            method, target, b"{}" if method == "POST" else None, X_MCP_Server_Name="bad"
        )
        assert answer.status == 401
        assert rig.metrics.hub.refused[reason] == 1


async def test_another_edges_name_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=1) as rig:
        client = rig.client("bad")
        async with websocket_edge(client) as edge:
            await edge.register("good")
            assert (await edge.wait_closed())[0] == 1008
        assert (await client.ask("GET", "/mcp-reverse/sse", X_MCP_Server_Name="good")).status == 403
        assert (await PollingEdge(client, Script()).register(name="good")).status == 403
        assert rig.metrics.hub.refused["wrong_name"] == 3


async def test_the_name_of_a_server_of_the_hub_is_refused() -> None:
    async with hub("box", taken=frozenset({"box"})) as rig, websocket_edge(rig.client("box")) as edge:
        await edge.register("box")
        assert (await edge.wait_closed())[0] == 1008


async def test_a_dialect_that_an_edge_may_not_speak_is_refused() -> None:
    async with hub("a", dialects=("contextforge",)) as rig:
        assert (await rig.client("a").ask("POST", "/register", b"{}")).status == 404


async def test_a_post_with_another_edges_token_does_not_get_in(caplog: pytest.LogCaptureFixture) -> None:
    script = Script()
    async with beside(caplog, lines=1) as rig, event_edge(rig.client("bad"), "bad", script) as edge:
        await rig.ready("bad")
        answer = await edge.post({"jsonrpc": "2.0", "id": 1, "result": {}}, token="token-of-good")
        assert answer.status == 401
        assert await rig.call("bad", n=1) == {"n": 1}


# -- sessions


async def test_a_session_of_somebody_else_cannot_be_polled_or_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with beside(caplog, lines=0) as rig, polling_edge(rig.client("bad")) as edge:
        await rig.ready("bad")
        thief = PollingEdge(rig.client("good"), Script())
        assert (await thief.poll(edge.session)).status == 404
        assert (await thief.respond("x", {}, edge.session)).status == 404
        assert await rig.call("bad", n=1) == {"n": 1}


async def test_a_session_that_is_over_is_not_found(caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=0) as rig:
        async with event_edge(rig.client("bad"), "bad") as edge:
            await rig.ready("bad")
        await rig.down("bad")
        assert (await edge.post({"jsonrpc": "2.0", "id": 1, "result": {}})).status == 404


@pytest.mark.parametrize("target", ["/poll", "/response", "/mcp-reverse/message"])
async def test_a_request_without_a_session_is_refused(target: str, caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=0) as rig:
        method = "GET" if target == "/poll" else "POST"
        body = None if method == "GET" else b"{}"
        assert (await rig.client("bad").ask(method, target, body)).status == 400


async def test_of_two_polls_at_once_the_newer_is_served_and_nothing_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with beside(caplog, lines=0) as rig:
        edge = PollingEdge(rig.client("bad"), Script())
        await edge.register()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(edge.run)
            await rig.ready("bad")
            nursery.cancel_scope.cancel()
        first = await edge.client.begin("GET", f"/poll?session_id={edge.session}")
        async with first, trio.open_nursery() as nursery:
            await trio.sleep(0.05)
            nursery.start_soon(edge.run)  # from another place
            await trio.sleep(0.05)
            assert await rig.call("bad", n=1) == {"n": 1}
            assert edge.script.seen.count("tools/call") == 1
            nursery.cancel_scope.cancel()


async def test_answers_to_calls_that_were_never_made_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    stray = {"jsonrpc": "2.0", "id": 12345, "result": {"content": []}}
    async with beside(caplog, lines=0) as rig:
        async with websocket_edge(rig.client("bad")) as socket:
            await socket.send(type="response", payload=stray)  # even before it has registered
            await socket.register("bad")
            await rig.ready("bad")
            await socket.send(type="response", payload=stray)
            assert await rig.call("bad", n=1) == {"n": 1}
        await rig.down("bad")
        async with event_edge(rig.client("bad"), "bad") as events:
            await rig.ready("bad")
            assert (await events.post(stray)).status == 202
            assert await rig.call("bad", n=2) == {"n": 2}
        await rig.down("bad")
        async with polling_edge(rig.client("bad")) as polls:
            await rig.ready("bad")
            assert (await polls.respond("0000000000000000", stray)).json == {"status": "ok"}
            assert await rig.call("bad", n=3) == {"n": 3}


# -- frames


@pytest.mark.parametrize(
    "frame",
    [
        "no JSON",
        "[1, 2]",
        "null",
        '{"type": 7}',
        '{"type": "register", "server": "bad"}',
        '{"type": "response", "payload": "x"}',
        "0 0",
        '1 0 {"jsonrpc":"2.0","id":1,"result":{}}',
    ],
)
async def test_a_frame_that_is_none_is_complained_of_once(
    frame: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with beside(caplog, lines=1) as rig, websocket_edge(rig.client("bad")) as edge:
        await edge.register("bad")
        await rig.ready("bad")
        for _ in range(5):
            await edge.socket.send_message(frame)
        await edge.frame("error")
        assert await rig.call("bad", n=1) == {"n": 1}


async def test_unknown_frames_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=0) as rig, websocket_edge(rig.client("bad")) as edge:
        await edge.send(type="hello")
        await edge.register("bad")
        await rig.ready("bad")
        for kind in ("hello", "request", "error", "register_ack"):
            await edge.send(type=kind, payload={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert await rig.call("bad", n=1) == {"n": 1}


async def test_frames_before_the_registration_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=0) as rig, websocket_edge(rig.client("bad")) as edge:
        for kind in ("heartbeat", "response", "notification"):
            await edge.send(type=kind, payload={"jsonrpc": "2.0", "method": "notifications/x"})
        await edge.register("bad")
        await rig.ready("bad")
        assert await rig.call("bad", n=1) == {"n": 1}


async def test_a_second_registration_under_the_same_name_is_acknowledged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with beside(caplog, lines=0) as rig, websocket_edge(rig.client("bad")) as edge:
        for _ in range(2):
            await edge.register("bad")
            await edge.frame("register_ack")
        await rig.ready("bad")
        assert await rig.call("bad", n=1) == {"n": 1}


async def test_a_second_registration_under_another_name_ends_the_link(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with beside(caplog, lines=1) as rig, websocket_edge(rig.client("bad")) as edge:
        await edge.register("bad")
        await rig.ready("bad")
        await edge.register("bad-2")
        assert (await edge.wait_closed())[0] == 1008
        await rig.down("bad")
        assert rig.metrics.hub.lost["protocol"] == 1


async def test_binary_frames_are_no_messages(caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=1) as rig, websocket_edge(rig.client("bad")) as edge:
        await edge.register("bad")
        await rig.ready("bad")
        for _ in range(5):
            await edge.socket.send_message(b"\x00\x01")
        assert await rig.call("bad", n=1) == {"n": 1}


async def test_an_oversized_frame_closes_with_1009(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        beside(caplog, lines=1, max_message_bytes=100_000) as rig,
        websocket_edge(rig.client("bad")) as edge,
    ):
        await edge.register("bad")
        await rig.ready("bad")
        await edge.send(type="response", payload="x" * 200_000)
        assert (await edge.wait_closed())[0] == 1009
        await rig.down("bad")


async def test_oversized_bodies_are_answered_413(caplog: pytest.LogCaptureFixture) -> None:
    big = json.dumps({"jsonrpc": "2.0", "id": 1, "result": "x" * 200_000}).encode()
    async with (
        beside(caplog, lines=0, max_message_bytes=100_000) as rig,
        event_edge(rig.client("bad"), "bad") as edge,
    ):
        await rig.ready("bad")
        assert (await edge.post(big)).status == 413
        assert (await rig.client("bad").ask("POST", "/register", big)).status == 413
        assert await rig.call("bad", n=1) == {"n": 1}


async def test_an_edge_that_floods_with_rubbish_is_thrown_out(caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=1) as rig, websocket_edge(rig.client("bad")) as edge:
        await edge.register("bad")
        await rig.ready("bad")
        with suppress(ConnectionClosed):
            for _ in range(200):
                await edge.socket.send_message("rubbish")
        assert (await edge.wait_closed())[0] == 1008


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type":"register","server":{"name":"bad"}}',
        b'{"type":"heartbeat"}',
        b'{"type":"response","payload":{"jsonrpc":"2.0","id":1,"method":"ping"}}',
    ],
)
async def test_a_flood_that_nobody_reads_the_answers_of_does_not_fill_the_hub(
    frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        beside(caplog, lines=None, max_pending_bytes=10_000) as rig,
        frozen_websocket(rig.client("bad")) as stream,
    ):
        await stream.send_all(masked(b'{"type":"register","server":{"name":"bad"}}'))
        await until(lambda: rig.metrics.hub.links["contextforge"] == 2)
        with suppress(trio.BrokenResourceError):  # it may be thrown out
            for _ in range(50):
                await stream.send_all(masked(frame) * 1000)
                assert rig.acceptor.edges.pending_bytes() < 50_000
        assert await rig.call("good", n=1) == {"n": 1}


async def test_an_edge_that_never_registers_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        beside(caplog, lines=1, handshake_timeout_s=0.3) as rig,
        websocket_edge(rig.client("bad")) as edge,
    ):
        assert (await edge.wait_closed())[0] == 1008
        await until(lambda: rig.metrics.hub.refused["timeout"] == 1)


async def test_a_head_that_comes_in_slow_bytes_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=0, handshake_timeout_s=0.5) as rig:
        host, _, port = rig.address.rpartition(":")
        data = b""
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            for byte in b"GET /reverse-proxy/ws HT":
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.01)
            async for chunk in stream:
                data += chunk
        assert data.startswith(b"HTTP/1.1 408")


async def test_an_edge_that_shows_no_sign_of_life_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        beside(caplog, lines=1, heartbeat_s=0.2, dead_after_s=0.5) as rig,
        frozen_websocket(rig.client("bad")) as stream,
    ):
        await stream.send_all(masked(b'{"type":"register","server":{"name":"bad"}}'))
        await until(lambda: "bad" in rig.upstreams)
        await until(lambda: rig.metrics.hub.lost["dead"] == 1)


async def test_more_links_than_an_edge_may_have_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=1, max_links_per_edge=1) as rig:
        client = rig.client("bad")
        async with websocket_edge(client) as first, websocket_edge(client) as second:
            await first.register("bad-1")
            await rig.ready("bad-1")
            await second.register("bad-2")
            assert (await second.wait_closed())[0] == 1013
            assert await rig.call("bad-1", n=1) == {"n": 1}
        assert rig.metrics.hub.refused["limit"] == 1


async def test_more_links_than_the_hub_may_have_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with beside(caplog, lines=1, max_links=1) as rig:
        answer = await rig.client("bad").ask("GET", "/mcp-reverse/sse", X_MCP_Server_Name="bad")
        assert answer.status == 503
        assert "retry-after" in answer.headers


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/mcp", 404),
        ("GET", "/e/token/reverse-proxy/sessions", 404),
        ("POST", "/reverse-proxy/ws", 405),
        ("GET", "/register", 405),
        ("GET", "/reverse-proxy/ws", 426),
    ],
)
async def test_what_is_not_for_edges_is_refused(method: str, target: str, status: int) -> None:
    async with hub("a") as rig:
        body = b"{}" if method == "POST" else None
        assert (await rig.client("a").ask(method, target, body)).status == status


def masked(payload: bytes) -> bytes:
    """A text frame of a client, with a mask of zeros."""
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@asynccontextmanager
async def frozen_websocket(client: HubClient) -> AsyncIterator[trio.SocketStream]:
    """Of a process that does not run: the kernel takes what is sent, and nobody reads or answers."""
    async with await trio.open_tcp_stream(client.host, client.port) as stream:
        more = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        await stream.send_all(client.head("GET", "/reverse-proxy/ws", more))
        yield stream
