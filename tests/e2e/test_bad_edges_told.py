"""How an edge that is no good, or leaves, is told of by a hub from the .pyz: in one line, a goodbye in no warning."""

import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.appliance import running
from tests.support.bad_peer import CLOSE, TEXT, RawWebSocket
from tests.support.bystanders import Stage, stage
from tests.support.links import DIALECTS, JSON_LOG, toy_server, until_edge, until_linked
from tests.support.peers import requires
from tests.support.processes import eventually

pytestmark = requires("pyz")

REFUSED, NOT_READY = "edge refused", "edge gone before it was ready"
GONE, DOWN = "edge disconnected", "server down"  # the link has ended; the server behind it is no good


@pytest.fixture(scope="module")
def site() -> Iterator[Stage]:
    with stage() as found:
        yield found


def test_a_registration_of_the_wrong_types_and_then_silence_is_one_line(site: Stage) -> None:
    with site.beside(NOT_READY) as bad:
        socket = bad.open(bad.peer().websocket())
        socket.say("register", server={"name": 7})
        assert socket.close_code() == 1008
        [line] = bad.lines(NOT_READY)
        assert line["reason"].startswith("no registration within 2 s; before that: a register frame")


def test_a_server_that_refuses_to_be_initialized_is_said_to_be_down(site: Stage) -> None:
    with site.beside(DOWN) as bad:
        for _ in range(3):  # it comes again, which is no news
            socket = bad.open(bad.peer().websocket())
            socket.register(bad.name)
            refusal = {
                "jsonrpc": "2.0",
                "id": asked_first(socket)["id"],
                "error": {"code": -1, "message": "never"},
            }
            socket.say("response", payload=refusal)
            assert socket.close_code() == 1008
        [line] = bad.lines(DOWN)
        assert (line["server"], line["reason"]) == (bad.name, "refused initialize: never (-1)")


def asked_first(socket: RawWebSocket) -> dict[str, Any]:
    """The hub's first request, which is left without an answer."""
    while True:
        opcode, payload = socket.hear()
        if opcode == TEXT and (said := json.loads(payload))["type"] == "request":
            return dict(said["payload"])


@pytest.mark.parametrize("dialect", [*DIALECTS, "ours"])
def test_a_malformed_answer_to_initialize_and_then_silence_is_one_line(site: Stage, dialect: str) -> None:
    malformed = {"jsonrpc": "2.0", "id": 1, "result": 1, "error": 2}
    with site.beside(DOWN) as bad:
        peer = bad.peer()
        match dialect:
            case "contextforge":
                socket = bad.open(peer.websocket())
                socket.register(bad.name)
                assert asked_first(socket)["method"] == "initialize"
                socket.say("response", payload=malformed)
                assert socket.close_code() == 1008
            case "ours":
                socket = bad.open(peer.websocket(MCP_Edge_Link="v=1"))
                socket.register(bad.name)
                while not (heard := socket.hear())[1].startswith(b"1 0 {"):
                    pass
                assert b'"initialize"' in heard[1]
                socket.text(f"1 1 {json.dumps(malformed)}")
                assert socket.close_code() == 1000
            case "mcp-reverse":
                events = bad.open(peer.events())
                assert events.next()["method"] == "initialize"
                assert events.post(malformed) == 202
                assert events.ended()
            case "long-poll":
                polls = peer.polls()
                asked = polls.poll().json()
                assert asked["request"]["method"] == "initialize"
                polls.respond({"request_id": asked["request_id"], "response": malformed})
        eventually(lambda: bad.name not in {each["user"] for each in site.sessions()})
        [line] = bad.lines(DOWN)
        assert line["reason"].startswith("refused initialize: ")


