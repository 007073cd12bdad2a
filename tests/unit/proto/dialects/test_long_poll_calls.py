"""Requests of a foreign hub and what an edge answers to them, where the transcripts do not reach."""

import json
from typing import Any

import pytest

from edge.proto.dialect import (
    Deliver,
    HttpCall,
    Hurry,
    Lost,
    Remark,
    Remember,
    Replied,
    Send,
    Tick,
)
from edge.proto.dialects.long_poll import calls as calls_module
from edge.proto.jsontext import dumps
from tests.support.polling_talk import PollingTalk, ask, result


def test_equal_ids_of_two_clients_come_back_each_to_its_own_request() -> None:
    talk = PollingTalk().begin()
    assert Deliver(dumps(ask(1))) in talk.polled("r1", ask(7))
    assert Deliver(dumps(ask(2))) in talk.polled("r2", ask(7))
    talk.tell(Send('{"id":2,"jsonrpc":"2.0","result":{"n":1.0}}'))
    body = talk.call("response").body
    assert body == '{"request_id":"r2","response":{"id":7,"jsonrpc":"2.0","result":{"n":1.0}}}'


def test_a_request_that_runs_is_not_begun_again() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7))
    again = talk.polled("r1", ask(7))
    assert [type(one) for one in again] == [Remark, HttpCall]
    assert not talk.wants("response")


def test_an_answered_request_is_answered_again_for_some_minutes() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7), at=0.0)
    talk.tell(Send(result(1)))
    talk.polled("r1", ask(7), at=299.0)
    assert talk.answered() == {"request_id": "r1", "response": {"jsonrpc": "2.0", "id": 7, "result": {}}}
    assert Deliver(dumps(ask(2))) in talk.polled("r1", ask(7), at=300.0)


def test_answers_too_large_to_keep_are_known_to_have_been_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "REMEMBER_CHARS", 100)
    talk = PollingTalk().begin()
    for number in (1, 2):
        talk.polled(f"r{number}", ask(7))
        talk.tell(Send(result(number)))
    talk.polled("r1", ask(7))
    assert talk.answered()["response"]["error"]["message"] == "answered before; the answer is not kept"
    talk.polled("r2", ask(7))
    assert talk.answered()["response"] == {"jsonrpc": "2.0", "id": 7, "result": {}}


def test_only_so_many_answers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "REMEMBER_IDS", 1)
    monkeypatch.setattr(calls_module, "REMEMBER_CHARS", 30)  # not even the newest is kept
    talk = PollingTalk().begin()
    for number in (1, 2):
        talk.polled(f"r{number}", ask(7))
        talk.tell(Send(result(number)))
    assert Deliver(dumps(ask(3))) in talk.polled("r1", ask(7))


def test_an_answer_larger_than_the_hub_takes_becomes_an_error() -> None:
    talk = PollingTalk(max_message_bytes=200).begin()
    talk.polled("r1", ask(7))
    talk.tell(Send(dumps({"jsonrpc": "2.0", "id": 1, "result": "x" * 200})))
    assert talk.answered()["response"]["error"]["message"] == "the answer is larger than the hub takes"
    talk.polled("r2", ask(7))
    talk.tell(Send('{"jsonrpc":"2.0","id":2,"result":"%s"}' % ("é" * 100)))
    assert talk.answered()["response"]["error"]["message"] == "the answer is larger than the hub takes"


def test_a_hub_that_refuses_an_answer_gets_a_short_error_and_then_nothing() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7))
    talk.tell(Send(result(1)))
    talk.tell(Replied(talk.call("response").tag, 413))
    assert talk.answered()["response"]["id"] == 7
    assert "error" in talk.answered()["response"]
    commands = talk.tell(Replied(talk.call("response").tag, 413))
    assert commands == [Remark("the hub refused an answer: the hub answered 413")]
    assert talk.tell(Replied("response-p2", 413)) == []


def test_a_session_that_a_post_finds_gone_is_over() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7))
    talk.tell(Send(result(1)))
    commands = talk.tell(Replied(talk.call("response").tag, 404))
    assert commands == [Remember(None), Lost("the hub has forgotten this session", Hurry.NOW)]


def test_what_this_dialect_cannot_carry_is_answered_or_left_out() -> None:
    talk = PollingTalk().begin()
    [answer] = talk.tell(Send(dumps(ask(5, "sampling/createMessage"))))
    assert isinstance(answer, Deliver)
    assert json.loads(answer.text)["error"]["code"] == -32601
    assert json.loads(answer.text)["id"] == 5
    progress = dumps({"jsonrpc": "2.0", "method": "notifications/progress"})
    [remark] = talk.tell(Send(progress))
    assert isinstance(remark, Remark)
    assert remark.level == "debug"
    assert talk.tell(Send(progress)) == []
    assert talk.tell(Send('{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what"}}')) == []


def cancel(wanted: Any) -> dict[str, Any]:
    params = {} if wanted is None else {"params": wanted}
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", **params}


def test_a_cancellation_reaches_the_call_and_both_requests_are_answered() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7))
    commands = talk.polled("r2", cancel({"requestId": 7}))
    assert isinstance(commands[0], Deliver)
    assert json.loads(commands[0].text)["params"]["requestId"] == 1
    bodies = [json.loads(one.body or "") for one in commands if isinstance(one, HttpCall) and one.body]
    assert [body["request_id"] for body in bodies] == ["r1", "r2"]
    assert bodies[0]["response"]["error"]["message"] == "cancelled by the client"
    assert bodies[1]["response"] == {}


@pytest.mark.parametrize("params", [{"requestId": 8}, {"requestId": "7"}, {"reason": "no id"}, None])
def test_a_cancellation_of_nothing_that_is_known_is_left_out(params: Any) -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7))
    assert not any(isinstance(one, Deliver) for one in talk.polled("r2", cancel(params)))


def test_a_cancellation_that_may_mean_the_call_of_another_client_is_left_out() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7))
    talk.polled("r2", ask(7))
    assert not any(isinstance(one, Deliver) for one in talk.polled("r3", cancel({"requestId": 7})))


def test_initialize_is_never_cancelled_not_even_when_it_takes_too_long() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7, "initialize"))
    assert not any(isinstance(one, Deliver) for one in talk.polled("r2", cancel({"requestId": 7})))
    commands = talk.tell(Tick(), at=55.0)
    assert [type(one) for one in commands] == [HttpCall]
    assert talk.answered()["response"]["error"]["code"] == -32011


def test_only_calls_that_have_waited_long_enough_are_given_up() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7), at=0.0)
    talk.polled("r2", ask(8), at=10.0)
    talk.tell(Tick(), at=55.0)
    assert talk.answered()["request_id"] == "r1"
    assert talk.end.deadline == 65.0


def test_a_null_id_without_a_method_is_no_notification() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", {"jsonrpc": "2.0", "id": None, "params": {}})
    assert "error" in talk.answered()["response"]
