"""An SDK client calls a tool of a box behind NAT: client, hub, link (TLS), edge, `mcp-server-time`, and back."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.appliance import Appliance
from tests.support.faulty_neighbour import Client
from tests.support.links import DIALECTS, Site, edges, links, site, time_server, toy_server, until_edge
from tests.support.peers import python_of, requires
from tests.support.processes import eventually

pytestmark = requires("pyz", "servers", "mcp1")

SDK_CLIENT = Path(__file__).with_name("clients") / "one_call.py"


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site() as found:
        yield found


@pytest.fixture(scope="module")
def hub(place: Site) -> Iterator[Appliance]:
    with place.hub(*(f"box-{dialect}" for dialect in DIALECTS)) as found:
        yield found


@pytest.fixture(scope="module", params=DIALECTS)
def edge(place: Site, hub: Appliance, request: pytest.FixtureRequest) -> Iterator[Appliance]:
    name = f"box-{request.param}"
    with place.edge(name, hub, request.param, servers=time_server() + toy_server()) as found:
        until_edge(hub, name)
        yield found


def name_of(edge: Appliance) -> str:
    found: str = edge.health()["name"]
    return found


def sdk_call(url: str, tool: str, arguments: dict[str, object]) -> str:
    """The text that a tool answers to the official SDK's client."""
    command: list[str | Path] = [python_of("mcp1"), SDK_CLIENT, url, tool, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: str = done.stdout
    return found


def test_an_sdk_client_of_the_hub_calls_mcp_server_time_on_the_edge(hub: Appliance, edge: Appliance) -> None:
    name = name_of(edge)
    told = sdk_call(hub.endpoint, f"{name}__time__get_current_time", {"timezone": "Europe/Berlin"})
    assert json.loads(told)["timezone"] == "Europe/Berlin"
    alone = hub.endpoint.removesuffix("/mcp") + f"/servers/{name}/mcp"
    told = sdk_call(alone, "time__get_current_time", {"timezone": "Asia/Tokyo"})
    assert json.loads(told)["timezone"] == "Asia/Tokyo"


def test_many_clients_share_a_link_with_ids_of_their_own(hub: Appliance, edge: Appliance) -> None:
    tool = f"{name_of(edge)}__toy__echo"
    clients = [Client(hub, hub.endpoint) for _ in range(8)]
    with ThreadPoolExecutor(32) as threads:
        calls = [
            (f"{i}-{n}", threads.submit(client.text, tool, text=f"{i}-{n}"))
            for n in range(4)
            for i, client in enumerate(clients)
        ]
        assert [call.result() for _, call in calls] == [text for text, _ in calls]


def test_a_cancelled_call_is_cancelled_on_the_box(hub: Appliance, edge: Appliance) -> None:
    name = name_of(edge)
    client = Client(hub, hub.endpoint)
    with ThreadPoolExecutor(1) as threads:
        message = client.message("tools/call", {"name": f"{name}__toy__sleep", "arguments": {"s": 60}})
        call = threads.submit(hub.request, "POST", client.url, message, client.headers)
        eventually(lambda: edge.metric('mcp_edge_upstream_calls_in_flight{server="toy"}') == 1)
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": message["id"]}}
        hub.request("POST", client.url, note, client.headers)
        eventually(lambda: edge.metric('mcp_edge_upstream_calls_in_flight{server="toy"}') == 0)
        call.result()
    assert len(json.loads(client.text(f"{name}__toy__cancelled"))) >= 1


def test_a_large_result_and_a_failing_tool_come_through(hub: Appliance, edge: Appliance) -> None:
    name = name_of(edge)
    client = Client(hub, hub.endpoint)
    assert len(client.text(f"{name}__toy__big", bytes=3_000_000)) >= 3_000_000
    assert client.call(f"{name}__toy__nothing")["error"]["code"] == -32602


def test_a_list_that_changes_on_the_box_changes_on_the_hub(hub: Appliance, edge: Appliance) -> None:
    name = name_of(edge)
    client = Client(hub, hub.endpoint)
    before = client.tools()
    client.text(f"{name}__toy__change")
    eventually(lambda: client.tools() != before)


def test_both_ends_tell_the_truth_about_the_link(hub: Appliance, edge: Appliance) -> None:
    name = name_of(edge)
    [link] = links(edge)
    assert link["state"] == "ready"
    assert link["dialect"] == name.removeprefix("box-")
    assert edges(hub)[name]["state"] == "ready"
    assert hub.metric(f'mcp_edge_hub_link_up{{edge="{name}"}}') == 1
    secrets = [
        edge.request("GET", f"{edge.admin}{path}").body.decode()
        for path in ("/health", "/status", "/metrics")
    ]
    assert not any("Bearer" in text for text in secrets)
