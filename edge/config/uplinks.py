"""`[uplinks.NAME]`: connections that this box keeps up, out to a hub, and by which names it is known there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args
from urllib.parse import urlsplit

from edge.config.common import (
    BEARER,
    EXPANDED,
    RECONNECT,
    REFERENCE,
    BackoffConfig,
    check_headers,
    check_name,
    check_url,
    nothing,
)
from edge.config.rules import Rules
from edge.config.secrets import Secret, SecretRef, as_written

DialectName = Literal["contextforge", "mcp-reverse", "long-poll"]
DIALECTS: tuple[DialectName, ...] = get_args(DialectName)
WEBSOCKET_SCHEMES = ("ws", "wss")


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkTls:
    """How the hub is known, and by which certificate we are known to it."""

    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None  # none: it is in the file of `cert`
    verify: bool = True

    def __post_init__(self) -> None:
        rules = Rules()
        for name in ("ca_file", "cert", "key"):
            rules.plain(name, getattr(self, name))
        rules.check(self.key is None or self.cert is not None, "needs cert, its certificate", "key")
        rules.enforce()


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkConfig:
    """A connection out that is kept up. `url`, `headers`, `query` and `proxy` may hold secrets: show `shown_url`.

    `token` is the token as it was when the config was read; `token_ref` says how to read it again.
    """

    name: str
    dialect: DialectName
    url: str = field(metadata=EXPANDED)
    token: Secret | None = None
    token_ref: SecretRef | None = field(default=None, metadata=REFERENCE)
    servers: tuple[str, ...] = ()  # none: all
    publish: Literal["each", "all"] = "each"
    link_name: str = ""  # empty: the box's name
    headers: Mapping[str, str] = field(default_factory=nothing, metadata=EXPANDED)
    query: Mapping[str, str] = field(default_factory=nothing, metadata=EXPANDED)
    heartbeat_s: float = 25.0
    connect_timeout_s: float = 10.0
    reconnect: BackoffConfig = RECONNECT
    good_after_s: float = 30.0
    tls: UplinkTls | None = None
    proxy: str = field(default="env", metadata=EXPANDED)
    max_message_bytes: int = 16_777_216
    max_calls: int = 64
    resume: bool = True

    @property
    def shown_url(self) -> str:
        """The URL as the file has it, placeholders and all, without its query."""
        return as_written(self.url).partition("?")[0]

    @property
    def is_tls(self) -> bool:
        return urlsplit(self.url).scheme in ("https", "wss")

    def links(self, box: str, servers: Sequence[str]) -> Mapping[str, str | None]:
        """The names of this uplink's links, each with the server behind it; None: all of them together.

        `box` is this box's name, `servers` are all that the config has.
        """
        base = self.link_name or box
        if self.publish == "all":
            return MappingProxyType({base: None})
        return MappingProxyType({f"{base}-{server}": server for server in self.servers or servers})

    def __post_init__(self) -> None:
        rules = Rules()
        check_name(rules, self.name, "an uplink")
        schemes: tuple[str, ...] = ("http", "https")
        if self.dialect == "contextforge":
            schemes += WEBSOCKET_SCHEMES
        elif self.url[:6].lower().startswith(("ws://", "wss://")):
            rules.check(False, "ws:// and wss:// are for contextforge: this dialect is plain HTTP", "url")
            schemes += WEBSOCKET_SCHEMES  # said once
        check_url(rules, "url", self.url, schemes=schemes, instead="token_env, token_file, token_credential")
        is_sendable = self.token is None or BEARER.fullmatch(self.token.reveal()) is not None
        rules.check(is_sendable, "must be visible ASCII characters without blanks or line breaks", "token")
        for index, server in enumerate(self.servers):
            rules.check(server not in self.servers[:index], "is listed twice", "servers", index)
        if self.link_name:
            check_name(rules, self.link_name, "a link", "link_name")
        check_headers(rules, self.headers, key="token", has_token=self.token is not None)
        for name, value in self.query.items():
            rules.check(name != "", "a parameter needs a name", "query", name)
            rules.check("\0" not in name + value, "must not contain a NUL character", "query", name)
        rules.seconds("heartbeat_s", self.heartbeat_s)
        rules.seconds("connect_timeout_s", self.connect_timeout_s)
        rules.seconds("good_after_s", self.good_after_s, may_be_zero=True)
        is_plain = self.url[:7].lower().startswith(("http://", "ws://"))
        rules.check(self.tls is None or not is_plain, "is of no use: the url is not https://", "tls")
        self._check_proxy(rules)
        rules.between("max_message_bytes", self.max_message_bytes, 1024, 1_073_741_824)
        rules.between("max_calls", self.max_calls, 1, 4000)
        rules.enforce()

    def _check_proxy(self, rules: Rules) -> None:
        """`env`, `none` or the URL of a proxy, which is never quoted: it may hold a password."""
        if self.proxy in ("env", "none"):
            return
        text = "must be env, none or a proxy's address, as in http://proxy.example.com:3128"
        try:
            parts = urlsplit(self.proxy)
            is_good = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_good = False
        is_good = is_good and self.proxy.isascii() and self.proxy.isprintable() and " " not in self.proxy
        rules.check(is_good and parts.path in ("", "/") and not parts.query + parts.fragment, text, "proxy")
