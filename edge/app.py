"""Composition root: config → parts → one tree of nurseries, from the first signal handler to the last goodbye.

The only file that knows every class. `App.run` starts admin, sessions, servers, the hub's acceptor, listeners and
uplinks in this order, says that it is ready, and serves until SIGTERM, SIGINT or SIGHUP; then everything drains
within `gateway.drain_s`. A second signal ends the wait. A fault that a slot could not mend rises from here, and the
process ends.
"""

import gc
import logging
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import trio

from edge import __version__
from edge.backoff import Backoff
from edge.config.address import parse_address
from edge.config.diff import ListenerSpec, PartSpec, SessionsSpec, UplinkSpec, parts_of
from edge.config.model import (
    AdminConfig,
    EdgeConfig,
    HttpServerConfig,
    HubConfig,
    ServerConfig,
    StdioServerConfig,
)
from edge.config.secrets import SECRET_NAME, Expanded, inserted_into
from edge.errors import EdgeError, UpstreamError
from edge.gate.origin import Origins
from edge.health import Health, Status
from edge.log import Redactor
from edge.metrics import Metrics
from edge.net.cgroup import Delegated
from edge.net.http_server import HttpLimits
from edge.net.tls import endpoint_context
from edge.parts.admin import AdminFace
from edge.parts.channel import Connect
from edge.parts.cors import CrossOrigin
from edge.parts.gateway import Gateway
from edge.parts.http_face import HttpFace
from edge.parts.http_upstream import connect_http
from edge.parts.listener import Listener
from edge.parts.sessions import LiveSession, Sessions
from edge.parts.stdio_channel import connect_stdio
from edge.parts.upstream import Upstream
from edge.parts.views import Views
from edge.proto.mcp import METHODS
from edge.supervise.slot import Part, Slot
from edge.supervise.supervisor import Supervisor

if TYPE_CHECKING:
    from edge.parts.acceptor import Acceptor
    from edge.parts.connector import Uplink

log = logging.getLogger("edge.app")
server_log = logging.getLogger("edge.server")

FIRST_START_S = 10.0
"""How long the ready line waits for servers' first outcome; clients are served meanwhile."""

LAST_WORDS_S = 1.0
GIVEN_UP_CHECK_S = 0.2
REQUIRED_HTTP_S = 30.0
ADMIN_CONNECTIONS = 100
ADMIN_BODY_BYTES = 65_536


class RequiredServerDown(UpstreamError):
    """A server that the config requires did not come up in its time; start-up fails."""


class UplinksGivenUp(EdgeError):
    """Every link has been given up, after as many attempts as it was allowed."""


def unreadable(path: str) -> str:
    raise OSError("no secrets can be read")


