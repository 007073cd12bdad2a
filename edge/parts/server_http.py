"""What both HTTP transports to a server share: fields and credentials, byte counts, what a refusal means.

Source: MCP 2025-11-25, Transports, session management. The other signs that a session is lost (codes and
texts below) are as gateways before this one met them in the field.
"""

from typing import Any, Final

from edge.config.model import HttpServerConfig
from edge.errors import BadMessage, UpstreamError
from edge.metrics_servers import ServerMetrics
from edge.net.http_client import USER_AGENT, BadAnswer, Exchange, HttpPool
from edge.printable import cut
from edge.proto.jsonrpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    ErrorObject,
    Message,
    Response,
    decode,
    decode_batch,
)
from edge.proto.jsontext import decode_text, parse
from edge.redaction import Redactor

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
BOTH: Final = f"{JSON}, {EVENTS}"
SESSION_NOT_FOUND: Final = -32001
LOSS_TEXTS: Final = (
    ("unknown mcp session", "unknown_session"),
    ("session expired", "expired"),
    ("session terminated", "terminated"),
)
EXCERPT_CHARS: Final = 512
MAX_REFUSAL_BYTES: Final = 64 * 1024


class HttpRefused(UpstreamError):
    """The server, or something before it, answered with HTTP `status`, and not in the words of MCP."""

    def __init__(self, server: str, status: int, text: str) -> None:
        super().__init__(server, text)
        self.status = status


class AuthFailed(HttpRefused):
    """HTTP 401 or 403: the credentials in the config are missing, wrong or not enough."""


def refusal(server: str, status: int, fields: dict[str, str], excerpt: str) -> HttpRefused:
    """The error for an answer that is not 2xx; `excerpt` is of its body, without secrets."""
    words = f"HTTP {status}"
    if 300 <= status < 400:
        place = host_of(fields.get("location", ""))
        return HttpRefused(
            server, status, f"{words}, a redirect to {place}; it is not followed, set url instead"
        )
    if text := " ".join(excerpt.split()):
        words = f"{words}: {text}"
    return (AuthFailed if status in (401, 403) else HttpRefused)(server, status, words)


def host_of(location: str) -> str:
    """The host a Location names, without what else may stand in it."""
    _, slashes, rest = location.partition("//")
    host = rest.split("/")[0].split("?")[0].rpartition("@")[2]
    return cut(host, 255) if slashes and host.isprintable() and host else "the same host"


def loss_reason(status: int, text: str) -> str | None:
    """Why an answer that is not 2xx means that our session is lost, None if it does not.

    Only for an answer to a request that carried a session.
    """
    code, message = code_and_message(text)
    if status in (401, 403, 404, 410):
        shown = message.lower()
        for words, reason in LOSS_TEXTS:
            if words in shown:
                return reason
    # Servers of later revisions say 404 also of a method or item they do not have, under their JSON-RPC code.
    if status == 404 and code not in (METHOD_NOT_FOUND, INVALID_PARAMS):
        return "unknown_session"
    return None


def loss_reason_of(error: ErrorObject) -> str | None:
    """Why a JSON-RPC error in a good HTTP answer means that our session is lost, None if it does not."""
    shown = error.message.lower()
    for words, reason in LOSS_TEXTS:
        if words in shown:
            return reason
    # The TypeScript SDK has the same code for a request that timed out: that one may have run.
    if error.code == SESSION_NOT_FOUND and "timed out" not in shown and "timeout" not in shown:
        return "unknown_session"
    return None


def is_sure_loss(error: ErrorObject) -> bool:
    """Whether such an error can be nothing else: the SDKs' code, with a session in its text."""
    return error.code == SESSION_NOT_FOUND and "session" in error.message.lower()


def code_and_message(text: str) -> tuple[int | None, str]:
    """The code and message of a JSON error, bare or inside `error`; else the text itself as the message."""
    try:
        value: Any = parse(text).value
    except BadMessage:
        return None, text
    inner = value.get("error", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict):
        return None, text
    code, message = inner.get("code"), inner.get("message")
    return (code if type(code) is int else None), (message if isinstance(message, str) else text)


