"""What the transcripts do not show of the ContextForge connector, and what both ends do about time and misuse."""

import json
from typing import Any

import pytest

from edge.errors import LocalProtocolError
from edge.proto.dialect import (
    Alive,
    CloseCarrier,
    Closed,
    Command,
    Deliver,
    Discovered,
    Hurry,
    LinkState,
    Lost,
    Opened,
    OpenWebSocket,
    Ping,
    Push,
    Ready,
    Received,
    Refused,
    Remark,
    Requested,
    Send,
    Start,
    Stop,
    Tick,
)
from edge.proto.dialects.contextforge import frames
from edge.proto.dialects.contextforge.acceptor import ContextForgeAcceptor
from edge.proto.dialects.contextforge.connector import ContextForgeConnector, Quirks, targets
from edge.proto.dialects.refusal import detail_of
from tests.support.contextforge_ends import acceptor, connector, frame, ready_acceptor, ready_connector

ANSWER = "v=1; link=0123456789abcdef0123456789abcdef; received=0"


def only(commands: Any) -> Command:
    [command] = commands
    assert isinstance(command, Command)
    return command


# -- where a connector knocks


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ["/v1/reverse-proxy/ws", "/reverse-proxy/ws"]),
        ("/", ["/v1/reverse-proxy/ws", "/reverse-proxy/ws"]),
        ("/gateway", ["/gateway/v1/reverse-proxy/ws", "/gateway/reverse-proxy/ws"]),
        ("/reverse-proxy", ["/v1/reverse-proxy/ws", "/reverse-proxy/ws"]),
        ("/v1/reverse-proxy/", ["/v1/reverse-proxy/ws", "/reverse-proxy/ws"]),
        ("/v1/reverse-proxy/ws", ["/v1/reverse-proxy/ws"]),
        ("/odd/ws", ["/odd/ws"]),
    ],
)
def test_a_url_leads_to_the_newer_path_first_and_is_taken_at_its_word_if_it_ends_in_ws(
    path: str, expected: list[str]
) -> None:
    assert targets(path, {}, legacy_path=True) == expected
    assert targets(path, {}, legacy_path=False) == expected[:1]


def test_the_query_goes_along_to_either_path() -> None:
    asked = connector(query={"a": "1&2"})
    first, second = asked.handle(Start(), now=0), asked.handle(Refused(404), now=0)
    for command, path in ((only(first), "/v1/reverse-proxy/ws"), (only(second), "/reverse-proxy/ws")):
        assert isinstance(command, OpenWebSocket)
        assert command.target == f"{path}?a=1%262"


def test_without_the_older_path_a_404_ends_the_attempt() -> None:
    asked = connector(quirks=Quirks(legacy_path=False))
    asked.handle(Start(), now=0)
    lost = only(asked.handle(Refused(404), now=0))
    assert isinstance(lost, Lost)
    assert lost.hurry is Hurry.SLOW
    assert "reverse proxy is off" in lost.advice


@pytest.mark.parametrize(
    ("status", "hurry", "advice"),
    [
        (401, Hurry.SLOW, "token"),
        (429, Hurry.SLOW, ""),
        (200, Hurry.SLOW, "no reverse proxy endpoint"),
        (302, Hurry.SLOW, "no reverse proxy endpoint"),
        (408, Hurry.NORMAL, ""),
        (502, Hurry.NORMAL, ""),
        (503, Hurry.NORMAL, ""),
    ],
)
def test_a_refusal_says_how_soon_to_try_again_and_what_to_do(status: int, hurry: Hurry, advice: str) -> None:
    asked = connector()
    asked.handle(Start(), now=0)
    lost = only(asked.handle(Refused(status), now=0))
    assert isinstance(lost, Lost)
    assert (lost.hurry, asked.state) == (hurry, LinkState.CLOSED)
    assert advice in lost.advice
    assert bool(advice) == bool(lost.advice)
    assert str(status) in lost.reason


