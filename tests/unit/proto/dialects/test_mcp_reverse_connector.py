from collections.abc import Sequence
from typing import Any

import pytest

from edge.errors import LocalProtocolError
from edge.proto.dialect import (
    OWN_HEADER,
    Alive,
    CallFailed,
    CloseCarrier,
    Closed,
    Command,
    Deliver,
    Discovered,
    Event,
    Garbled,
    HttpCall,
    Hurry,
    LinkState,
    Lost,
    Opened,
    OpenStream,
    Ready,
    Received,
    Refused,
    Remark,
    Replied,
    Send,
    Start,
    Stop,
    Tick,
)
from edge.proto.dialects.mcp_reverse.connector import McpReverseConnector, Quirks
from edge.proto.dialects.mcp_reverse.posts import BULKY
from edge.proto.jsonrpc import decode, encode_error, encode_notification, encode_request, encode_result

ANSWER = "v=1; link=AAAAAAAAAAAAAAAAAAAAAA; received=0"
NOTE = encode_notification("notifications/tools/list_changed", None)
ASK = encode_request("9", "sampling/createMessage", None)
MIB = 1024 * 1024


def connector(**more: Any) -> McpReverseConnector:
    return McpReverseConnector(**{"url_path": "", "query": {}, "headers": {}, "name": "box", **more})


def opened(*, own: bool = False, link_answer: str = ANSWER, **more: Any) -> McpReverseConnector:
    """At second 0."""
    end = connector(**more)
    end.handle(Start("v=1"), now=0)
    end.handle(Opened({"x-session-id": "box-1-a"} | ({OWN_HEADER: link_answer} if own else {})), now=0)
    assert end.own is own
    return end


def tell(end: McpReverseConnector, event: Event, now: float = 1.0) -> Sequence[Command]:
    return end.handle(event, now=now)


def calls(commands: Sequence[Command]) -> list[HttpCall]:
    return [command for command in commands if isinstance(command, HttpCall)]


def bodies(commands: Sequence[Command]) -> list[str | None]:
    return [call.body for call in calls(commands)]


def answer(number: int, n_chars: int = 0) -> str:
    return encode_result(str(number), '"' + "x" * n_chars + '"')


def lost(commands: Sequence[Command]) -> Lost:
    [last] = [command for command in commands if isinstance(command, Lost)]
    assert commands[-1] is last
    return last


def keep(end: McpReverseConnector, until: float) -> float:
    """Alive with every POST taken at once, to `until`; the time of the deadline after that."""
    while end.deadline is not None and end.deadline <= until:
        now = end.deadline
        for call in calls(tell(end, Tick(), now)):
            tell(end, Replied(call.tag, 202), now)
        tell(end, Alive(), now)
    assert end.deadline is not None
    return end.deadline


# -- opening


def test_the_offer_and_the_users_headers_go_into_the_opening() -> None:
    end = connector(url_path="/x", headers={"accept": "*/*", "Authorization": "Bearer t"}, query={"a": "ä"})

    [opening] = tell(end, Start("v=1"))

    assert opening == OpenStream(
        "/x/sse?server_name=box&a=%C3%A4",
        {
            "X-MCP-Server-Name": "box",
            "accept": "*/*",
            "Authorization": "Bearer t",
            OWN_HEADER: "v=1",
        },
    )


def test_an_answer_to_an_offer_that_was_not_made_is_a_foreign_ones() -> None:
    end = connector()
    tell(end, Start())

    [ready] = tell(end, Opened({"x-session-id": "s", OWN_HEADER: ANSWER}))

    assert ready == Ready("foreign", session="s")
    assert not end.own


def test_an_answer_of_another_version_is_a_foreign_ones() -> None:
    end = connector()
    tell(end, Start("v=1"))

    [ready] = tell(end, Opened({"x-session-id": "s", OWN_HEADER: "v=2"}))

    assert ready == Ready("foreign", session="s")


@pytest.mark.parametrize(
    "headers", [{}, {"x-session-id": ""}, {"x-session-id": "a b"}, {"x-session-id": "a" * 257}]
)
def test_a_stream_without_a_usable_session_is_given_up_with_advice(headers: dict[str, str]) -> None:
    end = connector()
    tell(end, Start())

    commands = tell(end, Opened(headers))

    assert isinstance(commands[0], CloseCarrier)
    assert lost(commands).hurry is Hurry.SLOW
    assert "X-Session-Id" in lost(commands).advice


