"""The paths of a hub's listener, and what a request's head says beside them: its token, and the session it is for.

Source for paths: ContextForge 1.0.7, reverse proxy; mcp-reverse 1.4.0; cpp-mcp of 2025-11-11; observed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote

from edge.gate.edge_auth import bearer_of
from edge.net.http_server import HttpRequest
from edge.proto.dialects.long_poll import frames
from edge.proto.dialects.mcp_reverse.wire import SESSION_HEADER

WS: Final = "contextforge"
SSE: Final = "mcp-reverse"
POLL: Final = "long-poll"
DESK: Final = "operators"

SECRET_PATH = re.compile(r"(/e/([^/]{1,1024}))(/.*)")
SESSION_PATH = re.compile(r"(?:/v1)?/reverse-proxy/sessions/([^/]{1,256})(/request)?")


@dataclass(frozen=True, slots=True)
class Route:
    """What a path is for. `argument` is the session in it; `prefix` and `secret` are of paths that hold a token."""

    what: str
    dialect: str
    method: str
    argument: str = ""
    prefix: str = field(default="", repr=False)
    secret: str | None = field(default=None, repr=False)


PATHS: Final[Mapping[str, Route]] = {
    "/reverse-proxy/ws": Route("websocket", WS, "GET"),
    "/reverse-proxy/sessions": Route("list", DESK, "GET"),
    "/mcp-reverse/sse": Route("events", SSE, "GET"),
    "/mcp-reverse/message": Route("post", SSE, "POST"),
    "/mcp/reverse/sse": Route("events", SSE, "GET"),
    "/mcp/reverse/message": Route("post", SSE, "POST"),
    "/register": Route("register", POLL, "POST"),
    "/poll": Route("poll", POLL, "GET"),
    "/response": Route("response", POLL, "POST"),
    "/message": Route("message", DESK, "POST"),
}
OPENINGS: Final = frozenset({"websocket", "events", "register"})


def route_of(path: str) -> Route | None:
    if (with_secret := SECRET_PATH.fullmatch(path)) is not None:
        prefix, secret, rest = with_secret.groups()
        found = PATHS.get(rest.removeprefix("/v1"))
        if found is None or found.dialect == DESK:
            return None
        return Route(found.what, found.dialect, found.method, prefix=prefix, secret=unquote(secret))
    if (found := PATHS.get(path)) is not None:
        return found
    if path.startswith("/v1/reverse-proxy/") and (found := PATHS.get(path.removeprefix("/v1"))) is not None:
        return found
    one = SESSION_PATH.fullmatch(path)
    if one is None:
        return None
    session = unquote(one[1])
    return Route("send", DESK, "POST", session) if one[2] else Route("disconnect", DESK, "DELETE", session)


def token_of(route: Route, head: HttpRequest) -> str | None:
    return bearer_of(head.headers.get("authorization")) or route.secret


def named_session(route: Route, head: HttpRequest) -> str | None:
    """The session that a request is for."""
    if route.dialect == POLL:
        named = frames.session_of(head.query)
        return named if isinstance(named, str) else None
    for key, value in parse_qsl(head.query):
        if key == "sessionId":
            return value
    return head.headers.get(SESSION_HEADER.lower()) or None
