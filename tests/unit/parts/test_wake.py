import trio
import trio.testing

from edge.parts import wake


class Clock:
    """Counts on as Trio's does, and by what a test adds."""

    def __init__(self) -> None:
        self.slept = 0.0

    def __call__(self) -> float:
        return trio.current_time() + self.slept


async def test_a_gap_of_some_seconds_is_noticed_once(autojump_clock: trio.testing.MockClock) -> None:
    clock, woken, ticks = Clock(), list[float](), list[float]()
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await wake.watch(
                lambda: woken.append(trio.current_time()),
                each=lambda: ticks.append(trio.current_time()),
                clock=clock,
            )

        nursery.start_soon(watch)
        await trio.sleep(2.5)
        clock.slept += 4  # a busy machine
        await trio.sleep(2)
        clock.slept += 6
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert woken == [5]
    assert ticks == [1, 2, 3, 4, 5, 6, 7]


def test_the_clock_goes_on() -> None:
    assert wake.since_boot() > 0
