"""The tables, the targets and the notes, as Markdown that a terminal shows well too."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.contenders import DIRECT, EDGE, KINDS, Contender, trio_version
from tests.bench.figures import (
    GENERATOR_SHARE,
    Key,
    Rounds,
    Target,
    calls_per_s,
    cpu_us,
    generator_share,
    middle,
    p50_us,
    p99_us,
    ratio,
    start_ms,
)
from tests.bench.measure import AT_ONCE, Reading, Times

TITLES = {"stdio": "In front of a stdio server", "http": "In front of a streamable HTTP server"}
NOTES = """\
* CPU is user and system time of the gateway's own process, all threads, its children not counted; in the row
  without a gateway it is the server's, and so is the memory. "x" is mcp-edge's calls/s divided by those of the row.
* Start: from the start of the process to the first answered tool call (with `initialize` before it), less what a
  stdio server alone takes for the same. An HTTP server runs already. Memory is read before and after the load.
* Each call is a POST with a body of 520 bytes in one legacy session, on keep-alive connections, one call at a time
  on each. Each round starts every gateway anew; ratios are medians of the ratios within a round.
* Gateways run with their defaults, but as quiet as their options allow. pip mcp-proxy and npm supergateway
  turn stdio into HTTP or HTTP into stdio: for an HTTP server two are chained, and the CPU and memory of both count.
  "One, asked over its pipes" is the half of such a chain that speaks HTTP to the server, without any HTTP in front.
* Not compared: npm mcp-proxy for HTTP servers (it knows only stdio ones); pip fastmcp (not among the peers)."""


def facts(times: Times, rounds: int, load_before: float) -> list[str]:
    """The versions and the machine, without any name of it."""
    return [
        f"{datetime.now(UTC):%Y-%m-%d}; {rounds} round{'s' * (rounds != 1)}, {times.measure_s:g} s for each load"
        f" after {times.warm_up_s:g} s of warming up",
        f"Python {platform.python_version()}, Trio {trio_version()}, Node.js {node_version()}",
        f"{os.cpu_count()} cores ({cpu_model()}), {memory_gib():.0f} GiB, Linux {platform.release()},"
        f" load average before {load_before:.1f}",
    ]


def node_version() -> str:
    node = shutil.which("node")
    if node is None:
        return "not installed"
    return (
        subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip().removeprefix("v")
    )


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def tables(contenders: Sequence[Contender], rounds: Rounds) -> str:
    parts = []
    for kind in KINDS:
        rows = [each for each in contenders if each.kind == kind and Key(kind, each.key) in rounds]
        if rows:
            parts += [f"## {TITLES[kind]}", calls_table(rows, rounds), process_table(rows, rounds)]
    return "\n\n".join(parts)


def calls_table(contenders: Sequence[Contender], rounds: Rounds) -> str:
    heads = [""]
    for lanes in AT_ONCE:
        heads += [f"{lanes} at once: calls/s", "x", "p50 µs", "p99 µs", "CPU µs"]
    rows = []
    for each in contenders:
        key = Key(each.kind, each.key)
        row = [each.label]
        for lanes in AT_ONCE:
            rate = calls_per_s(lanes)
            over = None if each.key == EDGE else ratio(rounds, Key(each.kind, EDGE), key, rate)
            row += [number(middle(rounds, key, rate)), number(over, 2 if over and over < 1 else 1)]
            row += [number(middle(rounds, key, figure(lanes))) for figure in (p50_us, p99_us, cpu_us)]
        rows.append(row)
    return table(heads, rows)


def process_table(contenders: Sequence[Contender], rounds: Rounds) -> str:
    heads = [
        "",
        "idle RSS MiB",
        "idle PSS MiB",
        "loaded RSS MiB",
        "loaded PSS MiB",
        "listens after ms",
        "start ms",
    ]
    rows = []
    for each in contenders:
        key = Key(each.kind, each.key)
        figures = [idle_rss, idle_pss, loaded_rss, loaded_pss]
        listening = [reading.listening_s for reading in rounds[key]]
        row = [each.label, *(number(middle(rounds, key, figure), 1) for figure in figures)]
        row.append("" if None in listening else number(middle(rounds, key, listens_ms)))
        row.append("" if each.key == DIRECT else number(start_ms(rounds, key)))
        rows.append(row)
    return table(heads, rows)


def idle_rss(reading: Reading) -> float:
    return reading.idle.rss


def idle_pss(reading: Reading) -> float:
    return reading.idle.pss


def loaded_rss(reading: Reading) -> float:
    return reading.loaded.rss


def loaded_pss(reading: Reading) -> float:
    return reading.loaded.pss


def listens_ms(reading: Reading) -> float:
    return (reading.listening_s or 0.0) * 1e3


def targets_table(wanted: Sequence[Target]) -> str:
    rows = []
    for each in wanted:
        bound = f"{'at least' if each.is_least else 'at most'} {number(each.limit, 2)}{each.unit}"
        verdict = {True: "ok", False: "MISSED", None: "not measured"}[each.is_met]
        rows.append(
            [
                each.text,
                bound,
                f"{number(each.value, 2)}{each.unit}" if each.value is not None else "",
                verdict,
            ]
        )
    return table(["target", "", "measured", ""], rows)


def generator_check(contenders: Sequence[Contender], rounds: Rounds) -> str:
    """What the load generator costs beside the gateway that it loads."""
    lines = []
    for each in contenders:
        for lanes in AT_ONCE:
            share = middle(rounds, Key(each.kind, each.key), generator_share(lanes))
            if each.key != DIRECT and share is not None:
                warning = f"  MORE THAN {GENERATOR_SHARE:.0%}" if share > GENERATOR_SHARE else ""
                lines.append(f"* {each.kind}, {each.label}, {lanes} at once: {share:.1%} of its CPU{warning}")
    return "\n".join(["The load generator used, as a share of what it measured:\n", *lines]) if lines else ""


def number(value: float | None, digits: int = 0) -> str:
    if value is None:
        return ""
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits == 2 else text


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns of even width: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    widths = [max(width, 3) for width in widths]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for cells in (heads, ruler, *rows):
        first, *others = zip(cells, widths, strict=True)
        lines.append(
            "| "
            + " | ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)])
            + " |"
        )
    return "\n".join(lines)


def document(
    command: str,
    about: Sequence[str],
    tabled: str,
    wanted: Sequence[Target],
    notes: str,
    failures: Mapping[str, str],
) -> str:
    """RESULTS.md."""
    parts = [
        "# The benchmark as measured",
        f"Written by `{command}`; do not edit.",
        "\n".join(f"* {each}" for each in about),
        targets_table(wanted),
        tabled,
        "## How it was measured",
        notes,
    ]
    if failures:
        parts += ["## Not measured", "\n".join(f"* {name}: {reason}" for name, reason in failures.items())]
    return "\n\n".join(parts) + "\n"
