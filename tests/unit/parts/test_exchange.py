"""The form of an answer: plain JSON while there is nothing else to say, then a stream, and the way back to it."""

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.proto.sse import KEEPALIVE
from tests.support.gateway_client import Client, request
from tests.support.gateway_rig import Asked, Rig, ToolServer, gateway, hang

Clock = MockClock


async def talks(asked: Asked) -> str:
    """Says something at once, and answers two seconds later."""
    await asked.log("info", "first")
    await trio.sleep(2)
    await asked.log("info", "second")
    return '{"content":[]}'


def takes(seconds: float) -> ToolServer:
    async def slow(asked: Asked) -> str:
        await trio.sleep(seconds)
        return '{"content":[]}'

    return ToolServer(slow=slow)


async def start(client: Client, tool: str, **headers: str) -> None:
    body = request("tools/call", {"name": f"a__{tool}"}).encode()
    await client.send("POST", body, {name.title(): value for name, value in headers.items()})


def words(messages: list[dict[str, object]]) -> list[object]:
    """Log messages by their text, responses by their id."""
    return [
        message["params"]["data"] if isinstance(message.get("params"), dict) else message["id"]  # type: ignore[index]  # JSON
        for message in messages
    ]


async def test_an_answer_without_news_is_plain_json(autojump_clock: Clock) -> None:
    async with gateway(takes(9)) as rig:
        client = await rig.client()
        await start(client, "slow")
        answer = await client.answer()
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["result"] == {"content": []}
        assert int(answer.headers["content-length"]) == len(answer.body)


async def test_the_first_news_makes_it_a_stream(autojump_clock: Clock) -> None:
    async with gateway(ToolServer(talks=talks)) as rig:
        client = await rig.client("2025-06-18")
        await start(client, "talks")
        stream = await client.stream()
        assert stream.headers["cache-control"] == "no-store"
        event = await stream.event()
        assert (event.event, json.loads(event.data)["params"]["data"]) == ("message", "first")
        assert trio.current_time() == 0
        assert words(await stream.rest()) == ["second", 1]
        assert await client.result("ping") == {}  # the connection goes on


async def test_a_client_that_takes_json_only_gets_the_answer_alone(autojump_clock: Clock) -> None:
    async with gateway(ToolServer(talks=talks, slow=takes(100).tools["slow"])) as rig:
        client = await rig.client()
        for tool in ("talks", "slow"):
            await start(client, tool, accept="application/json")
            answer = await client.answer()
            assert answer.headers["content-type"] == "application/json"
            assert answer.json["result"] == {"content": []}


