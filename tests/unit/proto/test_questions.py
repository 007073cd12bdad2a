"""Which of a server's requests a client can be asked, by what it has declared."""

import pytest

from edge.errors import RpcError
from edge.proto.jsonrpc import Request
from edge.proto.questions import CAPABILITY_OF, OFFERED, check_declared, declared_in


@pytest.mark.parametrize(
    ("params", "declared"),
    [
        ({}, set()),
        ({"capabilities": None}, set()),
        ({"capabilities": {"sampling": True, "roots": {"listChanged": True}}}, {"roots"}),
        (
            {"capabilities": {"sampling": {}, "elicitation": {"url": {}}, "tasks": {}}},
            {"sampling", "elicitation"},
        ),
    ],
)
async def test_what_a_client_declares_is_read_by_name(params: dict[str, object], declared: set[str]) -> None:
    assert declared_in(params) == declared


@pytest.mark.parametrize("method", CAPABILITY_OF)
async def test_only_what_was_declared_may_be_asked(method: str) -> None:
    capability = CAPABILITY_OF[method]
    check_declared(frozenset({capability}), Request("1", method, None))
    with pytest.raises(RpcError, match=f"not declared the capability {capability}") as caught:
        check_declared(frozenset(OFFERED) - {capability}, Request("1", method, None))
    assert caught.value.code == -32601
