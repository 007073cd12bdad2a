"""Subscriptions behind the gateway: one per server and resource, for as long as somebody wants it."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.errors import RpcError
from edge.parts.channel import Ended
from tests.support.gateway_client import Client, request
from tests.support.gateway_rig import Asked, Rig, ToolServer, gateway, hang
from tests.support.memory_channel import sleeps_forever

Clock = MockClock
ONE = {"uri": "x://1"}


def server_with(*uris: str) -> ToolServer:
    server = ToolServer()
    server.list_resources(*uris)
    return server


async def subscribe(client: Client, uri: str = "x://1") -> None:
    assert await client.result("resources/subscribe", {"uri": uri}) == {}


def asked(server: ToolServer) -> list[tuple[str, str]]:
    """What the server was told, oldest first."""
    return [
        (method.rpartition("/")[2], params or "")
        for method, params in server.asked
        if method.endswith("subscribe")
    ]


async def test_the_first_subscriber_subscribes_and_the_last_one_to_leave_unsubscribes(
    autojump_clock: Clock,
) -> None:
    server = server_with("x://1")
    async with gateway(server) as rig:
        first, second = await rig.client(), await rig.client(path="/servers/a/mcp")
        for client in (first, second, first):
            await subscribe(client)
        assert [what for what, _ in asked(server)] == ["subscribe"]
        await first.result("resources/unsubscribe", ONE)
        assert [what for what, _ in asked(server)] == ["subscribe"]
        await second.result("resources/unsubscribe", ONE)
        assert asked(server) == [("subscribe", '{"uri":"x://1"}'), ("unsubscribe", '{"uri":"x://1"}')]
        await second.result("resources/unsubscribe", ONE)
        assert len(asked(server)) == 2


async def test_a_resource_that_is_no_longer_listed_can_be_unsubscribed(autojump_clock: Clock) -> None:
    server = server_with("x://1")
    async with gateway(server) as rig:
        client = await rig.client()
        await subscribe(client)
        server.answers["resources/list"] = '{"resources":[]}'
        server.tell("notifications/resources/list_changed")
        await trio.sleep(1)
        assert (await client.ask("resources/read", ONE)).error["code"] == -32002
        assert await client.result("resources/unsubscribe", ONE) == {}
        assert [what for what, _ in asked(server)] == ["subscribe", "unsubscribe"]
        assert (await client.ask("resources/unsubscribe", ONE)).error["code"] == -32002


async def test_a_session_that_ends_leaves_no_subscription_behind(autojump_clock: Clock) -> None:
    server = server_with("x://1", "x://2")
    async with gateway(server) as rig:
        gone, stays = await rig.client(), await rig.client()
        await subscribe(gone, "x://1")
        await subscribe(gone, "x://2")
        await subscribe(stays, "x://2")
        await gone.request("DELETE")
        await trio.sleep(6)
        assert [params for what, params in asked(server) if what == "unsubscribe"] == ['{"uri":"x://1"}']


async def test_who_subscribes_again_before_the_server_was_told_keeps_it(autojump_clock: Clock) -> None:
    server = server_with("x://1")
    async with gateway(server) as rig:
        gone, other = await rig.client(), await rig.client()
        await subscribe(gone)
        await gone.request("DELETE")
        await subscribe(other)
        await trio.sleep(20)
        assert [what for what, _ in asked(server)] == ["subscribe"]


async def test_a_subscription_that_is_refused_is_told_and_forgotten(autojump_clock: Clock) -> None:
    server = server_with(*(f"x://{number}" for number in range(1030)))
    server.answers["resources/subscribe"] = RpcError(-32099, "not that one", '{"n":1.0}')
    async with gateway(server) as rig:
        client = await rig.client()
        for number in range(1030):  # more than a session may have: those that failed do not count
            answer = await client.ask("resources/subscribe", {"uri": f"x://{number}"})
            assert answer.error == {"code": -32099, "message": "not that one", "data": {"n": 1.0}}
        server.answers["resources/subscribe"] = "{}"
        await subscribe(client)
        await client.request("DELETE")
        await trio.sleep(6)
        assert [params for what, params in asked(server) if what == "unsubscribe"] == ['{"uri":"x://1"}']


async def test_a_subscription_that_is_refused_again_keeps_the_one_there_was(autojump_clock: Clock) -> None:
    server = server_with("x://1")
    async with gateway(server) as rig:
        client = await rig.client()
        stream = await rig.again(client).listen()
        await stream.event()
        await subscribe(client)
        server.answers["resources/subscribe"] = RpcError(-32099, "no more")
        await subscribe(client)  # we are subscribed: the server is not asked
        server.tell("notifications/resources/updated", '{"uri":"x://1"}')
        assert (await stream.message())["params"]["uri"] == "x://1"


async def test_a_server_without_subscriptions_refuses(autojump_clock: Clock) -> None:
    server = server_with("x://1")
    server.answers["initialize"] = str(server.answers["initialize"]).replace(
        '"subscribe": true', '"subscribe": false'
    )
    async with gateway(server) as rig:
        answer = await (await rig.client()).ask("resources/subscribe", ONE)
        assert answer.error["code"] == -32601
        assert asked(server) == []


async def test_an_update_that_comes_before_the_answer_is_not_missed(autojump_clock: Clock) -> None:
    server = server_with("x://1")

    async def eager(asking: Asked) -> str:
        server.tell("notifications/resources/updated", '{"uri":"x://1"}')
        await trio.sleep(1)
        return "{}"

    server.by_method["resources/subscribe"] = eager
    async with gateway(server) as rig:
        client = await rig.client()
        stream = await rig.again(client).listen()
        await subscribe(client)
        assert (await stream.message())["params"]["uri"] == "x://1"


async def test_subscribing_to_a_server_that_is_down_fails_and_unsubscribing_does_not(
    autojump_clock: Clock,
) -> None:
    server = server_with("x://1", "x://2")
    async with gateway(server) as rig:
        client = await rig.client()
        await subscribe(client)
        server.die(Ended("a", "exited"))
        await wait_all_tasks_blocked()
        assert (await client.ask("resources/subscribe", {"uri": "x://2"})).error["code"] == -32010
        assert await client.result("resources/unsubscribe", ONE) == {}
        await trio.sleep(40)
        assert [what for what, _ in asked(server)] == [
            "subscribe"
        ]  # it is up again, and nobody wants anything


async def test_a_session_that_ends_while_the_server_is_down_is_not_replayed_to_it(
    autojump_clock: Clock,
) -> None:
    server = server_with("x://1", "x://2")
    async with gateway(server) as rig:
        gone, stays = await rig.client(), await rig.client()
        await subscribe(gone, "x://1")
        await subscribe(stays, "x://2")
        server.die(Ended("a", "exited"))
        await wait_all_tasks_blocked()
        await gone.request("DELETE")
        await trio.sleep(40)
        assert asked(server)[2:] == [("subscribe", '{"uri":"x://2"}')]


async def delete_and_wait(rig: Rig, client: Client) -> None:
    await client.request("DELETE")
    await trio.sleep(30)


async def test_a_server_that_does_not_answer_holds_up_no_other(autojump_clock: Clock) -> None:
    servers = {"a": server_with("x://1", "x://2"), "b": server_with("y://1")}
    servers["a"].answers["resources/unsubscribe"] = sleeps_forever
    async with gateway(servers) as rig:
        client = await rig.client()
        for uri in ("x://1", "x://2", "y://1"):
            await subscribe(client, uri)
        await delete_and_wait(rig, client)
        assert [what for what, _ in asked(servers["b"])] == ["subscribe", "unsubscribe"]
        told = {params for what, params in asked(servers["a"]) if what == "unsubscribe"}
        assert told == {'{"uri":"x://1"}', '{"uri":"x://2"}'}


async def test_a_server_that_refuses_to_unsubscribe_is_not_asked_again(autojump_clock: Clock) -> None:
    server = server_with("x://1")
    server.answers["resources/unsubscribe"] = RpcError(-32603, "no")
    async with gateway(server) as rig:
        client = await rig.client()
        await subscribe(client)
        await delete_and_wait(rig, client)
        assert [what for what, _ in asked(server)] == ["subscribe", "unsubscribe"]


async def test_a_subscription_that_its_client_cancels_is_not_made(autojump_clock: Clock) -> None:
    server = server_with("x://1")
    server.by_method["resources/subscribe"] = hang
    async with gateway(server) as rig:
        client = await rig.client()
        await client.send("POST", request("resources/subscribe", ONE, 4).encode())
        await wait_all_tasks_blocked()
        await rig.again(client).tell("notifications/cancelled", {"requestId": 4})
        assert (await client.answer()).messages == []
        del server.by_method["resources/subscribe"]
        await subscribe(client)
        assert [what for what, _ in asked(server)] == ["subscribe", "subscribe"]
