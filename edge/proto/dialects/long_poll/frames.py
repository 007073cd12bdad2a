"""Bodies and fixed answers of the long-poll dialect, read and written for both of its ends; pure.

Source: cpp-mcp with "Reverse proxy functionality" of 2025-11-11, `proxy_server` and `reverse_client`, observed.
What it checks is checked here in its order: the query, then the session (the hub's table), then the body.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from edge.errors import BadMessage
from edge.proto.jsontext import PARSE_ERROR, Span, dumps, parse, spans
from edge.proto.jsontext import quote as json_quote

MCP_VERSION: Final = "2024-11-05"
"""The only revision that the real edge takes; it answers -32602 to any other."""


class Answer(NamedTuple):
    """An HTTP answer of the hub; JSON if it has a body."""

    status: int
    body: str


TAKEN: Final = Answer(200, '{"status":"ok"}')
NOTHING: Final = Answer(204, "")
INVALID_REQUEST: Final = Answer(400, '{"error":"Invalid request"}')
MISSING_SESSION: Final = Answer(400, '{"error":"Missing session_id"}')
INVALID_FORMAT: Final = Answer(400, '{"error":"Invalid response format"}')
INVALID_RESPONSE: Final = Answer(400, '{"error":"Invalid response"}')
UNKNOWN_SESSION: Final = Answer(404, '{"error":"Session not found"}')
NO_SUCH_PATH: Final = Answer(404, "")
NO_SERVERS: Final = Answer(503, '{"error":"No MCP servers available"}')
RESTARTING: Final = Answer(503, '{"error":"Restarting"}')  # ours: the session is still good, come again
TIMED_OUT: Final = Answer(504, '{"error":"Request timeout"}')

CORS: Final[Mapping[str, str]] = {"Access-Control-Allow-Origin": "*"}
PREFLIGHT: Final[Mapping[str, str]] = {
    **CORS,
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type",
}

BYE: Final = '{"type":"bye"}'
"""Between our own ends, POST /response: the edge leaves for good. Frames begin with a digit."""

MAX_FRAMES_CHARS: Final = 256 * 1024
"""Own frames are batched up to this; a longer one goes alone."""

_is_session = re.compile(r"[A-Za-z0-9-]{16,128}").fullmatch
_is_foreign_session = re.compile(r"[\x21-\x7e]{1,256}").fullmatch
_is_path = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,1000}").fullmatch


def is_session_id(text: str) -> bool:
    """Whether a hub may adopt `text`, which it does not know, as a session: long enough to be somebody's secret,
    and of letters that need no escape (edges paste it into the query as it is)."""
    return _is_session(text) is not None


def session_of(query: str) -> str | Answer:
    """The session of a poll or a response, or the answer that says it has none. Given twice, the first counts."""
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "session_id":
            return value
    return MISSING_SESSION


class Registration(NamedTuple):
    """What an edge says about itself when it registers. Only ours have a name."""

    name: str | None
    description: str | None


def registration_body(name: str, description: str, timestamp_ns: int) -> str:
    """What the real edge sends, and after it what ours adds; hubs take any JSON value."""
    fields = {"type": "mcp_server", "timestamp": timestamp_ns, "name": name, "description": description}
    return dumps(fields)


def read_registration(body: str) -> Registration | Answer:
    """Any JSON value registers an edge; of an object the name and description are taken, if they are texts."""
    try:
        value = parse(body).value
    except BadMessage:
        return INVALID_REQUEST
    fields = value if isinstance(value, dict) else {}
    name, description = fields.get("name"), fields.get("description")
    return Registration(
        name if isinstance(name, str) else None, description if isinstance(description, str) else None
    )


def register_answer(session: str, prefix: str = "") -> Answer:
    """`prefix`: the path before `/register` that the edge used, such as `/e/SECRET`."""
    return Answer(
        200,
        f'{{"session_id":{json_quote(session)},"poll_endpoint":{json_quote(prefix + "/poll")},'
        f'"response_endpoint":{json_quote(prefix + "/response")}}}',
    )


class Registered(NamedTuple):
    """A hub's answer to a registration. The endpoints are paths; None: not given, or not to be followed."""

    session: str
    poll: str | None
    response: str | None


def read_register_answer(body: str) -> Registered | None:
    """None if it is no such answer."""
    try:
        found = spans(body)
    except BadMessage:
        return None
    session = _text(found, "session_id")
    if session is None or not _is_foreign_session(session):
        return None
    return Registered(session, _path(found, "poll_endpoint"), _path(found, "response_endpoint"))


def target_of(base: str, endpoint: str, query: Mapping[str, str], session: str | None = None) -> str:
    """Path and query of a call. An endpoint that a hub named lies below the uplink's own path in any case:
    a reverse proxy may take that path away before the hub sees it."""
    path = endpoint if endpoint.startswith(base + "/") else base + endpoint
    pairs = urlencode(query)
    if session is not None:
        pairs += f"{'&' if pairs else ''}session_id={quote(session, safe='')}"
    return f"{path}?{pairs}" if pairs else path


class Envelope(NamedTuple):
    """A request on its way to the edge; both texts are JSON as received. `request` None: there was none."""

    request_id: str
    request: str | None


def envelope(request_id: str, request: str) -> str:
    return f'{{"request_id":{json_quote(request_id)},"request":{request}}}'


def read_envelope(body: str) -> Envelope | None:
    """None if there is not even a request id to answer under."""
    try:
        found = spans(body)
    except BadMessage:
        return None
    request_id, request = _text(found, "request_id"), found.get("request")
    if request_id is None:
        return None
    return Envelope(request_id, None if request is None else body[request[1] : request[2]])


class Reply(NamedTuple):
    """An edge's answer; `response` is JSON text of any kind."""

    request_id: str
    response: str


def reply_body(request_id: str, response: str) -> str:
    return f'{{"request_id":{json_quote(request_id)},"response":{response}}}'


def read_response(body: str) -> Reply | Answer:
    """The body of POST /response, or what the hub answers to one that is none."""
    try:
        found = spans(body)
    except BadMessage as exc:
        return INVALID_RESPONSE if exc.code == PARSE_ERROR else INVALID_FORMAT
    if "request_id" not in found or "response" not in found:
        return INVALID_FORMAT
    request_id = _text(found, "request_id")
    if request_id is None:
        return INVALID_RESPONSE
    _, start, end = found["response"]
    return Reply(request_id, body[start:end])


def batch(frames: Sequence[str], most: int = MAX_FRAMES_CHARS) -> int:
    """How many of these frames go together: `most` characters, or one frame."""
    chars = 0
    for count, frame in enumerate(frames):
        chars += len(frame) + 1
        if count and chars > most:
            return count
    return len(frames)


def _text(found: Mapping[str, Span], key: str) -> str | None:
    value = found[key][0] if key in found else None
    return value if isinstance(value, str) else None


def _path(found: Mapping[str, Span], key: str) -> str | None:
    text = _text(found, key)
    return text if text is not None and _is_path(text) and not text.startswith("//") else None
