"""Both ends of mcp-reverse against each other, through a carrier that delays, loses POSTs and answers, and breaks.

A stream keeps its order; POSTs overtake each other, fail with or without having arrived, and may arrive long after the
edge has given them up. Nothing is invented and nothing is duplicated by the carrier itself.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from edge.proto.dialect import (
    OWN_HEADER,
    Alive,
    CallFailed,
    CloseCarrier,
    Closed,
    Command,
    Comment,
    Deliver,
    Dialect,
    HttpCall,
    LinkState,
    Lost,
    Opened,
    OpenStream,
    Push,
    Ready,
    Received,
    Remark,
    Replied,
    Requested,
    Respond,
    Send,
    Start,
    Tick,
)
from edge.proto.dialects.mcp_reverse.acceptor import McpReverseAcceptor
from edge.proto.dialects.mcp_reverse.connector import McpReverseConnector
from edge.proto.jsonrpc import encode_notification, encode_request, encode_result
from edge.proto.numbered import LinkAnswer, LinkOffer, Numbered, parse_answer, parse_offer

LINK = "A" * 22
PICK = st.integers(0, 7)
KINDS = st.sampled_from(["answer", "request", "notification"])


@dataclass
class Post:
    """On its way to the hub of one carrier, or, with a status, on its way back. `tag` None: the edge waits no more."""

    tag: str | None
    body: str
    carrier: int
    status: int | None = None


def message(kind: str, number: int) -> str:
    if kind == "answer":
        return encode_result(str(number), '"ä"')
    if kind == "request":
        return encode_request(str(number), "roots/list", None)
    return encode_notification("notifications/message", f'{{"data":{number}}}')


def is_due(end: Dialect, now: float) -> bool:
    return end.deadline is not None and end.deadline <= now


class LinkMachine(RuleBasedStateMachine):
    @initialize(own=st.booleans())
    def start(self, own: bool) -> None:
        self.own = own
        self.now = 0.0
        self.carrier = 0
        self.n_sent = 0
        self.posts: list[Post] = []
        self.edge_numbers = Numbered(max_unacked_bytes=10**6, max_unacked=10**6)
        self.hub_numbers = Numbered(max_unacked_bytes=10**6, max_unacked=10**6)
        self.sent_by_edge: list[tuple[int, str]] = []  # carrier, message
        self.sent_by_hub: list[tuple[int, str]] = []
        self.got_by_edge: list[tuple[int, str]] = []
        self.got_by_hub: list[tuple[int, str]] = []
        self.told_unsent: list[str] = []
        self.open()

    # -- the carrier

    def open(self) -> None:
        self.carrier += 1
        self.stream: list[str | None] = []  # an event's data, or None for a comment
        self.n_tags = 0
        self.answering: dict[int, Post] = {}
        self.edge = McpReverseConnector(url_path="", query={}, headers={}, name="box")
        offer = None
        if self.own:
            received = self.edge_numbers.received
            offer = LinkOffer(LINK, received).encode() if self.carrier > 1 else LinkOffer().encode()
        [opening] = self.edge.handle(Start(offer), now=self.now)
        assert isinstance(opening, OpenStream)
        offered = parse_offer(opening.headers.get(OWN_HEADER))
        assert (offered is not None) is self.own
        self.hub = McpReverseAcceptor(session=f"box-{self.carrier}", own=self.own)
        headers = {"x-session-id": f"box-{self.carrier}"}
        if offered is not None:
            headers[OWN_HEADER] = LinkAnswer(LINK, self.hub_numbers.received).encode()
        self.for_hub(self.hub.handle(Opened({"x-mcp-server-name": "box"}), now=self.now))
        if offered is not None:
            for frame in self.hub_numbers.resume(offered.received):
                self.for_hub(self.hub.handle(Send(frame), now=self.now))
        self.for_edge(self.edge.handle(Opened(headers), now=self.now))

    def for_edge(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case HttpCall(tag, "POST", target, _, body):
                    assert target == f"/message?sessionId=box-{self.carrier}"
                    assert body is not None
                    self.posts.append(Post(tag, body, self.carrier))
                case Ready(kind, answer):
                    assert kind == ("own" if self.own else "foreign")
                    answered = parse_answer(answer)
                    if answered is not None:
                        for frame in self.edge_numbers.resume(answered.received):
                            self.for_edge(self.edge.handle(Send(frame), now=self.now))
                case Deliver(text):
                    if self.own:
                        taken = self.edge_numbers.receive(text)
                        if taken is not None:
                            self.got_by_edge.append((self.carrier, taken))
                    elif "outcome unknown" in text:
                        self.told_unsent.append(text)
                    else:
                        self.got_by_edge.append((self.carrier, text))
                case _:
                    assert isinstance(command, Remark | CloseCarrier | Lost)
        self.see_the_end()

    def for_hub(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Push(text):
                    self.stream.append(text)
                case Comment():
                    self.stream.append(None)
                case Respond(tag, status):
                    self.answering.pop(tag).status = status
                case Deliver(text):
                    taken = self.hub_numbers.receive(text) if self.own else text
                    if taken is not None:
                        self.got_by_hub.append((self.carrier, taken))
                case _:
                    assert isinstance(command, Ready | CloseCarrier | Lost)
        self.see_the_end()

    def see_the_end(self) -> None:
        """When one end leaves, the other sees its stream end. Posts that are under way still find somebody: nobody."""
        ends = (self.edge, self.hub)
        if any(end.state is LinkState.CLOSED for end in ends):
            for end in ends:
                end.handle(Closed("the stream ended"), now=self.now) if end.state is LinkState.READY else None

    @property
    def is_up(self) -> bool:
        return self.edge.state is self.hub.state is LinkState.READY

    def reach_hub(self, post: Post) -> None:
        if post.carrier != self.carrier or self.hub.state is LinkState.CLOSED:
            post.status = 404
            return
        self.n_tags += 1
        self.answering[self.n_tags] = post
        self.for_hub(self.hub.handle(Requested(self.n_tags, "message", post.body), now=self.now))

    def one_of(self, pick: int, *, is_back: bool) -> Post | None:
        found = [post for post in self.posts if (post.status is not None) is is_back]
        return found[pick % len(found)] if found else None

    # -- what may happen

    @precondition(lambda self: self.is_up)
    @rule(kind=KINDS)
    def edge_sends(self, kind: str) -> None:
        self.n_sent += 1
        text = message(kind, self.n_sent)
        self.sent_by_edge.append((self.carrier, text))
        frame = self.edge_numbers.send(text) if self.own else text
        self.for_edge(self.edge.handle(Send(frame), now=self.now))

    @precondition(lambda self: self.is_up)
    @rule(kind=KINDS)
    def hub_sends(self, kind: str) -> None:
        self.n_sent += 1
        text = message(kind, self.n_sent)
        self.sent_by_hub.append((self.carrier, text))
        frame = self.hub_numbers.send(text) if self.own else text
        self.for_hub(self.hub.handle(Send(frame), now=self.now))

    @precondition(lambda self: self.own and not self.is_up)
    @rule(kind=KINDS)
    def edge_sends_while_there_is_no_carrier(self, kind: str) -> None:
        self.n_sent += 1
        text = message(kind, self.n_sent)
        self.sent_by_edge.append((self.carrier, text))
        self.edge_numbers.send(text)

    @precondition(lambda self: self.is_up and self.stream)
    @rule()
    def stream_moves_on(self) -> None:
        data = self.stream.pop(0)
        event = Alive() if data is None else Received(data)
        self.for_edge(self.edge.handle(event, now=self.now))

    @rule(pick=PICK)
    def post_arrives(self, pick: int) -> None:
        post = self.one_of(pick, is_back=False)
        if post is not None:
            self.reach_hub(post)

    @rule(pick=PICK)
    def answer_arrives(self, pick: int) -> None:
        post = self.one_of(pick, is_back=True)
        if post is not None:
            self.posts.remove(post)
            if post.tag is not None and post.carrier == self.carrier and post.status is not None:
                self.for_edge(self.edge.handle(Replied(post.tag, post.status), now=self.now))

    @rule(pick=PICK, is_back=st.booleans(), may_come_later=st.booleans(), is_sure=st.booleans())
    def post_fails(self, pick: int, is_back: bool, may_come_later: bool, is_sure: bool) -> None:
        post = self.one_of(pick, is_back=is_back)
        if post is None or post.tag is None or post.carrier != self.carrier:
            return
        has_not_arrived = is_sure and not is_back and not may_come_later
        tag, post.tag = post.tag, None
        if is_back or not may_come_later:
            self.posts.remove(post)
        failed = CallFailed(tag, "reset", may_have_arrived=not has_not_arrived)
        self.for_edge(self.edge.handle(failed, now=self.now))

    @precondition(lambda self: self.is_up)
    @rule()
    def carrier_breaks(self) -> None:
        self.for_edge(self.edge.handle(Closed("reset"), now=self.now))

    @rule(seconds=st.sampled_from([0.5, 3.0, 14.0, 30.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.look_at_the_clock()

    def look_at_the_clock(self) -> None:
        if is_due(self.edge, self.now):
            self.for_edge(self.edge.handle(Tick(), now=self.now))
        if is_due(self.hub, self.now):
            self.for_hub(self.hub.handle(Tick(), now=self.now))
        assert not is_due(self.edge, self.now)
        assert not is_due(self.hub, self.now)

    @precondition(lambda self: self.is_up)
    @rule(at_edge=st.booleans())
    def somebody_doubts(self, at_edge: bool) -> None:
        if at_edge:
            self.for_edge(self.edge.doubt(now=self.now))
        else:
            self.for_hub(self.hub.doubt(now=self.now))

    @precondition(lambda self: not self.is_up)
    @rule()
    def edge_comes_back(self) -> None:
        self.open()

    # -- what must be true

    def teardown(self) -> None:
        if not hasattr(self, "own"):
            return
        if self.own:
            self.run_dry()
            assert [text for _, text in self.got_by_edge] == [text for _, text in self.sent_by_hub]
            assert [text for _, text in self.got_by_hub] == [text for _, text in self.sent_by_edge]
            return
        in_order = iter(self.sent_by_hub)
        assert all(each in in_order for each in self.got_by_edge)  # a subsequence, each over its own carrier
        pings = [each for each in self.got_by_hub if "mcp-edge-ka" in each[1]]
        got = [each for each in self.got_by_hub if each not in pings]
        assert set(got) <= set(self.sent_by_edge)
        for (_, text), count in Counter(got).items():
            assert count == 1 or '"result"' in text  # an answer may come again: one per id counts

    def run_dry(self) -> None:
        """From here on everything works: what was sent is there in the end."""
        for _ in range(1000):
            if not self.is_up:
                self.open()
            waiting = bool(self.posts or self.stream)
            while self.stream and self.is_up:
                self.stream_moves_on()
            while self.posts:
                self.post_arrives(0)
                self.answer_arrives(0)
            if not waiting and len(self.got_by_hub) == len(self.sent_by_edge):
                return
            self.now += 1.0
            self.look_at_the_clock()
        raise AssertionError("still not all there")


TestLink = LinkMachine.TestCase
