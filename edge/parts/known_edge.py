"""One name of a hub's edges: its upstream, its link if there is one, and how the two come together."""

from typing import Protocol

import trio

from edge.errors import EdgeError
from edge.health import Status
from edge.parts.channel import Channel, Ended, Inbound
from edge.parts.flag import Flag
from edge.parts.hub_link import HubLink
from edge.parts.upstream import Upstream

RESTART = 1012  # RFC 6455's registry of close codes: service restart


class Ends(Protocol):
    """Who ends links: `Edges`."""

    def end(self, link: HubLink, reason: str, lost_as: str, *, code: int | None = None) -> None:
        """For good."""

    def fail(self, link: HubLink, group: BaseExceptionGroup[EdgeError]) -> Ended:
        """The conversation is over, or has never begun. Returns what the upstream is to say."""
        raise NotImplementedError


class Known:
    """A name, its upstream, and its link if there is one. `owner` is the edge whose name it is or begins with."""

    def __init__(self, name: str, owner: str, status: Status) -> None:
        self.name = name
        self.owner = owner
        self.status = status
        self.link: HubLink | None = None
        self.arrival = Flag()
        self.unseen_since = trio.current_time()
        self.told: str | None = None  # of a link's end
        self.upstream: Upstream  # made right after, with a `Connect` that leads here
        self._scope = trio.CancelScope()

    async def keep_up(self) -> None:
        """Its upstream's life, until `stop`."""
        try:
            with self._scope:
                await self.upstream.keep_up()
        finally:
            self._scope = trio.CancelScope()  # should the part be started anew

    def stop(self) -> None:
        """No more calls; the upstream ends as the last one does."""
        self.upstream.retire(self._scope.cancel)


class Conversed:
    """The channel of a name's upstream, as its `Connect` gives it: entered once there is a link; the link ends with it.

    The other way round, the end of the link has the upstream look whether its server is there, which fails at once.
    """

    __slots__ = ("_edges", "_inbound", "_known", "_link")

    def __init__(self, known: Known, edges: Ends, inbound: Inbound) -> None:
        self._known = known
        self._edges = edges
        self._inbound = inbound
        self._link: HubLink | None = None

    async def __aenter__(self) -> Channel:
        known = self._known
        while known.link is None or known.link.link.ended is not None:
            self._inbound.waiting("not connected")
            await known.arrival.wait()
        link = self._link = known.link
        assert link.channel is not None  # a link that has ended is nobody's
        link.on_end = self._inbound.doubted
        return link.channel

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
        link = self._link
        assert link is not None
        try:
            if exc is not None:
                raise exc
        except* EdgeError as group:
            reason = link.link.ended
            if reason is not None:
                raise Ended(
                    self._known.name, "the link to the edge was lost", reason, is_told=True
                ) from group
            raise self._edges.fail(link, group) from group
        finally:
            link.on_end = None
            if link.link.ended is None:  # else whoever ended it settles it, and knows why
                self._edges.end(link, "the hub is restarting", "shutdown", code=RESTART)
