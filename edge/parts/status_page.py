"""The page of `/status`: the report of `/health` for a person, in one HTML document without scripts.

Everything that comes from outside is escaped, and the security policy allows nothing but the one
style sheet below, so that a server's error text can show no more than itself. The page asks the
browser to load it again every few seconds.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from edge.health import ago

Record = Mapping[str, Any]

RELOAD_S = 10

STYLE = """
:root { color-scheme: light dark; --ink: #1c2127; --soft: #5b6570; --line: #d9dee3; --paper: #f6f7f9;
  --card: #fff; --good: #12703a; --bad: #b3261e; --wait: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa4ae; --line: #343b42;
  --paper: #14171a; --card: #1c2024; --good: #63c98b; --bad: #ff8a80; --wait: #e5b454; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
a { color: inherit; }
.soft { color: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); } .wait { color: var(--wait); }
.state { font-weight: 600; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 1rem 0 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }
th, td { text-align: left; vertical-align: top; padding: .5rem .75rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 500; font-size: .85rem; border-top: 0; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
nav { margin-top: 2rem; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
@media (max-width: 40rem) {
  thead { display: none; }
  table, tbody, tr, td { display: block; }
  tr { border-top: 1px solid var(--line); padding: .5rem 0; } tr:first-child { border-top: 0; }
  td { border: 0; padding: .125rem .75rem; display: grid; grid-template-columns: 7rem 1fr; gap: .5rem; }
  td:empty { display: none; }
  td::before { content: attr(data-label); color: var(--soft); font-size: .85rem; }
}
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MAX_EDGE_ROWS = 200
TONES = {
    "ready": "good",
    "ok": "good",
    "starting": "wait",
    "degraded": "wait",
    "failed": "bad",
    "failing": "bad",
}


def page(report: Record) -> str:
    """`report` is the body of `/health`."""
    name = str(report.get("name") or "mcp-edge")
    verdict = "stopping" if report.get("stopping") else str(report["status"])
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="refresh" content="{RELOAD_S}">',
        f"<title>{escape(verdict)} · {escape(name)}</title><style>{STYLE}</style></head><body><main>",
        f"<header><h1>{escape(name)}</h1>{state(verdict)}</header>",
        facts(report),
        "<h2>Servers</h2>",
        table(SERVER_COLUMNS, report["servers"], none="No MCP server is configured."),
        *links_of(report),
        "<h2>Listeners</h2>",
        table(PART_COLUMNS, report["listeners"], none="None."),
    ]
    if report["parts"]:
        parts += ["<h2>Parts</h2>", table(PART_COLUMNS, report["parts"], none="None.")]
    parts += [
        '<nav class="soft"><a href="/readyz?verbose">readiness</a><a href="/health">as JSON</a>'
        '<a href="/metrics">metrics</a></nav>',
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def links_of(report: Record) -> Iterable[str]:
    """Connections out, and those of edges; of many edges first the ones that are away."""
    if report["uplinks"]:
        yield "<h2>Uplinks</h2>"
        yield table(LINK_COLUMNS, report["uplinks"], none="")
    if edges := report["edges"]:
        by_need = sorted(edges, key=lambda record: bool(record["connected"]))
        away = sum(not record["connected"] for record in edges)
        yield f'<h2>Edges</h2><p class="soft">{len(edges) - away} connected, {away} away</p>'
        yield table(EDGE_COLUMNS, by_need[:MAX_EDGE_ROWS], none="")
        if len(edges) > MAX_EDGE_ROWS:
            yield f'<p class="soft">and {len(edges) - MAX_EDGE_ROWS} more: <a href="/health">as JSON</a></p>'


def facts(report: Record) -> str:
    sessions = report.get("sessions")
    rows = [
        ("version", report.get("version")),
        ("up for", ago(report["uptime_seconds"])),
        ("ready", "yes" if report["ready"] else "no"),
        ("client sessions", sessions.get("active") if isinstance(sessions, Mapping) else sessions),
        *(("endpoint", url) for url in report.get("endpoints", ())),
    ]
    shown = (
        f"<dt>{escape(word)}</dt><dd>{escape(str(value))}</dd>" for word, value in rows if value is not None
    )
    return f"<dl>{''.join(shown)}</dl>"


def state(word: str) -> str:
    return f'<span class="state {TONES.get(word, "soft")}">{escape(word)}</span>'


def state_cell(record: Record) -> str:
    return state(record["state"]) + (' <span class="soft">required</span>' if record["required"] else "")


def age(seconds: float | None) -> str:
    return "never" if seconds is None else f"{ago(seconds)} ago"


def why_cell(record: Record) -> str:
    """The present reason; else the last error, softly, because it is over."""
    if record.get("reason"):
        return escape(record["reason"])
    if record.get("last_error"):
        over = f"{record['last_error']} ({age(record['last_error_seconds_ago'])})"
        return f'<span class="soft">{escape(over)}</span>'
    return ""


def text(value: object) -> str:
    return escape("" if value is None else str(value))


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.0f} ms"


def size(count: float | None) -> str:
    """Bytes as a person says it."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


# heading, class of the cell, its HTML
Column = tuple[str, str, Callable[[Record], str]]
PART_COLUMNS: Sequence[Column] = (
    ("name", "", lambda record: text(record["name"])),
    ("state", "", state_cell),
    ("for", "number", lambda record: ago(record["state_seconds"])),
    ("restarts", "number", lambda record: text(record["restarts"])),
    ("note", "", why_cell),
)
SERVER_COLUMNS: Sequence[Column] = (
    *PART_COLUMNS[:3],
    ("last answer", "number", lambda record: age(record["last_seen_seconds_ago"])),
    ("tools", "number", lambda record: text(record.get("tools_count"))),
    *PART_COLUMNS[3:],
)
LINK_COLUMNS: Sequence[Column] = (
    *PART_COLUMNS[:3],
    ("dialect", "", lambda record: text(record.get("dialect"))),
    ("failures", "number", lambda record: text(record.get("failures"))),
    ("round trip", "number", lambda record: milliseconds(record.get("rtt_s"))),
    ("in", "number", lambda record: size(record.get("bytes_received"))),
    ("out", "number", lambda record: size(record.get("bytes_sent"))),
    PART_COLUMNS[-1],
)
EDGE_COLUMNS: Sequence[Column] = (
    *PART_COLUMNS[:3],
    ("dialect", "", lambda record: text(record.get("dialect"))),
    ("last answer", "number", lambda record: age(record["last_seen_seconds_ago"])),
    ("tools", "number", lambda record: text(record.get("tools_count"))),
    ("round trip", "number", lambda record: milliseconds(record.get("rtt_s"))),
    PART_COLUMNS[-1],
)


def table(columns: Sequence[Column], records: Iterable[Record], *, none: str) -> str:
    rows = [f"<tr>{''.join(td(column, record) for column in columns)}</tr>" for record in records]
    if not rows:
        return f'<p class="soft">{escape(none)}</p>'
    head = "".join(f"<th>{label}</th>" for label, _, _ in columns)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def td(column: Column, record: Record) -> str:
    """The label is for narrow screens, where rows become cards; an empty cell has no place there."""
    label, kind, cell = column
    html = cell(record)
    return f'<td class="{kind}" data-label="{label}"><div>{html}</div></td>' if html else "<td></td>"
