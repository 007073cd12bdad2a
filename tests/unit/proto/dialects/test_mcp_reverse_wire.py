import pytest

from edge.proto.dialects.mcp_reverse import wire


def test_a_session_id_can_be_read() -> None:
    assert wire.session_id("office-server", 1795167041897, "mi4vhp1") == "office-server-1795167041897-mi4vhp1"


@pytest.mark.parametrize("name", ["a", "Plant-7.b_c", "x" * 128])
def test_a_name_that_fits_everywhere_is_legal(name: str) -> None:
    assert wire.is_legal_name(name)


@pytest.mark.parametrize("name", ["", "a b", "ä", "a\n", "x" * 129, "a/b"])
def test_a_name_that_does_not_fit_a_header_is_not(name: str) -> None:
    assert not wire.is_legal_name(name)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer secret", "secret"),
        ("bEARER   secret ", "secret"),
        ("secret", "secret"),
        ("", ""),
        ("Bearers", "Bearers"),
    ],
)
def test_the_word_bearer_may_be_missing(header: str, token: str) -> None:
    assert wire.token_of(header) == token


@pytest.mark.parametrize(
    ("base", "stream"),
    [
        ("", "/sse?server_name=b"),
        ("/", "/sse?server_name=b"),
        ("/x/", "/x/sse?server_name=b"),
        ("/x//", "/x//sse?server_name=b"),
    ],
)
def test_one_slash_at_the_end_of_the_base_is_stripped(base: str, stream: str) -> None:
    assert wire.stream_target(base, "b", {}) == stream


def test_a_session_is_escaped_in_the_query() -> None:
    assert wire.message_target("/x", "a/b&c") == "/x/message?sessionId=a%2Fb%26c"


def test_the_stream_names_its_session_in_the_head() -> None:
    assert wire.stream_headers("s-1")["X-Session-Id"] == "s-1"
