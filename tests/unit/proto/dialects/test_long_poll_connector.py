"""The edge's end of a polling link, where the transcripts do not reach: opening, polls, frames, the end."""

import pytest

from edge.errors import LocalProtocolError
from edge.proto.dialect import (
    OWN_HEADER,
    CallFailed,
    Closed,
    Deliver,
    Discovered,
    HttpCall,
    Hurry,
    LinkState,
    Lost,
    Ready,
    Remember,
    Replied,
    Send,
    Start,
    Stop,
    Tick,
)
from edge.proto.dialects.long_poll.connector import Quirks
from edge.proto.jsontext import dumps
from tests.support.polling_talk import SESSION, PollingTalk, ask, result

# -- opening


def test_what_does_not_fit_the_state_is_our_own_fault() -> None:
    talk = PollingTalk()
    with pytest.raises(LocalProtocolError, match="Send while IDLE"):
        talk.tell(Send(result(1)))
    with pytest.raises(LocalProtocolError, match="Discovered while READY"):
        talk.begin().tell(Discovered())


def test_an_answer_to_a_call_of_another_state_is_passed_over() -> None:
    talk = PollingTalk().begin()
    assert talk.tell(Replied("register-1", 200, SESSION)) == []
    assert talk.tell(CallFailed("register-1", "cut", True)) == []


def test_nothing_follows_once_it_is_over() -> None:
    talk = PollingTalk()
    assert talk.tell(Closed("gone")) == [Lost("gone")]
    assert talk.end.state is LinkState.CLOSED
    assert talk.tell(Start()) == []
    assert talk.end.doubt(now=1.0) == ()


@pytest.mark.parametrize(
    ("status", "hurry", "advice"),
    [
        (401, Hurry.SLOW, "token"),
        (403, Hurry.SLOW, "token"),
        (404, Hurry.SLOW, "path of the url"),
        (302, Hurry.SLOW, "redirects"),
        (400, Hurry.SLOW, "no long-poll hub"),
        (503, Hurry.NORMAL, ""),
        (429, Hurry.NORMAL, ""),
    ],
)
def test_a_refused_registration_says_what_to_do(status: int, hurry: Hurry, advice: str) -> None:
    talk = PollingTalk()
    talk.tell(Start())
    [lost] = talk.tell(Replied("register-1", status))
    assert isinstance(lost, Lost)
    assert lost.reason == f"register: the hub answered {status}"
    assert lost.hurry is hurry
    assert advice in lost.advice
    assert bool(lost.advice) == bool(advice)


def test_a_registration_without_an_answer_is_tried_again_by_the_backoff() -> None:
    talk = PollingTalk()
    talk.tell(Start())
    assert talk.tell(CallFailed("register-1", "timed out", True)) == [Lost("register: timed out")]


def test_an_answer_to_register_that_is_none_is_no_hub() -> None:
    talk = PollingTalk()
    talk.tell(Start())
    [lost] = talk.tell(Replied("register-1", 200, "<html>"))
    assert isinstance(lost, Lost)
    assert lost.hurry is Hurry.SLOW


def test_a_header_that_was_not_asked_for_makes_no_hub_ours() -> None:
    talk = PollingTalk()
    talk.tell(Start())
    talk.tell(Replied("register-1", 200, SESSION, {OWN_HEADER: "v=1; link=x; received=0"}))
    assert talk.end.own is False


def test_a_saved_session_that_is_answered_by_something_else_is_not_ready() -> None:
    talk = PollingTalk(saved="0123456789abcdef")
    talk.tell(Start())
    [lost] = talk.tell(Replied("poll-1", 200, "<html>"))
    assert isinstance(lost, Lost)
    assert lost.hurry is Hurry.SLOW


def test_a_saved_session_may_bring_a_request_at_once() -> None:
    talk = PollingTalk(saved="0123456789abcdef")
    talk.tell(Start())
    commands = talk.polled("r1", ask(7))
    assert commands[:2] == [Ready("foreign"), Deliver(dumps(ask(1)))]


def test_a_saved_session_cannot_be_tried_without_a_network() -> None:
    talk = PollingTalk(saved="0123456789abcdef")
    talk.tell(Start())
    assert talk.tell(CallFailed("poll-1", "no route", False)) == [Lost("poll: no route")]


