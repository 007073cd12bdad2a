"""What the readings say: medians over the rounds, ratios of pairs from the same round, and the targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from tests.bench.contenders import DIRECT, EDGE, NPM_PROXY, PIP_PROXY, PIP_PROXY_HALF
from tests.bench.measure import Reading

Figure = Callable[[Reading], float]
GENERATOR_SHARE = 0.1  # of what it measures may the load generator cost


class Key(NamedTuple):
    kind: str
    contender: str


Rounds = Mapping[Key, Sequence[Reading]]  # equally many of each: a contender that failed once is not in there


@dataclass(frozen=True, slots=True)
class Target:
    """`limit` is the least or the most that `value` may be; `value` is None if it was not measured."""

    text: str
    limit: float
    is_least: bool
    unit: str
    value: float | None

    @property
    def is_met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.is_least else self.value <= self.limit


def calls_per_s(lanes: int) -> Figure:
    return lambda reading: reading.outcomes[lanes].calls_per_s


def p50_us(lanes: int) -> Figure:
    return lambda reading: reading.outcomes[lanes].p50_us


def p99_us(lanes: int) -> Figure:
    return lambda reading: reading.outcomes[lanes].p99_us


def cpu_us(lanes: int) -> Figure:
    return lambda reading: reading.outcomes[lanes].cpu_us


def generator_share(lanes: int) -> Figure:
    return lambda reading: reading.outcomes[lanes].own_cpu_us / max(reading.outcomes[lanes].cpu_us, 1e-9)


def middle(rounds: Rounds, key: Key, figure: Figure) -> float | None:
    readings = rounds.get(key)
    return median(map(figure, readings)) if readings else None


def ratio(rounds: Rounds, ours: Key, theirs: Key, figure: Figure) -> float | None:
    """The median of what ours divided by theirs is in each round."""
    if ours not in rounds or theirs not in rounds:
        return None
    pairs = zip(rounds[ours], rounds[theirs], strict=True)
    return median(figure(our) / figure(their) for our, their in pairs)


def start_ms(rounds: Rounds, key: Key) -> float | None:
    """From the start to the first answered call, without what the server alone takes for the same."""
    if key not in rounds:
        return None
    if key.kind == "http":  # there the server runs already
        return median(each.first_call_s for each in rounds[key]) * 1e3
    alone = rounds.get(Key(key.kind, DIRECT))
    if not alone:
        return None
    pairs = zip(rounds[key], alone, strict=True)
    return median(each.first_call_s - server.first_call_s for each, server in pairs) * 1e3


def targets(rounds: Rounds) -> list[Target]:
    stdio, http = Key("stdio", EDGE), Key("http", EDGE)
    pip, npm = Key("stdio", PIP_PROXY), Key("stdio", NPM_PROXY)
    chain, half = Key("http", PIP_PROXY), Key("http", PIP_PROXY_HALF)
    rate = calls_per_s(32)
    latency = ratio(rounds, stdio, pip, p50_us(1))
    return [
        Target("stdio: CPU per call, 32 at once", 160, False, " µs", middle(rounds, stdio, cpu_us(32))),
        Target("stdio: calls/s of pip mcp-proxy, 32 at once", 3, True, " x", ratio(rounds, stdio, pip, rate)),
        Target("stdio: calls/s of npm mcp-proxy, 32 at once", 1, True, " x", ratio(rounds, stdio, npm, rate)),
        Target("stdio: p50 of pip mcp-proxy's, one at a time", 1 / 3, False, " x", latency),
        Target(
            "HTTP: calls/s of two pip mcp-proxy, 32 at once", 5, True, " x", ratio(rounds, http, chain, rate)
        ),
        Target(
            "HTTP: calls/s of one pip mcp-proxy, 32 at once", 5, True, " x", ratio(rounds, http, half, rate)
        ),
        Target(
            "idle RSS with a stdio server", 40, False, " MiB", middle(rounds, stdio, lambda r: r.idle.rss)
        ),
        Target("start to first stdio call, less the server's", 300, False, " ms", start_ms(rounds, stdio)),
        Target("start to first HTTP call", 300, False, " ms", start_ms(rounds, http)),
    ]
