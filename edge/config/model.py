"""The configuration as frozen dataclasses: every key, its default, its unit and its rules.

A dataclass checks what can be judged inside one table; rules between tables are in `between.py`. A key
that a user can write is a field here (`[uplinks.NAME]`: `uplinks.py`; `[hub]`: `hub.py`), a line in
`help/config.md` and one in `template.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edge.config.address import parse_address
from edge.config.common import (
    BEARER,
    EXPANDED,
    NAMED,
    ONE_OR_MORE,
    RECONNECT,
    RESTART,
    SERVER_LIMITS,
    STDIO_LIMITS,
    WORDS,
    BackoffConfig,
    ServerLimits,
    ServerTlsConfig,
    StdioLimits,
    check_headers,
    check_name,
    check_url,
    nothing,
)
from edge.config.host_header import is_allowed_host, is_allowed_origin
from edge.config.hub import HubConfig, HubEdge, HubJwt, HubWebhook
from edge.config.rules import Rules
from edge.config.secrets import Expanded, Secret, SecretRef, as_written
from edge.config.uplinks import DIALECTS, DialectName, UplinkConfig, UplinkTls

__all__ = [
    "DIALECTS",
    "EXPANDED",
    "ONE_OR_MORE",
    "WORDS",
    "AdminConfig",
    "BackoffConfig",
    "DialectName",
    "EdgeConfig",
    "Expanded",
    "GatewayConfig",
    "HttpServerConfig",
    "HubConfig",
    "HubEdge",
    "HubJwt",
    "HubWebhook",
    "LinkServerConfig",
    "LogConfig",
    "Secret",
    "SecretRef",
    "ServerConfig",
    "ServerLimits",
    "ServerTlsConfig",
    "StdioLimits",
    "StdioServerConfig",
    "UplinkConfig",
    "UplinkTls",
    "UpstreamConfig",
]

SEPARATOR = re.compile(r"[A-Za-z0-9_.-]{1,8}")
URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """The endpoint for MCP clients: where it listens, how it names things, and what it allows."""

    enabled: bool = True  # False: nothing listens for clients of this machine; calls come by uplinks only
    listen: tuple[str, ...] = field(default=("127.0.0.1:8766",), metadata=ONE_OR_MORE)
    path: str = "/mcp"
    prefix: Literal["always", "on-collision", "never"] = "always"
    separator: str = "__"
    max_name_chars: int = 64
    page_size: int = 1000
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    insecure_public: bool = False
    tls: ServerTlsConfig | None = None
    session_idle_s: float = 3600.0
    max_sessions: int = 20_000
    max_connections: int = 1000
    max_message_bytes: int = 4_194_304
    call_timeout_s: float = 300.0
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        rules = Rules()
        self._check_listen(rules)
        rules.check(
            URL_PATH.fullmatch(self.path) is not None and (self.path == "/" or not self.path.endswith("/")),
            "must be a path that starts with / and does not end with it, as in /mcp",
            "path",
        )
        rules.check(
            not (self.path + "/").startswith("/servers/"), "/servers/ is taken by the single servers", "path"
        )
        rules.check(
            SEPARATOR.fullmatch(self.separator) is not None,
            "must be 1 to 8 letters, digits, dots, hyphens or underscores",
            "separator",
        )
        rules.between("max_name_chars", self.max_name_chars, 16, 1024)
        rules.between("page_size", self.page_size, 1, 100_000)
        for index, origin in enumerate(self.allowed_origins):
            text = "must be an origin as browsers send it, as in https://app.example.com (or null); there is no *"
            rules.check(is_allowed_origin(origin), text, "allowed_origins", index)
        for index, host in enumerate(self.allowed_hosts):
            text = "must be a host, with a port or without, or *.example.com for all names below that"
            rules.check(is_allowed_host(host), text, "allowed_hosts", index)
        rules.seconds("session_idle_s", self.session_idle_s)
        rules.between("max_sessions", self.max_sessions, 1, 10_000_000)
        rules.between("max_connections", self.max_connections, 1, 1_000_000)
        rules.between("max_message_bytes", self.max_message_bytes, 1024, 1_073_741_824)
        rules.seconds("call_timeout_s", self.call_timeout_s)
        rules.seconds("drain_s", self.drain_s, may_be_zero=True)
        rules.enforce()

    def _check_listen(self, rules: Rules) -> None:
        rules.check(self.listen != (), "must name at least one address", "listen")
        is_guarded = self.insecure_public or (self.tls is not None and self.tls.client_ca is not None)
        for index, text in enumerate(self.listen):
            place = ("listen", index) if len(self.listen) > 1 else ("listen",)
            try:
                address = parse_address(text)
            except ValueError as exc:
                rules.check(False, str(exc), *place)
                continue
            rules.check(
                address.is_local or is_guarded,
                "is not a loopback address, and the endpoint cannot tell clients apart yet: whoever reaches"
                " it can call every tool. Listen on 127.0.0.1, ask for client certificates (tls.client_ca),"
                " or set insecure_public = true if something else guards it",
                *place,
            )
            rules.check(text not in self.listen[:index] or address.port == 0, "is listed twice", *place)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """The listener for metrics and health, and the socket that `mcp-edge reload` talks to.

    `control`: where we are to be asked for a reload, beside the usual place (cli/control_place.py); `off`: nowhere.
    """

    listen: str = "127.0.0.1:9766"
    enabled: bool = True
    control: str = ""
    reload_token: Secret | None = None

    def __post_init__(self) -> None:
        rules = Rules()
        try:
            parse_address(self.listen)
        except ValueError as exc:
            rules.check(False, str(exc), "listen")
        is_good = self.control in ("", "off") or re.fullmatch(r"unix:/[^\0]*", self.control) is not None
        rules.check(is_good, "must be unix:/path, or off", "control")
        is_sendable = self.reload_token is None or BEARER.fullmatch(self.reload_token.reveal()) is not None
        rules.check(is_sendable, "must be visible ASCII characters without blanks", "reload_token")
        rules.enforce()


def check_server(
    rules: Rules, name: str, call_timeout_s: float, probe_s: float, list_refresh_s: float
) -> None:
    """The rules that hold for every server, whatever carries its messages."""
    check_name(rules, name, "a server")
    rules.seconds("call_timeout_s", call_timeout_s, may_be_zero=True)
    rules.seconds("probe_s", probe_s)
    rules.seconds("list_refresh_s", list_refresh_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioServerConfig:
    """A server that is started here and speaks on its stdin and stdout."""

    name: str
    command: tuple[str, ...] = field(metadata=WORDS)
    env: Mapping[str, str] = field(default_factory=nothing, metadata=EXPANDED)
    cwd: str | None = None
    required: bool = False
    stop_grace_s: float = 5.0
    start_timeout_s: float = 30.0
    overlap: bool = False
    call_timeout_s: float = 0.0  # 0: the gateway's
    restart: BackoffConfig = RESTART
    limits: StdioLimits = STDIO_LIMITS
    probe_s: float = 30.0
    list_refresh_s: float = 300.0

    def __post_init__(self) -> None:
        rules = Rules()
        check_server(rules, self.name, self.call_timeout_s, self.probe_s, self.list_refresh_s)
        is_named = self.command != () and self.command[0] != ""
        rules.check(is_named, "must start with the program to run", "command")
        for index, word in enumerate(self.command):
            rules.check("\0" not in word, "must not contain a NUL character", "command", index)
        for name, value in self.env.items():
            is_name = name != "" and "=" not in name and "\0" not in name
            rules.check(is_name, "is not a name that an environment variable can have", "env", name)
            rules.check("\0" not in value, "must not contain a NUL character", "env", name)
        rules.plain("cwd", self.cwd)
        rules.check(not self.cwd or self.cwd.startswith("/"), "must be an absolute path", "cwd")
        rules.seconds("stop_grace_s", self.stop_grace_s, may_be_zero=True)
        rules.seconds("start_timeout_s", self.start_timeout_s)
        rules.enforce()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServerConfig:
    """A server that runs elsewhere and is called over HTTP.

    `url` and the values of `headers` may hold secrets from the environment: show `shown_url` instead.
    """

    name: str
    url: str = field(metadata=EXPANDED)
    transport: Literal["auto", "streamable", "sse"] = "auto"
    headers: Mapping[str, str] = field(default_factory=nothing, metadata=EXPANDED)
    bearer: Secret | None = None
    ca_file: str | None = None
    verify: bool = True
    required: bool = False
    call_timeout_s: float = 0.0  # 0: the gateway's
    connect_timeout_s: float = 10.0
    reconnect: BackoffConfig = RECONNECT
    limits: ServerLimits = SERVER_LIMITS
    probe_s: float = 30.0
    list_refresh_s: float = 300.0

    @property
    def shown_url(self) -> str:
        """The URL as the file has it, placeholders and all, without its query."""
        return as_written(self.url).partition("?")[0]

    def __post_init__(self) -> None:
        rules = Rules()
        check_server(rules, self.name, self.call_timeout_s, self.probe_s, self.list_refresh_s)
        check_url(rules, "url", self.url)
        check_headers(rules, self.headers, key="bearer token", has_token=self.bearer is not None)
        is_sendable = self.bearer is None or BEARER.fullmatch(self.bearer.reveal()) is not None
        rules.check(is_sendable, "must be visible ASCII characters without blanks or line breaks", "bearer")
        rules.plain("ca_file", self.ca_file)
        rules.seconds("connect_timeout_s", self.connect_timeout_s)
        rules.enforce()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkServerConfig:
    """What the upstream of an accepted edge goes by; made by the hub, from no table of its own."""

    name: str
    call_timeout_s: float = 0.0  # 0: the gateway's
    limits: ServerLimits = SERVER_LIMITS
    reconnect: BackoffConfig = RECONNECT
    probe_s: float = 30.0
    list_refresh_s: float = 300.0
    required: bool = False


ServerConfig = StdioServerConfig | HttpServerConfig  # what a user can write
UpstreamConfig = ServerConfig | LinkServerConfig  # what an upstream can be made of


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What is logged, and how: `auto` is the journal's own form under systemd, else text, for a person on a terminal
    and for a program elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json", "journal"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """One whole config file. `servers` and `uplinks` are sorted by name."""

    name: str = ""  # empty: the host's name
    gateway: GatewayConfig = GatewayConfig()
    admin: AdminConfig = AdminConfig()
    servers: Mapping[str, ServerConfig] = field(default_factory=nothing)
    uplinks: Mapping[str, UplinkConfig] = field(default_factory=nothing, metadata=NAMED)
    hub: HubConfig | None = None
    log: LogConfig = LogConfig()
    insecure_plain_secrets: bool = False

    def __post_init__(self) -> None:
        rules = Rules()
        is_plain = self.name.isprintable() and self.name == self.name.strip() and len(self.name) <= 200
        rules.check(is_plain, "must be at most 200 printable characters, without blanks at its ends", "name")
        rules.enforce()