@pytest.mark.parametrize("body", ["", "{", "[]", "[" * 100_000, '{"detail": {"loc": 1}}', '{"other": "x"}'])
def test_a_refusal_without_a_readable_detail_has_none(body: str) -> None:
    assert detail_of(body) == ""


def test_a_detail_is_cut_short() -> None:
    assert detail_of(json.dumps({"detail": "x" * 5000})) == "x" * 200 + "…"


@pytest.mark.parametrize(
    ("code", "after_s", "hurry", "has_advice"),
    [
        (1000, 9, Hurry.SLOW, True),
        (1000, 11, Hurry.NORMAL, False),
        (1001, 1, Hurry.NORMAL, False),
        (1006, 1, Hurry.NORMAL, False),
        (None, 1, Hurry.NORMAL, False),
        (1008, 1, Hurry.SLOW, True),
        (1009, 1, Hurry.NORMAL, True),
        (1011, 1, Hurry.NORMAL, False),
        (1012, 1, Hurry.NOW, False),
    ],
)
def test_a_close_code_says_how_soon_to_try_again(
    code: int | None, after_s: float, hurry: Hurry, has_advice: bool
) -> None:
    lost = only(ready_connector().handle(Closed("closed", code), now=after_s))
    assert isinstance(lost, Lost)
    assert (lost.reason, lost.hurry, bool(lost.advice)) == ("closed", hurry, has_advice)


@pytest.mark.parametrize(
    ("code", "text"), [(1012, "code 1012, service restart"), (4000, "code 4000"), (None, "code None")]
)
def test_a_close_without_a_word_is_told_by_its_code(code: int | None, text: str) -> None:
    lost = only(ready_connector().handle(Closed("", code), now=1))
    assert isinstance(lost, Lost)
    assert lost.reason == f"the gateway closed the connection with {text}"


@pytest.mark.parametrize(
    ("code", "reason", "hurry", "has_advice"),
    [
        (1008, "this name is another edge's", Hurry.SLOW, False),
        (1000, "disconnected by an operator", Hurry.NORMAL, False),
        (1000, "replaced by a newer connection", Hurry.SLOW, True),
    ],
)
def test_a_hub_of_ours_says_itself_why_it_closes(
    code: int, reason: str, hurry: Hurry, has_advice: bool
) -> None:
    made = connector()
    made.handle(Start("v=1"), now=0)
    made.handle(Opened({"mcp-edge-link": ANSWER}), now=0)
    made.handle(frame(type="register_ack", status="success"), now=0)
    lost = only(made.handle(Closed(reason, code), now=1))
    assert isinstance(lost, Lost)
    assert (lost.reason, lost.hurry, bool(lost.advice)) == (reason, hurry, has_advice)


def test_a_close_before_the_registration_is_no_sign_of_a_second_edge() -> None:
    made = connector()
    made.handle(Start(), now=0)
    assert made.handle(Closed("reset", 1000), now=0) == [Lost("reset")]


# -- registering


@pytest.mark.parametrize(("status", "shown"), [("rejected", "rejected"), (None, "none"), (7, "none")])
def test_an_acknowledgement_that_does_not_say_yes_is_a_refusal(status: Any, shown: str) -> None:
    made = connector()
    made.handle(Start(), now=0)
    made.handle(Opened(), now=0)
    close, lost = made.handle(frame(type="register_ack", status=status), now=0)
    assert isinstance(close, CloseCarrier)
    assert isinstance(lost, Lost)
    assert lost.reason == f"the gateway acknowledged the registration with status {shown}"
    assert lost.hurry is Hurry.SLOW


def test_a_completion_without_an_acknowledgement_is_one() -> None:
    made = connector(heartbeat_s=1000, dead_after_s=1000)
    made.handle(Start(), now=0)
    made.handle(Opened(), now=0)
    assert made.handle(frame(type="register_complete", status="success"), now=0) == [Ready("v2")]
    assert made.deadline == 1000


def test_a_completion_that_failed_without_an_acknowledgement_is_a_refusal() -> None:
    made = connector()
    made.handle(Start(), now=0)
    made.handle(Opened(), now=0)
    _, lost = made.handle(frame(type="register_complete"), now=0)
    assert isinstance(lost, Lost)
    assert lost.reason == "the gateway refused the registration: no reason given"


