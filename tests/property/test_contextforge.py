"""Both ends of the ContextForge dialect against each other, over carriers that delay, break and are replaced.

A carrier is a WebSocket: it keeps order and duplicates nothing, but may be cut anywhere, and each end learns of that
when it learns of it, or never. A frame that was cut in two is a frame that did not arrive.
"""

import json
from collections import deque
from collections.abc import Sequence
from typing import ClassVar, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.proto.dialect import (
    OWN_HEADER,
    Alive,
    CloseCarrier,
    Closed,
    Command,
    Deliver,
    Discovered,
    Event,
    Garbled,
    LinkState,
    Lost,
    Opened,
    OpenWebSocket,
    Ping,
    Push,
    Ready,
    Received,
    Refused,
    Remark,
    Send,
    Start,
    Stop,
    Tick,
)
from edge.proto.dialects.contextforge.acceptor import ContextForgeAcceptor
from edge.proto.dialects.contextforge.connector import ContextForgeConnector
from edge.proto.numbered import LinkAnswer, LinkOffer, Numbered, parse_answer, parse_offer

LINK: Final = "0123456789abcdef0123456789abcdef"
KINDS: Final = (
    "register", "register_ack", "register_complete", "unregister", "heartbeat", "request", "response",
    "notification", "error",
)  # fmt: skip
PING, PONG, CLOSE = "ping", "pong", "close"


odd_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.sampled_from(["plant-7", "success", "error"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "jsonrpc", "id", "method"]), inner, max_size=3)
    ),
    max_leaves=4,
)
odd_frames = st.fixed_dictionaries(
    {"type": st.sampled_from([*KINDS, "surprise", 7])},
    optional=dict.fromkeys(
        ("sessionId", "server", "status", "message", "payload", "authentication"), odd_values
    ),
).map(json.dumps)
odd_events = st.one_of(
    (odd_frames | st.text(max_size=9) | st.from_regex(r"[0-9] [0-9] \{")).map(Received),
    st.just(Garbled("a binary frame")),
    st.just(Alive()),
    st.just(Tick()),
)


@given(st.booleans(), st.lists(odd_events, max_size=12))
def test_nothing_that_a_peer_sends_makes_either_end_fail(is_own: bool, events: list[Event]) -> None:
    wire = Wire(0)
    acceptor = ContextForgeAcceptor(session="s", own=is_own)
    acceptor.handle(Opened(), now=0)
    wire.connector.handle(Start("v=1" if is_own else None), now=0)
    wire.connector.handle(Opened({OWN_HEADER: f"v=1; link={LINK}; received=0"}), now=0)
    for end in (wire.connector, acceptor):
        for at, event in enumerate(events):
            commands = end.handle(event, now=float(at))
            assert [isinstance(command, Lost) for command in commands[:-1]].count(True) == 0
            is_over = bool(commands) and isinstance(commands[-1], Lost)
            assert is_over or end.state is not LinkState.CLOSED or commands == []
            for command in commands:
                if isinstance(command, Push):
                    json.loads(command.text)
                if isinstance(command, Remark):
                    assert command.text.isprintable()


class End:
    """What outlives a carrier at one end: what was to be sent, what came, and the numbers."""

    def __init__(self) -> None:
        self.numbered = Numbered(max_unacked_bytes=1 << 30, max_unacked=1 << 30)
        self.outbox: deque[str] = deque()
        self.sent: list[str] = []
        self.got: list[str] = []


class Wire:
    """One WebSocket, with a dialect at either end."""

    def __init__(self, number: int, *, dead_after_s: float = 60.0) -> None:
        self.connector = ContextForgeConnector(
            url_path="/ws",
            query={},
            headers={},
            name="plant-7",
            session_id=f"c{number}",
            dead_after_s=dead_after_s,
        )
        self.acceptor: ContextForgeAcceptor | None = None
        self.offer: str | None = None
        self.is_asked = False
        self.is_cut = False
        self.to_hub: deque[str] = deque()
        self.to_edge: deque[str] = deque()
        self.edge_sent: list[str] = []  # handed to this carrier's dialect, for foreign links
        self.hub_sent: list[str] = []
        self.edge_got: list[str] = []
        self.hub_got: list[str] = []

    def cut(self) -> None:
        self.is_cut = True
        self.to_hub.clear()
        self.to_edge.clear()


