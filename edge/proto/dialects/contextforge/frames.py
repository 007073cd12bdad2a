"""The frames of the reverse proxy of ContextForge: a text to a named step, and what we send to text.

Every frame is one JSON object `{"type": ..., "sessionId": ..., ...}` in a WebSocket text. Members that we do not know
are passed over, and `sessionId` is never compared: each end uses its own. Payloads stay letter for letter.
Between our own two ends the same WebSocket carries frames of `proto/numbered.py`, which begin with a digit.
Source: ContextForge 1.0.7, reverse proxy (observed); its typed successor, whose frames are the same (read in code).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge.errors import BadMessage
from edge.printable import CUT, cut
from edge.proto.jsontext import Span, quote, spans

MAX_NAME: Final = 128
CLOSE_BYTES: Final = 120  # and three for the sign that there was more
MAX_DESCRIPTION: Final = 1024
"""Both in characters, as the typed gateway has them."""


@dataclass(frozen=True, slots=True)
class Register:
    """Edge: serves one MCP server, called `name`."""

    name: str
    description: str | None
    protocol: str


@dataclass(frozen=True, slots=True)
class Ack:
    """Gateway: `register` was seen. `success` is all there is to come, `processing` leads to `Complete`."""

    status: str
    session: str | None


@dataclass(frozen=True, slots=True)
class Complete:
    """Gateway: the server behind `register` was looked at."""

    status: str
    message: str


@dataclass(frozen=True, slots=True)
class Unregister:
    """Edge: leaves."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """From the edge a sign of life that is answered; from the gateway that answer, which never is."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Gateway: a JSON-RPC request or notification for the server."""

    payload: str
    has_credentials: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Edge: a JSON-RPC response; some clients also send a server's requests this way."""

    payload: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Edge: a JSON-RPC notification."""

    payload: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """Gateway: could not read something; it concerns no particular call."""

    message: str


@dataclass(frozen=True, slots=True)
class Carried:
    """Not of this protocol: a frame of our own two ends."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An object of a type that nobody told us about."""


@dataclass(frozen=True, slots=True)
class Bad:
    """Cannot be a frame. `reason` is one of few constant texts."""

    reason: str


Step = (
    Register | Ack | Complete | Unregister | Heartbeat | Ask | Answer | Tell | Complaint | Carried | Unknown | Bad
)  # fmt: skip


def is_carried(text: str) -> bool:
    """Whether it is a frame of our own two ends: those begin with a digit."""
    return "0" <= text[:1] <= "9"


def parse(text: str, *, own: bool) -> Step:
    """What a WebSocket text says; `own`: it may be a frame of our own two ends."""
    if own and is_carried(text):
        return Carried()
    try:
        found = spans(text)
    except BadMessage:
        return Bad("a frame that is no JSON object")
    kind = _text(found, "type")
    if kind is None:
        return Bad("a frame without a type")
    reader = _READERS.get(kind)
    return Unknown() if reader is None else reader(text, found)


def _text(found: dict[str, Span], key: str) -> str | None:
    member = found.get(key)
    return member[0] if member is not None and isinstance(member[0], str) else None


def _payload(text: str, found: dict[str, Span]) -> str | None:
    member = found.get("payload")
    return text[member[1] : member[2]] if member is not None and isinstance(member[0], dict) else None


def _register(_: str, found: dict[str, Span]) -> Step:
    member = found.get("server")
    server = member[0] if member is not None else None
    if not isinstance(server, dict) or not isinstance(server.get("name"), str):
        return Bad("a register frame without a name")
    name, description = server["name"].strip(), server.get("description")
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        return Bad("a register frame with an empty, too long or unprintable name")
    if description is not None and not isinstance(description, str):
        return Bad("a register frame with a description that is no text")
    protocol = server.get("protocol")
    about = None if description is None else shown(description, MAX_DESCRIPTION)
    return Register(name, about, protocol if isinstance(protocol, str) else "")


def _ack(_: str, found: dict[str, Span]) -> Step:
    session = _text(found, "sessionId")
    return Ack(_text(found, "status") or "", None if session is None else shown(session, MAX_NAME))


def _complete(_: str, found: dict[str, Span]) -> Step:
    return Complete(_text(found, "status") or "", _text(found, "message") or "")


def _ask(text: str, found: dict[str, Span]) -> Step:
    payload = _payload(text, found)
    if payload is None:
        return Bad("a request frame without a payload object")
    return Ask(payload, "authentication" in found)


def _answer(text: str, found: dict[str, Span]) -> Step:
    payload = _payload(text, found)
    return Bad("a response frame without a payload object") if payload is None else Answer(payload)


def _tell(text: str, found: dict[str, Span]) -> Step:
    payload = _payload(text, found)
    return Bad("a notification frame without a payload object") if payload is None else Tell(payload)


_READERS: Final[dict[str, Callable[[str, dict[str, Span]], Step]]] = {
    "register": _register,
    "register_ack": _ack,
    "register_complete": _complete,
    "unregister": lambda _, __: Unregister(),
    "heartbeat": lambda _, __: Heartbeat(),
    "request": _ask,
    "response": _answer,
    "notification": _tell,
    "error": lambda _, found: Complaint(_text(found, "message") or ""),
}


# -- to text; `session` is the id that the sender knows the connection by


def register(session: str, name: str, description: str) -> str:
    """An edge's first frame. `protocol` is what the stand-alone client says, whichever way the server is reached."""
    about = f'"description":{quote(description[:MAX_DESCRIPTION])},' if description else ""
    server = f'{{"name":{quote(name[:MAX_NAME])},{about}"protocol":"mcp"}}'
    return f'{{"type":"register","sessionId":{quote(session)},"server":{server}}}'


def register_ack(session: str, status: str) -> str:
    """`success`, or `processing` if `register_complete` is to follow."""
    return f'{{"type":"register_ack","sessionId":{quote(session)},"status":{quote(status)}}}'


def register_complete(session: str, *, failed: bool) -> str:
    """The end of a registration. Why it failed is for the hub's log."""
    outcome = '"error","message":"registration failed"' if failed else '"success"'
    return f'{{"type":"register_complete","sessionId":{quote(session)},"status":{outcome}}}'


def unregister(session: str) -> str:
    """An edge's last frame."""
    return f'{{"type":"unregister","sessionId":{quote(session)}}}'


def heartbeat(session: str, timestamp: str | None = None) -> str:
    """An edge's, or with a time a gateway's answer."""
    tail = "" if timestamp is None else f',"timestamp":{quote(timestamp)}'
    return f'{{"type":"heartbeat","sessionId":{quote(session)}{tail}}}'


def carrying(kind: str, session: str, payload: str) -> str:
    """A `request`, `response` or `notification` frame."""
    return f'{{"type":{quote(kind)},"sessionId":{quote(session)},"payload":{payload}}}'


def error(session: str, message: str) -> str:
    """A gateway's complaint."""
    return f'{{"type":"error","sessionId":{quote(session)},"message":{quote(message)}}}'


def size_of(text: str) -> int:
    """Its bytes on the wire."""
    return len(text) if text.isascii() else len(text.encode())


def shown(text: str, at_most: int = 200) -> str:
    """A peer's words for a log line."""
    return "".join(char if char.isprintable() else "?" for char in cut(text, at_most))


def close_reason(text: str) -> str:
    """As much of `text` as a WebSocket close frame has room for (123 bytes)."""
    data = text.encode()
    return text if len(data) <= CLOSE_BYTES else data[:CLOSE_BYTES].decode(errors="ignore") + CUT
