"""What an HTTP refusal says for itself, for the operator of the connector."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from edge.errors import BadMessage
from edge.printable import cut
from edge.proto.jsontext import members

MEMBERS: Final = ("detail", "error")  # ContextForge's word, and that of our hub and of long-poll hubs
MAX_CHARS: Final = 200
PHRASES: Final = {status.value: status.phrase.casefold() for status in HTTPStatus}
ENDPOINT_ADVICE: Final = (
    "that is an endpoint for MCP clients: url needs the hub's port, which mcp-edge has in [hub] listen"
)


def detail_of(body: str) -> str:
    """The reason that a refusal's JSON gives, on one line and not too long; "" if there is none."""
    found = _members_of(body)
    for name in MEMBERS:
        said = found.get(name)
        if isinstance(said, dict):
            said = said.get("message")  # JSON-RPC
        if isinstance(said, str):
            text = cut(said, MAX_CHARS)
            return "".join(letter if letter.isprintable() else "?" for letter in text)
    return ""


def advice_for(status: int, body: str, *, usual: str, path: str) -> str:
    """What the operator can do: `usual`, unless the other end says itself what is wrong; `path` if that is a 404."""
    found = _members_of(body)
    if "jsonrpc" in found and isinstance(found.get("error"), dict):
        return ENDPOINT_ADVICE
    detail = detail_of(body).casefold()
    if not detail or detail == PHRASES.get(status):  # FastAPI, for one, repeats the phrase
        return usual
    return path if status == HTTPStatus.NOT_FOUND else ""


def _members_of(body: str) -> Mapping[str, Any]:
    try:
        return {name: member.value for name, member in members(body).items()}
    except BadMessage:
        return {}
