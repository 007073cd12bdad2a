"""A hub over loopback with scripted edges: each dialect registers, is listed and called, is replaced and leaves."""

import json
import logging
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from edge.errors import Gone, Unavailable
from tests.support.hub_rig import HubRig, hub, until
from tests.support.scripted_edge import (
    EventEdge,
    PollingEdge,
    Script,
    WebSocketEdge,
    event_edge,
    polling_edge,
    websocket_edge,
)

DIALECTS = ("contextforge", "mcp-reverse", "long-poll")


async def connect(
    stack: AsyncExitStack, rig: HubRig, dialect: str, name: str, script: Script
) -> WebSocketEdge | EventEdge | PollingEdge:
    client = rig.client(name)
    edge: WebSocketEdge | EventEdge | PollingEdge
    if dialect == "contextforge":
        edge = await stack.enter_async_context(websocket_edge(client, script))
        await edge.register(name)
        await edge.frame("register_complete", status="success")
    elif dialect == "mcp-reverse":
        edge = await stack.enter_async_context(event_edge(client, name, script))
    else:
        edge = await stack.enter_async_context(polling_edge(client, script))
    await rig.ready(name)
    return edge


async def test_a_server_behind_each_dialect_is_listed_and_called() -> None:
    names = {"alpha": "contextforge", "beta": "mcp-reverse", "gamma": "long-poll"}
    async with hub(*names) as rig, AsyncExitStack() as stack:
        for name, dialect in names.items():
            await connect(stack, rig, dialect, name, Script())
        assert rig.tools(None) == ["alpha__echo", "beta__echo", "gamma__echo"]
        for name, dialect in names.items():
            assert rig.tools(name) == ["echo"]
            assert await rig.call(name, n=1, of=name) == {"n": 1, "of": name}
            assert rig.metrics.hub.links[dialect] == 1
            assert rig.metrics.edges[name].calls["success"] == 1
            assert rig.health.statuses[f"edge:{name}"].is_good
        rig.acceptor.refresh()
        assert rig.health.statuses["edge:beta"].detail["dialect"] == "mcp-reverse"


@pytest.mark.parametrize("dialect", DIALECTS[:2])
async def test_calls_run_side_by_side_over_one_link(dialect: str) -> None:
    answers: list[Any] = []
    script = Script()
    async with hub("a") as rig, AsyncExitStack() as stack:
        await connect(stack, rig, dialect, "a", script)
        script.hold = True

        async def call(n: int) -> None:
            answers.append(await rig.call("a", n=n))

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(call, n)
            await until(lambda: script.seen.count("tools/call") == 20)
            script.release.set()
    assert sorted(answer["n"] for answer in answers) == list(range(20))


