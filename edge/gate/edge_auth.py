"""Who an edge is that connects: by the hash of its token, or by a JWT signed with a shared key (HS256).

Pure: the time comes as an argument. A token is compared by its SHA-256, which is what the config holds, so neither a
log nor a memory dump of the table gives a token away. What neither way knows may be asked of a webhook
(`parts/edge_webhook.py`). Source for tokens: RFC 6750 (Bearer), RFC 7519 (JWT) sections 4.1 and 7.2.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeGuard

from edge.config.common import SERVER_NAME
from edge.config.hub import HubConfig, HubJwt

MAX_TOKEN_CHARS: Final = 8192
MAX_NAME_CHARS: Final = 64

WayIn = Literal["token", "jwt", "webhook"]  # what let an edge in: that the config knows its token, or another
Reason = Literal[
    "missing",
    "unknown_token",
    "expired",
    "wrong_name",
    "dialect",
    "webhook_refused",
    "webhook_failed",
    "limit",
]
STATUS: Final[Mapping[Reason, int]] = {
    "missing": 401,
    "unknown_token": 401,
    "expired": 401,
    "webhook_refused": 401,
    "wrong_name": 403,
    "dialect": 403,
    "webhook_failed": 503,
    "limit": 503,
}


@dataclass(frozen=True, slots=True)
class Edge:
    """Who connects. It may have several links: one under its own name, others under names that begin with it.

    `dialects`: what it may speak of what the hub speaks; None: all of that.
    """

    name: str
    dialects: frozenset[str] | None = None

    def may_be_called(self, link_name: str) -> bool:
        """Whether a link of this edge can have this name: its own, or its own, a hyphen and more."""
        return link_name == self.name or link_name.startswith(f"{self.name}-")

    def may_speak(self, dialect: str) -> bool:
        return self.dialects is None or dialect in self.dialects


@dataclass(frozen=True, slots=True)
class Denied:
    """Why an edge is not let in. `reason` is a metric label; `text` is fit for the edge, and holds no secret."""

    reason: Reason
    text: str

    @property
    def status(self) -> int:
        """What HTTP says."""
        return STATUS[self.reason]


MISSING: Final = Denied("missing", "a token is needed: Authorization: Bearer TOKEN")
UNKNOWN: Final = Denied("unknown_token", "this token is not known here")


def is_link_name(name: str) -> bool:
    """Whether a link can have this name at all: it stands in addresses, and before the names of tools."""
    return (
        SERVER_NAME.fullmatch(name) is not None
        and name not in (".", "..")
        and not (name.startswith("_") or name.endswith("_") or "__" in name)
    )


def bearer_of(authorization: str | None) -> str | None:
    """The token in an Authorization field. Clients are known that leave the scheme out."""
    if authorization is None:
        return None
    scheme, blank, rest = authorization.strip().partition(" ")
    if blank and scheme.lower() == "bearer":
        return rest.strip() or None
    return scheme if scheme and not blank and scheme.lower() != "bearer" else None


def digest_of(token: str) -> bytes:
    """What is kept of a token, to know it again."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


class TokenAuth:
    """The tokens that the config knows."""

    def __init__(self, config: HubConfig) -> None:
        self._dialects = frozenset(config.dialects)
        self._configured = {
            name: Edge(name, frozenset(config.dialects_of(edge))) for name, edge in config.edges.items()
        }
        self._by_digest = {
            bytes.fromhex(text): self._configured[name]
            for name, edge in config.edges.items()
            for text in edge.token_sha256
        }
        self._operators = tuple(bytes.fromhex(text) for text in config.operator_token_sha256)
        self._jwt = config.jwt

    def judge(self, token: str | None, now_unix: float) -> Edge | Denied:
        """Whose token it is. `unknown_token` is not the last word where there is a webhook to ask."""
        if not token:
            return MISSING
        if len(token) > MAX_TOKEN_CHARS:
            return UNKNOWN
        digest = digest_of(token)
        found = self._by_digest.get(digest)
        if found is not None:
            return found
        if self._jwt is not None and token.count(".") == 2:
            return self._judge_jwt(self._jwt, token, now_unix)
        return UNKNOWN

    def edge_of(self, digest: bytes) -> Edge | None:
        """Whose token it is that has this digest, if the config knows it by that."""
        return self._by_digest.get(digest)

    def is_operator(self, token: str | None) -> bool:
        """Whether the token is one that may list and end links, and call through them."""
        digest = digest_of(token or "")
        is_one = False
        for known in self._operators:
            is_one |= hmac.compare_digest(known, digest)
        return is_one

    def named(self, name: str, dialects: frozenset[str] | None = None) -> Edge | Denied:
        """The edge that somebody we trust calls by this name."""
        if not is_link_name(name):
            return Denied("wrong_name", "the token is good, but what it names cannot be an edge's name")
        configured = self._configured.get(name)
        allowed = self._dialects if configured is None or configured.dialects is None else configured.dialects
        return Edge(name, allowed if dialects is None else allowed & dialects)

    def may_be_called(self, edge: Edge, link_name: str) -> Denied | None:
        """None if this edge may have a link of this name; a configured edge with a longer name comes first."""
        if not is_link_name(link_name):
            return Denied(
                "wrong_name", "a link's name is 1 to 64 letters, digits, dots, hyphens or underscores"
            )
        if not edge.may_be_called(link_name):
            text = (
                f"the token is edge {edge.name}'s, so the name must be {edge.name} or begin with {edge.name}-"
            )
            return Denied("wrong_name", text)
        end = len(link_name)
        while end > len(edge.name):
            if link_name[:end] in self._configured:
                return Denied("wrong_name", "this name is another edge's")
            end = link_name.rfind("-", 0, end)
        return None

    def _judge_jwt(self, config: HubJwt, token: str, now_unix: float) -> Edge | Denied:
        claims = claims_of(token, config)
        if claims is None:
            return UNKNOWN
        expires, begins = claims.get("exp"), claims.get("nbf", now_unix)
        if not _is_number(expires) or not _is_number(begins):
            return UNKNOWN
        if not expires > now_unix - config.leeway_s:  # so that NaN is over, too
            return Denied("expired", "this token has expired")
        if not begins <= now_unix + config.leeway_s:
            return UNKNOWN
        name = claims.get(config.name_claim)
        if not isinstance(name, str):
            return Denied("wrong_name", "the token is good, but it names no edge")
        return self.named(name)


def withdrawn(old: HubConfig, new: HubConfig) -> frozenset[WayIn]:
    """The ways in by which those who came by them might not be let in any more, of JWTs and the webhook. What we show
    the webhook ourselves says nothing of them."""
    by_jwt = old.jwt is not None and (
        new.jwt is None or replace(new.jwt, leeway_s=old.jwt.leeway_s) != old.jwt
    )
    by_webhook = old.webhook is not None and (new.webhook is None or new.webhook.url != old.webhook.url)
    ways: tuple[tuple[WayIn, bool], ...] = (("jwt", by_jwt), ("webhook", by_webhook))
    return frozenset(way for way, is_over in ways if is_over)


def claims_of(token: str, config: HubJwt) -> dict[str, Any] | None:
    """The claims of a token with a good signature, issuer and audience. Its times are the caller's to judge."""
    import jwt  # where it is used only: most hubs know their edges by hash

    try:
        return jwt.decode(
            token,
            config.secret.reveal(),
            algorithms=["HS256"],
            issuer=config.issuer or None,
            audience=config.audience or None,
            options={
                "require": ["exp"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": bool(config.audience),
                "verify_iss": bool(config.issuer),
            },
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
