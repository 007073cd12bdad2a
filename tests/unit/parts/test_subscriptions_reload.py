"""Subscriptions outlive the upstream at which they were made, as a reload replaces, removes and puts back servers."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.backoff import Backoff
from edge.config.model import StdioServerConfig
from edge.errors import RpcError
from edge.health import Status
from edge.metrics_servers import ServerMetrics
from edge.parts.channel import Ended
from edge.parts.upstream import Upstream
from tests.support.gateway_client import Client, request
from tests.support.gateway_rig import Asked, Rig, ToolServer, gateway

Clock = MockClock
ONE = {"uri": "x://1"}
SUBSCRIBED = ("resources/subscribe", '{"uri":"x://1"}')


def server_with(*uris: str) -> ToolServer:
    server = ToolServer()
    server.list_resources(*uris)
    return server


@asynccontextmanager
async def another(rig: Rig, server: ToolServer) -> AsyncIterator[Upstream]:
    """A newer upstream of the name `a`, up but not in force yet."""
    upstream = Upstream(
        StdioServerConfig(name="a", command=("a",)),
        server.connect,
        events=rig.gateway,
        status=Status("server:a"),
        metrics=ServerMetrics(),
        backoff=Backoff(first_s=1, limit_s=1, jitter=0),
        log=logging.getLogger("edge.upstream"),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(upstream.run)
        await upstream.wait_ready()
        yield upstream
        nursery.cancel_scope.cancel()


async def subscribing(client: Client) -> None:
    """The request is on its way, and not answered yet."""
    await client.send("POST", request("resources/subscribe", ONE, 7).encode())
    await wait_all_tasks_blocked()


async def test_a_subscription_that_its_server_has_not_answered_yet_is_told_to_the_next_one(
    autojump_clock: Clock,
) -> None:
    older, newer, may_answer = server_with("x://1"), server_with("x://1"), trio.Event()

    async def answer(asked: Asked) -> str:
        await may_answer.wait()
        return "{}"

    older.by_method["resources/subscribe"] = answer
    async with gateway(older) as rig, another(rig, newer) as successor:
        client = await rig.client()
        await subscribing(client)
        successor.succeed(rig.upstreams["a"])
        rig.gateway.attach({"a": successor})
        may_answer.set()
        assert (await client.answer()).json["result"] == {}
        await trio.sleep(2)
        assert newer.asked.count(SUBSCRIBED) == 1


async def test_a_subscription_that_the_last_server_refuses_is_not_kept_at_the_next_one(
    autojump_clock: Clock,
) -> None:
    older, newer, may_answer = server_with("x://1"), server_with("x://1"), trio.Event()

    async def refuse(asked: Asked) -> str:
        await may_answer.wait()
        raise RpcError(-32099, "not that one")

    older.by_method["resources/subscribe"] = refuse
    async with gateway(older) as rig, another(rig, newer) as successor:
        client = await rig.client()
        await subscribing(client)
        rig.gateway.attach({"a": successor})
        may_answer.set()
        assert (await client.answer()).error["code"] == -32099
        await trio.sleep(20)
        assert newer.asked[-1] == ("resources/unsubscribe", '{"uri":"x://1"}')


async def test_a_subscription_that_waited_for_a_server_out_of_force_is_told_to_the_one_in_force(
    autojump_clock: Clock,
) -> None:
    older, newer = server_with("x://1"), server_with("x://1")
    async with gateway(older, retry_s=1) as rig, another(rig, newer) as successor:
        client = await rig.client()
        older.die(Ended("a", "exited"))
        await subscribing(client)
        rig.gateway.attach({"a": successor})
        assert (await client.answer()).json["result"] == {}
        await trio.sleep(2)
        assert older.asked.count(SUBSCRIBED) == newer.asked.count(SUBSCRIBED) == 1


async def test_a_server_that_is_put_back_is_told_what_clients_subscribed_to(autojump_clock: Clock) -> None:
    older, newer = server_with("x://1"), server_with("x://1")
    async with gateway(older) as rig, another(rig, newer) as successor:
        client = await rig.client()
        assert await client.result("resources/subscribe", ONE) == {}
        rig.gateway.attach({})
        await trio.sleep(20)
        rig.gateway.attach({"a": successor})
        await trio.sleep(2)
        assert newer.asked.count(SUBSCRIBED) == 1


async def test_a_server_that_is_put_back_is_not_told_what_clients_left_meanwhile(
    autojump_clock: Clock,
) -> None:
    older, newer = server_with("x://1", "x://2"), server_with("x://1", "x://2")
    async with gateway(older) as rig, another(rig, newer) as successor:
        client, other = await rig.client(), await rig.client()
        assert await client.result("resources/subscribe", ONE) == {}
        assert await other.result("resources/subscribe", {"uri": "x://2"}) == {}
        rig.gateway.attach({})
        assert await client.result("resources/unsubscribe", ONE) == {}
        await other.request("DELETE")
        rig.gateway.attach({"a": successor})
        await trio.sleep(20)
        assert not [params for method, params in newer.asked if method == "resources/subscribe"]