async def test_no_more_calls_than_allowed_are_at_an_edge_at_once() -> None:
    script = Script()
    async with hub("a", max_calls_per_link=2) as rig, AsyncExitStack() as stack:
        await connect(stack, rig, "contextforge", "a", script)
        script.hold = True
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(rig.call, "a")
            await until(lambda: rig.metrics.edges["a"].queue_waiting == 4)
            await until(
                lambda: script.seen.count("tools/call") >= 2
            )  # what is let through is still on its way
            assert script.seen.count("tools/call") == 2
            script.release.set()


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_each_call_in_flight_gets_one_error_when_the_link_is_lost(dialect: str) -> None:
    script = Script()
    errors: list[str] = []
    async with hub("a", dead_after_s=2.0, heartbeat_s=1.0) as rig, AsyncExitStack() as stack:
        edge = await connect(stack, rig, dialect, "a", script)
        script.hold = True

        async def call() -> None:
            with pytest.raises(Gone) as caught:
                await rig.call("a")
            errors.append(caught.value.text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await until(lambda: script.seen.count("tools/call") == 1)
            if isinstance(
                edge, PollingEdge
            ):  # it cannot be lost while it has a call, so another takes its place
                assert (await edge.register()).status == 200
                nursery.start_soon(edge.poll)
            else:
                edge.cut()
            await until(lambda: errors != [])
            nursery.cancel_scope.cancel()
    assert errors[0].startswith("outcome unknown: the link to the edge was lost")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_newer_link_of_the_same_name_takes_the_place_of_the_older(
    dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    older, newer = Script(tools=("old",)), Script(tools=("echo",))
    async with hub("a") as rig, AsyncExitStack() as stack:
        first = await connect(stack, rig, dialect, "a", older)
        assert rig.tools("a") == ["old"]
        await connect(stack, rig, dialect, "a", newer)
        await until(lambda: rig.tools("a") == ["echo"])
        assert await rig.call("a", n=1) == {"n": 1}
        assert rig.metrics.hub.replaced == 1
        assert rig.metrics.hub.lost["replaced"] == 1
        assert rig.metrics.hub.links[dialect] == 1
        match first:
            case WebSocketEdge():
                code, reason = await first.wait_closed()
                assert code == 1000
                assert reason.startswith("replaced by a newer connection")
            case EventEdge():
                await first.has_ended.wait()
                answer = await first.post({"jsonrpc": "2.0", "id": 1, "result": {}})
                assert answer.status == 404
            case PollingEdge():
                await until(lambda: first.statuses[-1] == 404)
                assert (await first.poll()).status == 404  # nor does it come back by that
        assert rig.tools("a") == ["echo"]
    told = [record for record in caplog.records if "replaced" in getattr(record, "reason", "")]
    assert len(told) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_edge_that_comes_back_is_called_again(dialect: str) -> None:
    async with hub("a", dead_after_s=2.0, heartbeat_s=1.0) as rig:
        for n in range(2):
            async with AsyncExitStack() as stack:
                await connect(stack, rig, dialect, "a", Script())
                assert await rig.call("a", n=n) == {"n": n}
            await rig.down("a")
            await until(lambda: rig.health.statuses["edge:a"].reason == "not connected")
        with pytest.raises(Unavailable):
            await rig.upstreams["a"].request("tools/call", '{"name":"echo"}', timeout_s=1)


async def test_an_edge_publishes_several_servers_under_names_that_begin_with_its_own() -> None:
    async with hub("box") as rig, AsyncExitStack() as stack:
        for name in ("box-git", "box-time"):
            edge = await stack.enter_async_context(websocket_edge(rig.client("box")))
            await edge.register(name)
            await rig.ready(name)
        for name in ("box-git", "box-time"):
            assert await rig.call(name, of=name) == {"of": name}


async def test_a_client_that_gives_up_is_told_to_the_edge() -> None:
    script = Script()
    async with hub("a") as rig, AsyncExitStack() as stack:
        await connect(stack, rig, "contextforge", "a", script)
        script.hold = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.call, "a")
            await until(lambda: "tools/call" in script.seen)
            nursery.cancel_scope.cancel()
        await until(lambda: len(script.cancelled) == 1)


async def test_an_edge_whose_server_cannot_be_initialized_is_told_so() -> None:
    async with hub("a") as rig, websocket_edge(rig.client("a"), Script(refuse=True)) as edge:
        await edge.register("a")
        assert (await edge.frame("register_ack"))["status"] == "processing"
        assert (await edge.frame("register_complete"))["status"] == "error"
        assert (await edge.wait_closed())[0] == 1008
        await until(lambda: rig.metrics.hub.links["contextforge"] == 0)
        assert rig.metrics.hub.lost["protocol"] == 1


async def test_the_heartbeats_of_an_edge_are_answered_at_most_once_a_second() -> None:
    async with hub("a") as rig, websocket_edge(rig.client("a")) as edge:
        await edge.register("a")
        await edge.frame("register_complete")
        for _ in range(50):
            await edge.send(type="heartbeat", sessionId="mine")
        await edge.frame("heartbeat")
        assert await rig.call("a", n=1) == {"n": 1}
        assert len([frame for frame in edge.frames if frame["type"] == "heartbeat"]) <= 1


async def test_operators_see_and_end_sessions() -> None:
    async with hub("a", "b") as rig, AsyncExitStack() as stack:
        edge = await connect(stack, rig, "contextforge", "a", Script())
        assert isinstance(edge, WebSocketEdge)
        await connect(stack, rig, "mcp-reverse", "b", Script())
        await stack.enter_async_context(websocket_edge(rig.client("b")))  # not registered
        listing = (await rig.operator.ask("GET", "/reverse-proxy/sessions")).json
        assert listing["total"] == 3
        by_user = {(s["user"], s["server_info"].get("name")): s for s in listing["sessions"]}
        assert set(by_user) == {("a", "a"), ("b", "b"), ("b", None)}
        shown = by_user["a", "a"]
        assert shown["message_count"] >= 2
        assert shown["bytes_transferred"] > 100
        answer = await rig.operator.ask("DELETE", f"/v1/reverse-proxy/sessions/{shown['session_id']}")
        assert (answer.status, answer.json["status"]) == (200, "disconnected")
        assert (await edge.wait_closed())[0] == 1000
        assert rig.metrics.hub.lost["operator"] == 1
        again = await rig.operator.ask("DELETE", f"/reverse-proxy/sessions/{shown['session_id']}")
        assert again.status == 404
        assert await rig.call("b", n=1) == {"n": 1}


async def test_operators_send_a_request_whose_answer_is_not_waited_for() -> None:
    script = Script()
    async with hub("a") as rig, AsyncExitStack() as stack:
        await connect(stack, rig, "contextforge", "a", script)
        session = (await rig.operator.ask("GET", "/reverse-proxy/sessions")).json["sessions"][0]["session_id"]
        target = f"/reverse-proxy/sessions/{session}/request"
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "resources/list"}).encode()
        answer = await rig.operator.ask("POST", target, body)
        assert (answer.status, answer.json["status"]) == (200, "sent")
        await until(lambda: "resources/list" in script.seen)
        assert (await rig.operator.ask("POST", target, b'"hello"')).status == 422
        assert (await rig.operator.ask("POST", "/reverse-proxy/sessions/x/request", body)).status == 404


