"""How many calls may run at once at one server."""

import trio
import trio.testing

from edge.parts.places import Places


async def test_there_are_so_many_and_one_given_back_can_be_taken_again() -> None:
    places = Places(2)
    assert [places.take() for _ in range(3)] == [True, True, False]
    places.give_back()
    assert [places.take() for _ in range(2)] == [True, False]


async def test_who_waits_gets_a_place_in_the_order_of_coming_and_ahead_of_later_ones() -> None:
    places, got = Places(1), list[str]()
    assert places.take()

    async def waits(name: str) -> None:
        await places.wait()
        got.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("a", "b"):
            nursery.start_soon(waits, name)
            await trio.testing.wait_all_tasks_blocked()
        places.give_back()
        assert not places.take()
        await trio.testing.wait_all_tasks_blocked()
        assert got == ["a"]
        places.give_back()
    assert got == ["a", "b"]


async def test_who_gives_up_waiting_takes_no_place_along() -> None:
    places = Places(1)
    assert places.take()
    with trio.CancelScope() as scope:
        scope.cancel()
        await places.wait()
    assert scope.cancelled_caught
    places.give_back()
    assert places.take()
