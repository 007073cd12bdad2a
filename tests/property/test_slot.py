"""Whatever a part does and whenever it is stopped: a slot keeps its word."""

import logging
import math

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from edge.metrics import Metrics
from edge.supervise.slot import MAX_RESTARTS, WINDOW_S, Part, Slot
from tests.support.scripted_part import ScriptedPart

seconds = st.sampled_from([0.0, 0.5, 1.0, 5.0, 20.0, 70.0])
logging.getLogger("edge.slot").addHandler(logging.NullHandler())


def bug() -> Exception:
    return RuntimeError("a bug")


@settings(max_examples=150)
@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=12), seconds, seconds, st.floats(0.1, 400))
def test_a_slot_restarts_within_its_limit_and_ends_within_its_deadline(
    lives: list[tuple[float, float]], drain_s: float, patience_s: float, stop_at: float
) -> None:
    story: list[tuple[float, str]] = []
    crashes: list[float] = []
    built = 0

    def build() -> Part:
        nonlocal built
        start_s, up_s = lives[built] if built < len(lives) else (0.0, math.inf)
        built += 1

        def crash() -> Exception:
            crashes.append(trio.current_time())
            return bug()

        return ScriptedPart("part", story, start_s=start_s, up_s=up_s, fault=crash, drain_s=drain_s)

    ended_at: list[float] = []

    async def scenario() -> None:
        slot = Slot("upstream", "git", build, metrics=Metrics())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nursery.start, slot.run)
                await trio.sleep(stop_at)
                await slot.stop(stop_at + patience_s)
        finally:
            ended_at.append(trio.current_time())

    try:
        trio.run(scenario, clock=MockClock(autojump_threshold=0))
        rose = False
    except* RuntimeError:
        rose = True

    within = [sum(at - WINDOW_S < earlier <= at for earlier in crashes) for at in crashes]
    assert rose == any(n > MAX_RESTARTS for n in within), (
        "it rises exactly when there were too many in the window"
    )
    assert len(crashes) <= built <= len(crashes) + 1, "one for the start, one for each crash"
    assert ended_at[0] <= stop_at + patience_s, "and it never outlives its deadline"
