"""Both ends of the long-poll dialect against each other, over HTTP exchanges that are late, cut and lost.

Each call has its own connection, so nothing keeps its order between calls; one may be cut on its way in, at the hub or
on its way back, and a request whose sender has given up may arrive all the same. The hub learns that an answer was
not written now, or believes for good that it was.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.proto.dialect import (
    OWN_HEADER,
    CallFailed,
    Command,
    Deliver,
    Event,
    HttpCall,
    LinkState,
    Lost,
    Opened,
    Ready,
    Remember,
    Replied,
    Requested,
    RequestGone,
    Respond,
    Send,
    Start,
    Stop,
    Tick,
    Written,
)
from edge.proto.dialects.long_poll.acceptor import LongPollAcceptor
from edge.proto.dialects.long_poll.connector import LongPollConnector
from edge.proto.dialects.long_poll.frames import UNKNOWN_SESSION, session_of
from edge.proto.numbered import LinkAnswer, LinkOffer, Numbered, parse_answer, parse_offer

LINK: Final = "0123456789abcdef0123456789abcdef"
pick = st.integers(0, 1000)


def numbers() -> Numbered:
    return Numbered(max_unacked_bytes=1 << 30, max_unacked=1 << 30)


@dataclass(eq=False)
class Exchange:
    """One HTTP call. `is_awaited`: its caller still waits; `at`: the acceptor that has it."""

    call: HttpCall
    caller: LongPollConnector
    number: int
    is_awaited: bool = True
    at: LongPollAcceptor | None = None
    answer: tuple[int, str, Mapping[str, str]] | None = None
    is_written: bool = False


@dataclass
class End:
    """What outlives a carrier at one end."""

    numbered: Numbered = field(default_factory=numbers)
    sent: list[str] = field(default_factory=list)
    outbox: deque[str] = field(default_factory=deque)
    got: list[str] = field(default_factory=list)


class Polling(RuleBasedStateMachine):
    """The network and both drivers; what is sent and what must hold is the subclasses' matter."""

    own: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.resumed_from = 0
        self.now = 0.0
        self.count = 0
        self.connector: LongPollConnector | None = None
        self.saved: str | None = None
        self.link: str | None = None
        self.exchanges: list[Exchange] = []
        self.sessions: dict[str, LongPollAcceptor] = {}
        self.edge, self.hub = End(), End()
        self.carrier: LongPollAcceptor | None = None  # the hub's link is carried by it

    # -- the edge's driver

    @precondition(lambda self: self.connector is None)
    @rule()
    def edge_dials(self) -> None:
        self.connector = LongPollConnector(
            url_path="", query={}, headers={}, name="plant-7", saved=self.saved
        )
        self.edge_begins()
        offer = LinkOffer(self.link, self.edge.numbered.received if self.link else 0)
        self.tell_edge(self.connector, Start(offer.encode() if self.own else None))

    def edge_begins(self) -> None:
        """A new carrier."""

    def tell_edge(self, connector: LongPollConnector, event: Event) -> None:
        self.do_edge(connector, connector.handle(event, now=self.now))

    def do_edge(self, connector: LongPollConnector, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case HttpCall():
                    self.count += 1
                    self.exchanges.append(Exchange(command, connector, self.count))
                case Ready(answer=answer):
                    assert connector.own == self.own
                    if self.own:
                        told = parse_answer(answer)
                        assert told is not None
                        self.link = told.link
                        for frame in self.edge.numbered.resume(told.received):
                            self.tell_edge(connector, Send(frame))
                    self.flush()
                case Remember(session):
                    self.saved = session
                case Deliver(text):
                    self.edge_takes(text)
                case Lost():
                    assert command is commands[-1]
                    assert self.connector is connector
                    self.connector = None
                    for exchange in [one for one in self.exchanges if one.caller is connector]:
                        exchange.is_awaited = False

    # -- the hub's driver

    def tell_hub(self, acceptor: LongPollAcceptor, event: Event) -> None:
        for command in acceptor.handle(event, now=self.now):
            match command:
                case Respond(number, status, body, _, headers):
                    [exchange] = [one for one in self.exchanges if one.number == number]
                    assert exchange.at is acceptor
                    assert exchange.answer is None
                    exchange.answer = (status, body, headers)
                case Ready():
                    self.carrier = acceptor
                    if self.own:
                        for frame in self.hub.numbered.resume(self.resumed_from):
                            self.tell_hub(acceptor, Send(frame))
                    self.flush()
                case Deliver(text):
                    self.hub_takes(text)
                case Lost():
                    self.sessions = {key: one for key, one in self.sessions.items() if one is not acceptor}
                    if self.carrier is acceptor:
                        self.carrier = None
                        self.hub_loses()

    def hub_loses(self) -> None:
        """A carrier is over."""

    def arrives(self, exchange: Exchange) -> None:
        """The hub's driver reads a request."""
        target = exchange.call.target
        path, _, query = target.partition("?")
        if path == "/register":
            acceptor = self.register(exchange)
        else:
            session = session_of(query)
            assert isinstance(session, str)
            found = self.sessions.get(session)
            if found is None:
                exchange.answer = (UNKNOWN_SESSION.status, UNKNOWN_SESSION.body, {})
                exchange.is_written = True
                return
            acceptor = found
        exchange.at = acceptor
        self.tell_hub(acceptor, Requested(exchange.number, path[1:], exchange.call.body or ""))

    def register(self, exchange: Exchange) -> LongPollAcceptor:
        answer = None
        if self.own:
            for older in list(self.sessions.values()):
                self.tell_hub(older, Stop("replaced by a newer connection"))
            offer = parse_offer(exchange.call.headers[OWN_HEADER])
            assert offer is not None
            if offer.link is None:
                self.hub.numbered = numbers()
                self.hub.got.clear()  # from an edge whose registration was lost; it has sent nothing
                self.hub.outbox = deque(self.hub.sent)
            self.resumed_from = offer.received
            answer = LinkAnswer(LINK, self.hub.numbered.received).encode()
        self.count += 1
        session = f"session-{self.count:012}"
        acceptor = LongPollAcceptor(
            session=session, nonce=f"{self.count:08x}", own=self.own, link_answer=answer, dead_after_s=45.0
        )
        self.sessions[session] = acceptor
        self.tell_hub(acceptor, Opened())
        return acceptor

    # -- the network

    @precondition(lambda self: any(one.at is None and one.answer is None for one in self.exchanges))
    @rule(which=pick)
    def request_arrives(self, which: int) -> None:
        waiting = [one for one in self.exchanges if one.at is None and one.answer is None]
        self.arrives(waiting[which % len(waiting)])

    @precondition(lambda self: any(one.answer is not None for one in self.exchanges))
    @rule(which=pick)
    def answer_arrives(self, which: int) -> None:
        answered = [one for one in self.exchanges if one.answer is not None]
        self.arrive_back(answered[which % len(answered)])

    def arrive_back(self, exchange: Exchange) -> None:
        assert exchange.answer is not None
        self.exchanges.remove(exchange)
        self.write(exchange)
        status, body, headers = exchange.answer
        if exchange.is_awaited:
            lower = {name.lower(): value for name, value in headers.items()}
            self.tell_edge(exchange.caller, Replied(exchange.call.tag, status, body, lower))

    def write(self, exchange: Exchange) -> None:
        if not exchange.is_written and exchange.at is not None:
            exchange.is_written = True
            self.tell_hub(exchange.at, Written(exchange.number))

    @precondition(lambda self: any(one.answer is not None and not one.is_written for one in self.exchanges))
    @rule(which=pick)
    def answer_is_written(self, which: int) -> None:
        unwritten = [one for one in self.exchanges if one.answer is not None and not one.is_written]
        self.write(unwritten[which % len(unwritten)])

    @precondition(lambda self: bool(self.exchanges))
    @rule(which=pick, hub_notices=st.booleans(), goes_on=st.booleans())
    def connection_is_cut(self, which: int, hub_notices: bool, goes_on: bool) -> None:
        exchange = self.exchanges[which % len(self.exchanges)]
        was_awaited, exchange.is_awaited = exchange.is_awaited, False
        has_arrived = exchange.at is not None or exchange.answer is not None
        if has_arrived or not goes_on:
            self.exchanges.remove(exchange)
        if exchange.at is not None and not exchange.is_written:
            # If it is held, the hub finds out sooner or later; if it is answered, it may never do.
            if hub_notices or exchange.answer is None:
                self.tell_hub(exchange.at, RequestGone(exchange.number))
            else:
                self.write(exchange)
        if was_awaited:
            failed = CallFailed(exchange.call.tag, "cut", has_arrived or goes_on)
            self.tell_edge(exchange.caller, failed)

    @rule(steps=st.integers(1, 8))
    def all_goes_well(self, steps: int) -> None:
        for _ in range(steps):
            self.goes_well()

    def goes_well(self) -> bool:
        """One thing that is to happen in an unbroken network, if there is one."""
        if self.connector is None:
            self.edge_dials()
        elif any(one.answer is not None for one in self.exchanges):
            self.answer_arrives(0)
        elif any(one.at is None for one in self.exchanges):
            self.request_arrives(0)
        else:
            return False
        return True

    # -- time

    @rule(share=st.sampled_from([0.1, 1.0]))
    def time_passes(self, share: float) -> None:
        ends = [one for one in (self.connector, *self.sessions.values()) if one is not None]
        times = [one.deadline for one in ends if one.deadline is not None]
        if not times:
            return
        self.now += max(0.0, min(times) - self.now) * share
        for one in ends:
            if one.deadline is not None and one.deadline <= self.now and one.state is not LinkState.CLOSED:
                if isinstance(one, LongPollConnector):
                    self.tell_edge(one, Tick())
                else:
                    self.tell_hub(one, Tick())

    @precondition(lambda self: self.connector is not None)
    @rule()
    def edge_doubts(self) -> None:
        assert self.connector is not None
        self.do_edge(self.connector, self.connector.doubt(now=self.now))

    # -- messages

    def flush(self) -> None:
        raise NotImplementedError

    def edge_takes(self, text: str) -> None:
        raise NotImplementedError

    def hub_takes(self, text: str) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """From now on nothing goes wrong, and every exchange ends."""
        for _ in range(2000):
            if not self.goes_well():
                if self.is_settled():
                    return
                self.time_passes(1.0)
        raise AssertionError("it goes on and on")

    def is_settled(self) -> bool:
        raise NotImplementedError


class OwnPolling(Polling):
    """Everything arrives once and in order, whatever happens to the carriers."""

    own = True

    @rule()
    def edge_sends(self) -> None:
        self.edge.sent.append(f"{len(self.edge.sent)}e")
        self.edge.outbox.append(self.edge.sent[-1])
        self.flush()

    @rule()
    def hub_sends(self) -> None:
        self.hub.sent.append(f"{len(self.hub.sent)}h")
        self.hub.outbox.append(self.hub.sent[-1])
        self.flush()

    def flush(self) -> None:
        while self.connector is not None and self.connector.state is LinkState.READY and self.edge.outbox:
            self.tell_edge(self.connector, Send(self.edge.numbered.send(self.edge.outbox.popleft())))
        while self.carrier is not None and self.hub.outbox:
            self.tell_hub(self.carrier, Send(self.hub.numbered.send(self.hub.outbox.popleft())))

    def edge_takes(self, text: str) -> None:
        message = self.edge.numbered.receive(text)
        if message is not None:
            self.edge.got.append(message)

    def hub_takes(self, text: str) -> None:
        message = self.hub.numbered.receive(text)
        if message is not None:
            self.hub.got.append(message)

    @invariant()
    def order_is_kept(self) -> None:
        assert self.edge.got == self.hub.sent[: len(self.edge.got)]
        assert self.hub.got == self.edge.sent[: len(self.hub.got)]

    def is_settled(self) -> bool:
        return self.edge.got == self.hub.sent and self.hub.got == self.edge.sent

    def teardown(self) -> None:
        self.settle()
        assert self.edge.got == self.hub.sent
        assert self.hub.got == self.edge.sent


class ForeignPolling(Polling):
    """A call reaches the edge at most once, its caller gets at most one answer, and it is the right one."""

    own = False

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.waiting_at_hub: set[int] = set()  # on the carrier that is
        self.failed: set[int] = set()
        self.at_edge: list[tuple[int, int]] = []  # the edge's id and the call
        self.ran: set[int] = set()

    def edge_begins(self) -> None:
        self.at_edge = []  # what came over the carrier before is cancelled

    def hub_loses(self) -> None:
        self.waiting_at_hub.clear()

    @precondition(lambda self: self.carrier is not None)
    @rule()
    def hub_asks(self) -> None:
        assert self.carrier is not None
        self.asked += 1
        self.waiting_at_hub.add(self.asked)
        params = {"name": "t", "arguments": {"call": self.asked}}
        asked = {"jsonrpc": "2.0", "id": self.asked, "method": "tools/call", "params": params}
        self.tell_hub(self.carrier, Send(json.dumps(asked)))

    @precondition(lambda self: bool(self.waiting_at_hub) and self.carrier is not None)
    @rule(which=pick)
    def hub_cancels(self, which: int) -> None:
        assert self.carrier is not None
        call = sorted(self.waiting_at_hub)[which % len(self.waiting_at_hub)]
        self.waiting_at_hub.discard(call)
        params = {"requestId": call}
        told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        self.tell_hub(self.carrier, Send(json.dumps(told)))

    @precondition(lambda self: bool(self.at_edge) and self.connector is not None)
    @rule(which=pick)
    def edge_answers(self, which: int) -> None:
        assert self.connector is not None
        ours, call = self.at_edge.pop(which % len(self.at_edge))
        answer = {"jsonrpc": "2.0", "id": ours, "result": {"call": call}}
        self.tell_edge(self.connector, Send(json.dumps(answer, separators=(",", ":"))))

    def flush(self) -> None:
        """Nothing waits here for a carrier."""

    def edge_takes(self, text: str) -> None:
        message = json.loads(text)
        if message["method"] == "notifications/cancelled":
            meant = message["params"]["requestId"]
            self.at_edge = [(ours, call) for ours, call in self.at_edge if ours != meant]
            return
        call = message["params"]["arguments"]["call"]
        assert call not in self.ran, "run twice"
        self.ran.add(call)
        self.at_edge.append((message["id"], call))

    def hub_takes(self, text: str) -> None:
        message = json.loads(text)
        assert message["id"] in self.waiting_at_hub, "an answer that nobody waits for, or a second one"
        self.waiting_at_hub.discard(message["id"])
        if "result" in message:
            assert message["result"] == {"call": message["id"]}
        elif message["error"]["message"].startswith("not sent"):
            assert message["id"] not in self.ran

    def is_settled(self) -> bool:
        while self.at_edge:
            self.edge_answers(0)
        return not self.waiting_at_hub and all(one.call.method == "GET" for one in self.exchanges)

    def teardown(self) -> None:
        self.settle()


TestOwnPolling = OwnPolling.TestCase
TestOwnPolling.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestForeignPolling = ForeignPolling.TestCase
TestForeignPolling.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
