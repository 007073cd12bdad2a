"""The dashboard as the build reads and draws it."""

import math

import dashboard
import dashboard_drawing as drawing
import pytest
from dashboard import Panel, Query
from dashboard_drawing import Line

SPAN = (0.0, 10.0)
STEPS = {"thresholds": {"steps": [{"color": "red", "value": None}, {"color": "green", "value": 1}]}}
WORDS: dict[str, object] = {
    "mappings": [{"type": "value", "options": {"0": {"text": "down"}, "1": {"text": "up"}}}]
}


def panel(kind: str, unit: str = "none", defaults: dict[str, object] | None = None) -> Panel:
    return Panel(kind, "Servers <all>", 0, 0, 8, 7, unit, [], {**STEPS, **(defaults or {})})


def drawn(shown: Panel, *lines: Line) -> str:
    return drawing.page("board", "a caption", [shown], {shown.title: lines}, SPAN)


def test_the_variables_are_put_into_the_queries() -> None:
    target = {
        "expr": 'rate(a{instance=~"$instance"}[$__rate_interval])',
        "legendFormat": "{{ server }} {{x}}",
    }
    board = {
        "panels": [
            {"type": "stat", "title": "A", "gridPos": {"x": 1, "y": 2, "w": 3, "h": 4}, "targets": [target]}
        ]
    }
    [found] = dashboard.panels(board, rate_interval="5s")
    assert (found.x, found.y, found.w, found.h) == (1, 2, 3, 4)
    assert found.queries == [Query('rate(a{instance=~".*"}[5s])', "{{ server }} {{x}}")]
    assert found.queries[0].name({"server": "git"}) == "git"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"), (0, "s", "0 s"), (90, "s", "90 s"), (300, "s", "5 min"),
        (0.25, "percentunit", "25 %"),
        (2048, "bytes", "2 KiB"), (1.5e6, "Bps", "1.5 MB/s"), (3e12, "Bps", "3e+03 GB/s"), (12.34, "reqps", "12.3 /s"),
        (20000, "none", "20000"),
    ],
)  # fmt: skip
def test_numbers_have_their_units(value: float, unit: str, text: str) -> None:
    assert drawing.formatted(value, unit) == text


@pytest.mark.parametrize("unit", ["none", "s", "bytes", "Bps"])
@pytest.mark.parametrize("most", [0.0003, 0.9, 1, 3, 7.5, 88, 1024, 5e6, 3e9])
def test_a_scale_has_few_steps_and_room_for_the_highest_value(most: float, unit: str) -> None:
    ticks = drawing.ticks_to(most, unit)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] == 0
    assert ticks[-1] >= most * (1 - 1e-9)


def test_equal_values_are_one_stretch() -> None:
    points = [(0.0, 1.0), (1.0, 1.0), (2.0, 0.0), (3.0, 1.0)]
    assert drawing.states(points, 10.0) == [(0, 2, 1), (2, 3, 0), (3, 10, 1)]


def test_a_line_is_broken_where_there_is_no_value() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 3.0), (7.0, 4.0)]
    assert drawing.runs(points, None) == [[(0, 1, 0), (1, 2, 0)], [(3, 3, 0)], [(7, 4, 0)]]


def test_stacked_lines_stand_on_each_other() -> None:
    raised = drawing.stacked([Line("a", [(0, 1), (1, 1)]), Line("b", [(1, 2)])])
    assert [(line.name, line.points, floor) for line, floor in raised] == [
        ("a", [(0, 1), (1, 1)], {}),
        ("b", [(1, 3)], {0: 1, 1: 1}),
    ]


def test_a_panel_without_series_says_so_and_titles_are_escaped() -> None:
    text = drawn(panel("timeseries"))
    assert "No data" in text
    assert "Servers &lt;all&gt;" in text
    assert "a caption" in text


def test_a_number_has_the_words_and_the_colour_of_its_panel() -> None:
    text = drawn(panel("stat", defaults=WORDS), Line("", [(0, 1), (10, 0)]))
    assert ">down</div>" in text
    assert drawing.NAMED["red"] in text


def test_states_are_drawn_one_after_the_other() -> None:
    text = drawn(panel("state-timeline", defaults=WORDS), Line("git", [(0, 1), (5, 0)]))
    assert text.count("<rect") == 2
    assert text.index(">up</text>") < text.index(">down</text>")


def test_a_chart_has_a_line_a_series_and_their_names() -> None:
    text = drawn(
        panel("timeseries", "s"), Line("p50", [(0, 0.1), (10, 0.2)]), Line("p95", [(0, 0.3), (10, 0.4)])
    )
    assert text.count("<polyline") == 2
    assert "p50</li>" in text
    assert "p95</li>" in text
    assert "400 ms" in text
