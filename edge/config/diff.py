"""A config as parts to run: `{PartKey: spec}` in start order.

Two configs' parts with equal specs are the same part; so a spec holds all that a part is built from,
and nothing else. A spec is a frozen dataclass, compared with `==`.
"""

from dataclasses import dataclass
from typing import Literal

from edge.config.model import AdminConfig, EdgeConfig, ServerConfig, ServerTlsConfig

PartKey = tuple[Literal["admin", "sessions", "upstream", "listener"], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsSpec:
    """What the live sessions are bounded by."""

    session_idle_s: float
    max_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSpec:
    """Where the endpoint for clients listens, and what it accepts on a connection."""

    listen: tuple[str, ...]
    tls: ServerTlsConfig | None
    max_connections: int
    max_message_bytes: int


PartSpec = AdminConfig | SessionsSpec | ServerConfig | ListenerSpec


def parts_of(config: EdgeConfig) -> dict[PartKey, PartSpec]:
    """The parts that `config` asks for: admin, sessions, upstreams by name, the listener last."""
    gateway = config.gateway
    parts: dict[PartKey, PartSpec] = {}
    if config.admin.enabled:
        parts["admin", "main"] = config.admin
    parts["sessions", "main"] = SessionsSpec(
        session_idle_s=gateway.session_idle_s, max_sessions=gateway.max_sessions
    )
    for name in sorted(config.servers):
        parts["upstream", name] = config.servers[name]
    parts["listener", "main"] = ListenerSpec(
        listen=gateway.listen,
        tls=gateway.tls,
        max_connections=gateway.max_connections,
        max_message_bytes=gateway.max_message_bytes,
    )
    return parts