def messages_in(text: str) -> list[Message]:
    """The message, or the batch of them, in a body or an event. BadMessage if it is none."""
    batch = decode_batch(text)
    if batch is None:
        return [decode(text)]
    for message in batch:
        if isinstance(message, BadMessage):
            raise message
    return [message for message in batch if not isinstance(message, BadMessage)]


def answer_in(text: str, request_id: str) -> Response | None:
    """The response with our id that a refusal's body may hold."""
    try:
        message = decode(text)
    except BadMessage:
        return None
    return message if isinstance(message, Response) and message.id == request_id else None


def media_type(fields: dict[str, str]) -> str:
    """The bare content type, lower case; empty if there is none."""
    return fields.get("content-type", "").partition(";")[0].strip().lower()


class ServerHttp:
    """Requests to one server: adds what its config asks for, and counts. `redactor` knows what it must not repeat."""

    def __init__(
        self,
        config: HttpServerConfig,
        pool: HttpPool,
        target: str,
        metrics: ServerMetrics,
        redactor: Redactor | None = None,
    ) -> None:
        self.name = config.name
        self.pool = pool
        self.target = target
        self.max_bytes = config.limits.max_line_bytes
        self.metrics = metrics
        self.redactor = redactor or Redactor()
        self._bearer = config.bearer
        self._configured = dict(config.headers)
        if "user-agent" not in {name.lower() for name in config.headers}:
            self._configured["User-Agent"] = USER_AGENT

    async def post(self, exchange: Exchange, target: str, fields: dict[str, str], text: str) -> None:
        """POST a message and wait for the answer's head."""
        body = text.encode()
        self.metrics.bytes_sent += len(body)
        await exchange.send(
            "POST", target, self._fields({"Content-Type": JSON, "Accept": BOTH}, fields), body
        )

    async def get(self, exchange: Exchange, target: str, fields: dict[str, str]) -> None:
        """GET an event stream and wait for its head."""
        await exchange.send("GET", target, self._fields({"Accept": EVENTS}, fields))

    async def delete(self, exchange: Exchange, fields: dict[str, str]) -> None:
        await exchange.send("DELETE", self.target, self._fields({}, fields))

    async def read(self, exchange: Exchange) -> bytes:
        """Some of an answer's body."""
        chunk = await exchange.read()
        self.metrics.bytes_received += len(chunk)
        return chunk

    async def read_all(self, exchange: Exchange) -> bytes:
        """All of it, within the server's limit."""
        body = await exchange.read_all(self.max_bytes)
        self.metrics.bytes_received += len(body)
        return body

    async def read_refusal(self, exchange: Exchange) -> str:
        """What a refusal says, as far as it can be read."""
        try:
            body = await exchange.read_all(MAX_REFUSAL_BYTES)
        except BadAnswer:
            return ""
        self.metrics.bytes_received += len(body)
        return body.decode(errors="replace")

    def refusal(self, exchange: Exchange, text: str) -> HttpRefused:
        """The error for an answer that is not 2xx, with the beginning of its body `text`."""
        excerpt = self.redactor.excerpt(text, EXCERPT_CHARS)
        return refusal(self.name, exchange.status, exchange.fields, excerpt)

    def decode(self, body: bytes) -> str:
        """A body's text; BadAnswer if it is not UTF-8."""
        try:
            return decode_text(body)
        except BadMessage as exc:
            raise BadAnswer(self.name, f"the answer cannot be read: {exc}") from exc

    def _fields(self, ours: dict[str, str], protocol: dict[str, str]) -> dict[str, str]:
        fields = ours | self._configured | protocol
        if self._bearer is not None:
            fields["Authorization"] = f"Bearer {self._bearer.reveal()}"
        return fields
