"""The rules inside one table, and that nothing secret shows."""

from collections.abc import Callable
from typing import Any

import pytest

from edge.config.model import (
    AdminConfig,
    BackoffConfig,
    EdgeConfig,
    Expanded,
    GatewayConfig,
    HttpServerConfig,
    Secret,
    ServerLimits,
    ServerTlsConfig,
    StdioLimits,
    StdioServerConfig,
)
from edge.config.rules import BadValues

TLS = ServerTlsConfig(cert="c", key="k")


def stdio(**values: Any) -> StdioServerConfig:
    return StdioServerConfig(**{"name": "git", "command": ("git-server",), **values})


def http(**values: Any) -> HttpServerConfig:
    return HttpServerConfig(**{"name": "plc", "url": "http://plc/mcp", **values})


@pytest.mark.parametrize(
    ("make", "values", "sentence"),
    [
        (BackoffConfig, {"first_s": 0.0}, "first_s: must be above 0"),
        (BackoffConfig, {"first_s": 2.0, "limit_s": 1.0}, "limit_s: must be at least first_s"),
        (BackoffConfig, {"max_attempts": -1}, "max_attempts: must be from 0"),
        (ServerLimits, {"concurrency": 0}, "concurrency: must be from 1"),
        (ServerLimits, {"concurrency": 4001}, "concurrency: must be from 1 to 4000"),
        (ServerLimits, {"max_line_bytes": 5}, "max_line_bytes: must be from 1024"),
        (StdioLimits, {"concurrency": 0, "memory_bytes": 5}, "concurrency: must be from 1"),
        (
            StdioLimits,
            {"memory_bytes": 1_048_575},
            r"memory_bytes: must be 0 \(no limit\) or at least 1048576",
        ),
        (StdioLimits, {"processes": -1}, r"processes: must be from 0 \(no limit\) to 4194304"),
        (ServerTlsConfig, {"cert": "", "key": "k"}, "cert: must not be empty"),
        (ServerTlsConfig, {"cert": "c", "key": "k", "client_ca": ""}, "client_ca: must not be empty"),
        (GatewayConfig, {"listen": ()}, "listen: must name at least one"),
        (GatewayConfig, {"listen": ("x",)}, "listen: must be host:port"),
        (GatewayConfig, {"listen": ("0.0.0.0:1",)}, "listen: is not a loopback address"),
        (GatewayConfig, {"listen": ("0.0.0.0:1",), "tls": TLS}, "listen: is not a loopback address"),
        (GatewayConfig, {"listen": ("[::1]:1", "x")}, r"listen\[1\]: must be host:port"),
        (GatewayConfig, {"listen": ("[::1]:1", "[::1]:1")}, r"listen\[1\]: is listed twice"),
        (GatewayConfig, {"path": "mcp"}, "path: must be a path"),
        (GatewayConfig, {"path": "/mcp/"}, "path: must be a path"),
        (GatewayConfig, {"path": "/mcp?x"}, "path: must be a path"),
        (GatewayConfig, {"path": "/servers/git/mcp"}, "path: /servers/ is taken"),
        (GatewayConfig, {"path": "/servers"}, "path: /servers/ is taken"),
        (GatewayConfig, {"separator": ""}, "separator: must be 1 to 8"),
        (GatewayConfig, {"separator": "::"}, "separator: must be 1 to 8"),
        (GatewayConfig, {"max_name_chars": 15}, "max_name_chars: must be from 16"),
        (GatewayConfig, {"page_size": 0}, "page_size: must be from 1"),
        (GatewayConfig, {"allowed_origins": ("https://a", "*")}, r"allowed_origins\[1\]: must be an origin"),
        (GatewayConfig, {"allowed_origins": ("https://a/x",)}, "must be an origin"),
        (GatewayConfig, {"allowed_origins": ("https://a:99999",)}, "must be an origin"),
        (GatewayConfig, {"allowed_origins": ("https://a:b",)}, "must be an origin"),
        (GatewayConfig, {"allowed_origins": ("https://a..b",)}, "must be an origin"),
        (GatewayConfig, {"allowed_origins": ("https://[::zz]",)}, "must be an origin"),
        (GatewayConfig, {"allowed_origins": ("https://a:",)}, "must be an origin"),
        (GatewayConfig, {"allowed_hosts": ("a", "*")}, r"allowed_hosts\[1\]: must be a host"),
        (GatewayConfig, {"allowed_hosts": ("a:0",)}, "must be a host"),
        (GatewayConfig, {"allowed_hosts": ("a:65536",)}, "must be a host"),
        (GatewayConfig, {"allowed_hosts": ("[1.2.3.4]",)}, "must be a host"),
        (GatewayConfig, {"allowed_hosts": ("http://a",)}, "must be a host"),
        (GatewayConfig, {"session_idle_s": 0.0}, "session_idle_s: must be above 0"),
        (GatewayConfig, {"max_sessions": 0}, "max_sessions: must be from 1"),
        (GatewayConfig, {"max_connections": 0}, "max_connections: must be from 1"),
        (GatewayConfig, {"max_message_bytes": 2**40}, "max_message_bytes: must be from 1024"),
        (GatewayConfig, {"call_timeout_s": 0.0}, "call_timeout_s: must be above 0"),
        (GatewayConfig, {"drain_s": -1.0}, "drain_s: must be 0 or more"),
        (AdminConfig, {"listen": "9766"}, "listen: must be host:port"),
        (EdgeConfig, {"name": " a"}, "name: must be at most 200"),
        (EdgeConfig, {"name": "a\nb"}, "name: must be at most 200"),
        (EdgeConfig, {"name": "a" * 201}, "name: must be at most 200"),
        *[
            (make, {"name": name}, "a server's name")
            for make in (stdio, http)
            for name in ("", "a b", "ä", "a/b", "_a", "a_", "a__b", ".", "..", "a" * 65)
        ],
        *[
            (make, {key: -1.0}, f"{key}: must be")
            for make in (stdio, http)
            for key in ("call_timeout_s", "probe_s", "list_refresh_s")
        ],
        (stdio, {"command": ()}, "command: must start with the program"),
        (stdio, {"command": ("", "x")}, "command: must start with the program"),
        (stdio, {"command": ("x", "a\0b")}, r"command\[1\]: must not contain a NUL"),
        (stdio, {"env": {"": "x"}}, 'env."": is not a name'),
        (stdio, {"env": {"A=B": "x"}}, 'env."A=B": is not a name'),
        (stdio, {"env": {"A": "a\0b"}}, "env.A: must not contain a NUL"),
        (stdio, {"cwd": ""}, "cwd: must not be empty"),
        (stdio, {"cwd": "srv"}, "cwd: must be an absolute path"),
        (stdio, {"cwd": "/a\0b"}, "cwd: must not contain a NUL"),
        (stdio, {"stop_grace_s": -1.0}, "stop_grace_s: must be 0 or more"),
        (stdio, {"start_timeout_s": 0.0}, "start_timeout_s: must be above 0"),
        (http, {"url": ""}, "url: must start with http"),
        (http, {"url": "ftp://plc"}, "url: must start with http"),
        (http, {"url": "http:///mcp"}, "url: names no host"),
        (http, {"url": "http://plc:0/"}, "url: port 0"),
        (http, {"url": "http://plc:99999/"}, "url: is not a URL"),
        (http, {"url": "http://plc:x/"}, "url: is not a URL"),
        (http, {"url": "http://[::1/"}, "url: is not a URL"),
        (http, {"url": "http://user@plc/"}, "url: must not hold a user or password"),
        (http, {"url": "http://plc/#a"}, "url: must not have a fragment"),
        (http, {"url": "http://plc/a b"}, "url: must be ASCII without blanks"),
        (http, {"url": "http://plc/\n"}, "url: must be ASCII without blanks"),
        (http, {"url": "http://plc/ä"}, "url: must be ASCII without blanks"),
        (http, {"headers": {"X Y": "a"}}, 'headers."X Y": is not a header name'),
        (http, {"headers": {"": "a"}}, "is not a header name"),
        (http, {"headers": {"Host": "a"}}, "headers.Host: is set by the gateway itself"),
        (http, {"headers": {"content-length": "1"}}, "is set by the gateway itself"),
        (http, {"headers": {"MCP-Session-Id": "1"}}, "is set by the gateway itself"),
        (http, {"headers": {"X": "a", "x": "b"}}, "headers.x: is given twice"),
        (http, {"headers": {"X": "a\r\nY: b"}}, "headers.X: must be printable ASCII in one line"),
        (http, {"headers": {"X": " a"}}, "headers.X: must be printable ASCII in one line"),
        (http, {"headers": {"X": "ä"}}, "headers.X: must be printable ASCII in one line"),
        (http, {"headers": {"Authorization": "a"}, "bearer": Secret("b")}, "already made from the bearer"),
        (http, {"bearer": Secret("a b")}, "bearer: must be visible ASCII"),
        (http, {"bearer": Secret("a\n")}, "bearer: must be visible ASCII"),
        (http, {"bearer": Secret("")}, "bearer: must be visible ASCII"),
        (http, {"ca_file": ""}, "ca_file: must not be empty"),
        (http, {"connect_timeout_s": 0.0}, "connect_timeout_s: must be above 0"),
    ],
)
def test_a_broken_rule_is_one_sentence_about_its_key(
    make: Callable[..., object], values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadValues, match=sentence):
        make(**values)


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (GatewayConfig, {"listen": ("0.0.0.0:1",), "insecure_public": True}),
        (GatewayConfig, {"listen": ("0.0.0.0:1",), "tls": ServerTlsConfig(cert="c", key="k", client_ca="a")}),
        (GatewayConfig, {"listen": ("127.0.0.1:0", "127.0.0.1:0", "unix:/run/x")}),
        (GatewayConfig, {"path": "/"}),
        (GatewayConfig, {"path": "/serversmcp"}),
        (GatewayConfig, {"allowed_origins": ("https://a.example.com:8443", "vscode-webview://x", "null")}),
        (GatewayConfig, {"allowed_hosts": ("edge.example.com:1", "*.example.com", "[::1]:8766", "10.0.0.1")}),
        (GatewayConfig, {"drain_s": 0.0}),
        (AdminConfig, {"listen": "0.0.0.0:9766"}),
        (stdio, {"name": "a.b-c_D9"}),
        (stdio, {"command": ("x", ""), "env": {"A": "", "b.c": "d\n"}, "cwd": "/srv"}),
        (http, {"url": "HTTPS://[::1]:8443/a%20b?c=d"}),
        (http, {"headers": {"X-API-Key": "a b\tc", "Empty": ""}, "bearer": Secret("a.b~c/d=")}),
        (http, {"headers": {"Authorization": "Basic abc"}}),
    ],
)
def test_what_is_unusual_and_right_is_taken(make: Callable[..., object], values: dict[str, Any]) -> None:
    make(**values)


def test_all_broken_rules_of_a_table_are_named_at_once() -> None:
    with pytest.raises(BadValues) as caught:
        stdio(name="_", command=(), cwd="x", probe_s=0.0)
    assert [finding.path for finding in caught.value.findings] == [(), ("probe_s",), ("command",), ("cwd",)]


def test_neither_a_config_nor_its_errors_show_a_secret() -> None:
    server = http(
        url=Expanded("https://plc/hunter2?k=hunter2", "https://plc/${P}?k=${K}"),
        headers={"X": Expanded("hunter2", "${K}")},
        bearer=Secret("hunter2"),
    )
    config = EdgeConfig(servers={"plc": server})
    assert "hunter2" not in f"{config!r} {config} {server} {server.shown_url}"
    assert server.shown_url == "https://plc/${P}"
    for values in (
        {"url": "http://hunter2@x:y/"},
        {"headers": {"X": "hunter2\n"}},
        {"bearer": Secret("hunter2\n")},
    ):
        with pytest.raises(BadValues) as caught:
            http(**values)
        assert "hunter2" not in str(caught.value)


def test_a_plain_url_is_shown_without_its_query() -> None:
    assert http(url="http://plc/mcp?key=1").shown_url == "http://plc/mcp"
