"""Which format a file is taken for, and what is said when it is none or no good."""

import json

import pytest

from edge.cli.arguments import FORMAT_NAMES
from edge.config.importers.formats import FORMATS, import_text
from edge.errors import ConfigError


def problems(text: str, name: str | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        import_text(text, source="f", name=name)
    return [str(problem) for problem in caught.value.problems]


def config(text: str, name: str | None = None) -> str:
    return import_text(text, source="f", name=name).text


def test_the_command_line_names_the_formats_there_are() -> None:
    assert tuple(FORMATS) == FORMAT_NAMES


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"mcpServers": {}}', "mcp-servers"),
        ('{"servers": {}, "inputs": []}', "mcp-servers"),
        ('{"editor.fontSize": 12, "mcp": {"servers": {"a": {"command": "x"}}}}', "mcp-servers"),
        ('{"a": {"command": "x"}, "b": {"url": "http://h"}}', "mcp-servers"),
        ("mcpServers:\n  a: {command: x}\n", "mcp-servers"),
        ("local_stdio: x\ngateway: h\n", "contextforge"),
        ("servers:\n- {command: x, gateway: h}\n", "contextforge"),
        ("servers:\n- {name: a, url: 'http://h'}\n", "mcpstead"),
        ("mcp: {session: {}}\n", "mcpstead"),
        ("upstreams:\n- {name: a, url: 'http://h'}\n", "mcp-gateway"),
    ],
)
def test_a_format_is_known_by_its_keys(text: str, name: str) -> None:
    assert import_text(text, source="f").format.name == name


def test_a_file_in_no_known_format_is_told_what_was_looked_for() -> None:
    (said,) = problems("a: 1\n")
    assert said.startswith(
        "f: is in no format known here. Looked for mcp-servers: a table mcpServers, servers"
    )
    assert "mcp-gateway: a list upstreams[]" in said


def test_a_file_that_could_be_two_is_told_why_and_can_be_decided() -> None:
    text = "servers:\n- {name: a, url: 'http://h/', gateway: 'http://g'}\n"
    assert problems(text) == [
        "f: could be contextforge (servers[] with command or gateway), mcpstead (servers[] with url):"
        " say which with --format"
    ]
    assert "[servers.a]" in config(text, "mcpstead")
    assert "[uplinks.g]" in config(text, "contextforge")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" \n", "f: is empty"),
        (
            "[servers.git]\ncommand = ['x']\n",
            "f: is TOML, as configs of mcp-edge are: try `mcp-edge validate -c FILE`",
        ),
        ("just words\n", "f: holds no table at its top; a config file was expected"),
        ("[]", "f: holds no table at its top; a config file was expected"),
    ],
)
def test_what_is_no_foreign_config_is_said(text: str, said: str) -> None:
    assert problems(text) == [said]


def test_every_problem_is_said_with_its_place_in_the_foreign_file() -> None:
    text = '{"mcpServers": {\n"a": {"command": 5},\n"b": {"args": []},\n"c": {"url": "ftp://h", "type": "http"}}}'
    assert problems(text) == [
        "f:2: mcpServers.a.command: must be a string, not an integer",
        "f:2: mcpServers.a.command: is missing",
        "f:3: mcpServers.b: needs command (a server to start) or url (a server to call)",
    ]


def test_a_rule_of_ours_that_is_broken_is_said_with_the_foreign_place() -> None:
    text = '{"mcpServers": {\n"c": {"url": "ftp://h"},\n"d": {"url": "http://h", "headers": {"a b": "x"}}}}'
    assert problems(text) == [
        "f:2: mcpServers.c.url: must start with http:// or https://",
        'f:3: mcpServers.d.headers."a b": is not a header name',
    ]


def test_equal_names_become_different_ones() -> None:
    text = config(
        '{"mcpServers": {"a b": {"command": "x"}, "a-b": {"command": "y"}, "a  b": {"command": "z"}}}'
    )
    assert [line for line in text.splitlines() if line.startswith("[servers.")] == [
        "[servers.a-b]",
        "[servers.a-b-2]",
        "[servers.a-b-3]",
    ]


