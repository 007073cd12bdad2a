"""JSON-RPC messages: text to `Request`, `Notification` or `Response` and back, payloads letter for letter.

Source: JSON-RPC 2.0, narrowed as MCP 2025-11-25 ("Base Protocol") has it: params are an object, an id is a
string or a number without fraction and never null in a request. Batches exist in MCP 2025-03-26 only.
"""

import re
from dataclasses import dataclass
from typing import Final

from edge.errors import BadMessage
from edge.proto.jsontext import INVALID_REQUEST as INVALID_REQUEST
from edge.proto.jsontext import PARSE_ERROR as PARSE_ERROR
from edge.proto.jsontext import Raw, Span, decode_text, elements, is_array, quote, spans

METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

_ID_FIRST: Final = re.compile(
    rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*([0-9]+)\s*,\s*"(?:result|error)"'
)
_ID_LAST: Final = re.compile(rb',\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*([0-9]+)\s*\}\s*\Z')

Id = str
"""A request id as its JSON text: `7`, `"7"` and `7.0` are three ids."""

MAX_BATCH: Final = 1000
"""More messages than this in one batch are refused: each `1` in a 4 MB array would become an error answer."""


@dataclass(slots=True)
class Request:
    """Wants an answer under `id`."""

    id: Id
    method: str
    params: Raw | None


@dataclass(slots=True)
class Notification:
    """Wants none."""

    method: str
    params: Raw | None


@dataclass(slots=True)
class ErrorObject:
    """Why a request failed; `data` is JSON text."""

    code: int
    message: str
    data: str | None


@dataclass(slots=True)
class Response:
    """Holds a result or an error, never both; `id` is None only in an error to what could not be read."""

    id: Id | None
    result: Raw | None
    error: ErrorObject | None


Message = Request | Notification | Response


def decode(data: bytes | bytearray | str) -> Message:
    """One message. BadMessage carries its id's text where that could be read.

    Members that JSON-RPC does not know are passed over. A result may be any JSON value, also null.
    """
    text = data if isinstance(data, str) else decode_text(data)
    found = spans(text)
    id_member = found.get("id")
    id_text = None if id_member is None else _id_text(text, id_member)
    version = found.get("jsonrpc")
    if version is None or version[0] != "2.0":
        raise BadMessage(INVALID_REQUEST, 'jsonrpc must be "2.0"', id=id_text)
    method = found.get("method")
    if method is None:
        return _response(text, found, id_member, id_text)
    if type(method[0]) is not str:
        raise BadMessage(INVALID_REQUEST, "method must be a string", id=id_text)
    if "result" in found or "error" in found:
        raise BadMessage(INVALID_REQUEST, "both a request and a response", id=id_text)
    params = found.get("params")
    raw: Raw | None = None
    if params is not None and params[0] is not None:  # null is how some say that there are none
        value, start, end = params
        if type(value) is not dict:
            raise BadMessage(INVALID_REQUEST, "params must be an object", id=id_text)
        raw = Raw(text[start:end], value)
    if id_member is None:
        return Notification(method[0], raw)
    if id_text is None:
        raise BadMessage(INVALID_REQUEST, "id must be a string or a whole number")
    return Request(id_text, method[0], raw)


def may_be_answer(text: str) -> bool:
    """Whether what `decode` refused can have been meant as an answer to us.

    It cannot if it names a method (the id is the sender's own then), or is an object of some other kind.
    """
    try:
        found = spans(text)
    except BadMessage:
        return True
    return "method" not in found and not found.keys().isdisjoint(("jsonrpc", "result", "error"))


def id_at_edges(head: bytes, tail: bytes) -> Id | None:
    """The id of an answer of which only the first and last bytes are known, if it is where writers put it."""
    found = _ID_FIRST.match(head) or _ID_LAST.search(tail)
    return found[1].decode() if found is not None else None


def decode_batch(text: str) -> list[Message | BadMessage] | None:
    """The messages of a batch, each bad one as its own error; None if `text` is not an array."""
    if not is_array(text):
        return None
    batch = elements(text, at_most=MAX_BATCH)
    if not batch:
        raise BadMessage(INVALID_REQUEST, "an empty batch")
    found: list[Message | BadMessage] = []
    for raw in batch:
        try:
            found.append(decode(raw.text))
        except BadMessage as exc:
            found.append(exc)
    return found


def encode_request(id: Id, method: str, params: str | None) -> str:  # noqa: A002  JSON-RPC's word
    """A request's text. What `params` is, it stays: see `jsontext.one_line` before framing it by lines."""
    if params is None:
        return f'{{"jsonrpc":"2.0","id":{id},"method":{quote(method)}}}'
    return f'{{"jsonrpc":"2.0","id":{id},"method":{quote(method)},"params":{params}}}'


def encode_notification(method: str, params: str | None) -> str:
    """A notification's text."""
    if params is None:
        return f'{{"jsonrpc":"2.0","method":{quote(method)}}}'
    return f'{{"jsonrpc":"2.0","method":{quote(method)},"params":{params}}}'


def encode_result(id: Id, result: str) -> str:  # noqa: A002  JSON-RPC's word
    """The text of a good answer."""
    return f'{{"jsonrpc":"2.0","id":{id},"result":{result}}}'


def encode_error(id: Id | None, code: int, message: str, data: str | None = None) -> str:  # noqa: A002  as above
    """The text of an error answer; its id is null if the request's could not be read."""
    tail = "" if data is None else f',"data":{data}'
    return (
        f'{{"jsonrpc":"2.0","id":{"null" if id is None else id},'
        f'"error":{{"code":{code},"message":{quote(message)}{tail}}}}}'
    )


def _id_text(text: str, member: Span) -> Id | None:
    """The id's letters, or None if it cannot be one (null, true, 1.5, {})."""
    value, start, end = member
    kind = type(value)
    if kind is int or kind is str or (kind is float and value.is_integer()):
        return text[start:end]
    return None


def _response(text: str, found: dict[str, Span], id_member: Span | None, id_text: Id | None) -> Response:
    result, error = found.get("result"), found.get("error")
    if result is not None and error is not None and error[0] is None:
        error = (
            None  # `"error": null` beside a result, as JSON-RPC 1.0 had it, is still written by some servers
        )
    if result is None and error is None:
        raise BadMessage(INVALID_REQUEST, "neither method nor result nor error", id=id_text)
    if id_text is None and id_member is not None and id_member[0] is not None:
        raise BadMessage(INVALID_REQUEST, "id must be a string or a whole number")
    if error is None:
        assert result is not None
        if id_text is None:
            raise BadMessage(INVALID_REQUEST, "a result without an id")
        value, start, end = result
        return Response(id_text, Raw(text[start:end], value), None)
    if result is not None:
        raise BadMessage(INVALID_REQUEST, "both result and error", id=id_text)
    return Response(id_text, None, _error(text[error[1] : error[2]], id_text))


def _error(text: str, id_text: Id | None) -> ErrorObject:
    try:
        found = spans(text)
    except BadMessage as exc:
        raise BadMessage(INVALID_REQUEST, f"error: {exc}", id=id_text) from None
    code, message, data = found.get("code"), found.get("message"), found.get("data")
    if code is None or type(code[0]) is not int:
        raise BadMessage(INVALID_REQUEST, "error.code must be an integer", id=id_text)
    if message is None or type(message[0]) is not str:
        raise BadMessage(INVALID_REQUEST, "error.message must be a string", id=id_text)
    return ErrorObject(code[0], message[0], None if data is None else text[data[1] : data[2]])
