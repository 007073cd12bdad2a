"""The driver of a dialect: events and commands in order, the writer, the clock, acknowledgements, and the end."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.errors import LocalProtocolError
from edge.metrics import LinkCounts
from edge.parts.link import Link
from edge.parts.pump import ACK_WITHIN_S, MAX_REMARKS, MAX_UNFLUSHED_BYTES, Pump
from edge.proto.dialect import (
    Alive,
    CallFailed,
    CloseCarrier,
    Closed,
    Comment,
    Deliver,
    HttpCall,
    LinkState,
    Lost,
    Opened,
    Ping,
    Push,
    Ready,
    Received,
    Registering,
    Remark,
    Remember,
    Replied,
    Start,
    Stop,
    Tick,
)
from edge.proto.numbered import ACK_MESSAGES, Numbered
from tests.support.checkpoints import cancel_at_every_step
from tests.support.scripted_dialect import MemoryCarrier, PlainDialect, Wire


class Rig:
    """A pump on a plain dialect and a memory carrier, and the link that it gets when it is ready."""

    def __init__(self, *, own: bool = False, max_unacked: int = 1000, link: Link | None = None) -> None:
        self.got: list[str] = []
        numbered = Numbered(max_unacked=max_unacked, max_unacked_bytes=10**7) if own else None
        self.link = link or Link(
            "plant", self.take, numbered=numbered, limit_bytes=10**7, counts=LinkCounts()
        )
        self.dialect = PlainDialect(own=own)
        self.carrier = MemoryCarrier()
        self.registered: list[str] = []
        self.remembered: list[str | None] = []
        self.answers: dict[str, bytes] = {}  # what is put at once for a message, before others are
        self.peer_received = 0
        self.is_wanted = True
        self.refusal: Stop | None = None
        self.pump = Pump(
            self.dialect,
            self.carrier,
            on_ready=self.ready,
            on_registering=self.registering,
            remember=self.remembered.append,
            log_extra={"uplink": "hub"},
        )

    def take(self, text: str) -> None:
        self.got.append(text)
        if answer := self.answers.get(text):
            self.link.outbox.put(answer, alone=True)

    def registering(self, asked: Registering) -> None:
        self.registered.append(asked.name)
        if self.refusal is not None:
            self.pump.feed(self.refusal)

    def ready(self, ready: Ready) -> tuple[Link, int] | None:
        if not self.is_wanted:
            self.pump.feed(Stop("not wanted", 1008))
            return None
        return self.link, self.peer_received

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Opened and running; ended with the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pump.run)
            self.pump.feed(Opened())
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()

    def put(self, *texts: str) -> None:
        for text in texts:
            self.link.outbox.put(text.encode())


async def test_messages_go_out_in_order_and_come_in() -> None:
    rig = Rig()
    async with rig.up():
        rig.put("one", "two")
        await wait_all_tasks_blocked()
        rig.put("three")
        await wait_all_tasks_blocked()
        rig.pump.feed(Received("answer"))
    assert rig.carrier.pushed == ["one", "two", "three"]
    assert rig.got == ["answer"]


async def test_what_was_put_before_the_link_was_ready_goes_out_then() -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.pump.run)
        rig.put("early")
        await wait_all_tasks_blocked()
        assert rig.carrier.performed == []
        rig.pump.feed(Opened())
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed == ["early"]
        nursery.cancel_scope.cancel()


async def test_a_message_alone_is_sent_in_the_step_that_put_it() -> None:
    rig = Rig(own=True)
    async with rig.up():
        rig.link.outbox.put(b"alone", alone=True)
        assert rig.carrier.pushed == ["1 0 alone"]
        assert rig.link.outbox.taken_count == 1


async def test_an_answer_put_while_a_message_is_delivered_goes_out_at_once_and_acknowledges_it() -> None:
    rig = Rig(own=True)
    rig.answers["ping"] = b"pong"
    async with rig.up():
        rig.pump.feed(Received("1 0 ping"))
        assert rig.carrier.pushed == ["1 1 pong"]


async def test_commands_of_an_inner_event_come_after_those_of_the_outer_one() -> None:
    rig = Rig()
    rig.answers["ping"] = b"pong"
    rig.dialect.script[Received] = [[Deliver("ping"), Deliver("next"), Comment("outer")]]
    async with rig.up():
        rig.pump.feed(Received(""))
    assert rig.got == ["ping", "next"]
    assert rig.carrier.performed == [Comment("outer"), Push("pong")]


async def test_a_message_that_would_pass_the_carriers_queue_is_left_to_the_writer() -> None:
    rig = Rig()
    async with rig.up():
        rig.link.outbox.put(b"x" * (MAX_UNFLUSHED_BYTES + 1), alone=True)
        assert rig.carrier.pushed == []
        await wait_all_tasks_blocked()
        assert len(rig.carrier.pushed) == 1


async def test_a_message_over_the_limit_is_not_sent() -> None:
    rig = Rig()
    async with rig.up():
        rig.put("x" * (16 * 1024 * 1024 + 1), "next")
        await wait_all_tasks_blocked()
    assert rig.carrier.pushed == ["next"]


async def test_many_messages_alone_wait_for_the_carrier_in_the_end() -> None:
    rig = Rig()
    async with rig.up():
        rig.carrier.stick()
        n = 0
        while not rig.link.outbox.waiting_bytes:
            n += 1
            rig.link.outbox.put(b"x" * 1000, alone=True)
        assert n * 1000 <= MAX_UNFLUSHED_BYTES + 1000
        await wait_all_tasks_blocked()
        rig.put("waits", "as well")
        await wait_all_tasks_blocked()
        assert rig.link.outbox.waiting_bytes == len("waitsas well")
        rig.carrier.free()
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed[-2:] == ["waits", "as well"]


async def test_nothing_is_taken_while_the_carrier_does_not_keep_up() -> None:
    rig = Rig()
    async with rig.up():
        rig.carrier.stick()
        rig.put("one")
        await wait_all_tasks_blocked()
        rig.put("two")
        rig.link.outbox.put(b"three", alone=True)
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed == ["one"]
        rig.carrier.free()
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed == ["one", "two", "three"]


async def test_the_clock_runs_while_the_carrier_does_not_keep_up(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.dialect.deadline = 30.0
    rig.dialect.next_deadline = [60.0, None]
    async with rig.up():
        rig.carrier.stick()
        rig.put("one")
        await trio.sleep(100)
        rig.put("two")
        await trio.sleep(1)
        assert rig.carrier.pushed == ["one"]
    assert rig.dialect.ticks() == [30, 60]


async def test_a_peer_that_never_acknowledges_is_sent_no_more() -> None:
    rig = Rig(own=True, max_unacked=2)
    async with rig.up():
        rig.put("one")
        await wait_all_tasks_blocked()
        rig.put("two")
        await wait_all_tasks_blocked()
        rig.put("three")
        rig.link.outbox.put(b"four", alone=True)
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed == ["1 0 one", "2 0 two"]
        rig.pump.feed(Received("0 1"))
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed[2:] == ["3 0 three", "4 0 four"]
        rig.link.outbox.put(b"five", alone=True)
        assert len(rig.carrier.pushed) == 4


async def test_a_message_alone_waits_when_too_much_is_unacknowledged() -> None:
    rig = Rig(own=True, max_unacked=1)
    async with rig.up():
        rig.link.outbox.put(b"one", alone=True)
        rig.link.outbox.put(b"two", alone=True)
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed == ["1 0 one"]
        rig.pump.feed(Received("0 1"))
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed == ["1 0 one", "2 0 two"]


async def test_much_that_was_received_is_acknowledged_in_the_same_step() -> None:
    rig = Rig(own=True)
    async with rig.up():
        for number in range(1, ACK_MESSAGES + 1):
            assert rig.carrier.pushed == []
            rig.pump.feed(Received(f"{number} 0 x"))
        assert rig.carrier.pushed == [f"0 {ACK_MESSAGES}"]


async def test_a_peer_that_sends_but_does_not_read_gets_a_bounded_number_of_acknowledgements() -> None:
    rig = Rig(own=True)
    async with rig.up():
        rig.carrier.stick()
        rig.put("first")
        await wait_all_tasks_blocked()
        n = 0
        while len(rig.carrier.pushed) == 1 + n // ACK_MESSAGES:
            n += 1
            rig.pump.feed(Received(f"{n} 0 x"))
            if n % 1000 == 0:
                await wait_all_tasks_blocked()
        assert len(rig.carrier.pushed) <= MAX_UNFLUSHED_BYTES // 64 + 2
        for _ in range(1000):
            n += 1
            rig.pump.feed(Received(f"{n} 0 x"))
        await wait_all_tasks_blocked()
        n_pushed = len(rig.carrier.pushed)
        rig.carrier.free()
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed[n_pushed:] == [f"0 {n}"]


async def test_little_that_was_received_is_acknowledged_after_a_while_and_once(
    autojump_clock: MockClock,
) -> None:
    rig = Rig(own=True)
    at: list[tuple[object, ...]] = []

    async with rig.up():
        await trio.sleep(1)
        rig.pump.feed(Received("1 0 x"))
        await trio.sleep(ACK_WITHIN_S - 1)
        rig.pump.feed(Received("2 0 x"))
        assert rig.carrier.pushed == []
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        at.append((trio.current_time(), *rig.carrier.pushed))
        await trio.sleep(1000)
        rig.pump.feed(Received("0 0"))
        await trio.sleep(1000)
    assert at == [(1 + ACK_WITHIN_S, "0 2")]
    assert rig.carrier.pushed == ["0 2"]


async def test_a_message_of_ours_acknowledges_and_no_other_frame_is_needed(autojump_clock: MockClock) -> None:
    rig = Rig(own=True)
    async with rig.up():
        rig.pump.feed(Received("1 0 x"))
        rig.put("y")
        await trio.sleep(100)
    assert rig.carrier.pushed == ["1 1 y"]


async def test_deadlines_are_met_when_they_come_also_if_they_move(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.dialect.deadline = 10.0
    rig.dialect.next_deadline = [50.0, None]
    async with rig.up():
        await trio.sleep(5)
        rig.dialect.deadline = 20.0  # later: seen when the alarm goes off
        rig.pump.feed(Alive())
        await trio.sleep(6)
        rig.dialect.deadline = 15.0  # sooner: at once
        rig.pump.feed(Alive())
        await trio.sleep(100)
    assert rig.dialect.ticks() == [15, 50]


async def test_a_deadline_that_does_not_move_does_not_spin(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.dialect.deadline = 1.0
    async with rig.up():
        await trio.sleep(1.1)
    assert 2 <= len(rig.dialect.ticks()) <= 12


async def test_a_tick_may_lose_the_link(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.dialect.deadline = 7.0
    rig.dialect.script[Tick] = [[Lost("silent")]]
    rig.pump.feed(Start())
    assert await rig.pump.run() == Lost("silent")
    assert trio.current_time() == 7


async def test_lost_ends_the_run_and_a_link_with_a_foreign_peer_at_once() -> None:
    rig = Rig()
    lost: list[Lost] = []

    async def run() -> None:
        lost.append(await rig.pump.run())

    async def wait() -> None:
        lost.append(await rig.pump.wait_lost())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(wait)
        rig.pump.feed(Opened())
        await wait_all_tasks_blocked()
        rig.pump.feed(Closed("reset"))
        assert rig.link.ended == "reset"
    assert lost == [rig.pump.lost] * 2
    rig.pump.feed(Received("late"))
    rig.pump.feed(Stop("late"))
    rig.pump.doubt()
    assert rig.got == []
    assert rig.carrier.performed == []
    assert rig.dialect.doubted == []


async def test_a_run_that_begins_after_the_loss_ends_at_once() -> None:
    rig = Rig()
    rig.pump.feed(Opened())
    rig.pump.feed(Closed("reset"))
    assert (await rig.pump.run()).reason == "reset"


async def test_a_numbered_link_is_only_suspended_by_a_loss_and_what_was_sent_comes_again() -> None:
    first = Rig(own=True)
    async with first.up():
        first.put("one", "two")
        await wait_all_tasks_blocked()
        first.pump.feed(Closed("reset"))
        first.put("three")
        await wait_all_tasks_blocked()
    assert (first.link.is_carried, first.link.ended) == (False, None)
    second = Rig(own=True, link=first.link)
    second.peer_received = 1
    async with second.up():
        await wait_all_tasks_blocked()
        assert second.carrier.pushed == ["2 0 two", "3 0 three"]
    assert first.carrier.pushed == ["1 0 one", "2 0 two"]


async def test_much_that_comes_again_waits_for_the_carrier_before_more_is_taken() -> None:
    rig = Rig(own=True)
    assert rig.link.numbered is not None
    rig.link.numbered.send("x" * 2 * MAX_UNFLUSHED_BYTES)
    rig.carrier.stick()
    rig.put("next")
    async with rig.up():
        assert len(rig.carrier.pushed) == 1
        rig.carrier.free()
        await wait_all_tasks_blocked()
        assert rig.carrier.pushed[1:] == ["2 0 next"]


async def test_a_newer_carrier_takes_the_link_over_and_the_older_one_closes() -> None:
    older = Rig(own=True)
    newer = Rig(own=True, link=older.link)
    async with older.up():
        older.pump.feed(Received("1 0 a"))
        async with newer.up():
            assert older.carrier.performed == [CloseCarrier(1000, "replaced by a newer connection")]
            assert older.pump.lost is not None
            older.pump.feed(Received("2 0 from the older one"))
            newer.pump.feed(Received("2 0 b"))
            newer.put("to the newer one")
            await wait_all_tasks_blocked()
            assert older.got == ["a", "b"]
            assert older.link.is_carried
            assert newer.carrier.pushed == ["1 2 to the newer one"]


async def test_what_an_older_carrier_still_brings_is_left_for_the_newer_one() -> None:
    older = Rig(own=True)
    newer = Rig(own=True, link=older.link)
    older.dialect.script[Stop] = [[]]  # it takes its time to close
    async with older.up(), newer.up():
        older.pump.feed(Received("1 0 a"))
        assert older.got == []
        older.pump.feed(Closed("closed"))
        assert older.link.is_carried_by(newer.pump)


@pytest.mark.parametrize("frame", ["{}", "2 0 x", "1 5 x"])
async def test_a_frame_that_cannot_be_ends_the_link(frame: str, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(own=True)
    rig.dialect.script[Received] = [[Deliver(frame), Deliver("1 0 after it")]]
    async with rig.up():
        rig.put("one")
        await wait_all_tasks_blocked()
        rig.put("not sent any more")
        rig.pump.feed(Received(""))
    assert rig.link.ended is not None
    assert rig.got == []
    assert rig.carrier.performed == [Push("1 0 one"), CloseCarrier(1002, rig.link.ended)]
    assert caplog.records == []  # whoever keeps the link says it, with the reason


async def test_a_peer_that_cannot_have_what_it_says_ends_the_link() -> None:
    rig = Rig(own=True)
    rig.peer_received = 3
    async with rig.up():
        pass
    assert rig.link.ended == "the other end has 3 of 0 to 0 messages"
    assert rig.carrier.performed == [CloseCarrier(1002, rig.link.ended)]


async def test_an_edge_of_ours_that_is_refused_is_not_acknowledged_first() -> None:
    rig = Rig(own=True)
    rig.dialect.script[Received] = [[Registering("box"), Push("welcome"), Ready("own"), Remark("odd")]]
    rig.refusal = Stop("the name is taken", 1008)
    async with rig.up():
        rig.pump.feed(Received(""))
        assert rig.pump.lost == Lost("the name is taken")
    assert rig.carrier.performed == [CloseCarrier(1008, "the name is taken")]


async def test_what_an_edge_did_before_it_was_refused_is_not_said_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig()
    rig.dialect.script[Received] = [[Registering("box"), Push("welcome"), Remark("odd")]]
    rig.refusal = Stop("the name is taken", 1008)
    async with rig.up():
        rig.pump.feed(Received(""))
    assert rig.carrier.performed[0] == Push("welcome")
    assert caplog.records == []


async def test_a_link_of_the_wrong_kind_is_a_bug() -> None:
    rig = Rig(own=True)
    rig.dialect.own = False
    with pytest.raises(LocalProtocolError):
        rig.pump.feed(Opened())


async def test_a_link_that_is_not_wanted_is_closed() -> None:
    rig = Rig()
    rig.is_wanted = False
    async with rig.up():
        pass
    assert rig.carrier.performed == [CloseCarrier(1008, "not wanted")]
    assert rig.pump.lost == Lost("not wanted")
    assert rig.link.ended is None


async def test_stop_sends_what_waits_before_it_closes() -> None:
    rig = Rig()
    async with rig.up():
        rig.put("last", "words")
        rig.pump.feed(Stop("stopping"))
        rig.pump.feed(Stop("again"))
    assert rig.carrier.performed == [Push("last"), Push("words"), CloseCarrier(1000, "stopping")]


async def test_nothing_is_sent_after_a_stop_that_takes_its_time() -> None:
    rig = Rig()
    rig.dialect.script[Stop] = [[Comment("goodbye")]]
    async with rig.up():
        rig.pump.feed(Stop("stopping"))
        rig.put("late")
        rig.link.outbox.put(b"late", alone=True)
        await wait_all_tasks_blocked()
        rig.pump.feed(Received("still heard"))
        rig.pump.feed(Closed("closed"))
    assert rig.carrier.performed == [Comment("goodbye")]
    assert rig.got == ["still heard"]


async def test_the_end_of_a_link_closes_its_carrier_and_sends_nothing_more() -> None:
    rig = Rig(own=True)
    async with rig.up():
        rig.put("too late")
        rig.link.end("unpublished")
        await wait_all_tasks_blocked()
    assert rig.carrier.performed == [CloseCarrier(1000, "unpublished")]
    assert rig.link.outbox.taken_count == 0


async def test_a_loss_in_the_middle_of_what_was_taken_keeps_the_rest_for_the_next_carrier() -> None:
    rig = Rig(own=True)
    async with rig.up():
        original = rig.carrier.perform

        def perform(command: object) -> None:
            assert isinstance(command, Push)
            original(command)
            rig.pump.feed(Closed("reset"))

        rig.carrier.perform = perform  # type: ignore[method-assign]  # fails at its first use
        rig.put("one", "two")
        await wait_all_tasks_blocked()
    assert rig.carrier.pushed == ["1 0 one"]
    assert rig.link.attach(rig.pump, 0) == ["1 0 one", "2 0 two"]


async def test_what_a_carrier_does_not_know_is_done_here(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig()
    rig.dialect.script[Alive] = [
        [
            Registering("box"),
            Remember("id"),
            Remember(None),
            Remark("odd"),
            Remark("odd"),
            Remark("so", "debug"),
        ],
        [Remark(f"flood {n}", "info") for n in range(2 * MAX_REMARKS)],
        [Deliver("too soon")],
    ]
    rig.pump.feed(Alive())
    rig.pump.feed(Alive())
    assert rig.registered == ["box"]
    assert rig.remembered == ["id", None]
    assert [(record.levelname, vars(record)["remark"]) for record in caplog.records[:2]] == [
        ("WARNING", "odd"),
        ("INFO", "flood 0"),
    ]
    assert len(caplog.records) == MAX_REMARKS - 1  # one is a debug line
    assert vars(caplog.records[0])["uplink"] == "hub"
    rig.pump.feed(Alive())
    assert rig.got == []


async def test_callbacks_are_optional() -> None:
    rig = Rig()
    pump = Pump(rig.dialect, rig.carrier, on_ready=lambda ready: None, log_extra={})
    rig.dialect.script[Alive] = [[Registering("box"), Remember("id")]]
    pump.feed(Alive())
    assert rig.carrier.performed == []


async def test_a_ping_and_its_pong_give_the_round_trip(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.dialect.script[Tick] = [[Ping()], [Ping()], [Ping()]]
    rtts: list[float | None] = []
    async with rig.up():
        rig.pump.feed(Alive())
        rtts.append(rig.link.counts.rtt_s)
        rig.pump.feed(Tick())
        await trio.sleep(0.5)
        rig.pump.feed(Tick())
        await trio.sleep(0.25)
        rig.pump.feed(Alive())
        await trio.sleep(3)
        rig.pump.feed(Alive())
        rtts.append(rig.link.counts.rtt_s)
    assert rtts == [None, 0.75]
    assert rig.carrier.performed == [Ping(), Ping()]


async def test_a_post_and_its_answer_give_the_round_trip_and_a_failure_does_not(
    autojump_clock: MockClock,
) -> None:
    rig = Rig()
    calls = [HttpCall(tag, "POST", "/", {}, "", 9.0) for tag in "abc"]
    poll = HttpCall("poll", "GET", "/", {}, None, 35.0)
    rig.dialect.script[Tick] = [[poll, *calls[:2]], [calls[2]]]
    rtts: list[float | None] = []
    async with rig.up():
        rig.pump.feed(Tick())
        for event in (Replied("b", 200), Alive(), CallFailed("a", "refused", may_have_arrived=False)):
            await trio.sleep(1)
            rig.pump.feed(event)
            rtts.append(rig.link.counts.rtt_s)
        rig.pump.feed(Tick())
        await trio.sleep(0.5)
        rig.pump.feed(Replied("c", 202))
        rtts.append(rig.link.counts.rtt_s)
    assert rtts == [None, None, None, 0.5]
    assert rig.carrier.performed == [poll, *calls]


async def test_a_pong_before_the_link_is_ready_counts_for_nobody() -> None:
    rig = Rig()
    rig.dialect.script[Start] = [[Ping()]]
    rig.pump.feed(Start())
    rig.pump.feed(Alive())
    assert rig.link.counts.rtt_s is None


async def test_doubt_is_the_dialects_to_resolve(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.dialect.script[Stop] = [[Ping()]]  # what `doubt` gives here
    async with rig.up():
        await trio.sleep(2)
        rig.pump.doubt()
    assert rig.dialect.doubted == [2]
    assert rig.carrier.performed == [Ping()]


async def test_a_dialect_that_is_closed_but_not_lost_is_sent_nothing(autojump_clock: MockClock) -> None:
    rig = Rig()
    seen: list[list[str]] = []
    async with rig.up():
        rig.dialect.state = LinkState.CLOSED
        rig.put("one")
        rig.link.outbox.put(b"two", alone=True)
        await trio.sleep(1)
        seen.append(rig.carrier.pushed)
        rig.dialect.state = LinkState.READY
        rig.pump.feed(Alive())
        await wait_all_tasks_blocked()
        seen.append(rig.carrier.pushed)
    assert seen == [[], ["one", "two"]]


async def test_cancelled_anywhere_nothing_is_lost_and_the_link_is_suspended() -> None:
    async def scenario() -> None:
        rig = Rig(own=True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.pump.run)
                rig.put("a")
                rig.pump.feed(Opened())
                await trio.lowlevel.checkpoint()
                rig.put("b")
                rig.link.outbox.put(b"c", alone=True)
                await trio.lowlevel.checkpoint()
                rig.carrier.stick()
                rig.put("d")
                await trio.lowlevel.checkpoint()
                rig.put("e")
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        finally:
            assert not rig.link.is_carried
            again = Rig(own=True, link=rig.link)
            again.pump.feed(Opened())
            while rig.link.outbox.waiting_bytes:
                for line in rig.link.outbox.take_some():
                    again.carrier.perform(Push(rig.link.frame(line) or "nothing"))
            sent = [frame.split()[2] for frame in again.carrier.pushed]
            assert sent == list("abcde")[: rig.link.outbox.put_count]

    assert await cancel_at_every_step(scenario) > 5


async def test_two_pumps_over_wires_that_are_cut_deliver_everything_once() -> None:
    a, b = Rig(own=True, max_unacked=50), Rig(own=True, max_unacked=50)
    wanted = [str(n) for n in range(200)]
    for rig in (a, b):
        rig.put(*wanted)
    n_before: list[int] = []
    for frames_left in (0, 1, 7, 30, 64, 10_000):
        n_before.append(len(a.got))
        ends = [Rig(own=True, link=rig.link) for rig in (a, b)]
        wires = [Wire(), Wire()]
        for end, wire, other in zip(ends, wires, ends[::-1], strict=True):
            assert other.link.numbered is not None
            end.peer_received = other.link.numbered.received
            end.pump = Pump(end.dialect, wire, on_ready=end.ready, log_extra={})
        wires[0].peer, wires[1].peer = ends[1].pump, ends[0].pump
        async with trio.open_nursery() as nursery:
            for end in ends:
                nursery.start_soon(end.pump.run)
                end.pump.feed(Opened())
            moved = 1
            while moved and frames_left:
                await wait_all_tasks_blocked()
                moved = sum(wire.move(min(10, frames_left)) for wire in wires)
                frames_left = max(0, frames_left - moved)
            for end in ends:
                end.pump.feed(Closed("cut"))
    assert a.got == b.got == wanted
    assert n_before == sorted(n_before)
    assert 0 < n_before[-1] < len(wanted)
    assert (a.link.counts.carriers, a.link.counts.resumed) == (6, 5)
