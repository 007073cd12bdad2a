from edge.metrics_counts import Counts, Histogram


def test_a_value_outside_a_closed_set_counts_as_other() -> None:
    counts = Counts(("a",))
    counts.add("a")
    counts.add("b")
    counts.add("c", 2)
    assert counts == {"a": 1, "other": 3}


def test_a_histogram_starts_empty() -> None:
    assert (Histogram().counts, Histogram().sum) == ([0] * 13, 0.0)
