"""Reloads of an edge and of a hub: which links stay, which leave or end, and what becomes of calls over them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.appliance import Appliance, toml_list
from tests.support.faulty_neighbour import Client
from tests.support.links import (
    DIALECTS,
    Site,
    edges,
    links,
    sha256,
    site,
    toy_server,
    until_edge,
    until_linked,
)
from tests.support.peers import requires
from tests.support.processes import eventually
from tests.support.reloads import reload, rewrite

pytestmark = requires("pyz")

BOXES = ("box-a", "box-b")
NAMES = {"all": "box-a", "each": "box-a-toy"}


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site() as found:
        yield found


def connected_since(appliance: Appliance) -> dict[str, str]:
    """Each of its links, with the time since when it has been up."""
    return {link["name"]: link["since"] for link in links(appliance)}


def add_server(edge: Appliance, name: str) -> None:
    edge.config.write_text(f"{edge.config.read_text()}\n{toy_server(name)}")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_servers_that_come_and_go_have_links_of_their_own_and_the_others_do_not_notice(
    place: Site, dialect: str
) -> None:
    with place.hub("box-a") as hub, place.edge("box-a", hub, dialect, publish='"each"') as edge:
        until_edge(hub, "box-a-toy")
        client = Client(hub, hub.endpoint)
        before, count = connected_since(edge), edges(hub)["box-a-toy"]["connections"]
        original = edge.config.read_text()
        add_server(edge, "more")
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.text, "box-a-toy__sleep", s=2)
            code, verdict = reload(edge)
            assert (code, verdict["added"], verdict["updated"]) == (0, ["server more"], ["uplink hq"])
            assert call.result() == "slept"
        until_linked(edge)
        until_edge(hub, "box-a-more")
        eventually(lambda: "box-a-more__echo" in client.tools())
        assert client.text("box-a-more__echo", text="new") == "new"
        edge.config.write_text(original)
        assert reload(edge)[1]["removed"] == ["server more"]
        eventually(lambda: not edges(hub)["box-a-more"]["connected"])
        assert connected_since(edge) == before
        assert edges(hub)["box-a-toy"]["connections"] == count
        assert client.text("box-a-toy__echo", text="still here") == "still here"


def test_a_changed_uplink_leaves_and_comes_back_and_its_calls_end_first(place: Site) -> None:
    with place.hub("box-a") as hub, place.edge("box-a", hub) as edge:
        until_edge(hub, "box-a")
        client = Client(hub, hub.endpoint)
        rewrite(edge, ('publish = "all"', 'publish = "all"\nmax_calls = 7'))
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.text, "box-a__toy__sleep", s=2)
            eventually(
                lambda: (
                    links(edge)[0]["calls_in_flight"] or edge.health()["servers"][0].get("calls_in_flight")
                )
            )
            assert reload(edge)[1]["restarted"] == ["uplink hq"]
            assert call.result() == "slept"
        until_linked(edge)
        until_edge(hub, "box-a")
        eventually(lambda: "box-a__toy__echo" in client.tools())
        assert client.text("box-a__toy__echo", text="back") == "back"


@pytest.mark.parametrize("published", ["all", "each"])
def test_an_uplink_that_is_no_good_is_taken_back(place: Site, published: str) -> None:
    """Also one whose links had other names before."""
    with place.hub("box-a") as hub, place.edge("box-a", hub, publish=f'"{published}"') as edge:
        until_edge(hub, NAMES[published])
        place.token_file("nobody").write_text("a-token-that-nobody-knows\n")
        place.token_file("nobody").chmod(0o600)
        change = f'publish = "{published}"', 'publish = "all"'
        rewrite(edge, (str(place.token_file("box-a")), str(place.token_file("nobody"))), change)
        code, verdict = reload(edge, "--confirm-s", "4")
        assert (code, verdict["result"]) == (69, "rolled back")
        assert [problem["place"] for problem in verdict["problems"]] == ["uplink:hq"]
        until_linked(edge)
        until_edge(hub, NAMES[published])


# -- the hub


def set_edges(hub: Appliance, place: Site, tokens: dict[str, list[str]]) -> None:
    """The edges that the hub knows, each with its tokens."""
    text = hub.config.read_text()
    head, _, rest = text.partition("[hub.edges.")
    tail = rest[rest.index("\n[gateway]") :]
    tables = "".join(
        f"[hub.edges.{name}]\ntoken_sha256 = {toml_list([sha256(token) for token in known])}\n"
        for name, known in tokens.items()
    )
    hub.config.write_text(head + tables + tail)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_edges_that_the_hub_comes_to_know_or_knows_no_longer_and_one_that_does_not_notice(
    place: Site, dialect: str
) -> None:
    with (
        place.hub(*BOXES) as hub,
        place.edge("box-a", hub, dialect) as stays,
        place.edge("box-b", hub, dialect) as leaves,
    ):
        for name in BOXES:
            until_edge(hub, name)
        client = Client(hub, hub.endpoint)
        before, count = connected_since(stays), edges(hub)["box-a"]["connections"]
        with ThreadPoolExecutor(2) as threads:
            call = threads.submit(client.text, "box-a__toy__sleep", s=2)
            lost = threads.submit(client.call, "box-b__toy__sleep", s=60)
            eventually(lambda: leaves.health()["uplinks"][0]["calls_in_flight"] == 1)
            set_edges(
                hub, place, {"box-a": [place.token("box-a"), "another"], "box-c": [place.token("box-c")]}
            )
            code, verdict = reload(hub)
            assert (code, verdict["updated"]) == (0, ["hub", "edge box-a"])
            assert (verdict["added"], verdict["removed"]) == (["edge box-c"], ["edge box-b"])
            assert call.result() == "slept"
            assert "error" in lost.result(), "one clear error"
        eventually(lambda: "box-b" not in edges(hub))
        hub.wait_said("edge may no longer connect")
        eventually(lambda: links(leaves)[0]["state"] == "degraded")
        eventually(
            lambda: "not known" in (links(leaves)[0]["reason"] or "") or "401" in links(leaves)[0]["reason"]
        )
        with place.edge("box-c", hub, dialect):
            until_edge(hub, "box-c")
            eventually(lambda: "box-c__toy__echo" in client.tools())
            assert client.text("box-c__toy__echo", text="new") == "new"
        assert connected_since(stays) == before
        assert edges(hub)["box-a"]["connections"] == count


def test_a_rotated_token_does_not_cost_the_link_as_long_as_the_old_one_is_good(place: Site) -> None:
    with place.hub("box-a") as hub, place.edge("box-a", hub) as edge:
        until_edge(hub, "box-a")
        before = connected_since(edge)
        old = place.token("box-a")
        fresh = place.rotate("box-a")
        set_edges(hub, place, {"box-a": [old, fresh]})
        assert reload(hub)[0] == 0
        time.sleep(1)
        assert connected_since(edge) == before
        set_edges(
            hub, place, {"box-a": [fresh]}
        )  # now the old one is good no more: it comes back with the new one
        assert reload(hub)[0] == 0
        eventually(lambda: connected_since(edge) != before)
        until_linked(edge)
        until_edge(hub, "box-a")


def test_the_hubs_address_changes_and_its_edges_come_back(place: Site) -> None:
    with place.hub("box-a") as hub, place.edge("box-a", hub) as edge:
        until_edge(hub, "box-a")
        client = Client(hub, hub.endpoint)
        more = f"unix:{hub.folder}/hub.sock"
        rewrite(hub, ('[hub]\nlisten = "127.0.0.1:0"', f'[hub]\nlisten = ["127.0.0.1:0", "{more}"]'))
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.text, "box-a__toy__sleep", s=2)
            eventually(lambda: edge.health()["uplinks"][0]["calls_in_flight"] == 1)
            code, verdict = reload(hub)
            assert (code, verdict["restarted"]) == (0, ["hub"])
            assert call.result() == "slept"
        until_linked(edge)
        until_edge(hub, "box-a")
        eventually(lambda: "box-a__toy__echo" in client.tools())
        assert client.text("box-a__toy__echo", text="back") == "back"
        eventually(lambda: hub.metric('mcp_edge_queue_length{queue="draining_parts"}') == 0)
        assert edges(hub)["box-a"]["state"] == "ready"


def test_a_server_of_the_hub_takes_the_name_that_a_link_had(place: Site) -> None:
    with place.hub("box-a") as hub, place.edge("box-a", hub, link_name='"box-a-1"') as edge:
        until_edge(hub, "box-a-1")
        client = Client(hub, hub.endpoint)
        hub.config.write_text(hub.config.read_text() + "\n" + toy_server("box-a-1"))
        assert reload(hub)[1]["added"] == ["server box-a-1"]
        eventually(lambda: "box-a-1__echo" in client.tools())
        assert client.text("box-a-1__echo", text="the hub's own") == "the hub's own"
        eventually(lambda: links(edge)[0]["state"] == "degraded")
