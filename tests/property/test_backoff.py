from hypothesis import given
from hypothesis import strategies as st

from edge.backoff import SHORTEST_S, Backoff

steps = st.lists(st.tuples(st.sampled_from(["started", "next"]), st.floats(0, 100)), max_size=60)
unit = st.floats(0, 1, exclude_max=True)


@given(steps, st.floats(0.01, 10), st.floats(1, 50), st.floats(0, 1), unit)
def test_every_delay_is_within_its_bounds_and_starts_again_only_after_good_time(
    history: list[tuple[str, float]], first_s: float, factor: float, jitter: float, dice: float
) -> None:
    limit_s = first_s * factor
    backoff = Backoff(first_s, limit_s, jitter, rng=lambda: dice, forgive_after_s=30)
    now, attempts, up_since = 0.0, 0, None
    for step, wait in history:
        now += wait
        if step == "started":
            backoff.started(now)
            up_since = now if up_since is None else up_since
            continue
        delay = backoff.next(now)
        attempts = 1 if up_since is not None and now - up_since >= 30 else attempts + 1
        up_since = None
        assert backoff.attempts == attempts
        whole = min(limit_s, first_s * 2.0 ** (attempts - 1))
        assert max(SHORTEST_S, whole * (1 - jitter)) <= delay * (1 + 1e-9)
        assert delay <= max(SHORTEST_S, whole) * (1 + 1e-9)
