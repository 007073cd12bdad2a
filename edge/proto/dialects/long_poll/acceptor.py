"""The hub's end of a polling link: holds polls, hands out what there is for the edge, takes its answers.

To a foreign edge one request a poll; server-side notifications and requests do not exist. Between our own ends a
poll brings all frames there are, and a body of POST /response some. Where the answer to an own poll could not be
written the carrier is over: the edge comes again and the link is resumed, which alone knows what was lost.
Source: cpp-mcp `reverse_client` of 2025-11-11, observed.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.errors import BadMessage, LocalProtocolError
from edge.proto.dialect import (
    OWN_HEADER,
    Closed,
    Command,
    Deliver,
    Discovered,
    Event,
    LinkState,
    Lost,
    Opened,
    Ready,
    Remark,
    Requested,
    RequestGone,
    Respond,
    Send,
    Stop,
    Tick,
    Written,
)
from edge.proto.dialects.long_poll import frames
from edge.proto.dialects.long_poll.waiting import Item, Waiting
from edge.proto.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Id,
    Notification,
    Request,
    Response,
    decode,
    encode_error,
)
from edge.proto.jsontext import members, replace_members
from edge.proto.mcp import SERVER_GONE, SERVER_UNAVAILABLE

S = LinkState

TRANSITIONS: Final[Mapping[LinkState, frozenset[type]]] = {
    S.IDLE: frozenset({Opened, Stop, Closed}),
    S.REGISTERING: frozenset({Requested, RequestGone, Written, Tick, Stop, Closed}),  # until it polls
    S.READY: frozenset({Requested, RequestGone, Written, Send, Discovered, Tick, Stop, Closed}),
    S.CLOSED: frozenset(),
}
"""State to the steps that may follow. A session that is adopted begins like one that has registered."""

LONGEST_HOLD_S: Final = 25.0  # the real edge waits for 35 s
MAX_POLLS: Final = 4
RESTART_CODES: Final = frozenset({1001, 1012})
DEFECT: Final = "edge build cannot leave initialization (known defect)"
NOT_INITIALIZED: Final = "Session not initialized"


@dataclass(frozen=True, slots=True)
class Quirks:
    """What foreign edges need; as cpp-mcp's `reverse_client` behaves (observed).

    `only_first_version`: it refuses every revision but 2024-11-05. `stays_uninitialized`: builds as published answer
    -32600 "Session not initialized" to everything but `initialize` and `ping`, for ever: said in a remark.
    """

    only_first_version: bool = True
    stays_uninitialized: bool = True


class LongPollAcceptor:
    """One polling session of one edge.

    `session` is whatever secret the edge polls with, minted or adopted. `nonce` makes request ids that no session of
    this id ever used, also before a restart of the hub: 8 random hex digits. `url_path` is what came before
    `/register`. A poll is held for `heartbeat_s`, 25 s at most. An edge that has nothing to do and has not polled for
    `dead_after_s` is away: its queue fails at once. Queue limits are those of `Waiting`.
    """

    def __init__(
        self,
        *,
        session: str,
        nonce: str,
        own: bool = False,
        link_answer: str | None = None,
        url_path: str = "",
        heartbeat_s: float = 25.0,
        dead_after_s: float = 45.0,
        max_message_bytes: int = 16 * 1024 * 1024,
        max_queue: int = 64,
        max_queue_bytes: int = 8 * 1024 * 1024,
        max_queue_s: float = 55.0,
        max_work_s: float = 300.0,
        again_after_s: float = 10.0,
        quirks: Quirks | None = None,
    ) -> None:
        self.state = S.IDLE
        self.own = own
        self.deadline: float | None = None
        self._quirks = Quirks() if quirks is None else quirks
        self._session = session
        self._nonce = nonce
        self._link_answer = link_answer
        self._url_path = url_path
        self._hold_s = min(heartbeat_s, LONGEST_HOLD_S)
        self._dead_after_s = dead_after_s
        self._max_bytes = max_message_bytes
        self._poll: int | None = None  # the tag of the poll to serve: the newest, if it is held
        self._polls: dict[int, float] = {}  # all that are held, and until when; the oldest first
        self._seen_at = 0.0
        self._requests = 0
        self._waiting = Waiting(
            max_count=max_queue,
            max_chars=max_queue_bytes,
            max_wait_s=max_queue_s,
            max_work_s=max_work_s,
            again_after_s=again_after_s,
        )
        self._frames: deque[str] = deque()
        self._unwritten: set[int] = set()  # polls that were answered with frames
        self._has_told_initialized = False
        self._has_served = False

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        if self.state is S.CLOSED:
            return ()
        if type(event) not in TRANSITIONS[self.state]:
            raise LocalProtocolError(f"{type(event).__name__} while {self.state.name}")
        commands: list[Command] = []
        match event:
            case Opened():
                self.state = S.REGISTERING
                self._seen_at = now
            case Requested():
                commands += self._requested(event, now)
            case RequestGone():
                commands += self._gone(event.tag, now)
            case Written():
                self._unwritten.discard(event.tag)
                self._waiting.written(event.tag, now)
            case Send():
                commands += self._send(event.text, now)
            case Stop():
                commands += self._end(event.reason, is_restart=event.code in RESTART_CODES)
            case Closed():
                commands += self._end(event.reason)
            case Discovered() | _:  # nothing; Tick, which `_go_on` looks after
                pass
        if self.state is not S.CLOSED:
            commands += self._go_on(now)
        return commands

    def doubt(self, *, now: float) -> Sequence[Command]:
        """A poll that is held may hang in a connection that is no more: the edge must come again."""
        if not self._polls:
            return ()
        commands = self._release(frames.NOTHING)
        self._seen_at = now
        self._set_deadline()
        return commands

    # -- what the edge does

    def _requested(self, request: Requested, now: float) -> list[Command]:
        self._seen_at = now
        match request.what:
            case "register":
                headers = {} if self._link_answer is None else {OWN_HEADER: self._link_answer}
                status, body = frames.register_answer(self._session, self._url_path)
                return [Respond(request.tag, status, body, headers=headers)]
            case "poll":
                return self._polled(request.tag, now)
            case "response":
                return self._responded(request)
            case _:
                return [self._answer(request.tag, frames.NO_SUCH_PATH)]

    def _polled(self, tag: int, now: float) -> list[Command]:
        commands = self._begin()
        if (
            len(self._polls) == 1
        ):  # the older may be dead, so nothing is given to it; answered, it would come again
            commands.append(Remark("a second poll came while one was held: the newer one is served", "info"))
        if len(self._polls) >= MAX_POLLS:
            oldest = next(iter(self._polls))
            self._let_go(oldest)
            commands.append(self._answer(oldest, frames.NOTHING))
        self._poll = tag
        self._polls[tag] = now + self._hold_s
        return commands

    def _begin(self) -> list[Command]:
        """`Ready`, with the first sign that the edge knows its session."""
        if self.state is S.READY:
            return []
        self.state = S.READY
        version = frames.MCP_VERSION if self._quirks.only_first_version and not self.own else None
        return [Ready("own" if self.own else "foreign", mcp_version=version)]

    def _responded(self, request: Requested) -> list[Command]:
        if self.own:
            taken = self._answer(request.tag, frames.TAKEN)
            if request.body == frames.BYE:
                return [taken, *self._end("the edge has left")]
            # A first post may overtake the first poll.
            return [taken, *self._begin(), *(Deliver(frame) for frame in request.body.split("\n") if frame)]
        reply = frames.read_response(request.body)
        if isinstance(reply, frames.Answer):
            return [self._answer(request.tag, reply)]
        # Unknown and repeated ids get the same answer, so that an edge may post again what it is not sure of.
        commands: list[Command] = [self._answer(request.tag, frames.TAKEN)]
        item = self._waiting.answer(reply.request_id)
        if item is None:
            return commands
        if item.id is None:
            self._has_told_initialized |= item.method == "notifications/initialized"
        elif not item.is_cancelled:
            commands += self._deliver(item, item.id, reply.response)
        return commands

    def _deliver(self, item: Item, id: Id, text: str) -> list[Command]:  # noqa: A002  JSON-RPC's word
        try:
            response = decode(text)
        except BadMessage:
            response = None
        if not isinstance(response, Response):
            told = "the edge answered with what is no JSON-RPC response"
            # Whoever asks for these says what came of it.
            is_told = item.method == "initialize" or item.method.endswith("/list")
            return [Deliver(encode_error(id, INTERNAL_ERROR, told)), *([] if is_told else [Remark(told)])]
        if response.id != id:
            text = replace_members(text, {"id": id})
        commands: list[Command] = [Deliver(text)]
        error = response.error
        if error is not None and error.code == INVALID_REQUEST and error.message == NOT_INITIALIZED:
            is_stuck = self._has_told_initialized and not self._has_served
            if is_stuck and self._quirks.stays_uninitialized:
                commands.append(Remark(DEFECT))
        elif item.method not in ("initialize", "ping"):
            self._has_served = True
        return commands

    def _gone(self, tag: int, now: float) -> list[Command]:
        if tag in self._polls:
            self._let_go(tag)
            self._seen_at = now
        self._waiting.gone(tag)
        if tag in self._unwritten:
            return self._end("the answer to a poll could not be written")
        return []

    # -- what is for the edge

    def _send(self, text: str, now: float) -> list[Command]:
        if self.own:
            self._frames.append(text)
            return []
        message = decode(text)
        if isinstance(message, Response):
            return []  # to nothing that an edge could have asked
        if isinstance(message, Notification) and message.method == "notifications/cancelled":
            # Only an edge that polls while it works can make use of it.
            wanted = _request_id(message)
            if wanted is None or not self._waiting.cancel(wanted) or self._poll is None:
                return []
        self._requests += 1
        request_id = f"{self._nonce}{self._requests:08x}"
        asked = message.id if isinstance(message, Request) else None
        item = Item(request_id, asked, message.method, text, now)
        if _size(text) > self._max_bytes:
            return self._fail(item, "the request is larger than the edge may be sent")
        if not self._waiting.add(item):
            return self._fail(item, "too many requests wait for this edge")
        return []

    def _fail(self, item: Item, why: str) -> list[Command]:
        """An answer to what has not reached the edge."""
        if item.id is None:
            return []
        return [Deliver(encode_error(item.id, SERVER_UNAVAILABLE, f"not sent: {why}"))]

    def _expire(self, now: float) -> list[Command]:
        commands: list[Command] = []
        for item in self._waiting.expire(now):
            if item.handed_at is None:
                commands += self._fail(item, f"the edge took no request for {self._waiting.max_wait_s:g} s")
            elif item.id is not None and not item.is_cancelled:
                told = f"outcome unknown: the edge gave no answer in {self._waiting.max_work_s:g} s"
                commands.append(Deliver(encode_error(item.id, SERVER_GONE, told)))
        return commands

    # -- what is always next

    def _go_on(self, now: float) -> list[Command]:
        commands = self._expire(now)
        if self._polls:
            commands += self._serve(now)
        is_idle = not self._polls and not self._waiting.has_work
        if is_idle and now >= self._seen_at + self._dead_after_s:
            return commands + self._end(f"the edge is away: no poll for {self._dead_after_s:g} s")
        self._set_deadline()
        return commands

    def _serve(self, now: float) -> list[Command]:
        """Answers the newest poll if there is something for it, and those that were held for long."""
        commands: list[Command] = []
        newest = self._poll
        if newest is not None:
            commands += self._hand_out(newest, now)
            if commands:
                self._let_go(newest)
        for tag in [tag for tag, until in self._polls.items() if until <= now]:
            self._let_go(tag)
            commands.append(self._answer(tag, frames.NOTHING))
        self._seen_at = now
        return commands

    def _hand_out(self, tag: int, now: float) -> list[Command]:
        if self._frames:
            count = frames.batch(self._frames)
            body = "\n".join(self._frames.popleft() for _ in range(count))
            self._unwritten.add(tag)
            return [Respond(tag, 200, body, content_type="text/plain")]
        item = self._waiting.hand_out(tag, now)
        if item is None:
            return []
        return [Respond(tag, 200, frames.envelope(item.request_id, item.text))]

    def _let_go(self, tag: int) -> None:
        del self._polls[tag]
        if tag == self._poll:
            self._poll = None

    def _set_deadline(self) -> None:
        times = [self._waiting.next_end()]
        if self._polls:
            again = None if self._poll is None else self._waiting.next_again()
            times += [min(self._polls.values()), again]
        elif not self._waiting.has_work:
            times.append(self._seen_at + self._dead_after_s)
        self.deadline = min((time for time in times if time is not None), default=None)

    def _release(self, answer: frames.Answer) -> list[Command]:
        """Lets go of the polls that are held."""
        tags = list(self._polls)
        self._polls.clear()
        self._poll = None
        return [self._answer(tag, answer) for tag in tags]

    def _answer(self, tag: int, answer: frames.Answer) -> Respond:
        return Respond(tag, answer.status, answer.body)

    def _end(self, reason: str, *, is_restart: bool = False) -> list[Command]:
        commands = self._release(frames.RESTARTING if is_restart else frames.UNKNOWN_SESSION)
        for item in self._waiting.unsent():
            commands += self._fail(item, reason)
        self.state = S.CLOSED
        self.deadline = None
        return [*commands, Lost(reason)]


def _request_id(cancelled: Notification) -> Id | None:
    """`requestId` as its JSON text."""
    if cancelled.params is None or "requestId" not in cancelled.params.value:
        return None
    member = members(cancelled.params.text)["requestId"]
    return cancelled.params.text[member.start : member.end]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
