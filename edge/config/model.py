"""The configuration as frozen dataclasses: every key, its default, its unit and its rules.

A dataclass checks what can be judged inside one table; rules between tables are in `load.py`. A key
that a user can write is a field here, a line in `help/config.md` and one in `template.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

from edge.config.address import ip_or_none, parse_address
from edge.config.rules import Rules
from edge.config.secrets import Expanded, Secret, as_written

__all__ = [
    "EXPANDED",
    "ONE_OR_MORE",
    "WORDS",
    "AdminConfig",
    "BackoffConfig",
    "EdgeConfig",
    "Expanded",
    "GatewayConfig",
    "HttpServerConfig",
    "LogConfig",
    "Secret",
    "ServerConfig",
    "ServerLimits",
    "ServerTlsConfig",
    "StdioServerConfig",
]

# How the loader reads a field beyond its type.
EXPANDED = MappingProxyType({"reads": "expanded"})  # ${NAME} is the environment's value
ONE_OR_MORE = MappingProxyType({"reads": "one-or-more"})  # one string stands for a list of one
WORDS = MappingProxyType({"reads": "words"})  # one string is split into words as a shell would

SERVER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SEPARATOR = re.compile(r"[A-Za-z0-9_.-]{1,8}")
URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._:\[\]-]+")
HOST = re.compile(r"(?:(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
FIELD_VALUE = re.compile(r"(?:[!-~](?:[ -~\t]*[!-~])?)?")  # RFC 9110, section 5.5, without obs-text
BEARER = re.compile(r"[!-~]+")
OWN_HEADERS = frozenset(
    {"accept", "connection", "content-length", "content-type", "expect", "host", "keep-alive"}
    | {"last-event-id", "te", "trailer", "transfer-encoding", "upgrade"}
)


def nothing() -> Mapping[str, Any]:
    """An empty mapping that nobody can write to."""
    return MappingProxyType({})


def is_host(text: str) -> bool:
    """A host as `Host` has it, maybe with a port, or a pattern for all names below one."""
    found = HOST.fullmatch(text)
    if found is None:
        return False
    has_good_ip = found[1] is None or isinstance(ip_or_none(found[1]), IPv6Address)
    return has_good_ip and (found[2] is None or 0 < int(found[2]) < 65536)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffConfig:
    """How long to wait before a server is tried again: doubling with full jitter, from first to limit."""

    first_s: float = 1.0
    limit_s: float = 60.0
    max_attempts: int = 0  # 0: for ever

    def __post_init__(self) -> None:
        rules = Rules()
        rules.seconds("first_s", self.first_s)
        rules.seconds("limit_s", self.limit_s)
        rules.check(self.first_s <= self.limit_s, "must be at least first_s", "limit_s")
        rules.between("max_attempts", self.max_attempts, 0, 1_000_000)
        rules.enforce()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What one server may take: calls at once, and bytes in one line (stdio) or message (HTTP)."""

    concurrency: int = 64
    max_line_bytes: int = 20_971_520

    def __post_init__(self) -> None:
        rules = Rules()
        rules.between("concurrency", self.concurrency, 1, 4000)  # below what `Peer` keeps open
        rules.between("max_line_bytes", self.max_line_bytes, 1024, 1_073_741_824)
        rules.enforce()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTlsConfig:
    """The endpoint's certificate; with `client_ca`, clients must show a certificate signed by it."""

    cert: str
    key: str
    client_ca: str | None = None

    def __post_init__(self) -> None:
        rules = Rules()
        rules.plain("cert", self.cert)
        rules.plain("key", self.key)
        rules.plain("client_ca", self.client_ca)
        rules.enforce()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """The endpoint for MCP clients: where it listens, how it names things, and what it allows."""

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
            is_origin = origin == "null" or ORIGIN.fullmatch(origin) is not None
            rules.check(is_origin, text, "allowed_origins", index)
        for index, host in enumerate(self.allowed_hosts):
            text = "must be a host, with a port or without, or *.example.com for all names below that"
            rules.check(is_host(host), text, "allowed_hosts", index)
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
    """The listener for metrics and health; there are no secrets in it."""

    listen: str = "127.0.0.1:9766"
    enabled: bool = True

    def __post_init__(self) -> None:
        rules = Rules()
        try:
            parse_address(self.listen)
        except ValueError as exc:
            rules.check(False, str(exc), "listen")
        rules.enforce()