def test_a_saved_session_is_forgotten_when_the_hub_turns_out_to_be_ours() -> None:
    # Between the two, a 404 for the saved one: told once.
    talk = PollingTalk(saved="0123456789abcdef")
    talk.tell(Start("v=1"))
    assert Remember(None) in talk.tell(Replied("poll-1", 404))
    commands = talk.tell(Replied("register-2", 200, SESSION, {OWN_HEADER: "v=1; link=x; received=0"}))
    assert not any(isinstance(one, Remember) for one in commands)


def test_doubt_while_a_saved_session_is_tried_begins_anew() -> None:
    talk = PollingTalk(saved="0123456789abcdef")
    talk.tell(Start())
    assert talk.end.doubt(now=1.0) == [Lost("the connection is in doubt", Hurry.NOW)]


def test_doubt_of_an_own_link_lets_it_be_resumed() -> None:
    talk = PollingTalk(own=True).begin()
    assert talk.end.doubt(now=1.0) == [Lost("the connection is in doubt", Hurry.NOW)]


def test_doubt_while_registering_waits_for_the_answer() -> None:
    talk = PollingTalk()
    talk.tell(Start())
    assert talk.end.doubt(now=1.0) == ()


# -- polls


def test_failing_polls_are_repeated_with_growing_pauses_until_patience_ends() -> None:
    talk = PollingTalk(spread=0.5).begin()
    pauses = []
    while talk.end.state is LinkState.READY:
        talk.tell(CallFailed(talk.poll, "no route", False))
        if talk.end.deadline is not None:
            pauses.append(talk.end.deadline - talk.now)
            talk.tell(Tick(), at=talk.end.deadline)
    assert pauses == [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0]
    assert talk.got == [Lost("poll: no route")]


def test_a_good_poll_forgives_those_that_failed() -> None:
    talk = PollingTalk().begin()
    for _ in range(3):
        talk.tell(Replied(talk.poll, 502))
        talk.tell(Tick(), at=talk.end.deadline)
    talk.tell(Replied(talk.poll, 204), at=40.0)
    talk.tell(Replied(talk.poll, 502), at=60.0)
    assert talk.end.deadline == 60.25


def test_a_poll_that_is_refused_for_good_ends_the_link_slowly() -> None:
    talk = PollingTalk().begin()
    [lost] = talk.tell(Replied(talk.poll, 401))
    assert isinstance(lost, Lost)
    assert lost.hurry is Hurry.SLOW


def test_an_own_poll_that_a_proxy_answered_ends_the_carrier() -> None:
    talk = PollingTalk(own=True).begin()
    assert talk.tell(Replied(talk.poll, 502)) == [Lost("poll: the hub answered 502", Hurry.NOW)]


def test_an_own_session_that_is_gone_is_not_told_to_be_forgotten() -> None:
    talk = PollingTalk(own=True).begin()
    talk.tell(Replied(talk.poll, 200, "1 0 {}"))
    assert talk.tell(Replied(talk.poll, 404)) == [Lost("the hub has forgotten this session", Hurry.NOW)]


def test_an_empty_own_poll_is_as_good_as_none_and_an_early_one_worth_no_remark() -> None:
    talk = PollingTalk(own=True).begin()
    [call] = talk.tell(Replied(talk.poll, 200, ""), at=0.5)
    assert isinstance(call, HttpCall)


def test_a_hub_that_loses_nothing_is_not_blamed() -> None:
    talk = PollingTalk(quirks=Quirks(loses_requests=False)).begin()
    [call] = talk.tell(Replied(talk.poll, 204), at=3.0)
    assert isinstance(call, HttpCall)


def test_a_poll_that_was_doubted_may_still_bring_a_request_but_its_emptiness_says_nothing() -> None:
    talk = PollingTalk().begin()
    old, [probe] = talk.poll, talk.end.doubt(now=1.0)
    assert isinstance(probe, HttpCall)
    talk.tell(Replied(probe.tag, 200), at=2.0)
    assert talk.poll != old
    assert talk.tell(Replied(old, 204), at=3.0) == []
    assert talk.tell(Replied(old, 204), at=3.0) == []
    older, [probe] = talk.poll, talk.end.doubt(now=4.0)
    assert isinstance(probe, HttpCall)
    talk.tell(Replied(probe.tag, 400), at=5.0)  # any answer is a sign of life
    assert talk.tell(Replied(older, 200, dumps({"request_id": "r", "request": ask(1)}))) == [
        Deliver(dumps(ask(1)))
    ]


