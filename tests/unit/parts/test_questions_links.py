"""What a server asks goes over a link whose dialect has a way for it, and its answer comes back."""

import json

import pytest
from trio.testing import MockClock

from tests.support.asking_server import ASKABLE, AskingServer, quiet
from tests.support.edges_rig import edges_rig
from tests.support.gateway_rig import gateway
from tests.support.link_rig import linked


async def test_a_question_goes_over_the_link_and_its_answer_comes_back(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig, linked(rig, "a", can_ask=True) as far:
        await far.initialize(capabilities=ASKABLE)
        far.call(1)
        await quiet()
        server.ask("7", "elicitation/create", '{"b":1.0}')
        await quiet()
        (line,) = far.link.outbox.take_some()
        assert line == b'{"jsonrpc":"2.0","id":"ask-1","method":"elicitation/create","params":{"b":1.0}}'
        far.send('{"jsonrpc":"2.0","id":"ask-1","result":{"action": "accept"}}')
        await quiet()
        assert server.heard == ['{"jsonrpc":"2.0","id":7,"result":{"action": "accept"}}']
        server.finish()
        assert (await far.read())["id"] == 1


async def test_where_the_dialect_has_no_way_for_it_the_server_is_told(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig, linked(rig, "a") as far:
        await far.initialize(capabilities=ASKABLE)
        far.call(1)
        await quiet()
        server.ask()
        await quiet()
        assert server.refusal["code"] == -32601
        assert "no way" in server.refusal["message"]
        assert await far.quiet() == []


@pytest.mark.parametrize(
    "broken", ['{"jsonrpc":"2.0","id":"ask-1","error":"no"}', '{"jsonrpc":"1.0","id":"ask-1","result":{}}']
)
async def test_an_answer_that_is_not_valid_is_an_error_to_the_server(
    broken: str, autojump_clock: MockClock
) -> None:
    server = AskingServer()
    async with gateway(server) as rig, linked(rig, "a", can_ask=True) as far:
        await far.initialize(capabilities=ASKABLE)
        far.call(1)
        await quiet()
        server.ask()
        await quiet()
        far.send(broken)
        await quiet()
        assert "not valid" in server.refusal["message"]


async def test_another_initialize_leaves_open_questions_open(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig, linked(rig, "a", can_ask=True) as far:
        await far.initialize(capabilities=ASKABLE)
        far.call(1)
        await quiet()
        server.ask()
        await far.initialize()
        far.send('{"jsonrpc":"2.0","id":"ask-1","result":{}}')
        await quiet()
        assert [json.loads(text)["id"] for text in server.heard] == ["q"]


async def test_the_end_of_the_link_ends_its_questions(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        async with linked(rig, "a", can_ask=True) as far:
            await far.initialize(capabilities=ASKABLE)
            far.call(1)
            await quiet()
            server.ask()
            await quiet()
        await quiet()
        assert [json.loads(text).get("method") for text in server.heard] == ["notifications/cancelled", None]
        assert "has ended" in server.refusal["message"]


@pytest.mark.parametrize(
    ("dialect", "own", "can_ask"),
    [
        ("contextforge", False, True),
        ("mcp-reverse", False, True),
        ("long-poll", False, False),
        ("long-poll", True, True),
    ],
)
async def test_a_hub_offers_to_be_asked_where_questions_arrive(
    dialect: str, own: bool, can_ask: bool, autojump_clock: MockClock
) -> None:
    async with edges_rig() as rig:
        link = rig.link("a", own=own)
        link.dialect = dialect
        rig.edges.arrive(link, None)
        assert link.channel is not None
        assert link.channel.can_ask is can_ask
