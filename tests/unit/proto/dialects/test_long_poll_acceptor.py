"""The hub's end of a polling link, where the transcripts do not reach."""

import json
from typing import Any

import pytest

from edge.errors import LocalProtocolError
from edge.proto.dialect import (
    Closed,
    Command,
    Deliver,
    Discovered,
    LinkState,
    Lost,
    Opened,
    Ready,
    Remark,
    Requested,
    RequestGone,
    Respond,
    Send,
    Stop,
    Tick,
    Written,
)
from edge.proto.dialects.long_poll.acceptor import DEFECT, LongPollAcceptor, Quirks
from edge.proto.jsontext import dumps


class Talk:
    """An acceptor that has been polled once, unless told otherwise."""

    def __init__(self, *, polled: bool = True, **arguments: Any) -> None:
        self.end = LongPollAcceptor(session="s" * 16, nonce="0badcafe", **arguments)
        self.now = 0.0
        self.tag = 0
        self.asked = 0
        self.tell(Opened())
        if polled:
            self.poll()

    def tell(self, event: Any, *, at: float | None = None) -> list[Command]:
        self.now = self.now if at is None else at
        return list(self.end.handle(event, now=self.now))

    def request(self, what: str, body: str = "", *, at: float | None = None) -> list[Command]:
        self.tag += 1
        return self.tell(Requested(self.tag, what, body), at=at)

    def poll(self, *, at: float | None = None) -> list[Command]:
        return self.request("poll", at=at)

    def send(self, message: Any, *, at: float | None = None) -> list[Command]:
        return self.tell(Send(dumps(message)), at=at)

    def hand_out(self, message: Any) -> str:
        """Sends it to the poll that waits, written whole; the request id it got."""
        [respond] = self.send(message)
        assert isinstance(respond, Respond)
        self.tell(Written(respond.tag))
        request_id = json.loads(respond.body)["request_id"]
        assert isinstance(request_id, str)
        return request_id

    def answer(self, request_id: str, response: Any) -> list[Command]:
        """What follows from a response, without the 200 that it gets."""
        first, *others = self.request("response", dumps({"request_id": request_id, "response": response}))
        assert isinstance(first, Respond)
        assert (first.tag, first.status) == (self.tag, 200)
        return others


def ask(number: int, method: str = "tools/call") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method}


def result(number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": {}}


def cancel(params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}


def error_of(command: Command) -> tuple[int, str]:
    assert isinstance(command, Deliver)
    error = json.loads(command.text)["error"]
    return error["code"], error["message"]


def test_what_does_not_fit_the_state_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="Send while REGISTERING"):
        Talk(polled=False).send(ask(1))


def test_nothing_follows_once_it_is_over() -> None:
    talk = Talk()
    assert talk.tell(Closed("gone"))[-1] == Lost("gone")
    assert talk.end.state is LinkState.CLOSED
    assert talk.poll() == []
    assert talk.end.doubt(now=1.0) == ()


def test_what_the_first_handshake_comes_to_changes_nothing_here() -> None:
    assert Talk().tell(Discovered("no tools")) == []


def test_a_foreign_registration_is_answered_without_our_header() -> None:
    talk = Talk(polled=False)
    [respond] = talk.request("register", "[]")
    assert isinstance(respond, Respond)
    assert respond.headers == {}
    assert json.loads(respond.body)["session_id"] == "s" * 16


def test_an_edge_that_takes_any_revision_is_begun_with_the_newest() -> None:
    talk = Talk(polled=False, quirks=Quirks(only_first_version=False))
    assert talk.poll() == [Ready("foreign")]


def test_a_poll_is_held_for_25_seconds_at_most() -> None:
    assert Talk(heartbeat_s=60.0).end.deadline == 25.0
    assert Talk(heartbeat_s=10.0).end.deadline == 10.0


def test_a_poll_whose_sender_has_left_is_not_served() -> None:
    talk = Talk()
    assert talk.tell(RequestGone(talk.tag), at=5.0) == []
    assert talk.send(ask(1)) == []
    assert talk.end.deadline == 50.0


def test_an_older_poll_is_never_served_and_ends_when_it_was_held_long_enough() -> None:
    talk = Talk()
    talk.poll(at=1.0)
    talk.hand_out(ask(1))
    assert talk.send(ask(2)) == []
    assert talk.tell(Tick(), at=25.0) == [Respond(1, 204)]