@pytest.mark.parametrize("target", ["/reverse-proxy/sessions", "/v1/reverse-proxy/sessions"])
async def test_only_operators_get_to_the_sessions(target: str) -> None:
    async with hub("a") as rig:
        nobody = rig.client("a")
        assert (await nobody.ask("GET", target)).status == 403
        nobody.token = None
        assert (await nobody.ask("GET", target)).status == 401
        assert (await nobody.ask("DELETE", f"{target}/x")).status == 401


async def test_plain_clients_call_by_message() -> None:
    def request(method: str, **params: Any) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": "q", "method": method, "params": params}).encode()

    call = request("tools/call", name="echo", arguments={"n": 1})
    async with hub("a", "b") as rig, AsyncExitStack() as stack:
        ask = rig.operator.ask
        answer = await ask("POST", "/message", call)
        assert (answer.status, answer.json) == (503, {"error": "No MCP servers available"})
        await connect(stack, rig, "long-poll", "a", Script())
        first = (await ask("POST", "/message", request("initialize", protocolVersion="2024-11-05"))).json
        assert first["result"]["protocolVersion"] == "2024-11-05"
        answer = await ask("POST", "/message", call)
        assert answer.json["id"] == "q"
        assert answer.json["result"]["content"][0]["text"] == '{"n": 1}'
        told = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
        assert (await ask("POST", "/message", told)).json == {}
        assert (await ask("POST", "/message", b"{")).status == 400
        await connect(stack, rig, "contextforge", "b", Script())
        assert (await ask("POST", "/message", call)).status == 400
        assert (await ask("POST", "/message?server=b", call)).status == 200
        assert (await ask("POST", "/message?server=c", call)).status == 503
        assert (await rig.client("a").ask("POST", "/message", call)).status == 403


async def test_an_edge_that_cannot_send_headers_has_its_token_in_the_path() -> None:
    async with hub("a") as rig:
        client = rig.client("a")
        token, client.token = client.token, None
        edge = PollingEdge(client, Script(), prefix=f"/e/{token}")
        answer = await edge.register()
        assert answer.json["poll_endpoint"] == f"/e/{token}/poll"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(edge.run)
            await rig.ready("a")
            assert await rig.call("a", n=1) == {"n": 1}
            nursery.cancel_scope.cancel()
        edge.prefix = "/e/wrong"
        assert (await edge.register()).status == 401


async def test_a_real_polling_edge_is_taken_up_again_after_the_hub_was_restarted() -> None:
    async with hub("a", "b") as rig:
        edge = PollingEdge(rig.client("a"), Script())
        edge.session = "a3e8255c51716b6e"  # from before
        async with trio.open_nursery() as nursery:
            nursery.start_soon(edge.run)
            await rig.ready("a")
            assert await rig.call("a", n=1) == {"n": 1}
            thief = PollingEdge(rig.client("b"), Script())
            assert (await thief.poll(edge.session)).status == 404
            assert (await thief.respond("x", {}, edge.session)).status == 404
            assert await rig.call("a", n=2) == {"n": 2}
            nursery.cancel_scope.cancel()


async def test_a_hub_that_ends_lets_calls_end_and_tells_its_edges() -> None:
    scripts = {dialect: Script() for dialect in DIALECTS}
    answers: list[Any] = []
    async with hub(*DIALECTS) as rig, AsyncExitStack() as stack:
        edges = {d: await connect(stack, rig, d, d, script) for d, script in scripts.items()}
        unregistered = await stack.enter_async_context(websocket_edge(rig.client("contextforge")))

        async def call(name: str) -> None:
            answers.append(await rig.call(name, of=name))

        async with trio.open_nursery() as nursery:
            for name, script in scripts.items():
                script.hold = True
                nursery.start_soon(call, name)
            await until(lambda: all("tools/call" in script.seen for script in scripts.values()))
            await rig.drain()
            await trio.sleep(0.05)
            await unregistered.register("contextforge-2")
            assert (await unregistered.wait_closed())[0] in (1012, 1013)
            late = rig.client("contextforge")
            assert (await late.ask("POST", "/register", b"{}")).status == 503
            for script in scripts.values():
                script.release.set()
        assert sorted(answer["of"] for answer in answers) == sorted(DIALECTS)
        socket, events, polls = (edges[dialect] for dialect in DIALECTS)
        assert isinstance(socket, WebSocketEdge)
        assert isinstance(events, EventEdge)
        assert isinstance(polls, PollingEdge)
        assert (await socket.wait_closed())[0] == 1012
        await events.has_ended.wait()
        await until(lambda: bool(polls.statuses) and polls.statuses[-1] == 503)


async def test_a_name_that_was_not_seen_for_long_is_forgotten() -> None:
    async with hub("a", forget_s=0.3) as rig:
        async with AsyncExitStack() as stack:
            await connect(stack, rig, "contextforge", "a", Script())
        await until(lambda: "a" not in rig.upstreams)
        assert "edge:a" not in rig.health.statuses
        assert "a" not in rig.metrics.edges
        assert rig.gateway.view("a") is None
        async with AsyncExitStack() as stack:
            await connect(stack, rig, "contextforge", "a", Script())
            assert await rig.call("a", n=1) == {"n": 1}
