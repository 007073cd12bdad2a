"""A logical link: its outbox, its carriers one after the other, and its end."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.errors import LocalProtocolError, UpstreamError
from edge.metrics import LinkCounts
from edge.metrics_servers import ServerMetrics
from edge.parts.link import MAX_FRUITLESS, TAKE_BYTES, Link, LinkOutbox
from edge.parts.peer_channel import PeerChannel
from edge.proto.jsonrpc import Notification, Request
from edge.proto.numbered import BadFrame, Numbered


class Bearer:
    """What carries a link, in the test's hands."""

    def __init__(self, *, takes: bool = False) -> None:
        self.reasons: list[str] = []
        self.written: list[bytes] = []
        self.takes = takes

    def leave(self, reason: str) -> None:
        self.reasons.append(reason)

    def try_write(self, line: bytes) -> bool:
        if self.takes:
            self.written.append(line)
        return self.takes


class Rig:
    """A link, and what it received."""

    def __init__(self, *, own: bool = True, max_unacked: int = 100, limit_bytes: int = 1000) -> None:
        self.got: list[str] = []
        self.counts = LinkCounts()
        numbered = Numbered(max_unacked=max_unacked, max_unacked_bytes=10**9) if own else None
        self.link = Link(
            "plant", self.got.append, numbered=numbered, limit_bytes=limit_bytes, counts=self.counts
        )

    def sent(self) -> list[str]:
        """What a writer would send now."""
        frames = [self.link.frame(line) for line in self.link.outbox.take_some()]
        return [frame for frame in frames if frame is not None]


def test_messages_to_a_foreign_peer_are_sent_and_received_as_they_are() -> None:
    rig = Rig(own=False)
    assert rig.link.attach(Bearer(), 0) == []
    rig.link.outbox.put(b'{"a": 1}')
    assert rig.sent() == ['{"a": 1}']
    rig.link.take_in("{}")
    assert rig.got == ["{}"]


def test_messages_to_our_own_are_numbered() -> None:
    rig = Rig()
    rig.link.attach(Bearer(), 0)
    rig.link.take_in("1 0 {}")
    rig.link.outbox.put("€".encode())
    assert rig.sent() == ["1 1 €"]
    rig.link.take_in("0 1")
    rig.link.take_in("1 1 {}")
    assert rig.got == ["{}"]


def test_what_goes_over_it_is_counted_without_numbers_and_repetitions() -> None:
    rig = Rig()
    rig.link.attach(Bearer(), 0)
    rig.link.outbox.put("€".encode())
    rig.sent()
    for frame in ("1 1 é", "0 1", "1 1 é", "2 1 x"):
        rig.link.take_in(frame)
    counts = rig.counts
    assert (counts.messages_out, counts.bytes_out) == (1, 3)
    assert (counts.messages_in, counts.bytes_in) == (2, 3)
    assert (counts.carriers, counts.resumed) == (1, 0)


async def test_a_numbered_link_is_suspended_between_carriers_and_sends_again_what_was_lost(
    autojump_clock: MockClock,
) -> None:
    rig, first, second = Rig(), Bearer(), Bearer()
    assert (rig.link.is_carried, rig.link.suspended_since) == (False, None)
    rig.link.attach(first, 0)
    for line in (b"one", b"two", b"three"):
        rig.link.outbox.put(line)
    rig.sent()
    rig.link.outbox.put(b"four")
    await trio.sleep(5)
    rig.link.detach(first, "cut")
    assert (rig.link.is_carried, rig.link.suspended_since, rig.link.ended) == (False, 5, None)
    assert rig.link.attach(second, 1) == ["2 0 two", "3 0 three"]
    assert (rig.link.is_carried, rig.link.suspended_since) == (True, None)
    assert rig.sent() == ["4 0 four"]
    assert (rig.counts.carriers, rig.counts.resumed) == (2, 1)


