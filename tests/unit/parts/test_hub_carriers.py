"""What moves the bytes of accepted links: event streams, and HTTP requests that wait for their answer."""

from collections.abc import Awaitable, Callable

import trio
import trio.testing
from trio.testing import MockClock

from edge.net.http_server import HttpRequest, Reply
from edge.parts.hub_carriers import EventCarrier, PollCarrier, Requests
from edge.parts.pump import Pump
from edge.proto.dialect import (
    CloseCarrier,
    Closed,
    Comment,
    Event,
    Lost,
    Opened,
    Push,
    Requested,
    RequestGone,
    Respond,
    Written,
)
from tests.support.memory_http import GET, ScriptedHandler, serving
from tests.support.scripted_dialect import PlainDialect

Handle = Callable[[Reply], Awaitable[None]]


def handler(handle: Handle) -> ScriptedHandler:
    async def answer(request: HttpRequest, reply: Reply) -> None:
        await handle(reply)

    return ScriptedHandler(answer)


async def nothing(carrier: trio.CancelScope) -> None:
    """In place of the pump that runs beside a carrier."""


def pump_of(dialect: PlainDialect) -> Pump:
    return Pump(dialect, PollCarrier(), on_ready=lambda ready: None, log_extra={})


async def test_an_event_stream_is_written_as_edges_read_it(autojump_clock: MockClock) -> None:
    fed: list[Event] = []

    async def handle(reply: Reply) -> None:
        await reply.start_stream()
        carrier = EventCarrier(reply)
        carrier.perform(Comment("connected x"))
        carrier.perform(Push('{"a":1}', "1"))
        carrier.perform(CloseCarrier())
        carrier.perform(Push("too late", "2"))
        await carrier.run(fed.append, nothing)

    async with serving(handler(handle)) as client:
        answer = await client.ask(GET)
    assert answer.body == b': connected x\n\nevent: message\nid: 1\ndata: {"a":1}\n\n'
    assert answer.is_whole
    assert [type(event) for event in fed] == [Closed]


async def test_an_edge_that_leaves_its_stream_is_noticed(autojump_clock: MockClock) -> None:
    fed: list[Event] = []

    async def handle(reply: Reply) -> None:
        await reply.start_stream()
        await EventCarrier(reply).run(fed.append, nothing)

    async with serving(handler(handle)) as client:
        await client.send(GET)
        await client.until(b"\r\n\r\n")
    assert [type(event) for event in fed] == [Closed]


async def test_an_edge_that_reads_slowly_holds_up_who_waits_for_room(autojump_clock: MockClock) -> None:
    has_room = trio.Event()

    async def handle(reply: Reply) -> None:
        await reply.start_stream()
        carrier = EventCarrier(reply)

        async def fill() -> None:
            for n in range(3):
                carrier.perform(Push("x" * 200_000, str(n)))
            await carrier.flush()
            has_room.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            await carrier.run(lambda event: nursery.cancel_scope.cancel(), nothing)

    async with serving(handler(handle), streams=trio.testing.lockstep_stream_pair()) as client:
        await client.send(GET)
        await client.until(b"\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert not has_room.is_set()
        taken = 0
        while taken < 600_000:
            taken += len(await client.stream.receive_some(65536))
        await trio.testing.wait_all_tasks_blocked()
        assert has_room.is_set()


class Asking:
    """One request on a session: what its dialect was told, and how it is answered."""

    def __init__(self) -> None:
        self.dialect = PlainDialect()
        self.pump = pump_of(self.dialect)
        self.requests = Requests()
        self.pump.feed(Opened())

    async def handle(self, reply: Reply) -> None:
        await self.requests.ask(self.pump, self.pump.feed, "poll", "body", reply)

    @property
    def told(self) -> list[Event]:
        return [event for _, event in self.dialect.handled if not isinstance(event, Opened)]


async def test_a_request_waits_for_its_answer(autojump_clock: MockClock) -> None:
    asking = Asking()
    async with serving(handler(asking.handle)) as client:
        await client.send(GET)
        await trio.sleep(25)
        asking.requests.respond(Respond(1, 200, "{}", headers={"X-A": "b"}))
        asking.requests.respond(Respond(2, 200, "to nobody"))
        answer = await client.response()
    assert (answer.status, answer.body, answer.headers["x-a"]) == (200, b"{}", "b")
    assert asking.told == [Requested(1, "poll", "body"), Written(1)]


async def test_an_answer_in_the_same_step_is_as_good(autojump_clock: MockClock) -> None:
    asking = Asking()
    taken = Respond(1, 202, "", "text/plain")
    asking.dialect.script[Requested] = [[taken]]
    asking.pump = Pump(asking.dialect, Answering(asking.requests), on_ready=lambda _: None, log_extra={})
    async with serving(handler(asking.handle)) as client:
        assert (await client.ask(GET)).status == 202
    assert asking.told == [Requested(1, "poll", "body"), Written(1)]


class Answering(PollCarrier):
    def __init__(self, requests: Requests) -> None:
        super().__init__()
        self.requests = requests


async def test_who_leaves_before_the_answer_is_told_to_the_dialect(autojump_clock: MockClock) -> None:
    asking = Asking()
    async with serving(handler(asking.handle)) as client:
        await client.send(GET)
        await trio.testing.wait_all_tasks_blocked()
    assert asking.told == [Requested(1, "poll", "body"), RequestGone(1)]


async def test_a_session_that_ends_answers_who_waits_with_404(autojump_clock: MockClock) -> None:
    asking = Asking()
    async with serving(handler(asking.handle)) as client:
        await client.send(GET)
        await trio.testing.wait_all_tasks_blocked()
        asking.requests.abandon()
        assert (await client.response()).status == 404


async def test_a_session_that_is_over_answers_at_once(autojump_clock: MockClock) -> None:
    asking = Asking()
    asking.dialect.script[Requested] = [[Lost("over")]]
    async with serving(handler(asking.handle)) as client:
        assert (await client.ask(GET)).status == 404
