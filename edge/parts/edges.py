"""The edges of a hub, by name: an upstream for each name, which lives from link to link.

A name appears with its first link, and is forgotten when it has had none for `forget_s`. One name has one live link:
a newer one takes the place of the older, whose calls fail at once. A link between our own two ends that has lost its
carrier keeps its place, and its calls, for `resume_grace_s`. One link is one conversation: when the upstream has done
with it, for whatever reason, the link ends, and the edge makes another.
"""

import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import trio

from edge.backoff import Backoff
from edge.config.common import BackoffConfig, ServerLimits
from edge.config.hub import HubConfig
from edge.config.model import LinkServerConfig
from edge.errors import EdgeError, UpstreamError
from edge.health import Health, Status
from edge.metrics import Metrics
from edge.parts.channel import Ended
from edge.parts.hub_link import HubLink
from edge.parts.known_edge import Conversed, Known
from edge.parts.link_channel import LinkChannel
from edge.parts.upstream import Upstream, UpstreamEvents, cause_of
from edge.proto.dialect import Stop
from edge.proto.jsontext import Raw
from edge.proto.mcp import NEWEST_LEGACY

SOON = BackoffConfig(first_s=0.01, limit_s=0.05)  # an edge that is there must not wait for us
NAMES_PER_LINK = 4  # that are known at most, for each link that there may be
KEEP_TIME_S = 0.25  # between two looks at who is overdue

TELL_AS = {"closed": logging.INFO, "operator": logging.INFO, "shutdown": logging.DEBUG}
"""Ends of links that are no failure, and the level of the line about them."""

log = logging.getLogger("edge.hub")
server_log = logging.getLogger("edge.server")


