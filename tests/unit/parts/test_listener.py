"""The listener part over memory streams: limits, exhausted descriptors, draining, failing to open."""

import errno
import os
from collections.abc import Sequence

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from edge.errors import EdgeError
from edge.health import Status
from edge.metrics import Metrics
from edge.net.http_server import HttpLimits, HttpRequest, Reply
from edge.parts.listener import ACCEPT_PAUSE_S, Listener
from tests.support.memory_http import GET, LIMITS, RawClient, ScriptedHandler, post


class MemoryAcceptor:
    """A listening socket whose clients are memory streams."""

    def __init__(self, address: str) -> None:
        self.address = address + "!"
        self.is_closed = False
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream | OSError](100)

    async def accept(self) -> tuple[trio.abc.Stream, str]:
        stream = await self._receive.receive()
        if isinstance(stream, OSError):
            raise stream
        return stream, "memory"

    def close(self) -> None:
        self.is_closed = True

    def fail(self, number: int) -> None:
        self._send.send_nowait(OSError(number, os.strerror(number)))

    def connect(self) -> RawClient:
        ours, theirs = trio.testing.memory_stream_pair()
        self._send.send_nowait(theirs)
        return RawClient(ours)


class World:
    """A listener and what it is given."""

    def __init__(
        self,
        handler: ScriptedHandler | None = None,
        *,
        addresses: Sequence[str] = ("a",),
        max_connections: int = 10,
        limits: HttpLimits = LIMITS,
        refused: str = "",
    ) -> None:
        self.metrics = Metrics()
        self.status = Status("listener:gateway")
        self.acceptors: list[MemoryAcceptor] = []
        self._refused = refused
        self.listener = Listener(
            "gateway",
            addresses,
            None,
            handler or ScriptedHandler(),
            limits,
            max_connections=max_connections,
            status=self.status,
            metrics=self.metrics,
            open_address=self._open,
        )

    async def _open(self, address: str) -> list[MemoryAcceptor]:
        await trio.lowlevel.checkpoint()
        if address == self._refused:
            raise EdgeError(f"cannot listen on {address}")
        self.acceptors.append(MemoryAcceptor(address))
        return self.acceptors[-1:]

    def connect(self) -> RawClient:
        return self.acceptors[0].connect()


async def test_it_serves_every_address_and_counts() -> None:
    world = World(addresses=("a", "b"))
    async with trio.open_nursery() as nursery:
        await nursery.start(world.listener.run)
        assert world.listener.bound == ("a!", "b!")
        assert world.status.state == "ready"
        for acceptor in world.acceptors:
            client = acceptor.connect()
            assert (await client.ask(post(b"x"))).body == b"x"
        assert world.metrics.connections["gateway"] == 2
        assert world.metrics.connections_accepted["gateway"] == 2
        nursery.cancel_scope.cancel()
    assert world.metrics.connections["gateway"] == 0
    assert all(acceptor.is_closed for acceptor in world.acceptors)


async def test_an_address_that_cannot_be_opened_rises_before_the_start_and_closes_the_others() -> None:
    world = World(addresses=("a", "b"), refused="b")
    with pytest.RaisesGroup(pytest.RaisesExc(EdgeError, match="cannot listen on b")):
        async with trio.open_nursery() as nursery:
            await nursery.start(world.listener.run)
    assert world.acceptors[0].is_closed
    assert (world.status.state, world.status.reason) == ("failed", "cannot listen on b")


async def test_intake_off_closes_idle_connections_and_lets_busy_ones_finish() -> None:
    release = trio.Event()

    async def wait(request: HttpRequest, reply: Reply) -> None:
        if request.body:
            await release.wait()
        await reply.send(200, b"done")

    world = World(ScriptedHandler(wait))
    async with trio.open_nursery() as nursery:
        intake: trio.CancelScope = await nursery.start(world.listener.run)
        new, idle, busy = world.connect(), world.connect(), world.connect()
        assert (await idle.ask(GET)).body == b"done"
        await busy.send(post(b"x"))
        await trio.testing.wait_all_tasks_blocked()
        intake.cancel()
        assert await new.to_end() == b""
        assert await idle.to_end() == b""
        assert world.acceptors[0].is_closed
        release.set()
        response = await busy.response()
        assert (response.body, response.headers["connection"]) == (b"done", "close")
        assert await busy.to_end() == b""


