"""Edges that do what they should not, against a hub from the .pyz over TLS: see what `beside` shows of each.

Whatever a bad edge does, the three links of a good one are called all the time, and the log has one line about it.
"""

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from tests.support.bad_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    OWN_HEADER,
    PING,
    TEXT,
    Refused,
    answer_on,
    frame,
)
from tests.support.bystanders import MAX_MESSAGE_BYTES, Stage, stage
from tests.support.peers import requires
from tests.support.processes import eventually

pytestmark = requires("pyz")

REFUSED, GONE = "edge refused", "edge disconnected"
STRAY = {"jsonrpc": "2.0", "id": 987_654, "result": {"content": []}}
REMARK, NO_MESSAGE = "remark on a link", "an edge sent what is no JSON-RPC message"
REPLACED = "mcp_edge_hub_links_replaced_total"


@pytest.fixture(scope="module")
def site() -> Iterator[Stage]:
    with stage() as found:
        yield found


# -- who it is


def test_a_wrong_token_opens_nothing(site: Stage) -> None:
    with site.beside(REFUSED) as bad:
        peer = bad.peer(token="wrong")
        for path in ("/reverse-proxy/ws", "/v1/reverse-proxy/ws"):
            with pytest.raises(Refused, match="401"), peer.websocket(path):
                pass
        with pytest.raises(Refused, match="401"), peer.events():
            pass
        assert peer.register().status == 401
        assert peer.ask("GET", "/poll?session_id=0123456789abcdef0123456789abcdef").status == 401
        assert peer.ask("GET", "/reverse-proxy/sessions").status == 403


def test_no_token_opens_nothing(site: Stage) -> None:
    with site.beside(REFUSED) as bad:
        peer = bad.peer(token=None)
        with pytest.raises(Refused, match="401"), peer.websocket():
            pass
        with pytest.raises(Refused, match="401"), peer.events():
            pass
        assert peer.register().status == 401
        assert peer.ask("POST", "/mcp-reverse/message?sessionId=x", b"{}").status in (401, 404)


def test_another_edges_name_is_refused(site: Stage) -> None:
    with site.beside(REFUSED) as bad:
        peer = bad.peer()
        with peer.websocket() as socket:
            socket.register("good-contextforge")
            assert socket.close_code() == 1008
        with pytest.raises(Refused, match="403"), peer.events("good-mcp-reverse"):
            pass
        assert peer.register(name="good-long-poll").status == 403


# -- sessions and links of others


def test_a_session_is_of_use_only_with_the_token_that_opened_it(site: Stage) -> None:
    with site.beside(REFUSED) as bad:
        owner = bad.peer()
        events, polls = bad.open(owner.events()), owner.polls(name=f"{bad.name}-2")
        bad.works(polls, f"{bad.name}-2")
        thief = bad.another()
        assert thief.ask("POST", f"/mcp-reverse/message?sessionId={events.session}", STRAY).status == 401
        assert thief.ask("GET", f"/poll?session_id={polls.session}").status == 404
        answer = {"request_id": "0" * 16, "response": STRAY}
        assert thief.ask("POST", f"/response?session_id={polls.session}", answer).status == 404
        bad.works(polls, f"{bad.name}-2")
        bad.works(events)


def test_a_session_of_one_dialect_is_none_in_another(site: Stage) -> None:
    with site.beside() as bad:
        peer = bad.peer()
        socket = bad.open(peer.registered())
        [session] = [each["session_id"] for each in site.sessions() if each["user"] == bad.name]
        assert peer.ask("POST", f"/mcp-reverse/message?sessionId={session}", STRAY).status == 404
        assert peer.ask("GET", f"/poll?session_id={session}").status == 404
        assert peer.ask("POST", f"/response?session_id={session}", b"{}").status == 404
        bad.works(socket)


def test_a_session_that_is_over_is_not_found(site: Stage) -> None:
    with site.beside(GONE) as bad:
        with bad.peer().events() as events:
            bad.works(events)
        eventually(lambda: events.post(STRAY) == 404)


