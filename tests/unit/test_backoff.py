import pytest

from edge.backoff import SHORTEST_S, Backoff


def test_without_jitter_the_delay_doubles_up_to_the_limit() -> None:
    backoff = Backoff(0.1, 1.0, 0)
    assert [backoff.next(0.0) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_thousand_attempts_stay_at_the_limit() -> None:
    backoff = Backoff(1.0, 30.0, 0)
    assert [backoff.next(0.0) for _ in range(1100)][-1] == 30.0


@pytest.mark.parametrize(
    ("jitter", "dice", "delay"),
    [(1.0, 0.25, 1.0), (1.0, 0.75, 3.0), (0.5, 0.0, 2.0), (0.5, 0.5, 3.0), (0.0, 0.3, 4.0)],
)
def test_jitter_is_the_random_share_of_the_delay(jitter: float, dice: float, delay: float) -> None:
    assert Backoff(4.0, 60.0, jitter, rng=lambda: dice).next(0.0) == delay


def test_full_jitter_never_gives_a_busy_loop() -> None:
    assert Backoff(1.0, 60.0, rng=lambda: 0.0).next(0.0) == SHORTEST_S


def test_coming_up_briefly_forgives_nothing() -> None:
    backoff = Backoff(1.0, 60.0, 0, forgive_after_s=30)
    assert [backoff.next(0.0), backoff.next(1.0)] == [1.0, 2.0]
    backoff.started(10.0)
    assert backoff.next(39.9) == 4.0


def test_staying_up_for_long_enough_forgives_all() -> None:
    backoff = Backoff(1.0, 60.0, 0, forgive_after_s=30)
    backoff.next(0.0)
    backoff.next(1.0)
    backoff.started(10.0)
    assert (backoff.next(40.0), backoff.attempts) == (1.0, 1)
    assert backoff.next(100.0) == 2.0, "it has not been up since"


def test_saying_started_again_does_not_begin_a_new_time_of_being_good() -> None:
    backoff = Backoff(1.0, 60.0, 0, forgive_after_s=30)
    backoff.next(0.0)
    backoff.started(10.0)
    backoff.started(39.0)
    assert backoff.next(40.0) == 1.0


@pytest.mark.parametrize(
    ("first_s", "limit_s", "jitter"),
    [(0.0, 1.0, 0.0), (2.0, 1.0, 0.0), (1.0, 2.0, -0.1), (1.0, 2.0, 1.1), (1.0, 2.0, 0.5)],
)
def test_what_makes_no_sense_is_refused(first_s: float, limit_s: float, jitter: float) -> None:
    with pytest.raises(ValueError, match=r"first_s|jitter"):
        Backoff(first_s, limit_s, jitter)
