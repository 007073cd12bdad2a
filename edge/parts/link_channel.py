"""A channel over an accepted link: the MCP conversation of a hub with the server at the other end.

While the link has no carrier, calls in flight wait: they are answered when it is resumed. New calls wait for that
too, but no longer than SUSPENDED_WAIT_S. When the link has ended, each call gets one error, which says whether its
request may have reached the edge.
"""

import logging
from collections.abc import Callable
from functools import partial

import trio

from edge.errors import BadMessage, Gone, RpcError, Unavailable
from edge.metrics_servers import ServerMetrics
from edge.parts.channel import Inbound, Notify
from edge.parts.complaint import Complaint
from edge.parts.link import Link
from edge.parts.peer_channel import PeerChannel
from edge.proto.jsonrpc import decode
from edge.proto.jsontext import Raw
from edge.proto.mcp import NEWEST_LEGACY, SERVER_UNAVAILABLE

SUSPENDED_WAIT_S = 3.0

log = logging.getLogger("edge.hub")


class LinkChannel(PeerChannel):
    """Implements `Channel`; `take` is what the link hands messages to, and `lost` is for whoever ends the link.

    `complain` (`HubLink.complain`) gets the first message that is none.
    """

    def __init__(
        self,
        server: str,
        link: Link,
        inbound: Inbound,
        metrics: ServerMetrics,
        complain: Callable[..., bool],
        *,
        first_version: str = NEWEST_LEGACY,
        can_ask: bool = True,
    ) -> None:
        super().__init__(server, link.outbox, inbound, metrics)
        self.first_version = first_version
        self.can_ask = can_ask
        self._link = link
        self._complain = complain
        self._has_complained = False

    @property
    def is_suspended(self) -> bool:
        return not self._link.is_carried and self._link.ended is None

    async def request(
        self, method: str, params: str | None, *, notify: Notify | None = None, progress: bool = False
    ) -> Raw:
        if self.is_suspended:
            await self._wait_carried(is_patient=method == "ping")
        try:
            return await super().request(method, params, notify=notify, progress=progress)
        except Gone as exc:
            raise Gone(self._server, f"outcome unknown: {exc.text}") from None
        except RpcError as exc:
            if exc.code == SERVER_UNAVAILABLE and self._link.ended is not None:
                raise Unavailable(
                    self._server, exc.message
                ) from None  # in the link's words, not the server's
            raise

    async def notify(self, method: str, params: str | None) -> None:
        if self.is_suspended:
            await self._wait_carried(is_patient=False)
        await super().notify(method, params)

    def take(self, text: str) -> None:
        """One message from the edge, as received."""
        try:
            message = decode(text)
        except BadMessage as exc:
            self._metrics.noise_lines += 1
            has_ended_a_call = self.garbled(text, exc)
            if not self._has_complained:
                reason = str(exc)
                complaint = Complaint(f"what is no JSON-RPC message ({reason})", partial(self._tell, reason))
                self._has_complained = self._complain(complaint, has_ended_a_call=has_ended_a_call)
            return
        self.receive(message)

    def _tell(self, reason: str) -> None:
        extra = {"server": self._server, "reason": reason}
        log.warning("an edge sent what is no JSON-RPC message", extra=extra)

    async def _wait_carried(self, *, is_patient: bool) -> None:
        """A probe is patient: it asks whether the server is there, which nobody can tell at the moment."""
        with trio.move_on_after(float("inf") if is_patient else SUSPENDED_WAIT_S):
            await self._link.wait_carried()
            return
        raise Unavailable(self._server, "the link to the edge is interrupted; nothing was sent")