class App:
    """The running appliance. Constructing it does no I/O; `run` is called once.

    `env` and `read_secret` are for tokens that are read again for each connection out; `state` is where polling links
    keep their session ids. `gives_up`: end when every link has been given up, as there is nothing else to do.
    `cgroups`: where each stdio server gets one of its own.
    """

    def __init__(
        self,
        config: EdgeConfig,
        *,
        redactor: Redactor,
        env: Mapping[str, str] = MappingProxyType({}),
        read_secret: Callable[[str], str] = unreadable,
        state: Path | None = None,
        gives_up: bool = False,
        cgroups: Delegated | None = None,
    ) -> None:
        self.config = config
        self.name = config.name or socket.gethostname()
        self._redactor = redactor
        self._env = env
        self._read_secret = read_secret
        self._state = state
        self._gives_up = gives_up
        self._cgroups = cgroups
        self._parts = parts_of(config)
        self.metrics = Metrics(methods=METHODS)
        self.health = Health(clean=redactor.clean)
        gateway = config.gateway
        self.upstreams: dict[str, Upstream] = {}
        self.uplinks: dict[str, Uplink] = {}
        self._listeners: dict[str, Listener] = {}
        self._acceptor: Acceptor | None = None
        groups = {
            spec.uplink.name: frozenset(spec.servers) if spec.uplink.servers else None
            for spec in self._parts.values()
            if isinstance(spec, UplinkSpec) and spec.uplink.publish == "all"
        }
        self._gateway = Gateway(
            Views(gateway, groups),
            live=self._live,
            call_timeout_s=gateway.call_timeout_s,
            page_size=gateway.page_size,
        )
        self._sessions = Sessions(
            idle_s=gateway.session_idle_s,
            max_sessions=gateway.max_sessions,
            metrics=self.metrics,
            on_end=self._gateway.forget,
            tidy=self._gateway.tidy,
        )
        self.metrics.sessions_active = lambda: len(self._sessions)
        self.metrics.queues.update(
            session_notifications=self._sessions.count_queued,
            answers_in_progress=self._sessions.count_waiting,
            subscriptions=self._gateway.count_subscriptions,
            resource_links=self._gateway.count_links,
        )
        self._is_stopping = False

    async def run(self, announce: Callable[["App"], None]) -> None:
        """Serve until told to stop. `announce` is called once everything is up.

        Raises: ConfigError or EdgeError if it cannot start, in a group; a bug that a slot could not mend.
        """
        supervisor = Supervisor([self._slot(*key, spec) for key, spec in self._parts.items()])
        self._gateway.attach(self.upstreams)
        # A terminal that is closed, or an operator who hopes for a reload: without us there must be nothing left.
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_told, signals, supervisor, nursery.cancel_scope)
                if self._gives_up:
                    nursery.start_soon(self._end_when_given_up)

                async def supervise(*, task_status: trio.TaskStatus[None]) -> None:
                    await supervisor.run(task_status=task_status)
                    nursery.cancel_scope.cancel()

                await nursery.start(supervise)
                with trio.move_on_after(FIRST_START_S):
                    for upstream in self.upstreams.values():
                        await upstream.wait_settled()
                    for uplink in self.uplinks.values():
                        await uplink.wait_settled()
                if not self._is_stopping:
                    gc.collect()
                    gc.freeze()  # what is here now stays: the collector need not look at it again
                    announce(self)
                    # Loads what the first scrape needs: the file may be replaced while we run.
                    self.metrics.exposition()
        log.info("stopped")

    @property
    def endpoints(self) -> list[str]:
        """Where MCP clients find us; real addresses, as far as it listens already."""
        scheme = "https" if self.config.gateway.tls else "http"
        return [
            f"{address}, path {self.config.gateway.path}"
            if address.startswith("unix:")
            else f"{scheme}://{address}{self.config.gateway.path}"
            for address in self._bound("gateway")
        ]

    @property
    def admin_urls(self) -> list[str]:
        return [
            address if address.startswith("unix:") else f"http://{address}"
            for address in self._bound("admin")
        ]

    @property
    def hub_urls(self) -> list[str]:
        """Where edges find us."""
        if self._acceptor is None or self.config.hub is None:
            return []
        scheme = "https" if self.config.hub.tls else "http"
        return [
            address if address.startswith("unix:") else f"{scheme}://{address}"
            for address in self._acceptor.bound
        ]

    def uplink_states(self) -> list[Status]:
        """Where each link out stands."""
        return [link.status for uplink in self.uplinks.values() for link in uplink.links]

    def _bound(self, listener: str) -> tuple[str, ...]:
        return self._listeners[listener].bound if listener in self._listeners else ()

    def _live(self) -> list[LiveSession]:
        return list(self._sessions)

    async def _stop_when_told(
        self, signals: AsyncIterator[int], supervisor: Supervisor, everything: trio.CancelScope
    ) -> None:
        number = await anext(signals)
        self._is_stopping = self.health.stopping = True
        log.info(
            "stopping", extra={"signal": signal.Signals(number).name, "drain_s": self.config.gateway.drain_s}
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.stop, self.config.gateway.drain_s)
            nursery.start_soon(self._give_up_calls_in_time)
            # The end of the supervisor cancels this wait; a second signal does not wait for the drain.
            await anext(signals)
            log.warning("told twice: ending without draining")
            everything.cancel()

    async def _give_up_calls_in_time(self) -> None:
        """Clients whose calls take longer than the drain are told so, just before they are cut off."""
        drain_s = self.config.gateway.drain_s
        await trio.sleep(drain_s - min(LAST_WORDS_S, drain_s / 2))
        self._sessions.give_up_calls()

    async def _end_when_given_up(self) -> None:
        """Raises: UplinksGivenUp."""
        while True:
            await trio.sleep(GIVEN_UP_CHECK_S)
            states = self.uplink_states()
            if states and all(status.state == "failed" for status in states):
                raise UplinksGivenUp("; ".join(status.reason for status in states))

    # -- building parts

    def _slot(self, kind: str, name: str, spec: PartSpec) -> Slot:
        status: Status
        reports = True
        match spec:
            case StdioServerConfig() | HttpServerConfig():
                status = self.health.add(f"server:{name}", required=spec.required)
                upstream = self._upstream(spec, status)
                self.upstreams[name] = upstream
                part: Part = Required(upstream, limit_s=start_limit_s(spec)) if spec.required else upstream
            case SessionsSpec():
                status = self.health.add("part:sessions")
                part, reports = self._sessions, False
            case ListenerSpec():
                status = self.health.add("listener:gateway")
                part = self._gateway_listener(spec, status)
            case AdminConfig():
                status = self.health.add("listener:admin")
                part = self._admin_listener(spec, status)
            case HubConfig():
                status = self.health.add("listener:hub")
                part = self._hub_acceptor(spec, status)
            case UplinkSpec():
                status = self.health.add(f"part:uplink {name}")
                part, reports = self._uplink(spec), False
        # The same object again after a crash: others hold it, and its state outlives its `run`.
        return Slot(kind, name, lambda: part, metrics=self.metrics, status=status, part_reports=reports)

    def _upstream(self, spec: ServerConfig, status: Status) -> Upstream:
        metrics = self.metrics.server(spec.name)
        connect: Connect
        if isinstance(spec, StdioServerConfig):
            connect = connect_stdio(
                spec, metrics=metrics, log=server_log, status=status, cgroups=self._cgroups
            )
            retry = spec.restart
        else:
            connect, retry = connect_http(spec, metrics=metrics, log=server_log), spec.reconnect
            metrics.tls_unverified = not spec.verify if spec.url.startswith("https:") else None
        backoff = Backoff(retry.first_s, retry.limit_s, rng=random.random)
        return Upstream(
            spec,
            connect,
            events=self._gateway,
            status=status,
            metrics=metrics,
            backoff=backoff,
            log=server_log,
        )

    def _gateway_listener(self, spec: ListenerSpec, status: Status) -> Listener:
        gateway = self.config.gateway
        face = HttpFace(
            self._gateway,
            self._sessions,
            path=gateway.path,
            origins=Origins(
                spec.listen, allowed_hosts=gateway.allowed_hosts, allowed_origins=gateway.allowed_origins
            ),
            scheme="https" if spec.tls else "http",
            cross_origin=CrossOrigin(gateway.allowed_origins),
            metrics=self.metrics,
        )
        self._listeners["gateway"] = Listener(
            "gateway",
            spec.listen,
            endpoint_context(spec.tls) if spec.tls is not None else None,
            face,
            HttpLimits(max_body_bytes=spec.max_message_bytes),
            max_connections=spec.max_connections,
            status=status,
            metrics=self.metrics,
        )
        return self._listeners["gateway"]

    def _uplink(self, spec: UplinkSpec) -> "Uplink":
        # Loaded only where there are links: most boxes' start would pay for the hub's side, and a hub's for this.
        from edge.parts.connector import Uplink
        from edge.parts.link_store import LinkStore

        uplink = self.uplinks[spec.uplink.name] = Uplink(
            spec.uplink,
            spec.uplink.links(self.name, spec.servers),
            gateway=self._gateway,
            sessions=self._sessions,
            metrics=self.metrics,
            add_status=self.health.add,
            store=LinkStore(self._state),
            env=self._env,
            read_secret=self._read_secret,
            learn=lambda secret: self._redactor.redact([secret]),
        )
        return uplink

    def _hub_acceptor(self, spec: HubConfig, status: Status) -> "Acceptor":
        from edge.parts.acceptor import Acceptor

        self._acceptor = Acceptor(
            spec,
            self._gateway,
            attach=lambda edges: self._gateway.attach({**self.upstreams, **edges}),
            taken=frozenset(self.config.servers),
            health=self.health,
            metrics=self.metrics,
            status=status,
        )
        return self._acceptor

    def _admin_listener(self, spec: AdminConfig, status: Status) -> Listener:
        # On a loopback address only a browser that was led here could ask under a foreign name. On any other
        # address the pages are public, and Prometheus asks by whatever name it has been given.
        origins = Origins((spec.listen,)) if parse_address(spec.listen).is_local else None
        face = AdminFace(health=self.health, metrics=self.metrics, origins=origins, info=self._info)
        self._listeners["admin"] = Listener(
            "admin",
            (spec.listen,),
            None,
            face,
            HttpLimits(max_body_bytes=ADMIN_BODY_BYTES),
            max_connections=ADMIN_CONNECTIONS,
            status=status,
            metrics=self.metrics,
        )
        return self._listeners["admin"]

    def _info(self) -> Mapping[str, Any]:
        if self._acceptor is not None:
            self._acceptor.refresh()
        return {
            "name": self.name,
            "version": __version__,
            "endpoints": self.endpoints,
            "sessions": len(self._sessions),
        }


