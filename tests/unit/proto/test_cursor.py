"""Our own cursors."""

import base64

import pytest

from edge.errors import RpcError
from edge.proto.cursor import Cursors, Position

SECRET = b"0123456789abcdef"
LAST = Position("git", 3, "git__löschen")


def refused(cursors: Cursors, kind: str, cursor: str) -> bool:
    with pytest.raises(RpcError) as caught:
        cursors.decode(kind, cursor)
    return caught.value.code == -32602


async def test_a_cursor_comes_back_as_it_was_made_and_is_url_safe() -> None:
    for key in ("a", "ab", "abc", "löschen", "x" * 500):
        cursors = Cursors(SECRET, None)
        token = cursors.encode("tools", Position("git", 3, key))
        assert cursors.decode("tools", token) == Position("git", 3, key)
        assert token.replace("-", "").replace("_", "").isalnum()


async def test_a_cursor_is_good_for_its_list_its_view_and_its_secret_only() -> None:
    token = Cursors(SECRET, None).encode("tools", LAST)
    assert refused(Cursors(SECRET, None), "prompts", token)
    assert refused(Cursors(SECRET, "git"), "tools", token)
    assert refused(Cursors(SECRET[::-1], None), "tools", token)


@pytest.mark.parametrize("cursor", ["", "=", "A", "AAAA", "a b", "ü", "\ud800", "{}", "/+/+", "A" * 100])
async def test_what_is_no_cursor_of_ours_is_invalid_params(cursor: str) -> None:
    assert refused(Cursors(SECRET, None), "tools", cursor)


async def test_a_cursor_that_was_tampered_with_is_refused() -> None:
    cursors = Cursors(SECRET, None)
    token = bytearray(base64.urlsafe_b64decode(cursors.encode("tools", LAST) + "=="))
    for at in range(len(token)):
        changed = bytes(token[:at]) + bytes([token[at] ^ 1]) + bytes(token[at + 1 :])
        assert refused(cursors, "tools", base64.urlsafe_b64encode(changed).decode().rstrip("="))


async def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        Cursors(b"short", None)
