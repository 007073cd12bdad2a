"""Two hundred edges on one hub, and a thousand calls at once across them.

The edges are four processes of fifty uplinks each: every uplink has a name, a token and a link of its own, so to the
hub each is an edge like any other, while the machine does not have to run two hundred interpreters. All three
dialects are among them.
"""

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.appliance import Appliance, running
from tests.support.faulty_neighbour import Client
from tests.support.links import DIALECTS, JSON_LOG, Site, edges, links, site, toy_server
from tests.support.peers import requires
from tests.support.processes import eventually, memory_bytes

pytestmark = requires("pyz")

BOXES, EACH = 4, 50
NAMES = [f"box{n}" for n in range(BOXES * EACH)]
CALLS = 1000
LANES = 100  # threads that send, and then read
PATIENT = "limits = { concurrency = 300 }\n"  # of the server of a box, which all its edges share
LIMIT_S = 180.0
MORE_BYTES = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site() as found:
        yield found


@pytest.fixture(scope="module")
def hub(place: Site) -> Iterator[Appliance]:
    head = f'{JSON_LOG}[gateway]\nlisten = "127.0.0.1:0"\nmax_connections = 2000\n'
    with place.hub(*NAMES, log=head, max_links_per_edge=2) as found:
        yield found


@pytest.fixture(scope="module")
def boxes(place: Site, hub: Appliance) -> Iterator[list[Appliance]]:
    with ExitStack() as stack:
        found = []
        for n in range(BOXES):
            uplinks = [
                place.uplink(name, hub.hub, DIALECTS[at % 3], name, link_name=f'"{name}"')
                for at, name in enumerate(NAMES[n * EACH : (n + 1) * EACH])
            ]
            config = f'name = "process{n}"\n{JSON_LOG}{toy_server()}{PATIENT}{"".join(uplinks)}'
            found.append(stack.enter_context(running(config)))
        yield found


def test_two_hundred_edges_answer_a_thousand_calls_at_once_and_again(
    hub: Appliance, boxes: list[Appliance], tmp_path: Path
) -> None:
    ready = {"state": "ready"}
    eventually(
        lambda: all(ready.items() <= link.items() for box in boxes for link in links(box)), limit_s=LIMIT_S
    )
    eventually(
        lambda: (
            [name for name, edge in edges(hub).items() if edge["state"] == "ready"] != []
            and {name for name, edge in edges(hub).items() if edge["state"] == "ready"} == set(NAMES)
        ),
        lambda: edges(hub),
        LIMIT_S,
    )
    assert sum(hub.metric(f'mcp_edge_hub_links{{dialect="{dialect}"}}') for dialect in DIALECTS) == len(NAMES)
    client = Client(hub, hub.endpoint)
    eventually(lambda: {f"{name}__toy__echo" for name in NAMES} <= tools_of(client))

    with ThreadPoolExecutor(1) as threads:
        all_there = tmp_path / "all-there"
        held = threads.submit(calls_at_once, client, 0, "sleep", {"s": LIMIT_S, "until": str(all_there)})
        eventually(
            lambda: in_flight(hub) == CALLS, lambda: f"{in_flight(hub)} of {CALLS} calls in flight", LIMIT_S
        )
        all_there.touch()
        assert len(held.result()) == CALLS
    eventually(lambda: in_flight(hub) == 0, lambda: in_flight(hub))

    memory = []
    for turn in range(3):
        answers = calls_at_once(client, turn, "echo")
        assert len(answers) == CALLS
        wrong = [each for each in answers.items() if each[1] != text_of(turn, each[0])]
        assert wrong == []
        memory.append([memory_bytes(each.pid) for each in (hub, *boxes)])
    # The first round grows what every later one uses again: buffers, connections, threads of the kernel's allocator.
    for before, after in zip(memory[1], memory[2], strict=True):
        assert after < before + MORE_BYTES, memory
    assert hub.metric("mcp_edge_hub_links_replaced_total") == 0
    assert hub.metric("mcp_edge_hub_resumed_total") == 0


def tools_of(client: Client) -> set[str]:
    """The tools of all pages."""
    found, cursor = set(), None
    while True:
        page = client.ask("tools/list", {} if cursor is None else {"cursor": cursor})["result"]
        found |= {tool["name"] for tool in page["tools"]}
        if (cursor := page.get("nextCursor")) is None:
            return found


def in_flight(hub: Appliance) -> float:
    """Calls of all edges that the hub waits for."""
    text = hub.request("GET", f"{hub.admin}/metrics").body.decode()
    return sum(map(float, re.findall(r"^mcp_edge_hub_calls_in_flight\{.*\} (\S+)$", text, re.MULTILINE)))


def text_of(turn: int, n: int) -> str:
    return f"call {n} of turn {turn} to {NAMES[n % len(NAMES)]}"


def calls_at_once(
    client: Client, turn: int, tool: str, more: Mapping[str, object] | None = None
) -> dict[int, str]:
    """What each call said, by its number. All are sent before the first answer is read."""
    with ThreadPoolExecutor(LANES) as threads, ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(client))) for _ in range(CALLS)]
        sent = threads.map(lambda n: send(connections[n], client, turn, n, tool, more or {}), range(CALLS))
        assert sum(1 for _ in sent) == CALLS
        return dict(enumerate(threads.map(read, connections)))


def connect(client: Client) -> http.client.HTTPConnection:
    parts = urlsplit(client.url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=LIMIT_S)


def send(
    connection: http.client.HTTPConnection,
    client: Client,
    turn: int,
    n: int,
    tool: str,
    more: Mapping[str, object],
) -> None:
    arguments = {"text": text_of(turn, n), **more}
    params = {"name": f"{NAMES[n % len(NAMES)]}__toy__{tool}", "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": f"{turn}-{n}", "method": "tools/call", "params": params}
    headers = {
        **client.headers,
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    connection.request("POST", urlsplit(client.url).path, json.dumps(message), headers)


def read(connection: http.client.HTTPConnection) -> str:
    answer = connection.getresponse()
    body = answer.read().decode()
    assert answer.status == 200, body
    if answer.headers["Content-Type"] == "text/event-stream":
        lines = [line[5:] for line in body.splitlines() if line.startswith("data:") and '"id"' in line]
        assert len(lines) == 1, body
        body = lines[0]
    said = json.loads(body)
    assert "result" in said, said
    text: str = said["result"]["content"][0]["text"]
    return text
