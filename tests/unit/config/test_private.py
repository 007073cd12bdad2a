"""What is taken for a secret."""

import pytest

from edge.config.private import is_private, is_token, secrets_within, variable_name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "hunter2"),
        ("apiKey", "x"),
        ("GITHUB_TOKEN", "x"),
        ("DB_PASSWORD", "1234"),
        ("Authorization", "Bearer x"),
        ("X-Api-Key", "k"),
        ("ANY", "ghp_0123456789abcdef"),
        ("BASIC_AUTH", "admin:hunter2"),
        ("X-Auth", "hunter2"),
        ("CONNECTION_STRING", "Server=db;User=sa;Password=hunter2"),
        ("config", '{"token": "hunter2"}'),
        ("header", "Authorization: Bearer x"),
        ("DATABASE_URL", "postgres://user:pw@host/db"),
        ("ID", "0123456789abcdefghij"),
        ("WORKSPACE", "123e4567-e89b-12d3-a456-426614174000"),
    ],
)
def test_this_is_a_secret(name: str, value: str) -> None:
    assert is_private(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", ""),
        ("MAX_TOKENS", "4096"),
        ("KEYBOARD", "us"),
        ("AUTHOR", "x"),
        ("TOKEN_FILE", "/run/token"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/google.json"),
        ("USE_TOKEN", "true"),
        ("AUTH_MODE", "x"),
        ("PROXY_AUTH", "basic"),
        ("OPTIONS", "a=1;b=2"),
        ("CONFIG", '{"tokens": 5, "name": "x"'),
        ("PATH", "/usr/local/bin:/usr/bin"),
        ("PACKAGE", "@modelcontextprotocol/server-filesystem@2025.12.18"),
        ("IMAGE", "mcp/git@sha256:0123456789abcdef0123456789abcdef"),
    ],
)
def test_this_is_none(name: str, value: str) -> None:
    assert not is_private(name, value)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("jdbc:sqlserver://h:1433;user=sa;password=hunter2pw;", "hunter2pw"),
        ("Endpoint=sb://x.example.com/;SharedAccessKeyName=all;SharedAccessKey=abcdefg1", "abcdefg1"),
        ("DefaultEndpointsProtocol=https;AccountKey=abcdefg1;BlobEndpoint=https://x.example.com", "abcdefg1"),
        ("?token=SECRET12&x=a;b", "SECRET12"),
        ("https://x.example.com/?token=SECRET12&x=a;b", "SECRET12"),
        ("--header=Authorization: Bearer abcdefg1", "abcdefg1"),
        ("Bearer abcdefg1", "abcdefg1"),
        (" api-key  abcdefg1 ", "abcdefg1"),
        ("Basic dXNlcjpodW50ZXIy", "hunter2"),
    ],
)
def test_a_secret_is_found_wherever_it_stands_in_a_text(text: str, secret: str) -> None:
    assert secret in secrets_within(text)


def test_words_for_a_terminal_are_no_tokens() -> None:
    assert not any(
        map(is_token, ["--allow-write", "/srv/some/long/path/to/a/folder", "mcp-server-time", "http://h:80/"])
    )


@pytest.mark.parametrize(
    ("text", "name"), [("gh-token", "GH_TOKEN"), ("9x", "_9X"), ("ä", "SECRET"), ("a__b", "A_B")]
)
def test_a_variable_is_called_as_shells_allow(text: str, name: str) -> None:
    assert variable_name(text) == name
