"""The few cancel-scope idioms that are allowed here."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


@contextmanager
def goodbye(seconds: float) -> Iterator[trio.CancelScope]:
    """Shielded *and* bounded: the only place where something may be awaited on the way out.

    Whatever is not done after `seconds` is given up. Cancellation that arrived from outside is
    delivered at the next checkpoint after the block.
    """
    with trio.move_on_after(seconds, shield=True) as scope:
        yield scope
