"""An uplink over loopback, against a scripted gateway that speaks ContextForge V1 frames."""

import ssl

import trio
import trustme

from edge.config.uplinks import UplinkTls
from tests.support.gateway_rig import Asked, ToolServer, gateway, hang
from tests.support.scripted_hub import scripted_hub
from tests.support.uplink_rig import eventually, uplink


async def test_an_edge_registers_and_answers_calls() -> None:
    with trio.fail_after(10):
        async with gateway() as rig, scripted_hub() as hub, uplink(rig, f"ws://127.0.0.1:{hub.port}") as up:
            session = await hub.session()
            assert session.name == "box-a"
            assert session.path == "/v1/reverse-proxy/ws"
            assert session.headers["user-agent"].startswith("mcp-edge/")
            answer = await session.call(1, "echo", x="\u00e4" * 100_000)
            assert answer["result"]["got"]["arguments"] == {"x": "\u00e4" * 100_000}
            assert up.health.statuses["uplink:hq/a"].is_good
            assert up.metrics.link("hq", "a", "contextforge").messages_in == 1
            assert up.learned == ["secret-1"]


async def test_a_message_of_the_largest_size_comes_in_whatever_is_put_around_it() -> None:
    with trio.fail_after(10):
        async with (
            gateway(ToolServer(echo=echo)) as rig,
            scripted_hub() as hub,
            uplink(rig, f"ws://127.0.0.1:{hub.port}", max_message_bytes=4096) as up,
        ):
            session = await hub.session()
            assert "result" in await session.call(1, "echo", pad="x" * (4096 - 130))
            assert up.metrics.link("hq", "a", "contextforge").bytes_in <= 4096


async def test_calls_at_once_are_all_answered() -> None:
    with trio.fail_after(10):
        async with gateway() as rig, scripted_hub() as hub, uplink(rig, f"ws://127.0.0.1:{hub.port}"):
            session = await hub.session()
            for request_id in range(60):
                await session.ask(request_id, "tools/call", name="echo", arguments={"n": request_id})
            for request_id in range(60):
                got = await session.answer(request_id)
                assert got["result"]["got"]["arguments"] == {"n": request_id}


async def test_heartbeats_are_sent_and_their_answers_are_not_answered() -> None:
    with trio.fail_after(10):
        async with (
            gateway() as rig,
            scripted_hub() as hub,
            uplink(rig, f"ws://127.0.0.1:{hub.port}", heartbeat_s=0.2),
        ):
            session = await hub.session()
            await session.until("heartbeat", 3)
            for _ in range(50):
                await session.send(type="heartbeat", timestamp="2026-01-01T00:00:00+00:00")
            await session.call(1, "echo")
            assert session.count("heartbeat") < 20


async def test_a_link_that_is_cut_comes_back_and_its_call_is_cancelled() -> None:
    with trio.fail_after(10):
        server = ToolServer(hang=hang, echo=echo)
        async with (
            gateway(server) as rig,
            scripted_hub() as hub,
            uplink(rig, f"ws://127.0.0.1:{hub.port}") as up,
        ):
            session = await hub.session()
            await session.ask(1, "tools/call", name="hang", arguments={})
            await session.call(2, "echo")
            await session.cut()
            second = await hub.session(2)
            assert server.cancelled == ["tools/call"]
            assert "result" in await second.call(1, "echo")
            assert up.metrics.link("hq", "a", "contextforge").reconnects == 1


async def echo(asked: Asked) -> str:
    return '{"content":[]}'


async def test_a_cancellation_reaches_the_server() -> None:
    with trio.fail_after(10):
        server = ToolServer(hang=hang, echo=echo)
        async with gateway(server) as rig, scripted_hub() as hub, uplink(rig, f"ws://127.0.0.1:{hub.port}"):
            session = await hub.session()
            await session.ask("c-1", "tools/call", name="hang", arguments={})
            await session.call(2, "echo")
            await session.tell("notifications/cancelled", requestId="c-1")
            await session.call(3, "echo")
            assert server.cancelled == ["tools/call"]
            assert "c-1" not in session.answers


async def test_the_token_is_read_again_for_every_attempt() -> None:
    with trio.fail_after(10):
        async with gateway() as rig, scripted_hub() as hub, uplink(rig, f"ws://127.0.0.1:{hub.port}") as up:
            first = await hub.session()
            hub.tokens = {"secret-2"}
            up.env["TOKEN"] = "secret-2"
            await first.cut()
            second = await hub.session(2)
            assert second.headers["authorization"] == "Bearer secret-2"
            assert up.learned == ["secret-1", "secret-2"]
            assert hub.refused == []


