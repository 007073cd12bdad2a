"""One logical link as the hub sees it."""

import logging
from collections.abc import Callable

from edge.metrics import LinkCounts
from edge.parts.link import Link
from edge.parts.link_channel import LinkChannel
from edge.parts.pump import Pump
from edge.proto.dialect import Discovered


class HubLink:
    """One logical link as the hub sees it. `owner` is the edge whose token it came with.

    `id` names it to its edge if that is ours, and is a secret then. `pump` and `session` are
    of its last carrier, `lost_as` is why it ended, as the metrics have it, and `tell_as` the level of the line about
    that: less than a warning if there has been one, or will be.
    """

    __slots__ = (
        "channel", "counts", "dialect", "id", "is_discovered", "kind", "link", "lost_as", "name", "on_end", "owner",
        "peer", "pump", "session", "tell_as",
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
        if self.pump is not None:
            self.pump.feed(Discovered(problem))
