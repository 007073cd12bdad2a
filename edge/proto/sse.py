"""Server-Sent Events, both directions: a stream's bytes to events, and events to bytes.

Source: WHATWG HTML, "Server-sent events". Two deviations: invalid UTF-8 is an error instead of being
replaced, and an event that the stream's end leaves without its blank line counts (servers are seen to
end their answers so).
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Final

from edge.errors import LocalProtocolError, RemoteProtocolError

KEEPALIVE: Final = b": \n\n"
"""A comment: keeps a quiet stream open, and shows whether the other end is still there."""

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(slots=True)
class SseEvent:
    """One event; `id` and `retry_ms` are what stood in this very event, None if nothing did."""

    data: str
    event: str = "message"
    id: str | None = None
    retry_ms: int | None = None


class SseDecoder:
    """Bytes of an event stream to events, under any chunking, in time linear in the bytes.

    `feed(chunk)` returns the events completed by `chunk`, oldest first. Lines may end in LF, CR or CRLF; a
    CRLF split between chunks counts once. Comments are dropped. A block without a `data` line is no event,
    but its `id` and `retry` count: `last_event_id` and `retry_ms` are the newest seen, for reconnecting.

    `close()` is for the orderly end of the stream: it returns the event that was left unfinished, if any.

    Limits: `max_event_bytes` is the most bytes kept for one unfinished event, field names included.
    Raises: RemoteProtocolError if a peer exceeds it, or on invalid UTF-8; the decoder is done for then, and
    events that the same chunk completed before are lost.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self.last_event_id: str | None = None
        self.retry_ms: int | None = None
        self._max_event_bytes = max_event_bytes
        self._line = BytesIO()  # the unfinished line; grows in amortized linear time
        self._n_line = 0
        self._is_first_line = True
        self._after_cr = False
        self._n_bytes = 0  # of the unfinished event's finished lines
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None
        self._retry_ms: int | None = None

    def feed(self, chunk: bytes) -> list[SseEvent]:
        if not chunk:
            return []
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        is_line_finished = chunk[-1:] in (b"\n", b"\r", b"")
        self._after_cr = chunk[-1:] == b"\r"
        lines = chunk.splitlines()  # of bytes: at LF, CR and CRLF only
        rest = b"" if is_line_finished else lines.pop()
        found: list[SseEvent] = []
        if lines and self._n_line:
            self._line.write(lines[0])
            lines[0] = self._unfinished_line()
        for line in lines:
            self._take_line(line, found)
        if rest:
            self._n_line += len(rest)
            self._check_room(self._n_line)
            self._line.write(rest)
        return found

    def close(self) -> list[SseEvent]:
        found: list[SseEvent] = []
        if self._n_line:
            self._take_line(self._unfinished_line(), found)
        self._finish_event(found)
        return found

    def _unfinished_line(self) -> bytes:
        line = self._line.getvalue()
        self._line = BytesIO()
        self._n_line = 0
        return line

    def _check_room(self, n_bytes: int) -> None:
        if self._n_bytes + n_bytes > self._max_event_bytes:
            raise RemoteProtocolError(f"an event of more than {self._max_event_bytes} bytes")

    def _take_line(self, line: bytes, found: list[SseEvent]) -> None:
        if line:
            # Comments must fit too, or it would depend on the chunking whether a long one is an error.
            self._check_room(len(line))
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            self._finish_event(found)
            return
        colon = line.find(b":")
        if colon == 0:
            return
        self._n_bytes += len(line) + 1
        name, start = (line, len(line)) if colon < 0 else (line[:colon], colon + 1)
        if line[start : start + 1] == b" ":
            start += 1
        try:
            text = line[start:].decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("an event stream that is not UTF-8") from None
        match name:
            case b"data":
                self._data.append(text)
            case b"event":
                self._event = text
            case b"id" if "\0" not in text:
                self._id = self.last_event_id = text
            case b"retry" if text.isascii() and text.isdecimal() and len(text) <= 15:
                self._retry_ms = self.retry_ms = int(text)
            case _:
                pass

    def _finish_event(self, found: list[SseEvent]) -> None:
        if self._data:
            found.append(SseEvent("\n".join(self._data), self._event or "message", self._id, self._retry_ms))
            self._data = []
        self._n_bytes = 0
        self._event = ""
        self._id = self._retry_ms = None


def encode_event(
    data: str,
    *,
    event: str | None = None,
    id: str | None = None,  # noqa: A002  the field's name
    retry_ms: int | None = None,
) -> bytes:
    """One event's bytes. Each line of `data` (LF, CR or CRLF between them) becomes a `data` line."""
    if "\n" in data or "\r" in data:
        data = data.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
    if event is None and id is None and retry_ms is None:
        return f"data: {data}\n\n".encode()
    head = ""
    if event is not None:
        head = f"event: {_one_field(event)}\n"
    if id is not None:
        head += f"id: {_one_field(id)}\n"
    if retry_ms is not None:
        head += f"retry: {retry_ms}\n"
    return f"{head}data: {data}\n\n".encode()


def _one_field(text: str) -> str:
    if "\n" in text or "\r" in text or "\0" in text:
        raise LocalProtocolError("a line break or NUL in an event's type or id")
    return text
