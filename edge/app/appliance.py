"""Composition root: config → parts → one tree of nurseries, from the first signal handler to the last goodbye.

`App.run` starts admin, sessions, servers, the hub's acceptor, listeners and uplinks in this order, says that it is
ready, and serves until SIGTERM or SIGINT; then everything drains within `gateway.drain_s`. A second signal ends the
wait, unless it comes at once. SIGHUP, and whoever asks over HTTP, has the config loaded again (`reloading.py`). A
fault that a slot could not mend rises from here, and the process ends.
"""

import logging
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import trio

from edge import __version__
from edge.app.loaded import Load, Loaded, name_of
from edge.app.memory import settle_memory
from edge.app.reloading import LOAD_S, Reloading, options
from edge.app.terminal import Terminal
from edge.app.workshop import Built, Workshop
from edge.config.diff import PartKey, UplinkSpec
from edge.errors import EdgeError
from edge.health import ConfigState, Health, Status
from edge.metrics import Metrics
from edge.net.addresses import Addresses
from edge.net.cgroup import Delegated
from edge.parts.gateway import Gateway
from edge.parts.listener import Listener
from edge.parts.sessions import LiveSession, Sessions
from edge.parts.upstream import Upstream
from edge.parts.views import Views
from edge.proto.mcp import METHODS
from edge.redaction import Redactor
from edge.supervise.reload import Reloads, TooManyReloads
from edge.supervise.sd_notify import SdNotify
from edge.supervise.supervisor import Stopping, Supervisor

if TYPE_CHECKING:
    from edge.parts.acceptor import Acceptor
    from edge.parts.connector import Uplink

log = logging.getLogger("edge.app")

FIRST_START_S = 10.0
"""How long the ready line waits for servers' first outcome; clients are served meanwhile."""

TOLD_ONCE_S = 1.0
"""Signals so soon after the first count as one: `timeout`, for one, tells the process, then its whole group."""

LAST_WORDS_S = 1.0
GIVEN_UP_CHECK_S = 0.2


class UplinksGivenUp(EdgeError):
    """Every link has been given up, after as many attempts as it was allowed."""


def unreadable(path: str) -> str:
    raise OSError("no secrets can be read")