def test_a_link_with_a_foreign_peer_ends_with_its_carrier() -> None:
    rig, bearer = Rig(own=False), Bearer()
    rig.link.attach(bearer, 0)
    rig.link.detach(bearer, "reset by peer")
    assert rig.link.ended == "reset by peer"
    assert (rig.link.is_carried, rig.link.suspended_since) == (False, None)
    assert bearer.reasons == []


def test_the_newest_carrier_wins_and_the_older_one_cannot_take_it_away() -> None:
    rig, older, newer = Rig(), Bearer(), Bearer()
    rig.link.attach(older, 0)
    rig.link.attach(newer, 0)
    assert older.reasons == ["replaced by a newer connection"]
    rig.link.detach(older, "cut")
    assert rig.link.is_carried
    assert rig.link.is_carried_by(newer)


def test_a_carrier_of_a_peer_that_forgot_is_refused_and_changes_nothing() -> None:
    rig, bearer = Rig(), Bearer()
    rig.link.attach(bearer, 0)
    with pytest.raises(BadFrame):
        rig.link.attach(Bearer(), 1)
    assert rig.link.is_carried_by(bearer)
    assert bearer.reasons == []
    assert rig.counts.carriers == 1


def test_a_link_that_has_ended_takes_no_carrier_and_no_message() -> None:
    rig = Rig()
    rig.link.end("expired")
    with pytest.raises(LocalProtocolError):
        rig.link.attach(Bearer(), 0)
    rig.link.take_in("1 0 {}")
    assert rig.got == []


def test_the_end_tells_the_carrier_once_and_the_first_reason_stays() -> None:
    rig, bearer = Rig(), Bearer()
    rig.link.attach(bearer, 0)
    rig.link.end("unpublished")
    rig.link.end("something else")
    rig.link.detach(bearer, "closed")
    assert bearer.reasons == ["unpublished"]
    assert (rig.link.ended, rig.link.suspended_since) == ("unpublished", None)


async def test_who_waits_for_a_carrier_is_woken_by_it_or_by_the_end(autojump_clock: MockClock) -> None:
    rig, bearer = Rig(), Bearer()
    woken: list[tuple[float, bool]] = []

    async def wait() -> None:
        await rig.link.wait_carried()
        woken.append((trio.current_time(), rig.link.is_carried))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        rig.link.attach(bearer, 0)
        await trio.sleep(1)
        await wait()
        rig.link.detach(bearer, "cut")
        nursery.start_soon(wait)
        await trio.sleep(1)
        rig.link.end("expired")
    await rig.link.wait_carried()
    assert woken == [(1, True), (2, True), (3, False)]


async def test_who_waits_for_the_end_gets_its_reason() -> None:
    rig = Rig()
    reasons: list[str] = []

    async def wait() -> None:
        reasons.append(await rig.link.wait_ended())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        rig.link.end("expired")
    assert reasons == ["expired"]


async def test_who_waits_for_room_in_the_outbox_is_woken_by_the_end() -> None:
    rig = Rig(limit_bytes=10)
    rig.link.outbox.put(b"x" * 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.link.outbox.wait_room)
        await wait_all_tasks_blocked()
        rig.link.end("expired")


def test_what_waits_and_what_is_unacknowledged_is_pending() -> None:
    rig = Rig()
    rig.link.attach(Bearer(), 0)
    rig.link.outbox.put(b"12345")
    pending = [rig.link.pending_bytes]
    rig.sent()
    rig.link.outbox.put(b"123")
    pending.append(rig.link.pending_bytes)
    rig.link.take_in("0 1")
    pending.append(rig.link.pending_bytes)
    foreign = Rig(own=False)
    foreign.link.outbox.put(b"12")
    assert [*pending, foreign.link.pending_bytes] == [5, 8, 3, 2]


def test_what_is_taken_is_counted_as_possibly_sent_and_nothing_else() -> None:
    rig = Rig(max_unacked=2)
    rig.link.attach(Bearer(), 0)
    numbers = [rig.link.outbox.put(b"x" * TAKE_BYTES) for _ in range(4)]
    for _ in range(4):
        rig.sent()
    assert numbers == [1, 2, 3, 4]
    assert rig.link.outbox.taken_count == 2  # the others are held, and so certainly not sent


