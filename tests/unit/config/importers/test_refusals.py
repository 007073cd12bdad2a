"""What in a foreign file is no good, each with its place; and what is unusual and still carried over."""

import json
from typing import Any

import pytest

from edge.config.importers.formats import Imported, import_text
from edge.errors import ConfigError


def client(**server: Any) -> str:
    return json.dumps({"mcpServers": {"a": server}})


def stead(**server: Any) -> str:
    return json.dumps({"servers": [{"name": "a", "url": "http://h", **server}]})


def imported(text: str, name: str | None = None) -> Imported:
    return import_text(text, source="f", name=name)


def notes(text: str, name: str | None = None) -> list[str]:
    return [f"{note.kind}: {note.place}: {note.text}" for note in imported(text, name).notes]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (client(command="x", args="y"), "mcpServers.a.args: must be a list of strings, not a string"),
        (client(command="x", args=[{}]), "mcpServers.a.args[0]: must be a string, not a table"),
        (client(command="x", env=[]), "mcpServers.a.env: must be a table of strings, not a list"),
        (client(command="x", env={"A": []}), "mcpServers.a.env.A: must be a string, not a list"),
        (client(command=""), "mcpServers.a.command: must not be empty"),
        (client(type="stdio"), "mcpServers.a.command: is missing"),
        (
            client(command="x 'y"),
            "mcpServers.a.command: cannot be split into words: a quotation does not end",
        ),
        (client(url="http://h", type="telepathy"), "mcpServers.a.type: is no transport known here"),
        (client(url=3), "mcpServers.a.url: must be a string, not an integer"),
        (client(command="x", timeout="soon"), "mcpServers.a.timeout: must be a number, not a string"),
        (client(command="x", disabled=1), "mcpServers.a.disabled: must be true or false, not an integer"),
        ('{"mcpServers": {}, "inputs": 1}', "inputs: must be a list, not an integer"),
        ('{"mcpServers": {}, "inputs": [1]}', "inputs[0]: must be a table, not an integer"),
        (stead(protocol="ws"), "servers[0].protocol: must be streamable, sse or auto"),
        (stead(auth=1), "servers[0].auth: must be none, or a table with type and token_env"),
        (stead(auth={"type": "basic"}), "servers[0].auth.type: must be none or bearer"),
        (
            stead(auth={"type": "bearer"}),
            "servers[0].auth.token_env: is missing: bearer needs the variable with the token",
        ),
        (stead(quirks=1), "servers[0].quirks: must be a table, not an integer"),
        ('{"servers": [{"url": "http://h"}]}', "servers[0].name: is missing"),
        ('{"local_stdio": "x"}', "names no gateway, the URL to connect to"),
        (
            '{"local_stdio": "x \'y", "gateway": "g"}',
            "local_stdio: cannot be split into words: a quotation does not end",
        ),
        (
            '{"local_stdio": [], "gateway": "g"}',
            "local_stdio: must be a command: a string, or a list of strings",
        ),
        ('{"gateway": "g"}', "names no server: local_stdio is the command that starts it"),
        ('{"local_http": 3, "gateway": "g"}', "local_http: must be a string, not an integer"),
        ('{"local_stdio": "x", "gateway": "g", "keepalive": 1e999}', "keepalive: must be a finite number"),
        ('{"upstreams": []}', "upstreams: must name at least one upstream"),
        ('{"upstreams": [{"name": "a"}]}', "upstreams[0].url: is missing"),
        ('{"upstreams": [{"url": "http://h"}]}', "upstreams[0].name: is missing"),
        ('{"upstreams": [{"name": "a", "url": "http://h", "type": "x"}]}', "upstreams[0].type: must be http"),
        (
            '{"upstreams": [{"name": "a", "url": "http://h", "auth": {"apiKey": {"header": "x"}}}]}',
            "upstreams[0].auth.apiKey: needs header and value",
        ),
        (
            '{"upstreams": [{"name": "a", "url": "http://h"}], "server": {"host": "a b"}}',
            "server.port: the host",
        ),
        (
            '{"upstreams": [{"name": "a", "url": "http://h"}], "server": {"path": "x"}}',
            "server.path: must be a path that starts with / and does not end with it, as in /mcp",
        ),
    ],
)
def test_it_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(text)
    assert any(str(problem).startswith(f"f:1: {said}") for problem in caught.value.problems), caught.value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            client(command="x", args=["${workspaceFolder}/y"]),
            "set the environment variable WORKSPACE_FOLDER: there is no workspace",
        ),
        (
            client(command="x", env={"A": "${unknown:x}"}),
            "put in the value of its placeholder by hand: it is not known here, and stays as it is",
        ),
        (
            client(command="~/x"),
            "no shell runs it, so ~ does not become the home directory: write the whole path",
        ),
        (
            client(command="x", url="http://h", type="stdio"),
            "mcpServers.a.url: is not used: this server is started by its command",
        ),
        (
            client(command="x", cwd="here"),
            "set cwd to an absolute path without placeholders: this one is none",
        ),
        (client(url="http://h", env={}), "mcpServers.a.env: is for servers that are started"),
        (
            client(url="http://h", headers={"X-Token": ""}),
            "mcpServers.a.headers.X-Token: is left out: it has no value",
        ),
        (
            client(command="x", **dict.fromkeys("bcdefgh", 1)),
            "mcpServers.a: 7 keys (b, c, d, e, f, …): each is left out",
        ),
        (
            '{"mcp": {"servers": {}, "discovery": 1}}',
            "mcp.discovery: is left out: mcp-edge knows no such key (`mcp-edge help config` has all)",
        ),
        (
            '{"projects": {"/x": {}}, "mcpServers": {}}',
            "projects: servers of single projects are not looked at",
        ),
        (stead(name="a__b"), "servers[0].name: is called a_b here, and its tools a_b__TOOL"),
        (
            stead(auth={"type": "bearer", "token": "x"}),
            "set the environment variable A_TOKEN to its bearer token",
        ),
        (
            stead(auth={"type": "bearer", "token_env": "T"}, headers={"authorization": "x"}),
            "servers[0].headers.authorization: is left out: it is made from the bearer token",
        ),
        (
            '{"servers": [{"name": "a", "url": "http://h"}], "metrics": {"enabled": false}}',
            "switches off health, too",
        ),
        (
            '{"servers": [{"name": "a", "url": "http://h"}], "logging": {"level": "loud"}}',
            "is no level of ours",
        ),
        ('{"local_http": "http://h", "name": "a b", "gateway": "g"}', "name: is called a-b here"),
        ('{"local_stdio": "x", "local_http": "http://h", "gateway": "g"}', "local_http: is not used"),
        ('{"upstreams": [{"name": "a b", "url": "http://h"}]}', "upstreams[0].name: is called a-b here"),
        (
            '{"upstreams": [{"name": "a", "url": "http://h"}, {"name": "a", "url": "http://i"}]}',
            "upstreams[1].name: another one has this name, and there only that one was used",
        ),
    ],
)
def test_it_is_carried_over_with_a_note(text: str, line: str) -> None:
    assert any(line in note for note in notes(text)), notes(text)


