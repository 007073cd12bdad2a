"""The Grafana dashboard in packaging/grafana as panels and queries: what Grafana would ask Prometheus for."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from places import ROOT

FILE = ROOT / "packaging" / "grafana" / "mcp-edge.json"
ALL = {"instance": ".*", "server": ".*"}  # the variables, as if "All" were chosen
VARIABLE = re.compile(r"\$(\w+)")
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Query(NamedTuple):
    """PromQL, and the pattern of its series' names."""

    expr: str
    legend: str

    def name(self, labels: Mapping[str, str]) -> str:
        return " ".join(PLACEHOLDER.sub(lambda found: labels.get(found[1], ""), self.legend).split())


class Panel(NamedTuple):
    """A panel; places and sizes are in units of Grafana's grid, which is 24 wide."""

    kind: str
    title: str
    x: int
    y: int
    w: int
    h: int
    unit: str
    queries: list[Query]
    defaults: dict[str, Any]


def load() -> dict[str, Any]:
    found = json.loads(FILE.read_text())
    assert isinstance(found, dict)
    return found


def panels(board: Mapping[str, Any], *, rate_interval: str) -> Iterator[Panel]:
    """All panels, rows among them, with the variables put into their queries."""
    values = {**ALL, "__rate_interval": rate_interval}
    for panel in board["panels"]:
        place = panel["gridPos"]
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        queries = [
            Query(VARIABLE.sub(lambda found: values[found[1]], target["expr"]), target["legendFormat"])
            for target in panel.get("targets", [])
        ]
        yield Panel(
            kind=panel["type"],
            title=panel["title"],
            x=place["x"],
            y=place["y"],
            w=place["w"],
            h=place["h"],
            unit=defaults.get("unit", ""),
            queries=queries,
            defaults=defaults,
        )
