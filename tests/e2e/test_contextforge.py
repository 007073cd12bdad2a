"""With the real ContextForge gateway: our link to it, and it as a client of our hub."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.appliance import Appliance, running
from tests.support.contextforge import ContextForge, contextforge
from tests.support.links import JSON_LOG, links, site, time_server, toy_server, until_edge, until_linked
from tests.support.peers import requires
from tests.support.processes import eventually

pytestmark = requires("pyz", "contextforge", "servers")

SESSIONS = "/v1/reverse-proxy/sessions"
CALM_S = 125.0
HEARTBEAT_S = 1.0


@pytest.fixture(scope="module")
def gateway() -> Iterator[ContextForge]:
    with contextforge() as found:
        yield found


@contextlib.contextmanager
def linked(gateway: ContextForge) -> Iterator[Appliance]:
    """An edge with two servers, each with a link of its own."""
    uplink = f"""
[uplinks.cf]
dialect = "contextforge"
url = "{gateway.url}"
token_env = "CF_TOKEN"
publish = "each"
proxy = "none"
heartbeat_s = {HEARTBEAT_S}
reconnect = {{ first_s = 0.2, limit_s = 1 }}
"""
    config = f'name = "plant-7"\n{JSON_LOG}{toy_server()}{time_server()}{uplink}'
    with running(config, env={"CF_TOKEN": gateway.token()}) as found:
        until_linked(found)
        yield found


@pytest.fixture
def edge(gateway: ContextForge) -> Iterator[Appliance]:
    with linked(gateway) as found:
        yield found


def sessions(gateway: ContextForge, token: str) -> dict[str, dict[str, Any]]:
    """The gateway's own list, by the name that was registered."""
    listed = gateway.call("GET", SESSIONS, token=token)
    assert listed.status == 200, listed
    return {each["server_info"].get("name", "?"): each for each in listed.body["sessions"]}


def test_each_server_is_registered_and_a_request_of_the_gateway_reaches_it(
    gateway: ContextForge, edge: Appliance
) -> None:
    token = gateway.token()
    known = sessions(gateway, token)
    assert {"plant-7-toy", "plant-7-time"} <= known.keys()
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {"text": "x"}},
    }
    path = f"{SESSIONS}/{known['plant-7-toy']['session_id']}/request"
    assert gateway.call("POST", path, request, token).status == 200
    sample = 'mcp_edge_tool_call_duration_seconds_count{server="toy",tool="echo"}'
    eventually(lambda: sample in edge.request("GET", f"{edge.admin}/metrics").body.decode())
    assert edge.metric(sample) == 1
    assert all(link["state"] == "ready" for link in links(edge))


def test_heartbeats_stay_calm_for_minutes(gateway: ContextForge, edge: Appliance) -> None:
    token = gateway.token()
    before = sessions(gateway, token)["plant-7-toy"]
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began >= CALM_S, limit_s=CALM_S + 30)
    after = sessions(gateway, token)["plant-7-toy"]
    passed = time.monotonic() - began
    assert after["session_id"] == before["session_id"]
    beats = after["message_count"] - before["message_count"]
    assert 0.5 * passed / HEARTBEAT_S < beats < 1.5 * passed / HEARTBEAT_S, beats


def test_a_restart_of_the_gateway_is_survived() -> None:
    with contextforge() as gateway, linked(gateway) as edge:
        token = gateway.token()
        before = {each["session_id"] for each in sessions(gateway, token).values()}
        gateway.stop()
        eventually(lambda: all(link["state"] != "ready" for link in links(edge)))
        gateway.start()
        until_linked(edge)
        after = sessions(gateway, token)
        assert {"plant-7-toy", "plant-7-time"} <= after.keys()
        assert not before & {each["session_id"] for each in after.values()}


def test_a_wrong_token_is_refused_with_what_to_look_at(gateway: ContextForge) -> None:
    uplink = f"""
[uplinks.cf]
dialect = "contextforge"
url = "{gateway.url}"
token_env = "T"
publish = "all"
proxy = "none"
"""
    with running(f'name = "plant-8"\n{JSON_LOG}{toy_server()}{uplink}', env={"T": "not.a.token"}) as edge:
        eventually(lambda: links(edge)[0]["state"] == "degraded", edge.said)
        reason = links(edge)[0]["reason"]
        assert "403" in reason
        assert all(word in reason for word in ("token", "path", "reverse-proxy/sessions"))


def test_a_client_of_the_gateway_calls_a_tool_of_a_box_through_our_hub(gateway: ContextForge) -> None:
    token = gateway.token()
    with site() as place, place.hub("box") as hub, place.edge("box", hub, servers=time_server()):
        until_edge(hub, "box")
        peer = {"name": "boxes", "url": hub.endpoint, "transport": "STREAMABLEHTTP"}
        made = gateway.call("POST", "/v1/gateways", peer, token)
        assert made.status in (200, 201), made
        try:
            tools = eventually(lambda: gateway.call("GET", "/v1/tools", token=token).body)
            names = [tool["name"] for tool in (tools["tools"] if isinstance(tools, dict) else tools)]
            [name] = [name for name in names if name.endswith("get-current-time")]
            call = {"name": name, "arguments": {"timezone": "Europe/Berlin"}}
            request = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call}
            answer = gateway.call("POST", "/rpc", request, token)
            assert answer.status == 200, answer
            told = json.loads(answer.body["result"]["content"][0]["text"])
            assert told["timezone"] == "Europe/Berlin"
        finally:
            gateway.call("DELETE", f"/v1/gateways/{made.body['id']}", token=token)