def test_an_edge_that_registered_and_never_polls_is_given_up() -> None:
    talk = Talk(polled=False)
    assert talk.tell(Tick(), at=45.0) == [Lost("the edge is away: no poll for 45 s")]


def test_an_edge_that_works_is_not_away() -> None:
    talk = Talk()
    request_id = talk.hand_out(ask(1))
    assert talk.tell(Tick(), at=200.0) == []
    assert talk.answer(request_id, result(1)) == [Deliver(dumps(result(1)))]
    assert talk.end.deadline == 245.0


def test_an_answer_without_work_and_polls_before_it_means_away_at_its_time() -> None:
    talk = Talk()
    talk.hand_out(ask(1))
    commands = talk.tell(Tick(), at=300.0)
    assert error_of(commands[0]) == (-32012, "outcome unknown: the edge gave no answer in 300 s")
    assert isinstance(commands[1], Lost)


# -- the queue


def test_requests_wait_for_polls_in_their_order_one_a_poll() -> None:
    talk = Talk()
    talk.hand_out(ask(1))
    assert talk.send(ask(2)) == []
    assert talk.send(ask(3)) == []
    for number in (2, 3):
        [respond] = talk.poll()
        assert isinstance(respond, Respond)
        assert json.loads(respond.body)["request"] == ask(number)


@pytest.mark.parametrize("limits", [{"max_queue": 1}, {"max_queue_bytes": 60}])
def test_what_a_full_queue_does_not_take_is_answered_at_once(limits: dict[str, Any]) -> None:
    talk = Talk(**limits)
    talk.hand_out(ask(1))
    assert talk.send(ask(2)) == []
    [refused] = talk.send(ask(3))
    assert error_of(refused) == (-32010, "not sent: too many requests wait for this edge")
    assert talk.send({"jsonrpc": "2.0", "method": "notifications/progress"}) == []  # nobody waits for that


def test_an_edge_that_takes_and_never_answers_gets_no_more_in_the_end() -> None:
    talk = Talk(max_queue=1)
    for number in range(4):
        talk.hand_out(ask(number))
        talk.poll()
    [refused] = talk.send(ask(5))
    assert error_of(refused)[0] == -32010


def test_a_request_larger_than_an_edge_may_be_sent_is_not() -> None:
    talk = Talk(max_message_bytes=60)
    [refused] = talk.send({**ask(1), "params": {"text": "é" * 30}})
    assert error_of(refused) == (-32010, "not sent: the request is larger than the edge may be sent")
    [refused] = talk.tell(Send('{"jsonrpc":"2.0","id":1,"method":"%s"}' % ("é" * 15)))
    assert error_of(refused)[0] == -32010


def test_what_has_waited_too_long_is_not_sent_any_more() -> None:
    talk = Talk()
    talk.hand_out(ask(1))
    talk.send(ask(2), at=1.0)
    assert talk.end.deadline == 56.0
    [old] = talk.tell(Tick(), at=56.0)
    assert error_of(old) == (-32010, "not sent: the edge took no request for 55 s")
    assert talk.poll() == []


def test_notifications_that_are_not_answered_are_forgotten_after_a_while() -> None:
    talk = Talk()
    talk.hand_out({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert talk.end.deadline == 60.0
    assert talk.tell(Tick(), at=60.0) == [Lost("the edge is away: no poll for 45 s")]


def test_answers_are_nothing_that_an_edge_could_want() -> None:
    assert Talk().send(result(1)) == []


# -- answers of the edge


def test_an_answer_with_another_id_is_the_answer_all_the_same() -> None:
    talk = Talk()
    request_id = talk.hand_out(ask(1))
    assert talk.answer(request_id, {"jsonrpc": "2.0", "id": "1", "result": {}}) == [Deliver(dumps(result(1)))]


def test_an_error_without_an_id_is_given_the_one_it_lacks() -> None:
    talk = Talk()
    request_id = talk.hand_out(ask(1))
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "what"}}
    assert talk.answer(request_id, error) == [Deliver(dumps({**error, "id": 1}))]


@pytest.mark.parametrize("response", [{}, [], "x", ask(1)])
def test_what_is_no_response_becomes_an_error(response: Any) -> None:
    talk = Talk()
    request_id = talk.hand_out(ask(1))
    error, remark = talk.answer(request_id, response)
    assert error_of(error)[0] == -32603
    assert isinstance(remark, Remark)


