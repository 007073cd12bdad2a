"""What an HTTP refusal says for itself, for the operator of the connector."""

from typing import Final

from edge.errors import BadMessage
from edge.printable import cut
from edge.proto.jsontext import members

MEMBERS: Final = ("detail", "error")  # ContextForge's word, and that of our hub and of long-poll hubs
MAX_CHARS: Final = 200


def detail_of(body: str) -> str:
    """The reason that a refusal's JSON gives, on one line and not too long; "" if there is none."""
    try:
        found = members(body)
    except BadMessage:
        return ""
    for name in MEMBERS:
        if name in found and isinstance(found[name].value, str):
            text = cut(found[name].value, MAX_CHARS)
            return "".join(letter if letter.isprintable() else "?" for letter in text)
    return ""
