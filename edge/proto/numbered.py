"""Numbers and acknowledgements between our own two ends: what lets a link outlive its carriers. Sans-IO.

Negotiated by one header, `OWN_HEADER`, on the exchange that opens a carrier. A connector offers `v=1`, or
`v=1; link=ID; received=N` to go on with a link; an acceptor of ours answers `v=1; link=ID; received=N`, with a new
id and 0 if it cannot go on. Without the answer the peer is foreign and nothing here is used.

Either may add `max=BYTES`: a longer message is not to be sent to it, as no carrier of it would survive that.

From then on each message travels as a frame `N A MESSAGE`: its number, counted from 1 in each direction, the last
number received from the other end, and the message. `0 A` only acknowledges. A frame starts with a digit, a JSON
message never does. What is sent is kept until it is acknowledged; on a new carrier each end says what it has and
gets the rest. So every message arrives once and in order as long as the link lives.
"""

import re
from dataclasses import dataclass, field

from edge.errors import EdgeError

VERSION = "1"
ACK_MESSAGES = 32
ACK_BYTES = 256 * 1024
MAX_HEADER_CHARS = 200
MOST_BYTES_A_CHAR = 4  # in UTF-8

MEMBER = re.compile(r" *([a-z]{1,20})=([A-Za-z0-9_-]{1,64}) *")
NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")
LINK_ID = re.compile(r"[A-Za-z0-9_-]{22,64}")  # 128 bits or more, in hex or base64url
FRAME = re.compile(r"(0|[1-9][0-9]{0,14}) (0|[1-9][0-9]{0,14})(?: (?=.)|\Z)", re.DOTALL)  # up to the message


class BadFrame(EdgeError):
    """A gap, garbage, or an acknowledgement of what was never sent: the two ends disagree, the link must end."""


@dataclass(frozen=True, slots=True)
class LinkOffer:
    """What a connector says: `link` None asks for a new link. The id is a secret, and so is not shown."""

    link: str | None = field(default=None, repr=False)
    received: int = 0
    max_bytes: int | None = None

    def encode(self) -> str:
        resumed = "" if self.link is None else f"; link={self.link}; received={self.received}"
        return f"v={VERSION}{resumed}{encoded_limit(self.max_bytes)}"


@dataclass(frozen=True, slots=True)
class LinkAnswer:
    """What an acceptor says: the link in force, and the last number that it has from the connector."""

    link: str = field(repr=False)
    received: int
    max_bytes: int | None = None

    def encode(self) -> str:
        return f"v={VERSION}; link={self.link}; received={self.received}{encoded_limit(self.max_bytes)}"


def encoded_limit(max_bytes: int | None) -> str:
    return "" if max_bytes is None else f"; max={max_bytes}"


def parse_offer(value: str | None) -> LinkOffer | None:
    """None: a foreign peer, another version, or malformed."""
    members = parse_members(value)
    if members is None:
        return None
    if "link" not in members and "received" not in members:
        return LinkOffer(max_bytes=parse_limit(members))
    link = parse_link(members)
    return None if link is None else LinkOffer(*link, parse_limit(members))


def parse_answer(value: str | None) -> LinkAnswer | None:
    """None: a foreign peer, another version, or malformed."""
    members = parse_members(value)
    link = None if members is None else parse_link(members)
    return None if members is None or link is None else LinkAnswer(*link, parse_limit(members))


def parse_members(value: str | None) -> dict[str, str] | None:
    """`a=b; c=d` of our version; members that we do not know are for a later one and do no harm."""
    if value is None or len(value) > MAX_HEADER_CHARS:
        return None
    members: dict[str, str] = {}
    for part in value.split(";"):
        match = MEMBER.fullmatch(part)
        if match is None or match[1] in members:
            return None
        members[match[1]] = match[2]
    return members if members.get("v") == VERSION else None


def parse_link(members: dict[str, str]) -> tuple[str, int] | None:
    link, received = members.get("link", ""), members.get("received", "")
    if not LINK_ID.fullmatch(link) or not NUMBER.fullmatch(received):
        return None
    return link, int(received)


def parse_limit(members: dict[str, str]) -> int | None:
    """None: not said, or not sensibly; the sender's own limit holds then."""
    text = members.get("max", "")
    return int(text) if NUMBER.fullmatch(text) and int(text) > 0 else None


