"""Files that hang, as those on a mount do that does not answer: a reader of one waits until the block ends."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hanging_pipe(path: Path) -> Iterator[str]:
    """A named pipe that nobody writes to."""
    os.mkfifo(path)
    try:
        yield str(path)
    finally:
        both_ends = os.open(path, os.O_RDWR)  # lets go whoever waits for it to open
        path.unlink()
        os.close(both_ends)


class HangingSecret:
    """A `read_secret` that does not come back before `is_back`; a test that waits for it in vain fails, at last."""

    def __init__(self) -> None:
        self.is_back = threading.Event()
        self.has_begun = threading.Event()
        self.n_reads = 0

    def read(self, path: str) -> str:
        self.n_reads += 1
        self.has_begun.set()
        self.is_back.wait(30)
        return "secret"
