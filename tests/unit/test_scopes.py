import trio
from trio.testing import MockClock

from edge.scopes import goodbye


async def test_goodbye_lets_the_last_words_out_after_cancellation(autojump_clock: MockClock) -> None:
    said: list[str] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        finally:
            with goodbye(5):
                await trio.sleep(1)
                said.append("goodbye")
    assert said == ["goodbye"]
    assert scope.cancelled_caught


async def test_goodbye_gives_up_after_its_seconds(autojump_clock: MockClock) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        with goodbye(2) as last:
            await trio.sleep(100)
        assert trio.current_time() == autojump_clock.current_time() == 2
        await trio.sleep_forever()
    assert last.cancelled_caught
    assert scope.cancelled_caught, "the cancellation is delivered after the block"