def test_a_number_in_quotes_is_a_number_and_nulls_are_absent() -> None:
    text = imported(client(command="x", timeout="30", env=None, args=None, cwd=None)).text
    assert "call_timeout_s = 30" in text
    assert "env" not in text


def test_a_slash_placeholder_is_a_slash() -> None:
    text = imported(client(command="x", env={"P": "a${/}b${pathSeparator}c"})).text
    assert 'env = { P = "a/b/c" }' in text


def test_a_variable_that_env_has_with_another_value_gets_another_name_for_the_command() -> None:
    text = imported(client(command="x", args=["${A}"], env={"A": "other"})).text
    assert 'command = ["sh", "-c", "exec x \\"${A_ARG}\\""]' in text
    assert 'env = { A = "other", A_ARG = "${A}" }' in text


def test_a_header_among_the_arguments_keeps_its_name() -> None:
    text = imported(
        client(command="x", args=["--header", "Authorization: Bearer hunter2", "Note: hello"])
    ).text
    assert "'Authorization: '\\\"${A_AUTHORIZATION}\\\" 'Note: hello'" in text


def test_a_server_that_is_called_for_a_gateway_becomes_an_http_server() -> None:
    text = imported('{"local_http": "http://127.0.0.1:3000/mcp", "gateway": "g", "verbose": true}').text
    assert '[servers.server]\nurl = "http://127.0.0.1:3000/mcp"' in text
    assert 'level = "debug"' in text


def test_gateways_that_have_no_name_get_one() -> None:
    text = imported('{"local_stdio": "npx -y @x/y@1", "gateway": "http://10.0.0.7:4444"}').text
    assert "[uplinks.gateway]" in text
    assert "[servers.y]" in text


def test_hundreds_of_equal_names_are_told_apart() -> None:
    servers = {f"a{' ' * n}b": {"command": "x"} for n in range(1, 30)}
    assert imported(json.dumps({"mcpServers": servers})).n_servers == 29


def test_a_merge_that_is_a_list_takes_the_first_and_own_keys_win() -> None:
    text = "x: &a {command: one, args: [b]}\ny: &c {command: two, cwd: /x}\n"
    text += "mcpServers:\n  s: {<<: [*a, *c], args: [d]}\n"
    shown = imported(text).text
    assert 'command = ["one", "d"]' in shown
    assert 'cwd = "/x"' in shown