def test_what_answers_nothing_and_then_silence_is_one_line_that_has_both(site: Stage) -> None:
    """Both ends at once, as the hub waits for half a minute."""
    cut = '{"jsonrpc": "2.0", "id": 1, "resu'
    with site.beside(DOWN) as foreign, site.beside(DOWN) as own, ThreadPoolExecutor(2) as threads:
        socket = foreign.open(foreign.peer().websocket())
        socket.register(foreign.name)
        assert asked_first(socket)["method"] == "initialize"
        socket.text(cut)
        ours = own.open(own.peer().websocket(MCP_Edge_Link="v=1"))
        ours.register(own.name)
        while not ours.hear()[1].startswith(b"1 0 {"):
            pass
        ours.text(f"1 1 {cut}")
        codes = threads.map(lambda each: each.close_code(60), (socket, ours))  # pongs are sent meanwhile
        assert list(codes) == [1008, 1000]
        for bad, said in (
            (foreign, "a frame that is no JSON object"),
            (own, "what is no JSON-RPC message ("),
        ):
            [line] = bad.lines(DOWN)
            assert line["reason"].startswith(f"no answer in 30 s; before that: {said}")


def test_an_edge_that_leaves_with_its_first_list_unread_is_one_line(site: Stage) -> None:
    with site.beside(GONE) as bad:
        polls = bad.peer().polls()
        while not any(call["method"] == "notifications/initialized" for call in polls.calls):
            polls.answer(polls.poll())
        eventually(lambda: bad.name not in {each["user"] for each in site.sessions()})
        [line] = bad.lines(GONE)
        assert line["reason"].startswith("the edge is away: no poll for")


# -- goodbyes


@pytest.mark.parametrize("own", [False, True], ids=["foreign", "ours"])
def test_an_edge_that_unregisters_has_left_without_a_warning(site: Stage, own: bool) -> None:
    with site.beside(noted=[GONE]) as bad:
        fields = {"MCP_Edge_Link": "v=1"} if own else {}
        socket = bad.open(bad.peer().registered(**fields))
        bad.works(socket)
        socket.say("unregister")
        assert socket.close_code() == 1000


def test_an_edge_that_closes_in_an_orderly_way_has_left_without_a_warning(site: Stage) -> None:
    with site.beside(noted=[GONE, GONE]) as bad:
        peer = bad.peer()
        socket = bad.open(peer.registered())
        bad.works(socket)
        socket.send(CLOSE, struct.pack("!H", 1000))
        assert socket.close_code() == 1000
        events = bad.open(peer.events(f"{bad.name}-2"))
        bad.works(events, f"{bad.name}-2")
        events.leave()
        eventually(lambda: bad.name not in {each["user"] for each in site.sessions()})


def test_an_edge_that_leaves_before_it_registers_is_no_warning(site: Stage) -> None:
    with site.beside(noted=[NOT_READY]) as bad:
        socket = bad.open(bad.peer().websocket())
        socket.say("unregister")
        assert socket.close_code() == 1000


def test_an_edge_of_ours_that_is_stopped_has_left_without_a_warning(site: Stage) -> None:
    with site.beside(noted=[GONE] * len(DIALECTS)) as bad:
        uplinks = [
            site.place.uplink(bad.name, site.hub.hub, dialect, dialect, link_name=f'"{bad.name}-{dialect}"')
            for dialect in DIALECTS
        ]
        with running(f'name = "{bad.name}"\n{JSON_LOG}{toy_server()}{"".join(uplinks)}') as edge:
            until_linked(edge)
            for dialect in DIALECTS:
                until_edge(site.hub, f"{bad.name}-{dialect}")
            assert edge.stop() == 0
        eventually(lambda: bad.name not in {each["user"] for each in site.sessions()})


def test_an_edge_of_ours_that_may_not_have_its_name_says_so_in_one_line(site: Stage) -> None:
    with site.beside(REFUSED) as bad:
        uplink = site.place.uplink(bad.name, site.hub.hub, "contextforge", link_name='"good-contextforge"')
        with running(f'name = "{bad.name}"\n{JSON_LOG}{toy_server()}{uplink}') as edge:
            eventually(lambda: any("link down" in line for line in list(edge.log)), edge.said)
            about = [record for record in map(json.loads, edge.log) if record["logger"] == "edge.link"]
            assert [(each["msg"], each["level"]) for each in about] == [("link down", "warning")]
            assert about[0]["reason"].startswith(
                f"the token is edge {bad.name}'s, so the name must be {bad.name} or"
            )
