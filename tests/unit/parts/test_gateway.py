"""Calls through the gateway: what is rewritten, what is not, and how each way of failing looks to the client."""

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.config.model import GatewayConfig
from edge.errors import Gone, RpcError
from edge.parts.channel import Ended
from tests.support.gateway_client import Client, request
from tests.support.gateway_rig import Asked, ToolServer, echo, gateway, hang
from tests.support.memory_channel import sleeps_forever

Clock = MockClock
EXITED = Ended("a", "exited with status 1", "fatal: /etc/secret is gone")


def cancelled(request_id: str) -> str:
    return f'{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{request_id}}}}}'


# -- letter for letter


@pytest.mark.parametrize(
    "request_id", ["1", '"1"', "1.0", '"a\\u00e9\\""', "9223372036854775808", '""', "-0"]
)
async def test_a_request_id_is_echoed_letter_for_letter(autojump_clock: Clock, request_id: str) -> None:
    async with gateway() as rig:
        client = await rig.client()
        for method, params in (("ping", None), ("tools/call", {"name": "a__echo"}), ("nothing/such", None)):
            answer = await client.ask(method, params, request_id)
            assert answer.text.startswith(f'{{"jsonrpc":"2.0","id":{request_id},')


async def test_numbers_and_order_survive_in_arguments_and_results(autojump_clock: Clock) -> None:
    arguments = '{"z":9223372036854775808,"a":1.0,"e":1e400,"m":-0,"s":"\\u00e9\\/"}'
    async with gateway() as rig:
        client = await rig.client()
        params = f'{{"arguments":{arguments},"name":"a__echo","x":[1.50]}}'
        answer = await client.ask("tools/call", params)
        got = f'{{"arguments":{arguments},"name":"echo","x":[1.50]}}'
        assert answer.text == f'{{"jsonrpc":"2.0","id":1,"result":{{"content":[],"got":{got}}}}}'


async def test_pretty_printed_json_passes_and_streams(autojump_clock: Clock) -> None:
    async def pretty(asked: Asked) -> str:
        await asked.log("info", "streams")
        return '{\r\n "content" : [],\n "n" : 1.0\n}'

    async with gateway(ToolServer(pretty=pretty)) as rig:
        client = await rig.client()
        answer = await client.ask("tools/call", '{\r\n"name"\r:\n"a__pretty"}')
        assert answer.messages[-1]["result"] == {"content": [], "n": 1.0}


# -- errors


@pytest.mark.parametrize("data", [None, '{"n":1.0,"z":9223372036854775808}', "null"])
async def test_the_error_of_a_server_passes_with_code_message_and_data(
    autojump_clock: Clock, data: str | None
) -> None:
    async def fails(asked: Asked) -> str:
        raise RpcError(-32042, "no luck", data)

    async with gateway(ToolServer(fails=fails)) as rig:
        answer = await (await rig.client()).ask("tools/call", {"name": "a__fails"})
        tail = "" if data is None else f',"data":{data}'
        assert (
            answer.text == f'{{"jsonrpc":"2.0","id":1,"error":{{"code":-32042,"message":"no luck"{tail}}}}}'
        )
        assert rig.metrics.server("a").tools["fails"].ends["upstream_protocol_error"] == 1