def test_no_acknowledgement_and_no_complaint_is_told_as_such() -> None:
    made = connector()
    made.handle(Start(), now=0)
    made.handle(Opened(), now=0)
    assert made.handle(Tick(), now=15)[-1] == Lost("no register_ack within 15 s")


def test_a_name_and_a_description_are_cut_to_what_a_gateway_takes() -> None:
    made = connector(name="n" * 200, description="d" * 2000)
    made.handle(Start(), now=0)
    push = only(made.handle(Opened(), now=0))
    assert isinstance(push, Push)
    server = json.loads(push.text)["server"]
    assert (len(server["name"]), len(server["description"])) == (128, 1024)


def test_no_description_is_no_member() -> None:
    assert "description" not in json.loads(frames.register("s", "n", ""))["server"]


@pytest.mark.parametrize("answer", ["v=2; link=x; received=0", "yes", ""])
def test_an_answer_of_another_version_makes_a_foreign_link(answer: str) -> None:
    made = connector()
    made.handle(Start("v=1"), now=0)
    made.handle(Opened({"mcp-edge-link": answer}), now=0)
    assert made.own is False
    ready = only(made.handle(frame(type="register_ack", status="success"), now=0))
    assert ready == Ready("v1")


def test_an_answer_that_was_not_asked_for_makes_a_foreign_link() -> None:
    made = connector()
    made.handle(Start(), now=0)
    made.handle(Opened({"mcp-edge-link": ANSWER}), now=0)
    assert made.own is False


# -- leaving


def test_stopping_before_the_socket_is_open_sends_nothing() -> None:
    idle, opening = connector(), connector()
    opening.handle(Start(), now=0)
    assert idle.handle(Stop("bye"), now=0) == [Lost("bye")]
    assert opening.handle(Stop("bye", 1001), now=0) == [CloseCarrier(1001, "bye"), Lost("bye")]
    assert opening.handle(Opened(), now=0) == []


def test_stopping_while_registering_unregisters() -> None:
    made = connector()
    made.handle(Start(), now=0)
    made.handle(Opened(), now=0)
    first, *_ = made.handle(Stop("bye"), now=0)
    assert first == Push('{"type":"unregister","sessionId":"c0ffee"}')


def test_a_long_reason_is_cut_to_what_a_close_frame_holds() -> None:
    _, close, lost = ready_connector().handle(Stop("ä" * 100), now=0)
    assert close == CloseCarrier(1000, "ä" * 60 + "…")
    assert lost == Lost("ä" * 100)


# -- payloads


@pytest.mark.parametrize(
    "payload",
    [
        '{"jsonrpc":"2.0","id":1,"method":"initialize"}',
        '{"jsonrpc":"2.0","method":"initialize"}',
        '{"jsonrpc":"1.0","id":1,"method":"initialize","params":{}}',
        '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}',
        '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":"me"}}',
        '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"a":1,"a":1}}',
        '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{"name":"x","version":"2"}}}',
        '{"jsonrpc": "2.0", "id": 1.0, "method": "tools/call", "params": {"name": "initialize"}}',
        '{"jsonrpc":"2.0","id":1,"method":"echo","params":{"text":"\\"initialize\\""}}',
        '{"method":"what","text":["initialize"]}',
    ],
)
def test_what_is_no_initialize_without_a_client_version_is_delivered_letter_for_letter(payload: str) -> None:
    got = ready_connector().handle(Received(f'{{"type":"request","payload":{payload}}}'), now=0)
    assert got == [Deliver(payload)]


def test_a_client_version_is_added_and_nothing_else_is_touched() -> None:
    payload = (
        '{"id": 1.0, "jsonrpc": "2.0", "method": "initialize", "params": {"x": 1e400, "clientInfo": {}}}'
    )
    sent = Received(f'{{"type":"request","payload":{payload}}}')
    whole = payload.replace("{}", '{"version":"0"}')
    assert ready_connector().handle(sent, now=0) == [Deliver(whole)]
    assert ready_connector(quirks=Quirks(adds_client_version=False)).handle(sent, now=0) == [Deliver(payload)]