class App:
    """The running appliance. Constructing it does no I/O; `run` is called once.

    `load` loads the config anew for a reload; None: there is nothing to load, and SIGHUP ends us. `env` and
    `read_secret` are for tokens that are read again for each connection out; `state` is where polling links keep
    their session ids. `addresses` opens what we listen on; with None, nothing is inherited. `gives_up`: end when every
    link has been given up, as there is nothing else to do. `cgroups`: where each stdio server gets one of its
    own. `load_limit_s`: how long `load` may take in a reload. `terminal`: whose end ends us.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        redactor: Redactor,
        load: Load | None = None,
        env: Mapping[str, str] = MappingProxyType({}),
        read_secret: Callable[[str], str] = unreadable,
        state: Path | None = None,
        addresses: Addresses | None = None,
        notify: SdNotify | None = None,
        gives_up: bool = False,
        cgroups: Delegated | None = None,
        load_limit_s: float = LOAD_S,
        terminal: Terminal | None = None,
    ) -> None:
        self.loaded = loaded
        self.redactor = redactor
        self.env = env
        self.notify = notify or SdNotify()
        self._can_load = load is not None
        self._gives_up = gives_up
        self._terminal = terminal or Terminal()
        self.metrics = Metrics(methods=METHODS)
        self.health = Health(clean=redactor.clean)
        self.sockets = addresses or Addresses()
        self.upstreams: dict[str, Upstream] = {}
        self.uplinks: dict[str, Uplink] = {}
        self._listeners: dict[str, Listener] = {}
        self._acceptor: Acceptor | None = None
        self._edges: Mapping[str, Upstream] = {}
        gateway = loaded.config.gateway
        self.gateway = Gateway(
            Views(gateway, self._groups()),
            live=self._live,
            call_timeout_s=gateway.call_timeout_s,
            page_size=gateway.page_size,
        )
        self._sessions = Sessions(
            idle_s=gateway.session_idle_s,
            max_sessions=gateway.max_sessions,
            metrics=self.metrics,
            on_end=self.gateway.forget,
            tidy=self.gateway.tidy,
        )
        self.reloads = Reloads(Reloading(self, load, load_limit_s=load_limit_s).apply)
        self.workshop = Workshop(
            gateway=self.gateway,
            sessions=self._sessions,
            health=self.health,
            metrics=self.metrics,
            addresses=self.sockets,
            redactor=redactor,
            env=env,
            read_secret=read_secret,
            state=state,
            cgroups=cgroups,
            attach_edges=self._attach_edges,
            reload=self._serve_reload,
            info=self._info,
        )
        self.built: dict[PartKey, Built] = {}  # made by `run`
        self.supervisor = Supervisor([])
        self.metrics.is_ready = self.health.is_ready
        self.metrics.sessions_active = lambda: len(self._sessions)
        self.metrics.queues.update(
            session_notifications=self._sessions.count_queued,
            answers_in_progress=self._sessions.count_waiting,
            subscriptions=self.gateway.count_subscriptions,
            resource_links=self.gateway.count_links,
            reloads=self.reloads.count_waiting,
            draining_parts=lambda: self.supervisor.draining,
            tls_handshakes=lambda: self.metrics.tls_handshakes_waiting,
        )
        self._is_stopping = False

    @property
    def name(self) -> str:
        """This box's."""
        return name_of(self.loaded)

    @property
    def is_stopping(self) -> bool:
        return self._is_stopping

    async def run(self, announce: Callable[["App"], None]) -> None:
        """Serve until told to stop. `announce` is called once everything is up.

        Raises: ConfigError or EdgeError if it cannot start, in a group; a bug that a slot could not mend.
        """
        loaded = self.loaded
        self.built = {
            key: self.workshop.build(key, spec, loaded, self.name) for key, spec in loaded.parts.items()
        }
        self.health.config = ConfigState(source=loaded.source, loaded_at=self.metrics.wall())
        supervisor = self.supervisor = Supervisor([built.slot for built in self.built.values()])
        self.put_in_force()
        outlives_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as nohup has it
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._terminal.watch)
                nursery.start_soon(self._obey, signals, nursery.cancel_scope, outlives_terminal)
                nursery.start_soon(self.notify.run, self.sentence)
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
                    for address in self.sockets.unused():
                        extra = {"address": address}
                        log.warning("systemd listens where the config does not: nobody answers", extra=extra)
                    settle_memory()
                    announce(self)
                    self.notify.ready(self.sentence())
                    # Loads what the first scrape needs: the file may be replaced while we run.
                    self.metrics.exposition()
                # Not before: what is starting is not replaced. Those who asked meanwhile have their turn now.
                nursery.start_soon(self.reloads.run)
        log.info("stopped")

    # -- what is seen of it

    @property
    def endpoints(self) -> list[str]:
        """Where MCP clients find us; real addresses, as far as it listens already."""
        gateway = self.loaded.config.gateway
        scheme = "https" if gateway.tls else "http"
        return [
            f"{address}, path {gateway.path}"
            if address.startswith("unix:")
            else f"{scheme}://{address}{gateway.path}"
            for address in self._bound("listener")
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
        hub = self.loaded.config.hub
        if self._acceptor is None or hub is None:
            return []
        scheme = "https" if hub.tls else "http"
        return [
            address if address.startswith("unix:") else f"{scheme}://{address}"
            for address in self._acceptor.bound
        ]

    def uplink_states(self) -> list[Status]:
        """Where each link out stands."""
        return [status for uplink in self.uplinks.values() for status in uplink.statuses]

    def sentence(self) -> str:
        """How things are, for systemd's status line."""
        if self._is_stopping:
            return "stopping"
        parts = []
        for kind, states in (
            ("servers", [upstream.status for upstream in self.upstreams.values()]),
            ("uplinks", self.uplink_states()),
        ):
            if states:
                parts.append(f"{sum(status.is_good for status in states)} of {len(states)} {kind} good")
        if self._acceptor is not None:
            parts.append(f"{len(self._acceptor.edges)} edges connected")
        parts.append(f"{len(self._sessions)} sessions")
        return f"{'ready' if self.health.is_ready() else 'not ready'}: {', '.join(parts)}"

    def _bound(self, kind: str) -> tuple[str, ...]:
        return self._listeners[kind].bound if kind in self._listeners else ()

    def _info(self) -> Mapping[str, Any]:
        if self._acceptor is not None:
            self._acceptor.refresh()
        return {
            "name": self.name,
            "version": __version__,
            "endpoints": self.endpoints,
            "sessions": len(self._sessions),
        }

    # -- what is in force

    def put_in_force(self) -> None:
        """Make everything that others see that of `built` and `loaded`. No checkpoint, and it does not raise."""
        subjects: dict[PartKey, Any] = {key: built.subject for key, built in self.built.items()}
        self.upstreams = {key[1]: subject for key, subject in subjects.items() if key[0] == "upstream"}
        self.uplinks = {key[1]: subject for key, subject in subjects.items() if key[0] == "uplink"}
        self._listeners = {key[0]: subjects[key] for key in subjects if key[0] in ("listener", "admin")}
        acceptor = subjects.get(("acceptor", "main"))
        if acceptor is not self._acceptor:
            self._acceptor, self._edges = acceptor, {}
        if self._acceptor is not None:
            self._acceptor.avoid(frozenset(self.loaded.config.servers))
            self._edges = self._acceptor.edges.upstreams  # it may have listened for a while
        self.metrics.hub.pending_bytes = 0 if self._acceptor is None else self._acceptor.edges.pending_bytes
        self.show()
        gateway = self.loaded.config.gateway
        self.gateway.configure(gateway, self._groups(), self._callable())

    def show(self) -> None:
        """Health and metrics have what is there, and nothing else."""
        wanted = {status.key: status for built in self.built.values() for status in built.statuses()}
        if self._acceptor is not None:
            wanted |= {status.key: status for status in self._acceptor.edges.statuses()}
        for key in self.health.statuses.keys() - wanted.keys():
            self.health.remove(key)
        for key, status in wanted.items():
            if self.health.statuses.get(key) is not status:
                self.health.put(status)
        metrics = self.metrics
        metrics.sessions_limit = self.loaded.config.gateway.max_sessions
        subjects = [built.subject for built in self.built.values()]
        limits = {each.name: each.max_connections for each in subjects if isinstance(each, Listener)}
        if self._acceptor is not None:
            limits["hub"] = self._acceptor.max_connections
        metrics.connections_limits = limits
        for name in metrics.servers.keys() - self.upstreams.keys():
            metrics.drop_server(name)
        for name, upstream in self.upstreams.items():
            metrics.servers[name] = upstream.metrics
        known = {} if self._acceptor is None else self._acceptor.edges.upstreams
        for name in metrics.edges.keys() - known.keys():
            metrics.drop_edge(name)
        uplinks = [spec for spec in self.loaded.parts.values() if isinstance(spec, UplinkSpec)]
        metrics.keep_links(
            (spec.uplink.name, server or "", spec.uplink.dialect)
            for spec in uplinks
            for server in spec.links.values()
        )

    def _groups(self) -> dict[str, frozenset[str] | None]:
        """The servers that an uplink publishes as one, by its name; None: all there are."""
        return {
            spec.uplink.name: frozenset(spec.servers) if spec.uplink.servers else None
            for spec in self.loaded.parts.values()
            if isinstance(spec, UplinkSpec) and spec.uplink.publish == "all"
        }

    def _attach_edges(self, acceptor: "Acceptor", edges: Mapping[str, Upstream]) -> None:
        if acceptor is self._acceptor:  # not that of one that is not in force yet, or no longer
            self._edges = edges
            self.gateway.attach(self._callable())

    def _callable(self) -> dict[str, Upstream]:
        """Servers and edges. A name that has become a server's is known as an edge's until that is forgotten."""
        edges = {name: edge for name, edge in self._edges.items() if name not in self.upstreams}
        return {**self.upstreams, **edges}

    def _live(self) -> list[LiveSession]:
        return list(self._sessions)

    # -- what it is told

    async def _obey(
        self, signals: AsyncIterator[int], everything: trio.CancelScope, outlives_terminal: bool
    ) -> None:
        async for number in signals:
            ends_us = (
                self._terminal.has_hung_up or not self._can_load
            )  # then SIGHUP means what it is named for
            if number != signal.SIGHUP or (ends_us and not outlives_terminal):
                break
            if not self._can_load:
                continue
            try:
                self.reloads.poke()
            except TooManyReloads as exc:
                log.error("reload refused", extra={"place": "", "text": str(exc)})
        told_at = trio.current_time()
        self._is_stopping = self.health.stopping = True
        drain_s = self.loaded.config.gateway.drain_s
        log.info("stopping", extra={"signal": signal.Signals(number).name, "drain_s": drain_s})
        self.notify.stopping(f"stopping, within {drain_s:g} s")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.supervisor.stop, drain_s)
            nursery.start_soon(self._give_up_calls_in_time, drain_s)
            # The end of the supervisor cancels this wait; a second signal does not wait for the drain.
            async for number in signals:
                if number != signal.SIGHUP and trio.current_time() - told_at >= TOLD_ONCE_S:
                    break
            log.warning("told twice: ending without draining")
            everything.cancel()

    async def _give_up_calls_in_time(self, drain_s: float) -> None:
        """Clients whose calls take longer than the drain are told so, just before they are cut off."""
        await trio.sleep(drain_s - min(LAST_WORDS_S, drain_s / 2))
        self._sessions.give_up_calls()

    async def _end_when_given_up(self) -> None:
        """Raises: UplinksGivenUp."""
        while True:
            await trio.sleep(GIVEN_UP_CHECK_S)
            states = self.uplink_states()
            if states and all(status.state == "failed" for status in states):
                raise UplinksGivenUp("; ".join(status.reason for status in states))

    async def _serve_reload(self, plan: bool, confirm_s: float) -> tuple[int, Mapping[str, Any]]:
        """Status and verdict, for whoever asks over HTTP. Raises: EdgeError."""
        verdict = await self.reloads.ask(options(plan, confirm_s))
        if self._is_stopping and verdict.result == "refused":
            raise Stopping
        status = {"refused": 400, "rolled back": 409, "not rolled back": 409}.get(verdict.result, 200)
        return status, verdict.report()
