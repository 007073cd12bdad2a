"""What a call hears on its way to the answer: progress and log messages, and who decides how much."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.errors import RpcError
from tests.support.gateway_client import Client, request
from tests.support.gateway_rig import Asked, ToolServer, gateway
from tests.support.memory_channel import sleeps_forever

Clock = MockClock


# -- progress


@pytest.mark.parametrize("token", ["1", '"1"', "1.0", '"t\\u00e9"', "9223372036854775808"])
async def test_a_progress_token_comes_back_as_the_client_wrote_it(autojump_clock: Clock, token: str) -> None:
    async def works(asked: Asked) -> str:
        assert asked.wants_progress
        await asked.progress("1.0", total=2, message="half")
        return "{}"

    async with gateway(ToolServer(works=works)) as rig:
        client = await rig.client()
        params = f'{{"name":"a__works","_meta":{{"progressToken":{token}}}}}'
        answer = await client.ask("tools/call", params)
        assert [event.data for event in answer.events if event.data] == [
            f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken": {token}, '
            '"total": 2, "message": "half","progress":1.0}}',
            '{"jsonrpc":"2.0","id":1,"result":{}}',
        ]


async def test_progress_that_does_not_increase_is_dropped(autojump_clock: Clock) -> None:
    async def works(asked: Asked) -> str:
        for value in ("0", "1", "1", "0.5", '"2"', "null", "2.5", "2"):
            await asked.progress(value)
        await asked.tell("notifications/progress", "{}")
        return "{}"

    async with gateway(ToolServer(works=works)) as rig:
        client = await rig.client()
        answer = await client.ask("tools/call", {"name": "a__works", "_meta": {"progressToken": 7}})
        values = [message["params"]["progress"] for message in answer.messages[:-1]]
        assert values == [0, 1, 2.5]


@pytest.mark.parametrize("meta", [None, {}, {"other": 1}, 5])
async def test_a_server_is_not_asked_for_progress_that_nobody_wants(
    autojump_clock: Clock, meta: object
) -> None:
    async def works(asked: Asked) -> str:
        assert not asked.wants_progress
        await asked.progress("1")
        return "{}"

    async with gateway(ToolServer(works=works)) as rig:
        client = await rig.client()
        answer = await client.ask("tools/call", {"name": "a__works", "_meta": meta})
        assert answer.json["result"] == {}


# -- log messages


async def talkative(asked: Asked) -> str:
    for level in ("debug", "info", "warning", "custom"):
        await asked.log(level, level)
    await asked.tell("notifications/message", "{}")
    await asked.tell("notifications/custom", '{"x":1}')
    return "{}"


async def heard(client: Client) -> list[str]:
    answer = await client.ask("tools/call", {"name": "a__talkative"})
    return [
        message["params"].get("data", message["method"]) for message in answer.messages if "method" in message
    ]


async def test_log_messages_of_a_call_are_filtered_by_the_level_of_the_session(autojump_clock: Clock) -> None:
    async with gateway(ToolServer(talkative=talkative)) as rig:
        client, other = await rig.client(), await rig.client()
        assert await heard(client) == ["info", "warning", "custom", "notifications/custom"]
        assert await client.result("logging/setLevel", {"level": "error"}) == {}
        assert await heard(client) == ["custom", "notifications/custom"]
        assert await client.result("logging/setLevel", {"level": "debug"}) == {}
        assert await heard(client) == ["debug", "info", "warning", "custom", "notifications/custom"]
        assert await heard(other) == ["info", "warning", "custom", "notifications/custom"]


async def test_servers_are_told_the_level_of_the_most_curious_session(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:

        async def levels() -> list[str]:
            await trio.sleep(6)
            return [params["level"] for params in server.asked_for("logging/setLevel")]

        quiet = await rig.client()
        await quiet.result("logging/setLevel", {"level": "error"})
        assert await levels() == ["error"]
        curious = await rig.client()  # says nothing, and so wants to hear info
        assert await levels() == ["error", "info"]
        await curious.result("logging/setLevel", {"level": "debug"})
        assert await levels() == ["error", "info", "debug"]
        await curious.request("DELETE")
        assert await levels() == ["error", "info", "debug", "error"]
        await quiet.request("DELETE")
        assert await levels() == ["error", "info", "debug", "error", "info"]


async def test_a_server_that_no_session_named_a_level_for_is_not_told_one(autojump_clock: Clock) -> None:
    servers = {"a": ToolServer(), "b": ToolServer()}
    async with gateway(servers) as rig:
        client = await rig.client(path="/servers/a/mcp")
        await client.result("logging/setLevel", {"level": "debug"})
        await trio.sleep(20)
        assert [server.count("logging/setLevel") for server in servers.values()] == [1, 0]


async def test_a_server_that_hangs_or_refuses_holds_up_no_other_level(autojump_clock: Clock) -> None:
    servers = {"a": ToolServer(), "b": ToolServer(), "c": ToolServer()}
    servers["a"].answers["logging/setLevel"] = sleeps_forever
    servers["b"].answers["logging/setLevel"] = RpcError(-32601, "no")
    servers["c"].answers["logging/setLevel"] = "{}"
    async with gateway(servers) as rig:
        client = await rig.client()
        await client.send("POST", request("logging/setLevel", {"level": "debug"}).encode())
        await wait_all_tasks_blocked()
        assert servers["c"].count("logging/setLevel") == 1
        answer = await client.answer()
        assert (answer.messages[-1] if answer.is_stream else answer.json)["result"] == {}
