"""The requests that a hub has for one foreign edge: waiting for a poll, being handed out, being worked on.

The real edge works on one request at a time and does not poll meanwhile, so its polls set the pace. What was
written to a poll whole is never handed out again, unless doing it twice does no harm. Source: as `frames.py`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edge.proto.jsonrpc import Id

READ_ONLY: Final = frozenset(
    {
        "initialize",
        "ping",
        "tools/list",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/read",
        "resources/templates/list",
    }
)
"""May be handed out a second time, once, if the edge polls and has not answered."""

NOTIFIED_S: Final = 60.0


@dataclass(slots=True)
class Item:
    """`id` None: a notification. `handed_at` None: it waits for a poll."""

    request_id: str
    id: Id | None
    method: str
    text: str
    queued_at: float
    handed_at: float | None = None
    written_at: float | None = None
    tries: int = 0
    is_cancelled: bool = False


class Waiting:
    """What waits for a poll is at most `max_count` items of together `max_chars`, each for at most `max_wait_s`.
    What the edge has is forgotten after `max_work_s`, and `max_count` times four is the limit of all."""

    def __init__(
        self, *, max_count: int, max_chars: int, max_wait_s: float, max_work_s: float, again_after_s: float
    ) -> None:
        self.max_wait_s = max_wait_s
        self.max_work_s = max_work_s
        self._max_count = max_count
        self._max_chars = max_chars
        self._again_after_s = again_after_s
        self._items: dict[str, Item] = {}  # all there are, by request id
        self._queue: deque[Item] = deque()
        self._chars = 0  # of the queue
        self._handed: dict[int, Item] = {}  # by the poll that was answered with it, until written or gone

    def add(self, item: Item) -> bool:
        """False: there is no room."""
        has_room = len(self._queue) < self._max_count and len(self._items) < 4 * self._max_count
        if not has_room or self._chars + len(item.text) > self._max_chars:
            return False
        self._items[item.request_id] = item
        self._queue.append(item)
        self._chars += len(item.text)
        return True

    def hand_out(self, tag: int, now: float) -> Item | None:
        """The next for the poll with this tag, if there is one."""
        if self._queue:
            item = self._queue.popleft()
            self._chars -= len(item.text)
        else:
            found = [item for at, item in self._unanswered_reads() if at <= now]
            if not found:
                return None
            item = found[0]
        item.tries += 1
        item.handed_at, item.written_at = now, None
        self._handed[tag] = item
        return item

    def written(self, tag: int, now: float) -> None:
        """The poll's answer went out whole."""
        item = self._handed.pop(tag, None)
        if item is not None:
            item.written_at = now

    def gone(self, tag: int) -> None:
        """The poll's answer cannot have been read: what was in it is next again."""
        item = self._handed.pop(tag, None)
        if item is None or item.request_id not in self._items:
            return
        if item.is_cancelled:
            del self._items[item.request_id]
            return
        item.handed_at = None
        self._queue.appendleft(item)
        self._chars += len(item.text)

    def answer(self, request_id: str) -> Item | None:
        """The item that is answered by this, and so done with. None: never handed out, or answered before."""
        item = self._items.get(request_id)
        if item is None or item.tries == 0:
            return None
        self._drop(item)
        return item

    def cancel(self, id: Id) -> bool:  # noqa: A002  JSON-RPC's word
        """Whether the edge has it already, so that it may want to know."""
        item = next((item for item in self._items.values() if item.id == id), None)
        if item is None:
            return False
        if item.handed_at is None:
            self._drop(item)
            return False
        item.is_cancelled = True  # the edge goes on working: that it does not poll means nothing yet
        return True

    def expire(self, now: float) -> Sequence[Item]:
        """What has waited or run for too long, and is now forgotten."""
        found = [item for item in self._items.values() if now >= self._end_of(item)]
        for item in found:
            self._drop(item)
        return found

    def unsent(self) -> Sequence[Item]:
        """All that the edge certainly does not have; nothing waits after it."""
        found = list(self._queue)
        for item in found:
            self._drop(item)
        return found

    @property
    def has_work(self) -> bool:
        """Whether the edge has something to do, and so a reason not to poll."""
        return len(self._items) > len(self._queue)

    def next_end(self) -> float | None:
        """When something is to expire."""
        return min(map(self._end_of, self._items.values()), default=None)

    def next_again(self) -> float | None:
        """When a poll that waits may be given something for the second time."""
        return min((at for at, _ in self._unanswered_reads()), default=None)

    def _end_of(self, item: Item) -> float:
        if item.handed_at is None:
            return item.queued_at + self.max_wait_s
        return item.handed_at + (NOTIFIED_S if item.id is None else self.max_work_s)

    def _unanswered_reads(self) -> Iterator[tuple[float, Item]]:
        """Each with the time from which on it is taken for lost."""
        for item in self._items.values():
            if (
                item.written_at is not None
                and item.tries == 1
                and not item.is_cancelled
                and item.method in READ_ONLY
            ):
                yield item.written_at + self._again_after_s, item

    def _drop(self, item: Item) -> None:
        del self._items[item.request_id]
        if item.handed_at is None:
            self._queue.remove(item)
            self._chars -= len(item.text)
