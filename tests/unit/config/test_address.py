"""Listen addresses: what is read, what is refused, and which only this machine can reach."""

import pytest

from edge.config.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8766", Address(host="127.0.0.1", port=8766)),
        ("localhost:0", Address(host="localhost", port=0)),
        ("edge-7.example.com.:65535", Address(host="edge-7.example.com.", port=65535)),
        ("[::1]:80", Address(host="::1", port=80)),
        ("unix:/run/mcp-edge/mcp.sock", Address(unix_path="/run/mcp-edge/mcp.sock")),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be host:port"),
        ("8766", "must be host:port"),
        ("localhost:", "must be host:port"),
        ("localhost:http", "must be host:port"),
        ("localhost:65536", "must be host:port"),
        ("localhost:-1", "must be host:port"),
        ("localhost:٣", "must be host:port"),
        ("localhost:" + "9" * 5000, "must be host:port"),
        (":8766", r"0\.0\.0\.0:port"),
        ("::1:8766", "brackets"),
        ("[::1:8766", "brackets"),
        ("[127.0.0.1]:80", "not an IPv6 address"),
        ("256.0.0.1:80", "neither an IP address nor a host name"),
        (f"{'a' * 64}.example:80", "neither an IP address nor a host name"),
        ("a b:80", "neither an IP address nor a host name"),
        ("http//x:80", "neither an IP address nor a host name"),
        ("unix:mcp.sock", "absolute path"),
        ("unix:/a\0b", "absolute path"),
        ("unix:/" + "a" * 107, "at most 107 bytes"),
    ],
)
def test_what_is_no_address_is_refused_in_words_that_help(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "is_local"),
    [
        ("127.3.2.1:1", True),
        ("[::1]:1", True),
        ("[::ffff:10.0.0.1]:1", False),
        ("LOCALHOST.:1", True),
        ("edge.localhost:1", True),
        ("unix:/run/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.com:1", False),
    ],
)
def test_only_loopback_and_unix_sockets_are_local(text: str, is_local: bool) -> None:
    assert parse_address(text).is_local is is_local
