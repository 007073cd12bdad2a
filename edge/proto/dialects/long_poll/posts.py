"""POST /response: what is under way, what waits for another try, and the frames that wait for their turn.

A post may safely be sent again: hubs answer 200 to an answer they have, and frames are numbered.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from edge.proto.dialects.long_poll import frames
from edge.proto.dialects.long_poll.outcome import PostEnded

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0


class Verdict(Enum):
    """What became of a post."""

    GOOD = "good"
    AGAIN = "again"  # it will be tried again
    LATE = "late"  # it was, for too long
    REFUSED = "refused"  # the hub does not want it


@dataclass(slots=True)
class Post:
    body: str
    at: float  # when to send it
    until: float | None  # None: as long as patience lasts from the first failure on
    instead: str | None
    tries: int = 0


class Posts:
    """`spread` as of the connector."""

    def __init__(self, *, patience_s: float, spread: float) -> None:
        self._patience_s = patience_s
        self._spread = spread
        self._last = 0
        self._open: dict[str, Post] = {}
        self._waiting: list[Post] = []
        self._frames: list[str] = []
        self.batch_chars = frames.MAX_FRAMES_CHARS  # of frames that go together

    def __len__(self) -> int:
        return len(self._open) + len(self._waiting)

    @property
    def is_empty(self) -> bool:
        return not (self._open or self._waiting or self._frames)

    @property
    def next_time(self) -> float | None:
        return min((post.at for post in self._waiting), default=None)

    def is_open(self, tag: str) -> bool:
        return tag in self._open

    def add(self, body: str, *, now: float, until: float | None, instead: str | None = None) -> None:
        self._waiting.append(Post(body, now, until, instead))

    def add_frame(self, frame: str) -> None:
        """Frames go in their order; so many as fit go together."""
        self._frames.append(frame)

    def begin(self, now: float, *, one_at_a_time: bool) -> Iterator[tuple[str, str]]:
        """Tag and body of each post that is to be sent now."""
        if one_at_a_time and self._open:
            return
        if self._frames and not self._waiting:
            count = frames.batch(self._frames, self.batch_chars)
            self.add("\n".join(self._frames[:count]), now=now, until=None)
            del self._frames[:count]
        for post in [post for post in self._waiting if post.at <= now]:
            self._waiting.remove(post)
            self._last += 1
            post.tries += 1
            self._open[f"response-p{self._last}"] = post
            yield f"response-p{self._last}", post.body

    def end(self, ended: PostEnded, *, now: float) -> Verdict:
        post = self._open.pop(ended.tag)
        if ended.status is not None and 200 <= ended.status < 300:
            return Verdict.GOOD
        if not ended.is_passing:
            if post.instead is None:
                return Verdict.REFUSED
            post.body, post.instead = post.instead, None
            self._waiting.append(post)
            return Verdict.AGAIN
        if post.until is None:
            post.until = now + self._patience_s
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(post.tries - 1, 10)) * (1 + self._spread)
        if now + pause > post.until:
            return Verdict.LATE
        post.at = now + pause
        self._waiting.append(post)
        return Verdict.AGAIN
