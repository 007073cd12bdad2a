"""Drives one dialect over one carrier, for the carrier's life: events in, commands done, clock and writer.

`feed` is synchronous and may be called by any task, also from within what a command calls: the commands of an
inner event are done after those of the outer one. `run` is one task, which is writer and clock in turn: an idle link
costs one task here. A message that is alone skips the writer (`try_write`), as does a due acknowledgement.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import trio

from edge.errors import LocalProtocolError
from edge.parts.complaint import Complaint, tell_at_once
from edge.parts.flag import Flag
from edge.parts.link import Link
from edge.proto.dialect import (
    Alive,
    CallFailed,
    Command,
    Deliver,
    Dialect,
    Event,
    HttpCall,
    LinkState,
    Lost,
    Ping,
    Push,
    Ready,
    Registering,
    Remark,
    Remember,
    Replied,
    Respond,
    Send,
    Stop,
    Tick,
)
from edge.proto.numbered import BadFrame

log = logging.getLogger("edge.link")

ACK_WITHIN_S = 10.0
MAX_UNFLUSHED_BYTES = 64 * 1024  # given to the carrier without asking whether it keeps up
FRAME_COST_BYTES = 64  # what a frame costs beside its letters
MIN_TICK_S = 0.01  # a deadline that a Tick did not move would else be met at once, for ever
MAX_REMARKS = 32
PING = ""  # no tag of a dialect
NORMAL, PROTOCOL_ERROR = 1000, 1002  # RFC 6455 section 7.4.1
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


class Carrier(Protocol):
    """Does what a dialect says with sockets: OpenWebSocket, OpenStream, HttpCall, Push, Comment, Ping, Respond,
    CloseCarrier. It has tasks of its own for that, and feeds the pump with what comes of it."""

    def perform(self, command: Command) -> None:
        """Queue it; it is done soon without any further call. Never raises for a carrier that is closed: what
        can no longer be done leads to `Closed`, which has been or will be fed."""

    async def flush(self) -> None:
        """Wait until so much of what was queued is written that more may be queued.

        It only waits: it may be cancelled and called again. No checkpoint is needed if there is room already.
        """


class Pump:
    """One dialect, one carrier, and the link that it carries once it is ready.

    `on_ready` gives the link, and the last number that the other end says it has: 0 for a new link or a foreign
    peer. None: not wanted; `on_ready` has fed `Stop`. `on_registering` likewise feeds `Stop` to refuse.
    `remember` keeps the session id of a polling link. `complain` gets remarks that are warnings; by default they are
    told at once. `log_extra` goes into every log line: no secrets.
    """

    def __init__(
        self,
        dialect: Dialect,
        carrier: Carrier,
        *,
        on_ready: Callable[[Ready], tuple[Link, int] | None],
        on_registering: Callable[[Registering], None] | None = None,
        remember: Callable[[str | None], None] | None = None,
        complain: Callable[[Complaint], None] = tell_at_once,
        log_extra: Mapping[str, object],
    ) -> None:
        self.dialect = dialect
        self.link: Link | None = None  # once ready, and to the end
        self.lost: Lost | None = None
        self._carrier = carrier
        self._on_ready = on_ready
        self._on_registering = on_registering
        self._remember = remember
        self._complain = complain
        self._log_extra = log_extra
        self._later: list[Command] = []  # of events that were fed while commands are done
        self._is_doing = False
        self._is_leaving = False  # nothing more is taken from the outbox
        self._is_parked = False  # `run` waits until it may send
        self._unflushed = 0  # bytes
        self._remarks: tuple[str, ...] = ()
        self._timed: tuple[str, float] | None = None  # a ping or a POST: its tag, and when it began
        self._ack_at: float | None = None  # by then the other end is told what we have
        self._not_before = 0.0
        self._alarm = trio.CancelScope()  # around what `run` waits for
        self._alarm_at = math.inf  # its deadline: the next thing to do
        self._over = Flag()

    def feed(self, event: Event) -> None:
        """Something happened: do what follows, now. Nothing follows once the carrier is lost.

        `Stop` with code 1000 first sends what waits in the outbox. A second `Stop` says nothing new.
        """
        if isinstance(event, Stop):
            if self._is_leaving:
                return
            if event.code == NORMAL:
                while self._send_some():
                    pass
            self._is_leaving = True
        if self.lost is not None:
            return
        now = trio.current_time()
        if self._timed is not None:
            self._time(event, *self._timed, now)
        self._do(self.dialect.handle(event, now=now))

    def doubt(self) -> None:
        """The process slept, or the network changed: find out soon whether the other end is there."""
        if self.lost is None:
            self._do(self.dialect.doubt(now=trio.current_time()))

    async def wait_lost(self) -> Lost:
        """Until the carrier is over, whether or not `run` runs."""
        await self._over.wait()
        if self.lost is None:
            raise AssertionError("over, but not lost")
        return self.lost

    async def run(self) -> Lost:
        """Until the carrier is lost. The link is detached then, also if cancelled; its owner decides what follows."""
        try:
            while True:
                self._meet_deadlines()
                if self.lost is not None:
                    return self.lost
                self._alarm_at = self._next_alarm()
                with trio.CancelScope(deadline=self._alarm_at) as self._alarm:
                    await self._write()
        finally:
            self._let_go("stopped")

    def leave(self, reason: str) -> None:
        """The link is another pump's now, or has ended: stop without sending what still waits."""
        if self.lost is None and not self._is_leaving:
            self._is_leaving = True
            self._do(self.dialect.handle(Stop(reason), now=trio.current_time()))

    def try_write(self, line: bytes) -> bool:
        """Send one message at once, in the caller's own step, if the carrier seems to keep up."""
        link = self.link
        if link is None or not self._may_send or link.outbox.is_held:
            return False
        if self._unflushed + len(line) > MAX_UNFLUSHED_BYTES:
            return False
        self._send_line(link, line)
        return True

    # -- the writer and the clock, in one task

    async def _write(self) -> None:
        """What `run` waits for. Cancelled by the alarm; nothing is lost by that, as it only waits."""
        link = self.link
        if link is None or not self._may_send:
            self._is_parked = True
            try:
                await trio.sleep_forever()
            finally:
                self._is_parked = False
        while self._may_send:
            if self._unflushed:
                await self._carrier.flush()
                self._unflushed = 0
            await link.outbox.wait_due()
            self._send_some()

    @property
    def _may_send(self) -> bool:
        return (
            self.link is not None
            and self.lost is None
            and not self._is_leaving
            and self.dialect.state is LinkState.READY
        )

    def _send_some(self) -> int:
        """Give the carrier what is due, in one step: what is taken from the outbox is numbered and sent."""
        link = self.link
        if link is None or not self._may_send:
            return 0
        lines = link.outbox.take_some()
        for line in lines:
            self._send_line(link, line)
        if link.numbered is not None and link.numbered.owes_ack:
            self._send(link.numbered.ack())
        return len(lines)

    def _send_line(self, link: Link, line: bytes) -> None:
        frame = link.frame(line)
        if frame is not None:
            self._send(frame)

    def _send(self, frame: str) -> None:
        self._unflushed += len(frame) + FRAME_COST_BYTES
        if self.lost is None:
            self._do(self.dialect.handle(Send(frame), now=trio.current_time()))

    def _meet_deadlines(self) -> None:
        now = trio.current_time()
        deadline = self.dialect.deadline
        if deadline is not None and now >= deadline:
            self._not_before = now + MIN_TICK_S
            self.feed(Tick())
        if self._ack_at is not None and now >= self._ack_at:
            self._ack_at = None
            numbered = None if self.link is None else self.link.numbered
            if numbered is not None and numbered.unsaid_count and self._may_send:
                self._send(numbered.ack())

    def _next_alarm(self) -> float:
        deadline, ack_at = self.dialect.deadline, self._ack_at
        alarm = math.inf if deadline is None else max(deadline, self._not_before)
        return alarm if ack_at is None else min(alarm, ack_at)

    # -- commands

    def _do(self, commands: Sequence[Command]) -> None:
        if self._is_doing:
            self._later.extend(commands)
            return
        self._is_doing = True
        try:
            while commands:
                for command in commands:
                    self._command(command)
                    if self._is_leaving and isinstance(command, Registering) and self.dialect.own:
                        break  # refused: an edge of ours would take what follows for a link that is ready
                commands, self._later = self._later, []
        finally:
            self._is_doing = False
        alarm_at = self._next_alarm()
        if alarm_at < self._alarm_at:  # a later one is seen when the alarm goes off
            self._alarm_at = self._alarm.deadline = alarm_at
        if self._is_parked and self._may_send:
            self._alarm.cancel()

    def _command(self, command: Command) -> None:
        match command:
            case Push() | Respond():
                self._carrier.perform(command)
            case Deliver(text):
                self._deliver(text)
            case HttpCall(tag, method):
                if method == "POST" and self._timed is None:
                    self._timed = tag, trio.current_time()
                self._carrier.perform(command)
            case Ready():
                self._ready(command)
            case Registering():
                if self._on_registering is not None:
                    self._on_registering(command)
            case Lost(reason):
                self.lost = command
                self._let_go(reason)
                self._over.set()
                self._alarm.cancel()
            case Remark(text, level):
                self._remark(text, level)
            case Remember(session):
                if self._remember is not None:
                    self._remember(session)
            case _:
                if isinstance(command, Ping) and self._timed is None:
                    self._timed = PING, trio.current_time()
                self._carrier.perform(command)

    def _ready(self, ready: Ready) -> None:
        given = self._on_ready(ready)
        if given is None:
            return
        link, peer_received = given
        if self.dialect.own is (link.numbered is None):
            raise LocalProtocolError("a numbered link for a foreign peer, or the other way round")
        try:
            frames = link.attach(self, peer_received)
        except BadFrame as exc:
            self._disagree(link, exc)
            return
        self.link = link
        for frame in frames:
            self._send(frame)

    def _deliver(self, text: str) -> None:
        link = self.link
        if link is None:
            self._remark("a message before the link was ready", "warning")
            return
        if not link.is_carried_by(self):
            return  # it will come again over the carrier that the link has now
        try:
            link.take_in(text)
        except BadFrame as exc:
            self._disagree(link, exc)
            return
        numbered = link.numbered
        if numbered is None:
            return
        if numbered.owes_ack:
            if self._may_send and self._unflushed < MAX_UNFLUSHED_BYTES:
                self._send(numbered.ack())
            else:
                link.outbox.call()  # the writer does it once the carrier has caught up
        elif self._ack_at is None and numbered.unsaid_count:
            self._ack_at = trio.current_time() + ACK_WITHIN_S

    def _disagree(self, link: Link, exc: BadFrame) -> None:
        self.feed(Stop(str(exc), PROTOCOL_ERROR))
        link.end(str(exc))

    def _let_go(self, reason: str) -> None:
        if self.link is not None:
            self.link.detach(self, reason)

    def _time(self, event: Event, tag: str, since: float, now: float) -> None:
        """Round trips: of a ping and its pong, or of a POST, which other ends answer at once; one at a time."""
        match event:
            case Alive():
                is_end = tag == PING
            case Replied(its) | CallFailed(its):
                is_end = tag == its
            case _:
                return
        if is_end:
            self._timed = None
            if self.link is not None and not isinstance(event, CallFailed):
                self.link.counts.rtt_s = now - since

    def _remark(self, text: str, level: str) -> None:
        if self._is_leaving:
            return  # why we end it has been said
        if text not in self._remarks and len(self._remarks) < MAX_REMARKS:
            self._remarks = (*self._remarks, text)

            def tell() -> None:
                log.log(LEVELS[level], "remark on a link", extra={**self._log_extra, "remark": text})

            if level == "warning":
                self._complain(Complaint(text, tell))
            else:
                tell()
