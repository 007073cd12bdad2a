"""`[uplinks.NAME]`: its rules, and the names of its links."""

from typing import Any

import pytest

from edge.config.model import Expanded, Secret, UplinkConfig, UplinkTls
from edge.config.rules import BadValues


def uplink(**values: Any) -> UplinkConfig:
    return UplinkConfig(**{"name": "hq", "dialect": "contextforge", "url": "https://hub", **values})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "a b"}, "an uplink's name is 1 to 64"),
        ({"name": "a__b"}, "an uplink's name must not"),
        ({"url": "ftp://hub"}, "url: must start with http:// or https:// or ws:// or wss://"),
        ({"url": "ws://hub", "dialect": "long-poll"}, "url: ws:// and wss:// are for contextforge"),
        ({"url": "WSS://hub", "dialect": "mcp-reverse"}, "url: ws:// and wss:// are for contextforge"),
        ({"url": "https://user:x@hub"}, "url: must not hold a user or password: use token_env"),
        ({"url": "https://hub#x"}, "url: must not have a fragment"),
        ({"token": Secret("a b")}, "token: must be visible ASCII"),
        ({"token": Secret("a\n")}, "token: must be visible ASCII"),
        ({"token": Secret("a"), "headers": {"authorization": "b"}}, "is already made from the token"),
        ({"headers": {"Mcp-Edge-Link": "v=1"}}, "headers.Mcp-Edge-Link: is set by the gateway itself"),
        ({"headers": {"Sec-WebSocket-Key": "x"}}, "headers.Sec-WebSocket-Key: is set by the gateway itself"),
        ({"servers": ("git", "git")}, r"servers\[1\]: is listed twice"),
        ({"link_name": "a b"}, "link_name: a link's name is 1 to 64"),
        ({"link_name": "_a"}, "link_name: a link's name must not"),
        ({"query": {"": "x"}}, 'query."": a parameter needs a name'),
        ({"query": {"a": "\0"}}, "query.a: must not contain a NUL"),
        ({"heartbeat_s": 0.0}, "heartbeat_s: must be above 0"),
        ({"connect_timeout_s": 0.0}, "connect_timeout_s: must be above 0"),
        ({"good_after_s": -1.0}, "good_after_s: must be 0 or more"),
        ({"url": "http://hub", "tls": UplinkTls()}, "tls: is of no use"),
        ({"url": "ws://hub", "tls": UplinkTls()}, "tls: is of no use"),
        *[
            ({"proxy": proxy}, "proxy: must be env, none or a proxy's address")
            for proxy in ("", "on", "https://p:1", "socks5://p:1", "http://", "http://p:0", "http://p:x", "http://p:1/x")
        ],
        ({"proxy": "http://p:1?x"}, "proxy: must be env, none or"),
        ({"proxy": "http://p\n:1"}, "proxy: must be env, none or"),
        ({"proxy": "http://ä:1"}, "proxy: must be env, none or"),
        ({"max_message_bytes": 1}, "max_message_bytes: must be from 1024"),
        ({"max_calls": 0}, "max_calls: must be from 1 to 4000"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named_with_its_key(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadValues, match=sentence) as caught:
        uplink(**values)
    assert len(caught.value.findings) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"url": "ws://hub/x"},
        {"url": "wss://hub:444", "tls": UplinkTls(verify=False)},
        {"dialect": "long-poll", "url": "http://hub"},
        {"proxy": "none"},
        {"proxy": "http://proxy:3128"},
        {"proxy": "http://user:secret@[::1]:3128/"},
        {"headers": {"Authorization": "Basic eA=="}},
        {"tls": UplinkTls(cert="both.pem")},
        {"good_after_s": 0.0},
    ],
)
def test_what_only_looks_broken_is_taken(values: dict[str, Any]) -> None:
    uplink(**values)


def test_a_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(BadValues, match="key: needs cert"):
        UplinkTls(key="k")
    with pytest.raises(BadValues, match="ca_file: must not be empty"):
        UplinkTls(ca_file="")


def test_one_link_for_all_is_named_after_the_box() -> None:
    assert uplink(publish="all").links("plant-7", ["git", "plc"]) == {"plant-7": None}
    assert uplink(publish="all", link_name="x").links("plant-7", ["git"]) == {"x": None}


def test_one_link_for_each_server_is_named_after_the_box_and_the_server() -> None:
    assert uplink().links("plant-7", ["git", "plc"]) == {"plant-7-git": "git", "plant-7-plc": "plc"}
    assert uplink(servers=("plc",), link_name="x").links("plant-7", ["git", "plc"]) == {"x-plc": "plc"}


def test_only_secure_schemes_count_as_tls() -> None:
    seen = {url: uplink(url=f"{url}://hub").is_tls for url in ("http", "https", "ws", "wss")}
    assert seen == {"http": False, "https": True, "ws": False, "wss": True}


def test_nothing_that_came_from_the_environment_is_shown() -> None:
    secret = Expanded("https://hub/hunter2?k=hunter2", "https://hub/${X}?k=${X}", ("hunter2",))
    proxy = Expanded("http://u:hunter2@p:1", "http://u:${X}@p:1", ("hunter2",))
    it = uplink(url=secret, proxy=proxy, token=Secret("hunter2"))
    assert it.shown_url == "https://hub/${X}"
    assert "hunter2" not in repr(it)