@pytest.mark.parametrize(
    ("status", "hurry", "advice"),
    [
        (302, Hurry.SLOW, "url"),
        (401, Hurry.SLOW, "token"),
        (403, Hurry.SLOW, "token"),
        (404, Hurry.SLOW, "/sse"),
        (405, Hurry.SLOW, "no mcp-reverse endpoint"),
        (408, Hurry.NORMAL, ""),
        (429, Hurry.SLOW, ""),
        (502, Hurry.NORMAL, ""),
    ],
)
def test_a_refusal_says_how_soon_to_come_again(status: int, hurry: Hurry, advice: str) -> None:
    end = connector()
    tell(end, Start())

    [told] = tell(end, Refused(status))

    assert isinstance(told, Lost)
    assert told.hurry is hurry
    assert advice in told.advice
    assert bool(told.advice) is bool(advice)
    assert str(status) in told.reason


def test_a_stop_ends_whatever_was_begun() -> None:
    assert tell(connector(), Stop("bye")) == [Lost("bye")]
    opening = connector()
    tell(opening, Start())
    assert tell(opening, Stop("bye")) == [CloseCarrier(1000, "bye"), Lost("bye")]
    assert tell(opened(), Stop("bad", 1002)) == [CloseCarrier(1002, "bad"), Lost("bad")]


def test_after_the_end_nothing_follows() -> None:
    end = opened()
    tell(end, Closed("gone"))

    for event in (Opened(), Received("{}"), Send(NOTE), Tick(), Closed("again")):
        assert tell(end, event) == []
    assert end.doubt(now=1) == []
    assert end.deadline is None


def test_a_timer_that_crossed_a_change_of_state_says_nothing() -> None:
    end = connector()
    assert tell(end, Tick()) == []
    assert tell(end, Alive()) == []
    assert end.doubt(now=1) == []


@pytest.mark.parametrize("event", [Send(NOTE), Received("{}"), Discovered()])
def test_what_the_driver_must_not_say_is_its_bug_and_changes_nothing(event: Event) -> None:
    end = connector()
    tell(end, Start())

    with pytest.raises(LocalProtocolError):
        tell(end, event)
    assert end.state is LinkState.OPENING


# -- messages in


def test_an_event_that_holds_no_object_is_passed_over() -> None:
    end = opened()

    [remark] = tell(end, Received("[]"))

    assert isinstance(remark, Remark)
    assert end.state is LinkState.READY


def test_only_answers_to_our_own_pings_are_kept_back() -> None:
    end = opened()
    request = encode_request('"mcp-edge-ka-1"', "ping", None)
    other = encode_result("5", '"mcp-edge-ka-1"')
    unread = encode_error(None, -32700, "mcp-edge-ka-1") + " "
    broken = '{"id":"mcp-edge-ka-1"'

    assert tell(end, Received(encode_result('"mcp-edge-ka-1"', "{}"))) == []
    assert tell(end, Received(encode_error('"mcp-edge-ka-2"', -32601, "no ping"))) == []
    for text in (request, other, unread, broken):
        assert tell(end, Received(text)) == [Deliver(text)]


def test_an_event_that_is_too_long_ends_the_link() -> None:
    commands = tell(opened(), Garbled("an event of more than 5 bytes"))

    assert lost(commands).reason == "an event of more than 5 bytes"


# -- posts


def test_messages_are_posted_one_after_the_other_in_order() -> None:
    end = opened()

    posted = bodies(tell(end, Send(ASK)))
    assert tell(end, Send(NOTE)) == []
    assert tell(end, Send(answer(1))) == []
    for number in (1, 2, 3):
        posted += bodies(tell(end, Replied(f"p{number}", 202)))

    assert posted == [ASK, NOTE, answer(1)]