async def test_a_refusal_tries_both_paths_and_says_what_to_look_at() -> None:
    with trio.fail_after(10):
        async with gateway() as rig, scripted_hub() as hub:
            hub.tokens = set()
            async with uplink(rig, f"ws://127.0.0.1:{hub.port}") as up:
                await hub.until_refused(2)
                await eventually(lambda: up.status.state == "degraded")
                assert [path for path, _ in hub.refused] == ["/v1/reverse-proxy/ws", "/reverse-proxy/ws"]
                assert "403" in up.status.reason
                assert "token" in up.status.reason
                assert "secret" not in up.status.reason


async def test_a_token_that_is_missing_is_said() -> None:
    with trio.fail_after(10):
        async with gateway() as rig, scripted_hub() as hub, uplink(rig, f"ws://127.0.0.1:{hub.port}") as up:
            first = await hub.session()
            del up.env["TOKEN"]
            await first.cut()
            await eventually(lambda: "TOKEN" in up.status.reason)
            assert up.status.reason == "the token cannot be read: environment variable TOKEN is not set"


async def test_nobody_there_is_said_and_tried_again() -> None:
    with trio.fail_after(10):
        async with scripted_hub() as hub:
            port = hub.port
        async with gateway() as rig, uplink(rig, f"ws://127.0.0.1:{port}") as up:
            metrics = up.metrics.link("hq", "a", "contextforge")
            await eventually(lambda: metrics.attempts["failed"] >= 3)
            assert "connection refused" in up.status.reason.lower()


async def test_stopping_waits_for_calls_and_unregisters() -> None:
    release = trio.Event()

    async def waits(asked: Asked) -> str:
        await release.wait()
        return '{"content":[]}'

    with trio.fail_after(10):
        async with (
            gateway(ToolServer(waits=waits, echo=echo)) as rig,
            scripted_hub() as hub,
            uplink(rig, f"ws://127.0.0.1:{hub.port}") as up,
        ):
            session = await hub.session()
            await session.ask(1, "tools/call", name="waits", arguments={})
            await session.call(2, "echo")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(up.stop)
                await trio.sleep(0.05)
                assert session.count("unregister") == 0
                release.set()
            assert (await session.answer(1))["result"] == {"content": []}
            await session.until_closed()
            assert session.frames[-1]["type"] == "unregister"
            assert session.closed == 1000


async def test_each_server_has_a_link_of_its_own() -> None:
    with trio.fail_after(10):
        async with (
            gateway({"a": ToolServer(), "b": ToolServer()}) as rig,
            scripted_hub() as hub,
            uplink(rig, f"ws://127.0.0.1:{hub.port}") as up,
        ):
            await hub.session(name="box-b")
            session = await hub.session(name="box-a")
            await session.ask(1, "tools/list")
            assert [tool["name"] for tool in (await session.answer(1))["result"]["tools"]] == ["echo"]
            assert sorted(up.health.statuses) == ["uplink:hq/a", "uplink:hq/b"]


async def test_all_servers_can_share_one_link() -> None:
    servers = {"a": ToolServer(), "b": ToolServer(), "c": ToolServer()}
    with trio.fail_after(10):
        async with (
            gateway(servers, groups={"hq": frozenset({"a", "b"})}) as rig,
            scripted_hub() as hub,
            uplink(rig, f"ws://127.0.0.1:{hub.port}", publish="all", link_name="plant-7") as up,
        ):
            session = await hub.session()
            assert session.name == "plant-7"
            await session.ask(1, "tools/list")
            tools = (await session.answer(1))["result"]["tools"]
            assert [tool["name"] for tool in tools] == ["a__echo", "b__echo"]
            assert "result" in await session.call(2, "b__echo")
            assert "error" in await session.call(3, "c__echo")
            await up.uplink.wait_settled()
            assert [status.key for status in up.uplink.statuses] == ["uplink:hq"]


async def test_over_tls_the_hub_must_be_known() -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    with trio.fail_after(10), authority.cert_pem.tempfile() as ca_file:
        async with gateway() as rig, scripted_hub(server) as hub:
            url = f"wss://localhost:{hub.port}"
            async with uplink(rig, url) as up:
                await eventually(lambda: "not trusted" in up.status.reason)
            async with uplink(rig, url, tls=UplinkTls(ca_file=ca_file)):
                assert "result" in await (await hub.session()).call(1, "echo")
