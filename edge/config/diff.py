"""A config as parts to run: `{PartKey: spec}` in start order.

Two configs' parts with equal specs are the same part; so a spec holds all that a part is built from,
and nothing else. A spec is a frozen dataclass, compared with `==`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edge.config.model import (
    AdminConfig,
    EdgeConfig,
    HubConfig,
    ServerConfig,
    ServerTlsConfig,
    UplinkConfig,
)

PartKey = tuple[Literal["admin", "sessions", "upstream", "listener", "acceptor", "uplink"], str]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSpec:
    """An uplink with what it takes from other tables."""

    uplink: UplinkConfig
    box: str  # what its links are named after, unless the uplink says so itself
    servers: tuple[str, ...]  # those that it publishes

    @property
    def links(self) -> Mapping[str, str | None]:
        """The names of its links, each with the server behind it; None: all of them together."""
        return self.uplink.links(self.box, self.servers)


PartSpec = AdminConfig | SessionsSpec | ServerConfig | ListenerSpec | HubConfig | UplinkSpec


def parts_of(config: EdgeConfig) -> dict[PartKey, PartSpec]:
    """The parts that `config` asks for: admin, sessions, upstreams, acceptor, listener, uplinks; by name."""
    gateway = config.gateway
    parts: dict[PartKey, PartSpec] = {}
    if config.admin.enabled:
        parts["admin", "main"] = config.admin
    parts["sessions", "main"] = SessionsSpec(
        session_idle_s=gateway.session_idle_s, max_sessions=gateway.max_sessions
    )
    for name in sorted(config.servers):
        parts["upstream", name] = config.servers[name]
    if config.hub is not None:
        parts["acceptor", "main"] = config.hub
    if gateway.enabled:
        parts["listener", "main"] = ListenerSpec(
            listen=gateway.listen,
            tls=gateway.tls,
            max_connections=gateway.max_connections,
            max_message_bytes=gateway.max_message_bytes,
        )
    for name in sorted(config.uplinks):
        uplink = config.uplinks[name]
        parts["uplink", name] = UplinkSpec(
            uplink=uplink, box=config.name, servers=uplink.servers or tuple(sorted(config.servers))
        )
    return parts
