"""Host and Origin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.address import Address
from edge.config.host_header import is_allowed_host, is_allowed_origin
from edge.gate.origin import MAX_REMEMBERED, Foreign, Origins, is_loopback

LOOPBACK = Origins(["127.0.0.1:8766"])
PUBLIC = Origins(
    ["192.0.2.7:8766", "[2001:DB8::1]:8443", "Edge.lan:443"],
    allowed_hosts=["example.com", "api.example.com:8443", "*.Plant.example"],
    allowed_origins=["https://app.example.com", "http://[2001:db8::2]:80", "null", "vscode-webview://ABC"],
)


def status(found: Foreign | None) -> int | None:
    return found.status if found else None


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:8766", "[::1]:8766", "localhost:8766", "unix:/run/x.sock", "0.0.0.0:1", "[::]:1"]
)
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8766", "127.0.0.1:1", "127.9.9.9", "[::1]", "[0:0::1]:99"]
)
async def test_loopback_names_are_ours_where_loopback_reaches_us(listen: str, host: str) -> None:
    assert Origins([listen]).check(host, None) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8766",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0:8766",
        "[::]:8766",
    ],
)
async def test_a_name_that_was_rebound_to_us_is_refused(host: str) -> None:
    assert LOOPBACK.check(host, None) == Foreign(
        421, "host", "this Host is not served here (gateway.allowed_hosts)"
    )
    assert status(Origins(["0.0.0.0:8766"]).check(host, None)) == 421


async def test_where_no_other_host_can_be_allowed_no_key_is_named() -> None:
    found = Origins(["127.0.0.1:9766"], hosts_key="").check("evil.example", None)
    assert found == Foreign(421, "host", "this Host is not served here")


async def test_a_missing_host_is_refused() -> None:
    assert LOOPBACK.check(None, None) == Foreign(421, "host", "a Host header is required")


@pytest.mark.parametrize(
    "host",
    [
        "",
        " localhost",
        "localhost ",
        "localhost, localhost",
        "user@localhost",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:١",
        "localhost:8766:1",
        "localhost/x",
        "::1",
        "[::1",
        "[1::1::1]",
        "[127.0.0.1]",
        "local\nhost",
        "localhost\n",
        ".localhost",
        "a..b",
        "ü.example",
        "a" * 513,
    ],
)
async def test_a_host_that_is_none_is_refused(host: str) -> None:
    assert LOOPBACK.check(host, None) == Foreign(
        421, "host", "the Host header is not a host, maybe with a port"
    )


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.7:8766",
        "[2001:db8:0::1]:8443",
        "EDGE.LAN:443",
        "example.com",
        "Example.COM:1234",
        "api.example.com:8443",
        "a.plant.example",
        "a.b.plant.example:99",
    ],
)
async def test_a_public_listener_goes_by_its_own_address_and_the_allowed_hosts(host: str) -> None:
    assert PUBLIC.check(host, None) is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost:8766",
        "127.0.0.1:8766",
        "192.0.2.7",
        "192.0.2.7:8767",
        "edge.lan",
        "api.example.com",
        "www.example.com",
        "plant.example",
        "xplant.example",
    ],
)
async def test_a_public_listener_refuses_all_other_names(host: str) -> None:
    assert status(PUBLIC.check(host, None)) == 421


async def test_a_host_without_a_port_means_the_schemes_own() -> None:
    assert PUBLIC.check("edge.lan", None, "https") is None
    assert status(PUBLIC.check("edge.lan", None, "http")) == 421
    assert status(PUBLIC.check("edge.lan", None, "unix")) == 421
    assert Origins(["192.0.2.7:80"]).check("192.0.2.7", None) is None


async def test_a_port_in_allowed_hosts_binds_a_wildcard_too() -> None:
    origins = Origins(["192.0.2.7:1"], allowed_hosts=["*.example.com:8443"])
    assert origins.check("a.example.com:8443", None) is None
    assert status(origins.check("a.example.com:8444", None)) == 421


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "https://127.0.0.1:8766",
        "HTTP://[::1]:9",
        "http://127.1.2.3",
    ],
)
async def test_pages_of_this_machine_are_welcome_at_a_loopback_listener_only(origin: str) -> None:
    assert LOOPBACK.check("localhost:8766", origin) is None
    assert Origins(["unix:/run/x.sock"]).check("localhost", origin) is None
    for listen in ("0.0.0.0:8766", "192.0.2.7:8766"):
        refused = Origins([listen], allowed_hosts=["example.com"]).check("example.com", origin)
        assert refused == Foreign(403, "origin", "this Origin is not allowed here (gateway.allowed_origins)")


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example@localhost",
        "http://localhost/",
        "http://localhost:3000, http://localhost:3000",
        "http://",
        "ftp://localhost",
        "localhost",
        "http:localhost",
        "vscode-webview://abc",
        "a b",
        "http://localhost:99999",
        "x" * 513,
    ],
)
async def test_any_other_origin_is_refused_unless_it_is_listed(origin: str) -> None:
    assert status(LOOPBACK.check("localhost:8766", origin)) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "HTTPS://APP.example.com:443",
        "http://[2001:db8::2]",
        "null",
        "vscode-webview://abc",
    ],
)
async def test_a_listed_origin_is_welcome_in_any_spelling_of_the_same(origin: str) -> None:
    assert PUBLIC.check("example.com", origin) is None


@pytest.mark.parametrize(
    "origin", ["http://app.example.com", "https://app.example.com:8443", "https://b.app.example.com"]
)
async def test_a_listed_origin_is_meant_with_its_scheme_and_port(origin: str) -> None:
    assert status(PUBLIC.check("example.com", origin)) == 403


async def test_a_good_origin_does_not_excuse_a_foreign_host() -> None:
    assert status(LOOPBACK.check("evil.example", "http://localhost")) == 421


async def test_addresses_may_come_parsed() -> None:
    assert Origins([Address(host="127.0.0.1", port=1)]).check("localhost", None) is None


@pytest.mark.parametrize(("hosts", "origins"), [(["http://x"], []), ([], ["https://x/"])])
async def test_what_the_config_would_have_refused_is_a_bug(hosts: list[str], origins: list[str]) -> None:
    with pytest.raises(ValueError, match="neither a host nor an origin"):
        Origins(["127.0.0.1:1"], allowed_hosts=hosts, allowed_origins=origins)


@given(st.from_regex(r"(null|https?://[a-z0-9.:\[\]-]{1,20}|[a-z]{1,5}://[a-z.:]{1,9})", fullmatch=True))
def test_whatever_origin_the_config_takes_is_taken_here(text: str) -> None:
    if is_allowed_origin(text):
        Origins(["127.0.0.1:1"], allowed_origins=[text])


@given(st.from_regex(r"(\*\.)?[a-z0-9.:\[\]_-]{1,20}", fullmatch=True))
def test_whatever_host_the_config_takes_is_taken_here(text: str) -> None:
    if is_allowed_host(text):
        Origins(["127.0.0.1:1"], allowed_hosts=[text])


async def test_only_addresses_and_localhost_are_loopback_for_sure() -> None:
    assert is_loopback("localhost")
    assert not is_loopback("my.localhost")
    assert not is_loopback("128.0.0.1")


def test_a_host_that_passed_is_remembered_for_requests_without_an_origin_only() -> None:
    origins = Origins(["127.0.0.1:8766"])
    assert origins.check("localhost:8766", None) is None
    assert origins.check("localhost:8766", None) is None
    refused = origins.check("localhost:8766", "https://evil.example")
    assert refused is not None
    assert refused.status == 403


def test_how_many_hosts_are_remembered_is_bounded_and_the_others_pass_all_the_same() -> None:
    origins = Origins(["127.0.0.1:8766"])
    for port in range(1, 2 * MAX_REMEMBERED):
        assert origins.check(f"localhost:{port}", None) is None
