"""`python3 build dashboard`: a picture of what the Grafana dashboard shows, from a real run.

A hub and a box (dist/mcp-edge.pyz) work for a minute while a real Prometheus scrapes them. Then every query of every
panel is asked for, and what comes back is drawn in the dashboard's grid, by us: Grafana has its own style. The box has
a server that keeps dying, one that hangs at times and one that is not there, so that there is something to see.
"""

import json
import math
import random
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import browser
import dashboard
import dashboard_drawing
import machine
import png
import prometheus
import pyz
from browser import Look
from dashboard_drawing import COLUMN, Line
from pictures import base, hub_config, running, toy, uplink
from places import PICTURES
from prometheus import Prometheus
from say import Stop, line, progress

RUN_S, STEP_S, RATE = 75.0, 1.0, "10s"
LIMIT_BYTES = 250_000
CAPTION = (
    "Drawn from the dashboard's queries to a Prometheus that scraped a real run of a box (plant-7) and a hub (hq); "
    "Grafana shows the same panels in its own style."
)
# tool, arguments, seconds between two calls; of one client each, which is called at the box or at the hub
AT_BOX: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("files__echo", {"text": "x" * 300}, 0.03),
    ("files__big", {"bytes": 4000}, 0.05),
    ("git__sleep", {"s": 0.12}, 0.05),
    ("git__sleep", {"s": 0.03}, 0.05),
    ("plc__sleep", {"s": 0.3}, 0.1),
    ("plc__sleep", {"s": 5}, 2.0),  # which is over its limit
    ("camera__echo", {"text": "x"}, 0.15),
    ("camera__exit", {"status": 1}, 14.0),
)
AT_HUB: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("plant-7__files__echo", {"text": "x" * 500}, 0.08),
    ("plant-7__plc__sleep", {"s": 0.2}, 0.2),
    ("plant-7__camera__echo", {"text": "x"}, 0.6),
)


def main(args: Sequence[str]) -> int:
    if args:
        raise Stop("dashboard takes no arguments")
    for command, package in (("chromium", "chromium"), ("prometheus", "prometheus")):
        if reason := machine.missing_command(command, package):
            raise Stop(reason)
    pyz.make_current()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with progress(f"a box and a hub at work for {RUN_S:g} s"):
        page = rehearsed()
    with tempfile.TemporaryDirectory(prefix="mcp-edge-pictures-") as folder, browser.running() as window:
        file = Path(folder, "dashboard.html")
        file.write_text(page)
        seen = window.see(file.as_uri(), Look(24 * COLUMN))
    if seen.complaints:
        raise Stop("; ".join(seen.complaints))
    picture = png.reduced(seen.picture)
    (PICTURES / "dashboard.png").write_bytes(picture)
    line(f"dashboard.png: {seen.width} x {seen.height}, {len(picture)} bytes")
    if len(picture) > LIMIT_BYTES:
        raise Stop(f"that is over {LIMIT_BYTES} bytes")
    return 0


def rehearsed() -> str:
    """The page, after the run."""
    with tempfile.TemporaryDirectory(prefix="mcp-edge-pictures-") as name, ExitStack() as stack:
        folder = Path(name)
        hub = stack.enter_context(running(hub_config(), folder))
        box = stack.enter_context(running(box_config(hub["edges"], folder), folder))
        targets = {"hq": urlsplit(hub["status"]).netloc, "plant-7": urlsplit(box["status"]).netloc}
        server = stack.enter_context(prometheus.running(targets, interval_s=STEP_S))
        begin = time.time()
        with at_work(box["endpoint"], hub["endpoint"]):
            time.sleep(RUN_S / 3)
            guest = base("plant-8") + toy("files") + uplink(hub["edges"], "plant-8", folder)
            with running(guest, folder):
                time.sleep(RUN_S / 3)
            time.sleep(RUN_S / 3)
            return drawn(server, begin, time.time())


def box_config(hub: str, folder: Path) -> str:
    return (
        base("plant-7")
        + toy("files")
        + toy("git", required=True)
        + toy("plc", call_timeout_s=1)
        + toy("camera").rstrip()
        + "\nrestart = { first_s = 4, limit_s = 8 }\n"
        + '[servers.historian]\nurl = "http://127.0.0.1:1/mcp"\nreconnect = { first_s = 2, limit_s = 30 }\n'
        + uplink(hub, "plant-7", folder)
        + "heartbeat_s = 2\n"
    )


def drawn(server: Prometheus, begin: float, end: float) -> str:
    panels = list(dashboard.panels(dashboard.load(), rate_interval=RATE))
    lines = {
        panel.title: [
            Line(query.name(each.labels), each.points)
            for query in panel.queries
            for each in server.over(query.expr, start=begin, end=end, step_s=STEP_S)
        ]
        for panel in panels
        if panel.queries
    }
    return dashboard_drawing.page("mcp-edge", CAPTION, panels, lines, (begin, end))


@contextmanager
def at_work(box: str, hub: str) -> Iterator[None]:
    """Clients that call tools of both until the end of the block."""
    is_over = threading.Event()
    jobs = [(box, *job) for job in AT_BOX] + [(hub, *job) for job in AT_HUB]
    threads = [threading.Thread(target=client, args=(*job, is_over)) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def client(url: str, tool: str, arguments: dict[str, Any], pause_s: float, is_over: threading.Event) -> None:
    """One session that makes the same call again and again, at times more often than at others."""
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "load", "version": "1"},
    }
    session = {"Mcp-Session-Id": post(url, "initialize", hello, {}), "MCP-Protocol-Version": "2025-11-25"}
    post(url, "tools/list", {}, session)
    dice = random.Random(f"{url}{tool}")
    phase = dice.random() * math.tau
    while not is_over.wait(pause_s * (0.5 + dice.random()) * (1.5 + math.sin(time.monotonic() / 9 + phase))):
        with suppress(OSError):  # an HTTP error is counted by mcp-edge
            post(url, "tools/call", {"name": tool, "arguments": arguments}, session)


def post(url: str, method: str, params: dict[str, Any], headers: dict[str, str]) -> str:
    """One message; the session that the answer names."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    fields = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers}
    request = urllib.request.Request(url, json.dumps(message).encode(), fields)
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        return answer.headers.get("Mcp-Session-Id") or ""