def test_a_bulky_answer_lets_the_rest_pass_but_not_for_ever() -> None:
    end = opened()
    bulky, bulky_note = (
        answer(1, BULKY),
        encode_notification("notifications/message", '{"data":"' + "x" * BULKY + '"}'),
    )
    sent = [NOTE, bulky, bulky_note, *(answer(number) for number in range(2, 22))]
    posted = []
    for text in sent:
        posted += bodies(tell(end, Send(text)))
    for number in range(1, len(sent)):
        posted += bodies(tell(end, Replied(f"p{number}", 202)))

    assert sorted(map(str, posted)) == sorted(sent)
    assert [text for text in posted if text != bulky] == [text for text in sent if text != bulky]
    assert posted.index(bulky) == 17


def test_an_upload_has_the_time_it_needs() -> None:
    [call] = calls(tell(opened(), Send(answer(1, MIB))))

    assert call.timeout_s == 62


def test_a_ping_is_posted_beside_a_long_upload() -> None:
    end = opened()
    tell(end, Send(answer(1, MIB)))

    [call] = calls(tell(end, Tick(), 20))

    assert call.body == encode_request('"mcp-edge-ka-1"', "ping", None)
    tell(end, Alive(), 40)
    assert tell(end, Tick(), 40) == []  # one ping at a time


def test_a_post_that_was_taken_is_as_good_as_a_ping() -> None:
    end = opened()
    tell(end, Send(NOTE), 15)
    tell(end, Replied("p1", 202), 16)

    assert tell(end, Tick(), 20) == []
    assert len(calls(tell(end, Tick(), 35))) == 1


def test_a_shorter_heartbeat_is_kept_and_a_longer_one_is_not() -> None:
    assert opened(heartbeat_s=7).deadline == 7
    assert opened(heartbeat_s=300).deadline == 20


def test_more_than_may_wait_ends_the_link() -> None:
    end = opened(max_queued=100)
    tell(end, Send(answer(1)))
    tell(end, Send(answer(2, 200)))  # alone it may wait

    assert lost(tell(end, Send(answer(3)))).reason == "the acceptor takes messages too slowly"


def test_a_session_that_is_forgotten_is_replaced_at_once() -> None:
    end = opened()
    tell(end, Send(NOTE), 30)

    told = lost(tell(end, Replied("p1", 404), 31))

    assert told.hurry is Hurry.NOW
    assert not end.quirks.forgets_by_age


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_no_longer_good_is_said(status: int) -> None:
    end = opened()
    tell(end, Send(NOTE))

    told = lost(tell(end, Replied("p1", status)))

    assert (told.hurry, "token" in told.advice) == (Hurry.SLOW, True)


def test_an_answer_to_a_post_that_makes_no_sense_ends_the_link() -> None:
    end = opened()
    tell(end, Send(NOTE))

    assert lost(tell(end, Replied("p1", 400))).hurry is Hurry.NORMAL


def test_the_end_of_a_call_that_is_not_known_says_nothing() -> None:
    end = opened()

    assert tell(end, Replied("p7", 404)) == []
    assert tell(end, CallFailed("p7", "reset", may_have_arrived=True)) == []


def test_a_post_that_never_arrived_is_made_again_once() -> None:
    end = opened()
    tell(end, Send(ASK))
    tell(end, Send(NOTE))

    assert bodies(tell(end, CallFailed("p1", "refused", may_have_arrived=False))) == [ASK]
    assert (
        lost(tell(end, CallFailed("p3", "refused", may_have_arrived=False))).reason
        == "a POST failed: refused"
    )


def test_an_answer_that_may_have_arrived_is_posted_again() -> None:
    end = opened()
    tell(end, Send(answer(1)))

    assert bodies(tell(end, CallFailed("p1", "reset", may_have_arrived=True))) == [answer(1)]
    assert lost(tell(end, CallFailed("p3", "reset", may_have_arrived=True))).hurry is Hurry.NORMAL


def test_a_request_that_may_have_arrived_is_not_posted_again_and_its_outcome_is_unknown() -> None:
    end = opened()
    tell(end, Send(ASK))
    tell(end, Send(NOTE))

    told, following = tell(end, CallFailed("p1", "reset", may_have_arrived=True))

    assert isinstance(told, Deliver)
    assert '"id":9,' in told.text
    assert "outcome unknown" in told.text
    assert isinstance(following, HttpCall)
    assert following.body == NOTE
    [remark] = tell(end, CallFailed("p2", "reset", may_have_arrived=True))
    assert isinstance(remark, Remark)