def test_the_id_of_anothers_link_opens_a_new_one(site: Stage) -> None:
    with site.beside() as bad:
        victim = bad.open(bad.peer().registered(MCP_Edge_Link="v=1"))
        thief = bad.another()
        replayed = {OWN_HEADER: f"v=1; link={victim.link}; received=0"}
        socket = bad.open(thief.registered(**replayed))
        assert "received=0" in socket.headers[OWN_HEADER.lower()]
        assert socket.link != victim.link
        with thief.events(f"{thief.edge}-2", **replayed) as events:
            assert victim.link not in events.headers[OWN_HEADER]
        bad.works(victim)


def test_the_id_of_a_link_that_is_over_opens_a_new_one(site: Stage) -> None:
    with site.beside(GONE) as bad:
        with bad.peer().registered(MCP_Edge_Link="v=1") as first:
            bad.works(first)
            first.text("0 ")
            assert first.close_code() == 1002
        second = bad.open(bad.peer().registered(**{OWN_HEADER: f"v=1; link={first.link}; received=0"}))
        assert second.link != first.link


def test_of_polls_from_two_places_the_newer_is_served_and_nothing_twice(site: Stage) -> None:
    with site.beside(noted=[REMARK]) as bad, ThreadPoolExecutor(8) as threads:
        here, there = bad.peer(), bad.peer()
        polls = here.polls()
        bad.works(polls)
        target = f"/poll?session_id={polls.session}"
        held = [threads.submit(peer.ask, "GET", target) for peer in (here, there) * 3]
        call = threads.submit(site.client.text, f"{bad.name}__echo", text="once")
        while not call.done():
            for each in [each for each in held if each.done()]:
                held.remove(each)
                answer = each.result()
                assert answer.status in (200, 204)
                if answer.status == 200:
                    polls.answer(answer)
            if not held:
                held.append(threads.submit(there.ask, "GET", target))
        assert call.result() == "once"
        asked = [each for each in polls.calls if each.get("params", {}).get("arguments") == {"text": "once"}]
        assert len(asked) == 1
        for each in held:
            assert each.result().status in (200, 204)


# -- registering


def test_frames_before_the_registration_do_no_harm(site: Stage) -> None:
    with site.beside() as bad:
        socket = bad.open(bad.peer().websocket())
        for kind in ("heartbeat", "response", "notification", "request", "unheard-of"):
            socket.say(kind, payload=STRAY)
        socket.register(bad.name)
        bad.works(socket)


def test_what_belongs_to_a_session_is_refused_before_there_is_one(site: Stage) -> None:
    with site.beside() as bad:
        peer = bad.peer()
        assert peer.ask("POST", "/mcp-reverse/message", STRAY).status == 400
        assert peer.ask("POST", "/mcp-reverse/message?sessionId=never-seen", STRAY).status == 404
        assert peer.ask("GET", "/poll").status == 400
        assert peer.ask("GET", "/poll?session_id=../../etc").status == 404
        assert peer.ask("POST", "/response", STRAY).status == 400
        assert peer.ask("POST", f"/response?session_id={'a' * 32}", STRAY).status == 404


def test_a_second_registration_under_the_same_name_is_acknowledged(site: Stage) -> None:
    with site.beside() as bad:
        socket = bad.open(bad.peer().registered())
        socket.register(bad.name)
        socket.until("register_ack")
        bad.works(socket)


def test_a_second_registration_under_another_name_ends_the_link(site: Stage) -> None:
    with site.beside(GONE) as bad:
        socket = bad.open(bad.peer().registered())
        bad.works(socket)
        socket.register(f"{bad.name}-2")
        assert socket.close_code() == 1008


@pytest.mark.parametrize("dialect", ["contextforge", "mcp-reverse", "long-poll"])
def test_the_newest_connection_of_a_name_takes_it_over(site: Stage, dialect: str) -> None:
    before = site.metric(REPLACED)
    with site.beside(GONE) as bad:
        peer = bad.peer()
        if dialect == "contextforge":
            old = bad.open(peer.registered())
            bad.works(old)
            bad.works(bad.open(peer.registered()))
            assert old.close_code() == 1000
        elif dialect == "mcp-reverse":
            older = bad.open(peer.events())
            bad.works(older)
            newer = bad.open(peer.events())
            newer.serve(lambda: len(newer.calls) > 0)
            bad.works(newer)
            assert older.ended()
            assert older.post(STRAY) == 404
        else:
            oldest = peer.polls()
            bad.works(oldest)
            newest = peer.polls()
            newest.answer(newest.poll())
            bad.works(newest)
            assert oldest.poll().status == 404
    assert site.metric(REPLACED) == before + 1


