"""Which config file is used, how it is read, and what is warned of."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.cli.configfile import SYSTEM_CONFIG, find_config, placed_warnings, read_config, warnings_of
from edge.config.model import (
    AdminConfig,
    EdgeConfig,
    Expanded,
    GatewayConfig,
    HttpServerConfig,
    HubConfig,
    HubEdge,
    Secret,
    ServerConfig,
    ServerTlsConfig,
    StdioServerConfig,
    UplinkConfig,
    UplinkTls,
)
from edge.errors import ConfigError

NO_OPTION = argparse.Namespace(config=None)
is_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
has_system_config = pytest.mark.skipif(SYSTEM_CONFIG.exists(), reason=f"{SYSTEM_CONFIG} is there")


def problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(path, {})
    (only,) = caught.value.problems
    return str(only).replace(str(path), "FILE")


def test_the_option_wins_over_the_variable(tmp_path: Path) -> None:
    env = {"MCP_EDGE_CONFIG": "/from/variable", "HOME": str(tmp_path)}
    assert find_config(argparse.Namespace(config="/from/option"), env) == Path("/from/option")
    assert find_config(NO_OPTION, env) == Path("/from/variable")


@has_system_config
def test_the_config_of_the_user_is_found(tmp_path: Path) -> None:
    path = tmp_path / ".config/mcp-edge/config.toml"
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_config(NO_OPTION, {"HOME": str(tmp_path), "MCP_EDGE_CONFIG": ""}) == path


@has_system_config
def test_without_any_config_there_is_none(tmp_path: Path) -> None:
    assert find_config(NO_OPTION, {"HOME": str(tmp_path)}) is None
    assert find_config(NO_OPTION, {}) is None
    (tmp_path / "file").touch()
    assert find_config(NO_OPTION, {"HOME": str(tmp_path / "file")}) is None


@has_system_config
def test_a_config_that_cannot_be_looked_at_is_not_passed_over(tmp_path: Path) -> None:
    home = tmp_path / "loop"
    home.symlink_to(home)
    assert find_config(NO_OPTION, {"HOME": str(home)}) == home / ".config/mcp-edge/config.toml"


def test_a_config_is_read_with_its_secrets(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2\n")
    token.chmod(0o600)
    path = tmp_path / "c.toml"
    path.write_text(
        f'servers.a = {{ url = "http://${{HOST}}/", bearer_file = "{token}" }}', encoding="utf-8-sig"
    )
    warnings: list[str] = []
    server = read_config(path, {"HOST": "plc"}, warn=warnings.append).servers["a"]
    assert isinstance(server, HttpServerConfig)
    assert (server.url, server.bearer, warnings) == ("http://plc/", Secret("hunter2"), [])


def test_a_secret_that_everyone_can_read_is_warned_of_and_used(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2")
    token.chmod(0o644)
    path = tmp_path / "c.toml"
    path.write_text(f'servers.a = {{ url = "http://plc/", bearer_file = "{token}" }}')
    warnings: list[str] = []
    read_config(path, {}, warn=warnings.append)
    assert warnings == [f"{token}: everyone on this machine can read this secret; chmod 600 it"]
    read_config(path, {})


@pytest.mark.parametrize("data", [b"x" * 65_537, b"\xff\xfe"])
def test_a_secret_file_that_is_no_secret_is_refused(tmp_path: Path, data: bytes) -> None:
    token = tmp_path / "token"
    token.write_bytes(data)
    path = tmp_path / "c.toml"
    path.write_text(f'servers.a = {{ url = "http://plc/", bearer_file = "{token}" }}')
    assert problem(path).endswith(f"cannot read {token}: it is not a short UTF-8 text file")


def test_a_file_that_cannot_be_read_is_a_problem_of_the_config(tmp_path: Path) -> None:
    assert problem(tmp_path / "none.toml") == "FILE: cannot be read: No such file or directory"
    assert problem(tmp_path) == "FILE: cannot be read: Is a directory"
    assert "is not a name that a file can have" in problem(Path("a\0b"))


@is_root
def test_a_file_of_somebody_else_is_a_problem_of_the_config(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.touch(mode=0)
    assert problem(path) == "FILE: cannot be read: Permission denied"


def test_a_file_that_is_no_text_or_far_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"name = 'a'\n# \xff")
    assert problem(path) == "FILE:2: is not UTF-8 text"
    path.write_bytes(b"#" * 4_194_305)
    assert problem(path) == "FILE: is larger than 4194304 bytes"


def test_a_usual_config_has_nothing_to_warn_of() -> None:
    servers: dict[str, ServerConfig] = {
        "a": StdioServerConfig(name="a", command=("sh", "-c", "a; b && c")),
        "b": HttpServerConfig(name="b", url="http://localhost/", bearer=Secret("x")),
        "c": HttpServerConfig(name="c", url="https://plc/", bearer=Secret("x")),
        "d": HttpServerConfig(name="d", url="http://[::1]/", bearer=Secret("x")),
        "e": HttpServerConfig(name="e", url="http://plc/"),
    }
    assert warnings_of(EdgeConfig(servers=servers)) == []
    guarded = ServerTlsConfig(cert="c", key="k", client_ca="a")
    assert (
        warnings_of(EdgeConfig(servers=servers, gateway=GatewayConfig(listen=("192.0.2.1:1",), tls=guarded)))
        == []
    )


def test_all_that_is_unwise_is_warned_of() -> None:
    config = EdgeConfig(
        insecure_plain_secrets=True,
        gateway=GatewayConfig(listen=("127.0.0.1:1", "0.0.0.0:1"), insecure_public=True),
        admin=AdminConfig(listen="192.0.2.1:2"),
        servers={"a": HttpServerConfig(name="a", url="http://plc/", verify=False, bearer=Secret("x"))},
    )
    places = [text.partition(":")[0] for text in warnings_of(config)]
    assert places == [
        "insecure_plain_secrets",
        "gateway.insecure_public",
        "gateway.tls",
        "gateway.allowed_hosts",
        "admin.listen",
        "servers.a.verify",
        "servers.a.url",
    ]
    unused = AdminConfig(listen="192.0.2.1:2", enabled=False)
    assert warnings_of(EdgeConfig(admin=unused)) == [
        "servers: there is none, so clients find an empty endpoint"
    ]


def test_files_for_tls_that_cannot_be_used_are_problems_of_the_config_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        """[gateway]
tls = { cert = "/no/such/cert.pem", key = "/no/such/key.pem" }
[servers.a]
command = ["x"]
[servers.plc]
url = "https://plc/mcp"
ca_file = "/no/such/ca.pem"
[uplinks.hq]
dialect = "long-poll"
url = "https://hub"
tls = { cert = "/no/such/edge.pem" }
[hub]
listen = "127.0.0.1:8443"
tls = { cert = "/no/such/hub.pem", key = "/no/such/hub.key" }
[hub.webhook]
url = "https://auth"
ca_file = "/no/such/auth.pem"
"""
    )
    with pytest.raises(ConfigError) as caught:
        read_config(path, {})
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}:2: gateway.tls: TLS certificate /no/such/cert.pem cannot be read: No such file or directory",
        f"{path}:14: hub.tls: TLS certificate /no/such/hub.pem cannot be read: No such file or directory",
        f"{path}:7: servers.plc.ca_file: TLS CA /no/such/ca.pem cannot be read: No such file or directory",
        f"{path}:11: uplinks.hq.tls: TLS certificate /no/such/edge.pem cannot be read: No such file or directory",
        f"{path}:17: hub.webhook.ca_file: TLS CA /no/such/auth.pem cannot be read: No such file or directory",
    ]


def test_links_that_others_can_read_or_pose_in_are_warned_of() -> None:
    def uplink(name: str, url: str, tls: UplinkTls | None = None) -> UplinkConfig:
        return UplinkConfig(name=name, dialect="long-poll", url=url, tls=tls)

    uplinks = {
        "a": uplink("a", "http://hub"),
        "b": uplink("b", "https://hub", UplinkTls(verify=False)),
        "c": uplink("c", "http://127.0.0.1:1"),
    }
    edges = {"a": HubEdge(name="a", token_sha256=("1" * 64,))}
    hub = HubConfig(listen=("127.0.0.1:1", "192.0.2.1:2"), insecure_plain=True, edges=edges)
    found = warnings_of(EdgeConfig(uplinks=uplinks, hub=hub))
    assert [warning.partition(":")[0] for warning in found] == [
        "uplinks.a.url",
        "uplinks.b.tls.verify",
        "hub.insecure_plain",
    ]


def test_warnings_have_the_line_that_they_are_about(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[servers."a.b"]\nurl = "https://plc/"\nverify = false\n[log]\nlevel = "info"\n')
    config = EdgeConfig(
        insecure_plain_secrets=True,
        servers={"a.b": HttpServerConfig(name="a.b", url="https://plc/", verify=False)},
    )
    found = [each.place for each in placed_warnings(config, path)]
    assert found == [f"{path}: insecure_plain_secrets", f'{path}:3: servers."a.b".verify']
    path.unlink()
    assert [each.place for each in placed_warnings(config, path)][1] == f'{path}: servers."a.b".verify'


def warnings_about(env: Mapping[str, str] = {}, *, path: str = os.defpath, **values: Any) -> list[str]:
    server = StdioServerConfig(**{"name": "a", "command": ("sh",), "env": env, **values})
    return warnings_of(EdgeConfig(servers={"a": server}), {"PATH": path})


def test_a_secret_that_stands_in_the_file_is_warned_of_by_name() -> None:
    env = {
        "GIT_TOKEN": "hunter2",
        "A": "b",
        "B_TOKEN": "",
        "C_TOKEN": Expanded("hunter2", "${T}", ("hunter2",)),
    }
    assert warnings_about(env) == [
        "servers.a.env.GIT_TOKEN: a secret stands in the config file; ${NAME} takes it from the environment"
    ]
    server = StdioServerConfig(name="a", command=("sh",), env=env)
    allowed = EdgeConfig(servers={"a": server}, insecure_plain_secrets=True)
    assert [text.partition(":")[0] for text in warnings_of(allowed)] == ["insecure_plain_secrets"]


def test_a_command_that_will_not_start_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "plain").touch(mode=0o644)
    (tmp_path / "tool").touch(mode=0o755)
    assert warnings_about(command=("/no/such",)) == ["servers.a.command: the command /no/such does not exist"]
    assert warnings_about(command=(f"{tmp_path}/plain",)) == [
        f"servers.a.command: the command {tmp_path}/plain is not executable; try chmod +x"
    ]
    assert warnings_about(command=("tool",)) == [
        "servers.a.command: the command tool was not found, or is not executable, "
        f"in PATH ({os.defpath.count(':') + 1} folders); install it, or write its whole path"
    ]
    assert warnings_about(command=("./no",), cwd=str(tmp_path)) == [
        f"servers.a.command: the command ./no does not exist (in {tmp_path})"
    ]
    assert warnings_about(cwd="/no/such") == ["servers.a.cwd: /no/such does not exist or is not a directory"]
    assert warnings_about(command=("tool",), path=str(tmp_path)) == []
    assert warnings_about({"PATH": str(tmp_path)}, command=("tool",)) == []
    assert warnings_about(command=("./tool",), cwd=str(tmp_path)) == []


@pytest.mark.parametrize("command", [("~/tool",), ("sh", "~/x"), ("sh", "~")])
def test_a_home_directory_that_no_shell_puts_in_is_warned_of(command: tuple[str, ...]) -> None:
    (found,) = warnings_about(command=command)
    assert found.startswith("servers.a.command: no shell runs it, so ~ does not become")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (("sh", "a", "&&", "b"), "&&"),
        (("sh", "a", "|", "b"), "|"),
        (("sh", "hunter2;", "b"), ";"),
        (("sh", ">", "x"), ">"),
    ],
)
def test_words_that_are_for_a_shell_are_warned_of(command: tuple[str, ...], word: str) -> None:
    assert warnings_about(command=command) == [
        f'servers.a.command: no shell runs it, so "{word}" is an argument like any other; use sh -c'
    ]


def test_arguments_that_only_look_like_a_shells_are_taken() -> None:
    assert warnings_about(command=("sh", "-c", "a && b; c", "SELECT 1;", "a|b", "x~/")) == []
