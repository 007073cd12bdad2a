"""Batches, which only MCP 2025-03-26 has, and what a browser's page may read."""

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.gateway_client import request
from tests.support.gateway_rig import Asked, ToolServer, gateway, hang

Clock = MockClock
PAGE = "https://app.example.com"


# -- batches


async def test_a_batch_is_answered_by_one_array(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client("2025-03-26")
        answer = await client.post(
            f'[{request("ping", None, 1)},{{"jsonrpc":"2.0","method":"notifications/initialized"}},5,'
            f"{request('nothing/such', None, 2)},{request('tools/call', {'name': 'a__echo'}, 3)},"
            '{"jsonrpc":"2.0","id":9,"result":{}}]'
        )
        assert answer.status == 200
        by_id: dict[Any, Any] = {each["id"]: each for each in answer.json}
        assert len(answer.json) == 4
        assert by_id[1]["result"] == {}
        assert by_id[2]["error"]["code"] == -32601
        assert by_id[3]["result"]["got"] == {"name": "echo"}
        assert by_id[None]["error"]["code"] == -32600


async def test_a_batch_runs_all_at_once(autojump_clock: Clock) -> None:
    async def slow(asked: Asked) -> str:
        await trio.sleep(1)
        return "{}"

    async with gateway(ToolServer(slow=slow)) as rig:
        client = await rig.client("2025-03-26")
        calls = ",".join(request("tools/call", {"name": "a__slow"}, n) for n in range(5))
        began = trio.current_time()
        answer = await client.post(f"[{calls}]")
        assert trio.current_time() - began == 1
        assert sorted(each["id"] for each in answer.json) == [0, 1, 2, 3, 4]


async def test_a_batch_may_cancel_its_own_request(autojump_clock: Clock) -> None:
    server = ToolServer(hang=hang)
    async with gateway(server) as rig:
        client = await rig.client("2025-03-26")
        cancelled = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
        answer = await client.post(
            f"[{request('tools/call', {'name': 'a__hang'}, 1)},{cancelled},{request('ping', None, 2)}]"
        )
        assert [each["id"] for each in answer.json] == [2]
        assert trio.current_time() == 0


async def test_a_batch_of_notes_is_202(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client("2025-03-26")
        note = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
        answer = await client.post(f"[{note},{note}]")
        assert (answer.status, answer.body) == (202, b"")


async def test_a_batch_that_streams_sends_its_answers_one_by_one(autojump_clock: Clock) -> None:
    async def talks(asked: Asked) -> str:
        await asked.log("info", "on my way")
        await trio.sleep(1)
        return "{}"

    async with gateway(ToolServer(talks=talks, hang=hang)) as rig:
        client = await rig.client("2025-03-26")
        calls = [request("ping", None, 1), request("tools/call", {"name": "a__talks"}, 2), "5"]
        answer = await client.post(f"[{','.join(calls)}]")
        found = {json.dumps(message.get("id", "note")) for message in answer.messages}
        assert found == {"1", "2", "null", '"note"'}


@pytest.mark.parametrize(
    ("version", "body"),
    [
        ("2025-03-26", "[]"),
        ("2025-03-26", f"[{request('initialize', {'protocolVersion': '2025-03-26'})}]"),
        ("2025-06-18", f"[{request('ping')}]"),
        ("2025-11-25", f"[{request('ping')}]"),
        (None, f"[{request('ping')}]"),
        (None, f"[{request('initialize', {'protocolVersion': '2025-03-26'})}]"),
    ],
)
async def test_batches_that_are_not_allowed(autojump_clock: Clock, version: str | None, body: str) -> None:
    async with gateway() as rig:
        client = await rig.client(version) if version else rig.connect()
        answer = await client.post(body)
        assert (answer.status, answer.error["code"]) == (400, -32600)
        assert await client.result("ping") == {}


# -- cross-origin


async def test_a_page_of_a_listed_origin_may_read_every_answer(autojump_clock: Clock) -> None:
    async with gateway(allowed_origins=(PAGE,)) as rig:
        client = rig.connect()
        await client.initialize(origin=PAGE)
        answers = [
            await client.ask("ping", origin=PAGE),
            await client.tell("notifications/initialized"),
            await client.post(b"{", origin=PAGE),
            await client.ask("ping", origin=PAGE, mcp_protocol_version="2099-01-01"),
            await client.ask("ping", origin=PAGE, content_type="text/plain"),
            await client.request("PUT", b"", {"Origin": PAGE}),
            await client.request("GET", b"", {"Origin": PAGE, "Accept": "text/html"}),
            await client.request("POST", b"{}", {"Origin": PAGE}, path="/servers/nobody/mcp"),
            await client.request("DELETE", b"", {"Origin": PAGE}),
            await client.request("DELETE", b"", {"Origin": PAGE}),
        ]
        allowed = [answer.headers.get("access-control-allow-origin") for answer in answers]
        assert allowed == [PAGE, None, *[PAGE] * 8]  # a request without Origin comes from no page
        exposed = answers[0].headers["access-control-expose-headers"]
        assert "Mcp-Session-Id" in exposed


async def test_a_page_of_a_listed_origin_may_read_the_event_stream(autojump_clock: Clock) -> None:
    async with gateway(allowed_origins=(PAGE,)) as rig:
        client = await rig.client()
        stream = await client.listen(origin=PAGE)
        assert stream.headers["access-control-allow-origin"] == PAGE


async def test_a_preflight_of_a_listed_origin_is_answered(autojump_clock: Clock) -> None:
    async with gateway(allowed_origins=(PAGE,)) as rig:
        client = rig.connect()
        asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        answer = await client.request("OPTIONS", b"", asks)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, PAGE)
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert (await client.request("OPTIONS", b"", {"Origin": PAGE})).status == 405
