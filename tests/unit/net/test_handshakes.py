"""Turns for TLS handshakes: so many at once, and nobody waits for those who dawdle."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.metrics import Metrics
from edge.net.handshakes import AT_ONCE, HOLD_S, OF_ONE_HOST, WAIT_S, Handshakes


class Clients:
    """As many as are asked for, of whom each begins its handshake when it is its turn, and keeps at it. Each comes from
    a host of its own, but for those of `crowd`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.metrics = Metrics()
        self.begun: list[int] = []
        self.crowd: set[int] = set()
        self._handshakes = Handshakes(self.metrics)
        self._nursery = nursery
        self._scopes: dict[int, trio.CancelScope] = {}
        self._done: dict[int, trio.Event] = {}

    async def come(self, *names: int) -> None:
        for name in names:
            self._scopes[name], self._done[name] = trio.CancelScope(), trio.Event()
            self._nursery.start_soon(self._shake, name)
            await wait_all_tasks_blocked()

    async def finish(self, name: int) -> None:
        self._done[name].set()
        await wait_all_tasks_blocked()

    async def leave(self, name: int) -> None:
        self._scopes[name].cancel()
        await wait_all_tasks_blocked()

    async def _shake(self, name: int) -> None:
        with self._scopes[name]:
            host = "[fd00::1]" if name in self.crowd else f"10.0.0.{name}"
            async with self._handshakes.turn(f"{host}:{50000 + name}"):
                self.begun.append(name)
                await self._done[name].wait()


async def test_so_many_are_in_hand_at_once_and_the_next_begins_as_one_ends(mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        clients = Clients(nursery)
        await clients.come(*range(AT_ONCE + 2))
        assert clients.begun == list(range(AT_ONCE))
        assert clients.metrics.tls_handshakes_waiting == 2
        await clients.finish(5)
        assert clients.begun[AT_ONCE:] == [AT_ONCE]
        await clients.leave(6)
        assert clients.begun[AT_ONCE:] == [AT_ONCE, AT_ONCE + 1]
        assert clients.metrics.tls_handshakes_waiting == 0
        nursery.cancel_scope.cancel()


async def test_who_leaves_while_waiting_takes_nothing_along(mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        clients = Clients(nursery)
        await clients.come(*range(AT_ONCE + 2))
        await clients.leave(AT_ONCE)
        assert clients.metrics.tls_handshakes_waiting == 1
        await clients.finish(0)
        assert clients.begun[AT_ONCE:] == [AT_ONCE + 1]
        nursery.cancel_scope.cancel()


async def test_one_that_takes_its_time_soon_no_longer_counts(mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        clients = Clients(nursery)
        await clients.come(0)
        mock_clock.jump(HOLD_S / 2)
        await clients.come(*range(1, AT_ONCE + 1))
        assert clients.begun[-1] == AT_ONCE - 1
        mock_clock.jump(HOLD_S / 2)
        await wait_all_tasks_blocked()
        assert clients.begun[-1] == AT_ONCE
        await clients.finish(0)  # which is not counted: no turn for another
        await clients.come(AT_ONCE + 1)
        assert clients.metrics.tls_handshakes_waiting == 1
        nursery.cancel_scope.cancel()


async def test_who_has_waited_for_long_goes_ahead(mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        clients = Clients(nursery)
        await clients.come(*range(AT_ONCE))
        mock_clock.jump(HOLD_S - 1)
        others = range(AT_ONCE, 2 * AT_ONCE + 1)
        await clients.come(*others)  # of whom all but one begin when the first have had their time
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        assert clients.metrics.tls_handshakes_waiting == 1
        mock_clock.jump(WAIT_S - 1)
        await wait_all_tasks_blocked()
        assert clients.metrics.tls_handshakes_waiting == 0
        assert sorted(clients.begun[AT_ONCE:]) == list(others)
        nursery.cancel_scope.cancel()


async def test_one_host_cannot_take_the_turns_of_others(mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        clients = Clients(nursery)
        clients.crowd = set(range(100))
        await clients.come(*range(100))
        assert clients.begun == list(range(OF_ONE_HOST))
        await clients.come(100, 101)
        assert clients.begun[OF_ONE_HOST:] == [100, 101]
        await clients.finish(0)
        assert clients.begun[-1] == OF_ONE_HOST
        nursery.cancel_scope.cancel()


def test_nobody_waits_for_so_long_that_a_client_gives_up() -> None:
    assert WAIT_S < 5  # what httpx and others allow for the whole of a connection's beginning
