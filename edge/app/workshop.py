"""Builds parts from their specs, and gives new specs to parts that go on.

Building does nothing that anybody could notice: a part that is built and thrown away leaves no trace, neither in
health nor in the metrics, because a reload may be refused after it. `Built.install` is what makes it seen.
"""

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.app.loaded import Loaded
from edge.app.required import Required, start_limit_s
from edge.backoff import Backoff
from edge.config.address import parse_address
from edge.config.diff import ControlSpec, HubSpec, ListenerSpec, PartKey, PartSpec, SessionsSpec, UplinkSpec
from edge.config.model import AdminConfig, HttpServerConfig, ServerConfig, StdioServerConfig
from edge.gate.origin import Origins
from edge.health import Health, Status
from edge.metrics import Metrics
from edge.net.addresses import Addresses
from edge.net.cgroup import Delegated
from edge.net.http_server import HttpLimits
from edge.net.tls import endpoint_context, hub_context
from edge.parts.admin import AdminFace
from edge.parts.channel import Connect
from edge.parts.control import Control
from edge.parts.cors import CrossOrigin
from edge.parts.gateway import Gateway
from edge.parts.http_face import HttpFace
from edge.parts.http_upstream import connect_http
from edge.parts.link_names import LinkNames
from edge.parts.listener import Listener
from edge.parts.reload_face import ControlFace, Reload, ReloadDesk
from edge.parts.sessions import Sessions
from edge.parts.stdio_channel import connect_stdio
from edge.parts.upstream import Upstream
from edge.redaction import Redactor
from edge.supervise.slot import Part, Slot

if TYPE_CHECKING:
    from edge.parts.acceptor import Acceptor

ADMIN_CONNECTIONS = 100
SMALL_BODY_BYTES = 65_536

server_log = logging.getLogger("edge.server")


@dataclass(slots=True, kw_only=True)
class Built:
    """A part in its slot. `subject` is what others talk to: the upstream, listener, uplink or acceptor itself.

    `update` prepares the change to another spec, which may fail, and gives what carries it out, which does not.
    """

    key: PartKey
    spec: PartSpec
    slot: Slot
    subject: Any
    statuses: Callable[[], list[Status]]
    update: Callable[[PartSpec, Loaded], Callable[[], None]]