def test_an_error_that_answers_nothing_in_particular_is_dropped_when_it_cannot_be_sent() -> None:
    end = opened(max_message_bytes=10)

    [remark] = tell(end, Send(encode_error(None, -32700, "what")))

    assert isinstance(remark, Remark)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_acceptor_gets_an_answer_again_a_second_later(status: int) -> None:
    end = opened()
    tell(end, Send(answer(1)), 1)
    tell(end, Send(NOTE), 1)

    assert tell(end, Replied("p1", status), 2) == []
    assert end.deadline == 3
    assert tell(end, Alive(), 2.5) == []  # and nothing goes before it
    assert bodies(tell(end, Tick(), 3)) == [answer(1)]
    assert lost(tell(end, Replied("p3", status), 4)).reason == f"the acceptor answered {status} to a POST"


def test_a_request_is_made_again_after_429_and_not_after_503() -> None:
    end = opened()
    tell(end, Send(ASK), 1)
    assert tell(end, Replied("p1", 429), 1) == []
    [call] = calls(tell(end, Tick(), 2))

    [told] = tell(end, Replied(call.tag, 503), 3)

    assert isinstance(told, Deliver)


# -- sizes


def test_an_answer_that_is_refused_as_too_large_becomes_an_error_and_the_limit_is_remembered() -> None:
    end = opened()
    tell(end, Send(answer(1, 5 * MIB)))

    commands = tell(end, Replied("p1", 413))

    [body] = bodies(commands)
    assert body is not None
    assert "too large" in body
    assert end.quirks.limit_bytes == 4 * MIB
    tell(end, Replied("p2", 202))
    [body] = bodies(tell(end, Send(answer(2, 4 * MIB))))
    assert body is not None
    assert "at most 4194304" in body


def test_a_limit_below_the_usual_one_is_taken_from_what_was_refused() -> None:
    end = opened()
    text = answer(1, 10_000)
    tell(end, Send(text))

    tell(end, Replied("p1", 413))

    assert end.quirks.limit_bytes == len(text) - 1


def test_bytes_count_and_not_letters() -> None:
    end = opened(max_message_bytes=60)

    [_, call] = tell(end, Send(encode_result("1", '"ääääääääääääääääääää"')))

    assert isinstance(call, HttpCall)
    assert call.body is not None
    assert "too large" in call.body


def test_a_connection_reset_twice_under_a_large_answer_counts_as_too_large() -> None:
    end = opened()
    tell(end, Send(answer(1, 5 * MIB)))
    tell(end, CallFailed("p1", "reset", may_have_arrived=True))

    [body] = bodies(tell(end, CallFailed("p3", "reset", may_have_arrived=True)))

    assert body is not None
    assert "too large" in body
    assert end.state is LinkState.READY


def test_who_refuses_even_little_as_too_large_is_left() -> None:
    end = opened()
    tell(end, Send(NOTE))

    told = lost(tell(end, Replied("p1", 413)))

    assert (told.hurry, "max_message_bytes" in told.advice) == (Hurry.SLOW, True)


def test_a_frame_of_ours_that_is_too_large_ends_the_link() -> None:
    end = opened(own=True)
    tell(end, Send("1 0 " + answer(1, 10_000)))

    assert lost(tell(end, Replied("p1", 413))).hurry is Hurry.SLOW


# -- a stream that is silent, a process that was stopped


def test_a_silent_stream_ends_the_link() -> None:
    end = opened()
    tell(end, Tick(), 20)

    told = lost(tell(end, Tick(), 45))

    assert told.reason == "no sign of life from the acceptor"
    assert told.hurry is Hurry.NOW


def test_any_byte_on_the_stream_is_life_and_an_answer_to_a_post_is_not() -> None:
    end = opened()
    [call] = calls(tell(end, Tick(), 20))
    tell(end, Alive(), 30)
    [call] = calls(tell(end, Replied(call.tag, 202), 44))
    tell(end, Replied(call.tag, 202), 44)

    assert lost(tell(end, Tick(), 75)).reason == "no sign of life from the acceptor"