def check_server(
    rules: Rules, name: str, call_timeout_s: float, probe_s: float, list_refresh_s: float
) -> None:
    """The rules that hold for every server, whatever carries its messages."""
    rules.check(
        SERVER_NAME.fullmatch(name) is not None and name not in (".", ".."),
        "a server's name is 1 to 64 letters, digits, dots, hyphens or underscores",
    )
    rules.check(
        not name.startswith("_") and not name.endswith("_") and "__" not in name,
        "a server's name must not start or end with an underscore, nor have two in a row",
    )
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
    call_timeout_s: float = 0.0  # 0: the gateway's
    restart: BackoffConfig = BackoffConfig(first_s=1.0, limit_s=60.0)
    limits: ServerLimits = ServerLimits()
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
    reconnect: BackoffConfig = BackoffConfig(first_s=1.0, limit_s=30.0)
    limits: ServerLimits = ServerLimits()
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
        self._check_headers(rules)
        is_sendable = self.bearer is None or BEARER.fullmatch(self.bearer.reveal()) is not None
        rules.check(is_sendable, "must be visible ASCII characters without blanks or line breaks", "bearer")
        rules.plain("ca_file", self.ca_file)
        rules.seconds("connect_timeout_s", self.connect_timeout_s)
        rules.enforce()

    def _check_headers(self, rules: Rules) -> None:
        seen: set[str] = set()
        for name, value in self.headers.items():
            lower = name.lower()
            rules.check(TOKEN.fullmatch(name) is not None, "is not a header name", "headers", name)
            is_ours = lower in OWN_HEADERS or lower.startswith("mcp-")
            rules.check(not is_ours, "is set by the gateway itself", "headers", name)
            is_double = lower == "authorization" and self.bearer is not None
            rules.check(not is_double, "is already made from the bearer token", "headers", name)
            rules.check(lower not in seen, "is given twice (letter case does not count)", "headers", name)
            rules.check(
                FIELD_VALUE.fullmatch(value) is not None,
                "must be printable ASCII in one line, without blanks at its ends",
                "headers",
                name,
            )
            seen.add(lower)


def check_url(rules: Rules, key: str, url: str) -> None:
    """The rules for a URL that we call. Its text is never quoted: it may hold a secret."""
    if not url.isascii() or not url.isprintable() or " " in url:
        rules.check(False, "must be ASCII without blanks; other characters are written %XX", key)
        return
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        rules.check(False, "is not a URL: its host or port cannot be read", key)
        return
    rules.check(parts.scheme in ("http", "https"), "must start with http:// or https://", key)
    rules.check(bool(host), "names no host", key)
    rules.check(port != 0, "port 0 cannot be called", key)
    rules.check(
        "@" not in parts.netloc,
        "must not hold a user or password: use headers, or bearer_env, bearer_file, bearer_credential",
        key,
    )
    rules.check("#" not in url, "must not have a fragment (#)", key)


ServerConfig = StdioServerConfig | HttpServerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What is logged, and how: `auto` is text for a person on a terminal, and for a program elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """One whole config file. `servers` is sorted by name."""

    name: str = ""  # empty: the host's name
    gateway: GatewayConfig = GatewayConfig()
    admin: AdminConfig = AdminConfig()
    servers: Mapping[str, ServerConfig] = field(default_factory=nothing)
    log: LogConfig = LogConfig()
    insecure_plain_secrets: bool = False

    def __post_init__(self) -> None:
        rules = Rules()
        is_plain = self.name.isprintable() and self.name == self.name.strip() and len(self.name) <= 200
        rules.check(is_plain, "must be at most 200 printable characters, without blanks at its ends", "name")
        rules.enforce()
