import json
from collections.abc import Callable

import pytest

from edge.proto.dialect import Lost, Refused, Start
from edge.proto.dialects.contextforge import frames
from edge.proto.dialects.contextforge.connector import ContextForgeConnector, Quirks
from edge.proto.dialects.long_poll.outcome import RegisterEnded
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
        ('{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"not here"}}', "not here"),
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


NOTHING = '{"detail":"there is nothing at this path"}'
TLS = '{"detail":"this port speaks TLS: use https:// (or wss://)"}'
MCP = (
    '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"nothing is served at /x; MCP is at /mcp"}}'
)


def contextforge(status: int, body: str) -> str:
    end = ContextForgeConnector(
        url_path="/x/ws", query={}, headers={}, name="a", session_id="s", quirks=Quirks(legacy_path=False)
    )
    end.handle(Start(), now=0)
    [lost] = end.handle(Refused(status, body), now=0)
    assert isinstance(lost, Lost)
    return lost.advice


def mcp_reverse(status: int, body: str) -> str:
    return judge(status, body)[2]


def long_poll(status: int, body: str) -> str:
    return RegisterEnded("register-1", status, body).advice


dialects = pytest.mark.parametrize("advice", [contextforge, mcp_reverse, long_poll])


@dialects
def test_who_is_told_that_the_port_speaks_tls_is_told_nothing_else(advice: Callable[[int, str], str]) -> None:
    assert advice(400, "") != ""
    assert advice(400, TLS) == ""


@dialects
def test_after_there_is_nothing_at_this_path_comes_where_to_look(advice: Callable[[int, str], str]) -> None:
    found = advice(404, NOTHING)
    assert "url" in found
    assert "nothing there" not in found
    assert "MCPGATEWAY" not in found


@dialects
def test_the_port_for_clients_is_known_by_its_answer(advice: Callable[[int, str], str]) -> None:
    assert "[hub] listen" in advice(404, MCP)


@dialects
@pytest.mark.parametrize(
    ("status", "phrase"), [(400, "Bad Request"), (401, "Unauthorized"), (404, "Not Found")]
)
def test_the_status_in_words_explains_nothing(
    advice: Callable[[int, str], str], status: int, phrase: str
) -> None:
    assert advice(status, json.dumps({"detail": phrase})) == advice(status, "") != ""


@pytest.mark.parametrize("advice", [mcp_reverse, long_poll])
def test_after_a_redirect_comes_what_to_do_whatever_its_body_says(advice: Callable[[int, str], str]) -> None:
    assert advice(307, '{"detail":"it is elsewhere now"}') == advice(307, "") != ""


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