class Links(RuleBasedStateMachine):
    """The rules that foreign and own links share."""

    own: ClassVar[bool]

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.count = 0
        self.edge, self.hub = End(), End()
        self.wire: Wire | None = None  # the edge's
        self.at_hub: Wire | None = None  # the one that the hub's link is carried by
        self.wires: list[Wire] = []

    # -- events, and what follows from them

    def tell_edge(self, wire: Wire, event: Event) -> None:
        self.do_edge(wire, wire.connector.handle(event, now=self.now))

    def do_edge(self, wire: Wire, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case OpenWebSocket(_, headers):
                    wire.offer = headers.get(OWN_HEADER)
                    wire.is_asked = True
                case Push(text):
                    self.put(wire, wire.to_hub, text)
                case Ping():
                    self.put(wire, wire.to_hub, PING)
                case CloseCarrier():
                    self.put(wire, wire.to_hub, CLOSE)
                case Ready(answer=answer):
                    if self.own:
                        told = parse_answer(answer)
                        assert told is not None
                        for frame in self.edge.numbered.resume(told.received):
                            self.tell_edge(wire, Send(frame))
                    self.flush()
                case Deliver(text):
                    wire.edge_got.append(text)
                    message = self.edge.numbered.receive(text) if self.own else text
                    if message is not None:
                        self.edge.got.append(message)
                case Lost():
                    assert command is commands[-1]
                    assert self.wire is wire
                    self.wire = None

    def tell_hub(self, wire: Wire, event: Event) -> None:
        assert wire.acceptor is not None
        self.do_hub(wire, wire.acceptor.handle(event, now=self.now))

    def do_hub(self, wire: Wire, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Push(text):
                    self.put(wire, wire.to_edge, text)
                case Ping():
                    self.put(wire, wire.to_edge, PING)
                case CloseCarrier():
                    self.put(wire, wire.to_edge, CLOSE)
                case Ready():
                    older, self.at_hub = self.at_hub, wire
                    if self.own:
                        offer = parse_offer(wire.offer)
                        assert offer is not None
                        for frame in self.hub.numbered.resume(offer.received):
                            self.tell_hub(wire, Send(frame))
                    self.flush()
                    if older is not None:
                        self.tell_hub(older, Stop("replaced by a newer connection"))
                case Deliver(text):
                    wire.hub_got.append(text)
                    if self.at_hub is wire:
                        message = self.hub.numbered.receive(text) if self.own else text
                        if message is not None:
                            self.hub.got.append(message)
                case Lost():
                    assert command is commands[-1]
                    if self.at_hub is wire:
                        self.at_hub = None

    def put(self, wire: Wire, queue: deque[str], text: str) -> None:
        if not wire.is_cut:
            queue.append(text)

    def flush(self) -> None:
        """What waits goes to whichever carrier there is, as a pump does it."""
        wire = self.wire
        while self.edge.outbox and wire is not None and wire.connector.state is LinkState.READY:
            text = self.edge.outbox.popleft()
            wire.edge_sent.append(text)
            self.tell_edge(wire, Send(self.edge.numbered.send(text) if self.own else text))
        wire = self.at_hub
        while self.hub.outbox and wire is not None:
            text = self.hub.outbox.popleft()
            wire.hub_sent.append(text)
            self.tell_hub(wire, Send(self.hub.numbered.send(text) if self.own else text))

    # -- what may happen

    @rule()
    def edge_says(self) -> None:
        self.count += 1
        text = f'{{"jsonrpc":"2.0","id":{self.count},"result":{{}}}}'
        self.edge.sent.append(text)
        self.edge.outbox.append(text)
        self.flush()

    @rule()
    def hub_says(self) -> None:
        self.count += 1
        text = f'{{"jsonrpc":"2.0","id":{self.count},"method":"tools/call","params":{{}}}}'
        self.hub.sent.append(text)
        self.hub.outbox.append(text)
        self.flush()

    @precondition(lambda self: self.wire is None)
    @rule()
    def dial(self) -> None:
        wire = self.wire = Wire(len(self.wires))
        self.wires.append(wire)
        numbered = self.edge.numbered
        is_new = not numbered.received and not numbered.sent
        offer = LinkOffer() if is_new else LinkOffer(LINK, numbered.received)
        self.tell_edge(wire, Start(offer.encode() if self.own else None))

    @precondition(lambda self: self.wire is not None and self.wire.is_asked)
    @rule()
    def open(self) -> None:
        wire = self.wire
        assert wire is not None
        wire.is_asked = False
        wire.acceptor = ContextForgeAcceptor(session=f"s{len(self.wires)}", own=self.own)
        answer = LinkAnswer(LINK, self.hub.numbered.received).encode()
        self.tell_hub(wire, Opened())
        self.tell_edge(wire, Opened({OWN_HEADER: answer} if self.own else {}))

    @precondition(lambda self: self.wire is not None and self.wire.is_asked)
    @rule()
    def refuse(self) -> None:
        assert self.wire is not None
        self.tell_edge(self.wire, Refused(503))

    @rule(n=st.integers(1, 9))
    def arrives_at_hub(self, n: int) -> None:
        for wire in self.wires:
            for _ in range(min(n, len(wire.to_hub))):
                if not wire.to_hub:
                    break  # what came before has closed it
                text = wire.to_hub.popleft()
                if text == PING:
                    self.put(wire, wire.to_edge, PONG)
                elif text == CLOSE:
                    self.tell_hub(wire, Closed("closed", 1000))
                    wire.cut()
                else:
                    self.tell_hub(wire, Alive() if text == PONG else Received(text))

    @rule(n=st.integers(1, 9))
    def arrives_at_edge(self, n: int) -> None:
        wire = self.wire
        for _ in range(n):
            if wire is None or wire is not self.wire or not wire.to_edge:
                break
            text = wire.to_edge.popleft()
            if text == PING:
                self.put(wire, wire.to_hub, PONG)
            elif text == CLOSE:
                self.tell_edge(wire, Closed("closed", 1000))
                wire.cut()
            else:
                self.tell_edge(wire, Alive() if text == PONG else Received(text))

    @precondition(lambda self: self.wire is not None)
    @rule(edge_knows=st.booleans(), hub_knows=st.booleans())
    def cut(self, edge_knows: bool, hub_knows: bool) -> None:
        wire = self.wire
        assert wire is not None
        wire.cut()
        if hub_knows and wire.acceptor is not None:
            self.tell_hub(wire, Closed("reset", 1006))
        if edge_knows:
            self.tell_edge(wire, Closed("reset", 1006))

    @rule(seconds=st.sampled_from([0.5, 5.0, 25.0, 60.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for wire in self.wires:
            edge, hub = wire.connector, wire.acceptor
            if edge.deadline is not None and edge.deadline <= self.now:
                self.tell_edge(wire, Tick())
            if hub is not None and hub.deadline is not None and hub.deadline <= self.now:
                self.tell_hub(wire, Tick())

    @rule()
    def doubt(self) -> None:
        for wire in self.wires:
            self.do_edge(wire, wire.connector.doubt(now=self.now))
            if wire.acceptor is not None:
                self.do_hub(wire, wire.acceptor.doubt(now=self.now))

    @rule(problem=st.sampled_from([None, None, "no tools/list"]))
    def discovered(self, problem: str | None) -> None:
        if self.at_hub is not None:
            self.tell_hub(self.at_hub, Discovered(problem))

    # -- what must be true

    @invariant()
    def a_carrier_brings_what_was_put_into_it_in_order_and_once(self) -> None:
        for wire in [] if self.own else self.wires:
            assert wire.edge_got == wire.hub_sent[: len(wire.edge_got)]
            assert wire.hub_got == wire.edge_sent[: len(wire.hub_got)]

    @invariant()
    def whoever_is_up_knows_when_to_look_at_the_clock(self) -> None:
        for wire in self.wires:
            for end in (wire.connector, wire.acceptor):
                if end is not None:
                    is_up = end.state in (LinkState.REGISTERING, LinkState.READY)
                    assert (end.deadline is not None) == is_up

    def settle(self) -> None:
        """A carrier that holds, and time for everything to arrive."""
        if self.wire is not None and self.wire.is_cut:
            self.tell_edge(self.wire, Closed("reset", 1006))
        if self.wire is None:
            self.dial()
        assert self.wire is not None
        if self.wire.is_asked:
            self.open()
        while any(wire.to_hub for wire in self.wires) or self.is_coming():
            self.arrives_at_hub(9)
            self.arrives_at_edge(9)

    def is_coming(self) -> bool:
        return self.wire is not None and bool(self.wire.to_edge)


class OwnLinks(Links):
    """Everything arrives once and in order, however often the carrier was replaced."""

    own = True

    @invariant()
    def what_came_is_the_beginning_of_what_was_said(self) -> None:
        assert self.hub.got == self.edge.sent[: len(self.hub.got)]
        assert self.edge.got == self.hub.sent[: len(self.edge.got)]

    def teardown(self) -> None:
        if not hasattr(self, "wires"):
            return
        for _ in range(3):  # a carrier may turn out to have been closed by the other end
            self.settle()
        assert (self.hub.got, self.edge.got) == (self.edge.sent, self.hub.sent)


class ForeignLinks(Links):
    """What was lost stays lost; nothing comes twice, and nothing of one carrier turns up in another."""

    own = False

    @invariant()
    def nothing_comes_twice(self) -> None:
        for got in (self.hub.got, self.edge.got):
            assert len(set(got)) == len(got)

    def teardown(self) -> None:
        if not hasattr(self, "wires"):
            return
        self.settle()
        if self.wire is not None:
            assert self.wire.edge_got == self.wire.hub_sent
            assert self.wire.hub_got == self.wire.edge_sent


TestOwnLinks = OwnLinks.TestCase
TestForeignLinks = ForeignLinks.TestCase
TestOwnLinks.settings = TestForeignLinks.settings = settings(max_examples=100, stateful_step_count=60)
