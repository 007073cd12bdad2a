"""Metrics with clocks that stand still, and what a scrape of them shows."""

from itertools import count

from edge.metrics import Metrics

METHODS = ("tools/call", "tools/list", "initialize", "ping")
Series = dict[str, float]


def metrics() -> Metrics:
    uptime = count(10.0, 15.0)
    return Metrics(
        methods=METHODS,
        version="1.2.3",
        now=lambda: 1000.0,
        wall=lambda: 5000.0,
        uptime_clock=lambda: next(uptime),
    )


def body(of: Metrics, accept: str = "") -> str:
    return of.exposition(accept)[0].decode()


def series(of: Metrics, family: str) -> Series:
    """The samples of one family, by name and labels as written."""
    lines = [line for line in body(of).splitlines() if line.startswith(f"mcp_edge_{family}")]
    return {
        name.removeprefix("mcp_edge_"): float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines)
    }