@pytest.mark.parametrize(
    ("method", "params", "code", "data"),
    [
        ("tools/call", {"name": "a__nope"}, -32602, None),
        ("tools/call", {"name": "echo"}, -32602, None),
        ("tools/call", {}, -32602, None),
        ("tools/call", None, -32602, None),
        ("tools/call", {"name": 1}, -32602, None),
        ("tools/list", {"cursor": "made up"}, -32602, None),
        ("tools/list", {"cursor": ""}, -32602, None),
        ("tools/list", {"cursor": 1}, -32602, None),
        ("prompts/get", {"name": "a__nope"}, -32602, None),
        ("resources/read", {"uri": "x://nope"}, -32002, {"uri": "x://nope"}),
        ("resources/read", {}, -32602, None),
        ("resources/subscribe", {"uri": "x://nope"}, -32002, {"uri": "x://nope"}),
        ("resources/unsubscribe", {"uri": "x://nope"}, -32002, {"uri": "x://nope"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "nope"}}, -32602, None),
        ("completion/complete", {"ref": {"type": "other"}}, -32602, None),
        ("completion/complete", {}, -32602, None),
        ("logging/setLevel", {"level": "loud"}, -32602, None),
        ("logging/setLevel", {}, -32602, None),
        ("nothing/such", {}, -32601, None),
        ("sampling/createMessage", {}, -32601, None),
    ],
)
async def test_what_cannot_be_routed_is_refused_with_its_code(
    autojump_clock: Clock, method: str, params: object, code: int, data: object
) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        before = len(server.asked)
        answer = await (await rig.client()).ask(method, params, 5)
        assert (answer.status, answer.json["id"], answer.error["code"]) == (200, 5, code)
        assert answer.error.get("data") == data
        assert len(server.asked) == before


@pytest.mark.parametrize("result", ["5", "null", '"text"', "[]"])
async def test_a_result_that_is_no_object_is_an_error_of_the_server(
    autojump_clock: Clock, result: str
) -> None:
    async def odd(asked: Asked) -> str:
        return result

    async with gateway(ToolServer(odd=odd, echo=echo)) as rig:
        client = await rig.client()
        answer = await client.call("a__odd")
        assert answer["error"]["code"] == -32603
        assert answer["error"]["data"] == {"server": "a", "reason": "failed"}
        assert "result" in await client.call("a__echo")


async def test_a_call_lost_with_its_server_is_told_so_at_once(autojump_clock: Clock) -> None:
    async def lost(asked: Asked) -> str:
        raise Gone("a", "connection to /run/secret.sock lost")

    async with gateway(ToolServer(lost=lost)) as rig:
        answer = await (await rig.client()).call("a__lost")
        assert answer["error"]["code"] == -32012
        assert answer["error"]["data"] == {"server": "a", "reason": "gone"}
        assert "secret" not in json.dumps(answer)


