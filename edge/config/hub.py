"""`[hub]`: where edges may connect to, who they are, and what one of them may take."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from edge.config.address import Address, parse_address
from edge.config.common import (
    BEARER,
    EXPANDED,
    NAMED,
    ONE_OR_MORE,
    ServerTlsConfig,
    check_name,
    check_url,
    nothing,
)
from edge.config.rules import PathKey, Rules
from edge.config.secrets import Secret, as_written
from edge.config.uplinks import DIALECTS, DialectName

HASH = re.compile(r"[0-9a-f]{64}")
HEX = re.compile(r"[0-9A-Fa-f]+")
HASH_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NO_HASH = "0" * 64  # stands for one that could not be read
HOW_TO_HASH = "printf %s TOKEN | sha256sum"
MIN_JWT_SECRET_BYTES = 32  # RFC 7518, section 3.2


def check_hash(rules: Rules, text: str, *path: PathKey) -> None:
    """The rules for a token's SHA-256. It is never quoted: it may be the token itself."""
    if HASH.fullmatch(text):
        rules.check(
            text != HASH_OF_NOTHING, f"is the SHA-256 of an empty text; make it by {HOW_TO_HASH}", *path
        )
        return
    if HEX.fullmatch(text) and len(text) == 64:
        problem = "must be in lower case, as sha256sum gives it"
    elif HEX.fullmatch(text):
        problem = f"has {len(text)} hex digits, and a SHA-256 has 64; make it by {HOW_TO_HASH}"
    else:
        problem = (
            "must be the 64 hex digits of the token's SHA-256, and looks like the token itself:"
            f" make it by {HOW_TO_HASH}"
        )
    rules.check(False, problem, *path)


def check_hashes(rules: Rules, hashes: tuple[str, ...], key: str) -> None:
    for index, text in enumerate(hashes):
        place = (key, index) if len(hashes) > 1 else (key,)
        check_hash(rules, text, *place)
        rules.check(text not in hashes[:index], "is listed twice", *place)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubEdge:
    """One edge that may connect: its name, and the SHA-256 of its token, or of two while it is changed."""

    name: str
    token_sha256: tuple[str, ...] = field(metadata=ONE_OR_MORE)
    dialects: tuple[DialectName, ...] = DIALECTS  # of these, those that the hub accepts

    def __post_init__(self) -> None:
        rules = Rules()
        check_name(rules, self.name, "an edge")
        rules.check(self.token_sha256 != (), "must name at least one", "token_sha256")
        check_hashes(rules, self.token_sha256, "token_sha256")
        rules.check(self.dialects != (), "must name at least one", "dialects")
        rules.enforce()


@dataclass(frozen=True, slots=True, kw_only=True)
class HubJwt:
    """Tokens that are JWTs, signed with a shared secret (HS256). `exp` is required in each."""

    secret: Secret
    issuer: str = ""  # empty: not asked for
    audience: str = ""
    name_claim: str = "sub"
    leeway_s: float = 30.0

    def __post_init__(self) -> None:
        rules = Rules()
        length = len(self.secret.reveal().encode())
        text = f"must have {MIN_JWT_SECRET_BYTES} bytes or more, as HS256 asks for: openssl rand -hex 32"
        rules.check(length >= MIN_JWT_SECRET_BYTES, text, "secret")
        rules.check(self.name_claim != "", "must not be empty", "name_claim")
        rules.seconds("leeway_s", self.leeway_s, may_be_zero=True)
        rules.enforce()


