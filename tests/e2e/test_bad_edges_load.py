"""Edges that are too slow, too silent or too much for a hub from the .pyz: see what `beside` shows of each."""

import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress

import pytest

from tests.support.bad_peer import PING, PONG, TEXT, answer_on, answer_to, frame
from tests.support.bystanders import DEAD_AFTER_S, SETTINGS, Stage, stage
from tests.support.peers import requires
from tests.support.processes import eventually

pytestmark = requires("pyz")

REFUSED, NOT_READY = "edge refused", "edge gone before it was ready"
GONE, DOWN = "edge disconnected", "server down"  # the link has ended; the server behind it is no good
REMARK = "remark on a link"
STRAY = {"jsonrpc": "2.0", "id": 987_654, "result": {"content": []}}
HANDSHAKE_S = 2.0
MAX_LINKS = 64  # of an edge, by default
assert SETTINGS["handshake_timeout_s"] == HANDSHAKE_S


@pytest.fixture(scope="module")
def site() -> Iterator[Stage]:
    with stage() as found:
        yield found


# -- answers that nobody asked for


def test_answers_to_calls_never_made_are_dropped(site: Stage) -> None:
    with site.beside() as bad:
        peer, second, third = bad.peer(), f"{bad.name}-2", f"{bad.name}-3"
        link, events, polls = (
            bad.open(peer.registered()),
            bad.open(peer.events(second)),
            peer.polls(name=third),
        )
        bad.works(events, second)
        bad.works(polls, third)
        for n in range(50):
            stray = {**STRAY, "id": n}
            link.say("response", payload=stray)
            assert events.post(stray) == 202
            assert polls.respond({"request_id": f"{n:016x}", "response": stray}) == 200
        bad.works(link)
        bad.works(events, second)
        bad.works(polls, third)


def test_of_two_answers_to_a_call_the_first_counts(site: Stage) -> None:
    with site.beside() as bad, ThreadPoolExecutor(1) as threads:
        link = bad.open(bad.peer().registered())
        bad.works(link)
        call = threads.submit(site.client.text, f"{bad.name}__echo", text="first")
        while not any(asked["method"] == "tools/call" for asked in link.calls[-1:]) or not call.done():
            link.serve(lambda: call.done())
        again = answer_to(link.calls[-1])
        assert again is not None
        again["result"] = {"content": [{"type": "text", "text": "second"}]}
        link.say("response", payload=again)
        assert call.result() == "first"
        bad.works(link)


# -- floods


def test_a_flood_of_rubbish_closes_with_1008(site: Stage) -> None:
    with site.beside(REMARK, noted=[GONE]) as bad:
        link = bad.open(bad.peer().registered())
        with suppress(ConnectionError):
            for _ in range(200):
                link.text("rubbish")
        assert link.close_code() == 1008


def test_a_flood_of_heartbeats_is_answered_once_a_second(site: Stage) -> None:
    with site.beside() as bad:
        link = bad.open(bad.peer().registered())
        begun = time.monotonic()
        for _ in range(5000):
            link.say("heartbeat")
        bad.works(link)
        answers = [said for said in link.heard if said["type"] == "heartbeat"]
        assert 1 <= len(answers) <= 2 + time.monotonic() - begun


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_a_flood_of_pings_and_pongs_fills_nothing(site: Stage, opcode: int) -> None:
    with site.beside() as bad:
        link = bad.open(bad.peer().registered())
        flood = frame(opcode, b"x" * 125) * 500
        for _ in range(40):
            link.connection.sendall(flood)
        bad.works(link)


def test_a_flood_of_requests_whose_answers_nobody_takes_is_bounded(site: Stage) -> None:
    with site.beside("server asks but does not read the answers", more_bytes=64 * 1024 * 1024) as bad:
        link = bad.open(bad.peer().websocket("/reverse-proxy/ws", 4096))
        link.register(bad.name)
        bad.works(link)
        # Ids are in the answers: 88 MB of them, for few enough requests to be through before the hub has had enough.
        ask = b'{"type":"response","payload":{"jsonrpc":"2.0","id":"%s","method":"ping"}}' % (b"x" * 1000)
        flood = frame(TEXT, ask) * 1000
        for _ in range(88):
            link.connection.sendall(flood)


