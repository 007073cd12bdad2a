"""MCP's own words: versions, headers, methods, log levels, the `initialize` exchange, and what errors become.

Source: MCP 2024-11-05 to 2025-11-25 ("legacy": with `initialize`); of 2026-07-28 ("modern": without) only its
name is known here, so that it can be refused in a way that makes dual-era clients fall back.

Codes. -32010 to -32012 (a server is down, did not answer, was lost) go to legacy clients: their revisions
leave -32000 to -32099 to implementations, and a caller can tell "try again" from "it may have run". MCP
2026-07-28 lets nobody allot new codes there; modern clients, once served, need -32603 with the same `data`
instead.
"""

from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from edge.errors import (
    BadMessage,
    CutOff,
    Gone,
    RemoteProtocolError,
    RpcError,
    SessionLost,
    TimedOut,
    Unavailable,
    UpstreamError,
)
from edge.printable import cut
from edge.proto.jsonrpc import INTERNAL_ERROR as INTERNAL_ERROR
from edge.proto.jsonrpc import INVALID_PARAMS as INVALID_PARAMS
from edge.proto.jsonrpc import INVALID_REQUEST as INVALID_REQUEST
from edge.proto.jsonrpc import METHOD_NOT_FOUND as METHOD_NOT_FOUND
from edge.proto.jsonrpc import Id
from edge.proto.jsontext import Member, Raw, dumps, members
from edge.proto.questions import OFFERED

LEGACY_VERSIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")  # newest first
NEWEST_LEGACY: Final = LEGACY_VERSIONS[0]
SPOKEN: Final = ", ".join(LEGACY_VERSIONS)
MODERN_VERSIONS: Final = ("2026-07-28",)
BATCH_VERSION: Final = "2025-03-26"  # the one revision with JSON-RPC batches
ASSUMED_VERSION: Final = "2025-03-26"  # of a request without the version header and without a session
PRIMING_SINCE: Final = "2025-11-25"  # older clients choke on an SSE event with empty data

H_SESSION: Final = "mcp-session-id"
H_VERSION: Final = "mcp-protocol-version"
H_LAST_EVENT: Final = "last-event-id"

META_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
"""In `params._meta`: the request claims to be modern."""

CANCELLED: Final = "notifications/cancelled"

RESOURCE_NOT_FOUND: Final = -32002
SERVER_UNAVAILABLE: Final = -32010
SERVER_TIMED_OUT: Final = -32011
SERVER_GONE: Final = -32012

METHODS: Final = frozenset(
    {
        "initialize",
        "ping",
        "logging/setLevel",
        "completion/complete",
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)
"""What clients may send. Closed: metric labels come from here, never from a client."""

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
_RANK: Final = {level: rank for rank, level in enumerate(LEVELS)}


def label_of(method: str) -> str:
    """The metric label of a method: its own name if we know it."""
    return method if method in METHODS else "unknown"


def negotiate(requested: str) -> str:
    """The version to answer `initialize` with: the requested one if we speak it, else our newest."""
    return requested if requested in LEGACY_VERSIONS else NEWEST_LEGACY


def passes(level: str, threshold: str) -> bool:
    """Whether a log message of `level` is wanted by who asked for `threshold` and above.

    A level that MCP does not define is wanted: the server may know better than we do.
    """
    return _RANK.get(level, len(LEVELS)) >= _RANK[threshold]


@dataclass(frozen=True, slots=True)
class Fault:
    """What a client sees of an error; `data` is JSON text."""

    http_status: int
    code: int
    message: str
    data: str | None = None


def fault_of(exc: Exception) -> Fault:
    """The one table from errors to answers.

    Only an RpcError's and a BadMessage's own words are passed on: the others' are for the operator's log and
    may hold a command line or a path.
    """
    match exc:
        case RpcError():
            return Fault(200, exc.code, exc.message, exc.data)
        case BadMessage():
            return Fault(400, exc.code, str(exc))
        case Unavailable():
            return _server_fault(SERVER_UNAVAILABLE, exc, "is not available", "unavailable")
        case TimedOut():
            return _server_fault(SERVER_TIMED_OUT, exc, f"gave no answer in {exc.waited_s:g} s", "timeout")
        case Gone():
            told = "was lost while it had the request: outcome unknown"
            return _server_fault(SERVER_GONE, exc, told, "gone")
        case CutOff():
            text = f"{exc}: outcome unknown"
            return Fault(200, SERVER_GONE, text, dumps({"reason": exc.reason}))
        case SessionLost():
            return _server_fault(SERVER_UNAVAILABLE, exc, "lost our session", "session_lost")
        case UpstreamError():
            return _server_fault(INTERNAL_ERROR, exc, "failed", "failed")
    return Fault(200, INTERNAL_ERROR, "internal error")


def _server_fault(code: int, exc: UpstreamError, told: str, reason: str) -> Fault:
    return Fault(200, code, f"server {exc.server} {told}", dumps({"server": exc.server, "reason": reason}))


def cancelled_id(params: str) -> Id | None:
    """The letters of `requestId`: "1" and 1 are two requests. None if there are none to be had."""
    try:
        span = members(params).get("requestId")
    except BadMessage:  # a member twice; a notification gets no error
        return None
    return params[span.start : span.end] if span is not None else None


def initialize_params(
    client_name: str, client_version: str, version: str = NEWEST_LEGACY, *, can_ask: bool = True
) -> str:
    """Params of the `initialize` that we send to servers. `can_ask`: its requests to clients would reach us."""
    return dumps(
        {
            "protocolVersion": version,
            "capabilities": OFFERED if can_ask else {},
            "clientInfo": {"name": client_name, "version": client_version},
        }
    )


@dataclass(frozen=True, slots=True, weakref_slot=True)
class InitializeResult:
    """What a server answered to `initialize`, as far as we use it. Servers that answered the same share it."""

    version: str
    capabilities: dict[str, Any]
    server_info: Raw
    instructions: str | None

    @classmethod
    def read(cls, result: Raw) -> "InitializeResult":
        """Raises RemoteProtocolError saying what is wrong. Instructions that are no text count as none."""
        known = _IN_USE.get(result.text)
        if known is not None:
            return known
        if not isinstance(result.value, dict):
            raise RemoteProtocolError("the answer to initialize is not an object")
        found = members(result.text)
        version = _value(found, "protocolVersion")
        if not isinstance(version, str):
            raise RemoteProtocolError("the answer to initialize has no protocolVersion")
        if version not in LEGACY_VERSIONS:
            raise RemoteProtocolError(
                f"the server wants protocol version {cut(version, 40)!r}; spoken here: {SPOKEN}"
            )
        capabilities = _value(found, "capabilities")
        if not isinstance(capabilities, dict):
            raise RemoteProtocolError("the answer to initialize has no capabilities object")
        info = found.get("serverInfo")
        if info is None or not isinstance(info.value, dict) or not isinstance(info.value.get("name"), str):
            raise RemoteProtocolError("the answer to initialize has no serverInfo with a name")
        instructions = _value(found, "instructions")
        fresh = cls(
            version,
            capabilities,
            Raw(result.text[info.start : info.end], info.value),
            instructions if isinstance(instructions, str) else None,
        )
        return _IN_USE.setdefault(result.text, fresh)


_IN_USE: Final = WeakValueDictionary[str, InitializeResult]()
"""By the text that was read, as long as somebody has it."""


def _value(found: dict[str, Member], key: str) -> Any:
    member = found.get(key)
    return None if member is None else member.value
