"""One carrier of a hub's edge: who opened it, what is known of it before it is there, and what has become of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from edge.gate.edge_auth import Edge, WayIn
from edge.parts.complaint import Complaint
from edge.parts.hub_link import HubLink
from edge.parts.pump import Carrier, Pump


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who opens a carrier. `digest` is their token's, by which their requests are known again; `way` let them in."""

    edge: Edge
    digest: bytes = field(repr=False)
    peer: str
    way: WayIn


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known before a carrier is there. `name` is None if the edge will tell it as it registers.

    `answer` is what the edge is told in OWN_HEADER: set if both ends are ours. `resumes`: a link that goes on.
    """

    visitor: Visitor
    dialect: str
    session: str = field(repr=False)
    name: str | None
    description: str | None
    answer: str | None = field(repr=False)
    link_id: str | None = field(repr=False)
    peer_received: int
    peer_max_bytes: int | None
    resumes: HubLink | None


class EdgeSession:
    """One carrier. `link` is set once it is ready; `ending` once it is clear why it ends, as the metrics have it."""

    __slots__ = (
        "bytes_before", "carrier", "connected_at", "ending", "is_final", "last_activity", "link",
        "messages_before", "name", "opening", "pump", "refused",
    )  # fmt: skip

    def __init__(self, opening: Opening, carrier: Carrier, wall: float) -> None:
        self.opening = opening
        self.carrier = carrier
        self.pump: Pump  # made right after: it is driven by what leads here
        self.link: HubLink | None = None
        self.name = opening.name
        self.connected_at = self.last_activity = wall
        self.messages_before = self.bytes_before = 0  # of the link, over its earlier carriers
        self.ending: str | None = None
        self.is_final = False  # the edge left for good, or broke the rules: nothing is to be resumed
        self.refused: str | None = None

    @property
    def id(self) -> str:
        return self.opening.session

    def complain(self, complaint: Complaint) -> None:
        """Of what came over this carrier."""
        if self.link is None:
            complaint.tell()
        else:
            self.link.complain(complaint)

    def shown(self) -> dict[str, Any]:
        """One entry of what `GET /reverse-proxy/sessions` gives, as ContextForge's."""
        opening, link = self.opening, self.link
        info: dict[str, Any] = {}
        messages = n_bytes = 0
        if link is not None:
            info = {"name": link.name, "protocol": link.dialect, "kind": link.kind}
            if opening.description:
                info["description"] = opening.description
            messages = link.counts.messages_in - self.messages_before
            n_bytes = link.counts.bytes_in + link.counts.bytes_out - self.bytes_before
        return {
            "session_id": self.id,
            "server_info": info,
            "connected_at": iso(self.connected_at),
            "last_activity": iso(self.last_activity),
            "message_count": messages,
            "bytes_transferred": n_bytes,
            "user": opening.visitor.edge.name,
        }


def iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat()
