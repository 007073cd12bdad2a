"""The rules and the dashboard in packaging/, held against what a running hub and box expose, by a real Prometheus."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import dashboard
import prometheus
import pytest
from prometheus import EXAMPLE_CONFIG, RULE_TESTS, RULES, Prometheus

from tests.support.appliance import Appliance
from tests.support.faulty_neighbour import Client
from tests.support.links import site, toy_server, until_edge
from tests.support.peers import ROOT, requires
from tests.support.processes import eventually

pytestmark = requires("pyz", "promtool")

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
BOARD = dashboard.load()
PANELS = list(dashboard.panels(BOARD, rate_interval="10s"))
WITH_DATA = {
    "Verdict", "Servers not ready", "Links down", "Calls", "Failed", "95 % of calls within", "Sessions", "Up for",
    "Tool calls by server", "Failed tool calls", "Duration of tool calls", "Messages by method",
    "Duration of messages, 95 %", "Calls in flight and waiting", "Servers", "Traffic with servers", "Tools",
    "Last answer", "Links out", "Round trip to hubs", "Traffic over links out", "Hub: links of edges",
    "Hub: calls to edges", "Sessions by instance", "Connections", "Turned away", "Memory", "CPU", "Open files",
    "Queues",
}  # fmt: skip
"""Panels that have something to show of a box and a hub that are well and used; the others tell of trouble."""


class Place(NamedTuple):
    """A hub and a box, which a Prometheus scrapes, and a client of each that can make them work."""

    hub: Appliance
    box: Appliance
    server: Prometheus
    clients: list[Client]

    def work(self) -> None:
        """A few calls, good and bad, directly and by way of the hub, and a request that is turned away."""
        at_box, at_hub = self.clients
        at_box.text("toy__echo", text="x")
        at_box.text("other__echo", text="x")
        at_box.call("toy__sleep")  # without its argument: the toy does not answer
        at_hub.text("plant-7__toy__echo", text="x")
        self.box.request("POST", self.box.endpoint, b"{")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    servers = toy_server() + "call_timeout_s = 0.2\n" + toy_server("other")
    with (
        site() as found,
        found.hub("plant-7") as hub,
        found.edge("plant-7", hub, servers=servers, heartbeat_s=1) as box,
    ):
        until_edge(hub, "plant-7")
        targets = {name: urlsplit(each.admin).netloc for name, each in (("hq", hub), ("plant-7", box))}
        with prometheus.running(targets) as server:
            yield Place(hub, box, server, [Client(each, each.endpoint) for each in (box, hub)])


def promtool(*words: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["promtool", *words],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )


def names_in(expr: str) -> set[str]:
    """The metrics that an expression asks for, those of recording rules among them."""
    bare = re.sub(r'"[^"]*"|\[[^]]*\]|\$\w+', " ", expr)
    return {name for name in re.findall(r"[A-Za-z_:][\w:]*", bare) if "mcp_edge_" in name}


def queries() -> dict[str, list[str]]:
    """Every expression of the dashboard, by its panel's title."""
    return {panel.title: [query.expr for query in panel.queries] for panel in PANELS if panel.queries}


def rules(server: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]


# -- promtool's word


def test_promtool_takes_the_rules() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout.decode()


def test_the_rules_alarm_when_they_should_and_only_then() -> None:
    done = promtool("test", "rules", RULE_TESTS)
    assert done.returncode == 0, done.stdout.decode()


def test_promtool_takes_the_example_config() -> None:
    done = promtool("check", "config", EXAMPLE_CONFIG)
    assert done.returncode == 0, done.stdout.decode()


def test_promtool_takes_the_metrics_as_text(place: Place) -> None:
    place.work()
    for each in (place.hub, place.box):
        done = promtool("check", "metrics", given=each.request("GET", f"{each.admin}/metrics").body)
        said = done.stdout.decode().strip().splitlines()
        # The one name that its linter does not like is as it is in other gateways.
        assert {line.split()[0] for line in said} <= {"mcp_edge_upstream_tools_count"}, said
        assert done.returncode in (0, 3), done  # 3: the linter has remarks