class Edges:
    """All of them. `attach` takes the upstreams there are, whenever a name comes or goes.

    Implements `UpstreamEvents` on the way to `events`, because a first catalogue is news for its link.
    """

    def __init__(
        self,
        config: HubConfig,
        *,
        events: UpstreamEvents,
        attach: Callable[[Mapping[str, Upstream]], None],
        health: Health,
        metrics: Metrics,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._events = events
        self._attach = attach
        self._health = health
        self._metrics = metrics
        self._rng = rng
        self._limits = ServerLimits(concurrency=config.max_calls_per_link)
        self._known: dict[str, Known] = {}
        self._by_id: dict[str, HubLink] = {}
        self._n_live = 0
        self._live_of: Counter[str] = Counter()  # links that live, by owner; none at zero
        self._known_of: Counter[str] = Counter()  # names, by owner; none at zero
        self._due: deque[Known] = deque()  # upstreams to be started
        self._changed = trio.Event()
        self._timers_changed = trio.Event()
        self._is_stopping = False

    # -- its life

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Intake off: upstreams end as their calls do, and with them their links."""
        self._is_stopping = False
        self._due = deque(self._known.values())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            async with trio.open_nursery() as upstreams:
                with trio.CancelScope() as intake:
                    task_status.started(intake)
                    while True:
                        # First everybody can route to it, then it goes up.
                        self._attach(self.upstreams)
                        while self._due:
                            upstreams.start_soon(self._due.popleft().keep_up)
                        await self._changed.wait()
                        self._changed = trio.Event()
                self._is_stopping = True
                for known in self._known.values():
                    known.stop()
            nursery.cancel_scope.cancel()

    async def _keep_time(self) -> None:
        """Ends links that were not resumed in time, and forgets names that were not seen for long."""
        while True:
            now, next_at = trio.current_time(), float("inf")
            for known in list(self._known.values()):
                due_at = self._due_at(known)
                if due_at is not None and due_at <= now:
                    self._overdue(known)
                    due_at = self._due_at(known) if known.name in self._known else None
                if due_at is not None:
                    next_at = min(next_at, due_at)
            self._timers_changed = trio.Event()
            with trio.move_on_at(next_at):
                await self._timers_changed.wait()
                await trio.sleep(KEEP_TIME_S)  # links of many edges break together

    def _due_at(self, known: Known) -> float | None:
        if known.link is None:
            return known.unseen_since + self._config.forget_s
        since = known.link.link.suspended_since
        return None if since is None else since + self._config.resume_grace_s

    def _overdue(self, known: Known) -> None:
        if known.link is not None:
            self.end(known.link, f"not resumed within {self._config.resume_grace_s:g} s", "dead")
            return
        del self._known[known.name]
        dropped(self._known_of, known.owner)
        known.stop()
        self._health.remove(known.status.key)
        self._metrics.drop_edge(known.name)
        log.info("edge forgotten", extra={"edge": known.name})
        self._changed.set()

    def update(self, config: HubConfig) -> None:
        """Go by these limits from now on; what is over a lower one stays. No checkpoint."""
        self._config = config
        self._limits = ServerLimits(concurrency=config.max_calls_per_link)
        for known in self._known.values():
            known.upstream.update(self._server_config(known.name), self._backoff())
        self._timers_changed.set()

    def forget(self, is_gone: Callable[[str, str], bool]) -> None:
        """Names without a link that are their owners' no more, by name and owner. No checkpoint."""
        for known in list(self._known.values()):
            if known.link is None and is_gone(known.name, known.owner):
                self._overdue(known)

    @property
    def upstreams(self) -> dict[str, Upstream]:
        """Of all names."""
        return {name: known.upstream for name, known in self._known.items()}

    def statuses(self) -> list[Status]:
        return [known.status for known in self._known.values()]

    # -- links

    def __len__(self) -> int:
        """Links that live, also those that are suspended."""
        return self._n_live

    def owner_of(self, name: str) -> str | None:
        """Whose link had this name last."""
        known = self._known.get(name)
        return None if known is None else known.owner

    def count_of(self, owner: str) -> int:
        """Live links of one edge."""
        return self._live_of[owner]

    def no_room_for(self, name: str, owner: str) -> str | None:
        """Why there cannot be one more link, of this name and owner.

        A name outlives its link by `forget_s`, with a task and counts of its own, so names are bounded, too.
        """
        most, most_of_one = self._config.max_links, self._config.max_links_per_edge
        if self._n_live >= most:
            return "too many links"
        if self._live_of[owner] >= most_of_one:
            return "too many links of this edge"
        if name in self._known:
            return None
        if len(self._known) >= NAMES_PER_LINK * most:
            return "too many names that are not forgotten yet"
        if self._known_of[owner] >= NAMES_PER_LINK * most_of_one:
            return "too many names of this edge that are not forgotten yet"
        return None

    def link(self, name: str) -> HubLink | None:
        known = self._known.get(name)
        return None if known is None else known.link

    def by_id(self, link_id: str) -> HubLink | None:
        return self._by_id.get(link_id)

    def suspended(self) -> list[HubLink]:
        """Those without a carrier, which may come back."""
        links = [known.link for known in self._known.values()]
        return [link for link in links if link is not None and link.link.suspended_since is not None]

    def connected(self) -> list[str]:
        """The names that have a link."""
        return [name for name, known in self._known.items() if known.link is not None]

    def arrive(self, link: HubLink, first_version: str | None) -> None:
        """A new link, not carried yet: from now on it is the one of its name."""
        known = self._known.get(link.name)
        if known is None:
            known = self._appear(link.name, link.owner)
        if known.owner != link.owner:
            dropped(self._known_of, known.owner)
            known.owner = link.owner
            self._known_of[known.owner] += 1
        self._n_live += 1
        self._live_of[link.owner] += 1
        link.channel = LinkChannel(
            link.name,
            link.link,
            known.upstream,
            known.upstream.metrics,
            link.complain,
            first_version=first_version or NEWEST_LEGACY,
            can_ask=link.is_own or link.dialect != "long-poll",  # of whose edges only answers come
        )
        link.link.receive = link.channel.take
        older, known.link = known.link, link
        if link.id is not None:
            self._by_id[link.id] = link
        known.arrival.pulse()
        if older is not None:
            self._metrics.hub.replaced += 1
            self.end(older, f"replaced by a newer connection, from {link.peer}", "replaced")

    def end(self, link: HubLink, reason: str, lost_as: str, *, code: int | None = None) -> None:
        """For good. `code` is told to an edge that has a WebSocket; None: that of an orderly end."""
        if link.link.ended is None:
            link.lost_as = lost_as
            if code is not None and link.pump is not None:
                link.pump.feed(Stop(reason, code))
            link.link.end(reason)
        self.settle(link)

    def interrupted(self, link: HubLink, reason: str) -> None:
        """It has lost its carrier and may come back: nothing can be said of its server until then."""
        known = self._known.get(link.name)
        if known is not None and known.link is link:
            known.upstream.metrics.connected = False
            known.status.degraded(f"the link was lost, waiting for its return: {reason}")

    def resumed(self, link: HubLink) -> None:
        """It goes on with another carrier."""
        known = self._known.get(link.name)
        if known is not None and known.link is link and known.upstream.is_ready:
            known.upstream.metrics.connected = True
            known.upstream.resumed()

    def settle(self, link: HubLink) -> None:
        """What follows from the end of its carrier or of itself. More than once does no harm."""
        self._timers_changed.set()
        reason = link.link.ended
        if reason is None or link.channel is None:
            return
        link.channel.lost(f"the link to the edge was lost: {reason}")
        link.channel = None
        self._n_live -= 1
        dropped(self._live_of, link.owner)
        if link.id is not None:
            self._by_id.pop(link.id, None)
        lost_as = link.lost_as or "dead"
        self._metrics.hub.closed(link.dialect, link.counts, lost_as)
        known = self._known.get(link.name)
        self._tell_end(link, known, reason, lost_as)
        if known is not None and known.link is link:
            known.link = None
            known.unseen_since = trio.current_time()
        if link.on_end is not None:
            link.on_end()

    def _tell_end(self, link: HubLink, known: Known | None, reason: str, lost_as: str) -> None:
        """One line for each link that was of use; for others, if it is news. What the edge did wrong is in it, unless
        the link ends well all the same."""
        level = min(link.tell_as, TELL_AS.get(lost_as, logging.WARNING))
        if level < logging.WARNING:
            link.tell_complaints()
        reason = link.explained(reason)
        told = lost_as if lost_as == "replaced" else reason  # which has a port that is always another
        is_news = link.is_discovered or known is None or known.told != told
        extra = {"edge": link.name, "dialect": link.dialect, "peer": link.peer, "reason": reason}
        log.log(
            level if is_news or level < logging.WARNING else logging.DEBUG, "edge disconnected", extra=extra
        )
        if known is not None:
            known.told = told

    def _appear(self, name: str, owner: str) -> Known:
        known = Known(name, owner, self._health.add(f"edge:{name}"))
        known.upstream = Upstream(
            self._server_config(name),
            partial(Conversed, known, self),
            events=self,
            status=known.status,
            metrics=self._metrics.edge(name),
            backoff=self._backoff(),
            log=server_log,
        )
        self._known[name] = known
        self._known_of[owner] += 1
        self._due.append(known)
        self._changed.set()
        return known

    def _server_config(self, name: str) -> LinkServerConfig:
        return LinkServerConfig(
            name=name, call_timeout_s=self._config.call_timeout_s, limits=self._limits, reconnect=SOON
        )

    def _backoff(self) -> Backoff:
        return Backoff(SOON.first_s, SOON.limit_s, rng=self._rng)

    def fail(self, link: HubLink, group: BaseExceptionGroup[EdgeError]) -> Ended:
        """The conversation is over, or has never begun; so the link is of no use. Returns what the upstream is to say:
        why, and what the edge did wrong before."""
        exc = cause_of(group)
        problem = exc.text if isinstance(exc, UpstreamError) else str(exc)
        told = link.explained(problem)
        lost_as = "dead" if link.is_discovered else "protocol"
        link.lost_as, link.tell_as = lost_as, logging.DEBUG
        link.tell(problem)
        self.end(link, problem, lost_as)
        return Ended.explained(link.name, exc.reason if isinstance(exc, Ended) else problem, told)

    # -- what upstreams tell (UpstreamEvents)

    def catalog_changed(self, upstream: Upstream) -> None:
        link = self.link(upstream.name)
        if upstream.is_ready and link is not None:
            link.tell(None)
        self._events.catalog_changed(upstream)

    def resource_updated(self, upstream: Upstream, params: Raw) -> None:
        self._events.resource_updated(upstream, params)

    def logged(self, upstream: Upstream, params: Raw) -> None:
        self._events.logged(upstream, params)

    # -- what is seen of them

    def pending_bytes(self) -> int:
        """What waits to be sent to edges, or for their acknowledgement."""
        links = (known.link for known in self._known.values())
        return sum(link.link.pending_bytes for link in links if link is not None)

    def refresh(self) -> None:
        """Bring the details that health shows up to date."""
        for known in self._known.values():
            known.status.detail = {"edge": known.owner} if known.link is None else described(known.link)


def dropped(counts: Counter[str], owner: str) -> None:
    counts[owner] -= 1
    if not counts[owner]:
        del counts[owner]


def described(link: HubLink) -> dict[str, Any]:
    counts = link.counts
    return {
        "dialect": link.dialect,
        "kind": link.kind,
        "peer": link.peer,
        "is_suspended": link.link.suspended_since is not None,
        "rtt_s": None if counts.rtt_s is None else round(counts.rtt_s, 4),
        "bytes_received": counts.bytes_in,
        "bytes_sent": counts.bytes_out,
        "connections": counts.carriers,
        "resumed": counts.resumed,
    }