def test_a_registration_of_the_wrong_types_is_none(site: Stage) -> None:
    with site.beside(REMARK) as bad:
        peer = bad.peer()
        socket = bad.open(peer.websocket())
        socket.say("register", server={"name": 7})
        socket.say("register", server=[])
        socket.say("register")
        socket.until("error")
        socket.register(bad.name)
        bad.works(socket)
        for body in (b"no JSON", b"\xff\xfe", b"[" * 60_000):
            assert peer.ask("POST", "/register", body).status == 400


# -- frames


def test_unknown_frames_are_passed_over(site: Stage) -> None:
    with site.beside() as bad:
        socket = bad.open(bad.peer().registered())
        for kind in ("unheard-of", "request", "error", "register_ack", "register_complete"):
            socket.say(kind, payload={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        bad.works(socket)


def test_messages_of_methods_that_nobody_knows_are_passed_over(site: Stage) -> None:
    note, request = {"jsonrpc": "2.0", "method": "unheard/of"}, {"jsonrpc": "2.0", "id": 5, "method": "x/y"}
    with site.beside() as bad:
        peer = bad.peer()
        events = bad.open(peer.events())
        bad.works(events)
        assert [events.post(each) for each in (note, request)] == [202, 202]
        bad.works(events)
        assert peer.ask("POST", "/mcp-reverse/unheard-of", note).status == 404
        assert peer.ask("PUT", "/register", note).status == 405
        polls = peer.polls(name=f"{bad.name}-2")
        bad.works(polls, f"{bad.name}-2")
        assert polls.respond({"request_id": "0" * 16, "response": request}) == 200
        bad.works(polls, f"{bad.name}-2")


WRONG = [
    "no JSON",
    "[1, 2]",
    "null",
    '"text"',
    '{"type": 7}',
    '{"type": "response", "payload": "x"}',
    "1 0 {}",
    "[" * 100_000,
]


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:30])
def test_a_frame_of_the_wrong_form_is_complained_of_once(site: Stage, text: str) -> None:
    with site.beside(REMARK) as bad:
        socket = bad.open(bad.peer().registered())
        for _ in range(5):
            socket.text(text)
        socket.until("error")
        bad.works(socket)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no JSON", REMARK),
        ("[1, 2]", REMARK),
        ("null", REMARK),
        ('"text"', REMARK),
        ("[" * 100_000, REMARK),
        ("{}", NO_MESSAGE),
        ('{"jsonrpc": 2}', NO_MESSAGE),
        ('{"jsonrpc": "2.0", "id": [], "result": 1}', NO_MESSAGE),
    ],
    ids=lambda text: text[:30],
)
def test_a_post_of_the_wrong_form_is_complained_of_once(site: Stage, text: str, said: str) -> None:
    with site.beside(said) as bad:
        events = bad.open(bad.peer().events())
        bad.works(events)
        assert {events.post(text.encode()) for _ in range(5)} == {202}
        bad.works(events)


@pytest.mark.parametrize("text", ["no JSON", "[1, 2]", "{}", '{"request_id": 1, "response": {}}'])
def test_an_answer_to_a_poll_of_the_wrong_form_is_refused(site: Stage, text: str) -> None:
    with site.beside() as bad:
        polls = bad.peer().polls()
        bad.works(polls)
        assert {polls.respond(text.encode()) for _ in range(5)} == {400}
        bad.works(polls)


def test_what_is_no_text_is_no_message(site: Stage) -> None:
    with site.beside(REMARK) as bad:
        peer = bad.peer()
        socket = bad.open(peer.registered())
        for _ in range(5):
            socket.send(BINARY, b"\x00\xff\x01")
        socket.until("error")
        bad.works(socket)
        events = bad.open(peer.events(f"{bad.name}-2"))
        assert events.post(b"\xff\xfe\x00") == 400
        polls = peer.polls(name=f"{bad.name}-3")
        assert polls.respond(b"\xff\xfe\x00") == 400


