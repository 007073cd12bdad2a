"""The edge's end of an mcp-reverse link: opens the event stream, posts what goes out, and keeps the session.

An acceptor forgets a session that has not posted for 60 s, and one of version 1.1.0 every session at the age of
60 s: hence a ping by POST at least every 20 s, and for the latter a new session in time. Each message is one
POST, one after the other. A POST that fails does not end the session if it can be made good: an answer may be sent
again (the other end takes one per id), a request or notification only if it certainly never arrived.
Between our own two ends (`own`) a POST holds numbered frames, any of which may be sent again, and an empty one is the
sign of life; it is answered by a comment on the stream. An event without data asks for one.
Source: mcp-reverse 1.1.0, 1.2.0 and 1.4.0 (read in code, and observed).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge.errors import LocalProtocolError
from edge.proto.dialect import (
    OWN_HEADER,
    Alive,
    CallFailed,
    CloseCarrier,
    Closed,
    Command,
    Deliver,
    Event,
    Garbled,
    HttpCall,
    Hurry,
    LinkState,
    Lost,
    Opened,
    OpenStream,
    Ready,
    Received,
    Refused,
    Remark,
    Replied,
    Send,
    Start,
    Stop,
    Tick,
)
from edge.proto.dialects.mcp_reverse import refusals, steps, wire
from edge.proto.dialects.mcp_reverse.posts import BATCH, BULKY, Post, PostQueue
from edge.proto.dialects.mcp_reverse.steps import (
    Garbage,
    Nudge,
    Payload,
    Pong,
    Step,
    decoded,
    parse,
    too_large,
)
from edge.proto.jsonrpc import INTERNAL_ERROR, Request, Response, encode_error, encode_request
from edge.proto.numbered import batch_limit, parse_answer, size_of

S = LinkState

TRANSITIONS: Final[Mapping[LinkState, frozenset[type]]] = {
    S.IDLE: frozenset({Start, Stop}),
    S.OPENING: frozenset({Opened, Refused, Closed, Stop}),
    S.READY: frozenset({
        Payload, Pong, Nudge, Garbage, Garbled, Alive, Replied, CallFailed, Send, Tick, Stop, Closed,
    }),
    S.CLOSED: frozenset(),
}  # fmt: skip
"""State to the steps that may follow; there is no registering, the opening names the server."""

KEEPALIVE_TIMEOUT_S: Final = 15.0
POST_TIMEOUT_S: Final = 30.0
SLOWEST_BYTES_PER_S: Final = 32 * 1024  # of an upload that is still worth waiting for
RETRY_S: Final = 1.0
LATE_S: Final = 5.0  # looking so late means that we were stopped: bytes may wait to be read
LEAVE_S: Final = 2.0  # for what is still to be posted at an orderly end
SMALL_BYTES: Final = 4096  # who refuses this as too large refuses everything


@dataclass(frozen=True, slots=True)
class Quirks:
    """What is known of the other end. What a carrier learned is in its `quirks`: give them to the next one.

    `forgets_by_age`: 1.1.0 forgets each session 60 s after it began, whatever is posted, and leaves the stream open
    and silent (observed); found out from a POST that is answered 404 at that age. `limit_bytes`: the largest POST that
    it takes; found out from a 413. `usual_limit_bytes`: what that is where nobody changed it (read); 1.1.0 resets
    the connection instead of answering 413 (observed).
    """

    forgets_by_age: bool = False
    limit_bytes: int | None = None
    usual_limit_bytes: int = 4 * 1024 * 1024
    age_s: float = 60.0
    age_tolerance_s: float = 2.0
    renew_at_age_s: float = 55.0


class McpReverseConnector:
    """One session with one acceptor, for one published server.

    `dead_after_s` without a byte on the stream ends it; after `doubt` it is `doubt_s`, or, as long as the other end has
    not been seen to answer pings, `heartbeat_gap_s`. `max_queued` characters wait to be posted at most.
    """

    def __init__(
        self,
        *,
        url_path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        name: str,
        session_id: str = "",  # the acceptor's counts
        description: str = "",  # has no place in this protocol
        heartbeat_s: float = 20.0,
        max_message_bytes: int = 16 * 1024 * 1024,
        max_queued: int = 64 * 1024 * 1024,
        dead_after_s: float = 45.0,
        doubt_s: float = 10.0,
        heartbeat_gap_s: float = 35.0,
        patience: int = 3,
        quirks: Quirks | None = None,
    ) -> None:
        self.state = S.IDLE
        self.own = False
        self.deadline: float | None = None
        self.quirks = Quirks() if quirks is None else quirks
        self._url_path = url_path
        self._query = query
        self._user_headers = headers
        self._name = name
        self._keepalive_s = min(heartbeat_s, 20.0)
        self._max_bytes = max_message_bytes
        self._max_queued = max_queued
        self._dead_after_s = dead_after_s
        self._doubt_s = doubt_s
        self._heartbeat_gap_s = heartbeat_gap_s
        self._patience = patience
        self._offer: str | None = None
        self._target = ""
        self._headers: Mapping[str, str] = {}
        self._queue = PostQueue()
        self._batch = BATCH
        self._posts: dict[str, Post] = {}  # by tag; at most one is no keepalive
        self._n_posts = 0
        self._n_pings = 0
        self._asked: set[str] = set()  # ids that the other end waits for; kept only if the age matters
        self._opened_at = 0.0
        self._kept_at = 0.0  # when the last POST that was taken was sent
        self._probe_at = float("inf")  # just past the age at which 1.1.0 forgets
        self._dead_at = float("inf")
        self._is_doubted = False
        self._answers_pings = False
        self._leaving: Stop | None = None
        self._leave_by = float("inf")

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        """What follows from `event`. A step that the table lacks changes nothing."""
        if self.state is S.CLOSED:
            return []
        step = parse(event.text, own=self.own) if isinstance(event, Received) else event
        if type(step) not in TRANSITIONS[self.state]:
            if isinstance(event, Tick | Alive):
                return []
            raise LocalProtocolError(f"{type(step).__name__} while {self.state.name}")
        if isinstance(event, Received | Alive | Opened):
            self._dead_at = now + self._dead_after_s
            self._is_doubted = False
        return self._proceed([*self._follow(step, now)], now)

    def doubt(self, *, now: float) -> Sequence[Command]:
        """Posts, and gives up soon if that fails or the stream stays silent."""
        if self.state is not S.READY or (self._is_doubted and now < self._dead_at):
            return []
        return self._proceed([self._doubt(now)], now)

    def _follow(self, step: Event | Step, now: float) -> Sequence[Command]:
        match step:
            case Start(offer):
                self._offer = offer
                self.state = S.OPENING
                ours = {wire.NAME_HEADER: self._name, "Accept": "text/event-stream"}
                own = {} if offer is None else {OWN_HEADER: offer}
                target = wire.stream_target(self._url_path, self._name, self._query)
                return [OpenStream(target, {**wire.merged(ours, self._user_headers), **own})]
            case Opened(headers):
                return self._opened(headers, now)
            case Refused(status, body):
                return self._lose(*refusals.judge(status, body), is_open=False)
            case Payload(text):
                if self.quirks.forgets_by_age:
                    message = decoded(text)
                    if isinstance(message, Request):
                        self._asked.add(message.id)
                return [Deliver(text)]
            case Nudge():
                return [self._ping(now)]
            case Pong():
                self._answers_pings = True
                return []
            case Garbage():
                return [Remark("an event that holds no JSON object was passed over")]
            case Garbled(reason):
                return self._lose(reason)
            case Send(text):
                return self._outward(text)
            case Replied(tag, status):
                return self._replied(tag, status, now)
            case CallFailed(tag, reason, may_have_arrived):
                post = self._posts.pop(tag, None)
                why = f"a POST failed: {reason}"
                return [] if post is None else self._failed(post, why, now, may_have_arrived=may_have_arrived)
            case Stop(reason, code):
                if code == 1000 and self._leaving is None:
                    if self.own:
                        self._queue.put(wire.BYE)
                    if self._is_busy:
                        self._leaving, self._leave_by = step, now + LEAVE_S
                        return []
                return self._lose(reason, code=code)
            case Closed(reason):
                return self._lose(reason, is_open=False)
            case Tick() if now >= self._dead_at:
                if now - self._dead_at > LATE_S:
                    return [self._doubt(now)]
                return self._lose("no sign of life from the acceptor", Hurry.NOW)
            case _:  # Alive, noted already; or Tick, for what `_proceed` does
                return []

    # -- opening

    def _opened(self, headers: Mapping[str, str], now: float) -> Sequence[Command]:
        session = headers.get(wire.SESSION_HEADER.lower(), "")
        if not wire.is_legal_session(session):
            return self._lose("the answer names no session", Hurry.SLOW, refusals.STREAM_ADVICE)
        answer = headers.get(OWN_HEADER) if self._offer is not None else None
        found = parse_answer(answer)
        self.own = found is not None
        self._batch = batch_limit(BATCH, found)
        self.state = S.READY
        self._opened_at = self._kept_at = now
        if not self.own and not self.quirks.forgets_by_age:
            self._probe_at = now + self.quirks.age_s + self.quirks.age_tolerance_s / 2
        self._target = wire.message_target(self._url_path, session)
        kind = "text/plain; charset=utf-8" if self.own else "application/json"
        ours = {"Content-Type": kind, wire.NAME_HEADER: self._name, wire.SESSION_HEADER: session}
        self._headers = wire.merged(ours, self._user_headers)
        kind = "own" if self.own else "1.1.0" if self.quirks.forgets_by_age else "foreign"
        return [Ready(kind, answer=answer if self.own else None, session=session)]

    # -- posts

    @property
    def _current(self) -> Post | None:
        """The message that is on its way."""
        return next((post for post in self._posts.values() if not post.is_keepalive), None)

    @property
    def _is_busy(self) -> bool:
        return bool(self._queue) or self._current is not None

    def _outward(self, text: str) -> Sequence[Command]:
        if self._queue and self._queue.size + len(text) > self._max_queued:
            return self._lose("the acceptor takes messages too slowly")
        if self.own:
            self._queue.put(text)
            return []
        n_bytes = size_of(text)
        if n_bytes > self._limit:
            return self._give_up(text, too_large(n_bytes, self._limit))
        is_answer = False
        if n_bytes > BULKY or self.quirks.forgets_by_age:
            message = decoded(text)
            if isinstance(message, Response):
                is_answer = True
                self._asked.discard(message.id or "")
        self._queue.put(text, may_be_overtaken=is_answer and n_bytes > BULKY)
        return []

    @property
    def _limit(self) -> int:
        return min(self.quirks.limit_bytes or self._max_bytes, self._max_bytes)

    def _proceed(self, commands: list[Command], now: float) -> Sequence[Command]:
        """`commands`, then whatever is due; sets the deadline."""
        if self.state is S.READY:
            commands += self._leave(now) or self._post_due(now)
        self.deadline = self._next_deadline(now)
        return commands

    def _leave(self, now: float) -> Sequence[Command]:
        """The end, if it is time for it."""
        if self._leaving is not None and (now >= self._leave_by or not self._is_busy):
            return self._lose(self._leaving.reason)
        if self.own or not self.quirks.forgets_by_age:
            return []
        age = now - self._opened_at
        is_idle = not self._is_busy and not self._asked
        if age >= self.quirks.age_s or (age >= self.quirks.renew_at_age_s and is_idle):
            return self._lose("renewed before the acceptor forgets the session", Hurry.NOW)
        return []

    def _post_due(self, now: float) -> list[Command]:
        due = [tag for tag, post in self._posts.items() if post.retry_at is not None and now >= post.retry_at]
        said: list[Command] = [self._post(self._posts.pop(tag), now) for tag in due]
        if self._queue and self._current is None:
            body = self._queue.take_batch(self._batch) if self.own else self._queue.take()
            said.append(self._post(Post(body, now), now))
        if now >= self._probe_at or (now >= self._kept_at + self._keepalive_s and not self._is_pinging):
            self._probe_at = float("inf") if now >= self._probe_at else self._probe_at
            said.append(self._ping(now))
        return said

    @property
    def _is_pinging(self) -> bool:
        return any(post.is_keepalive for post in self._posts.values())

    def _ping(self, now: float, *, is_urgent: bool = False) -> HttpCall:
        """Beside the messages, not behind them: an upload may take longer than a session is kept."""
        body = ""
        if not self.own:
            self._n_pings += 1
            body = encode_request(steps.keepalive_id(self._n_pings), "ping", None)
        return self._post(Post(body, now, is_keepalive=True, is_urgent=is_urgent), now)

    def _post(self, post: Post, now: float) -> HttpCall:
        self._n_posts += 1
        tag = f"p{self._n_posts}"
        self._posts[tag] = post
        post.sent_at, post.retry_at = now, None
        timeout_s = POST_TIMEOUT_S + len(post.body) // SLOWEST_BYTES_PER_S
        if post.is_keepalive:
            timeout_s = self._doubt_s if post.is_urgent else KEEPALIVE_TIMEOUT_S
        return HttpCall(tag, "POST", self._target, self._headers, post.body, timeout_s)

    def _doubt(self, now: float) -> Command:
        patience_s = self._doubt_s if self.own or self._answers_pings else self._heartbeat_gap_s
        self._dead_at = now + patience_s if now >= self._dead_at else min(self._dead_at, now + patience_s)
        self._is_doubted = True
        return self._ping(now, is_urgent=True)

    def _next_deadline(self, now: float) -> float | None:
        if self.state is not S.READY:
            return None
        timers = [self._dead_at, self._leave_by, self._probe_at]
        timers += [post.retry_at for post in self._posts.values() if post.retry_at is not None]
        if not self._is_pinging:
            timers.append(self._kept_at + self._keepalive_s)
        if self.quirks.forgets_by_age and not self.own:
            renew_at = self._opened_at + self.quirks.renew_at_age_s
            timers.append(renew_at if now < renew_at else self._opened_at + self.quirks.age_s)
        return min(timers)

    # -- how posts end

    def _replied(self, tag: str, status: int, now: float) -> Sequence[Command]:
        post = self._posts.pop(tag, None)
        if post is None:
            return []
        if 200 <= status < 300:
            self._kept_at = max(self._kept_at, post.sent_at)
            return []
        reason = f"the acceptor answered {status} to a POST"
        match status:
            case 404 | 410:
                return self._forgotten(post)
            case 401 | 403:
                return self._lose(reason, Hurry.SLOW, refusals.TOKEN_ADVICE)
            case 413:
                return self._too_large(post)
            case 408 | 425 | 429:
                return self._failed(post, reason, now, may_have_arrived=False, pause_s=RETRY_S)
            case _ if status >= 500:
                return self._failed(post, reason, now, may_have_arrived=True, pause_s=RETRY_S)
            case _:
                return self._lose(reason)

    def _forgotten(self, post: Post) -> Sequence[Command]:
        reason = "the acceptor has forgotten the session"
        quirks, age = self.quirks, post.sent_at - self._opened_at
        is_at_age = abs(age - quirks.age_s) <= quirks.age_tolerance_s
        was_kept = post.sent_at - self._kept_at <= self._keepalive_s + 5
        if self.own or quirks.forgets_by_age or not (is_at_age and was_kept):
            return self._lose(reason, Hurry.NOW)
        self.quirks = replace(quirks, forgets_by_age=True)
        told = "the acceptor forgets sessions by age, as mcp-reverse 1.1.0 does: they are renewed in time from now on"
        return [Remark(told, "info"), *self._lose(reason, Hurry.NOW)]

    def _too_large(self, post: Post) -> Sequence[Command]:
        n_bytes = size_of(post.body)
        if self.own or n_bytes <= SMALL_BYTES:
            return self._lose(
                f"the acceptor refused a POST of {n_bytes} bytes as too large",
                Hurry.SLOW,
                refusals.SIZE_ADVICE,
            )
        usual = self.quirks.usual_limit_bytes
        limit = usual if n_bytes > usual else n_bytes - 1
        self.quirks = replace(self.quirks, limit_bytes=min(limit, self._limit))
        return self._give_up(post.body, too_large(n_bytes, limit))

    def _failed(
        self, post: Post, why: str, now: float, *, may_have_arrived: bool, pause_s: float = 0.0
    ) -> Sequence[Command]:
        post.failures += 1
        if post.is_urgent:
            return self._lose(why, Hurry.NOW)
        if self.own or post.is_keepalive:
            if post.failures >= self._patience:
                return self._lose(why)
            return self._again(post, now + (pause_s if post.failures == 1 else RETRY_S))
        if may_have_arrived and not isinstance(decoded(post.body), Response):
            return self._give_up(post.body, "outcome unknown: the link failed while this was sent")
        if post.failures == 1:
            return self._again(post, now + pause_s)
        if may_have_arrived and pause_s == 0 and size_of(post.body) > self.quirks.usual_limit_bytes:
            return self._too_large(post)
        return self._lose(why)

    def _again(self, post: Post, at: float) -> Sequence[Command]:
        """It keeps its place: nothing is posted before it."""
        post.retry_at = at
        self._n_posts += 1
        self._posts[f"p{self._n_posts}"] = post
        return []

    def _give_up(self, text: str, told: str) -> Sequence[Command]:
        """A message that cannot be sent: whoever waits for something is told instead."""
        message = decoded(text)
        if isinstance(message, Request):
            return [Deliver(encode_error(message.id, INTERNAL_ERROR, told))]
        if isinstance(message, Response) and message.id is not None:
            self._asked.discard(message.id)
            self._queue.put(encode_error(message.id, INTERNAL_ERROR, told))
        return [
            Remark("a message could not be sent over this link, and an error took its place if one was due")
        ]

    def _lose(
        self,
        reason: str,
        hurry: Hurry = Hurry.NORMAL,
        advice: str = "",
        *,
        code: int = 1000,
        is_open: bool = True,
    ) -> Sequence[Command]:
        has_carrier = is_open and self.state is not S.IDLE
        self.state = S.CLOSED
        self._queue.clear()
        self._posts.clear()
        return [*([CloseCarrier(code, reason)] if has_carrier else []), Lost(reason, hurry, advice)]
