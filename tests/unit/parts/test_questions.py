"""What a server asks reaches the client that is meant, its answer goes back, and nothing of it outlives the call."""

import json

import pytest
from trio.testing import MockClock

from edge.parts.questions import MAX_NOTES, MAX_OPEN
from tests.support.asking_server import AskingServer, answer, asked_client, begin_call, quiet
from tests.support.gateway_client import Client, EventStream
from tests.support.gateway_rig import Rig, gateway

CANCELLED = "notifications/cancelled"


async def stream_of_asked(rig: Rig, client: Client, server: AskingServer, request_id: int = 1) -> EventStream:
    """A call that has been asked the session's first question, which was read."""
    call = await begin_call(rig, client, request_id)
    server.ask()
    stream = await call.stream()
    assert (await stream.message())["method"] == "roots/list"
    return stream


async def test_servers_are_told_that_clients_may_be_asked(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server):
        assert server.offered == {"sampling": {}, "elicitation": {}, "roots": {}}


@pytest.mark.parametrize("method", ["sampling/createMessage", "elicitation/create", "roots/list"])
async def test_a_question_is_an_event_of_the_call_and_the_answer_goes_back_letter_for_letter(
    method: str, autojump_clock: MockClock
) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        call = await begin_call(rig, client)
        server.ask("7.0", method, '{"b":1.0, "a":1e400}')
        stream = await call.stream()
        assert (await stream.event()).data == ""  # priming
        event = await stream.event()
        assert event.data == (
            f'{{"jsonrpc":"2.0","id":"ask-1","method":"{method}","params":{{"b":1.0, "a":1e400}}}}'
        )
        await answer(rig, client, '{"jsonrpc":"2.0","id":"ask-1","result":{"z": 1.0,"a":[ ]}}')
        assert server.heard == ['{"jsonrpc":"2.0","id":7.0,"result":{"z": 1.0,"a":[ ]}}']
        server.finish()
        assert [message["id"] for message in await stream.rest()] == [1]


