"""Requests as they come in over HTTP: what is let in, sessions and their ends, and what is answered to the rest."""

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.parts.http_face import accepts
from tests.support.gateway_client import Client, request
from tests.support.gateway_rig import ToolServer, gateway, hang
from tests.support.memory_channel import ScriptedServer, initialized

Clock = MockClock
PAGE = "https://app.example.com"


# -- initialize


@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"])
async def test_a_version_we_speak_is_echoed(autojump_clock: Clock, version: str) -> None:
    async with gateway() as rig:
        assert (await rig.connect().initialize(version))["protocolVersion"] == version


@pytest.mark.parametrize("version", ["2026-07-28", "2024-10-07", "1.0", ""])
async def test_any_other_version_is_answered_with_our_newest(autojump_clock: Clock, version: str) -> None:
    async with gateway() as rig:
        assert (await rig.connect().initialize(version))["protocolVersion"] == "2025-11-25"


async def test_initialize_introduces_the_gateway_and_what_its_servers_can_do(autojump_clock: Clock) -> None:
    plain = ScriptedServer()
    plain.answers["initialize"] = json.dumps(json.loads(initialized(tools={})) | {"instructions": "Be kind."})
    async with gateway({"full": ToolServer(), "plain": plain}) as rig:
        result = await rig.connect().initialize()
    assert result["serverInfo"]["name"] == "mcp-edge"
    assert result["instructions"] == "## plain\n\nBe kind."
    assert result["capabilities"] == {
        "tools": {"listChanged": True},
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
        "completions": {},
        "logging": {},
    }


async def test_one_server_alone_introduces_only_what_it_can_do(autojump_clock: Clock) -> None:
    async with gateway({"full": ToolServer(), "plain": ScriptedServer()}) as rig:
        result = await rig.connect("/servers/plain/mcp").initialize()
    assert result["capabilities"] == {"tools": {"listChanged": True}}


async def test_lists_are_promised_for_a_server_that_has_not_been_up_yet(autojump_clock: Clock) -> None:
    async def late(params: str | None) -> str:
        await trio.sleep(20)
        return initialized(tools={})

    server = ScriptedServer()
    server.answers["initialize"] = late
    async with gateway(server, wait=False) as rig:
        began = trio.current_time()
        result = await rig.connect().initialize()
        assert trio.current_time() - began == 3
        listed = {"listChanged": True}
        assert result["capabilities"] == {"tools": listed, "prompts": listed, "resources": listed}


async def test_a_client_that_comes_early_waits_for_servers_that_start(autojump_clock: Clock) -> None:
    async def soon(params: str | None) -> str:
        await trio.sleep(2)
        return initialized(tools={})

    server = ScriptedServer()
    server.answers["initialize"] = soon
    async with gateway(server, wait=False) as rig:
        client = rig.connect()
        assert (await client.initialize())["capabilities"] == {"tools": {"listChanged": True}}
        assert trio.current_time() == 2
        assert [tool["name"] for tool in (await client.result("tools/list"))["tools"]] == ["a__echo"]


