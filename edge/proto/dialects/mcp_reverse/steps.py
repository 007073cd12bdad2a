"""What an event's data means to the edge's end, and what is read of a message: as little as will do."""

from dataclasses import dataclass
from typing import Final

from edge.errors import BadMessage
from edge.proto.jsonrpc import Message, Response, decode

KEEPALIVE_ID: Final = '"mcp-edge-ka-'
"""How the ids of our own pings begin, as JSON text."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Step: a message, or a frame of our own two ends."""

    text: str


@dataclass(frozen=True, slots=True)
class Pong:
    """Step: the answer to a ping of this file."""


@dataclass(frozen=True, slots=True)
class Nudge:
    """Step: a hub of ours asks for a POST."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Step: an event that cannot be a message. Real edges pass it over."""


Step = Payload | Pong | Nudge | Garbage


def parse(text: str, *, own: bool) -> Step:
    """The data of one event to a step; `own`: it is a frame of our own two ends."""
    if own:
        return Payload(text) if text else Nudge()
    if not text[:64].lstrip().startswith("{"):
        return Garbage()
    if KEEPALIVE_ID in text:
        message = decoded(text)
        if isinstance(message, Response) and (message.id or "").startswith(KEEPALIVE_ID):
            return Pong()
    return Payload(text)


def keepalive_id(number: int) -> str:
    return f'{KEEPALIVE_ID}{number}"'


def decoded(text: str) -> Message | None:
    """None: it is no message, and whoever serves it will say what is wrong."""
    try:
        return decode(text)
    except BadMessage:
        return None


def too_large(n_bytes: int, limit: int) -> str:
    return f"too large for the other end of the link: {n_bytes} bytes of at most {limit}"
