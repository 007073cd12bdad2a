"""Who an edge is: hashes, JWTs, names."""

import hashlib
from typing import Any

import jwt
import pytest

from edge.config.hub import HubConfig, HubEdge, HubJwt
from edge.config.secrets import Secret
from edge.gate.edge_auth import Denied, Edge, TokenAuth, bearer_of, is_link_name

KEY = "a-shared-key-of-forty-characters-or-more"
NOW = 1_800_000_000.0


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def hub(**more: Any) -> HubConfig:
    edges = {
        "plant-7": HubEdge(name="plant-7", token_sha256=(hashed("seven"), hashed("seven-new"))),
        "plant": HubEdge(name="plant", token_sha256=(hashed("plant"),), dialects=("long-poll",)),
    }
    return HubConfig(listen=("127.0.0.1:0",), **{"edges": edges, **more})


def token(key: str = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({"sub": "ship", "exp": NOW + 60, **claims}, key, algorithm=algorithm)


def with_jwt(**more: Any) -> TokenAuth:
    return TokenAuth(hub(jwt=HubJwt(secret=Secret(KEY), **more)))


def reason(verdict: Edge | Denied) -> str:
    assert isinstance(verdict, Denied), verdict
    return verdict.reason


def test_either_of_an_edges_two_tokens_is_good_while_it_is_changed() -> None:
    auth = TokenAuth(hub())
    for good in ("seven", "seven-new"):
        verdict = auth.judge(good, NOW)
        assert isinstance(verdict, Edge)
        assert verdict.name == "plant-7"


@pytest.mark.parametrize(
    ("offered", "expected"),
    [(None, "missing"), ("", "missing"), ("eight", "unknown_token"), ("x" * 9000, "unknown_token")],
)
def test_a_token_that_is_not_in_the_config_is_refused(offered: str | None, expected: str) -> None:
    verdict = TokenAuth(hub()).judge(offered, NOW)
    assert reason(verdict) == expected
    assert isinstance(verdict, Denied)
    assert verdict.status == 401
    assert offered is None or offered == "" or offered not in verdict.text


def test_a_hash_itself_is_no_token() -> None:
    assert reason(TokenAuth(hub()).judge(hashed("seven"), NOW)) == "unknown_token"


def test_what_looks_like_a_jwt_is_unknown_where_there_is_no_key_for_it() -> None:
    assert reason(TokenAuth(hub()).judge(token(), NOW)) == "unknown_token"


def test_a_jwt_names_its_edge() -> None:
    assert with_jwt().judge(token(), NOW) == Edge("ship", frozenset(hub().dialects))


def test_a_jwt_of_a_configured_edge_gets_that_edges_dialects() -> None:
    assert with_jwt().judge(token(sub="plant"), NOW) == Edge("plant", frozenset({"long-poll"}))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": NOW - 31}, "expired"),
        ({"exp": float("nan")}, "expired"),
        ({"nbf": float("nan")}, "unknown_token"),
        ({"exp": None}, "unknown_token"),
        ({"exp": True}, "unknown_token"),
        ({"exp": "tomorrow"}, "unknown_token"),
        ({"nbf": NOW + 31}, "unknown_token"),
        ({"nbf": "now"}, "unknown_token"),
        ({"sub": None}, "wrong_name"),
        ({"sub": "admin@example.com"}, "wrong_name"),
        ({"sub": "a__b"}, "wrong_name"),
    ],
)
def test_a_jwt_with_claims_that_do_not_hold_is_refused(claims: dict[str, Any], expected: str) -> None:
    kept = {"sub": "ship", "exp": NOW + 60, **claims}
    text = jwt.encode({key: value for key, value in kept.items() if value is not None}, KEY)
    assert reason(with_jwt().judge(text, NOW)) == expected


def test_a_clock_that_is_a_little_off_is_forgiven() -> None:
    assert isinstance(with_jwt().judge(token(exp=NOW - 29, nbf=NOW + 29), NOW), Edge)


@pytest.mark.parametrize(
    "forged",
    [
        token(key="another-key-of-forty-characters-or-more-"),
        token(key="k" * 64, algorithm="HS512"),
        jwt.encode({"sub": "ship", "exp": NOW + 60}, "", algorithm="none"),
        "a.b.c",
        "..",
        token()[:-2] + "AA",
    ],
)
def test_a_jwt_that_was_not_signed_with_our_key_is_unknown(forged: str) -> None:
    assert reason(with_jwt().judge(forged, NOW)) == "unknown_token"


def test_issuer_and_audience_count_where_they_are_configured() -> None:
    auth = with_jwt(issuer="factory", audience="hub", name_claim="edge")
    assert isinstance(auth.judge(token(iss="factory", aud="hub", edge="ship"), NOW), Edge)
    assert reason(auth.judge(token(iss="other", aud="hub", edge="ship"), NOW)) == "unknown_token"
    assert reason(auth.judge(token(iss="factory", aud="other", edge="ship"), NOW)) == "unknown_token"
    assert reason(auth.judge(token(iss="factory", aud="hub"), NOW)) == "wrong_name"


def test_an_audience_does_not_matter_where_none_is_configured() -> None:
    assert isinstance(with_jwt().judge(token(aud="anybody"), NOW), Edge)


@pytest.mark.parametrize(
    ("edge", "link_name", "is_allowed"),
    [
        ("plant", "plant", True),
        ("plant", "plant-8", True),
        ("plant", "plant-8-git", True),
        ("plant", "plant-7", False),  # another edge's
        ("plant", "plant-7-git", False),
        ("plant-7", "plant-7-git", True),
        ("plant-7", "plant", False),
        ("plant", "planted", False),
        ("plant", "plant-__x", False),
        ("plant", "", False),
    ],
)
def test_a_link_is_named_for_its_edge(edge: str, link_name: str, is_allowed: bool) -> None:
    denied = TokenAuth(hub()).may_be_called(Edge(edge), link_name)
    assert (denied is None) is is_allowed
    if denied is not None:
        assert (denied.reason, denied.status) == ("wrong_name", 403)


def test_dialects_that_a_judge_allows_are_still_only_those_of_the_hub() -> None:
    auth = TokenAuth(hub(dialects=("contextforge", "long-poll")))
    edge = auth.named("ship", frozenset({"contextforge", "mcp-reverse"}))
    assert edge == Edge("ship", frozenset({"contextforge"}))
    assert edge.may_speak("contextforge")
    assert not edge.may_speak("mcp-reverse")
    assert Edge("ship").may_speak("anything")


def test_only_an_operators_token_is_an_operators() -> None:
    auth = TokenAuth(hub(operator_token_sha256=(hashed("root"), hashed("root2"))))
    assert auth.is_operator("root2")
    assert not auth.is_operator("seven")
    assert not auth.is_operator(None)
    assert not TokenAuth(hub()).is_operator(None)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("Bearer abc", "abc"),
        ("bearer   abc ", "abc"),
        ("abc", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("", None),
        (None, None),
    ],
)
def test_a_token_is_read_with_its_scheme_or_without(field: str | None, expected: str | None) -> None:
    assert bearer_of(field) == expected


@pytest.mark.parametrize("name", ["", ".", "..", "_a", "a_", "a__b", "a b", "a/b", "x" * 65, "é"])
def test_names_that_cannot_stand_in_an_address_are_no_link_names(name: str) -> None:
    assert not is_link_name(name)
