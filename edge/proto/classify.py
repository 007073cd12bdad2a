"""What a POST to the MCP endpoint is: one pure decision from its message, its session and its version header.

Source: MCP 2025-11-25, Transports (Streamable HTTP), with 2025-03-26 for batches; the body decides, the
version header is a cross-check.

Modern requests (2026-07-28) are not served yet. They are refused with **400 and a plain -32600**, as a server
that has never heard of them would do:
* -32022 would be the modern code, but it is what a client takes as proof that it talks to a modern server.
  With only legacy versions in `supported` the TypeScript client 2.4.0 and the Python client 2.3.0 do fall
  back, yet a client that goes by the code alone would give up.
* -32600 is no modern error to any of them: "any other 4xx" leads to `initialize`, in both SDKs (read in their
  code: `classifyRpcError`, `negotiate_auto`) and in MCP 2026-07-28's own advice to clients.
* 401, 403 and 5xx are no evidence of an era and would end the attempt; 404 and 405 would send clients to look
  for the 2024-11-05 transport. For the same reason a version header that is unknown gets -32600 too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge.errors import BadMessage
from edge.proto.jsonrpc import Id, Message, Notification, Request, Response
from edge.proto.jsontext import Raw, dumps
from edge.proto.mcp import (
    ASSUMED_VERSION,
    BATCH_VERSION,
    INVALID_REQUEST,
    LEGACY_VERSIONS,
    META_VERSION,
    METHODS,
    MODERN_VERSIONS,
    SPOKEN,
)

SESSIONLESS_METHODS: Final = frozenset(
    {
        "ping",
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "completion/complete",
    }
)
"""Served without `initialize` too, for plain clients such as curl: nothing in them needs a session."""

Batch = Sequence[Message | BadMessage]

MAX_ECHO_CHARS: Final = 64
"""More than this of what a client claims to speak is not repeated to it."""


@dataclass(frozen=True, slots=True)
class Initialize:
    """A legacy handshake, whatever its headers say."""

    request: Request


@dataclass(frozen=True, slots=True)
class InSession:
    """A message (or, in 2025-03-26, a batch) of a session that is alive."""

    message: Message | Batch


@dataclass(frozen=True, slots=True)
class Sessionless:
    """A legacy request without a session, to be served without one."""

    request: Request
    version: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A notification that concerns nothing: 202."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An error answer; `id` is the request's, `data` is JSON text."""

    http_status: int
    code: int
    text: str
    data: str | None = None
    id: Id | None = None


Verdict = Initialize | InSession | Sessionless | Ignored | Refused


def classify(
    message: Message | Batch, *, session_named: bool, session_version: str | None, version_header: str | None
) -> Verdict:
    """`session_named`: a session header was sent; `session_version`: what it negotiated, None if unknown."""
    match message:
        case Request():
            return _request(message, session_named, session_version, version_header)
        case Notification():
            if _claims_modern(message.params) or version_header in MODERN_VERSIONS:
                return Ignored()
            if not session_named:
                return Ignored()
            return _session_refusal(session_version, version_header) or InSession(message)
        case Response():
            if not session_named:
                return Refused(
                    400, INVALID_REQUEST, "a response needs the session it belongs to (Mcp-Session-Id)"
                )
            return _session_refusal(session_version, version_header) or InSession(message)
        case _:
            return _batch(message, session_named, session_version, version_header)


def _request(
    request: Request, session_named: bool, session_version: str | None, header: str | None
) -> Verdict:
    if _claims_modern(request.params):
        return _modern(_claim(request.params), request.id)
    if request.method == "initialize":
        return Initialize(request)
    if header in MODERN_VERSIONS:
        return _modern(header, request.id)
    if session_named:
        return _session_refusal(session_version, header, request.id) or InSession(request)
    if header is not None and header not in LEGACY_VERSIONS:
        return _unknown_version(header, request.id)
    if request.method in SESSIONLESS_METHODS or request.method not in METHODS:
        # What nobody knows is refused as that, rather than with advice to get a session for it.
        return Sessionless(request, header or ASSUMED_VERSION)
    text = "a session is needed for this: send initialize first, then Mcp-Session-Id with each request"
    return Refused(400, INVALID_REQUEST, text, id=request.id)


def _batch(batch: Batch, session_named: bool, session_version: str | None, header: str | None) -> Verdict:
    if not session_named:
        text = f"batches are for sessions of protocol version {BATCH_VERSION} only, and never for initialize"
        return Refused(400, INVALID_REQUEST, text)
    refusal = _session_refusal(session_version, header)
    if refusal is not None:
        return refusal
    if session_version != BATCH_VERSION:
        text = (
            f"batches exist in protocol version {BATCH_VERSION} only; this session speaks {session_version}"
        )
        return Refused(400, INVALID_REQUEST, text)
    for member in batch:
        match member:
            case Request(method="initialize"):
                return Refused(400, INVALID_REQUEST, "initialize must not be part of a batch")
            case Request() | Notification() if _claims_modern(member.params):
                return _modern(_claim(member.params), None)
    return InSession(batch)


def _session_refusal(version: str | None, header: str | None, request_id: Id | None = None) -> Refused | None:
    """Whether a message that names a session must be refused.

    Any version we speak is good as a header, negotiated or not: shipped clients are known to mix them up.
    """
    if header is not None and header not in LEGACY_VERSIONS:
        return _unknown_version(header, request_id)
    if version is None:
        return Refused(404, INVALID_REQUEST, "no such session: send initialize again", id=request_id)
    return None


def _claims_modern(params: Raw | None) -> bool:
    if params is None:
        return False
    meta = params.value.get("_meta")
    return isinstance(meta, dict) and META_VERSION in meta


def _claim(params: Raw | None) -> Any:
    assert params is not None  # it claims something
    return params.value["_meta"][META_VERSION]


def _modern(requested: Any, request_id: Id | None) -> Refused:
    return _refused_version(
        "this protocol version is not served here: start with initialize", requested, request_id
    )


def _unknown_version(requested: str, request_id: Id | None) -> Refused:
    return _refused_version("unsupported MCP-Protocol-Version", requested, request_id)


def _refused_version(what: str, requested: Any, request_id: Id | None) -> Refused:
    data: dict[str, Any] = {"supported": list(LEGACY_VERSIONS)}
    if isinstance(requested, str) and len(requested) <= MAX_ECHO_CHARS:
        data["requested"] = requested
    return Refused(400, INVALID_REQUEST, f"{what}; supported: {SPOKEN}", dumps(data), request_id)
