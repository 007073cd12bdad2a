"""The page of `/status`: the report of `/health` for a person, in one HTML document without scripts.

The verdict comes first, then what is wrong, most urgent first, and then everything. All that comes from outside is
escaped, and the security policy allows nothing but the one style sheet, so that a server's error text can show no more
than itself. The page asks the browser to load it again every few seconds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from edge.errors import Problem
from edge.health import BAD_RELOADS, ago
from edge.parts.status_style import STYLE

Record = Mapping[str, Any]

RELOAD_S = 10
MAX_EDGE_ROWS = 200
MAX_LAST_WORDS = 5
KINDS = {"servers": "server", "uplinks": "uplink", "listeners": "listener", "parts": "part"}
REQUIRED = '<span class="tag">required</span>'
URGENT = ("failed", "degraded", "stale", "starting", "stopped")


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
        '<section class="top">',
        *banner(report, name, verdict),
        facts(report),
        "</section>",
        *trouble(report),
        *section("Servers", SERVER_COLUMNS, report["servers"], none="No MCP server is configured."),
        *section("Uplinks", LINK_COLUMNS, report["uplinks"]),
        *edges(report["edges"]),
        *section("mcp-edge itself", PART_COLUMNS, [*report["listeners"], *report["parts"]], kind="slim"),
        footer(report),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


# -- the verdict


def banner(report: Record, name: str, verdict: str) -> Iterator[str]:
    wrong = list(wrong_in(report))
    blocking = [(kind, record) for kind, record in wrong if record["required"]]
    yield f'<div class="verdict {escape(verdict)}"><p>{escape(name)}</p>'
    match verdict:
        case "ok":
            yield f'<h1>Ready</h1><p class="why">{escape(all_is_well(report))}</p>'
        case "degraded":
            yield f"<h1>Ready, but {count(len(wrong), 'thing is', 'things are')} not</h1>"
        case "stopping":
            yield '<h1>Stopping</h1><p class="why">Calls in flight may end; nothing new is taken.</p>'
        case _ if blocking:
            named = ", ".join(f"{kind} {record['name']}" for kind, record in blocking[:3])
            more = f" and {len(blocking) - 3} more" if len(blocking) > 3 else ""
            yield f'<h1>Not ready</h1><p class="why">In the way: {escape(named)}{more}.</p>'
        case _:
            yield '<h1>Not ready</h1><p class="why">Nothing that is required has been set up yet.</p>'
    yield "</div>"


def all_is_well(report: Record) -> str:
    """What it is that is ready."""
    counts = [(len(report["servers"]), "server"), (len(report["uplinks"]), "uplink")]
    told = [count(number, word, f"{word}s") for number, word in counts if number]
    if edges := report["edges"]:
        told.append(
            f"{sum(bool(record['connected']) for record in edges)} of {count(len(edges), 'edge', 'edges')}"
        )
    return f"All is well: {', '.join(told)}." if told else "All is well."


def count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def facts(report: Record) -> str:
    sessions = report.get("sessions")
    config = report.get("config") or {}
    rows: list[tuple[str, str, str]] = []  # label, class, HTML
    for shelf in ("servers", "uplinks", "edges"):
        if records := report[shelf]:
            good = sum(bool(record["connected"]) for record in records)
            tone = "ready" if good == len(records) else "stopped" if shelf == "edges" else "degraded"
            rows.append((f"{shelf} ready", "number", f'<b class="{tone}">{good}</b> of {len(records)}'))
    active = sessions.get("active") if isinstance(sessions, Mapping) else sessions
    rows += [
        ("client sessions", "number", text(active)),
        ("up for", "number", text(ago(report["uptime_seconds"]))),
        ("version", "text", text(report.get("version"))),
        *(("endpoint", "text wide", text(url)) for url in report.get("endpoints", ())),
        ("config", "text wide", text(config.get("source"))),
    ]
    shown = (
        f'<div class="{"wide" if "wide" in kind else ""}"><dt>{label}</dt><dd class="{kind}">{html}</dd></div>'
        for label, kind, html in rows
        if html
    )
    return f'<dl class="facts">{"".join(shown)}</dl>'


# -- what is wrong


def wrong_in(report: Record) -> Iterator[tuple[str, Record]]:
    """What is not good and counts, with its kind: first what stands in the way."""
    found = [
        (kind, record) for shelf, kind in KINDS.items() for record in report[shelf] if not record["connected"]
    ]
    yield from sorted(found, key=lambda item: (not item[1]["required"], URGENT.index(item[1]["state"])))


def trouble(report: Record) -> Iterator[str]:
    is_stopping = bool(report.get("stopping"))  # then everything ends, as it should
    items = [] if is_stopping else [trouble_item(kind, record) for kind, record in wrong_in(report)]
    items += refused_config(report.get("config") or {})
    if items:
        yield f'<h2>Needs attention</h2><ul class="trouble">{"".join(items)}</ul>'


def trouble_item(kind: str, record: Record) -> str:
    state, restarts, backoff_s = record["state"], record["restarts"], record.get("backoff_s")
    next_s = record.get("next_attempt_in_s")
    more = [
        f"for {ago(record['state_seconds'])}",
        f"last good {age(record['last_seen_seconds_ago'])}",
        ""
        if next_s is None
        else f"next attempt in {ago(next_s)}" + (f" (of {ago(backoff_s)})" if backoff_s else ""),
        count(restarts, "restart", "restarts") if restarts else "",
        f"to {record['url']}" if record.get("url") else "",
    ]
    why = record.get("reason")
    if not why and record.get("last_error"):
        why = f"before: {record['last_error']}"
    last_words = "\n".join(map(str, record.get("stderr", ())[-MAX_LAST_WORDS:]))
    head = f'<span class="kind">{kind}</span><span>{escape(record["name"])}</span>{chip(state)}'
    if record["required"] and kind != "listener":
        head += REQUIRED
    parts = [f"<h3>{head}</h3>"]
    if why:
        parts.append(f'<p class="why">{escape(why)}</p>')
    parts.append(f'<p class="more">{"".join(f"<span>{escape(part)}</span>" for part in more if part)}</p>')
    if last_words:
        parts.append(f"<pre>{escape(last_words)}</pre>")
    kinds = f"{state} blocking" if record["required"] else state
    return f'<li class="{escape(kinds)}">{"".join(parts)}</li>'


def refused_config(config: Record) -> Iterator[str]:
    """A reload that was refused changes nothing, but somebody meant something by it; so with one taken back."""
    bad = BAD_RELOADS.get(config.get("last_reload_result") or "")
    if bad is None:
        return
    problems = "".join(
        f'<p class="why">{escape(str(Problem(**found)))}</p>'
        for found in config.get("last_reload_problems", ())
    )
    yield (
        f'<li class="degraded"><h3><span class="kind">config</span><span>{bad.came_to} at '
        f'{moment(config["last_reload_at"])}</span></h3>{problems}<p class="more">{bad.in_force.capitalize()}.</p></li>'
    )


# -- everything


def edges(records: Sequence[Record]) -> Iterator[str]:
    """Of many edges first the ones that are away."""
    by_need = sorted(records, key=lambda record: bool(record["connected"]))
    away = sum(not record["connected"] for record in records)
    yield from section(
        "Edges", EDGE_COLUMNS, by_need[:MAX_EDGE_ROWS], note=f"{len(records) - away} connected, {away} away"
    )
    if len(records) > MAX_EDGE_ROWS:
        more = len(records) - MAX_EDGE_ROWS
        yield f'<p class="soft">and {more} more: <a href="/health">as JSON</a></p>'


def footer(report: Record) -> str:
    return (
        f"<footer><span>as of {moment(report.get('time'))}, loaded again every {RELOAD_S}\u00a0s</span>"
        '<a href="/readyz?verbose">readiness</a><a href="/health">as JSON</a><a href="/metrics">metrics</a></footer>'
    )


def chip(state: str) -> str:
    return f'<span class="chip {escape(state)}">{escape(state)}</span>'


def age(seconds: float | None) -> str:
    return "never" if seconds is None else f"{ago(seconds)} ago"


def note_cell(record: Record) -> str:
    """Of what is good its last error, which is over. Why something else is not good stands above."""
    if record["connected"] and record.get("last_error"):
        return escape(f"{record['last_error']} ({age(record['last_error_seconds_ago'])})")
    return ""


def edge_note_cell(record: Record) -> str:
    return note_cell(record) if record["connected"] else text(record.get("reason"))


def text(value: object) -> str:
    return escape("" if value is None else str(value))


def moment(iso: object) -> str:
    return text(iso).replace("T", " ").replace("Z", " UTC")


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.0f} ms"


def size(number: float | None) -> str:
    """Bytes as a person says it."""
    if number is None:
        return ""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


# heading, class of the cell, its HTML
Column = tuple[str, str, Callable[[Record], str]]
NAME: Column = ("name", "name", lambda record: text(record["name"]))
SERVER_NAME: Column = (
    "name",
    "name",
    lambda record: text(record["name"]) + (REQUIRED if record["required"] else ""),
)
STATE: Column = ("state", "state", lambda record: chip(record["state"]))
FOR: Column = ("for", "number", lambda record: ago(record["state_seconds"]))
HEARD: Column = ("last good", "number", lambda record: age(record["last_seen_seconds_ago"]))
TOOLS: Column = ("tools", "number", lambda record: text(record.get("tools_count")))
RESTARTS: Column = ("restarts", "number", lambda record: text(record["restarts"] or None))
DIALECT: Column = ("dialect", "", lambda record: text(record.get("dialect")))
ROUND_TRIP: Column = ("round trip", "number", lambda record: milliseconds(record.get("rtt_s")))
NOTE: Column = ("last error", "note", note_cell)
PART_COLUMNS: Sequence[Column] = (NAME, STATE, FOR, RESTARTS, NOTE)
SERVER_COLUMNS: Sequence[Column] = (
    *(SERVER_NAME, STATE, FOR, HEARD, TOOLS, RESTARTS),
    ("process", "number", lambda record: text(record.get("pid"))),
    ("memory", "number", lambda record: size(record.get("memory_bytes"))),
    ("CPU time", "number", lambda record: "" if record.get("cpu_s") is None else ago(record["cpu_s"])),
    NOTE,
)
LINK_COLUMNS: Sequence[Column] = (
    *(NAME, STATE, DIALECT, FOR, HEARD),
    ("failures", "number", lambda record: text(record.get("failures") or None)),
    ROUND_TRIP,
    ("in", "number", lambda record: size(record.get("bytes_received"))),
    ("out", "number", lambda record: size(record.get("bytes_sent"))),
    NOTE,
)
EDGE_COLUMNS: Sequence[Column] = (
    *(NAME, STATE, DIALECT, FOR, HEARD, TOOLS, ROUND_TRIP),
    ("note", "note", edge_note_cell),
)


def section(
    title: str,
    columns: Sequence[Column],
    records: Sequence[Record],
    *,
    note: str = "",
    none: str = "",
    kind: str = "",
) -> Iterator[str]:
    """A heading and its table; columns in which no row has anything are left out. Nothing at all without records,
    unless `none` is said instead."""
    if not records and not none:
        return
    yield f"<h2>{title}{f'<span>{escape(note)}</span>' if note else ''}</h2>"
    if not records:
        yield f'<p class="soft">{escape(none)}</p>'
        return
    rows = [[cell(record) for _, _, cell in columns] for record in records]
    kept = [number for number in range(len(columns)) if any(row[number] for row in rows)]
    head = "".join(f'<th class="{columns[number][1]}">{columns[number][0]}</th>' for number in kept)
    body = "".join(f"<tr>{cells(columns, kept, row)}</tr>" for row in rows)
    yield f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def cells(columns: Sequence[Column], kept: Iterable[int], row: Sequence[str]) -> str:
    """The label is for narrow screens, where rows become cards; an empty cell has no place there."""
    return "".join(
        f'<td class="{columns[number][1]}" data-label="{columns[number][0]}">{row[number]}</td>'
        for number in kept
    )
