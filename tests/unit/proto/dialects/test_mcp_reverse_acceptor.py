from typing import Any

import pytest

from edge.errors import LocalProtocolError
from edge.proto.dialect import (
    Alive,
    CloseCarrier,
    Closed,
    Comment,
    Deliver,
    Discovered,
    Event,
    LinkState,
    Lost,
    Opened,
    Push,
    Received,
    Requested,
    RequestGone,
    Respond,
    Send,
    Stop,
    Tick,
    Written,
)
from edge.proto.dialects.mcp_reverse.acceptor import McpReverseAcceptor, Quirks


def opened(*, own: bool = False, **more: Any) -> McpReverseAcceptor:
    """At second 0."""
    end = McpReverseAcceptor(session="box-1-a", own=own, **more)
    end.handle(Opened({"x-mcp-server-name": "box"}), now=0)
    return end


@pytest.mark.parametrize(("heartbeat_s", "first"), [(5, 5), (15, 15), (25, 15)])
def test_the_heartbeat_comes_before_a_real_edge_would_leave(heartbeat_s: float, first: float) -> None:
    end = opened(heartbeat_s=heartbeat_s)

    assert end.deadline == first
    assert end.handle(Tick(), now=first) == [Comment("ping")]
    assert end.deadline == 2 * first


def test_an_edge_that_waits_longer_may_be_told_so() -> None:
    assert opened(heartbeat_s=25, quirks=Quirks(edge_dies_after_s=90)).deadline == 25


def test_the_202_goes_out_before_the_message_is_looked_at() -> None:
    answer, message = opened().handle(Requested(4, "message", ' {"a":\n1}'), now=1)

    assert answer == Respond(4, 202, "", "text/plain")
    assert message == Deliver(' {"a":\n1}')


def test_an_empty_post_of_a_foreign_edge_is_taken() -> None:
    assert opened().handle(Requested(4, "message"), now=1) == [Respond(4, 202, "", "text/plain")]


def test_another_kind_of_request_is_not_found() -> None:
    assert opened().handle(Requested(4, "poll"), now=1) == [Respond(4, 404, "Not found", "text/plain")]


@pytest.mark.parametrize(
    "event", [RequestGone(1), Written(1), Alive(), Discovered(), Discovered("bad"), Tick()]
)
def test_what_says_nothing_new_has_no_effect(event: Event) -> None:
    end = opened()

    assert end.handle(event, now=1) == []
    assert end.state is LinkState.READY


def test_a_stop_ends_the_stream() -> None:
    assert opened().handle(Stop("replaced", 1008), now=1) == [
        CloseCarrier(1008, "replaced"),
        Lost("replaced"),
    ]
    assert McpReverseAcceptor(session="s", own=False).handle(Stop("no"), now=1) == [Lost("no")]


def test_after_the_end_nothing_follows() -> None:
    end = opened()
    end.handle(Closed("gone"), now=1)

    assert end.handle(Requested(1, "message", "{}"), now=2) == []
    assert end.handle(Tick(), now=2) == []
    assert end.doubt(now=2) == []
    assert end.deadline is None


def test_before_the_opening_there_is_nothing_to_do() -> None:
    end = McpReverseAcceptor(session="s", own=True)

    assert end.handle(Tick(), now=1) == []
    with pytest.raises(LocalProtocolError):
        end.handle(Send("{}"), now=1)
    assert end.state is LinkState.IDLE


def test_events_that_only_connectors_know_are_a_bug() -> None:
    with pytest.raises(LocalProtocolError):
        opened().handle(Received("{}"), now=1)


def test_doubt_writes_to_a_foreign_edge_and_nothing_more() -> None:
    end = opened()

    assert end.doubt(now=1) == [Comment("ping")]
    assert end.deadline == 15


def test_an_edge_of_ours_that_was_asked_and_stays_silent_is_given_up() -> None:
    end = opened(own=True, doubt_s=10)
    assert end.doubt(now=1) == [Push("")]
    assert end.doubt(now=2) == []
    assert end.deadline == 11

    commands = end.handle(Tick(), now=11)

    assert commands[-1] == Lost("no sign of life from the edge")


def test_doubt_does_not_lengthen_the_patience() -> None:
    end = opened(own=True, dead_after_s=20, doubt_s=10)
    end.doubt(now=15)

    assert end.handle(Tick(), now=20)[-1] == Lost("no sign of life from the edge")


def test_a_process_that_was_stopped_asks_before_it_gives_up() -> None:
    end = opened(own=True, dead_after_s=60, doubt_s=10)

    assert end.handle(Tick(), now=500) == [Push(""), Comment("ping")]
    assert end.handle(Requested(1, "message"), now=501) == [
        Respond(1, 202, "", "text/plain"),
        Comment("here"),
    ]
    assert end.handle(Tick(), now=520) == [Comment("ping")]
    assert end.state is LinkState.READY
