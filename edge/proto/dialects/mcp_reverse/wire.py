"""What both ends of mcp-reverse write the same way: paths, headers, session ids, names, tokens.

The edge's GET of `{base}/sse` is answered by an event stream, which is one session and carries messages inwards;
each message outwards is a POST to `{base}/message?sessionId=...`.
Source: mcp-reverse 1.1.0, 1.2.0 and 1.4.0 (read in code, and observed).
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

DEFAULT_PREFIX: Final = "/mcp-reverse"
NAME_HEADER: Final = "X-MCP-Server-Name"
SESSION_HEADER: Final = "X-Session-Id"
STREAM: Final = "/sse"
MESSAGE: Final = "/message"
BYE: Final = '{"type":"bye"}'
"""Between our own two ends, the last line of the last POST: the edge leaves for good. Frames begin with a digit."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SESSION = re.compile(r"[\x21-\x7e]{1,256}")
_BEARER = re.compile(r"\s*bearer\s+", re.IGNORECASE)


def is_legal_name(name: str) -> bool:
    """Whether `name` fits everywhere it has to go: two headers, a query, a session id."""
    return _NAME.fullmatch(name) is not None


def is_legal_session(session: str) -> bool:
    """Whether a peer's session id can be sent back in a header and a query."""
    return _SESSION.fullmatch(session) is not None


def session_id(name: str, unix_ms: int, random: str) -> str:
    """A session's id as an acceptor mints it. `random` holds 128 bits: whoever knows the id may need no more."""
    return f"{name}-{unix_ms}-{random}"


def token_of(authorization: str) -> str:
    """The token in an Authorization header; the word `Bearer` before it may be missing."""
    return _BEARER.sub("", authorization, count=1).strip()


def stream_target(url_path: str, name: str, query: Mapping[str, str]) -> str:
    """Where the stream is opened. One slash at the end of the base counts for nothing."""
    asked = urlencode({"server_name": name, **query}, quote_via=quote)
    return f"{url_path.removesuffix('/')}{STREAM}?{asked}"


def message_target(url_path: str, session: str) -> str:
    """Where messages of a session are posted to."""
    return f"{url_path.removesuffix('/')}{MESSAGE}?sessionId={quote(session, safe='')}"


def merged(ours: Mapping[str, str], users: Mapping[str, str]) -> dict[str, str]:
    """`ours` with the user's headers, which win whatever their case."""
    named = {key.lower() for key in users}
    return {**{key: value for key, value in ours.items() if key.lower() not in named}, **users}


def stream_headers(session: str) -> dict[str, str]:
    """The head of an acceptor's answer to the GET. Real edges learn the session from it and from nowhere else."""
    return {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
        SESSION_HEADER: session,
    }
