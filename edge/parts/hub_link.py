"""One logical link as the hub sees it.

What its edge does wrong before its server has been looked at mostly comes to a failure of that, up to half a minute
later. So until then complaints wait, and become a part of the one warning about it: see `complain` and `explained`.
"""

import logging
from collections.abc import Callable

from edge.metrics import LinkCounts
from edge.parts.complaint import Complaint
from edge.parts.link import Link
from edge.parts.link_channel import LinkChannel
from edge.parts.pump import Pump
from edge.proto.dialect import Discovered

MAX_COMPLAINTS = 32


class HubLink:
    """One logical link as the hub sees it. `owner` is the edge whose token it came with.

    `id` names it to its edge if that is ours, and is a secret then. `pump` and `session` are
    of its last carrier, `lost_as` is why it ended, as the metrics have it, and `tell_as` the level of the line about
    that: less than a warning if there has been one, or will be.
    """

    __slots__ = (
        "channel", "complaints", "counts", "dialect", "id", "is_discovered", "kind", "link", "lost_as", "name",
        "on_end", "owner", "peer", "pump", "session", "tell_as",
    )  # fmt: skip

    def __init__(
        self, name: str, owner: str, dialect: str, link: Link, link_id: str | None, counts: LinkCounts
    ) -> None:
        self.name = name
        self.owner = owner
        self.dialect = dialect
        self.link = link
        self.id = link_id
        self.counts = counts
        self.kind = "own" if link_id is not None else "foreign"
        self.peer = ""
        self.pump: Pump | None = None
        self.session = ""
        self.channel: LinkChannel | None = None
        self.is_discovered = False
        self.complaints: list[Complaint] = []  # that have not been told
        self.lost_as: str | None = None
        self.tell_as = logging.WARNING
        self.on_end: Callable[[], None] | None = None

    @property
    def is_own(self) -> bool:
        return self.id is not None

    def tell(self, problem: str | None) -> None:
        """The edge hears how the first look at its server ended."""
        if self.is_discovered:
            return
        self.is_discovered = True
        if problem is None:
            self.tell_complaints()
        if self.pump is not None:
            self.pump.feed(Discovered(problem))

    def complain(self, complaint: Complaint, *, has_ended_a_call: bool = False) -> bool:
        """Told at once, or once it is known what comes of it. False: not at all, because a call has ended by it, and
        before the server is known it is whoever asks who it is and what it has that says so."""
        if self.is_discovered:
            complaint.tell()
        elif has_ended_a_call:
            return False
        elif len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append(complaint)
        return True

    def tell_complaints(self) -> None:
        """Each for itself."""
        for complaint in self.complaints:
            complaint.tell()
        self.complaints.clear()

    def explained(self, reason: str) -> str:
        """With what may have led to it, which is told by that: the first complaint, as the rest mostly follows."""
        if not self.complaints:
            return reason
        reason = f"{reason}; before that: {self.complaints[0].text}"
        self.complaints.clear()
        return reason
