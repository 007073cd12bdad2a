"""Keeps one published link up: one attempt after the other, and the face behind them while the logical link lives.

An attempt is one carrier from dial to loss. With a foreign gateway the link ends with it, and so does every call
that came over it. With a hub of ours calls go on for RESUME_S while attempts try to resume; if the hub then answers
with another link, the old one ends first. Why the last attempt failed is said once, and again when it changes.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

import trio

from edge.backoff import Backoff
from edge.errors import EdgeError
from edge.health import Status
from edge.metrics import LinkMetrics
from edge.parts.link import Link
from edge.parts.link_face import LinkFace
from edge.parts.pump import Carrier, Pump
from edge.proto.dialect import CloseCarrier, Dialect, Event, Hurry, Lost, Ready, Start, Stop
from edge.proto.numbered import LinkAnswer, LinkOffer, Numbered, parse_answer

log = logging.getLogger("edge.link")

RESUME_S = 120.0  # how long calls of a suspended link go on; a hub of ours waits as long (hub.resume_grace_s)
CLOSE_S = 2.0  # for what was pushed last, and the closing handshake
HURRY_S = 0.25
SLOW_S = 60.0
OUTBOX_BYTES = 8 * 1024 * 1024
MAX_UNACKED = 1024
PROTOCOL_ERROR = 1002


class RunningCarrier(Carrier, Protocol):
    """A carrier with a life of its own."""

    async def run(self, feed: Callable[[Event], None]) -> None:
        """Do what is performed, and feed what comes of it; returns when the carrier is closed."""


class Attempt(Protocol):
    """Makes a dialect and its carrier for one attempt, with the token as it is now. Raises EdgeError. May be
    cancelled."""

    async def __call__(self) -> tuple[Dialect, RunningCarrier]:
        raise NotImplementedError


class Logical:
    """A logical link with its face; `id` is the hub's name for it, None with a foreign gateway."""

    __slots__ = ("face", "id", "link", "scope")

    def __init__(self, link: Link, face: LinkFace, link_id: str | None) -> None:
        self.link = link
        self.face = face
        self.id = link_id
        self.scope = trio.CancelScope()

    def end(self, reason: str) -> None:
        """For good: what came over it is cancelled."""
        self.link.end(reason)
        self.scope.cancel()