def batch_limit(usual: int, answer: LinkAnswer | None) -> int:
    """How many characters of frames may share a body: it must not be longer than a message may be over there."""
    known = None if answer is None else answer.max_bytes
    return usual if known is None else min(usual, known // MOST_BYTES_A_CHAR)


def size_of(text: str) -> int:
    """Its bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


class Numbered:
    """One end of a numbered link; survives its carriers.

    Messages are single lines: some dialects join frames with line feeds.

    Limits: from `max_unacked` messages or `max_unacked_bytes` on, `is_full` asks to send no more; `send` does not
    refuse. Both should be some times ACK_MESSAGES and ACK_BYTES, or a peer that waits for us to owe more
    acknowledgements lets us wait.
    """

    __slots__ = (
        "_max_bytes",
        "_max_count",
        "_unacked",
        "acknowledged",
        "received",
        "sent",
        "unacked_bytes",
        "unsaid_bytes",
        "unsaid_count",
    )

    def __init__(self, *, max_unacked_bytes: int, max_unacked: int) -> None:
        self._max_bytes = max_unacked_bytes
        self._max_count = max_unacked
        self._unacked: dict[int, str] = {}  # messages by number, those from acknowledged + 1 to sent
        self.sent = 0  # the last number given
        self.acknowledged = 0  # the last number that the other end is known to have
        self.received = 0  # the last number taken
        self.unacked_bytes = 0
        self.unsaid_count = 0  # messages received since the other end was last told so
        self.unsaid_bytes = 0

    @property
    def unacked_count(self) -> int:
        return len(self._unacked)

    @property
    def is_full(self) -> bool:
        """Take no more to send until acknowledgements come."""
        return len(self._unacked) >= self._max_count or self.unacked_bytes >= self._max_bytes

    @property
    def owes_ack(self) -> bool:
        """So much was received that the other end should hear of it now, even if there is nothing to send."""
        return self.unsaid_count >= ACK_MESSAGES or self.unsaid_bytes >= ACK_BYTES

    def send(self, text: str) -> str:
        """The frame for the next message, which is kept until it is acknowledged."""
        self.sent += 1
        self._unacked[self.sent] = text
        self.unacked_bytes += size_of(text)
        self._said()
        return f"{self.sent} {self.received} {text}"

    def ack(self) -> str:
        """A frame that only acknowledges."""
        self._said()
        return f"0 {self.received}"

    def receive(self, frame: str) -> str | None:
        """The message in `frame`; None if it only acknowledges, or if we have the message already.

        Raises: BadFrame, and nothing has changed.
        """
        match = FRAME.match(frame)
        if match is None:
            raise BadFrame("not a numbered frame")
        number, ack, end = int(match[1]), int(match[2]), match.end()
        if (number == 0) is not (end == len(frame)):
            raise BadFrame("a number without a message, or a message without a number")
        if number > self.received + 1:
            raise BadFrame(f"message {number} came after {self.received}")
        if ack > self.sent:
            raise BadFrame(f"message {ack} was acknowledged but only {self.sent} were sent")
        self._acknowledge(ack)
        if number <= self.received:
            return None
        text = frame[end:]
        self.received = number
        self.unsaid_count += 1
        self.unsaid_bytes += len(text)
        return text

    def can_resume(self, received: int) -> bool:
        """Whether a peer that has all up to `received` can go on from there."""
        return self.acknowledged <= received <= self.sent

    def resume(self, received: int) -> list[str]:
        """On a new carrier, whose opening told each end what the other has: the frames that the peer lacks.

        Raises: BadFrame if the peer's number cannot be; nothing has changed.
        """
        if not self.can_resume(received):
            raise BadFrame(f"the other end has {received} of {self.acknowledged} to {self.sent} messages")
        self._acknowledge(received)
        self._said()
        return [f"{number} {self.received} {text}" for number, text in self._unacked.items()]

    def _acknowledge(self, number: int) -> None:
        """An older number than known says nothing: it comes in a frame that was sent again."""
        while self.acknowledged < number:
            self.acknowledged += 1
            self.unacked_bytes -= size_of(self._unacked.pop(self.acknowledged))

    def _said(self) -> None:
        self.unsaid_count = self.unsaid_bytes = 0