async def test_the_session_header_comes_with_the_answer_to_initialize_only(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client()
        assert client.session is not None
        assert len(client.session) == 32
        answers = [
            await client.ask("tools/list"),
            await client.tell("notifications/initialized"),
            await client.ask("nothing/such"),
        ]
        assert ["mcp-session-id" in answer.headers for answer in answers] == [False, False, False]


@pytest.mark.parametrize("params", [None, {}, {"protocolVersion": 1}])
async def test_initialize_without_a_version_fails_and_makes_no_session(
    autojump_clock: Clock, params: object
) -> None:
    async with gateway() as rig:
        answer = await rig.connect().ask("initialize", params, 7)
        assert (answer.status, answer.json["id"], answer.error["code"]) == (200, 7, -32602)
        assert "mcp-session-id" not in answer.headers
        assert len(rig.sessions) == 0
        assert rig.metrics.methods["initialize"].ends == {"success": 0, "error": 1}


async def test_initialize_answers_as_a_stream_to_who_takes_nothing_else(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        for params in ({"protocolVersion": "2025-06-18"}, {}):
            answer = await rig.connect().ask("initialize", params, accept="text/event-stream")
            assert answer.is_stream
            assert [message["id"] for message in answer.messages] == [1]


async def test_initialize_is_a_handshake_whatever_its_headers_say(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = rig.connect()
        client.session = "stale"
        await client.initialize(mcp_protocol_version="2026-07-28")
        assert client.session != "stale"


async def test_initialize_as_a_notification_makes_no_session(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        answer = await rig.connect().tell("initialize", {"protocolVersion": "2025-11-25"})
        assert (answer.status, answer.body, len(rig.sessions)) == (202, b"", 0)


async def test_a_gateway_that_drains_takes_no_new_session(autojump_clock: Clock) -> None:
    async with gateway(ToolServer(hang=hang)) as rig:
        busy, late = await rig.client(), rig.connect()
        await busy.send("POST", request("tools/call", {"name": "a__hang"}).encode())
        await wait_all_tasks_blocked()
        rig.intakes["sessions"].cancel()
        await wait_all_tasks_blocked()
        answer = await late.ask("initialize", {"protocolVersion": "2025-11-25"})
        assert (answer.status, answer.error["code"]) == (503, -32603)
        assert answer.headers["retry-after"] == "5"
        assert "mcp-session-id" not in answer.headers
        assert rig.metrics.http_refused["503"] == 1


async def test_a_client_that_never_reads_its_introduction_leaves_no_session(autojump_clock: Clock) -> None:
    async def soon(params: str | None) -> str:
        await trio.sleep(2)
        return initialized(tools={})

    server = ScriptedServer()
    server.answers["initialize"] = soon
    async with gateway(server, wait=False) as rig:
        client = rig.connect()
        await client.send("POST", request("initialize", {"protocolVersion": "2025-11-25"}).encode())
        await client.leave()
        await trio.sleep(3)
        assert len(rig.sessions) == 0
        assert rig.metrics.session_ends["init_failed"] == 1


# -- sessions over HTTP


async def all_methods(client: Client) -> list[int]:
    return [
        (await client.ask("tools/list")).status,
        (await client.tell("notifications/initialized")).status,
        (await client.post({"jsonrpc": "2.0", "id": 1, "result": {}})).status,
        (await client.request("GET")).status,
        (await client.request("DELETE")).status,
    ]


async def test_an_unknown_session_is_404_for_every_method(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = rig.connect()
        client.session = "0" * 32
        assert await all_methods(client) == [404] * 5
        answer = await client.ask("tools/list", request_id='"x"')
        assert (answer.json["id"], answer.error["code"]) == ("x", -32600)


async def test_a_session_of_another_view_is_404(autojump_clock: Clock) -> None:
    async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig:
        for home, abroad in (("/mcp", "/servers/a/mcp"), ("/servers/a/mcp", "/servers/b/mcp")):
            client = await rig.client(path=home)
            client.path = abroad
            assert await all_methods(client) == [404] * 5
            client.path = home
            assert (await client.ask("tools/list")).status == 200


async def test_delete_ends_a_session_once(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client()
        first = await client.request("DELETE")
        assert (first.status, first.body) == (204, b"")
        assert (await client.request("DELETE")).status == 404
        assert (await client.ask("tools/list")).status == 404
        assert rig.metrics.session_ends["client_delete"] == 1
        client.session = None
        refused = await client.request("DELETE")
        assert (refused.status, refused.headers["allow"]) == (405, "POST")


async def test_delete_ends_what_the_session_has_in_flight_and_says_so(autojump_clock: Clock) -> None:
    server = ToolServer(hang=hang)
    async with gateway(server) as rig:
        client = await rig.client()
        await client.send("POST", request("tools/call", {"name": "a__hang"}).encode())
        await wait_all_tasks_blocked()
        assert (await rig.again(client).request("DELETE")).status == 204
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (200, -32012)
        assert answer.error["data"] == {"reason": "session_ended"}
        assert server.cancelled == ["tools/call"]


async def test_lists_and_calls_are_served_without_a_session_too(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = rig.connect()
        assert (await client.result("ping")) == {}
        assert (await client.result("tools/list"))["tools"][0]["name"] == "a__echo"
        assert (await client.result("tools/call", {"name": "a__echo"}))["got"] == {"name": "echo"}
        for method in ("logging/setLevel", "resources/subscribe"):
            answer = await client.ask(method)
            assert (answer.status, answer.error["code"]) == (400, -32600)
        answer = await client.ask("nothing/such")
        assert (answer.status, answer.error["code"]) == (200, -32601)
        assert len(rig.sessions) == 0


# -- what is let in


async def test_a_foreign_host_is_421_and_a_foreign_origin_403(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = rig.connect()
        for headers, status in (
            ({"Host": "evil.example.com"}, 421),
            ({"Host": "evil.example.com", "Origin": "https://evil.example.com"}, 421),
            ({"Origin": "https://evil.example.com"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://localhost:5173"}, 200),
        ):
            answer = await client.request("POST", request("ping").encode(), headers)
            assert (answer.status, answer.json["id"]) == (status, 1 if status == 200 else None)
            assert "access-control-allow-origin" not in answer.headers
        assert (rig.metrics.denials["host"], rig.metrics.denials["origin"]) == (2, 2)


async def test_media_types_are_checked_before_the_body_is_read(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = rig.connect()
        ping = request("ping").encode()
        for headers, status in (
            ({"Content-Type": "text/plain"}, 415),
            ({"Content-Type": None}, 415),
            ({"Content-Type": "application/jsonp"}, 415),
            ({"Content-Type": "Application/JSON; charset=utf-8"}, 200),
            ({"Accept": "text/html"}, 406),
            ({"Accept": None}, 406),
            ({"Accept": "application/json;q=0"}, 406),
            ({"Accept": "*/*"}, 200),
            ({"Accept": "application/*"}, 200),
            ({"Accept": "text/event-stream;q=0.5, application/json;q=1"}, 200),
        ):
            answer = await client.request("POST", ping, headers)
            assert answer.status == status, headers
            if status != 200:
                assert (answer.json["id"], answer.error["code"]) == (None, -32600)
        head = {"Content-Type": "text/plain", "Content-Length": "4000000000"}
        assert (await client.request("POST", b"", head)).status == 415


def test_media_ranges() -> None:
    assert accepts("text/*, */*;q=0.1", "application/json")
    assert not accepts("", "application/json")
    assert not accepts("application/json;q=0.000, text/html", "application/json")
    assert not accepts("text/event-streams", "text/event-stream")


async def test_methods_and_paths_that_are_not_served(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = rig.connect()
        for method in ("PUT", "PATCH", "TRACE", "OPTIONS"):
            answer = await client.request(method)
            assert (answer.status, answer.headers["allow"]) == (405, "GET, POST, DELETE")
        for path in ("/", "/mcp/", "/servers/a", "/servers/a/b/mcp", "/servers/%61/mcp"):
            answer = await client.request("POST", request("ping").encode(), path=path)
            assert (answer.status, answer.error["code"]) == (404, -32600)
        for method, body in (("POST", request("ping").encode()), ("GET", b""), ("DELETE", b"")):
            answer = await client.request(method, body, path="/servers/nobody/mcp")
            assert answer.status == 404
            assert "nobody" in answer.error["message"]


async def test_get_needs_a_session_and_an_accept(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = rig.connect()
        answer = await client.request("GET")
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert (await client.request("GET", b"", {"Accept": "application/json"})).status == 406
        client.session = "unknown"
        assert (await client.request("GET")).status == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"} x', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":NaN}', -32700),
        (b"[" * 100_000, -32700),
        (b'{"a":' * 100_000, -32700),
        (b"7", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', -32600),
    ],
)
async def test_what_is_no_message_is_400_and_the_connection_lives_on(
    autojump_clock: Clock, body: bytes, code: int
) -> None:
    async with gateway() as rig:
        client = await rig.client()
        answer = await client.request("POST", body, {"Content-Length": str(len(body))})
        assert (answer.status, answer.error["code"]) == (400, code)
        assert rig.metrics.methods["invalid"].ends["error"] == 1
        assert await client.result("ping") == {}


async def test_a_posted_response_is_202_in_a_session_and_400_without(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client()
        response = {"jsonrpc": "2.0", "id": 99, "result": {}}
        assert (await client.post(response)).status == 202
        client.session = None
        assert (await client.post(response)).status == 400


async def test_version_headers(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client("2025-06-18")
        for version in ("2025-06-18", "2025-11-25", "2024-11-05"):
            assert (await client.ask("ping", mcp_protocol_version=version)).status == 200
        for version in ("2099-01-01", "2026-07-28"):
            answer = await client.ask("ping", mcp_protocol_version=version)
            assert (answer.status, answer.error["code"]) == (400, -32600)
            assert answer.error["data"]["requested"] == version


async def test_a_modern_request_is_refused_so_that_its_client_falls_back(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        meta = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
        answer = await rig.connect().ask("server/discover", meta, mcp_protocol_version="2026-07-28")
        assert (answer.status, answer.error["code"]) == (400, -32600)