@dataclass(frozen=True, slots=True, kw_only=True)
class HubWebhook:
    """A service that is asked who a token belongs to."""

    url: str = field(metadata=EXPANDED)
    bearer: Secret | None = None
    timeout_s: float = 5.0
    ca_file: str | None = None

    @property
    def shown_url(self) -> str:
        """The URL as the file has it, without its query."""
        return as_written(self.url).partition("?")[0]

    def __post_init__(self) -> None:
        rules = Rules()
        check_url(rules, "url", self.url, instead="bearer_env, bearer_file, bearer_credential")
        is_sendable = self.bearer is None or BEARER.fullmatch(self.bearer.reveal()) is not None
        rules.check(is_sendable, "must be visible ASCII characters without blanks or line breaks", "bearer")
        rules.seconds("timeout_s", self.timeout_s)
        rules.plain("ca_file", self.ca_file)
        rules.enforce()


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """The listener for edges, how they are told apart, and its limits. `edges` is sorted by name."""

    listen: tuple[str, ...] = field(metadata=ONE_OR_MORE)
    tls: ServerTlsConfig | None = None
    insecure_plain: bool = False
    dialects: tuple[DialectName, ...] = DIALECTS
    edges: Mapping[str, HubEdge] = field(default_factory=nothing, metadata=NAMED)
    jwt: HubJwt | None = None
    webhook: HubWebhook | None = None
    operator_token_sha256: tuple[str, ...] = field(default=(), metadata=ONE_OR_MORE)
    max_links: int = 10_000
    max_links_per_edge: int = 64
    max_calls_per_link: int = 64
    max_message_bytes: int = 16_777_216
    max_pending_bytes: int = 8_388_608
    handshake_timeout_s: float = 10.0
    heartbeat_s: float = 25.0
    dead_after_s: float = 60.0
    resume_grace_s: float = 120.0
    forget_s: float = 3600.0
    call_timeout_s: float = 0.0  # 0: the gateway's

    def dialects_of(self, edge: HubEdge) -> frozenset[DialectName]:
        """What an edge may speak here."""
        return frozenset(self.dialects) & frozenset(edge.dialects)

    def __post_init__(self) -> None:
        rules = Rules()
        self._check_listen(rules)
        rules.check(self.dialects != (), "must name at least one", "dialects")
        self._check_authentication(rules)
        rules.between("max_links", self.max_links, 1, 1_000_000)
        rules.between("max_links_per_edge", self.max_links_per_edge, 1, 100_000)
        rules.between("max_calls_per_link", self.max_calls_per_link, 1, 4000)  # below what `Peer` keeps open
        rules.between("max_message_bytes", self.max_message_bytes, 1024, 1_073_741_824)
        rules.between("max_pending_bytes", self.max_pending_bytes, 1024, 1_073_741_824)
        for key in ("handshake_timeout_s", "heartbeat_s", "dead_after_s", "forget_s"):
            rules.seconds(key, getattr(self, key))
        for key in ("resume_grace_s", "call_timeout_s"):
            rules.seconds(key, getattr(self, key), may_be_zero=True)
        text = "must be above heartbeat_s, or a link that is only idle would be cut"
        rules.check(self.dead_after_s > self.heartbeat_s, text, "dead_after_s")
        rules.enforce()

    def _check_listen(self, rules: Rules) -> None:
        rules.check(self.listen != (), "must name at least one address", "listen")
        for index, text in enumerate(self.listen):
            place = ("listen", index) if len(self.listen) > 1 else ("listen",)
            try:
                address = parse_address(text)
            except ValueError as exc:
                rules.check(False, str(exc), *place)
                continue
            rules.check(
                address.is_local or self.tls is not None or self.insecure_plain,
                "is not a loopback address, and without tls tokens and calls can be read on the way. Give"
                " [hub] tls, or set insecure_plain = true if something before it speaks TLS",
                *place,
            )
            rules.check(text not in self.listen[:index] or address.port == 0, "is listed twice", *place)

    def _check_authentication(self, rules: Rules) -> None:
        has_any = bool(self.edges) or self.jwt is not None or self.webhook is not None
        text = "has no way to tell edges apart: add [hub.edges.NAME] with token_sha256, [hub.jwt] or [hub.webhook]"
        rules.check(has_any, text)
        check_hashes(rules, self.operator_token_sha256, "operator_token_sha256")
        owners: dict[str, str] = {}
        for name, edge in self.edges.items():
            for text in edge.token_sha256:
                owner = owners.setdefault(text, name)
                is_own = owner == name or text == NO_HASH
                rules.check(is_own, f"is the token of edge {owner}, too", "edges", name, "token_sha256")
                is_operators = text in self.operator_token_sha256
                text_ = "is the operator's token, too"
                rules.check(not is_operators, text_, "edges", name, "token_sha256")
            has_common = bool(self.dialects_of(edge)) or not self.dialects
            rules.check(has_common, "none of them is in [hub] dialects", "edges", name, "dialects")
        if self.webhook is not None and not self.insecure_plain:
            parts = urlsplit(self.webhook.url)
            is_safe = parts.scheme == "https" or Address(host=parts.hostname or "").is_local
            text = "must be https://: edges' tokens are sent there (or a loopback address)"
            rules.check(is_safe, text, "webhook", "url")
