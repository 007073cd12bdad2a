"""Our own cursors: opaque, bound by a MAC to one list of one view, and good across catalogue changes.

A cursor names the last item that was given out, not an offset: what comes after it is right also when items
have come or gone. Source: MCP 2025-11-25, Pagination (an invalid cursor is -32602).
"""

import base64
import hmac
import json
from typing import Final, NamedTuple

from edge.errors import RpcError
from edge.proto.jsontext import dumps
from edge.proto.mcp import INVALID_PARAMS

MAC_BYTES: Final = 8
MIN_KEY_BYTES: Final = 16


class Position(NamedTuple):
    """An item: its server, its place in that server's list, and its published key."""

    server: str
    place: int
    key: str


class Cursors:
    """Makes and reads the cursors of one view; `secret` stays the same as long as cursors should."""

    __slots__ = ("_secret", "_view")

    def __init__(self, secret: bytes, view: str | None) -> None:
        if len(secret) < MIN_KEY_BYTES:
            raise ValueError(f"the key needs at least {MIN_KEY_BYTES} bytes")
        self._secret = secret
        self._view = view

    def encode(self, kind: str, last: Position) -> str:
        payload = dumps([last.server, last.place, last.key]).encode()
        return base64.urlsafe_b64encode(self._mac(kind, payload) + payload).decode().rstrip("=")

    def decode(self, kind: str, cursor: str) -> Position:
        """RpcError(-32602) for whatever we did not make for this list; an empty string, too."""
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            token = base64.b64decode(padded, altchars=b"-_", validate=True)
        except ValueError:
            token = b""
        mac, payload = token[:MAC_BYTES], token[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(kind, payload)):
            raise RpcError(INVALID_PARAMS, "params.cursor is not valid here; begin with the first page again")
        server, place, key = json.loads(payload)
        return Position(server, place, key)

    def _mac(self, kind: str, payload: bytes) -> bytes:
        view = dumps([kind, self._view]).encode()
        return hmac.digest(self._secret, b"%d:%s%s" % (len(view), view, payload), "sha256")[:MAC_BYTES]
