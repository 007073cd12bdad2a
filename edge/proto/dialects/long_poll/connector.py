"""The edge's end of a polling link: register once, poll for ever, post what comes of it.

A foreign hub hands out one request a poll. A hub of ours (`own`) hands out what there is, as frames; posts go one
after the other there, for frames have an order, and a poll that failed ends the carrier, for what it would have
brought is sent again after a resumption only.
A saved session is tried before a new one is registered: the real hub never forgets one, and goes on to route calls
to it. Source: cpp-mcp `proxy_server` of 2025-11-11, observed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from edge.errors import LocalProtocolError
from edge.proto.dialect import (
    OWN_HEADER,
    CallFailed,
    Closed,
    Command,
    Deliver,
    Event,
    HttpCall,
    Hurry,
    LinkState,
    Lost,
    Ready,
    Remark,
    Remember,
    Replied,
    Send,
    Start,
    Stop,
    Tick,
)
from edge.proto.dialects.long_poll import frames
from edge.proto.dialects.long_poll.calls import Calls, ToPost
from edge.proto.dialects.long_poll.outcome import (
    Outcome,
    PollEnded,
    PostEnded,
    ProbeEnded,
    RegisterEnded,
    outcome_of,
)
from edge.proto.dialects.long_poll.posts import Posts, Verdict
from edge.proto.numbered import batch_limit, parse_answer

S = LinkState

TRANSITIONS: Final[Mapping[LinkState, frozenset[type]]] = {
    S.IDLE: frozenset({Start, Stop, Closed}),
    S.OPENING: frozenset({PollEnded, Tick, Stop, Closed}),  # a saved session is tried
    S.REGISTERING: frozenset({RegisterEnded, Tick, Stop, Closed}),
    S.READY: frozenset({PollEnded, PostEnded, ProbeEnded, Send, Tick, Stop, Closed}),
    S.CLOSED: frozenset(),
}
"""State to the steps that may follow. Which state comes next depends on what a step says."""

REGISTER_TIMEOUT_S: Final = 15.0
POST_TIMEOUT_S: Final = 30.0
PROBE_TIMEOUT_S: Final = 5.0
LEAVE_S: Final = 2.0
EARLY_S: Final = 15.0  # half of the real hub's hold
AT_ONCE_S: Final = 1.0  # a hub that answers empty polls faster than this does not hold them
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 30.0
LONGEST_IDLE_PAUSE_S: Final = 5.0
REMARK_EVERY_S: Final = 3600.0
MAX_REMARKS: Final = 16
NO_HUB_ADVICE: Final = "look at the url: what answers there is no long-poll hub"
PROBE: Final = frames.reply_body("0", "{}")  # hubs answer 200 to ids they do not know


@dataclass(frozen=True, slots=True)
class Quirks:
    """What foreign hubs do. `loses_requests`: cpp-mcp's `proxy_server` throws away the request for which it wakes
    up, and answers 204 in that moment (observed): so an early 204 is worth a remark."""

    loses_requests: bool = True


class LongPollConnector:
    """One polling session at one hub, for one published server.

    `saved` is the session id of the last `Remember`. `spread`, 0 to 1, lengthens this link's pauses, so that a
    thousand edges do not come back in step. `max_calls` calls are taken at once from a foreign hub; each is
    answered `give_up_s` after it came, by an error if need be, and not posted after `wait_s`. Failures of polls
    are borne for `patience_s`. Polls are the heartbeat: `heartbeat_s` says nothing here.
    """

    def __init__(
        self,
        *,
        url_path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        name: str,
        description: str = "",
        heartbeat_s: float = 25.0,
        max_message_bytes: int = 16 * 1024 * 1024,
        saved: str | None = None,
        timestamp_ns: int = 0,
        spread: float = 0.0,
        max_calls: int = 16,
        give_up_s: float = 55.0,
        wait_s: float = 58.0,
        poll_timeout_s: float = 38.0,
        patience_s: float = 45.0,
        quirks: Quirks | None = None,
    ) -> None:
        self.state = S.IDLE
        self.own = False
        self.deadline: float | None = None
        self._quirks = Quirks() if quirks is None else quirks
        self._base = url_path.rstrip("/")
        self._query = query
        self._headers = headers
        self._registration = frames.registration_body(name, description, timestamp_ns)
        self._session = saved
        self._poll_path = "/poll"
        self._post_path = "/response"
        self._spread = spread
        self._max_calls = max_calls
        self._poll_timeout_s = poll_timeout_s
        self._patience_s = patience_s
        self._offer: str | None = None
        self._tags = 0
        self._poll: str | None = None  # the tag of the poll that we count on
        self._polls: dict[str, float] = {}  # it and those we no longer count on, with their beginning
        self._poll_at = 0.0
        self._quick_polls = 0
        self._failures = 0
        self._failing_since = 0.0
        self._has_polled = False  # a poll of this session has been answered
        self._calls = Calls(give_up_s=give_up_s, wait_s=wait_s, max_message_bytes=max_message_bytes)
        self._posts = Posts(patience_s=patience_s, spread=spread)
        self._lost_requests = 0
        self._next_remark_at = 0.0
        self._remarks: set[str] = set()
        self._leaving: str | None = None
        self._leave_by = 0.0
        self._said_bye = False

    def handle(self, event: Event, *, now: float) -> Sequence[Command]:
        if self.state is S.CLOSED:
            return ()
        step = outcome_of(event)
        if type(step) not in TRANSITIONS[self.state]:
            if isinstance(event, Replied | CallFailed):
                return ()  # an answer to what was asked in another state
            raise LocalProtocolError(f"{type(step).__name__} while {self.state.name}")
        commands: list[Command] = []
        match step:
            case Start():
                commands += self._start(step, now)
            case Closed():
                commands += self._lose(step.reason)
            case Stop():
                commands += self._stop(step, now)
            case RegisterEnded():
                commands += self._registered(step, now)
            case PollEnded():
                commands += self._polled(step, now)
            case PostEnded():
                commands += self._posted(step, now)
            case ProbeEnded():
                commands += self._probed(step, now)
            case Send():
                commands += self._send(step.text, now)
            case _:  # Tick
                commands += self._carry_out(self._calls.give_up(now), now)
        commands += self._go_on(now)
        return commands

    def doubt(self, *, now: float) -> Sequence[Command]:
        if self.state is S.OPENING or (self.state is S.READY and self.own):
            return self._lose("the connection is in doubt", Hurry.NOW)  # a resumption loses nothing
        if self.state is not S.READY:
            return ()
        return [self._call(self._tag("probe"), self._post_path, PROBE, PROBE_TIMEOUT_S)]

    # -- opening

    def _start(self, start: Start, now: float) -> list[Command]:
        self._offer = start.offer
        if self._session is None:
            return self._register()
        self.state = S.OPENING
        return [self._new_poll(now)]

    def _register(self) -> list[Command]:
        self.state = S.REGISTERING
        self._session = None
        return [self._call(self._tag("register"), "/register", self._registration, REGISTER_TIMEOUT_S)]

    def _registered(self, ended: RegisterEnded, now: float) -> list[Command]:
        if ended.status != 200:
            return self._refused("register", ended)
        found = frames.read_register_answer(ended.body)
        if found is None:
            return self._lose("the answer to register is none", Hurry.SLOW, NO_HUB_ADVICE)
        self._session = found.session
        self._poll_path = found.poll or self._poll_path
        self._post_path = found.response or self._post_path
        answer = ended.headers.get(OWN_HEADER) if self._offer is not None else None
        self.own = answer is not None
        self._posts.batch_chars = batch_limit(frames.MAX_FRAMES_CHARS, parse_answer(answer))
        self.state = S.READY
        self._poll_at = now
        # Our hubs know by the link's id what is to be resumed.
        kept: list[Command] = [] if self.own else [Remember(found.session)]
        return [*kept, Ready("own" if self.own else "foreign", answer=answer)]

    # -- polls

    def _polled(self, ended: PollEnded, now: float) -> list[Command]:
        began = self._polls.pop(ended.tag, None)
        if began is None:
            return []
        counts = ended.tag == self._poll
        if counts:
            self._poll = None
        if ended.status not in (200, 204):
            return self._poll_failed(ended, now) if counts else []
        commands: list[Command] = []
        if self.state is S.OPENING:
            if ended.status == 200 and frames.read_envelope(ended.body) is None:
                return self._lose("the answer to a poll is none", Hurry.SLOW, NO_HUB_ADVICE)
            self.state = S.READY
            commands.append(Ready("foreign"))
        self._has_polled = True
        self._poll_at = now
        if ended.status == 200 and ended.body:
            return commands + self._take(ended.body, now)
        self._failures = 0
        if not counts:
            return commands
        took = now - began
        self._quick_polls = self._quick_polls + 1 if took < AT_ONCE_S else 0
        if self._quick_polls > 1:
            self._poll_at = now + min(LONGEST_IDLE_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._quick_polls, 10))
        if took < EARLY_S and not self.own and self._quirks.loses_requests:
            self._lost_requests += 1
            if now >= self._next_remark_at:
                self._next_remark_at = now + REMARK_EVERY_S
                told = (
                    f"hub lost a request: an empty answer to a poll came early ({self._lost_requests} so far)"
                )
                commands.append(Remark(told))
        return commands

    def _take(self, body: str, now: float) -> list[Command]:
        self._quick_polls = 0
        if self.own:
            self._failures = 0
            return [Deliver(frame) for frame in body.split("\n") if frame]
        found = frames.read_envelope(body)
        if found is None:
            return self._bear("the answer to a poll is none", now)
        self._failures = 0
        return self._carry_out(self._calls.take(found, now=now, refuse=self._leaving is not None), now)

    def _poll_failed(self, ended: PollEnded, now: float) -> list[Command]:
        if ended.status == 404:
            return self._session_gone()
        if self.state is S.OPENING or ended.is_final:
            return self._refused("poll", ended)
        if self.own and (ended.status is not None or ended.may_have_arrived):
            return self._lose(f"poll: {ended.problem}", Hurry.NOW)
        return self._bear(f"poll: {ended.problem}", now)

    def _bear(self, problem: str, now: float) -> list[Command]:
        """Tries again after a growing pause, until patience ends."""
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
        elif now - self._failing_since >= self._patience_s:
            return self._lose(problem)
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10))
        self._poll_at = now + pause * (1 + self._spread)
        return self._remark(problem, "info")

    def _session_gone(self) -> list[Command]:
        if self.state is S.OPENING:
            return [Remember(None), *self._register()]
        told: list[Command] = [] if self.own else [Remember(None)]
        if self._has_polled:
            return told + self._lose("the hub has forgotten this session", Hurry.NOW)
        advice = "are there several hubs behind this address, each with sessions of its own?"
        return told + self._lose("the hub does not know the session it has just given", advice=advice)

    # -- posts

    def _send(self, text: str, now: float) -> list[Command]:
        if self.own:
            self._posts.add_frame(text)
            return []
        return self._carry_out(self._calls.send(text, now=now), now)

    def _carry_out(self, steps: Iterable[Command | ToPost], now: float) -> list[Command]:
        commands: list[Command] = []
        for step in steps:
            if isinstance(step, ToPost):
                self._posts.add(step.body, now=now, until=step.until, instead=step.instead)
            elif isinstance(step, Remark):
                commands += self._remark(step.text, step.level)
            else:
                commands.append(step)
        return commands

    def _posted(self, ended: PostEnded, now: float) -> list[Command]:
        if not self._posts.is_open(ended.tag):
            return []
        if ended.status == 404:
            return self._session_gone()
        verdict = self._posts.end(ended, now=now)
        if verdict is Verdict.GOOD:
            return []
        if self.own and verdict is not Verdict.AGAIN:
            hurry = Hurry.NOW if verdict is Verdict.LATE else Hurry.NORMAL
            return self._lose(f"response: {ended.problem}", hurry)
        told = {
            Verdict.AGAIN: f"response: {ended.problem}",
            Verdict.LATE: "an answer could not be handed to the hub in time",
            Verdict.REFUSED: f"the hub refused an answer: {ended.problem}",
        }
        return self._remark(told[verdict], "info" if verdict is Verdict.AGAIN else "warning")

    def _probed(self, ended: ProbeEnded, now: float) -> list[Command]:
        if ended.status == 404:
            return self._session_gone()
        if ended.status is None or ended.is_passing:
            return self._lose(f"no sign of life: {ended.problem}", Hurry.NOW)
        if (
            self._poll is not None
        ):  # it may hang in a connection that is no more; what it still brings is taken
            self._poll = None
            self._poll_at = now
        return []

    # -- what is always next

    def _go_on(self, now: float) -> list[Command]:
        """Whatever can be begun now, and the time of what cannot."""
        commands: list[Command] = []
        self.deadline = None
        if self.state is not S.READY:
            return commands
        times = [self._calls.next_give_up]
        for tag, body in self._posts.begin(now, one_at_a_time=self.own):
            content_type = "text/plain" if self.own and body != frames.BYE else "application/json"
            commands.append(self._call(tag, self._post_path, body, POST_TIMEOUT_S, content_type))
        if self._leaving is not None:
            if now >= self._leave_by or (self._posts.is_empty and (self._said_bye or not self.own)):
                return commands + self._lose(self._leaving)
            if self._posts.is_empty:  # so the hub is ours
                self._said_bye = True
                self._posts.add(frames.BYE, now=now, until=self._leave_by)
                return commands + self._go_on(now)
            times.append(self._leave_by)
        elif self._poll is None and (self.own or self._calls.open_count + len(self._posts) < self._max_calls):
            if now >= self._poll_at:
                commands.append(self._new_poll(now))
            else:
                times.append(self._poll_at)
        times.append(self._posts.next_time)
        self.deadline = min((time for time in times if time is not None), default=None)
        return commands

    def _new_poll(self, now: float) -> HttpCall:
        call = self._call(self._tag("poll"), self._poll_path, None, self._poll_timeout_s)
        self._poll = call.tag
        self._polls[call.tag] = now
        return call

    def _call(
        self,
        tag: str,
        endpoint: str,
        body: str | None,
        timeout_s: float,
        content_type: str = "application/json",
    ) -> HttpCall:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = content_type
        if self._offer is not None and self.state is not S.READY:
            # With a saved session too: a hub of ours must not take up a session that it does not know then.
            headers[OWN_HEADER] = self._offer
        target = frames.target_of(self._base, endpoint, self._query, self._session)
        return HttpCall(tag, "GET" if body is None else "POST", target, headers, body, timeout_s)

    def _tag(self, kind: str) -> str:
        self._tags += 1
        return f"{kind}-{self._tags}"

    # -- the end

    def _stop(self, stop: Stop, now: float) -> list[Command]:
        if self.state is not S.READY or stop.code != 1000:
            return self._lose(stop.reason)
        if self._leaving is None:
            self._leaving = stop.reason
            self._leave_by = now + LEAVE_S
        return []

    def _refused(self, what: str, ended: Outcome) -> list[Command]:
        return self._lose(
            f"{what}: {ended.problem}", Hurry.SLOW if ended.is_final else Hurry.NORMAL, ended.advice
        )

    def _lose(self, reason: str, hurry: Hurry = Hurry.NORMAL, advice: str = "") -> list[Command]:
        self.state = S.CLOSED
        self.deadline = None
        return [Lost(reason, hurry, advice)]

    def _remark(self, text: str, level: Literal["debug", "info", "warning"]) -> list[Command]:
        if text in self._remarks or len(self._remarks) >= MAX_REMARKS:
            return []
        self._remarks.add(text)
        return [Remark(text, level)]
