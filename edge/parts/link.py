"""One end of a logical link: its outbox, its numbers where both ends are ours, and whichever carrier there is.

A link between our own two ends outlives its carriers: when one is lost the link is suspended, what is put into the
outbox waits, and a new carrier goes on where the old one ended. With a foreign peer it ends with its carrier.
Nothing here starts a task: producers put into `outbox`, the `Pump` (parts/pump.py) that carries the link takes.
Whether a message may have left is `outbox.taken_count`'s to say: what is taken is given to a carrier in that step.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import trio

from edge.errors import BadMessage, LocalProtocolError
from edge.metrics import LinkCounts
from edge.parts.flag import Flag
from edge.parts.peer_channel import Outbox
from edge.proto.jsonrpc import INTERNAL_ERROR, Request, Response, decode, encode_error
from edge.proto.numbered import BadFrame, Numbered, size_of

TAKE_BYTES = 256 * 1024  # then the carrier has to have written some
MAX_FRUITLESS = 8

log = logging.getLogger("edge.link")


class Carrying(Protocol):
    """What a link knows of the pump that carries it."""

    def leave(self, reason: str) -> None:
        """The link is no longer its to carry: end the carrier. Synchronous."""

    def try_write(self, line: bytes) -> bool:
        """As `Outbox.try_write`."""
        raise NotImplementedError


class LinkOutbox(Outbox):
    """An `Outbox` of which little is taken at a time, and nothing while too much is unacknowledged.

    Its one writer waits in `wait_due`, then takes with `take_some`; `call` wakes it though there may be nothing.
    """

    def __init__(self, limit_bytes: int, numbered: Numbered | None) -> None:
        super().__init__(limit_bytes)
        self._numbered = numbered
        self._is_called = False

    @property
    def is_held(self) -> bool:
        """Nothing is taken until acknowledgements have come."""
        return self._numbered is not None and self._numbered.is_full

    @property
    def waiting_bytes(self) -> int:
        return self._bytes

    async def wait_due(self) -> None:
        """Until something can be taken, or `call`. No checkpoint if there is no need to wait."""
        while (not self._lines or self.is_held) and not self._is_called:
            due = self._due = trio.Event()
            self._writer_sleeps = not self._lines
            try:
                await due.wait()
            finally:
                if due is self._due:  # else a newer carrier's writer waits already
                    self._writer_sleeps = False
        self._is_called = False

    def call(self) -> None:
        self._is_called = True
        self._due.set()

    def take_some(self) -> list[bytes]:
        """The oldest messages, up to TAKE_BYTES or one; none if there are none or they are held."""
        if self.is_held or not self._lines:
            return []
        was_full = self.is_full
        n_bytes = n_lines = 0
        for line in self._lines:
            if n_lines and n_bytes + len(line) > TAKE_BYTES:
                break
            n_lines += 1
            n_bytes += len(line)
        lines = self._lines[:n_lines]
        del self._lines[:n_lines]
        self._bytes -= n_bytes
        self.taken_count += n_lines
        if was_full and not self.is_full:
            self._room.pulse()
        return lines

    async def take(self) -> list[bytes]:
        await self.wait_due()
        return self.take_some()


class Link:
    """One end of a logical link. `receive` takes each message from the other end; synchronous, and must not raise.

    `numbered` None: the peer is foreign, and the link ends with its first carrier. Else it is suspended in between,
    and its owner calls `end` when it has waited long enough.

    Limits: `limit_bytes` for what waits in the outbox; `numbered` has its own for what is unacknowledged, which
    one `take_some` may overshoot. A message over `max_message_bytes` is not sent: a carrier would break of it, and
    the next one again. Should the other end take less than that, MAX_FRUITLESS carriers in a row are the end.
    """

    def __init__(
        self,
        name: str,
        receive: Callable[[str], None],
        *,
        numbered: Numbered | None,
        limit_bytes: int,
        counts: LinkCounts,
        max_message_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self.name = name
        self.receive = receive
        self.numbered = numbered
        self.counts = counts
        self.outbox = LinkOutbox(limit_bytes, numbered)
        self.suspended_since: float | None = None  # monotonic; None also before the first carrier
        self.ended: str | None = None  # why
        self._carrier: Carrying | None = None
        self._max_message_bytes = max_message_bytes
        self._had_carrier = False
        self._peer_had = 0  # messages, when the last carrier came
        self._n_fruitless = 0  # carriers in a row that brought nothing of what waited to the other end
        self._carried = Flag()
        self._over = Flag()

    @property
    def is_carried(self) -> bool:
        return self._carrier is not None

    @property
    def pending_bytes(self) -> int:
        """Waiting to be sent, or for the other end's acknowledgement."""
        unacked = 0 if self.numbered is None else self.numbered.unacked_bytes
        return self.outbox.waiting_bytes + unacked

    def is_carried_by(self, carrier: Carrying) -> bool:
        return self._carrier is carrier

    async def wait_carried(self) -> None:
        """Until there is a carrier, or the link has ended. No checkpoint if there is no need to wait."""
        while self._carrier is None and self.ended is None:
            await self._carried.wait()

    async def wait_ended(self) -> str:
        """The reason."""
        await self._over.wait()
        if self.ended is None:
            raise AssertionError("over without a reason")
        return self.ended

    def attach(self, carrier: Carrying, peer_received: int) -> list[str]:
        """`carrier` carries the link from now on; an older one is told to leave. The frames to send first.

        `peer_received`: the last number that the other end said it has; 0 on a new link.
        Raises: BadFrame if that cannot be, or will not help.
        """
        if self.ended is not None:
            raise LocalProtocolError(f"a carrier for link {self.name}, which has ended")
        frames: list[str] = []
        if self.numbered is not None:
            frames = self.numbered.resume(peer_received)
            is_fruitless = self._had_carrier and frames and peer_received == self._peer_had
            self._n_fruitless = self._n_fruitless + 1 if is_fruitless else 0
            self._peer_had = peer_received
            if self._n_fruitless == MAX_FRUITLESS:
                raise BadFrame(f"{MAX_FRUITLESS} connections in a row broke before a message came across")
        older, self._carrier = self._carrier, carrier
        self.suspended_since = None
        self.outbox.try_write = carrier.try_write
        self.counts.carriers += 1
        if self._had_carrier:
            self.counts.resumed += 1
        self._had_carrier = True
        self._carried.set()
        if older is not None:
            older.leave("replaced by a newer connection")
        return frames

    def detach(self, carrier: Carrying, reason: str) -> None:
        """`carrier` is lost: the link is suspended or, with a foreign peer, ends. Nothing if a newer one carries it."""
        if self._carrier is not carrier:
            return
        self._carrier = None
        self._carried.clear()
        self.outbox.try_write = None
        if self.numbered is None:
            self.end(reason)
        elif self.ended is None:
            self.suspended_since = trio.current_time()

    def take_in(self, frame: str) -> None:
        """From the other end: a frame, or with a foreign peer a message.

        Raises: BadFrame; the link cannot go on.
        """
        if self.ended is not None:
            return
        numbered = self.numbered
        if numbered is None:
            self._received(frame)
            return
        was_held = numbered.is_full
        text = numbered.receive(frame)
        if was_held and not numbered.is_full:
            self.outbox.call()
        if text is not None:
            self._received(text)

    def frame(self, line: bytes) -> str | None:
        """What to send for a message taken from the outbox. It must be sent: a number is given to it.

        None: nothing, as it is too large; whoever asked has been answered.
        """
        text = line.decode()
        if len(line) > self._max_message_bytes:
            instead = self._oversized(text, len(line))
            if instead is None:
                return None
            text, line = instead, instead.encode()
        self.counts.messages_out += 1
        self.counts.bytes_out += len(line)
        return text if self.numbered is None else self.numbered.send(text)

    def _oversized(self, text: str, n_bytes: int) -> str | None:
        """An answer is replaced by an error; a request is answered with one here and now; the rest is dropped."""
        limit = self._max_message_bytes
        log.warning("message over the limit, not sent", extra={"link": self.name, "bytes": n_bytes})
        try:
            message = decode(text)
        except BadMessage:
            return None
        if isinstance(message, Response):
            why = f"the answer has {n_bytes} bytes, which is over the limit of {limit}"
            return encode_error(message.id, INTERNAL_ERROR, why)
        if isinstance(message, Request):
            why = f"the request has {n_bytes} bytes, which is over the limit of {limit}"
            self.receive(encode_error(message.id, INTERNAL_ERROR, why))
        return None

    def end(self, reason: str) -> None:
        """For good: nobody takes from the outbox any more, all who wait are woken, a carrier is told to leave."""
        if self.ended is not None:
            return
        self.ended = reason
        self.suspended_since = None
        self.outbox.close()
        self._carried.set()
        self._over.set()
        if self._carrier is not None:
            self._carrier.leave(reason)

    def _received(self, text: str) -> None:
        self.counts.messages_in += 1
        self.counts.bytes_in += size_of(text)
        self.receive(text)
