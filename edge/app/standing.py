"""What was good before a reload, and thus has to be good again for it to be confirmed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edge.health import Status, blocks


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stood. `required`: servers that were so. `uplinks`: those with a link that was good.

    `was_ready`: nothing that is required stood in the way of being ready, if anything was.
    """

    good: frozenset[str]
    bad: frozenset[str]
    required: frozenset[str]
    uplinks: frozenset[str]
    was_ready: bool

    def lost(self, statuses: Iterable[Status]) -> Iterator[Status]:
        """What of it is not good now. What has been removed is no loss."""
        return (status for status in statuses if not status.is_good and self._wants(status))

    def _wants(self, status: Status) -> bool:
        if self.was_ready and status.required:
            return True
        if status.kind == "uplink":  # its links may have other names than before
            return uplink_of(status) in self.uplinks and status.key not in self.bad
        is_required = status.required or status.key in self.required
        return status.kind == "server" and is_required and status.key in self.good


def standing(statuses: Iterable[Status]) -> Standing:
    """How it is now."""
    now = list(statuses)
    good = [status for status in now if status.is_good]
    return Standing(
        good=frozenset(status.key for status in good),
        bad=frozenset(status.key for status in now if not status.is_good),
        required=frozenset(status.key for status in now if status.kind == "server" and status.required),
        uplinks=frozenset(uplink_of(status) for status in good if status.kind == "uplink"),
        was_ready=not any(map(blocks, now)),
    )


def uplink_of(status: Status) -> str:
    """The name of the uplink whose link it is; one that publishes each server has a link for each."""
    return status.name.partition("/")[0]
