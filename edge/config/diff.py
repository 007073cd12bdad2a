"""A config as parts to run: `{PartKey: spec}` in start order, and what changes from one config to another.

Two configs' parts with equal specs are the same part; so a spec holds all that a part is built from, and nothing
else. A spec is a frozen dataclass, compared with `==`. Of parts that differ some can go on with the new spec, because
only settings changed that are read when they are needed (`goes_on`); the others are replaced.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.config.model import (
    AdminConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    HubConfig,
    ServerConfig,
    ServerTlsConfig,
    StdioServerConfig,
    UplinkConfig,
)

PartKey = tuple[
    Literal["admin", "control", "sessions", "upstream", "listener", "acceptor", "uplink"],
    str,
]
Digests = tuple[str, ...]
HUB: PartKey = ("acceptor", "main")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSpec:
    """Where `mcp-edge reload` and its like find us: at both places, each of which may be empty.

    `asked_for` is the one that the config names, so it has to work. `usual` is the one that this machine and the
    config file's path make up, so it is known to whoever reads another config by now; it need not be usable.
    """

    asked_for: str = ""
    usual: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(place for place in (self.asked_for, self.usual) if place)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsSpec:
    """What the live sessions are bounded by."""

    session_idle_s: float
    max_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSpec:
    """Where the endpoint for clients listens, what it accepts on a connection, and whom it lets in.

    `tls_files` are digests of the files that `tls` names: a renewed certificate is another one.
    """

    listen: tuple[str, ...]
    path: str
    tls: ServerTlsConfig | None
    tls_files: Digests
    allowed_hosts: tuple[str, ...]
    allowed_origins: tuple[str, ...]
    max_connections: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSpec:
    """The hub, with the digests of the files that its `tls` names."""

    hub: HubConfig
    tls_files: Digests


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


PartSpec = AdminConfig | ControlSpec | SessionsSpec | ServerConfig | ListenerSpec | HubSpec | UplinkSpec


def parts_of(
    config: EdgeConfig, *, digests: Mapping[str, str] = {}, control: ControlSpec | None = None
) -> dict[PartKey, PartSpec]:
    """The parts that `config` asks for: admin, control, sessions, upstreams, acceptor, listener, uplinks; by name.

    `digests` are those of files by path; `control` stands for `admin.control`, which has a default of this machine.
    """
    gateway = config.gateway
    parts: dict[PartKey, PartSpec] = {}
    if config.admin.enabled:
        parts["admin", "main"] = config.admin
    if control is not None:
        parts["control", "main"] = control
    parts["sessions", "main"] = SessionsSpec(
        session_idle_s=gateway.session_idle_s, max_sessions=gateway.max_sessions
    )
    for name in sorted(config.servers):
        parts["upstream", name] = config.servers[name]
    if config.hub is not None:
        parts["acceptor", "main"] = HubSpec(
            hub=config.hub, tls_files=digests_of(hub_paths(config.hub), digests)
        )
    if gateway.enabled:
        parts["listener", "main"] = ListenerSpec(
            listen=gateway.listen,
            path=gateway.path,
            tls=gateway.tls,
            tls_files=digests_of(tls_paths(gateway.tls), digests),
            allowed_hosts=gateway.allowed_hosts,
            allowed_origins=gateway.allowed_origins,
            max_connections=gateway.max_connections,
            max_message_bytes=gateway.max_message_bytes,
        )
    for name in sorted(config.uplinks):
        uplink = config.uplinks[name]
        parts["uplink", name] = UplinkSpec(
            uplink=uplink, box=config.name, servers=uplink.servers or tuple(sorted(config.servers))
        )
    return parts


def tls_paths(tls: ServerTlsConfig | None) -> tuple[str, ...]:
    """The files that a listener's TLS is made from."""
    return () if tls is None else tuple(path for path in (tls.cert, tls.key, tls.client_ca) if path)


def hub_paths(hub: HubConfig) -> tuple[str, ...]:
    """The files that the hub's TLS, and its webhook's, is made from."""
    ca_file = hub.webhook.ca_file if hub.webhook is not None else None
    return (*tls_paths(hub.tls), *([ca_file] if ca_file else ()))


