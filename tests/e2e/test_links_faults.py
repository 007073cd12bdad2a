"""What happens to links, and to calls over them, when hub, edge, network, name or token change."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.appliance import Appliance, running
from tests.support.faulty_neighbour import Client
from tests.support.links import (
    DIALECTS,
    JSON_LOG,
    Site,
    edges,
    links,
    port_of,
    site,
    toy_server,
    until_edge,
    until_linked,
)
from tests.support.peers import requires
from tests.support.processes import eventually, memory_bytes
from tests.support.relay import Relay, relay

pytestmark = requires("pyz")

GONE, UNAVAILABLE = -32012, -32010
QUICK: dict[str, Any] = {"heartbeat_s": 0.5, "dead_after_s": 3}
SLEEP = "box__toy__sleep"


@pytest.fixture
def place() -> Iterator[Site]:
    with site() as found:
        yield found


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as found:
        yield found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def in_flight(edge: Appliance) -> float:
    return edge.metric('mcp_edge_upstream_calls_in_flight{server="toy"}')


def begin(
    client: Client, threads: ThreadPoolExecutor, edge: Appliance, seconds: float
) -> "Future[dict[str, Any]]":
    """A call that takes so long, and has reached the server on the box."""
    call = threads.submit(client.call, SLEEP, s=seconds)
    eventually(lambda: in_flight(edge) == 1, edge.said)
    return call


def cancelled(client: Client) -> list[Any]:
    """What the server on the box was told to cancel."""
    found: list[Any] = json.loads(client.text("box__toy__cancelled"))
    return found


@contextlib.contextmanager
def through_a_relay(
    place: Site, dialect: str = "contextforge", **uplink: Any
) -> Iterator[tuple[Appliance, Relay, Appliance]]:
    """Hub, relay and edge `box`."""
    with place.hub("box", **QUICK) as hub, relay(port_of(hub.hub)) as wire:
        url = f"https://127.0.0.1:{wire.port}"
        with place.edge("box", hub, dialect, url=url, **{"heartbeat_s": 0.5, **uplink}) as edge:
            until_edge(hub, "box")
            yield hub, wire, edge


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_in_flight_survives_a_cut_and_runs_once(
    place: Site, threads: ThreadPoolExecutor, dialect: str
) -> None:
    with through_a_relay(place, dialect) as (hub, wire, edge):
        client = Client(hub, hub.endpoint)
        call = begin(client, threads, edge, 2)
        wire.cut()
        assert "result" in call.result(), hub.said()
        assert cancelled(client) == []
        [link] = links(edge)
        assert link["resumed"] >= 1


def test_many_cuts_lose_nothing_and_repeat_nothing(place: Site, threads: ThreadPoolExecutor) -> None:
    with through_a_relay(place) as (hub, wire, _):
        client = Client(hub, hub.endpoint)
        before = 0
        for _ in range(8):
            calls = [threads.submit(client.text, "box__toy__echo", text=str(n)) for n in range(20)]
            wire.cut()
            assert [call.result() for call in calls] == [str(n) for n in range(20)], hub.said()
            before = before or memory_bytes(hub.pid)
        assert memory_bytes(hub.pid) < before + 8 * 1024 * 1024
        assert hub.metric("mcp_edge_hub_links_replaced_total") == 0


def test_without_resumption_each_call_in_flight_gets_one_error_at_once(
    place: Site, threads: ThreadPoolExecutor
) -> None:
    with through_a_relay(place, resume="false") as (hub, wire, edge):
        client = Client(hub, hub.endpoint)
        call = begin(client, threads, edge, 60)
        wire.cut()
        error = call.result()["error"]
        assert error["code"] == GONE
        assert "outcome unknown" in error["message"]
        eventually(lambda: in_flight(edge) == 0)
        until_edge(hub, "box")
        assert len(cancelled(client)) == 1


def test_an_edge_that_is_killed_costs_its_calls_one_error_and_comes_back(
    place: Site, threads: ThreadPoolExecutor
) -> None:
    with place.hub("box", **QUICK) as hub:
        with place.edge("box", hub, heartbeat_s=0.5) as edge:
            until_edge(hub, "box")
            client = Client(hub, hub.endpoint)
            call = begin(client, threads, edge, 60)
            edge.stop(signal.SIGKILL)
        with place.edge("box", hub, heartbeat_s=0.5):
            error = call.result()["error"]
            assert error["code"] == GONE
            assert "outcome unknown" in error["message"]
            until_edge(hub, "box")
            assert client.text("box__toy__echo", text="back") == "back"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_hub_that_is_restarted_gets_its_edges_back(
    place: Site, threads: ThreadPoolExecutor, dialect: str
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        with place.hub("box", listen=listen, **QUICK) as hub:
            edge = stack.enter_context(place.edge("box", hub, dialect, heartbeat_s=0.5))
            until_edge(hub, "box")
            client = Client(hub, hub.endpoint)
            begin(client, threads, edge, 60)
            hub.stop(signal.SIGKILL)
        with place.hub("box", listen=listen, **QUICK) as hub:
            until_edge(hub, "box")
            until_linked(edge)
            client = Client(hub, hub.endpoint)
            assert client.text("box__toy__echo", text="back") == "back"
            eventually(lambda: in_flight(edge) == 0)
            assert len(cancelled(client)) == 1


def test_an_edge_that_was_frozen_is_back_when_it_goes_on(place: Site, threads: ThreadPoolExecutor) -> None:
    with place.hub("box", **QUICK) as hub, place.edge("box", hub, heartbeat_s=0.5) as edge:
        until_edge(hub, "box")
        client = Client(hub, hub.endpoint)
        call = begin(client, threads, edge, 1)
        os.kill(edge.pid, signal.SIGSTOP)
        try:
            eventually(lambda: edges(hub)["box"]["state"] != "ready")
        finally:
            os.kill(edge.pid, signal.SIGCONT)
        assert "result" in call.result(), hub.said()
        until_edge(hub, "box")
        assert client.text("box__toy__echo", text="awake") == "awake"


def test_a_stalled_network_is_noticed_by_both_ends_without_tcp(
    place: Site, threads: ThreadPoolExecutor
) -> None:
    with through_a_relay(place) as (hub, wire, edge):
        client = Client(hub, hub.endpoint)
        call = begin(client, threads, edge, 1)
        wire.stall()
        eventually(lambda: edges(hub)["box"]["state"] != "ready")
        eventually(lambda: links(edge)[0]["state"] != "ready")
        wire.flow()
        assert "result" in call.result(), hub.said()
        until_edge(hub, "box")


def test_a_rotated_token_is_read_for_the_next_attempt(place: Site) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        with place.hub("box", listen=listen) as hub:
            edge = stack.enter_context(place.edge("box", hub))
        new = place.rotate("box")
        with place.hub("box", listen=listen, tokens={"box": [new]}) as hub:
            until_edge(hub, "box")
            until_linked(edge)
        said = "\n".join(edge.log)
        assert not any(token in said + hub.said() for token in place.tokens("box"))


def test_a_wrong_token_is_refused_with_advice_and_tried_again(place: Site) -> None:
    with place.hub("box") as hub:
        good = place.token_file("box").read_text()
        place.token_file("box").write_text("not-the-token\n")
        config = f'name = "box"\n{JSON_LOG}{toy_server()}{place.uplink("box", hub.hub)}'
        with running(config) as edge:
            eventually(lambda: links(edge)[0]["state"] == "degraded")
            reason = links(edge)[0]["reason"]
            assert "40" in reason
            assert "token" in reason
            assert len([line for line in hub.log if "refused" in line]) >= 1
            place.token_file("box").write_text(good)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="a mount namespace with another /etc/hosts needs Linux, root and unshare",
)
def test_a_name_that_moves_to_another_address_is_followed(place: Site, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.0.2 hub.test\n")
    port = free_port()
    may_unshare = subprocess.run(
        ["unshare", "--mount", "mount", "--bind", hosts, "/etc/hosts"], check=False, capture_output=True
    )
    if may_unshare.returncode != 0:
        pytest.skip(f"no mount namespace here: {may_unshare.stderr.decode().strip()}")
    prefix = ("unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh")
    with contextlib.ExitStack() as stack:
        with place.hub("box", listen=f"127.0.0.2:{port}", **QUICK) as hub:
            config = place.uplink("box", f"https://hub.test:{port}", heartbeat_s=0.5)
            edge = stack.enter_context(
                running(f'name = "box"\n{JSON_LOG}{toy_server()}{config}', prefix=prefix)
            )
            until_linked(edge)
            until_edge(hub, "box")
        with place.hub("box", listen=f"127.0.0.3:{port}", **QUICK) as hub:
            hosts.write_text("127.0.0.1 localhost\n127.0.0.3 hub.test\n")
            until_edge(hub, "box")
            until_linked(edge)
