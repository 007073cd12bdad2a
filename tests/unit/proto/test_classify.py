"""What a POST is, row by row."""

import json
from typing import Any

import pytest

from edge.errors import BadMessage
from edge.proto.classify import (
    SESSIONLESS_METHODS,
    Ignored,
    Initialize,
    InSession,
    Refused,
    Sessionless,
    Verdict,
    classify,
)
from edge.proto.jsonrpc import Message, Notification, Request, Response
from edge.proto.jsontext import Raw, parse
from edge.proto.mcp import LEGACY_VERSIONS

CLAIM = '{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}'
KNOWN: dict[str, Any] = {"session_named": True, "session_version": "2025-11-25"}
OLD: dict[str, Any] = {"session_named": True, "session_version": "2025-03-26"}
UNKNOWN: dict[str, Any] = {"session_named": True, "session_version": None}
NONE: dict[str, Any] = {"session_named": False, "session_version": None}
SESSIONS = [KNOWN, OLD, UNKNOWN, NONE]


def request(method: str, params: str | None = None) -> Request:
    return Request("7", method, None if params is None else parse(params))


def notification(method: str, params: str | None = None) -> Notification:
    return Notification(method, None if params is None else parse(params))


ANSWER = Response('"s1"', Raw("{}", {}), None)


def verdict(
    message: Message | list[Message | BadMessage], session: dict[str, Any], header: str | None = None
) -> Verdict:
    return classify(message, version_header=header, **session)


def refusal(found: Verdict) -> tuple[int, int, str | None]:
    assert isinstance(found, Refused)
    return found.http_status, found.code, found.id


# -- modern requests, which are not served yet


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("header", [None, "2026-07-28", "2025-11-25", "nonsense"])
@pytest.mark.parametrize("method", ["server/discover", "tools/call", "initialize"])
async def test_a_request_that_claims_to_be_modern_is_refused_as_by_a_server_that_never_heard_of_it(
    method: str, header: str | None, session: dict[str, Any]
) -> None:
    found = verdict(request(method, CLAIM), session, header)
    assert refusal(found) == (400, -32600, "7")
    assert isinstance(found, Refused)
    assert found.data is not None
    assert json.loads(found.data) == {"supported": list(LEGACY_VERSIONS), "requested": "2026-07-28"}


@pytest.mark.parametrize("session", SESSIONS)
async def test_a_modern_header_alone_is_refused_the_same_way(session: dict[str, Any]) -> None:
    assert refusal(verdict(request("tools/list"), session, "2026-07-28")) == (400, -32600, "7")


@pytest.mark.parametrize("claim", ["5", "null", f'"{"x" * 65}"'])
async def test_a_claim_that_is_odd_or_long_is_not_echoed(claim: str) -> None:
    params = f'{{"_meta":{{"io.modelcontextprotocol/protocolVersion":{claim}}}}}'
    found = verdict(request("tools/list", params), NONE)
    assert isinstance(found, Refused)
    assert found.data is not None
    assert "requested" not in json.loads(found.data)


@pytest.mark.parametrize("params", [None, "{}", '{"_meta":5}', '{"_meta":{"progressToken":1}}'])
async def test_params_without_the_claim_are_legacy(params: str | None) -> None:
    message = request("tools/list", params)
    assert verdict(message, KNOWN) == InSession(message)


# -- initialize


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("header", [None, "2026-07-28", "2025-11-25", "nonsense"])
async def test_initialize_is_a_handshake_whatever_its_headers_say(
    header: str | None, session: dict[str, Any]
) -> None:
    message = request("initialize", '{"protocolVersion":"2026-07-28"}')
    assert verdict(message, session, header) == Initialize(message)


# -- requests in and without sessions


@pytest.mark.parametrize("header", [None, *LEGACY_VERSIONS])
async def test_a_request_of_a_session_may_name_any_version_we_speak(header: str | None) -> None:
    message = request("no/such/method")
    assert verdict(message, KNOWN, header) == InSession(message)


