import json
from collections.abc import Callable

import pytest

from edge.proto.dialects.contextforge import frames
from edge.proto.dialects.mcp_reverse.refusals import judge
from edge.proto.dialects.refusal import MAX_CHARS, detail_of
from edge.proto.jsonrpc import ErrorObject, Response
from edge.proto.peer import Peer, Stray
from edge.redaction import SHORTEST_SECRET, Redactor


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"detail":"no such user"}', "no such user"),
        ('{"error":"this token has expired"}', "this token has expired"),
        ('{"error":{"code":1}}', ""),
        ('{"other":"x"}', ""),
        ("Unauthorized", ""),
        ("[]", ""),
        ('{"detail":"a\\nb"}', "a?b"),
        (f'{{"detail":"{"x" * 500}"}}', "x" * MAX_CHARS + "…"),
    ],
)
def test_what_a_refusal_says_for_itself_is_found(body: str, text: str) -> None:
    assert detail_of(body) == text


def test_a_refusal_that_says_why_gets_no_guesses_beside_it() -> None:
    reason, _, advice = judge(403, '{"error":"the name must be plant-7"}')
    assert reason.endswith("403 to the opening of the stream: the name must be plant-7")
    assert advice == ""
    assert judge(401, "Unauthorized")[2] != ""


def stray(text: str) -> str:
    found = Peer[str]().receive(Response(None, None, ErrorObject(-32700, text, None)))
    assert isinstance(found, Stray)
    return found.text


TOKEN = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


@pytest.mark.parametrize(
    "says", [lambda text: detail_of(json.dumps({"detail": text})), frames.shown, stray, frames.close_reason]
)
def test_a_token_that_is_cut_where_a_peer_repeats_it_can_still_be_taken_out(
    says: Callable[[str], str],
) -> None:
    redactor = Redactor()
    redactor.redact([TOKEN])
    for before in range(250):
        shown = redactor.clean(says("-" * before + TOKEN + "-" * 250))
        assert TOKEN[:SHORTEST_SECRET] not in shown