async def test_when_it_gets_stricter_those_that_are_there_end_with_their_request_and_new_ones_stay(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.listener.run)
        asks, waits = world.connect(), world.connect()
        for client in (asks, waits):
            assert "connection" not in (await client.ask(GET)).headers
        world.listener.update(None, LIMITS, max_connections=10, is_stricter=True)
        new = world.connect()
        assert (await asks.ask(GET)).headers["connection"] == "close"
        assert await asks.to_end() == b""
        assert await waits.to_end() == b""
        for _ in range(2):
            assert "connection" not in (await new.ask(GET)).headers
        nursery.cancel_scope.cancel()


async def test_other_settings_by_themselves_cost_nobody_a_connection(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.listener.run)
        client = world.connect()
        await client.ask(GET)
        world.listener.update(None, LIMITS, max_connections=9)
        assert "connection" not in (await client.ask(GET)).headers
        nursery.cancel_scope.cancel()


async def test_the_outer_scope_cuts_what_has_not_finished() -> None:
    async def for_ever(request: HttpRequest, reply: Reply) -> None:
        await trio.sleep_forever()

    world = World(ScriptedHandler(for_ever))
    async with trio.open_nursery() as nursery:
        intake: trio.CancelScope = await nursery.start(world.listener.run)
        client = world.connect()
        await client.send(GET)
        await trio.testing.wait_all_tasks_blocked()
        intake.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert world.metrics.connections["gateway"] == 1
        nursery.cancel_scope.cancel()
    assert world.metrics.connections["gateway"] == 0
    assert await client.to_end() == b""


async def test_over_the_limit_the_longest_idle_connection_makes_room() -> None:
    world = World(max_connections=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.listener.run)
        first, second = world.connect(), world.connect()
        for client in (first, second, first):
            assert (await client.ask(post(b"x"))).status == 200
        third = world.connect()
        assert (await third.ask(post(b"x"))).status == 200
        assert await second.to_end() == b""
        assert (await first.ask(post(b"x"))).status == 200
        assert world.metrics.connections_rejected["gateway"] == 0
        nursery.cancel_scope.cancel()


async def test_over_the_limit_with_all_busy_the_new_one_is_told_503(autojump_clock: MockClock) -> None:
    async def for_ever(request: HttpRequest, reply: Reply) -> None:
        await trio.sleep_forever()

    world = World(ScriptedHandler(for_ever), max_connections=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.listener.run)
        for _ in range(2):
            await world.connect().send(GET)
        await trio.testing.wait_all_tasks_blocked()
        extra = world.connect()
        response = await extra.ask(GET)
        assert (response.status, response.headers["connection"]) == (503, "close")
        assert await extra.to_end() == b""
        assert world.metrics.connections_rejected["gateway"] == 1
        await extra.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        flood = [world.connect() for _ in range(70)]
        await trio.testing.wait_all_tasks_blocked()
        answers = [await client.to_end() for client in flood]
        assert sum(1 for answer in answers if answer) == 64  # the others are only closed
        nursery.cancel_scope.cancel()


async def test_out_of_descriptors_it_waits_says_so_and_recovers(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.listener.run)
        idle = world.connect()
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            world.acceptors[0].fail(errno.EMFILE)
        await trio.testing.wait_all_tasks_blocked()
        assert world.status.state == "degraded"
        assert "Too many open files" in world.status.reason
        assert await idle.to_end() == b""  # it gave up its descriptor
        client = world.connect()
        assert (await client.ask(post(b"x"))).body == b"x"
        assert trio.current_time() == 3 * ACCEPT_PAUSE_S
        assert world.status.is_good
        nursery.cancel_scope.cancel()


async def test_any_other_failure_to_accept_rises() -> None:
    world = World()
    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(world.listener.run)
            world.acceptors[0].fail(errno.EBADF)
    assert world.acceptors[0].is_closed


async def test_a_failing_handler_leaves_the_listener_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: HttpRequest, reply: Reply) -> None:
        raise EdgeError("not even this one")

    world = World(ScriptedHandler(fail))
    async with trio.open_nursery() as nursery:
        await nursery.start(world.listener.run)
        for _ in range(2):
            assert (await world.connect().ask(GET)).status == 500
        nursery.cancel_scope.cancel()
    assert world.status.is_good