def test_a_process_that_was_stopped_asks_before_it_gives_up() -> None:
    end = opened()

    [call, *_] = calls(tell(end, Tick(), 1000))

    assert call.timeout_s == 10
    assert lost(tell(end, Tick(), 1035)).reason == "no sign of life from the acceptor"


def test_one_failed_ping_decides_where_there_was_doubt() -> None:
    end = opened()
    [call] = calls(end.doubt(now=5))
    assert end.doubt(now=6) == []

    told = lost(tell(end, CallFailed(call.tag, "timed out", may_have_arrived=True), 10))

    assert told.hurry is Hurry.NOW


@pytest.mark.parametrize(("answers", "until"), [(True, 13), (False, 38)])
def test_doubt_is_short_where_pings_are_known_to_be_answered(answers: bool, until: float) -> None:
    end = opened()
    if answers:
        tell(end, Received(encode_result('"mcp-edge-ka-1"', "{}")), 2)
    [call] = calls(end.doubt(now=3))
    tell(end, Replied(call.tag, 202), until - 0.5)
    assert end.state is LinkState.READY

    assert lost(tell(end, Tick(), until)).reason == "no sign of life from the acceptor"


def test_a_sign_of_life_ends_the_doubt() -> None:
    end = opened()
    tell(end, Received(encode_result('"mcp-edge-ka-1"', "{}")), 2)
    [call] = calls(end.doubt(now=3))
    tell(end, Replied(call.tag, 202), 3)
    tell(end, Alive(), 4)

    assert end.deadline == 23


def test_doubt_does_not_lengthen_the_patience() -> None:
    end = opened(dead_after_s=45)
    tell(end, Tick(), 20)
    end.doubt(now=40)

    assert lost(tell(end, Tick(), 45)).reason == "no sign of life from the acceptor"


def test_a_ping_that_fails_is_made_again_within_patience() -> None:
    end = opened()
    [first] = calls(tell(end, Tick(), 20))
    [second] = calls(tell(end, CallFailed(first.tag, "reset", may_have_arrived=True), 21))
    assert tell(end, CallFailed(second.tag, "reset", may_have_arrived=True), 22) == []
    [third] = calls(tell(end, Tick(), 23))

    told = lost(tell(end, CallFailed(third.tag, "reset", may_have_arrived=True), 24))

    assert (told.reason, told.hurry) == ("a POST failed: reset", Hurry.NORMAL)


# -- 1.1.0


def test_an_acceptor_is_looked_at_just_past_the_age_of_60() -> None:
    end = opened()

    assert keep(end, 60.5) == 61
    [call] = calls(tell(end, Tick(), 61))
    commands = tell(end, Replied(call.tag, 404), 64)  # however late the answer

    assert isinstance(commands[0], Remark)
    assert lost(commands).hurry is Hurry.NOW
    assert end.quirks == Quirks(forgets_by_age=True)


def test_one_that_keeps_the_session_is_no_1_1_0() -> None:
    end = opened()

    assert keep(end, 61) == 81
    [call] = calls(tell(end, Tick(), 81))
    tell(end, Replied(call.tag, 404), 81)
    assert not end.quirks.forgets_by_age


def test_a_404_at_60_s_after_a_long_silence_proves_nothing() -> None:
    end = opened()
    tell(end, Tick(), 20)  # no answer to this one
    tell(end, Alive(), 40)
    [call] = calls(tell(end, Send(NOTE), 60))
    tell(end, Replied(call.tag, 404), 60)

    assert not end.quirks.forgets_by_age


def test_a_known_1_1_0_is_left_before_it_forgets() -> None:
    end = opened(quirks=Quirks(forgets_by_age=True))

    assert keep(end, 54) == 55

    assert lost(tell(end, Tick(), 55)).hurry is Hurry.NOW


def test_a_known_1_1_0_is_left_at_60_whatever_is_under_way() -> None:
    end = opened(quirks=Quirks(forgets_by_age=True))
    tell(end, Received(encode_request("3", "tools/call", None)))
    tell(end, Received(encode_notification("notifications/initialized", None)))
    tell(end, Received("{"))
    assert keep(end, 55) == 60

    assert lost(tell(end, Tick(), 60)).hurry is Hurry.NOW


