"""What the transcripts do not show of the ContextForge acceptor: ends, limits, odd registrations."""

from typing import Any

import pytest

from edge.proto.dialect import (
    CloseCarrier,
    Closed,
    Command,
    Discovered,
    Event,
    Garbled,
    LinkState,
    Lost,
    Opened,
    Push,
    Ready,
    Received,
    Remark,
    Send,
    Stop,
    Tick,
)
from edge.proto.dialects.contextforge import frames
from tests.support.contextforge_ends import acceptor, frame, ready_acceptor


def only(commands: Any) -> Command:
    [command] = commands
    assert isinstance(command, Command)
    return command


def test_an_edge_that_is_stopped_before_it_opens_or_registers_is_only_told_why() -> None:
    assert acceptor().handle(Stop("full"), now=0) == [Lost("full")]
    made = acceptor()
    made.handle(Opened(), now=0)
    assert made.handle(Stop("full", 1013), now=0) == [CloseCarrier(1013, "full"), Lost("full")]


def test_an_edge_that_goes_away_is_lost_and_may_come_back() -> None:
    for made in (acceptor(), ready_acceptor()):
        assert made.handle(Closed("reset"), now=1) == [Lost("reset")]
        assert made.handle(frame(type="heartbeat"), now=1) == []
        assert not made.has_left
        assert made.deadline is None


def test_an_edge_that_closes_without_a_word_is_told_by_the_code() -> None:
    lost = [Lost("the edge closed the connection with code 1006")]
    assert ready_acceptor().handle(Closed("", 1006), now=1) == lost


def test_an_edge_that_unregisters_will_not_come_back() -> None:
    made = acceptor(own=True)
    made.handle(Opened(), now=0)
    made.handle(frame(type="unregister"), now=0)
    assert made.has_left


def test_a_refusal_after_discovery_does_not_say_that_it_failed() -> None:
    made = ready_acceptor()
    made.handle(Discovered(), now=0)
    assert made.handle(Stop("no", 1008), now=0) == [CloseCarrier(1008, "no"), Lost("no")]


def test_an_orderly_stop_while_discovering_is_no_refusal() -> None:
    assert ready_acceptor().handle(Stop("restart", 1012), now=0) == [
        CloseCarrier(1012, "restart"),
        Lost("restart"),
    ]


def test_registering_again_and_again_ends_the_link() -> None:
    made = ready_acceptor(max_bad_frames=3)
    again = frame(type="register", server={"name": "edge-7"})
    for _ in range(3):
        assert isinstance(made.handle(again, now=0)[-1], Push)
    assert made.handle(again, now=0)[0] == CloseCarrier(1008, "connection already registered")


def test_complaints_come_once_a_second_at_most() -> None:
    made = ready_acceptor()
    answers = [made.handle(Garbled("a binary frame"), now=at / 4) for at in range(9)]
    assert [sum(isinstance(each, Push) for each in commands) for commands in answers] == [
        1, 0, 0, 0, 1, 0, 0, 0, 1,
    ]  # fmt: skip


def test_a_notification_before_the_registration_goes_nowhere() -> None:
    made = acceptor()
    made.handle(Opened(), now=0)
    assert made.handle(frame(type="notification", payload={"method": "x"}), now=0) == []


@pytest.mark.parametrize(
    "server", [{}, {"name": 5}, {"name": "x" * 129}, {"name": "a\nb"}, {"name": "\ud800"}, None, []]
)
def test_a_registration_without_a_usable_name_is_none(server: Any) -> None:
    made = acceptor()
    made.handle(Opened(), now=0)
    assert isinstance(only(made.handle(frame(type="register", server=server), now=0)), Push)
    assert made.handle(frame(type="register"), now=0) == []
    assert made.state is LinkState.REGISTERING


NAMELESS = Remark("a register frame without a name")


def test_what_was_wrong_before_the_registration_is_said_with_it() -> None:
    made = acceptor()
    made.handle(Opened(), now=0)
    made.handle(frame(type="register"), now=0)
    made.handle(Received("rubbish"), now=0)
    *_, ready, said = made.handle(frame(type="register", server={"name": "n"}), now=0)
    assert isinstance(ready, Ready)
    assert said == NAMELESS


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (Tick(), "no registration within 15 s"),
        (Closed("reset"), "reset"),
        (frame(type="unregister"), "the edge has unregistered"),
    ],
)
def test_what_was_wrong_is_in_the_reason_if_no_registration_follows(end: Event, reason: str) -> None:
    made = acceptor()
    made.handle(Opened(), now=0)
    made.handle(frame(type="register"), now=0)
    *_, lost = made.handle(end, now=15)
    assert lost == Lost(f"{reason}; before that: {NAMELESS.text}")


def test_of_frames_that_are_none_the_first_is_remarked_on_and_too_many_need_no_more_words() -> None:
    made = ready_acceptor(max_bad_frames=2)
    assert made.handle(Received("rubbish"), now=0)[0] == Remark("a frame that is no JSON object")
    assert made.handle(Garbled("a binary frame"), now=0) == []
    *_, lost = made.handle(Received("rubbish"), now=0)
    assert lost == Lost("too many invalid frames", is_said=True)


def test_too_many_registrations_and_one_bad_frame_are_not_said_yet() -> None:
    made = ready_acceptor(max_bad_frames=1)
    made.handle(frame(type="register", server={"name": "edge-7"}), now=0)
    *_, lost = made.handle(Received("rubbish"), now=0)
    assert lost == Lost("too many invalid frames")


def test_a_long_description_is_cut_and_a_protocol_of_another_type_is_none() -> None:
    step = frames.parse(
        '{"type":"register","server":{"name":"n","description":"' + "d" * 2000 + '","protocol":7}}', own=False
    )
    assert step == frames.Register("n", "d" * 1024 + "…", "")


def test_too_large_and_no_message_is_dropped() -> None:
    made = ready_acceptor(max_message_bytes=50)
    assert isinstance(only(made.handle(Send("x" * 100), now=0)), Remark)


def test_an_edge_of_ours_takes_messages_of_any_size() -> None:
    made = ready_acceptor(own=True, max_message_bytes=50)
    text = "1 0 " + "x" * 100
    assert made.handle(Send(text), now=0) == [Push(text)]