async def test_a_client_that_takes_streams_only_gets_one(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client("2025-06-18")
        answer = await client.ask("ping", accept="text/event-stream")
        assert answer.messages == [{"jsonrpc": "2.0", "id": 1, "result": {}}]
        refused = await client.ask("nothing/such", accept="text/event-stream")
        assert [message["error"]["code"] for message in refused.messages] == [-32601]


async def test_a_client_that_waits_long_is_shown_life(autojump_clock: Clock) -> None:
    async with gateway(takes(45)) as rig:
        client = await rig.client("2025-06-18")
        await start(client, "slow")
        stream = await client.stream()
        assert trio.current_time() == 10
        times = []
        while (piece := await stream.piece()) == KEEPALIVE:
            times.append(trio.current_time())
        assert times == [10, 25, 40]
        assert b'"result"' in piece
        assert trio.current_time() == 45


async def test_a_call_without_a_session_is_kept_alive_as_well(autojump_clock: Clock) -> None:
    async with gateway(takes(30)) as rig:
        client = rig.connect()
        await start(client, "slow")
        stream = await client.stream()
        assert await stream.piece() == KEEPALIVE
        event = await stream.event()
        assert (event.id, json.loads(event.data)["id"]) == (None, 1)


async def test_a_slow_client_does_not_hold_up_the_signs_of_life_of_others(autojump_clock: Clock) -> None:
    async with gateway(takes(100)) as rig:
        fine = await rig.client()
        stuck = rig.again(fine, lockstep=True)
        await stuck.send("POST", request("tools/call", {"name": "a__slow"}, 2).encode())
        await start(fine, "slow")
        stream = await fine.stream()  # the other one is not read
        for due in (10, 25, 40):
            await stream.piece()
            assert trio.current_time() == due


@pytest.mark.parametrize(
    ("version", "is_primed"), [("2025-11-25", True), ("2025-06-18", False), ("2025-03-26", False)]
)
async def test_only_clients_that_know_priming_events_get_one(
    autojump_clock: Clock, version: str, is_primed: bool
) -> None:
    async with gateway(ToolServer(talks=talks, slow=takes(12).tools["slow"])) as rig:
        client = await rig.client(version)
        for tool in ("talks", "slow"):
            await start(client, tool)
            events = (await client.answer()).events
            assert (events[0].data == "") is is_primed
            numbers = [event.id for event in events]
            stream = (numbers[0] or "").partition("-")[0]
            first = 0 if is_primed else 1
            assert numbers == [f"{stream}-{n}" for n in range(first, first + len(events))]


async def test_a_stream_that_starts_late_says_how_to_come_back_at_once(autojump_clock: Clock) -> None:
    async with gateway(takes(60)) as rig:
        client = await rig.client()
        await start(client, "slow")
        event = await (await client.stream()).event()
        assert (event.data, event.id, trio.current_time()) == ("", "1-0", 10)


async def test_an_answer_that_comes_while_the_stream_is_being_started_comes_after_its_start(
    autojump_clock: Clock,
) -> None:
    async with gateway(takes(12)) as rig:
        client = rig.again(await rig.client(), lockstep=True)
        await start(client, "slow")
        await trio.sleep(13)  # the head is on its way from 10 s on
        assert [event.id for event in (await client.answer()).events] == ["1-0", "1-1"]


async def fetch_rest(rig: Rig, client: Client, last: str) -> list[object]:
    stream = await rig.again(client).listen(last)
    return words(await stream.rest())


async def test_a_client_that_leaves_does_not_cancel_and_can_fetch_the_rest(autojump_clock: Clock) -> None:
    server = ToolServer(talks=talks)
    async with gateway(server) as rig:
        client = await rig.client()
        await start(client, "talks")
        stream = await client.stream()
        first = await stream.event()
        assert first.id is not None
        await client.leave()
        # while the call runs: what there is, and then what comes
        assert await fetch_rest(rig, client, first.id) == ["first", "second", 1]
        assert trio.current_time() == 2
        assert server.cancelled == []
        # when it is over: the same, from wherever the client was
        assert await fetch_rest(rig, client, first.id) == ["first", "second", 1]
        number = first.id.partition("-")[0]
        assert await fetch_rest(rig, client, f"{number}-2") == [1]
        assert await fetch_rest(rig, client, f"{number}-3") == []


async def test_an_answer_can_be_fetched_for_a_minute(autojump_clock: Clock) -> None:
    async with gateway(ToolServer(talks=talks)) as rig:
        client = await rig.client()
        await start(client, "talks")
        await client.leave()
        await trio.sleep(62)
        assert await fetch_rest(rig, client, "1-2") == [1]
        await trio.sleep(1)
        stream = await rig.again(client).listen("1-2")  # nothing to resume: the general stream
        assert (await stream.event()).id == "2-0"


async def test_answers_of_a_client_that_left_before_its_stream_began_still_reach_their_server(
    autojump_clock: Clock,
) -> None:
    server = takes(5)
    async with gateway(server) as rig:
        client = await rig.client()
        await start(client, "slow")
        await client.leave()
        await trio.sleep(6)
        assert (server.count("tools/call"), server.cancelled) == (1, [])
        assert rig.metrics.methods["tools/call"].ends["success"] == 1


async def test_a_call_ends_its_stream_when_its_session_is_deleted(autojump_clock: Clock) -> None:
    async def talks_and_hangs(asked: Asked) -> str:
        await asked.log("info", "first")
        return await hang(asked)

    async with gateway(ToolServer(talks=talks_and_hangs)) as rig:
        client = await rig.client()
        await start(client, "talks")
        stream, other = await client.stream(), rig.again(client)
        last = (await stream.event()).id
        resumed = await other.listen(last)
        await wait_all_tasks_blocked()
        await rig.again(client).request("DELETE")
        rest = await stream.rest()
        assert words(rest)[0] == "first"
        assert rest[1]["error"]["data"] == {"reason": "session_ended"}
        assert words(await resumed.rest()) == ["first"]
