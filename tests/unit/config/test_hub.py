"""`[hub]`: its rules, above all those about who may connect."""

from hashlib import sha256
from typing import Any

import pytest

from edge.config.model import HubConfig, HubEdge, HubJwt, HubWebhook, Secret, ServerTlsConfig
from edge.config.rules import BadValues

TLS = ServerTlsConfig(cert="c", key="k")
ONE, TWO = (sha256(text).hexdigest() for text in (b"one", b"two"))
EDGE = HubEdge(name="plant-7", token_sha256=(ONE,))
LONG = Secret("x" * 32)


def hub(**values: Any) -> HubConfig:
    return HubConfig(**{"listen": ("127.0.0.1:8443",), "edges": {"plant-7": EDGE}, **values})


def edge(**values: Any) -> HubEdge:
    return HubEdge(**{"name": "plant-7", "token_sha256": (ONE,), **values})


@pytest.mark.parametrize(
    ("make", "values", "sentence"),
    [
        (hub, {"listen": ()}, "listen: must name at least one"),
        (hub, {"listen": ("8443",)}, "listen: must be host:port"),
        (hub, {"listen": ("0.0.0.0:8443",)}, "listen: is not a loopback address, and without tls"),
        (hub, {"listen": ("[::1]:1", "[::1]:1")}, r"listen\[1\]: is listed twice"),
        (hub, {"dialects": ()}, "dialects: must name at least one"),
        (hub, {"edges": {}}, "has no way to tell edges apart"),
        (hub, {"operator_token_sha256": ("x",)}, "operator_token_sha256: must be the 64 hex digits"),
        (hub, {"operator_token_sha256": (ONE,)}, "edges.plant-7.token_sha256: is the operator's token"),
        (
            hub,
            {"edges": {"a": edge(name="a"), "b": edge(name="b", token_sha256=(TWO, ONE))}},
            "edges.b.token_sha256: is the token of edge a, too",
        ),
        (
            hub,
            {"dialects": ("long-poll",), "edges": {"a": edge(dialects=("contextforge",))}},
            "edges.a.dialects: none of",
        ),
        (hub, {"webhook": HubWebhook(url="http://auth/x")}, "webhook.url: must be https://"),
        (hub, {"max_links": 0}, "max_links: must be from 1"),
        (hub, {"max_links_per_edge": 0}, "max_links_per_edge: must be from 1"),
        (hub, {"max_calls_per_link": 4001}, "max_calls_per_link: must be from 1 to 4000"),
        (hub, {"max_message_bytes": 1}, "max_message_bytes: must be from 1024"),
        (hub, {"max_pending_bytes": 1}, "max_pending_bytes: must be from 1024"),
        (hub, {"handshake_timeout_s": 0.0}, "handshake_timeout_s: must be above 0"),
        (hub, {"forget_s": 0.0}, "forget_s: must be above 0"),
        (hub, {"resume_grace_s": -1.0}, "resume_grace_s: must be 0 or more"),
        (hub, {"call_timeout_s": -1.0}, "call_timeout_s: must be 0 or more"),
        (hub, {"heartbeat_s": 60.0}, "dead_after_s: must be above heartbeat_s"),
        (edge, {"name": "a b"}, "an edge's name is 1 to 64"),
        (edge, {"token_sha256": ()}, "token_sha256: must name at least one"),
        (edge, {"token_sha256": (ONE, ONE)}, r"token_sha256\[1\]: is listed twice"),
        (edge, {"token_sha256": (ONE.upper(),)}, "token_sha256: must be in lower case"),
        (edge, {"token_sha256": (ONE[:40],)}, "token_sha256: has 40 hex digits, and a SHA-256 has 64"),
        (edge, {"token_sha256": (sha256(b"").hexdigest(),)}, "token_sha256: is the SHA-256 of an empty text"),
        (edge, {"dialects": ()}, "dialects: must name at least one"),
        (HubJwt, {"secret": Secret("short")}, "secret: must have 32 bytes or more"),
        (HubJwt, {"secret": LONG, "name_claim": ""}, "name_claim: must not be empty"),
        (HubJwt, {"secret": LONG, "leeway_s": -1.0}, "leeway_s: must be 0 or more"),
        (HubWebhook, {"url": "ftp://auth"}, "url: must start with http"),
        (HubWebhook, {"url": "https://u@auth"}, "url: must not hold a user or password: use bearer_env"),
        (HubWebhook, {"url": "https://auth", "bearer": Secret("a b")}, "bearer: must be visible ASCII"),
        (HubWebhook, {"url": "https://auth", "timeout_s": 0.0}, "timeout_s: must be above 0"),
        (HubWebhook, {"url": "https://auth", "ca_file": ""}, "ca_file: must not be empty"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named_with_its_key(make: Any, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadValues, match=sentence) as caught:
        make(**values)
    assert len(caught.value.findings) == 1


@pytest.mark.parametrize("token", ["hunter2-hunter2", "ghp_" + "x" * 60, "", f"{ONE}  -"])
def test_a_token_in_the_place_of_its_hash_is_not_shown_and_the_way_to_the_hash_is(token: str) -> None:
    with pytest.raises(BadValues) as caught:
        edge(token_sha256=(token,))
    assert "looks like the token itself: make it by printf %s TOKEN | sha256sum" in str(caught.value)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"listen": ("0.0.0.0:8443",), "tls": TLS},
        {"listen": ("0.0.0.0:8443",), "insecure_plain": True},
        {"listen": ("unix:/run/hub.sock",)},
        {"listen": ("127.0.0.1:0", "127.0.0.1:0")},
        {"edges": {}, "jwt": HubJwt(secret=LONG)},
        {"edges": {}, "webhook": HubWebhook(url="https://auth")},
        {"webhook": HubWebhook(url="http://127.0.0.1:9000/x")},
        {"webhook": HubWebhook(url="http://auth/x"), "insecure_plain": True},
        {"edges": {"a": edge(token_sha256=(ONE, TWO))}},
        {"resume_grace_s": 0.0},
    ],
)
def test_what_only_looks_broken_is_taken(values: dict[str, Any]) -> None:
    hub(**values)


def test_an_edge_may_speak_what_both_it_and_the_hub_name() -> None:
    it = hub(dialects=("contextforge", "long-poll"))
    assert it.dialects_of(EDGE) == {"contextforge", "long-poll"}
    assert it.dialects_of(edge(dialects=("long-poll", "mcp-reverse"))) == {"long-poll"}


def test_no_secret_of_the_hub_is_shown() -> None:
    it = hub(jwt=HubJwt(secret=LONG), webhook=HubWebhook(url="https://auth/x?k=v", bearer=Secret("hunter2")))
    assert LONG.reveal() not in repr(it)
    assert "hunter2" not in repr(it)
    assert it.webhook is not None
    assert it.webhook.shown_url == "https://auth/x"