class KeptLink:
    """One link of an uplink. `make_face` makes the face of each new logical link; `rng` gives 0 up to 1.

    `max_attempts` failures without being good in between end it; 0: none do. `detail` is what `status` shows of it
    that does not change. `shows_session`: whether the carrier's session id may be seen; some are as good as a key.
    """

    def __init__(
        self,
        name: str,
        attempt: Attempt,
        make_face: Callable[[Link], LinkFace],
        *,
        status: Status,
        metrics: LinkMetrics,
        backoff: Backoff,
        slow_s: float,
        good_after_s: float,
        max_attempts: int,
        max_message_bytes: int,
        resume: bool,
        remember: Callable[[str | None], None] | None,
        rng: Callable[[], float],
        extra: dict[str, object],
        detail: dict[str, Any],
        shows_session: bool,
    ) -> None:
        self.name = name
        self.status = status
        self._begin = attempt
        self._make_face = make_face
        self._metrics = metrics
        self._backoff = backoff
        self._slow_s = max(slow_s, SLOW_S)
        self._good_after_s = good_after_s
        self._max_attempts = max_attempts
        self._max_bytes = max_message_bytes
        self._resume = resume
        self._remember = remember
        self._rng = rng
        self._extra = extra
        self._detail = {**detail, "kind": None}
        self._shows_session = shows_session
        self._pump: Pump | None = None
        self._making = trio.CancelScope()  # of the next attempt: its files may be long in coming
        self._logical: Logical | None = None
        self._home: trio.Nursery | None = None  # of the faces
        self._failures = 0  # since it was last good for a while
        self._ready_at: float | None = None  # of the present carrier
        self._was_ready = False
        self._began_at = 0.0
        self._has_hurried = False
        self._heard = metrics.messages_in, metrics.rtt_s
        self._said: str | None = None
        self._woken = trio.Event()
        self._is_stopping = False
        self._has_ended = trio.Event()
        self._has_ended.set()  # it has not begun
        self._is_settled = trio.Event()

    # -- its life

    async def run(self) -> None:
        """Until `stop`, or cancelled. May be run again after that, or after a fault."""
        self._is_stopping = False
        self._has_ended = trio.Event()
        self._logical = None
        self.refresh()
        try:
            async with trio.open_nursery() as nursery:
                self._home = nursery
                while not self._is_stopping:
                    await self._pause(await self._attempt())
                nursery.cancel_scope.cancel()
        finally:
            self._metrics.up = False
            self.status.stopped()
            self._has_ended.set()

    async def stop(self) -> None:
        """Let calls in flight end, then leave in an orderly way. The caller bounds it.

        At once for one that does not run; a `run` that begins later knows nothing of it.
        """
        if self._logical is not None:
            await self._logical.face.drain()
        self._is_stopping = True
        self._making.cancel()
        self._woken.set()
        if self._pump is not None:
            self._pump.feed(Stop("mcp-edge is stopping"))
        await self.wait_ended()

    def abandon(self) -> None:
        """End now, whatever is still under way; says nothing new to one that has ended."""
        if self._home is not None:
            self._home.cancel_scope.cancel()

    async def wait_ended(self) -> None:
        """Until it does not run; at once if it does not."""
        await self._has_ended.wait()

    async def wait_settled(self) -> None:
        """Until it has been ready, or an attempt has failed, for the first time."""
        await self._is_settled.wait()

    def wake(self) -> None:
        """The process slept, or the network changed: look at the link, and try again at once if it is down."""
        self._woken.set()
        if self._pump is not None:
            self._pump.doubt()

    async def _attempt(self) -> Lost:
        self._ready_at = None
        self._began_at = trio.current_time()
        self.status.trying("connecting")
        lost = Lost("mcp-edge is stopping")
        try:
            with trio.CancelScope() as self._making:
                dialect, carrier = await self._begin()
        except EdgeError as exc:
            lost = Lost(str(exc))
        else:
            if not self._is_stopping:
                lost = await self._carry(dialect, carrier)
        self._down(lost)
        return lost

    async def _carry(self, dialect: Dialect, carrier: RunningCarrier) -> Lost:
        is_closed = trio.Event()

        async def run_carrier(feed: Callable[[Event], None]) -> None:
            await carrier.run(feed)
            is_closed.set()

        pump = Pump(dialect, carrier, on_ready=self._up, remember=self._remember, log_extra=self._extra)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_carrier, pump.feed)
            self._pump = pump
            try:
                pump.feed(Start(self._offer()))
                lost = await pump.run()
            finally:
                self._pump = None
            carrier.perform(CloseCarrier())  # says nothing new to one that is closing or closed
            with trio.move_on_after(CLOSE_S):
                await is_closed.wait()
            nursery.cancel_scope.cancel()
        return lost

    async def _pause(self, lost: Lost) -> None:
        """Wait for the next attempt: as long as the loss and those before it suggest; for ever if it is given up."""
        if self._is_stopping:
            return
        now = trio.current_time()
        self._failures += 1
        # Calls wait for a link that can be resumed: the first attempt to do so is hurried as well.
        is_quick = lost.hurry is Hurry.NOW or (
            lost.hurry is Hurry.NORMAL and self._logical is not None and self._ready_at is not None
        )
        delay = 0.0 if is_quick and not self._has_hurried else self._backoff.next(now)
        if not delay:
            self._has_hurried = True
            delay = HURRY_S * self._rng()
        elif lost.hurry is Hurry.SLOW:
            delay = self._slow_s * (1.0 + 0.25 * self._rng())
        if self._max_attempts and self._failures >= self._max_attempts:
            self.status.failed(
                f"given up after {self._failures} attempt{'s'[: self._failures != 1]}: {told(lost)}"
            )
            log.error("link given up", extra={**self._extra, "reason": told(lost)})
            await self._given_up()
            return
        extra = {**self._extra, "reason": lost.reason, "retry_s": round(delay, 3)}
        if lost.advice:
            extra["advice"] = lost.advice
        text = told(lost)
        log.log(logging.WARNING if text != self._said else logging.DEBUG, "link down", extra=extra)
        self._said = text
        self.status.retries_in(delay)
        self._woken = trio.Event()
        with trio.move_on_after(delay):
            await self._woken.wait()

    async def _given_up(self) -> None:
        while not self._is_stopping:
            self._woken = trio.Event()
            await self._woken.wait()

    # -- up and down

    def _offer(self) -> str | None:
        if not self._resume:
            return None
        logical = self._logical
        if logical is None or logical.id is None or logical.link.numbered is None:
            return LinkOffer(max_bytes=self._max_bytes).encode()
        return LinkOffer(logical.id, logical.link.numbered.received, self._max_bytes).encode()

    def _up(self, ready: Ready) -> tuple[Link, int] | None:
        """A carrier is ready: the link it carries, the one that was suspended or a new one."""
        answer = parse_answer(ready.answer)
        if ready.answer is not None and answer is None:
            assert self._pump is not None
            self._pump.feed(Stop("the hub's answer to our offer cannot be used", PROTOCOL_ERROR))
            return None
        logical = self._logical
        is_resumed = logical is not None and answer is not None and logical.id == answer.link
        if logical is None or not is_resumed:
            if logical is not None:
                logical.end("the hub began a new link")
            logical = self._logical = self._new(answer)
        logical.scope.deadline = float("inf")
        now = trio.current_time()
        self._ready_at = now
        self._backoff.started(now)
        self._detail["kind"] = ready.kind
        if self._shows_session:
            self._detail["session"] = ready.session
        self._said = None
        metrics = self._metrics
        metrics.up = True
        metrics.attempts.add("ready")
        if self._was_ready:
            metrics.reconnects += 1
            self.status.restarts += 1
        self._was_ready = True
        self.status.ready()
        self._is_settled.set()
        took_s = round(now - self._began_at, 3)
        what = {"kind": ready.kind, "took_s": took_s, "is_resumed": is_resumed}
        log.info("link ready", extra={**self._extra, **what})
        return logical.link, 0 if answer is None else answer.received

    def _new(self, answer: LinkAnswer | None) -> Logical:
        assert self._home is not None  # attempts are made in `run`
        numbered = None
        if answer is not None:
            numbered = Numbered(max_unacked_bytes=OUTBOX_BYTES, max_unacked=MAX_UNACKED)
        theirs = self._max_bytes if answer is None or answer.max_bytes is None else answer.max_bytes
        link = Link(
            self.name,
            nobody,
            numbered=numbered,
            limit_bytes=OUTBOX_BYTES,
            counts=self._metrics,
            max_message_bytes=min(self._max_bytes, theirs),
        )
        face = self._make_face(link)
        link.receive = face.receive
        logical = Logical(link, face, None if answer is None else answer.link)
        self._home.start_soon(self._serve, logical)
        return logical

    async def _serve(self, logical: Logical) -> None:
        with logical.scope:
            await logical.face.run()
        logical.link.end("not resumed in time")
        if self._logical is logical:
            self._logical = None

    def _down(self, lost: Lost) -> None:
        now = trio.current_time()
        metrics = self._metrics
        metrics.up = False
        if self._ready_at is None:
            metrics.attempts.add("refused" if lost.hurry is Hurry.SLOW else "failed")
        elif now - self._ready_at >= self._good_after_s:
            self._has_hurried = False
            self._failures = 0
        logical = self._logical
        if logical is not None:
            if logical.link.ended is not None:
                logical.end(lost.reason)
                self._logical = None
            elif self._ready_at is not None:  # suspended just now
                logical.scope.deadline = now + RESUME_S
        self.status.degraded(told(lost))
        self._is_settled.set()
        self.refresh()

    # -- what is seen of it

    def refresh(self) -> None:
        """Bring `status.detail` and the metrics up to date; called every second."""
        metrics, logical = self._metrics, self._logical
        metrics.inflight = logical.face.inflight if logical is not None else 0
        heard = metrics.messages_in, metrics.rtt_s  # a message, or the answer to a heartbeat
        if heard != self._heard:
            self._heard = heard
            self.status.succeeded()
        self.status.detail = {
            **self._detail,
            "failures": self._failures,
            "is_resumable": logical is not None and logical.id is not None,
            "calls_in_flight": metrics.inflight,
            "rtt_s": None if metrics.rtt_s is None else round(metrics.rtt_s, 4),
            "bytes_received": metrics.bytes_in,
            "bytes_sent": metrics.bytes_out,
            "connections": metrics.carriers,
            "resumed": metrics.resumed,
        }


def told(lost: Lost) -> str:
    """For the operator: what happened, and what to do."""
    return f"{lost.reason} ({lost.advice})" if lost.advice else lost.reason


def nobody(text: str) -> None:
    raise AssertionError("a message before the link had a face")