def test_what_is_no_message_is_dropped_and_remarked_upon_once() -> None:
    made = ready_connector()
    said = only(made.handle(Send("{"), now=0))
    assert isinstance(said, Remark)
    assert made.handle(Send("{"), now=0) == []


def test_an_answer_may_be_as_large_as_the_kind_of_gateway_takes() -> None:
    quirks = Quirks(v1_max_bytes=2000, v2_max_bytes=1000)
    text = '{"jsonrpc":"2.0","id":1,"result":"' + "x" * 1200 + '"}'
    assert '"result"' in str(ready_connector("success", quirks=quirks).handle(Send(text), now=0))
    assert '"error"' in str(ready_connector("processing", quirks=quirks).handle(Send(text), now=0))
    small = ready_connector("success", quirks=quirks, max_message_bytes=500)
    assert '"error"' in str(small.handle(Send(text), now=0))


def test_a_notification_keeps_its_params() -> None:
    text = '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1.0}}'
    push = only(ready_connector().handle(Send(text), now=0))
    assert push == Push(f'{{"type":"notification","sessionId":"c0ffee","payload":{text}}}')


def test_a_gateway_that_always_finds_new_words_is_not_quoted_for_ever() -> None:
    made = ready_connector()
    said = [made.handle(frame(type="error", message=f"no. {i}"), now=0) for i in range(100)]
    assert sum(map(len, said)) == 16


# -- time, and the tables


def test_a_tick_that_comes_early_does_nothing() -> None:
    for made in (ready_connector(), ready_acceptor()):
        assert made.handle(Tick(), now=1) == []
        assert made.deadline == 25


def test_a_gateway_that_speaks_is_alive_without_pongs() -> None:
    made = ready_connector()
    for at in (25, 50, 75, 100):
        assert len(made.handle(Tick(), now=at)) == 2
        made.handle(frame(type="heartbeat"), now=at + 1)
    assert made.state is LinkState.READY


def test_doubt_does_not_prolong_what_was_to_end_sooner() -> None:
    made = ready_connector()
    assert made.doubt(now=58) == [Ping()]
    assert isinstance(made.handle(Tick(), now=60)[-1], Lost)


def test_doubt_after_a_sleep_gives_time_for_a_pong() -> None:
    made = ready_connector(heartbeat_s=1e6)
    assert made.doubt(now=1000) == [Ping()]
    assert made.deadline == 1005


@pytest.mark.parametrize("made", [connector(), acceptor()])
def test_doubt_before_there_is_a_link_asks_nothing(
    made: ContextForgeConnector | ContextForgeAcceptor,
) -> None:
    assert made.doubt(now=0) == []


def test_timers_and_pongs_that_cross_a_change_of_state_do_nothing() -> None:
    opening = connector()
    opening.handle(Start(), now=0)
    for made in (opening, acceptor()):
        assert made.handle(Tick(), now=9) == []
        assert made.handle(Alive(), now=9) == []


def test_a_driver_that_breaks_the_rules_is_told_so() -> None:
    opening = connector()
    opening.handle(Start(), now=0)
    waiting = acceptor()
    waiting.handle(Opened(), now=0)
    for made, event in (
        (connector(), Opened()),
        (opening, Send("{}")),
        (ready_connector(), Discovered()),
        (ready_connector(), Start()),
        (acceptor(), frame(type="register")),
        (waiting, Send("{}")),
        (waiting, Discovered()),
        (ready_acceptor(), Requested(1, "poll")),
    ):
        before = made.state
        with pytest.raises(LocalProtocolError, match="while"):
            made.handle(event, now=0)
        assert made.state is before


def test_slow_heartbeats_do_not_make_a_quiet_gateway_a_dead_one() -> None:
    made = ready_connector(heartbeat_s=100)
    for at in (100, 200):
        assert len(made.handle(Tick(), now=at)) == 2
    assert made.deadline == 205