def test_only_the_first_answer_counts_and_none_before_the_request_went_out() -> None:
    talk = Talk()
    request_id = talk.hand_out(ask(1))
    talk.send(ask(2))
    assert talk.answer("0badcafe00000002", result(2)) == []
    assert talk.answer(request_id, result(1)) == [Deliver(dumps(result(1)))]
    assert talk.answer(request_id, result(1)) == []


def test_an_answer_may_come_before_its_request_is_known_to_have_been_written() -> None:
    talk = Talk()
    [respond] = talk.send(ask(1))
    assert isinstance(respond, Respond)
    assert talk.answer("0badcafe00000001", result(1)) == [Deliver(dumps(result(1)))]
    assert talk.tell(Written(respond.tag)) == []
    assert talk.poll() == []


def test_what_was_answered_is_not_handed_out_again_when_its_poll_breaks() -> None:
    talk = Talk()
    [respond] = talk.send(ask(1))
    assert isinstance(respond, Respond)
    talk.answer("0badcafe00000001", result(1))
    assert talk.tell(RequestGone(respond.tag)) == []
    assert talk.poll() == []


def test_an_edge_that_was_served_once_is_not_stuck() -> None:
    talk = Talk()
    talk.answer(talk.hand_out({"jsonrpc": "2.0", "method": "notifications/initialized"}), {})
    error = {"code": -32600, "message": "Session not initialized"}
    for number, is_served in enumerate((True, False)):
        talk.poll()
        request_id = talk.hand_out(ask(number))
        commands = talk.answer(
            request_id, result(number) if is_served else {"jsonrpc": "2.0", "id": number, "error": error}
        )
        assert Remark(DEFECT) not in commands


def test_the_first_refusals_of_an_edge_that_was_not_told_are_in_order() -> None:
    talk = Talk()
    request_id = talk.hand_out(ask(1))
    error = {"code": -32600, "message": "Session not initialized"}
    assert len(talk.answer(request_id, {"jsonrpc": "2.0", "id": 1, "error": error})) == 1


# -- cancellation


@pytest.mark.parametrize("params", [{"requestId": 9}, {"reason": "x"}, None])
def test_a_cancellation_of_nothing_goes_nowhere(params: Any) -> None:
    talk = Talk()
    assert talk.send(cancel(params)) == []


def test_the_answer_to_a_cancelled_request_is_for_nobody() -> None:
    talk = Talk()
    request_id = talk.hand_out(ask(1))
    assert talk.send(cancel({"requestId": 1})) == []
    assert talk.answer(request_id, result(1)) == []


def test_a_cancelled_request_is_not_handed_out_again_when_its_poll_breaks() -> None:
    talk = Talk()
    [respond] = talk.send(ask(1))
    assert isinstance(respond, Respond)
    talk.send(cancel({"requestId": 1}))
    talk.tell(RequestGone(respond.tag))
    assert talk.poll() == []


def test_a_cancelled_request_that_is_never_answered_ends_in_silence() -> None:
    talk = Talk()
    talk.hand_out(ask(1))
    talk.send(cancel({"requestId": 1}))
    assert talk.tell(Tick(), at=300.0) == [Lost("the edge is away: no poll for 45 s")]


# -- frames


def test_an_empty_post_of_our_own_edge_is_a_sign_of_life() -> None:
    talk = Talk(own=True)
    talk.tell(Tick(), at=25.0)
    assert [type(one) for one in talk.request("response", "", at=40.0)] == [Respond]
    assert talk.end.deadline == 85.0


def test_own_frames_wait_for_a_poll_and_go_together_within_its_size() -> None:
    talk = Talk(own=True)
    talk.tell(Send("1 0 {}"))
    large = "x" * 200_000
    for number in (2, 3):
        talk.tell(Send(f"{number} 0 {large}"))
    [respond] = talk.poll()
    assert isinstance(respond, Respond)
    assert respond.body == f"2 0 {large}"


def test_a_stop_says_whether_to_come_again() -> None:
    assert isinstance(gone := Talk().tell(Stop("replaced"))[0], Respond)
    assert gone.status == 404
    assert isinstance(soon := Talk().tell(Stop("the hub stops", 1001))[0], Respond)
    assert soon.status == 503