def test_a_flood_of_registrations_stops(site: Stage) -> None:
    with site.beside(GONE) as bad:
        link = bad.open(bad.peer().registered())
        with suppress(ConnectionError):
            for _ in range(150):
                link.register(bad.name)
        assert link.close_code() == 1008


def test_a_flood_of_posts_is_taken_and_told_once(site: Stage) -> None:
    with site.beside(REMARK) as bad:
        peer = bad.peer()
        events = bad.open(peer.events())
        bad.works(events)
        request = peer.head("POST", f"/mcp-reverse/message?sessionId={events.session}", 7) + b"rubbish"
        with closing(peer.connect()) as connection:
            for _ in range(100):
                connection.sendall(request * 20)
                for _ in range(20):
                    assert answer_on(connection).status == 202
        bad.works(events)


def test_a_flood_of_sessions_meets_a_limit(site: Stage) -> None:
    with site.beside(REFUSED) as bad:
        peer = bad.peer()
        request, answers = peer.head("POST", "/register", 2) + b"{}", []
        with closing(peer.connect()) as connection:
            for _ in range(400):
                connection.sendall(request)
                answers.append(answer_on(connection))
        refused = [answer for answer in answers if answer.status != 200]
        assert len(refused) > 0
        assert {answer.status for answer in refused} == {503}
        assert all("retry-after" in answer.headers for answer in refused)


def test_a_flood_of_links_meets_a_limit(site: Stage) -> None:
    with site.beside(REFUSED) as bad:
        peer, links = bad.peer(), []
        for n in range(MAX_LINKS):
            link = bad.open(peer.websocket())
            link.register(f"{bad.name}-{n}")
            link.until("register_ack")
            links.append(link)
            for each in links:  # the first ones must live until the last ones are there
                each.say("heartbeat")
        for n in range(MAX_LINKS, MAX_LINKS + 5):
            link = bad.open(peer.websocket())
            link.register(f"{bad.name}-{n}")
            assert link.close_code() == 1013


def test_a_flood_of_connections_is_got_rid_of(site: Stage) -> None:
    with site.beside() as bad, ExitStack() as stack:
        peer = bad.peer()
        begun = time.monotonic()
        silent = [stack.enter_context(closing(peer.tcp())) for _ in range(300)]
        secured = [stack.enter_context(closing(peer.connect())) for _ in range(50)]
        for connection in secured:
            connection.sendall(b"GET /reverse-proxy/ws HTTP/1.1\r\n")
        for each in silent:
            assert each.recv(1) == b""
        for connection in secured:
            assert answer_on(connection).status == 408
        assert time.monotonic() - begun < HANDSHAKE_S + 20


def test_many_polls_of_one_session_are_let_go(site: Stage) -> None:
    with site.beside(noted=[REMARK]) as bad, ThreadPoolExecutor(40) as threads:
        polls = bad.peer().polls()
        bad.works(polls)
        held = [threads.submit(polls.poll) for _ in range(40)]
        assert {each.result().status for each in held} == {204}
        bad.works(polls)


def test_an_edge_that_reads_nothing_holds_up_its_own_calls_only(site: Stage) -> None:
    # 60 bodies of 200 kB, as text and as bytes, with what is read ahead: 88 MiB were seen on a slow machine.
    with site.beside(GONE, more_bytes=112 * 1024 * 1024) as bad, ThreadPoolExecutor(60) as threads:
        link = bad.open(bad.peer().websocket("/reverse-proxy/ws", 4096))
        link.register(bad.name)
        bad.works(link)
        calls = [threads.submit(site.client.call, f"{bad.name}__echo", text="x" * 200_000) for _ in range(60)]
        codes = {call.result()["error"]["code"] for call in calls}
        assert codes <= {-32010, -32011, -32012}