async def test_the_clients_error_goes_back_as_it_is(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        await begin_call(rig, client)
        server.ask()
        error = '"error":{"code":-1,"message":"User rejected","data":{"n":1.0}}'
        await answer(rig, client, f'{{"jsonrpc":"2.0","id":"ask-1",{error}}}')
        assert server.heard == [f'{{"jsonrpc":"2.0","id":"q",{error}}}']


async def test_a_question_without_params_has_none(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        call = await begin_call(rig, await asked_client(rig))
        server.say('{"jsonrpc":"2.0","id":1,"method":"roots/list"}')
        assert "params" not in await (await call.stream()).message()


async def test_answers_to_what_was_not_asked_are_ignored_as_is_a_second_one(
    autojump_clock: MockClock,
) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        await answer(rig, client, '{"jsonrpc":"2.0","id":"ask-1","result":{}}')
        await begin_call(rig, client)
        server.ask()
        await quiet()
        for response in ('"id":"ask-9","result":{}', '"id":null,"error":{"code":1,"message":"x"}'):
            await answer(rig, client, f'{{"jsonrpc":"2.0",{response}}}')
        assert server.heard == []
        for _ in range(2):
            await answer(rig, client, '{"jsonrpc":"2.0","id":"ask-1","result":{}}')
        assert len(server.heard) == 1


# -- who is asked


async def test_with_no_call_in_flight_there_is_nobody_to_ask(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        await asked_client(rig)
        server.ask()
        await quiet()
        assert server.refusal["code"] == -32601
        assert "no call of a client is in flight" in server.refusal["message"]


async def test_with_calls_of_several_clients_nobody_is_asked(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        for _ in range(2):
            await begin_call(rig, await asked_client(rig))
        server.ask()
        await quiet()
        assert server.refusal["code"] == -32601
        assert "several clients" in server.refusal["message"]


async def test_a_call_without_a_session_is_another_client(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        await begin_call(rig, rig.connect())
        server.ask()
        await quiet()
        assert "no session" in server.refusal["message"]
        await begin_call(rig, await asked_client(rig))
        server.ask()
        await quiet()
        assert "several clients" in server.refusal["message"]


async def test_what_the_client_has_not_declared_is_refused(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        await begin_call(rig, await asked_client(rig, {"roots": {}}))
        server.ask(method="elicitation/create")
        await quiet()
        assert server.refusal["code"] == -32601
        assert "elicitation" in server.refusal["message"]


async def test_a_client_that_takes_no_stream_cannot_be_asked(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        await begin_call(rig, await asked_client(rig), accept="application/json")
        server.ask()
        await quiet()
        assert server.refusal["code"] == -32601
        assert "no way" in server.refusal["message"]


async def test_of_one_clients_calls_one_that_takes_a_stream_is_used(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        call = await begin_call(rig, client, 1)
        await begin_call(rig, client, 2, accept="application/json")
        server.ask()
        assert (await (await call.stream()).message())["method"] == "roots/list"


# -- limits


async def test_a_session_has_so_many_questions_open_and_no_more(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        await begin_call(rig, client)
        for number in range(MAX_OPEN + 1):
            server.ask(str(number))
        await quiet()
        assert [json.loads(text)["id"] for text in server.heard] == [MAX_OPEN]
        assert server.refusal["data"] == {"reason": "limit"}
        await answer(rig, client, '{"jsonrpc":"2.0","id":"ask-1","result":{}}')
        server.ask("99")
        await quiet()
        assert len(server.heard) == 2


async def test_an_id_that_is_open_cannot_be_used_again(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        await begin_call(rig, await asked_client(rig))
        server.ask()
        server.ask()
        await quiet()
        assert server.refusal["code"] == -32600


async def test_what_a_flood_of_news_drives_out_is_refused(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        await begin_call(rig, await asked_client(rig))
        server.ask()
        for _ in range(MAX_NOTES):
            server.say(
                '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'
            )
        await quiet()
        assert "too slow" in server.refusal["message"]
        assert server.metrics.notes_dropped == 1


# -- the end of a question


async def test_what_the_server_takes_back_is_told_to_the_client(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        stream = await stream_of_asked(rig, client, server)
        server.take_back()
        told = await stream.message()
        assert told["method"] == CANCELLED
        assert told["params"] == {"requestId": "ask-1", "reason": "no need", "x": 1.0}
        await answer(rig, client, '{"jsonrpc":"2.0","id":"ask-1","result":{}}')
        server.finish()
        assert [message.get("id") for message in await stream.rest()] == [1]
        assert server.heard == []  # neither an answer nor an error


async def test_what_is_taken_back_before_it_was_sent_is_never_sent(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        call = await begin_call(rig, await asked_client(rig))
        server.ask()
        server.take_back()
        server.take_back('"another"')
        server.say('{"jsonrpc":"2.0","method":"notifications/cancelled"}')
        await quiet()
        server.finish()
        assert (await call.answer()).json["id"] == 1


async def test_the_answer_to_the_call_ends_its_questions(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        stream = await stream_of_asked(rig, client, server)
        server.finish()
        told, response = await stream.rest()
        assert (told["method"], told["params"]["requestId"]) == (CANCELLED, "ask-1")
        assert response["id"] == 1
        assert "has ended" in server.refusal["message"]
        await answer(rig, client, '{"jsonrpc":"2.0","id":"ask-1","result":{}}')
        assert len(server.heard) == 1


async def test_a_call_cancelled_by_its_client_ends_them_too(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        stream = await stream_of_asked(rig, client, server)
        await client.tell(CANCELLED, {"requestId": 1})
        assert [message["method"] for message in await stream.rest()] == [CANCELLED]
        assert [json.loads(text).get("method") for text in server.heard] == [CANCELLED, None]
        assert server.refusal["code"] == -32603


async def test_the_time_limit_of_a_call_ends_them(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server, call_timeout_s=60) as rig:
        stream = await stream_of_asked(rig, await asked_client(rig), server)
        told, response = await stream.rest()
        assert told["method"] == CANCELLED
        assert response["error"]["code"] == -32011
        assert "error" in json.loads(server.heard[-1])


async def test_the_end_of_the_session_ends_them(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        await stream_of_asked(rig, client, server)
        assert (await client.request("DELETE")).status == 204
        await quiet()
        assert "has ended" in server.refusal["message"]


async def test_the_end_of_the_server_ends_them(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        stream = await stream_of_asked(rig, await asked_client(rig), server)
        server.channel.lost("killed")
        told, response = await stream.rest()
        assert told["method"] == CANCELLED
        assert response["error"]["code"] == -32012
        assert server.heard == []


async def test_a_client_that_only_loses_its_connection_can_come_back_and_answer(
    autojump_clock: MockClock,
) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        call = await begin_call(rig, client)
        server.ask()
        stream = await call.stream()
        first = await stream.event()
        await call.leave()
        again = await rig.again(client).listen(first.id)
        assert (await again.message())["id"] == "ask-1"
        await answer(rig, client, '{"jsonrpc":"2.0","id":"ask-1","result":{}}')
        assert len(server.heard) == 1


async def test_a_question_goes_on_with_another_call_of_the_client(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        first = await begin_call(rig, client, 1)
        stream = await stream_of_asked(rig, client, server, request_id=2)
        server.finish()
        assert [message.get("id") for message in await stream.rest()] == [2]
        assert server.heard == []
        server.take_back()  # is told on the stream of the call that is left
        assert (await (await first.stream()).message())["method"] == CANCELLED


async def test_a_question_that_was_not_sent_yet_is_sent_by_another_call(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        first = await begin_call(rig, client, 1)
        await begin_call(rig, client, 2, lockstep=True)
        server.ask('"a"')  # which the client does not read
        server.ask('"b"')
        await quiet()
        await client.tell(CANCELLED, {"requestId": 2})
        assert (await (await first.stream()).message())["id"] == "ask-2"
        assert [json.loads(text).get("id") for text in server.heard] == [None, "a"]


async def test_a_question_that_was_cut_off_while_it_was_sent_is_over(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        await begin_call(rig, client, 1)
        await begin_call(rig, client, 2)
        server.ask()
        (session,) = rig.sessions
        session.calls["2"].cancel()
        await quiet()
        assert "has ended" in server.refusal["message"]


async def test_nothing_of_it_is_kept(autojump_clock: MockClock) -> None:
    server = AskingServer()
    async with gateway(server) as rig:
        client = await asked_client(rig)
        for _ in range(3):
            stream = await stream_of_asked(rig, client, server)
            server.finish()
            await stream.rest()
        (session,) = rig.sessions
        assert session.questions is not None
        assert len(session.questions) == 0