def digests_of(paths: Sequence[str], digests: Mapping[str, str]) -> Digests:
    return tuple(digests.get(path, "") for path in paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeChanges:
    """Names of `[hub.edges]`, sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """From one set of parts to another: the keys of each kind of change, in start order (removed ones by name).

    `settings` are tables without a part of their own that differ: `gateway`, `log`, `name`. `edges` are those of a hub
    that goes on or is replaced: the names of each kind of change.
    """

    added: tuple[PartKey, ...] = ()
    removed: tuple[PartKey, ...] = ()
    restarted: tuple[PartKey, ...] = ()
    updated: tuple[PartKey, ...] = ()
    unchanged: tuple[PartKey, ...] = ()
    settings: tuple[str, ...] = ()
    edges: EdgeChanges = EdgeChanges()

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.removed or self.restarted or self.updated or self.settings)


def edges_between(old: PartSpec | None, new: PartSpec | None) -> EdgeChanges:
    """What changes in the hub's table; nothing is told one by one of a hub that comes or goes."""
    if not isinstance(old, HubSpec) or not isinstance(new, HubSpec):
        return EdgeChanges()
    before, after = old.hub.edges, new.hub.edges
    return EdgeChanges(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        updated=tuple(sorted(name for name in after if name in before and after[name] != before[name])),
    )


def changes_between(
    old: Mapping[PartKey, PartSpec],
    new: Mapping[PartKey, PartSpec],
    settings: Sequence[str] = (),
) -> Changes:
    """What has to happen for the parts `old` to become the parts `new`."""
    both = [key for key in new if key in old]
    differ = [key for key in both if old[key] != new[key]]
    return Changes(
        added=tuple(key for key in new if key not in old),
        removed=tuple(sorted(key for key in old if key not in new)),
        restarted=tuple(key for key in differ if not goes_on(old[key], new[key])),
        updated=tuple(key for key in differ if goes_on(old[key], new[key])),
        unchanged=tuple(key for key in both if old[key] == new[key]),
        settings=tuple(settings),
        edges=edges_between(old.get(HUB), new.get(HUB)),
    )


def settings_between(old: EdgeConfig, new: EdgeConfig) -> tuple[str, ...]:
    """Tables that differ in what no part is built from."""
    differs = {
        "gateway": gateway_settings(old.gateway) != gateway_settings(new.gateway),
        "log": old.log != new.log,
        "name": old.name != new.name,
    }
    return tuple(name for name, is_so in differs.items() if is_so)


def gateway_settings(gateway: GatewayConfig) -> tuple[object, ...]:
    """How names are made, and the limits of calls: read anew for each."""
    return (
        gateway.prefix,
        gateway.separator,
        gateway.max_name_chars,
        gateway.page_size,
        gateway.call_timeout_s,
        gateway.drain_s,
        gateway.insecure_public,
    )


def goes_on(old: PartSpec, new: PartSpec) -> bool:
    """Whether a part that was built from `old` can take `new` while it runs."""
    match old, new:
        case (SessionsSpec(), SessionsSpec()):
            return True
        case (AdminConfig(), AdminConfig()):
            return old.listen == new.listen
        case (ListenerSpec(), ListenerSpec()):
            return old.listen == new.listen and (old.tls is None) == (new.tls is None)
        case (HubSpec(), HubSpec()):
            return old.hub.listen == new.hub.listen and (old.hub.tls is None) == (new.hub.tls is None)
        case (StdioServerConfig(), StdioServerConfig()):
            return built_from(old) == built_from(new)
        case (HttpServerConfig(), HttpServerConfig()):
            return built_from(old) == built_from(new)
        case (UplinkSpec(), UplinkSpec()):
            return old.uplink == new.uplink and old.box == new.box
        case _:
            return False


def built_from(server: ServerConfig) -> ServerConfig:
    """The server as it is, with a default for everything that is read when it is needed."""
    usual = StdioServerConfig(name="usual", command=("usual",))
    same = dataclasses.replace(
        server,
        required=usual.required,
        call_timeout_s=usual.call_timeout_s,
        probe_s=usual.probe_s,
        list_refresh_s=usual.list_refresh_s,
    )
    if isinstance(same, StdioServerConfig):
        limits = dataclasses.replace(same.limits, concurrency=usual.limits.concurrency)
        return dataclasses.replace(
            same,
            limits=limits,
            restart=usual.restart,
            start_timeout_s=usual.start_timeout_s,
            overlap=usual.overlap,
        )
    # The limits are those of its connections, too.
    return dataclasses.replace(same, reconnect=HttpServerConfig(name="usual", url="http://usual").reconnect)


def addresses_of(parts: Mapping[PartKey, PartSpec]) -> dict[str, tuple[str, ...]]:
    """Where each listener is to listen, by its name: `gateway`, `admin`, `control`, `hub`."""
    found: dict[str, tuple[str, ...]] = {}
    for key, spec in parts.items():
        match spec:
            case ListenerSpec(listen=listen) | HubSpec(hub=HubConfig(listen=listen)):
                found[shown(key)] = listen
            case AdminConfig(listen=text):
                found[shown(key)] = (text,)
            case ControlSpec():
                found[shown(key)] = spec.places
    return found


WORDS = {"upstream": "server", "acceptor": "hub"}


def shown(key: PartKey) -> str:
    """A part as an operator calls it: `server git`, `uplink hq`, `gateway`, `admin`."""
    kind, name = key
    if kind == "listener":
        return "gateway"
    word = WORDS.get(kind, kind)
    return word if name == "main" and kind not in ("upstream", "uplink") else f"{word} {name}"


def lives_twice(spec: PartSpec) -> bool:
    """Whether a new one may run beside the old: not where both would have one lock, or one name at a hub."""
    match spec:
        case StdioServerConfig():
            return spec.overlap
        case UplinkSpec() | SessionsSpec():
            return False
        case _:
            return True
