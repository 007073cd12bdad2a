"""What metrics are made of: counts over closed sets of values, and histograms of seconds."""

from bisect import bisect_left
from collections.abc import Iterable

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RESULTS = ("success", "error")


class Histogram:
    """Observations counted into buckets; `bounds` are the inclusive upper ends, `+Inf` is implied."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def take_over(self, other: "Histogram") -> None:
        """Add what another one of the same bounds has observed."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class Counts(dict[str, int]):
    """A counter per label value, over a closed set; counts of anything else go to `other`.

    `other` need not be in the set: it appears when it is first needed.
    """

    def __init__(self, values: Iterable[str]) -> None:
        super().__init__(dict.fromkeys(values, 0))

    def add(self, value: str, n: int = 1) -> None:
        if value in self:
            self[value] += n
        else:
            self["other"] = self.get("other", 0) + n

    def take_over(self, other: "Counts") -> None:
        """Add what another one of the same values has counted."""
        for value, n in other.items():
            self[value] = self.get(value, 0) + n


class Timed:
    """Things that take time and end one way or another: requests of one method, calls of one tool."""

    __slots__ = ("duration", "ends")

    def __init__(self, ends: Iterable[str]) -> None:
        self.duration = Histogram()
        self.ends = Counts(ends)
