"""Newline framing of a byte stream, with a limit on what one line may keep in memory.

Source: MCP 2025-11-25, "Transports", stdio: messages are delimited by newlines and hold none themselves.
"""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

EDGE_BYTES: Final = 256
MAX_LINE_BYTES: Final = 20 * 1024 * 1024 + 4096
"""A result of 20 MiB and the envelope around it."""


@dataclass(frozen=True, slots=True)
class Oversized:
    """A line that was skipped because it was too long; `n_bytes` without its line feed.

    `head` and `tail` are its first and last bytes, up to EDGE_BYTES each: enough to see whose it was.
    """

    n_bytes: int
    head: bytes = field(default=b"", compare=False)
    tail: bytes = field(default=b"", compare=False)


class LineDecoder:
    """Bytes to lines, under any chunking, in time linear in the bytes.

    `feed(chunk)` returns the lines completed by `chunk`, without their LF or CRLF; empty lines are dropped.
    A last line without a line feed is never delivered: a peer that died while writing it left half a message.

    Limits: at most `max_line_bytes` are kept of an unfinished line (a trailing CR counts). A longer one is
    skipped to its end and then reported once, as `Oversized`, in its place among the lines.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._kept = BytesIO()  # grows in amortized linear time, and gives its bytes away without a copy
        self._n_bytes = 0  # of the unfinished line, kept or not
        self._head = self._tail = b""  # of the unfinished line, once it is too long

    def feed(self, chunk: bytes) -> list[bytes | Oversized]:
        if b"\n" not in chunk:  # only the new bytes are searched
            self._keep(chunk)
            return []
        lines = chunk.split(b"\n")
        rest = lines.pop()
        found: list[bytes | Oversized] = []
        if self._n_bytes:
            self._keep(lines[0])
            if self._n_bytes > self._max_line_bytes:
                found.append(Oversized(self._n_bytes, self._head, self._tail))
                del lines[0]
            else:
                lines[0] = self._kept.getvalue()
            self._kept = BytesIO()
            self._n_bytes = 0
        for line in lines:
            if len(line) > self._max_line_bytes:
                found.append(Oversized(len(line), line[:EDGE_BYTES], line[-EDGE_BYTES:]))
                continue
            if line[-1:] == b"\r":
                line = line[:-1]
            if line:
                found.append(line)
        if rest:
            self._keep(rest)
        return found

    def _keep(self, part: bytes) -> None:
        was_kept = self._n_bytes <= self._max_line_bytes
        self._n_bytes += len(part)
        if self._n_bytes <= self._max_line_bytes:
            self._kept.write(part)
            return
        if was_kept:
            kept = self._kept.getbuffer()
            self._head = (bytes(kept[:EDGE_BYTES]) + part[:EDGE_BYTES])[:EDGE_BYTES]
            self._tail = bytes(kept[-EDGE_BYTES:])
            kept.release()
            self._kept = BytesIO()
        self._tail = (self._tail + part[-EDGE_BYTES:])[-EDGE_BYTES:]