def test_a_known_1_1_0_that_answers_404_teaches_nothing_new() -> None:
    end = opened(quirks=Quirks(forgets_by_age=True))
    tell(end, Send(NOTE), 59)

    assert isinstance(tell(end, Replied("p1", 404), 59)[0], CloseCarrier)


def test_answers_of_every_kind_count_for_what_is_under_way() -> None:
    end = opened(quirks=Quirks(forgets_by_age=True), max_message_bytes=100)
    tell(end, Received(encode_request("3", "tools/call", None)))
    tell(end, Received(encode_request("4", "tools/call", None)))
    tell(end, Send(answer(3)))
    tell(end, Replied("p1", 202))
    tell(end, Send(answer(4, 200)))
    tell(end, Send(encode_error(None, 1, "")))
    tell(end, Send(NOTE))
    for number in (2, 3, 4):
        tell(end, Replied(f"p{number}", 202))
    keep(end, 54)

    assert lost(tell(end, Tick(), 55)).reason == "renewed before the acceptor forgets the session"


# -- our own two ends


def test_frames_that_wait_share_a_post_up_to_a_size() -> None:
    end = opened(own=True)
    frames = [f"{number} 0 {answer(number, 100 * 1024)}" for number in range(1, 6)]
    posted = []
    for frame in frames:
        posted += bodies(tell(end, Send(frame)))
    for number in (1, 2, 3):
        posted += bodies(tell(end, Replied(f"p{number}", 202)))

    assert posted == [frames[0], "\n".join(frames[1:3]), "\n".join(frames[3:])]


def test_frames_that_share_a_post_are_no_more_than_the_hub_takes() -> None:
    end = opened(own=True, link_answer=f"{ANSWER}; max=8192")
    frames = [f"{number} 0 {answer(number, 900)}" for number in range(1, 6)]
    posted = []
    for frame in frames:
        posted += bodies(tell(end, Send(frame)))
    for number in (1, 2, 3):
        posted += bodies(tell(end, Replied(f"p{number}", 202)))

    assert posted == [frames[0], "\n".join(frames[1:3]), "\n".join(frames[3:])]


def test_a_frame_is_posted_again_until_patience_is_over() -> None:
    end = opened(own=True, patience=2)
    tell(end, Send("1 0 {}"))

    assert bodies(tell(end, Replied("p1", 503), 1)) == []
    [call] = calls(tell(end, Tick(), 2))
    assert call.body == "1 0 {}"
    assert lost(tell(end, Replied(call.tag, 503), 3)).hurry is Hurry.NORMAL


def test_a_sign_of_life_between_our_own_is_empty_and_age_does_not_matter() -> None:
    end = opened(own=True, quirks=Quirks(forgets_by_age=True))

    [call] = calls(tell(end, Tick(), 20))

    assert call.body == ""
    tell(end, Alive(), 59)
    [call] = calls(tell(end, Replied(call.tag, 202), 60))
    assert lost(tell(end, Replied(call.tag, 404), 60)) == Lost(
        "the acceptor has forgotten the session", Hurry.NOW
    )


# -- leaving


def test_an_orderly_end_waits_for_what_is_to_be_posted_but_not_long() -> None:
    end = opened()
    tell(end, Send(answer(1)), 1)
    tell(end, Send(answer(2)), 1)

    assert tell(end, Stop("stopped"), 2) == []
    assert bodies(tell(end, Replied("p1", 202), 2)) == [answer(2)]
    assert end.deadline == 4
    assert tell(end, Tick(), 4) == [CloseCarrier(1000, "stopped"), Lost("stopped")]


def test_who_is_told_twice_to_leave_leaves() -> None:
    end = opened()
    tell(end, Send(answer(1)))
    tell(end, Stop("stopped"))

    assert tell(end, Stop("now")) == [CloseCarrier(1000, "now"), Lost("now")]


def test_every_answer_that_becomes_an_error_keeps_its_id() -> None:
    end = opened(max_message_bytes=120)
    [_, call] = tell(end, Send(encode_result('"ä"', '"' + "x" * 200 + '"')))

    assert isinstance(call, HttpCall)
    assert call.body is not None
    message = decode(call.body)
    assert getattr(message, "id", None) == '"ä"'