def test_promtool_takes_the_metrics_as_openmetrics(place: Place) -> None:
    """It reads them as the older format, where a counter's help stands under its name with `_total`."""
    place.work()
    for each in (place.hub, place.box):
        answer = each.request("GET", f"{each.admin}/metrics", headers={"Accept": OPENMETRICS})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        done = promtool("check", "metrics", given=answer.body)
        said = done.stdout.decode().strip().splitlines()
        strange = [line for line in said if not line.endswith("_total no help text")]
        assert {line.split()[0] for line in strange} <= {"mcp_edge_upstream_tools_count"}, said
        assert done.returncode in (0, 3), done


# -- a real Prometheus


def test_a_prometheus_scrapes_hub_and_box(place: Place) -> None:
    wanted = {"hq", "plant-7"}

    def targets() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = place.server.ask("targets")["activeTargets"]
        return found

    eventually(
        lambda: {each["labels"]["instance"] for each in targets() if each["health"] == "up"} == wanted,
        targets,
    )


def test_every_metric_that_is_asked_for_exists(place: Place) -> None:
    place.work()
    exposed = {
        line.split("{")[0].split()[0]
        for each in (place.hub, place.box)
        for line in each.request("GET", f"{each.admin}/metrics").body.decode().splitlines()
        if not line.startswith("#")
    }
    # These come into being with what they tell of: the first failure, reload, round trip, server over TLS.
    exposed |= {
        "mcp_edge_upstream_in_backoff", "mcp_edge_upstream_current_backoff_seconds",
        "mcp_edge_config_last_reload_successful", "mcp_edge_link_rtt_seconds", "mcp_edge_upstream_tls_unverified",
    }  # fmt: skip
    found = rules(place.server)
    exposed |= {rule["name"] for rule in found if rule["type"] == "recording"}
    asked = {rule["name"]: names_in(rule["query"]) for rule in found} | {
        title: {name for expr in exprs for name in names_in(expr)} for title, exprs in queries().items()
    }
    assert {title: names - exposed for title, names in asked.items() if names - exposed} == {}
    assert not [
        title for title, names in asked.items() if not names and title not in ("McpEdgeDown", "McpEdgeAbsent")
    ]


def test_every_rule_is_evaluated_without_an_error(place: Place) -> None:
    eventually(
        lambda: all(rule["health"] == "ok" for rule in rules(place.server)), lambda: rules(place.server)
    )


@pytest.mark.parametrize("title", queries())
def test_a_panel_has_data_or_is_empty_because_there_is_no_trouble(place: Place, title: str) -> None:
    def answers() -> list[list[prometheus.Series]]:
        place.work()
        return [place.server.now(expr) for expr in queries()[title]]

    if title in WITH_DATA:
        eventually(lambda: any(answers()), lambda: queries()[title])
    else:
        answers()  # none is refused


# -- the files themselves


def test_every_alert_is_seen_to_fire_in_the_tests_of_the_rules() -> None:
    alerts = re.findall(r"(?m)^ +- alert: (\w+)$", RULES.read_text())
    fired = set(re.findall(r'alertname="(\w+)"', RULE_TESTS.read_text()))
    fired |= set(re.findall(r"alertname: (\w+)", RULE_TESTS.read_text()))
    assert len(alerts) == len(set(alerts)) > 30
    assert set(alerts) - fired == set()


def test_every_alert_waits_has_a_severity_and_says_what_to_do(place: Place) -> None:
    topics = {page.stem for page in (ROOT / "edge" / "help").glob("*.md")}
    alerts = [rule for rule in rules(place.server) if rule["type"] == "alerting"]
    for alert in alerts:
        assert alert["duration"] >= 60, alert["name"]
        assert alert["labels"]["severity"] in ("critical", "warning", "info"), alert["name"]
        assert alert["annotations"].keys() == {"summary", "description", "help"}, alert["name"]
        assert alert["annotations"]["help"].removeprefix("mcp-edge help ") in topics, alert["name"]


def test_panels_have_a_place_of_their_own_a_unit_and_the_chosen_source() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        cells = {(x, y) for x in range(panel.x, panel.x + panel.w) for y in range(panel.y, panel.y + panel.h)}
        assert not cells & taken, panel.title
        assert max(x for x, _ in cells) < 24, panel.title
        taken |= cells
        assert panel.kind == "row" or panel.unit, panel.title
    sources = [panel["datasource"]["uid"] for panel in BOARD["panels"] if panel["type"] != "row"]
    assert set(sources) == {"${datasource}"}
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel.title for panel in PANELS if panel.queries]
    assert len(titles) == len(set(titles))
    assert set(titles) >= WITH_DATA
