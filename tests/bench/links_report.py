"""What the readings of links say: their tables, their targets, and how they were measured."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from tests.bench.figures import GENERATOR_SHARE, Target
from tests.bench.links import DIRECT, PLAIN, WAYS, IdleReading, LinkReading
from tests.bench.load import Outcome
from tests.bench.measure import AT_ONCE
from tests.bench.report import number, table

WEBSOCKET = "contextforge"
LABELS = {
    DIRECT: "gateway alone",
    PLAIN: "contextforge (WebSocket), no TLS",
    WEBSOCKET: "contextforge (WebSocket)",
    "mcp-reverse": "mcp-reverse (event stream)",
    "long-poll": "long-poll",
}
NOTES = """\
* Through a hub and an edge: client, hub, link, edge, stdio echo server, and back, all on this machine, which also runs
  the load generator; the link has TLS unless the row says else. "x p50" is that row's p50 divided by the one of the
  gateway alone in the same round: 1 + what the link adds. CPU is of each process, for each call.
* Within a round all ways are up, and take turns by slices of half a second; p50 and p99 are medians of the slices'.
* Idle links: one edge process with that many uplinks, over WebSocket and TLS, each called once. Memory for a link is
  what each end has grown by, over that of ten links. The edge's share has a session with the hub and its own settings
  for every link, for which a usual edge needs one. CPU is of one core, while nothing is called."""

LinkRounds = Mapping[str, Sequence[LinkReading]]  # by way


def link_targets(rounds: LinkRounds, idle: Sequence[IdleReading]) -> list[Target]:
    added = {lanes: times_p50(rounds, WEBSOCKET, lanes) for lanes in AT_ONCE}
    return [
        *(
            Target(
                f"WebSocket link: adds to the direct gateway's p50, {lanes} at once",
                2,
                False,
                " x",
                None if times is None else times - 1,
            )
            for lanes, times in added.items()
        ),
        Target(
            "idle link: memory of the hub",
            60,
            False,
            " KiB",
            median(each.hub_kib for each in idle) if idle else None,
        ),
    ]


def times_p50(rounds: LinkRounds, way: str, lanes: int) -> float | None:
    """The median of the ratios to the gateway alone in the same round."""
    if not rounds.get(way) or not rounds.get(DIRECT):
        return None
    pairs = zip(rounds[way], rounds[DIRECT], strict=True)
    return median(each.outcomes[lanes].p50_us / alone.outcomes[lanes].p50_us for each, alone in pairs)


def link_tables(rounds: LinkRounds, idle: Sequence[IdleReading]) -> str:
    parts = []
    if rounds:
        parts += ["## Through a hub and an edge", calls_table(rounds), memory_table(rounds)]
    if idle:
        parts += [f"## {idle[0].count:,} idle links", idle_table(idle)]
    return "\n\n".join(parts)


def calls_table(rounds: LinkRounds) -> str:
    heads = [""]
    for lanes in AT_ONCE:
        heads += [f"{lanes} at once: calls/s", "p50 µs", "x p50", "p99 µs", "hub CPU µs", "edge CPU µs"]
    rows = []
    for way in WAYS:
        if not rounds.get(way):
            continue
        row = [LABELS[way]]
        for lanes in AT_ONCE:
            row.append(number(middle(rounds[way], lanes, lambda of: of.calls_per_s)))
            row.append(number(middle(rounds[way], lanes, lambda of: of.p50_us)))
            row.append("" if way == DIRECT else number(times_p50(rounds, way, lanes), 2))
            row.append(number(middle(rounds[way], lanes, lambda of: of.p99_us)))
            row.append(number(middle(rounds[way], lanes, lambda of: of.cpu_us_each[0])))
            has_edge = way != DIRECT
            row.append(number(middle(rounds[way], lanes, lambda of: of.cpu_us_each[1])) if has_edge else "")
        rows.append(row)
    return table(heads, rows)


def link_generator_check(rounds: LinkRounds) -> str:
    """What the load generator costs beside hub and edge."""
    lines = []
    for way in WAYS:
        for lanes in AT_ONCE if rounds.get(way) else ():
            share = middle(rounds[way], lanes, lambda of: of.own_cpu_us / max(of.cpu_us, 1e-9))
            warning = f"  MORE THAN {GENERATOR_SHARE:.0%}" if share > GENERATOR_SHARE else ""
            lines.append(f"* links, {LABELS[way]}, {lanes} at once: {share:.1%} of its CPU{warning}")
    return "\n".join(lines)


def middle(readings: Sequence[LinkReading], lanes: int, figure: Callable[[Outcome], float]) -> float:
    return median(figure(each.outcomes[lanes]) for each in readings)


def memory_table(rounds: LinkRounds) -> str:
    rows = []
    for way in WAYS:
        if rounds.get(way):
            hub = number(median(each.hub_rss for each in rounds[way]), 1)
            edge = number(median(each.edge_rss for each in rounds[way]), 1) if way != DIRECT else ""
            rows.append([LABELS[way], hub, edge])
    return table(["", "hub: loaded RSS MiB", "edge: loaded RSS MiB"], rows)


def idle_table(idle: Sequence[IdleReading]) -> str:
    def of(figure: Callable[[IdleReading], float], digits: int = 1) -> str:
        return number(median(map(figure, idle)), digits)

    rows = [
        ["hub", of(lambda each: each.hub_kib), of(lambda each: each.hub_cpu * 100, 2), ""],
        [
            "edge with all of them",
            of(lambda each: each.edge_kib),
            of(lambda each: each.edge_cpu * 100, 2),
            of(lambda each: each.up_s),
        ],
    ]
    return table(
        ["", "KiB a link", f"CPU % in {of(lambda each: each.watched_s, 0)} s", "all up after s"], rows
    )