TOO_MUCH = b'{"x":"' + b"x" * MAX_MESSAGE_BYTES + b" " * 70_000 + b'"}'


def test_an_oversized_frame_closes_with_1009(site: Stage) -> None:
    with site.beside(GONE) as bad:
        socket = bad.open(bad.peer().registered())
        bad.works(socket)
        with suppress(ConnectionError):
            socket.send(TEXT, TOO_MUCH)
        assert socket.close_code() == 1009


def test_a_message_in_fragments_without_end_closes_with_1009(site: Stage) -> None:
    with site.beside(GONE) as bad:
        socket = bad.open(bad.peer().registered())
        bad.works(socket)
        socket.send(TEXT, b"{", final=False)
        with suppress(ConnectionError):
            for _ in range(3 * MAX_MESSAGE_BYTES // 4096):
                socket.send(CONTINUATION, b" " * 4096, final=False)
        assert socket.close_code() == 1009


def test_a_frame_that_announces_more_than_there_is_memory_closes_with_1009(site: Stage) -> None:
    with site.beside(GONE) as bad:
        socket = bad.open(bad.peer().registered())
        bad.works(socket)
        socket.connection.sendall(bytes([0x81, 0xFF]) + struct.pack("!Q", 1 << 40) + bytes(4))
        with suppress(ConnectionError):
            for _ in range(100):
                socket.connection.sendall(b"x" * 16384)
        assert socket.close_code() == 1009


def test_oversized_bodies_are_answered_413(site: Stage) -> None:
    with site.beside() as bad:
        peer = bad.peer()
        events, polls = bad.open(peer.events()), peer.polls(name=f"{bad.name}-2")
        bad.works(events)
        bad.works(polls, f"{bad.name}-2")
        assert events.post(TOO_MUCH) == 413
        assert polls.respond(TOO_MUCH) == 413
        assert peer.ask("POST", "/register", TOO_MUCH).status == 413
        with closing(peer.connect()) as connection:  # announced only
            connection.sendall(peer.head("POST", "/register", 1 << 40))
            assert answer_on(connection).status == 413
        bad.works(events)
        bad.works(polls, f"{bad.name}-2")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"{}", masked=False), 1002),
        (frame(TEXT, b"{}", reserved=True), 1002),
        (frame(3, b"{}"), 1002),
        (frame(CONTINUATION, b"{}"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, b"x", final=False), 1002),
        (frame(CLOSE, struct.pack("!H", 99)), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(TEXT, b"\xff\xfe"), 1007),
    ],
    ids=[
        "unmasked",
        "reserved",
        "opcode",
        "continued",
        "long-ping",
        "cut-ping",
        "code",
        "half-code",
        "utf-8",
    ],
)
def test_a_breach_of_rfc_6455_closes_with_its_code(site: Stage, data: bytes, code: int) -> None:
    with site.beside(GONE) as bad:
        socket = bad.open(bad.peer().registered())
        bad.works(socket)
        socket.connection.sendall(data)
        assert socket.close_code() == code


@pytest.mark.parametrize("text", ["99 0 {}", "0 99", "0 99 {}", "1 0 ", "1  {}", "01 0 {}", "9" * 100])
def test_a_link_of_ours_that_miscounts_ends(site: Stage, text: str) -> None:
    with site.beside(GONE) as bad:
        socket = bad.open(bad.peer().registered(MCP_Edge_Link="v=1"))
        bad.works(socket)
        socket.text(text)
        assert socket.close_code() == 1002


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{} 0 no JSON", NO_MESSAGE),
        ("x y", REMARK),
        ('{"type":"response","payload":{"jsonrpc":"2.0","id":1,"result":{}}}', REMARK),
    ],
)
def test_a_link_of_ours_outlives_what_is_no_message(site: Stage, text: str, said: str) -> None:
    with site.beside(said) as bad:
        socket = bad.open(bad.peer().registered(MCP_Edge_Link="v=1"))
        bad.works(socket)
        for _ in range(5):
            socket.numbered += text.startswith("{} ")
            socket.text(text.replace("{} ", f"{socket.numbered} "))
        bad.works(socket)