class Workshop:
    """What all parts are built with. `attach_edges` takes the upstreams of an acceptor's edges, `reload` serves
    requests to reload, `info` gives what the admin pages show of the whole."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        sessions: Sessions,
        health: Health,
        metrics: Metrics,
        addresses: Addresses,
        redactor: Redactor,
        env: Mapping[str, str],
        read_secret: Callable[[str], str],
        state: Path | None,
        cgroups: Delegated | None,
        attach_edges: Callable[["Acceptor", Mapping[str, Upstream]], None],
        reload: Reload,
        info: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._gateway = gateway
        self._sessions = sessions
        self._health = health
        self._metrics = metrics
        self._addresses = addresses
        self._redactor = redactor
        self._env = env
        self._read_secret = read_secret
        self._state = state
        self._cgroups = cgroups
        self._attach_edges = attach_edges
        self._link_names = LinkNames()
        self._reload = reload
        self._info = info

    def build(
        self, key: PartKey, spec: PartSpec, loaded: Loaded, box: str, *, is_late: bool = False
    ) -> Built:
        """`box` is this box's name. `is_late`: it starts after everything is in force, so nothing waits for it.

        Raises: ConfigError, for what cannot be judged before: a certificate that has just been replaced.
        """
        match spec:
            case StdioServerConfig() | HttpServerConfig():
                return self._server(key, spec, is_late=is_late)
            case SessionsSpec():
                return self._sessions_part(key, spec)
            case ListenerSpec():
                return self._gateway_listener(key, spec)
            case AdminConfig():
                return self._admin_listener(key, spec)
            case ControlSpec():
                return self._control(key, spec)
            case HubSpec():
                return self._hub(key, spec, loaded)
            case UplinkSpec():
                return self._uplink(key, spec, loaded, box)

    def _built(
        self,
        key: PartKey,
        spec: PartSpec,
        part: Part,
        status: Status,
        *,
        subject: Any,
        update: Callable[[PartSpec, Loaded], Callable[[], None]],
        reports: bool = True,
        statuses: Callable[[], list[Status]] | None = None,
    ) -> Built:
        # The same object again after a crash: others hold it, and its state outlives its `run`.
        slot = Slot(*key, lambda: part, metrics=self._metrics, status=status, part_reports=reports)
        if statuses is None:

            def statuses() -> list[Status]:
                return [status]

        return Built(key=key, spec=spec, slot=slot, subject=subject, statuses=statuses, update=update)

    # -- servers

    def _server(self, key: PartKey, spec: ServerConfig, *, is_late: bool) -> Built:
        status = self._health.make(f"server:{spec.name}", required=spec.required)
        metrics = self._metrics.new_server()
        older = self._metrics.servers.get(spec.name)
        metrics.processes = older.processes if older is not None else None  # of all that have this name
        connect: Connect
        if isinstance(spec, StdioServerConfig):
            connect = connect_stdio(
                spec,
                metrics=metrics,
                log=server_log,
                status=status,
                cgroups=self._cgroups,
                redactor=self._redactor,
            )
        else:
            connect = connect_http(spec, metrics=metrics, log=server_log, redactor=self._redactor)
            metrics.tls_unverified = not spec.verify if spec.url.startswith("https:") else None
        upstream = Upstream(
            spec,
            connect,
            events=self._gateway,
            status=status,
            metrics=metrics,
            backoff=backoff_of(spec),
            log=server_log,
        )

        def update(spec: PartSpec, loaded: Loaded) -> Callable[[], None]:
            assert isinstance(spec, StdioServerConfig | HttpServerConfig)
            return lambda: upstream.update(spec, backoff_of(spec))

        part: Part = upstream
        if spec.required and not is_late:
            part = Required(upstream, limit_s=start_limit_s(spec))
        return self._built(key, spec, part, status, subject=upstream, update=update)

    # -- what clients and operators talk to

    def _sessions_part(self, key: PartKey, spec: SessionsSpec) -> Built:
        status = self._health.make("part:sessions")

        def update(spec: PartSpec, loaded: Loaded) -> Callable[[], None]:
            assert isinstance(spec, SessionsSpec)
            idle_s, most = spec.session_idle_s, spec.max_sessions
            return lambda: self._sessions.update(idle_s=idle_s, max_sessions=most)

        sessions = self._sessions
        return self._built(key, spec, sessions, status, subject=sessions, update=update, reports=False)

    def _gateway_listener(self, key: PartKey, spec: ListenerSpec) -> Built:
        status = self._health.make("listener:gateway")
        face = HttpFace(
            self._gateway,
            self._sessions,
            path=spec.path,
            origins=origins_of(spec),
            scheme="https" if spec.tls else "http",
            cross_origin=CrossOrigin(spec.allowed_origins),
            metrics=self._metrics,
        )
        listener = Listener(
            "gateway",
            spec.listen,
            endpoint_context(spec.tls) if spec.tls is not None else None,
            face,
            HttpLimits(max_body_bytes=spec.max_message_bytes),
            max_connections=spec.max_connections,
            status=status,
            metrics=self._metrics,
            open_address=self._addresses.of("gateway"),
        )
        present = spec

        def update(spec: PartSpec, loaded: Loaded) -> Callable[[], None]:
            assert isinstance(spec, ListenerSpec)
            new = spec
            tables = [tls for tls in (present.tls, new.tls) if tls is not None and tls.client_ca is not None]
            is_stricter = bool(tables) and (present.tls, present.tls_files) != (new.tls, new.tls_files)
            context = endpoint_context(new.tls) if new.tls is not None else None
            limits = HttpLimits(max_body_bytes=new.max_message_bytes)
            origins, cross_origin = origins_of(new), CrossOrigin(new.allowed_origins)

            def carry_out() -> None:
                nonlocal present
                present = new
                listener.update(context, limits, max_connections=new.max_connections, is_stricter=is_stricter)
                face.update(path=new.path, origins=origins, cross_origin=cross_origin)

            return carry_out

        return self._built(key, spec, listener, status, subject=listener, update=update)

    def _admin_listener(self, key: PartKey, spec: AdminConfig) -> Built:
        status = self._health.make("listener:admin")
        # On a loopback address only a browser that was led here could ask under a foreign name. On any other
        # address the pages are public, and Prometheus asks by whatever name it has been given.
        origins = Origins((spec.listen,), hosts_key="") if parse_address(spec.listen).is_local else None
        desk = ReloadDesk(self._reload, spec.reload_token)
        face = AdminFace(
            health=self._health, metrics=self._metrics, origins=origins, info=self._info, desk=desk
        )
        listener = Listener(
            "admin",
            (spec.listen,),
            None,
            face,
            HttpLimits(max_body_bytes=SMALL_BODY_BYTES),
            max_connections=ADMIN_CONNECTIONS,
            status=status,
            metrics=self._metrics,
            open_address=self._addresses.of("admin"),
        )

        def update(spec: PartSpec, loaded: Loaded) -> Callable[[], None]:
            assert isinstance(spec, AdminConfig)
            token = spec.reload_token

            def carry_out() -> None:
                desk.token = token

            return carry_out

        return self._built(key, spec, listener, status, subject=listener, update=update)

    def _control(self, key: PartKey, spec: ControlSpec) -> Built:
        status = self._health.make("part:control")
        control = Control(
            spec,
            ControlFace(ReloadDesk(self._reload, None)),
            status=status,
            metrics=self._metrics,
            open_address=self._addresses.of("control"),
        )
        return self._built(key, spec, control, status, subject=control.listener, update=never)

    # -- links; their modules are loaded only where there are any: most boxes' start would pay for the hub's side,
    # and a hub's for the other

    def _uplink(self, key: PartKey, spec: UplinkSpec, loaded: Loaded, box: str) -> Built:
        from edge.parts.connector import Uplink
        from edge.parts.link_store import LinkStore

        status = self._health.make(f"part:uplink {spec.uplink.name}")
        uplink = Uplink(
            spec.uplink,
            spec.uplink.links(box, spec.servers),
            gateway=self._gateway,
            sessions=self._sessions,
            metrics=self._metrics,
            names=self._link_names,
            add_status=self._health.make,
            store=LinkStore(self._state),
            env=self._env,
            read_secret=self._read_secret,
            learn=lambda secret: self._redactor.redact([secret], source=f"uplink {spec.uplink.name}"),
        )

        def update(spec: PartSpec, loaded: Loaded) -> Callable[[], None]:
            assert isinstance(spec, UplinkSpec)
            links, leave_s = spec.uplink.links(box, spec.servers), loaded.config.gateway.drain_s
            return lambda: uplink.update(links, leave_s)

        def statuses() -> list[Status]:
            return [status, *uplink.statuses]

        return self._built(
            key, spec, uplink, status, subject=uplink, update=update, reports=False, statuses=statuses
        )

    def _hub(self, key: PartKey, spec: HubSpec, loaded: Loaded) -> Built:
        from edge.parts.acceptor import Acceptor

        status = self._health.make("listener:hub")
        acceptor = Acceptor(
            spec.hub,
            self._gateway,
            attach=lambda edges: self._attach_edges(acceptor, edges),
            taken=frozenset(loaded.config.servers),
            health=self._health,
            metrics=self._metrics,
            status=status,
            open_address=self._addresses.of("hub"),
        )

        def update(spec: PartSpec, loaded: Loaded) -> Callable[[], None]:
            assert isinstance(spec, HubSpec)
            hub = spec.hub
            context = hub_context(hub.tls) if hub.tls is not None else None
            return lambda: acceptor.update(hub, context)

        return self._built(key, spec, acceptor, status, subject=acceptor, update=update)


def never(spec: PartSpec, loaded: Loaded) -> Callable[[], None]:
    raise AssertionError("a part of this kind is replaced, never updated")


def backoff_of(spec: ServerConfig) -> Backoff:
    retry = spec.restart if isinstance(spec, StdioServerConfig) else spec.reconnect
    return Backoff(retry.first_s, retry.limit_s, rng=random.random)


def origins_of(spec: ListenerSpec) -> Origins:
    return Origins(spec.listen, allowed_hosts=spec.allowed_hosts, allowed_origins=spec.allowed_origins)
