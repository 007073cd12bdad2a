"""The commands of dialects that speak plain HTTP, over memory streams."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from edge.parts.http_carrier import HttpCarrier
from edge.proto.dialect import (
    Alive,
    CallFailed,
    CloseCarrier,
    Closed,
    Event,
    HttpCall,
    Opened,
    OpenStream,
    Push,
    Received,
    Refused,
    Replied,
)
from tests.support.http_server_toys import Answer, Got, MemoryNet, Script, ToyServer


class CarrierRig:
    def __init__(self, net: MemoryNet, server: ToyServer, max_posts: int) -> None:
        self.net = net
        self.server = server
        self.events: list[Event] = []
        self.carrier = HttpCarrier(
            net.pool(),
            max_event_bytes=1000,
            max_body_bytes=1000,
            open_timeout_s=10,
            max_posts=lambda: max_posts,
        )
        self._news = trio.Event()

    def feed(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()
        self._news = trio.Event()

    async def until(self, condition: Callable[[list[Event]], bool]) -> list[Event]:
        while not condition(self.events):
            await self._news.wait()
        return self.events

    async def event(self, n: int = 1) -> Event:
        return (await self.until(lambda events: len(events) >= n))[n - 1]


@asynccontextmanager
async def carrying(script: Script, max_posts: int = 1) -> AsyncIterator[CarrierRig]:
    server = ToyServer(script)
    async with trio.open_nursery() as nursery:
        net = MemoryNet(server, nursery)
        rig = CarrierRig(net, server, max_posts)
        nursery.start_soon(rig.carrier.run, rig.feed)
        yield rig
        nursery.cancel_scope.cancel()
    assert all(wire.is_closed for wire in net.wires)


def post(tag: str, body: str = "{}", timeout_s: float = 5) -> HttpCall:
    return HttpCall(tag, "POST", "/message", {"X-Name": "box"}, body, timeout_s)


def get(tag: str, timeout_s: float = 40) -> HttpCall:
    return HttpCall(tag, "GET", "/poll", {}, None, timeout_s)


async def accepted(got: Got, answer: Answer) -> None:
    await answer.send(202)


async def never(got: Got, answer: Answer) -> None:
    await answer.wait_client_gone()


async def test_a_post_is_sent_as_it_is_and_its_answer_is_fed(autojump_clock: trio.testing.MockClock) -> None:
    async def script(got: Got, answer: Answer) -> None:
        await answer.send(200, {"X-Seen": "yes"}, b"fine")

    async with carrying(script) as rig:
        rig.carrier.perform(post("a", '{"x":1}'))
        answer = await rig.event()
        assert isinstance(answer, Replied)
        assert (answer.tag, answer.status, answer.body, answer.headers["x-seen"]) == ("a", 200, "fine", "yes")
        (got,) = rig.server.requests
        assert (got.method, got.target, got.body, got.fields["x-name"]) == (
            "POST",
            "/message",
            b'{"x":1}',
            "box",
        )


async def test_what_was_performed_before_it_ran_is_done(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = ToyServer(accepted)
        rig = CarrierRig(MemoryNet(server, nursery), server, 1)
        rig.carrier.perform(post("a"))
        nursery.start_soon(rig.carrier.run, rig.feed)
        assert isinstance(await rig.event(), Replied)
        nursery.cancel_scope.cancel()


async def test_one_post_after_the_other_uses_one_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with carrying(accepted) as rig:
        for n in range(3):
            rig.carrier.perform(post(str(n)))
            await rig.event(n + 1)
        assert rig.server.connections == 1


async def test_an_answer_that_does_not_come_may_have_arrived(autojump_clock: trio.testing.MockClock) -> None:
    async with carrying(never) as rig:
        rig.carrier.perform(post("a", timeout_s=5))
        assert await rig.event() == CallFailed("a", "no answer within 5 s", may_have_arrived=True)
        assert trio.current_time() == 5


async def test_a_connection_that_breaks_may_have_carried_the_post(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(got: Got, answer: Answer) -> None:
        await answer.drop()

    async with carrying(script) as rig:
        rig.carrier.perform(post("a"))
        failed = await rig.event()
        assert isinstance(failed, CallFailed)
        assert failed.may_have_arrived


async def test_a_post_that_cannot_be_sent_has_not_arrived(autojump_clock: trio.testing.MockClock) -> None:
    async with carrying(accepted) as rig:
        rig.carrier.perform(HttpCall("a", "POST", "/", {"X-Name": "a\r\nb"}, "{}", 5))
        failed = await rig.event()
        assert isinstance(failed, CallFailed)
        assert not failed.may_have_arrived


async def test_an_answer_over_the_limit_is_none(autojump_clock: trio.testing.MockClock) -> None:
    async def script(got: Got, answer: Answer) -> None:
        await answer.send(200, {}, b"x" * 2000)

    async with carrying(script) as rig:
        rig.carrier.perform(get("a"))
        assert await rig.event() == CallFailed(
            "a", "the answer is over the limit of 1000 bytes", may_have_arrived=True
        )


async def test_a_stream_gives_its_events_and_signs_of_life(autojump_clock: trio.testing.MockClock) -> None:
    async def script(got: Got, answer: Answer) -> None:
        await answer.start_events({"X-Session-Id": "s-1"})
        await answer.chunk(b": connected\n\n")
        await answer.event({"id": 1})
        await answer.event({"id": 2}, lines="")
        await answer.event({"id": 3}, lines="event: other\n")
        await answer.end()

    async with carrying(script) as rig:
        rig.carrier.perform(OpenStream("/sse?server_name=box", {"Accept": "text/event-stream"}))
        events = await rig.until(lambda events: Closed in map(type, events))
        opened = events[0]
        assert isinstance(opened, Opened)
        assert opened.headers["x-session-id"] == "s-1"
        assert [event for event in events[1:] if not isinstance(event, Alive)] == [
            Received('{"id": 1}'),
            Received('{"id": 2}'),
            Closed("the event stream ended"),
        ]
        assert Alive() in events
        assert rig.server.requests[0].target == "/sse?server_name=box"


async def test_a_stream_that_is_refused_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async def script(got: Got, answer: Answer) -> None:
        await answer.send(401, {}, b"Unauthorized")

    async with carrying(script) as rig:
        rig.carrier.perform(OpenStream("/sse"))
        refused = await rig.event()
        assert isinstance(refused, Refused)
        assert (refused.status, refused.body) == (401, "Unauthorized")


async def test_a_stream_that_does_not_open_in_time_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    async with carrying(never) as rig:
        rig.carrier.perform(OpenStream("/sse"))
        assert await rig.event() == Closed("no answer within 10 s")


@pytest.mark.parametrize("data", [b"data: \xff\n\n", b"data: " + b"x" * 1100])
async def test_a_stream_that_is_none_is_closed(autojump_clock: trio.testing.MockClock, data: bytes) -> None:
    async def script(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.chunk(data)
        await answer.wait_client_gone()

    async with carrying(script) as rig:
        rig.carrier.perform(OpenStream("/sse"))
        assert isinstance((await rig.until(lambda events: len(events) >= 2))[-1], Closed)


async def test_flush_waits_for_open_posts_but_not_for_polls(autojump_clock: trio.testing.MockClock) -> None:
    async def script(got: Got, answer: Answer) -> None:
        if got.method == "GET":
            await answer.wait_client_gone()
        await trio.sleep(3)
        await answer.send(202)

    async with carrying(script) as rig:
        rig.carrier.perform(get("poll"))
        await rig.carrier.flush()
        assert trio.current_time() == 0
        rig.carrier.perform(post("a"))
        await rig.carrier.flush()
        assert trio.current_time() == 3


async def test_closing_lets_posts_end_and_cuts_what_lasts(autojump_clock: trio.testing.MockClock) -> None:
    async def script(got: Got, answer: Answer) -> None:
        if got.method == "GET":
            await answer.wait_client_gone()
        else:
            await trio.sleep(3)
            await answer.send(202)

    async with carrying(script) as rig:
        rig.carrier.perform(get("poll"))
        rig.carrier.perform(post("a"))
        await trio.sleep(1)
        rig.carrier.perform(CloseCarrier())
        rig.carrier.perform(post("late"))
        await rig.until(lambda events: Closed("closed") in events)
        assert trio.current_time() == 3
        assert [type(event) for event in rig.events] == [Replied, Closed]
        assert len(rig.server.requests) == 2


async def test_a_command_for_another_carrier_is_a_bug() -> None:
    async with carrying(accepted) as rig:
        with pytest.raises(AssertionError):
            rig.carrier.perform(Push("x"))


async def test_what_is_said_after_a_carrier_was_cancelled_goes_nowhere(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An answer may come to its end in the very step in which the link is cut off."""
    async with trio.open_nursery() as nursery:
        net = MemoryNet(ToyServer(accepted), nursery)
        rig = CarrierRig(net, ToyServer(accepted), 1)
        async with trio.open_nursery() as running:
            running.start_soon(rig.carrier.run, rig.feed)
            await trio.testing.wait_all_tasks_blocked()
            running.cancel_scope.cancel()
        rig.carrier.perform(post("late"))
        await rig.carrier.flush()
    assert (rig.events, net.wires) == ([], [])