class Required:
    """A server without which we do not start: reports started once it has answered.

    Raises: RequiredServerDown, if that takes longer than `limit_s`. Later on it may go down like any other.
    """

    def __init__(self, upstream: Upstream, *, limit_s: float) -> None:
        self._upstream = upstream
        self._limit_s = limit_s
        self._has_been_up = False

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        async with trio.open_nursery() as nursery:
            intake: trio.CancelScope = await nursery.start(self._upstream.run)
            if not self._has_been_up:
                extra = {"server": self._upstream.name, "limit_s": self._limit_s}
                log.info("waiting for a required server", extra=extra)
                with trio.move_on_after(self._limit_s):
                    await self._upstream.wait_ready()
                if not self._upstream.is_ready:
                    raise RequiredServerDown(
                        self._upstream.name, self._upstream.status.reason or "no answer yet"
                    )
                self._has_been_up = True
            task_status.started(intake)


def start_limit_s(spec: ServerConfig) -> float:
    """How long a required server may take: an HTTP one may have to be started first, by somebody else."""
    return spec.start_timeout_s if isinstance(spec, StdioServerConfig) else REQUIRED_HTTP_S


def secrets_of(config: EdgeConfig) -> Iterator[str]:
    """Every value in the config that must not show anywhere.

    What is put into a child's environment counts if its name says so, even where it stands in the file:
    `${HOME}` is no secret, and hiding it would blur every path in the log.
    """
    for uplink in config.uplinks.values():
        yield from inserted_into((uplink.url, uplink.proxy, *uplink.headers.values(), *uplink.query.values()))
        if uplink.token is not None:
            yield uplink.token.reveal()
    hub = config.hub
    if hub is not None and hub.jwt is not None:
        yield hub.jwt.secret.reveal()
    if hub is not None and hub.webhook is not None:
        yield from inserted_into((hub.webhook.url,))
        if hub.webhook.bearer is not None:
            yield hub.webhook.bearer.reveal()
    for server in config.servers.values():
        if isinstance(server, StdioServerConfig):
            named = [value for name, value in server.env.items() if SECRET_NAME.search(name)]
            yield from inserted_into(named)
            yield from (value for value in named if not isinstance(value, Expanded))
        else:
            yield from inserted_into((server.url, *server.headers.values()))
            if server.bearer is not None:
                yield server.bearer.reveal()
