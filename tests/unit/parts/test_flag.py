"""An event that costs nothing until somebody waits for it."""

import trio
import trio.testing

from edge.parts.flag import Flag


async def waits(flag: Flag, done: list[str], name: str) -> None:
    await flag.wait()
    done.append(name)


async def test_all_who_wait_are_woken_and_later_ones_need_not_wait() -> None:
    flag, done = Flag(), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits, flag, done, "a")
        nursery.start_soon(waits, flag, done, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert done == []
        flag.set()
    assert sorted(done) == ["a", "b"]
    assert flag.is_set()
    with trio.testing.assert_checkpoints():
        await flag.wait()


async def test_who_has_been_woken_stays_so_though_it_is_taken_down() -> None:
    flag, done = Flag(), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits, flag, done, "early")
        await trio.testing.wait_all_tasks_blocked()
        flag.pulse()
        assert not flag.is_set()
        nursery.start_soon(waits, flag, done, "late")
        await trio.testing.wait_all_tasks_blocked()
        assert done == ["early"]
        flag.set()
    assert done == ["early", "late"]


async def test_a_waiter_that_is_cancelled_leaves_the_others_waiting() -> None:
    flag, done = Flag(), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits, flag, done, "stays")
        with trio.CancelScope() as scope:
            scope.cancel()
            await flag.wait()
        await trio.testing.wait_all_tasks_blocked()
        flag.set()
    assert done == ["stays"]
