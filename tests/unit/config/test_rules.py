"""How broken rules are gathered and shown."""

import pytest

from edge.config.rules import BadValues, Finding, Rules, dotted


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("servers", "git", "command", 1), "servers.git.command[1]"),
        (("servers", "a.b", "X-Y_1"), 'servers."a.b".X-Y_1'),
        (("", "a\nb\x1b[31m"), '"".' + '"a?b?[31m"'),
    ],
)
def test_a_path_is_shown_as_toml_would_write_it_and_cannot_steer_a_terminal(
    path: tuple[str | int, ...], text: str
) -> None:
    assert dotted(path) == text


def test_all_broken_rules_of_a_table_are_raised_at_once() -> None:
    rules = Rules()
    rules.check(True, "fine", "a")
    rules.check(False, "is bad", "b", 0)
    rules.check(False, "the table is bad")
    with pytest.raises(BadValues) as caught:
        rules.enforce()
    assert caught.value.findings == (Finding(("b", 0), "is bad"), Finding((), "the table is bad"))
    assert str(caught.value) == "b[0]: is bad; the table is bad"


def test_no_broken_rule_raises_nothing() -> None:
    Rules().enforce()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 31_536_001.0])
def test_a_duration_is_finite_and_above_0(value: float) -> None:
    rules = Rules()
    rules.seconds("x_s", value)
    with pytest.raises(BadValues, match="x_s: must be above 0 and at most 31536000 seconds"):
        rules.enforce()


@pytest.mark.parametrize(("value", "is_good"), [(0.0, True), (-0.5, False), (31_536_000.0, True)])
def test_some_durations_may_be_0(value: float, is_good: bool) -> None:
    rules = Rules()
    rules.seconds("x_s", value, may_be_zero=True)
    if is_good:
        rules.enforce()
    else:
        with pytest.raises(BadValues, match="x_s: must be 0 or more"):
            rules.enforce()


@pytest.mark.parametrize(
    ("value", "words"), [("", "x: must not be empty"), ("a\0b", "x: must not contain a NUL")]
)
def test_a_file_name_is_not_empty_and_without_nul(value: str, words: str) -> None:
    rules = Rules()
    rules.plain("x", value)
    with pytest.raises(BadValues, match=words):
        rules.enforce()


def test_a_file_name_that_is_not_given_is_fine() -> None:
    rules = Rules()
    rules.plain("x", None)
    rules.enforce()