def test_two_secrets_of_one_name_get_two_variables() -> None:
    servers = ", ".join(
        f'"{name}": {{"command": "x", "env": {{"API_KEY": "{key}"}}}}'
        for name, key in zip("abc", "121", strict=True)
    )
    result = import_text(f'{{"mcpServers": {{{servers}}}}}', source="f")
    assert list(result.variables) == ["API_KEY", "B_API_KEY"]
    assert result.text.count("${API_KEY}") == 2


def test_a_variable_that_the_file_names_is_not_taken_for_one_of_its_secrets() -> None:
    servers = (
        '"a": {"command": "x", "env": {"TOKEN": "s3cret"}}, "b": {"command": "x", "env": {"T": "${TOKEN}"}}'
    )
    result = import_text(f'{{"mcpServers": {{{servers}}}}}', source="f")
    assert 'env = { TOKEN = "${A_TOKEN}" }' in result.text
    assert 'env = { T = "${TOKEN}" }' in result.text


def test_a_secret_argument_reaches_the_server_by_the_environment_of_a_shell() -> None:
    text = config('{"mcpServers": {"a": {"command": "x y/z", "args": ["it\'s", "", "--key=hunter2"]}}}')
    assert (
        'command = ["sh", "-c", "exec x y/z \'it\'\\"\'\\"\'s\' \'\' --key=\\"${A_KEY}\\""]'
        in text.replace("'x y/z'", "x y/z")
    )
    assert 'env = { A_KEY = "${A_KEY}" }' in text
    assert "hunter2" not in text


def test_a_secret_in_a_command_is_not_what_the_server_is_called() -> None:
    secret = "ghp_abcdefghijklmnop1234"
    text = f'local_stdio: "env GITHUB_TOKEN={secret} npx -y server-github"\ngateway: wss://g.example.com\n'
    result = import_text(text, source="f")
    assert "[servers.server-github]" in result.text
    said = [result.text, *result.variables, *(f"{note.place} {note.text}" for note in result.notes)]
    assert not any("ghp" in each.lower() for each in said)


@pytest.mark.parametrize(
    ("server", "kept"),
    [
        (
            {"command": "npx", "args": ["mcp-remote", "https://h.example.com/sse?a=1&api_key=hunter2"]},
            "mcp-remote 'https://h.example.com/sse?a=1&api_key='",
        ),
        ({"command": "npx", "args": ["x", "--url=https://h.example.com/?token=hunter2"]}, "--url=https://h"),
        ({"command": "npx", "args": ["x", "--header=Authorization: Bearer hunter2"]}, "Authorization: "),
        ({"command": "npx", "args": ["x", "--config", '{"token":"hunter2"}']}, "--config"),
        ({"command": "npx", "args": ["x", '--config={"token":"hunter2"}']}, "--config="),
        ({"command": "npx", "args": ["x", "--conn", "Server=db;User=sa;Password=hunter2"]}, "--conn"),
        ({"command": "npx", "args": ["x", "--api-key", "hunter2="]}, "--api-key"),
        ({"command": "x", "env": {"BASIC_AUTH": "admin:hunter2"}}, "BASIC_AUTH"),
        ({"command": "x", "env": {"CONNECTION_STRING": "Server=db;Password=hunter2"}}, "CONNECTION_STRING"),
        ({"url": "https://h.example.com/mcp", "headers": {"X-Auth": "hunter2"}}, "X-Auth"),
    ],
)
def test_no_secret_of_the_file_gets_into_the_config(server: dict[str, object], kept: str) -> None:
    result = import_text(json.dumps({"mcpServers": {"a": server}}), source="f")
    assert "hunter2" not in result.text
    assert kept in result.text
    assert len(result.variables) == 1