@pytest.mark.parametrize("own", [False, True])
def test_a_message_over_the_limit_is_not_sent_and_who_waits_for_an_answer_gets_an_error(
    own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(own=own)
    rig.link.attach(Bearer(), 0)
    fill = "x" * 16 * 1024 * 1024
    for text in (
        f'{{"jsonrpc":"2.0","id":7,"result":{{"a":"{fill}"}}}}',
        f'{{"jsonrpc":"2.0","id":"q","method":"m","params":{{"a":"{fill}"}}}}',
        f'{{"jsonrpc":"2.0","method":"n","params":{{"a":"{fill}"}}}}',
        fill + ".",
        "{}",
    ):
        rig.link.outbox.put(text.encode())
    sent = [frame for _ in range(5) for frame in rig.sent()]
    answer, last = [frame.split(" ", 2)[2] if own else frame for frame in sent]
    assert answer.startswith(
        '{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"the answer has 167772'
    )
    assert last == "{}"
    assert len(rig.got) == 1
    assert rig.got[0].startswith(
        '{"jsonrpc":"2.0","id":"q","error":{"code":-32603,"message":"the request has '
    )
    assert rig.link.outbox.taken_count == 5
    assert len(caplog.records) == 4


def test_carriers_that_break_one_after_the_other_before_a_message_comes_across_are_the_end() -> None:
    rig = Rig()
    rig.link.attach(Bearer(), 0)
    rig.link.outbox.put(b"poison")
    rig.sent()
    for _ in range(MAX_FRUITLESS - 1):
        rig.link.attach(Bearer(), 0)
    rig.link.attach(Bearer(), 1)  # it came across
    for _ in range(2 * MAX_FRUITLESS):
        rig.link.attach(Bearer(), 1)  # nothing waits
    rig.link.outbox.put(b"poison")
    rig.sent()
    for _ in range(MAX_FRUITLESS - 1):
        rig.link.attach(Bearer(), 1)
    with pytest.raises(BadFrame, match="8 connections in a row"):
        rig.link.attach(Bearer(), 1)


class Deaf:
    """An `Inbound` that hears nothing."""

    def told(self, notification: Notification) -> None:
        raise AssertionError(notification.method)

    def waiting(self, reason: str) -> None:
        raise AssertionError(reason)

    def doubted(self) -> None:
        raise AssertionError("doubted")

    def asked(self, request: Request) -> str:
        raise AssertionError(request.method)


async def test_calls_that_were_held_were_not_sent_and_the_outcome_of_the_others_is_unknown() -> None:
    rig = Rig(max_unacked=1)
    channel = PeerChannel("plant", rig.link.outbox, Deaf(), ServerMetrics())
    bearer = Bearer()
    rig.link.attach(bearer, 0)
    ends: dict[str, str] = {}

    async def call(method: str) -> None:
        try:
            await channel.request(method, None)
        except UpstreamError as exc:
            ends[method] = type(exc).__name__

    async with trio.open_nursery() as nursery:
        for method in ("sent", "held"):
            nursery.start_soon(call, method)
            await wait_all_tasks_blocked()
            rig.sent()
        rig.link.detach(bearer, "cut")
        nursery.start_soon(call, "while suspended")
        await wait_all_tasks_blocked()
        rig.link.end("not resumed in time")
        channel.lost("not resumed in time")
    assert ends == {"sent": "Gone", "held": "Unavailable", "while suspended": "Unavailable"}


def outbox(max_unacked: int = 100) -> tuple[LinkOutbox, Numbered]:
    numbered = Numbered(max_unacked=max_unacked, max_unacked_bytes=10**9)
    return LinkOutbox(1000, numbered), numbered


def test_a_little_is_taken_at_a_time_and_one_message_at_least() -> None:
    box, _ = outbox()
    sizes = [10, TAKE_BYTES - 10, 1, 2 * TAKE_BYTES, 3]
    for size in sizes:
        box.put(b"x" * size)
    taken = [[len(line) for line in box.take_some()] for _ in range(4)]
    assert taken == [[10, TAKE_BYTES - 10], [1], [2 * TAKE_BYTES], [3]]
    assert (box.take_some(), box.waiting_bytes, box.taken_count) == ([], 0, 5)


async def test_room_is_announced_when_enough_was_taken() -> None:
    box, _ = outbox()
    for _ in range(2):
        box.put(b"x" * TAKE_BYTES)
    has_room: list[int] = []

    async def wait() -> None:
        await box.wait_room()
        has_room.append(box.taken_count)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        box.take_some()
        await wait_all_tasks_blocked()
        box.take_some()
    assert has_room == [2]


async def test_nothing_is_taken_while_too_much_is_unacknowledged() -> None:
    box, numbered = outbox(max_unacked=1)
    taken: list[bytes] = []

    async def write() -> None:
        while len(taken) < 3:
            taken.extend(await box.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        numbered.send("first")
        for line in (b"one", b"two"):
            box.put(line)
            await wait_all_tasks_blocked()
        assert taken == []
        numbered.receive("0 1")
        box.call()
        await wait_all_tasks_blocked()
        assert taken == [b"one", b"two"]
        box.put(b"three")
    assert taken == [b"one", b"two", b"three"]


async def test_acknowledgements_that_make_room_wake_the_writer() -> None:
    rig = Rig(max_unacked=1)
    rig.link.attach(Bearer(), 0)
    sent: list[str] = []

    async def write() -> None:
        while len(sent) < 2:
            await rig.link.outbox.wait_due()
            sent.extend(rig.sent())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        rig.link.outbox.put(b"one")
        await wait_all_tasks_blocked()
        rig.link.outbox.put(b"two")
        await wait_all_tasks_blocked()
        assert sent == ["1 0 one"]
        rig.link.take_in("0 1")
    assert sent == ["1 0 one", "2 0 two"]


async def test_a_message_that_is_alone_skips_a_writer_that_sleeps_and_no_other() -> None:
    box, numbered = outbox(max_unacked=1)
    bearer = Bearer(takes=True)
    box.try_write = bearer.try_write
    box.put(b"no writer yet", alone=True)
    box.take_some()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.take)
        await wait_all_tasks_blocked()
        box.put(b"alone", alone=True)
        box.put(b"one of many")
        box.put(b"alone, but others wait", alone=True)
    assert bearer.written == [b"alone"]
    numbered.send("x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.wait_due)
        await wait_all_tasks_blocked()
        box.put(b"held", alone=True)  # asked, as nothing is before it; `Pump.try_write` is who refuses
        box.put(b"after it")
        box.put(b"held", alone=True)
        box.call()
    assert bearer.written == [b"alone", b"held"]
    assert box.put_count == 7
    assert box.taken_count == 5


async def test_a_writer_that_is_cancelled_takes_nothing_with_it() -> None:
    box, _ = outbox()
    bearer = Bearer(takes=True)
    box.try_write = bearer.try_write
    with trio.move_on_after(0):
        await box.take()
    box.put(b"one", alone=True)
    assert (box.take_some(), bearer.written) == ([b"one"], [])


async def test_an_older_writer_that_leaves_does_not_hide_a_newer_one_that_sleeps() -> None:
    box, _ = outbox()
    bearer = Bearer(takes=True)
    box.try_write = bearer.try_write
    async with trio.open_nursery() as nursery:
        older = trio.CancelScope()

        async def take_in_scope() -> None:
            with older:
                await box.take()

        nursery.start_soon(take_in_scope)
        await wait_all_tasks_blocked()
        nursery.start_soon(box.take)
        await wait_all_tasks_blocked()
        older.cancel()
        await wait_all_tasks_blocked()
        box.put(b"alone", alone=True)
        box.call()
    assert bearer.written == [b"alone"]