async def test_the_log_says_which_call_failed(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def lost(asked: Asked) -> str:
        raise Gone("a", "connection lost")

    async def slow(asked: Asked) -> str:
        await trio.sleep_forever()
        raise AssertionError

    caplog.set_level("DEBUG", "edge.call")
    async with gateway(ToolServer(lost=lost, slow=slow), call_timeout_s=5.0) as rig:
        client = await rig.client()
        await client.ask("tools/call", {"name": "a__lost", "arguments": {"x": "of the user"}}, 7)
        await client.ask("tools/call", {"name": "a__slow"}, 8)
    failed = [vars(record) for record in caplog.records if record.message == "call failed"]
    assert [(told["method"], told["id"], told["server"], told["item"]) for told in failed] == [
        ("tools/call", "7", "a", "a__lost"),
        ("tools/call", "8", "a", "a__slow"),
    ]
    assert [told["reason"] for told in failed] == ["server a: connection lost", "server a: no answer in 5 s"]
    assert "of the user" not in str(failed)


async def test_a_bug_says_in_which_call_it_was(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def bug(asked: Asked) -> str:
        raise ZeroDivisionError("a bug")

    async with gateway(ToolServer(bug=bug)) as rig:
        answer = await (await rig.client()).ask("tools/call", {"name": "a__bug"}, 7)
        assert answer.status == 500
    assert "method=tools/call id=7 server=a item=a__bug" in caplog.text


async def test_a_server_that_is_down_is_named_after_a_short_wait(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        client = await rig.client()
        server.start_errors = [EXITED]
        server.die(EXITED)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        answer = await client.call("a__echo")
        assert trio.current_time() - began == 3
        assert answer["error"]["code"] == -32010
        assert answer["error"]["data"] == {"server": "a", "reason": "unavailable"}
        assert "secret" not in json.dumps(answer)
        assert rig.metrics.server("a").tools["echo"].ends["upstream_disconnected"] == 1


async def test_a_call_that_comes_while_its_server_starts_waits_for_it(autojump_clock: Clock) -> None:
    async with gateway(wait=False) as rig:
        answer = await rig.connect().call("a__echo")
        assert answer["result"]["got"]["name"] == "echo"


async def test_a_tool_that_reports_an_error_is_a_good_answer_and_a_failed_call(autojump_clock: Clock) -> None:
    async def sad(asked: Asked) -> str:
        return '{"content":[],"isError":true}'

    async with gateway(ToolServer(sad=sad)) as rig:
        assert (await (await rig.client()).call("a__sad"))["result"]["isError"] is True
        assert rig.metrics.server("a").tools["sad"].ends["upstream_returned_error"] == 1
        assert rig.metrics.methods["tools/call"].ends["success"] == 1


async def test_a_bug_is_500_and_the_connection_lives_on(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(asked: Asked) -> str:
        raise ZeroDivisionError("secret")

    async with gateway(ToolServer(broken=broken)) as rig:
        client = await rig.client()
        answer = await client.ask("tools/call", {"name": "a__broken"})
        assert (answer.status, answer.error) == (500, {"code": -32603, "message": "internal error"})
        assert await client.result("ping") == {}
        assert rig.metrics.server("a").tools["broken"].ends["internal"] == 1
    assert "ZeroDivisionError" in caplog.text


# -- time


async def test_a_call_that_takes_too_long_ends_and_the_server_is_told(autojump_clock: Clock) -> None:
    server = ToolServer(hang=hang)
    async with gateway(server, call_timeout_s=5.0) as rig:
        client = await rig.client()
        began = trio.current_time()
        answer = await client.call("a__hang", request_id='"late"')
        assert trio.current_time() - began == 5
        assert answer["id"] == "late"
        assert answer["error"]["code"] == -32011
        assert answer["error"]["message"] == "server a gave no answer in 5 s"
        assert answer["error"]["data"] == {"server": "a", "reason": "timeout"}
        assert server.cancelled == ["tools/call"]
        ends = rig.metrics.server("a").tools["hang"].ends
        assert (ends["upstream_timeout"], ends["cancelled"]) == (1, 0)


async def test_a_server_may_have_a_time_limit_of_its_own(autojump_clock: Clock) -> None:
    async with gateway(ToolServer(hang=hang), server_settings={"call_timeout_s": 2.0}) as rig:
        client = await rig.client()
        assert (await client.call("a__hang"))["error"]["message"] == "server a gave no answer in 2 s"
        assert trio.current_time() == 2


async def test_every_forwarded_method_has_the_time_limit(autojump_clock: Clock) -> None:
    server = ToolServer()
    server.answers["resources/read"] = sleeps_forever
    server.list_resources("x://1")
    async with gateway(server, call_timeout_s=5.0) as rig:
        answer = await (await rig.client()).ask("resources/read", {"uri": "x://1"})
        assert answer.error["code"] == -32011


@pytest.mark.parametrize("way", ["from the start", "by a reload", "of its own"])
async def test_a_server_that_does_one_thing_at_a_time_may_be_silent_for_twice_the_time_limit(
    autojump_clock: Clock, way: str
) -> None:
    """Whoever set it."""
    server = ToolServer(hang=hang)
    settings = {"call_timeout_s": 3600.0} if way == "of its own" else {}
    limit_s = 3600.0 if way == "from the start" else 300.0
    async with gateway(server, call_timeout_s=limit_s, server_settings=settings) as rig:
        client = await rig.client()
        if way == "by a reload":
            rig.gateway.configure(GatewayConfig(call_timeout_s=3600.0), {}, rig.upstreams)
        server.answers["ping"] = sleeps_forever
        answer = await client.call("a__hang")
        assert answer["error"]["message"] == "server a gave no answer in 3600 s"
        assert server.starts == [0]


# -- cancellation


async def test_a_cancelled_call_gets_no_response_and_its_server_is_told(autojump_clock: Clock) -> None:
    server = ToolServer(hang=hang)
    async with gateway(server) as rig:
        client = await rig.client()
        await client.send("POST", request("tools/call", {"name": "a__hang"}, '"1"').encode())
        await wait_all_tasks_blocked()
        other = rig.again(client)
        for unknown in ("1", "1.0", '"2"', "null", "[]"):
            assert (await other.post(cancelled(unknown))).status == 202
        await wait_all_tasks_blocked()
        assert server.cancelled == []
        assert (await other.post(cancelled('"1"'))).status == 202
        answer = await client.answer()
        assert (answer.status, answer.is_stream, answer.messages) == (200, True, [])
        assert server.cancelled == ["tools/call"]
        assert rig.metrics.server("a").tools["hang"].ends["cancelled"] == 1


async def test_a_cancelled_call_of_a_json_client_is_202_without_a_body(autojump_clock: Clock) -> None:
    async with gateway(ToolServer(hang=hang)) as rig:
        client = await rig.client()
        await client.send(
            "POST", request("tools/call", {"name": "a__hang"}).encode(), {"Accept": "application/json"}
        )
        await wait_all_tasks_blocked()
        await rig.again(client).post(cancelled("1"))
        answer = await client.answer()
        assert (answer.status, answer.body) == (202, b"")


async def test_a_session_cancels_only_its_own_calls(autojump_clock: Clock) -> None:
    server = ToolServer(hang=hang)
    async with gateway(server) as rig:
        mine, other = await rig.client(), await rig.client()
        await mine.send("POST", request("tools/call", {"name": "a__hang"}, 1).encode())
        await wait_all_tasks_blocked()
        await other.post(cancelled("1"))
        await rig.connect().post(cancelled("1"))
        await wait_all_tasks_blocked()
        assert server.cancelled == []


async def test_a_cancellation_that_cannot_be_read_is_202(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client()
        for params in ('{"requestId":1,"requestId":1}', "{}", '{"reason":"x"}'):
            body = f'{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}'
            assert (await client.post(body)).status == 202
        assert (await client.tell("notifications/cancelled")).status == 202


async def test_two_calls_under_one_id_are_not_possible_at_once(autojump_clock: Clock) -> None:
    server = ToolServer(hang=hang, echo=echo)
    async with gateway(server) as rig:
        client = await rig.client()
        await client.send("POST", request("tools/call", {"name": "a__hang"}, 1).encode())
        await wait_all_tasks_blocked()
        other = rig.again(client)
        answer = await other.call("a__echo", request_id=1)
        assert (answer["id"], answer["error"]["code"]) == (1, -32600)
        assert "result" in await other.call("a__echo", request_id='"1"')
        assert "result" in await other.call("a__echo", request_id="1.0")
        await other.post(cancelled("1"))
        await client.answer()
        assert "result" in await other.call("a__echo", request_id=1)


async def test_two_sessions_may_use_the_same_id_at_once(autojump_clock: Clock) -> None:
    async def slow(asked: Asked) -> str:
        await trio.sleep(1)
        return await echo(asked)

    async with gateway(ToolServer(slow=slow)) as rig:
        clients = [await rig.client(), await rig.client()]
        got: list[Any] = []

        async def one(client: Client, who: int) -> None:
            got.append(
                (who, (await client.call("a__slow", f'{{"who":{who}}}'))["result"]["got"]["arguments"])
            )

        async with trio.open_nursery() as nursery:
            for who, client in enumerate(clients):
                nursery.start_soon(one, client, who)
        assert sorted(got) == [(0, {"who": 0}), (1, {"who": 1})]
