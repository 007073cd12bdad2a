"""The hub: accepts links from edges and makes servers of them that the gateway calls like any other.

Theory of operation. `HubFace` judges who connects, `EdgeSessions` has the carriers, `Edges` has an upstream for each
link's name. Intake off: nothing new is opened, while what is open goes on: answers come as requests on the same
listener. Each upstream ends with its last call, and its link then is told that the hub restarts, so that its edge
comes back soon. Then the listener closes.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

from edge.config.hub import HubConfig
from edge.gate.edge_auth import TokenAuth
from edge.health import Health, Status
from edge.metrics import Metrics
from edge.net.heap import trimmer
from edge.net.http_server import HttpLimits
from edge.net.listen import open_listeners
from edge.net.tls import hub_context
from edge.parts.edge_sessions import EdgeSessions
from edge.parts.edge_webhook import EdgeWebhook
from edge.parts.edges import Edges
from edge.parts.gateway import Gateway
from edge.parts.hub_carriers import PollingSessions
from edge.parts.hub_desk import HubDesk
from edge.parts.hub_face import FRAME_SLACK_BYTES, HubFace
from edge.parts.listener import Acceptor as ListeningSocket
from edge.parts.listener import Listener
from edge.parts.refusals import Refusals
from edge.parts.upstream import Upstream
from edge.scopes import goodbye

LEAVE_S = 2.0
CONNECTIONS_PER_LINK = 3  # a poll, a POST, and one to spare
MORE_CONNECTIONS = 256
TRIM_EVERY_S = 2.0
TRIMS = 5  # after the last connection that came

log = logging.getLogger("edge.hub")


class Acceptor:
    """A part. `attach` takes the edges' upstreams whenever there is another one, or one less.

    `taken` are names that a link cannot have: those of the hub's own servers. `status` is the listener's.
    Raises: EdgeError, at construction, if a certificate cannot be used.
    """

    def __init__(
        self,
        config: HubConfig,
        gateway: Gateway,
        *,
        attach: Callable[[Mapping[str, Upstream]], None],
        taken: frozenset[str],
        health: Health,
        metrics: Metrics,
        status: Status,
        open_address: Callable[[str], Awaitable[Sequence[ListeningSocket]]] = open_listeners,
    ) -> None:
        self._config = config
        self._home: trio.Nursery | None = None
        auth = TokenAuth(config)
        refusals = Refusals(metrics.hub)
        self._metrics = metrics
        self._webhook = EdgeWebhook(config.webhook, auth) if config.webhook is not None else None
        self.edges = Edges(config, events=gateway, attach=attach, health=health, metrics=metrics)
        self._sessions = EdgeSessions(config, auth, self.edges, metrics.hub, refusals, taken=taken)
        self._polling = PollingSessions(self._sessions)
        desk = HubDesk(self._sessions, self.edges, gateway, metrics)
        self._face = HubFace(
            config, auth, self._webhook, self._sessions, self._polling, desk, refusals, metrics
        )
        self._listener = Listener(
            "hub",
            config.listen,
            hub_context(config.tls) if config.tls is not None else None,
            self._face,
            limits_of(config),
            max_connections=connections_of(config),
            status=status,
            metrics=metrics,
            open_address=open_address,
        )

    @property
    def bound(self) -> tuple[str, ...]:
        """The real addresses, once it listens."""
        return self._listener.bound

    @property
    def max_connections(self) -> int:
        return self._listener.max_connections

    def avoid(self, taken: frozenset[str]) -> None:
        """No link has one of these names from now on: they are servers of the hub. No checkpoint."""
        self._sessions.avoid(taken)

    def update(self, config: HubConfig, tls: ssl.SSLContext | None) -> None:
        """Go by these from now on; edges that may no longer connect are told so. No checkpoint.

        `tls` was made from `config.tls`: whoever makes it hears what is wrong with it.
        """
        auth = TokenAuth(config)
        older = self._webhook
        if config.webhook != self._config.webhook or (config.webhook and config.webhook.ca_file):
            self._webhook = None if config.webhook is None else EdgeWebhook(config.webhook, auth)
            if older is not None and self._config.webhook is not None and self._home is not None:
                older.retire()
                self._home.start_soon(self._close, older, self._config.webhook.timeout_s)
        elif self._webhook is not None:
            self._webhook.update(auth)
        self._config = config
        self.edges.update(config)
        self._sessions.update(config, auth)
        if config.jwt is None and config.webhook is None:  # else others may know the name
            self.edges.forget(lambda _, owner: owner not in config.edges)
        self._face.update(config, auth, self._webhook)
        self._listener.update(tls, limits_of(config), max_connections=connections_of(config))

    async def _close(self, webhook: EdgeWebhook, rest_s: float) -> None:
        """Once its questions have been answered, or given up."""
        try:
            await trio.sleep(rest_s)
        finally:
            with goodbye(1.0):
                await webhook.aclose()

    def refresh(self) -> None:
        """Bring what health shows of the links up to date."""
        self.edges.refresh()

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Raises: EdgeError, in a group, before it has started, if an address cannot be listened on."""
        self._sessions.is_closing = False
        try:
            async with trio.open_nursery() as connections:
                listening: trio.CancelScope = await connections.start(self._listener.run)
                async with trio.open_nursery() as carriers:
                    self._home = carriers
                    carriers.start_soon(self._polling.run)
                    carriers.start_soon(self._give_memory_back)
                    await self._serve(task_status)
                    self._sessions.stop_all()
                    with trio.move_on_after(LEAVE_S):
                        await self._sessions.wait_empty()
                    carriers.cancel_scope.cancel()
                listening.cancel()
        finally:
            self._home = None
            if self._webhook is not None:
                with goodbye(1.0):
                    await self._webhook.aclose()

    async def _give_memory_back(self) -> None:
        """What connections that came have left free; also a while later, when their servers' lists have been read."""
        trim = trimmer()
        seen = n_due = 0
        while trim is not None:
            await trio.sleep(TRIM_EVERY_S)
            accepted = self._metrics.connections_accepted["hub"]
            if accepted != seen:
                seen, n_due = accepted, TRIMS
            if n_due:
                n_due -= 1
                trim()

    async def _serve(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Until the intake is off and all calls have ended."""
        async with trio.open_nursery() as upstreams:
            serving: trio.CancelScope = await upstreams.start(self.edges.run)
            with trio.CancelScope() as intake:
                task_status.started(intake)
                await trio.sleep_forever()
            self._sessions.is_closing = True
            serving.cancel()


def limits_of(config: HubConfig) -> HttpLimits:
    return HttpLimits(
        max_body_bytes=config.max_message_bytes + FRAME_SLACK_BYTES, head_timeout_s=config.handshake_timeout_s
    )


def connections_of(config: HubConfig) -> int:
    return CONNECTIONS_PER_LINK * config.max_links + MORE_CONNECTIONS