def test_a_probe_may_find_that_the_session_is_gone() -> None:
    talk = PollingTalk().begin()
    talk.tell(Replied(talk.poll, 204), at=30.0)
    [probe] = talk.end.doubt(now=31.0)
    assert isinstance(probe, HttpCall)
    assert talk.tell(Replied(probe.tag, 404), at=31.0)[0] == Remember(None)


def test_a_probe_that_finds_no_poll_under_way_begins_none_out_of_turn() -> None:
    talk = PollingTalk().begin()
    talk.tell(Replied(talk.poll, 503))
    [probe] = talk.end.doubt(now=0.1)
    assert isinstance(probe, HttpCall)
    assert talk.tell(Replied(probe.tag, 200), at=0.2) == []
    assert talk.end.deadline == 0.25


def test_a_full_edge_polls_again_only_when_a_call_has_been_answered_and_posted() -> None:
    talk = PollingTalk(max_calls=2).begin()
    talk.polled("r1", ask(7))
    assert talk.wants("poll")
    talk.polled("r2", ask(7))
    assert not talk.wants("poll")
    talk.tell(Send(result(1)))
    assert talk.wants("response")
    assert not talk.wants("poll")
    talk.tell(Replied(talk.call("response").tag, 200))
    assert talk.wants("poll")


# -- frames


def test_an_own_post_is_repeated_until_patience_ends_and_then_the_link_is_resumed() -> None:
    talk = PollingTalk(own=True).begin()
    talk.tell(Send("1 0 {}"))
    tries = 0
    while talk.end.state is LinkState.READY:
        tries += 1
        talk.tell(CallFailed(talk.call("response").tag, "cut", True))
        if talk.end.deadline is not None:
            talk.tell(Tick(), at=talk.end.deadline)
    assert tries > 5
    assert talk.now < 45.0
    assert talk.got == [Lost("response: cut", Hurry.NOW)]


def test_an_own_post_that_is_refused_ends_the_link() -> None:
    talk = PollingTalk(own=True).begin()
    talk.tell(Send("1 0 {}"))
    assert talk.tell(Replied(talk.call("response").tag, 413)) == [Lost("response: the hub answered 413")]


def test_frames_of_one_post_stay_within_its_size() -> None:
    talk = PollingTalk(own=True).begin()
    talk.tell(Send("1 0 {}"))
    first = talk.call("response").tag
    large = "x" * 200_000
    talk.tell(Send(f"2 0 {large}"))
    talk.tell(Send(f"3 0 {large}"))
    talk.tell(Replied(first, 200))
    assert talk.call("response").body == f"2 0 {large}"


def test_frames_of_one_post_are_no_more_than_the_hub_takes() -> None:
    talk = PollingTalk(own=True).begin("v=1; link=AAAAAAAAAAAAAAAAAAAAAA; received=0; max=8192")
    talk.tell(Send("1 0 {}"))
    first = talk.call("response").tag
    text = "x" * 900
    for number in (2, 3, 4):
        talk.tell(Send(f"{number} 0 {text}"))
    talk.tell(Replied(first, 200))
    assert talk.call("response").body == f"2 0 {text}\n3 0 {text}"


# -- the end


def test_a_stop_for_a_fault_is_at_once() -> None:
    talk = PollingTalk(own=True).begin()
    talk.tell(Send("1 0 {}"))
    assert talk.tell(Stop("a number is missing", 1002)) == [Lost("a number is missing")]


def test_leaving_waits_for_answers_under_way_and_begins_nothing_new() -> None:
    talk = PollingTalk().begin()
    talk.polled("r1", ask(7))
    talk.tell(Send(result(1)))
    post = talk.call("response").tag
    assert talk.tell(Stop("the edge stops")) == []
    talk.polled("r2", ask(8))
    assert talk.answered()["response"]["error"]["message"] == "not sent: the edge is stopping"
    assert not talk.wants("poll")
    talk.tell(Replied(talk.call("response").tag, 200))
    assert talk.tell(Stop("again")) == []
    assert talk.tell(Replied(post, 200)) == [Lost("the edge stops")]


def test_leaving_does_not_wait_for_ever() -> None:
    talk = PollingTalk(own=True).begin()
    talk.tell(Send("1 0 {}"), at=1.0)
    talk.tell(Stop("the edge stops"))
    assert talk.end.deadline == 3.0
    assert talk.tell(Tick(), at=3.0) == [Lost("the edge stops")]
