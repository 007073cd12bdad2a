"""What tables of the config have in common: how fields are read, waits, limits, TLS, URLs and headers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from edge.config.rules import PathKey, Rules

# How the loader reads a field beyond its type.
EXPANDED = MappingProxyType({"reads": "expanded"})  # ${NAME} is the environment's value
ONE_OR_MORE = MappingProxyType({"reads": "one-or-more"})  # one string stands for a list of one
WORDS = MappingProxyType({"reads": "words"})  # one string is split into words as a shell would
NAMED = MappingProxyType({"reads": "named"})  # tables of their own, [TABLE.NAME]; their class has a `name`
REFERENCE = MappingProxyType({"reads": "reference"})  # of X_ref: where X came from; no key of its own

MAX_NAME_CHARS = 64
LEAST_MEMORY_BYTES = 1_048_576  # below it nothing starts at all
SERVER_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME_CHARS}}}")
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


def check_name(rules: Rules, name: str, owner: str, *path: PathKey) -> None:
    """The rules for names of servers and links: they stand in addresses, and before the names of tools."""
    rules.check(
        SERVER_NAME.fullmatch(name) is not None and name not in (".", ".."),
        f"{owner}'s name is 1 to 64 letters, digits, dots, hyphens or underscores",
        *path,
    )
    rules.check(
        not name.startswith("_") and not name.endswith("_") and "__" not in name,
        f"{owner}'s name must not start or end with an underscore, nor have two in a row",
        *path,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffConfig:
    """How long to wait before a server or hub is tried again: doubling with full jitter, from first to limit."""

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
class StdioLimits(ServerLimits):
    """What a server that is started here may take besides: memory and processes of all that it starts. 0: no limit."""

    memory_bytes: int = 0
    processes: int = 0  # threads count, too, as the kernel counts them

    def __post_init__(self) -> None:
        # Named, as a class with slots is made anew and `super()` would mean the one before.
        ServerLimits.__post_init__(self)
        rules = Rules()
        text = "must be 0 (no limit) or at least {}"
        rules.check(
            self.memory_bytes == 0 or self.memory_bytes >= LEAST_MEMORY_BYTES,
            text.format("1048576"),
            "memory_bytes",
        )
        rules.check(0 <= self.processes <= 4_194_304, "must be from 0 (no limit) to 4194304", "processes")
        rules.enforce()


RESTART = BackoffConfig(first_s=1.0, limit_s=60.0)  # of what is started here
RECONNECT = BackoffConfig(first_s=1.0, limit_s=30.0)  # to what runs elsewhere
SERVER_LIMITS = ServerLimits()
STDIO_LIMITS = StdioLimits()


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


def check_url(
    rules: Rules,
    key: str,
    url: str,
    *,
    schemes: Sequence[str] = ("http", "https"),
    instead: str = "headers, or bearer_env, bearer_file, bearer_credential",
) -> None:
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
    starts = " or ".join(f"{scheme}://" for scheme in schemes)
    rules.check(parts.scheme in schemes, f"must start with {starts}", key)
    rules.check(bool(host), "names no host", key)
    rules.check(port != 0, "port 0 cannot be called", key)
    rules.check("@" not in parts.netloc, f"must not hold a user or password: use {instead}", key)
    rules.check("#" not in url, "must not have a fragment (#)", key)


def check_headers(rules: Rules, headers: Mapping[str, str], *, key: str, has_token: bool) -> None:
    """The rules for header fields that a user adds; `key` is the one that makes `Authorization`."""
    seen: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        rules.check(TOKEN.fullmatch(name) is not None, "is not a header name", "headers", name)
        is_ours = lower in OWN_HEADERS or lower.startswith(("mcp-", "sec-websocket-"))
        rules.check(not is_ours, "is set by the gateway itself", "headers", name)
        is_double = lower == "authorization" and has_token
        rules.check(not is_double, f"is already made from the {key}", "headers", name)
        rules.check(lower not in seen, "is given twice (letter case does not count)", "headers", name)
        rules.check(
            FIELD_VALUE.fullmatch(value) is not None,
            "must be printable ASCII in one line, without blanks at its ends",
            "headers",
            name,
        )
        seen.add(lower)
