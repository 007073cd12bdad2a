"""Two numbered ends over carriers that are cut anywhere: every message arrives once, in order, in bounded memory."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.proto.numbered import (
    ACK_MESSAGES,
    BadFrame,
    LinkAnswer,
    LinkOffer,
    Numbered,
    parse_answer,
    parse_offer,
    size_of,
)

MAX_UNACKED, MAX_BYTES, MAX_MESSAGE = 40, 120, 8
ID = "f" * 32
SIDES = (0, 1)
sides = st.sampled_from(SIDES)
messages = st.text("ab€ 01\n{}", min_size=1, max_size=MAX_MESSAGE // 3)


class End:
    """A `Numbered`, what its producers wanted to send, what it took, and the frames on their way to it."""

    def __init__(self) -> None:
        self.numbered = Numbered(max_unacked=MAX_UNACKED, max_unacked_bytes=MAX_BYTES)
        self.wanted: list[str] = []
        self.got: list[str] = []
        self.coming: deque[str] = deque()
        self.last_read: list[str] = []  # of this carrier, oldest first
        self.is_attached = False


class LinkMachine(RuleBasedStateMachine):
    """Side 0 connects and side 1 accepts. What is read is read in order; a cut loses the rest, both ways.

    The model of a correct link is what each side wanted to send.
    """

    @initialize()
    def start(self) -> None:
        self.ends = (End(), End())
        self.answer: str | None = None  # on its way to the connector
        self.connect()

    @rule()
    def connect(self) -> None:
        """Also while another carrier is there: the newest wins."""
        self.cut()
        connector, acceptor = self.ends
        offer = parse_offer(LinkOffer(ID, connector.numbered.received).encode())
        assert offer is not None
        assert acceptor.numbered.can_resume(offer.received)
        self.answer = LinkAnswer(ID, acceptor.numbered.received).encode()
        acceptor.is_attached = True
        connector.coming.extend(acceptor.numbered.resume(offer.received))

    @precondition(lambda self: self.answer is not None)
    @rule()
    def answer_arrives(self) -> None:
        connector, acceptor = self.ends
        answer = parse_answer(self.answer)
        assert answer is not None
        self.answer = None
        connector.is_attached = True
        acceptor.coming.extend(connector.numbered.resume(answer.received))

    @rule()
    def cut(self) -> None:
        self.answer = None
        for end in self.ends:
            end.coming.clear()
            end.last_read.clear()
            end.is_attached = False

    @rule(side=sides, text=messages, times=st.sampled_from([1, 1, 1, 3, 50]))
    def send(self, side: int, text: str, times: int) -> None:
        end, other = self.ends[side], self.ends[1 - side]
        for _ in range(times):
            if end.is_attached and not end.numbered.is_full:
                end.wanted.append(text)
                other.coming.append(end.numbered.send(text))

    @rule(side=sides)
    def acknowledge(self, side: int) -> None:
        if self.ends[side].is_attached:
            self.ends[1 - side].coming.append(self.ends[side].numbered.ack())

    @rule(side=sides, n=st.integers(1, 60))
    def read(self, side: int, n: int) -> None:
        end = self.ends[side]
        while n and end.coming and end.is_attached:
            n -= 1
            frame = end.coming.popleft()
            end.last_read.append(frame)
            self.take(end, frame)

    @rule(side=sides, n=st.integers(1, 9))
    def the_last_ones_come_again(self, side: int, n: int) -> None:
        """As with a POST whose answer was lost."""
        end = self.ends[side]
        for frame in end.last_read[-n:]:
            assert end.numbered.receive(frame) is None

    @rule(side=sides, n=st.integers(1, 1000), ack=st.booleans())
    def a_peer_gone_wrong_is_found_out(self, side: int, n: int, ack: bool) -> None:
        end = self.ends[side].numbered
        before = (end.received, end.acknowledged, end.unacked_bytes)
        frame = f"{end.received + 1} {end.sent + n} x" if ack else f"{end.received + 1 + n} {end.sent} x"
        try:
            end.receive(frame)
        except BadFrame:
            assert (end.received, end.acknowledged, end.unacked_bytes) == before
        else:
            raise AssertionError("taken")

    @invariant()
    def once_and_in_order(self) -> None:
        for end, other in (self.ends, self.ends[::-1]):
            assert end.got == other.wanted[: len(end.got)]
            assert end.numbered.received == len(end.got)
            assert other.numbered.sent == len(other.wanted)
            assert other.numbered.acknowledged <= len(end.got)

    @invariant()
    def memory_is_bounded(self) -> None:
        for end in self.ends:
            unacked = end.wanted[end.numbered.acknowledged :]
            assert end.numbered.unacked_count == len(unacked) <= MAX_UNACKED
            assert end.numbered.unacked_bytes == sum(map(size_of, unacked)) < MAX_BYTES + MAX_MESSAGE

    def teardown(self) -> None:
        """Given a carrier that holds, everything arrives and nothing is kept."""
        if not hasattr(self, "ends"):
            return
        self.connect()
        self.answer_arrives()
        for side in SIDES:
            self.read(side, 10**6)
        for side in SIDES:
            self.acknowledge(side)
            self.read(1 - side, 10**6)
        for end, other in (self.ends, self.ends[::-1]):
            assert end.got == other.wanted
            assert (end.numbered.unacked_count, end.numbered.unacked_bytes) == (0, 0)

    def take(self, end: End, frame: str) -> None:
        text = end.numbered.receive(frame)
        if text is not None:
            end.got.append(text)
        if end.numbered.owes_ack:
            assert end.numbered.unsaid_count == ACK_MESSAGES
            other = self.ends[1 - self.ends.index(end)]
            other.coming.append(end.numbered.ack())


TestLinkMachine = LinkMachine.TestCase


@given(st.text())
def test_any_text_is_a_frame_or_a_bad_frame(text: str) -> None:
    end = Numbered(max_unacked=1, max_unacked_bytes=1)
    try:
        message = end.receive(text)
    except BadFrame:
        assert end.received == 0
    else:
        assert text == ("0 0" if message is None else f"1 0 {message}")


@given(st.text() | st.from_regex(r"v=1; (link=[a-f]{32}; )?received=[0-9]{1,20}", fullmatch=True))
def test_any_text_is_a_header_or_none(text: str) -> None:
    offer, answer = parse_offer(text), parse_answer(text)
    if answer is not None:
        assert offer == LinkOffer(answer.link, answer.received)
        assert parse_answer(answer.encode()) == answer
