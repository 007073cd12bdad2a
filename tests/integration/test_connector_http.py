"""Uplinks of the two HTTP dialects over loopback, against scripted ends of the foreign software."""

from pathlib import Path

import trio

from edge.parts.link_store import LinkStore
from tests.support.gateway_rig import Asked, ToolServer, gateway, hang
from tests.support.scripted_acceptors import PollHub, SseAcceptor, listening
from tests.support.uplink_rig import eventually, uplink

INFO = {"name": "hub", "version": "1"}


async def echo(asked: Asked) -> str:
    return '{"content":[]}'


async def test_a_call_over_an_event_stream_is_answered_by_a_post() -> None:
    with trio.fail_after(10):
        acceptor = SseAcceptor()
        async with (
            gateway() as rig,
            listening(acceptor) as url,
            uplink(rig, f"{url}/mcp-reverse", dialect="mcp-reverse") as up,
        ):
            await acceptor.until_open()
            assert acceptor.names == ["box-a"]
            await acceptor.ask(
                0, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=INFO
            )
            assert (await acceptor.answer(0))["result"]["protocolVersion"] == "2025-11-25"
            for request_id in range(1, 30):
                await acceptor.ask(request_id, "tools/call", name="echo", arguments={"n": request_id})
            for request_id in range(1, 30):
                got = (await acceptor.answer(request_id))["result"]["got"]
                assert got["arguments"] == {"n": request_id}
            await eventually(lambda: up.status.is_good)


async def test_a_stream_that_is_cut_comes_back_and_its_call_is_cancelled() -> None:
    with trio.fail_after(10):
        server, acceptor = ToolServer(hang=hang, echo=echo), SseAcceptor()
        async with (
            gateway(server) as rig,
            listening(acceptor) as url,
            uplink(rig, url, dialect="mcp-reverse"),
        ):
            await acceptor.until_open()
            await acceptor.ask(1, "tools/call", name="hang", arguments={})
            await acceptor.ask(2, "tools/call", name="echo", arguments={})
            await acceptor.answer(2)
            acceptor.cut()
            await acceptor.until_open(2)
            await acceptor.ask(3, "tools/call", name="echo", arguments={})
            await acceptor.answer(3)
            assert server.cancelled == ["tools/call"]


async def test_a_wrong_token_is_said() -> None:
    with trio.fail_after(10):
        acceptor = SseAcceptor()
        acceptor.token = "another"
        async with (
            gateway() as rig,
            listening(acceptor) as url,
            uplink(rig, url, dialect="mcp-reverse") as up,
        ):
            await eventually(lambda: "401" in up.status.reason)
            assert up.metrics.link("hq", "a", "mcp-reverse").attempts["refused"] == 1


async def test_a_polling_edge_answers_calls_at_once_and_keeps_its_session(tmp_path: Path) -> None:
    with trio.fail_after(10):
        hub, store = PollHub(), LinkStore(tmp_path)
        async with gateway(ToolServer(hang=hang, echo=echo)) as rig, listening(hub) as url:
            async with uplink(rig, url, dialect="long-poll", store=store):
                initialize = {
                    "jsonrpc": "2.0",
                    "id": "i",
                    "method": "initialize",
                    "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": INFO},
                }
                answer = await hub.ask("r0", initialize)
                assert answer["id"] == "i"
                assert answer["result"]["protocolVersion"] == "2024-11-05"
                call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(hub.ask, "r1", {**call, "params": {"name": "hang"}})
                    answer = await hub.ask("r2", {**call, "params": {"name": "echo"}})
                    assert answer == {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
                    nursery.cancel_scope.cancel()
            async with uplink(rig, url, dialect="long-poll", store=store):
                await hub.until_polled_again()
                answer = await hub.ask("r3", {"jsonrpc": "2.0", "id": 1, "method": "ping"})
                assert answer["result"] == {}
            assert len(hub.sessions) == 1


async def test_a_hub_that_has_forgotten_the_session_is_registered_with_again(tmp_path: Path) -> None:
    with trio.fail_after(10):
        hub, store = PollHub(), LinkStore(tmp_path)
        async with gateway() as rig, listening(hub) as url:
            store.save("box-a", url, "00000000deadbeef")
            async with uplink(rig, url, dialect="long-poll", store=store):
                answer = await hub.ask("r1", {"jsonrpc": "2.0", "id": 1, "method": "ping"})
                assert answer["result"] == {}
            assert store.load("box-a", url) == hub.sessions[0]
