"""`python3 build bench`: mcp-edge and its peers, paired, in front of the same echo servers; then its links.

    --quick          one round with short loads: to see that it works, the figures mean little
    --rounds N       medians of N (3)
    --seconds S      of each load (2)
    --only WORD      a kind (stdio, http), a contender (mcp-edge, pip-mcp-proxy, ...) or links; may be repeated
    --links N        how many idle links (1000)
    --write          put the result of a whole run into tests/bench/RESULTS.md, or of --only links into LINKS.md

Exits with 0 whatever the figures are, and with 1 if mcp-edge could not be measured.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.answers import BadAnswer
from tests.bench.contenders import DIRECT, EDGE, KINDS, Contender, all_contenders, missing
from tests.bench.figures import Key, targets
from tests.bench.links import IdleReading, LinkReading, measure_idle, measure_round
from tests.bench.links_report import NOTES as LINK_NOTES
from tests.bench.links_report import link_generator_check, link_tables, link_targets
from tests.bench.measure import AT_ONCE, Reading, Times, measure
from tests.bench.report import NOTES, document, facts, generator_check, tables, targets_table

RESULTS = Path(__file__).with_name("RESULTS.md")
LINK_RESULTS = Path(__file__).with_name("LINKS.md")
LINKS = "links"
IDLE_S, QUICK_IDLE_S, QUICK_LINKS = 60.0, 5.0, 100
BUSY = 0.5  # a load average above it is said to disturb


def main(argv: Sequence[str]) -> int:
    contenders = all_contenders()
    args = arguments(argv, sorted({each.key for each in contenders}))
    times = Times(0.2, 0.5) if args.quick else Times(0.5, args.seconds)
    count = 1 if args.quick else args.rounds
    about = facts(times, count, os.getloadavg()[0])
    show("\n".join(about))
    if os.getloadavg()[0] > BUSY:
        show("The machine is busy with other things: trust the ratios, not the rates.")
    failures: dict[str, str] = {}
    rounds: dict[Key, list[Reading]] = {}
    chosen = []
    for each in contenders:
        if is_chosen(each, args.only):
            if reason := missing(each):
                failures[f"{each.kind}, {each.label}"] = reason
            else:
                chosen.append(each)
    for n in range(count):
        # Back and forth, so that a machine that becomes slower or faster does so to everybody.
        for each in chosen if n % 2 == 0 else reversed(chosen):
            name = f"{each.kind}, {each.label}"
            if name in failures:
                continue
            try:
                reading = measure(each, times)
            except (RuntimeError, BadAnswer, OSError) as exc:
                failures[name] = str(exc)
                rounds.pop(Key(each.kind, each.key), None)
                show(f"round {n + 1}: {name} failed: {exc}")
                continue
            rounds.setdefault(Key(each.kind, each.key), []).append(reading)
            rates = ", ".join(
                f"{reading.outcomes[lanes].calls_per_s:,.0f} calls/s at {lanes}" for lanes in AT_ONCE
            )
            show(f"round {n + 1}: {name}: {rates}")
    ways: dict[str, list[LinkReading]] = {}
    idle: list[IdleReading] = []
    if LINKS in args.only or not args.only:
        ways, idle = links(count, times, args, failures)
    tabled = "\n\n".join(filter(None, [tables(chosen, rounds), link_tables(ways, idle)]))
    is_only_links = args.only == [LINKS]
    wanted = [*([] if is_only_links else targets(rounds)), *link_targets(ways, idle)]
    notes = f"{NOTES}\n{LINK_NOTES}"
    generator = [generator_check(chosen, rounds), link_generator_check(ways)]
    show("", tabled, "", targets_table(wanted), "", *filter(None, generator), "", notes)
    for name, reason in failures.items():
        show(f"not measured: {name}: {reason}")
    if args.write:
        file = LINK_RESULTS if is_only_links else RESULTS
        file.write_text(
            document(" ".join(["python3 build bench", *argv]), about, tabled, wanted, notes, failures)
        )
        show(f"written to {file.name}")
    edges = {
        Key(each.kind, each.key) for each in contenders if each.key == EDGE and is_chosen(each, args.only)
    }
    return 0 if edges <= rounds.keys() and not any(name.startswith(LINKS) for name in failures) else 1


def links(
    count: int, times: Times, args: argparse.Namespace, failures: dict[str, str]
) -> tuple[dict[str, list[LinkReading]], list[IdleReading]]:
    """All ways in `count` rounds, and the idle links, once."""
    ways: dict[str, list[LinkReading]] = {}
    idle: list[IdleReading] = []
    for n in range(count):
        try:
            readings = measure_round(times)
        except (RuntimeError, BadAnswer, OSError) as exc:
            failures[LINKS] = str(exc)
            show(f"round {n + 1}: {LINKS} failed: {exc}")
            break
        for way, reading in readings.items():
            ways.setdefault(way, []).append(reading)
            p50s = ", ".join(f"p50 {reading.outcomes[lanes].p50_us:,.0f} µs at {lanes}" for lanes in AT_ONCE)
            show(f"round {n + 1}: {LINKS}, {way}: {p50s}")
    size, watch_s = (QUICK_LINKS, QUICK_IDLE_S) if args.quick else (args.links, IDLE_S)
    try:
        idle.append(measure_idle(size, watch_s))
        show(f"{size} idle links: {idle[0].hub_kib:.1f} KiB each on the hub")
    except (RuntimeError, BadAnswer, OSError) as exc:
        failures[f"{LINKS}, idle"] = str(exc)
        show(f"{size} idle links failed: {exc}")
    return ways, idle


def arguments(argv: Sequence[str], keys: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 build bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", action="append", choices=[*KINDS, LINKS, *keys], default=[])
    parser.add_argument("--links", type=int, default=1000)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args(argv)
    if args.rounds < 1 or args.seconds <= 0 or args.links < 1:
        parser.error("there is nothing to measure in no time")
    if args.write and (args.quick or args.only not in ([], [LINKS])):
        parser.error("--write is for whole runs, or --only links, and not for --quick")
    return args


def is_chosen(contender: Contender, only: Sequence[str]) -> bool:
    """The server alone always is: start times are counted without it."""
    if list(only) == [LINKS]:
        return False
    kinds = [word for word in only if word in KINDS] or KINDS
    keys = [word for word in only if word not in (*KINDS, LINKS)]
    return contender.kind in kinds and (not keys or contender.key in (*keys, DIRECT))


def show(*texts: str) -> None:
    print(*texts, sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
