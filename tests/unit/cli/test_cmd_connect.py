"""`mcp-edge connect`: options, variables and a file become one config, and problems bear the options' names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.cli.arguments import UsageError, parse_arguments
from edge.cli.cmd_connect import config_of, gathered
from edge.config.model import EdgeConfig, HttpServerConfig, StdioServerConfig
from edge.errors import ConfigError

BASE = ("--stdio", "uvx mcp-server-git -r /srv", "--to", "https://gw.example.com")


def options(*words: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    return gathered(parse_arguments(["connect", *words]), env or {})


def config(*words: str, env: Mapping[str, str] | None = None) -> EdgeConfig:
    return config_of(options(*words, env=env), env or {}, [])


def problems(*words: str, env: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        config(*words, env=env)
    return [(problem.place, problem.text) for problem in caught.value.problems]


def test_a_command_and_a_gateway_are_enough() -> None:
    found = config(*BASE)
    [server] = found.servers.values()
    assert isinstance(server, StdioServerConfig)
    assert (server.name, server.command) == ("mcp-server-git", ("uvx", "mcp-server-git", "-r", "/srv"))
    [uplink] = found.uplinks.values()
    assert (uplink.dialect, uplink.url, uplink.publish) == ("contextforge", "https://gw.example.com", "all")
    assert uplink.link_name.endswith("-mcp-server-git")
    assert (uplink.reconnect.first_s, uplink.reconnect.max_attempts) == (1.0, 0)
    assert not found.gateway.enabled
    assert not found.admin.enabled


def test_contextforges_names_mean_the_same() -> None:
    words = (
        "--local-stdio",
        "./serve",
        "--gateway",
        "gw.example.com",
        "--token",
        "t0ken",
        "--reconnect-delay",
        "3",
    )
    found = config(*words, "--max-retries", "5", "--keepalive", "20")
    [uplink] = found.uplinks.values()
    assert uplink.url == "wss://gw.example.com"
    assert uplink.token is not None
    assert uplink.token.reveal() == "t0ken"
    assert (uplink.reconnect.first_s, uplink.reconnect.max_attempts, uplink.heartbeat_s) == (3.0, 5, 20.0)


def test_contextforges_variables_stand_in_for_options() -> None:
    env = {
        "REVERSE_PROXY_GATEWAY": "http://gw:4444",
        "REVERSE_PROXY_TOKEN": "from-env",
        "REVERSE_PROXY_MAX_RETRIES": "7",
        "REVERSE_PROXY_LOG_LEVEL": "WARNING",
    }
    found = config("--stdio", "x", env=env)
    [uplink] = found.uplinks.values()
    assert (uplink.url, uplink.reconnect.max_attempts) == ("http://gw:4444", 7)
    assert uplink.token is not None
    assert uplink.token.reveal() == "from-env"
    assert options("--stdio", "x", env=env)["log_level"] == "warning"


def test_the_command_line_wins_over_variables_and_they_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text(
        json.dumps({"local-stdio": "./file", "gateway": "http://file", "keepalive": 5, "name": "f"})
    )
    env = {"REVERSE_PROXY_GATEWAY": "http://env", "REVERSE_PROXY_TOKEN": "from-env"}
    found = options("--config", str(file), "--stdio", "./line", "--token-env", "MINE", env=env)
    assert found["local_stdio"] == "./line"
    assert found["gateway"] == "http://env"
    assert (found["keepalive"], found["name"]) == (5, "f")
    assert "token" not in found
    assert found["token_env"] == "MINE"


def test_a_toml_file_does_as_well(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text('local_http = "http://127.0.0.1:3000/mcp"\ngateway = "http://gw"\n')
    found = config("--config", str(file))
    [server] = found.servers.values()
    assert isinstance(server, HttpServerConfig)
    assert server.url == "http://127.0.0.1:3000/mcp"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway: http://gw\n", "neither JSON nor TOML"),
        ('{"gatewy": "x"}', "unknown key gatewy"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "options"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        options("--config", str(file))
    [problem] = caught.value.problems
    assert problem.place == str(file)
    assert said in problem.text


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        options("--config", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "http://gw"), "--stdio COMMAND is missing"),
        (("--stdio", "x"), "--to URL is missing"),
        (("--stdio", "x", "--http", "http://y", "--to", "http://gw"), "one of them"),
        ((*BASE, "--log-level", "loud"), "loud is none of"),
    ],
)
def test_a_wrong_command_line_is_told_what_it_lacks(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        options(*words)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("--stdio", "'", "--to", "http://gw"), "--stdio"),
        (("--stdio", "", "--to", "http://gw"), "--stdio"),
        (("--stdio", "x", "--to", "ftp://gw"), "--to"),
        (("--stdio", "x", "--to", "http://gw", "--token-env", "NOT_SET"), "--token-env"),
        (("--stdio", "x", "--to", "http://gw", "--token-file", "/nowhere"), "--token-file"),
        ((*BASE, "--keepalive", "often"), "--keepalive"),
        ((*BASE, "--keepalive", "0"), "--keepalive"),
        ((*BASE, "--max-retries", "-1"), "--reconnect-delay, --max-retries"),
        ((*BASE, "--header", "no colon"), "--header"),
        ((*BASE, "--name", "a b"), "--name"),
        ((*BASE, "--proxy", "ftp://p"), "--proxy"),
        ((*BASE, "--ca-file", "/nowhere.pem"), "--ca-file"),
    ],
)
def test_a_wrong_value_is_said_with_the_options_name(words: tuple[str, ...], place: str) -> None:
    assert {where for where, _ in problems(*words)} == {place}


def test_headers_name_proxy_and_authority_are_passed_on(tmp_path: Path) -> None:
    found = config(
        *BASE, "--header", "X-Site: plant: 7", "--name", "me", "--proxy", "none", "--dialect", "long-poll"
    )
    [uplink] = found.uplinks.values()
    assert (dict(uplink.headers), uplink.link_name, uplink.proxy) == ({"X-Site": "plant: 7"}, "me", "none")
    assert uplink.dialect == "long-poll"


def test_a_secret_in_the_command_is_not_what_the_server_and_its_link_are_called() -> None:
    words = "env GITHUB_TOKEN=ghp_abcdef123456 npx -y @scope/server-github"
    found = config("--stdio", words, "--to", "wss://g.example.com", "--token", "t")
    [uplink] = found.uplinks.values()
    assert list(found.servers) == ["server-github"]
    assert uplink.link_name.endswith("-server-github")
    assert "ghp_" not in uplink.link_name


@pytest.mark.parametrize("text", ["inf", "nan", "1e999", "many"])
def test_what_is_no_number_is_told_by_the_options_name(text: str) -> None:
    for option in ("--max-retries", "--keepalive", "--reconnect-delay"):
        assert problems(*BASE, option, text) == [(option, "must be a number")]


def test_half_an_attempt_is_none() -> None:
    assert problems(*BASE, "--max-retries", "0.5") == [("--max-retries", "must be a whole number")]


@pytest.mark.parametrize("command", [5, {"a": 1}, True])
def test_a_command_in_a_file_is_a_string_or_a_list(tmp_path: Path, command: object) -> None:
    path = tmp_path / "options.json"
    path.write_text(json.dumps({"local_stdio": command, "gateway": "https://gw.example.com"}))
    with pytest.raises(ConfigError, match="must be a string, or a list of strings"):
        config("--config", str(path))