@pytest.mark.parametrize("message", [request("ping"), ANSWER, notification("notifications/initialized")])
async def test_a_session_does_not_excuse_a_version_that_nobody_knows(message: Message) -> None:
    found = verdict(message, KNOWN, "2099-01-01")
    assert refusal(found)[:2] == (400, -32600)
    assert isinstance(found, Refused)
    assert found.text == (
        "unsupported MCP-Protocol-Version; supported: 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05"
    )


@pytest.mark.parametrize("message", [request("ping"), ANSWER, notification("notifications/initialized")])
async def test_an_unknown_session_is_404_so_that_the_client_initializes_again(message: Message) -> None:
    assert refusal(verdict(message, UNKNOWN))[:2] == (404, -32600)


@pytest.mark.parametrize("method", sorted(SESSIONLESS_METHODS))
async def test_lists_reads_and_calls_are_served_without_a_session(method: str) -> None:
    message = request(method)
    assert verdict(message, NONE) == Sessionless(message, "2025-03-26")
    assert verdict(message, NONE, "2025-06-18") == Sessionless(message, "2025-06-18")


@pytest.mark.parametrize("method", ["resources/subscribe", "logging/setLevel"])
async def test_what_needs_a_session_is_400_without_one(method: str) -> None:
    assert refusal(verdict(request(method), NONE)) == (400, -32600, "7")


async def test_what_nobody_knows_is_not_told_to_get_a_session() -> None:
    message = request("tools/cal")
    assert verdict(message, NONE) == Sessionless(message, "2025-03-26")


async def test_a_sessionless_request_of_an_unknown_version_is_400() -> None:
    assert refusal(verdict(request("tools/list"), NONE, "2099-01-01")) == (400, -32600, "7")


# -- notifications and responses


async def test_a_notification_of_a_session_is_handled() -> None:
    message = notification("notifications/cancelled", '{"requestId":1}')
    assert verdict(message, KNOWN) == InSession(message)


@pytest.mark.parametrize("session", SESSIONS)
async def test_a_modern_notification_is_ignored(session: dict[str, Any]) -> None:
    assert verdict(notification("notifications/cancelled", CLAIM), session) == Ignored()
    assert verdict(notification("notifications/cancelled"), session, "2026-07-28") == Ignored()


async def test_a_notification_without_a_session_is_ignored() -> None:
    assert verdict(notification("notifications/initialized"), NONE) == Ignored()


async def test_a_response_belongs_to_a_session() -> None:
    assert verdict(ANSWER, KNOWN) == InSession(ANSWER)
    assert refusal(verdict(ANSWER, NONE)) == (400, -32600, None)


# -- batches


async def test_a_batch_is_taken_in_a_session_of_the_one_revision_that_has_them() -> None:
    batch: list[Message | BadMessage] = [
        request("ping"),
        ANSWER,
        notification("x"),
        BadMessage(-32600, "bad"),
    ]
    assert verdict(batch, OLD) == InSession(batch)
    assert refusal(verdict(batch, KNOWN)) == (400, -32600, None)


async def test_a_batch_needs_a_session_that_is_alive_and_a_version_we_know() -> None:
    assert refusal(verdict([request("ping")], NONE)) == (400, -32600, None)
    assert refusal(verdict([request("ping")], UNKNOWN)) == (404, -32600, None)
    assert refusal(verdict([request("ping")], OLD, "2099-01-01")) == (400, -32600, None)


async def test_a_batch_never_contains_initialize_or_a_modern_message() -> None:
    assert refusal(verdict([request("ping"), request("initialize")], OLD)) == (400, -32600, None)
    assert refusal(verdict([request("ping"), request("tools/list", CLAIM)], OLD)) == (400, -32600, None)
    assert refusal(verdict([notification("x", CLAIM)], OLD)) == (400, -32600, None)
