"""Paths of the hub: whose they are, and what a head says beside them."""

import pytest

from edge.net.http_server import HttpRequest
from edge.parts.hub_routes import POLL, SSE, Route, named_session, route_of, token_of


def head(path: str, query: str = "", **headers: str) -> HttpRequest:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRequest("GET", path, query, fields, frozenset(), b"", "10.0.0.1:1")


@pytest.mark.parametrize(
    ("path", "what", "argument"),
    [
        ("/reverse-proxy/ws", "websocket", ""),
        ("/v1/reverse-proxy/ws", "websocket", ""),
        ("/reverse-proxy/sessions", "list", ""),
        ("/v1/reverse-proxy/sessions", "list", ""),
        ("/v1/reverse-proxy/sessions/ab%20c", "disconnect", "ab c"),
        ("/reverse-proxy/sessions/abc/request", "send", "abc"),
        ("/mcp-reverse/sse", "events", ""),
        ("/mcp/reverse/message", "post", ""),
        ("/register", "register", ""),
        ("/message", "message", ""),
    ],
)
def test_a_path_leads_to_what_it_is_for(path: str, what: str, argument: str) -> None:
    route = route_of(path)
    assert route is not None
    assert (route.what, route.argument) == (what, argument)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/register",
        "/mcp",
        "/reverse-proxy/sessions/",
        "/reverse-proxy/sessions/a/b",
        "/e/secret",
        "/e/secret/message",  # an operator can send headers
        "/e/secret/reverse-proxy/sessions",
        "/e//register",
        "/e/a/e/b/register",
    ],
)
def test_nothing_is_at_other_paths(path: str) -> None:
    assert route_of(path) is None


def test_a_path_may_hold_the_token() -> None:
    route = route_of("/e/s%2Fecret/poll")
    assert route is not None
    assert (route.what, route.secret, route.prefix) == ("poll", "s/ecret", "/e/s%2Fecret")
    assert token_of(route, head("/e/s%2Fecret/poll")) == "s/ecret"


def test_a_header_counts_before_the_path() -> None:
    route = route_of("/e/secret/poll")
    assert route is not None
    assert token_of(route, head("/e/secret/poll", authorization="Bearer other")) == "other"


def test_a_secret_in_a_path_does_not_show() -> None:
    assert "hush" not in repr(route_of("/e/hush/poll"))


@pytest.mark.parametrize(
    ("dialect", "query", "headers", "expected"),
    [
        (POLL, "session_id=abc", {}, "abc"),
        (POLL, "", {"x_session_id": "abc"}, None),
        (SSE, "sessionId=a-1%2Fb&x=1", {}, "a-1/b"),
        (SSE, "sessionId=", {"x_session_id": "abc"}, "abc"),
        (SSE, "sessionId=first", {"x_session_id": "abc"}, "first"),
        (SSE, "", {}, None),
    ],
)
def test_a_request_names_its_session(
    dialect: str, query: str, headers: dict[str, str], expected: str | None
) -> None:
    route = Route("post", dialect, "POST")
    assert named_session(route, head("/x", query, **headers)) == expected