# -- slow bytes and silence


def trickle(connection: socket.socket, data: bytes) -> bytes:
    """Send it byte after byte, until the other end says that it has had enough: what it says."""
    connection.settimeout(0.1)
    for at in range(len(data)):
        with suppress(TimeoutError, ssl.SSLWantReadError):
            return connection.recv(65536)
        connection.sendall(data[at : at + 1])
    raise AssertionError("all of it was taken")


def test_a_tls_handshake_that_trickles_is_not_waited_for(site: Stage) -> None:
    with site.beside() as bad, closing(bad.peer().tcp()) as raw:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with suppress(ssl.SSLWantReadError):
            bad.peer().tls.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
        with suppress(ConnectionError):
            assert trickle(raw, outgoing.read()) == b""


@pytest.mark.parametrize("target", ["/reverse-proxy/ws", "/mcp-reverse/sse", "/poll?session_id=x"])
def test_a_head_that_trickles_is_answered_408(site: Stage, target: str) -> None:
    with site.beside() as bad:
        peer = bad.peer()
        with closing(peer.connect()) as connection:
            assert trickle(connection, peer.head("GET", target)).startswith(b"HTTP/1.1 408")


def test_an_edge_that_never_registers_is_closed_with_1008(site: Stage) -> None:
    with site.beside(NOT_READY) as bad:
        assert bad.open(bad.peer().websocket()).close_code() == 1008


def test_a_frame_that_trickles_is_no_sign_of_life(site: Stage) -> None:
    with site.beside(GONE) as bad:
        link = bad.open(bad.peer().registered())
        bad.works(link)
        begun = time.monotonic()
        with pytest.raises(OSError) as caught:
            trickle_on(link.connection, frame(TEXT, b'{"type":"heartbeat"' + b" " * 600))
        assert not isinstance(caught.value, TimeoutError)
        assert time.monotonic() - begun < 4 * DEAD_AFTER_S


def trickle_on(connection: socket.socket, data: bytes) -> None:
    """Byte after byte, whatever the other end says."""
    for at in range(len(data)):
        connection.sendall(data[at : at + 1])
        time.sleep(0.1)


def test_a_websocket_without_a_sign_of_life_is_given_up(site: Stage) -> None:
    with site.beside(GONE) as bad:
        link = bad.open(bad.peer().registered())
        bad.works(link)
        begun = time.monotonic()
        while True:  # it is pinged, and never answers
            try:
                link.hear()
            except (EOFError, ConnectionError):
                break
        assert time.monotonic() - begun < 4 * DEAD_AFTER_S


def test_an_edge_that_polls_no_more_is_given_up(site: Stage) -> None:
    with site.beside(GONE) as bad:
        polls = bad.peer().polls()
        bad.works(polls)
        eventually(lambda: bad.name not in {each["user"] for each in site.sessions()})
        assert polls.respond({"request_id": "0" * 16, "response": STRAY}) == 404


def test_an_edge_that_registers_and_never_polls_is_given_up(site: Stage) -> None:
    with site.beside(NOT_READY) as bad:
        bad.peer().polls()
        eventually(lambda: bad.name not in {each["user"] for each in site.sessions()})


def test_what_has_a_minute_is_given_up_after_it(site: Stage) -> None:
    """Bodies that trickle have 60 s; an event stream whose edge never answers is asked after 30 s, and has 10 s."""
    with site.beside(DOWN) as bad, ThreadPoolExecutor(3) as threads:
        peer = bad.peer()
        events = bad.open(peer.events())
        bad.works(events)
        targets = ["/register", f"/mcp-reverse/message?sessionId={events.session}"]

        def post(target: str) -> bytes:
            with closing(peer.connect()) as connection:
                connection.sendall(peer.head("POST", target, 1000))
                return trickle(connection, b"{" + b" " * 998)

        answers = [threads.submit(post, target) for target in targets]
        ended = threads.submit(events.ended)
        for answer in answers:
            assert answer.result().startswith(b"HTTP/1.1 408")
        assert ended.result()
