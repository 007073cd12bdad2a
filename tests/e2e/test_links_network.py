"""A network that loses every packet for a while, and tells nobody: links come back, and calls behave as promised.

Hub and edge run in network namespaces of their own, with the settings that the manual gives as defaults.
"""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.appliance import Appliance, running
from tests.support.faulty_neighbour import Client
from tests.support.links import JSON_LOG, edges, site, toy_server
from tests.support.namespaces import FAR_ADDRESS, Network, inside, network, why_not
from tests.support.peers import requires
from tests.support.processes import eventually, memory_bytes

pytestmark = [requires("pyz"), pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

PORT = 8443  # in a namespace of its own, so it is free
BACK_WITHIN_S = 30 + 10  # help/uplinks.md: reconnect.limit_s and connect_timeout_s
MIB = 1024 * 1024


@contextlib.contextmanager
def apart(mark: str) -> Iterator[tuple[Network, ThreadPoolExecutor, Appliance, Appliance]]:
    """Edge and hub with a network between them; the threads are on the hub's side."""
    with site() as place, network(mark) as net, contextlib.ExitStack() as stack:
        threads, near = net.threads_in_far(), net.threads_in_near()
        hub_config = place.hub_config(["box"], listen=f"{FAR_ADDRESS}:{PORT}")
        hub = stack.enter_context(running(JSON_LOG + hub_config, prefix=net.far))
        uplink = place.uplink(
            "box", f"https://{FAR_ADDRESS}:{PORT}", reconnect="{ first_s = 1, limit_s = 30 }"
        )
        config = f'name = "box"\n{JSON_LOG}{toy_server()}{uplink}'
        edge = stack.enter_context(running(config, prefix=net.near))
        inside(threads, eventually, lambda: edges(hub).get("box", {}).get("state") == "ready", hub.said)
        assert inside(near, edge.health)["uplinks"][0]["state"] == "ready"
        yield net, threads, hub, edge


def lose_packets(mark: str, cut_s: float, work_s: float) -> None:
    """Cut for so long while a call works for so long; the call must be answered, once."""
    with apart(mark) as (net, threads, hub, edge):
        client = inside(threads, Client, hub, hub.endpoint)
        assert inside(threads, client.text, "box__toy__echo", text="before") == "before"
        resident = memory_bytes(hub.pid), memory_bytes(edge.pid)
        call = threads.submit(client.call, "box__toy__sleep", s=work_s)
        near = net.threads_in_near()
        inside(near, eventually, lambda: edge.metric('mcp_edge_upstream_calls_in_flight{server="toy"}') == 1)
        net.drop()
        until = time.monotonic() + cut_s
        eventually(lambda: time.monotonic() >= until, limit_s=cut_s + 10)
        net.carry()
        inside(
            threads,
            eventually,
            lambda: edges(hub)["box"]["state"] == "ready",
            hub.said,
            limit_s=BACK_WITHIN_S,
        )
        assert "result" in call.result(), hub.said() + edge.said()
        assert inside(threads, client.text, "box__toy__cancelled") == "[]"
        assert inside(threads, client.text, "box__toy__echo", text="after") == "after"
        for pid, before in zip((hub.pid, edge.pid), resident, strict=True):
            assert memory_bytes(pid) < before + 8 * MIB


def test_five_seconds_without_a_packet_are_hardly_noticed() -> None:
    lose_packets("a", cut_s=5, work_s=3)


def test_after_two_minutes_without_a_packet_the_link_is_back_and_the_call_is_answered() -> None:
    lose_packets("b", cut_s=120, work_s=60)
