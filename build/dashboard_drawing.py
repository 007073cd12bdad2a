"""Draws the dashboard's panels as a page of HTML and SVG, in their grid: our own drawing, not Grafana's.

Panels without any series say so, as in Grafana. Pure: panels and series in, text out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from dashboard import Panel

COLUMN, ROW, GAP = 50, 28, 6  # pixels of a unit of the grid, and between panels
COLOURS = ("#3871dc", "#e0752d", "#299c46", "#a352cc", "#c4162a", "#1f9e9e", "#b8860b", "#6b7785")
NAMED = {"green": "#299c46", "red": "#c4162a", "orange": "#d9730d", "blue": "#3871dc"}
STYLE = """
*{box-sizing:border-box}
body{margin:0;background:#f1f3f5;font:12px/1.3 "DejaVu Sans","Liberation Sans",sans-serif;color:#222}
header{padding:10px 12px 0;height:64px}h1{font-size:18px;margin:0}header p{margin:3px 0 0;color:#555}
main{position:relative}
section{position:absolute;background:#fff;border:1px solid #d8dce0;border-radius:3px;padding:4px 8px;overflow:hidden}
h2{font-size:12px;margin:0;white-space:nowrap}h3{position:absolute;margin:0;font-size:14px;padding:5px 6px}
.big{position:absolute;inset:22px 4px 4px;display:flex;align-items:center;justify-content:center;font-size:26px;
font-weight:bold;border-radius:3px}
.none{position:absolute;inset:22px 0 0;display:flex;align-items:center;justify-content:center;color:#888}
ul{position:absolute;left:8px;right:8px;bottom:3px;margin:0;padding:0;list-style:none;font-size:11px}
li{display:inline-block;margin-right:9px;white-space:nowrap}i{display:inline-block;width:10px;height:4px;margin-right:4px;
vertical-align:middle}
text{font-size:10px;fill:#666}
"""


class Line(NamedTuple):
    """A series by its name in the legend; points are times (Unix time) and values."""

    name: str
    points: Sequence[tuple[float, float]]


def page(
    title: str,
    caption: str,
    panels: Sequence[Panel],
    lines: Mapping[str, Sequence[Line]],
    span: tuple[float, float],
) -> str:
    """`lines` are the series by panel title; `span` is the time that is shown."""
    height = max(panel.y + panel.h for panel in panels) * ROW
    drawn = "".join(drawing(panel, lines.get(panel.title, ()), span) for panel in panels)
    return (
        f'<!doctype html><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<header><h1>{escape(title)}</h1><p>{escape(caption)}</p></header>"
        f'<main style="width:{24 * COLUMN}px;height:{height}px">{drawn}</main>'
    )


def drawing(panel: Panel, lines: Sequence[Line], span: tuple[float, float]) -> str:
    left, top = panel.x * COLUMN, panel.y * ROW
    if panel.kind == "row":
        return f'<h3 style="left:{left}px;top:{top}px">{escape(panel.title)}</h3>'
    width, height = panel.w * COLUMN - GAP, panel.h * ROW - GAP
    draw: dict[str, Callable[[], str]] = {
        "stat": lambda: stat(panel, lines),
        "timeseries": lambda: chart(panel, lines, span, width - 18, height - 54),
        "state-timeline": lambda: timeline(panel, lines, span, width - 18, height - 30),
    }
    body = draw[panel.kind]() if lines else '<div class="none">No data</div>'
    place = f"left:{left + GAP // 2}px;top:{top + GAP // 2}px;width:{width}px;height:{height}px"
    return f'<section style="{place}"><h2>{escape(panel.title)}</h2>{body}</section>'


# -- one kind of panel each


def stat(panel: Panel, lines: Sequence[Line]) -> str:
    value = lines[0].points[-1][1]
    colour = step_colour(panel.defaults, value)
    style = (
        f"background:{colour};color:#fff" if "mappings" in panel.defaults or colour != NAMED["blue"] else ""
    )
    return f'<div class="big" style="{style or f"color:{colour}"}">{escape(shown(panel, value))}</div>'


def chart(panel: Panel, lines: Sequence[Line], span: tuple[float, float], width: int, height: int) -> str:
    if sum(name_width(line.name) for line in lines) > width:
        height -= 15  # the legend takes two lines
    custom = panel.defaults.get("custom", {})
    is_stacked = custom.get("stacking", {}).get("mode") == "normal"
    areas = stacked(lines) if is_stacked else [(line, None) for line in lines]
    most = max((value for line, _ in areas for _, value in line.points if math.isfinite(value)), default=0.0)
    ticks = ticks_to(most, panel.unit)
    labels = [formatted(tick, panel.unit) for tick in ticks]
    margin = 8 + 6 * max(map(len, labels))

    def place(at: float, value: float) -> str:
        x = margin + (at - span[0]) / (span[1] - span[0]) * (width - margin)
        y = height - value / ticks[-1] * (height - 8)
        return f"{x:.1f},{y:.1f}"

    parts = []
    for tick, label in zip(ticks, labels, strict=True):
        y = height - tick / ticks[-1] * (height - 8)
        parts.append(f'<path d="M{margin} {y:.1f}H{width}" stroke="#e4e7ea"/>')
        parts.append(f'<text x="{margin - 5}" y="{y + 3:.1f}" text-anchor="end">{escape(label)}</text>')
    parts += [
        f'<text x="{place(at, 0).split(",")[0]}" y="{height + 12}" text-anchor="{anchor}">{word}</text>'
        for at, word, anchor in moments(span)
    ]
    for number, (line, floor) in reversed(list(enumerate(areas))):  # the first on top
        colour = COLOURS[number % len(COLOURS)]
        for run in runs(line.points, floor):
            top = [place(at, value) for at, value, _ in run]
            if floor is not None:
                bottom = [place(at, low) for at, _, low in reversed(run)]
                parts.append(
                    f'<polygon points="{" ".join(top + bottom)}" fill="{colour}" fill-opacity=".25"/>'
                )
            parts.append(
                f'<polyline points="{" ".join(top)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            )
    picture = f'<svg width="{width}" height="{height + 14}">{"".join(parts)}</svg>'
    names = [(line.name, COLOURS[number % len(COLOURS)]) for number, line in enumerate(lines)]
    return picture + legend(names, width)


def timeline(panel: Panel, lines: Sequence[Line], span: tuple[float, float], width: int, height: int) -> str:
    margin = 10 + 6 * max(len(line.name) for line in lines)
    step = min(30.0, height / len(lines))
    parts = []
    for number, line in enumerate(lines):
        y = 2 + number * step
        parts.append(
            f'<text x="{margin - 6}" y="{y + step / 2 + 3:.1f}" text-anchor="end">{escape(line.name)}</text>'
        )
        for begin, end, value in states(line.points, span[1]):
            left, right = (
                margin + (at - span[0]) / (span[1] - span[0]) * (width - margin) for at in (begin, end)
            )
            parts.append(
                f'<rect x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" height="{step * 0.8:.1f}" '
                f'fill="{step_colour(panel.defaults, value)}" fill-opacity=".75"/>'
            )
            word = shown(panel, value)
            if right - left > 8 * len(word):
                parts.append(
                    f'<text x="{(left + right) / 2:.1f}" y="{y + step * 0.4 + 3:.1f}" text-anchor="middle" '
                    f'style="fill:#fff">{escape(word)}</text>'
                )
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'


def legend(names: Sequence[tuple[str, str]], width: int) -> str:
    """Names and colours in as many lines as they need, two at most; how many more there are."""
    items, used = [], 0
    for number, (name, colour) in enumerate(names):
        if (
            used + name_width(name) > 2 * width - 120
        ):  # room for the last words, and for what a line's end wastes
            items.append(f"<li>and {len(names) - number} more</li>")
            break
        used += name_width(name)
        items.append(f'<li><i style="background:{colour}"></i>{escape(name)}</li>')
    return f"<ul>{''.join(items)}</ul>"


def name_width(name: str) -> int:
    return 24 + 7 * len(name)


# -- numbers


def runs(
    points: Sequence[tuple[float, float]], floor: Mapping[float, float] | None
) -> list[list[tuple[float, float, float]]]:
    """Points with what is below them, broken where there is no value: two steps or more apart, or not a number."""
    step = min((b - a for (a, _), (b, _) in pairwise(points)), default=1.0)
    found: list[list[tuple[float, float, float]]] = []
    last = -math.inf
    for at, value in points:
        if math.isfinite(value):
            if at - last > 1.5 * step:
                found.append([])
            found[-1].append((at, value, 0.0 if floor is None else floor.get(at, 0.0)))
            last = at
    return found


def stacked(lines: Sequence[Line]) -> list[tuple[Line, dict[float, float]]]:
    """Each line on top of those before it, with what it stands on."""
    floor: dict[float, float] = {}
    found: list[tuple[Line, dict[float, float]]] = []
    for line in lines:
        raised = [(at, value + floor.get(at, 0.0)) for at, value in line.points]
        found.append((Line(line.name, raised), dict(floor)))
        floor |= dict(raised)
    return found


def moments(span: tuple[float, float]) -> list[tuple[float, str, str]]:
    """Times to be named below a chart, how they are called, and which end of the word stands there."""
    begin, end = span
    found = [(end, "now", "end")]
    at = end - 30
    while at > begin + 5:
        found.append((at, f"-{end - at:g} s", "middle"))
        at -= 30
    return found


def states(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float, float]]:
    """Begin, end and value of each stretch of equal values."""
    found: list[tuple[float, float, float]] = []
    for number, (at, value) in enumerate(points):
        until = points[number + 1][0] if number + 1 < len(points) else end
        if found and found[-1][2] == value and found[-1][1] == at:
            found[-1] = (found[-1][0], until, value)
        else:
            found.append((at, until, value))
    return found


def ticks_to(most: float, unit: str) -> list[float]:
    """From 0 in three to five even, round steps to at least `most`."""
    if most <= 0:
        return [0.0, 1.0]
    base = 1024.0 if unit == "bytes" else 1000.0 if unit == "Bps" else 10.0
    scale = base ** math.floor(math.log(most, base))
    while scale > most / 2:
        scale /= 10
    step = next(
        scale * n * power
        for power in (10**e for e in range(8))
        for n in (1, 2, 2.5, 5)
        if scale * n * power * 4 >= most
    )
    if unit == "none":
        step = max(1.0, math.ceil(step))
    return [n * step for n in range(math.ceil(most / step - 1e-9) + 1)]


def step_colour(defaults: Mapping[str, Any], value: float) -> str:
    """The colour of the last threshold that is not above the value."""
    steps = defaults["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return NAMED[reached[-1]]


def shown(panel: Panel, value: float) -> str:
    """The value in the panel's words, or with its unit."""
    for mapping in panel.defaults.get("mappings", ()):
        found = mapping["options"].get(f"{value:g}")
        if found is not None:
            return str(found["text"])
    return formatted(value, panel.unit)


def formatted(value: float, unit: str) -> str:
    """A number with its unit, as Grafana calls them: reqps, s, Bps, bytes, percentunit, none."""
    match unit:
        case "s" if 0 < abs(value) < 1:
            return f"{value * 1000:.3g} ms"
        case "s" if value >= 120:
            return f"{value / 60:.3g} min"
        case "s":
            return f"{value:.3g} s"
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "bytes":
            return scaled(value, 1024, ("B", "KiB", "MiB", "GiB"))
        case "Bps":
            return scaled(value, 1000, ("B/s", "kB/s", "MB/s", "GB/s"))
        case "reqps":
            return f"{value:.3g} /s"
    return f"{value:.5g}"


def scaled(value: float, base: int, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if value < base:
            return f"{value:.3g} {unit}"
        value /= base
    return f"{value:.3g} {units[-1]}"
