"""An HTTP/1.1 answer out of the bytes of a connection, sans-IO: the head, the body, and what may follow it.

The usual answer (`HTTP/1.1`, fields that occur once, a length or plain chunks, a head that came in one piece)
is read here, strictly; whatever departs from that in any way is handed to h11 from its first byte.
Source: RFC 9112, sections 4 to 7 and 9.3.
"""

import re
from typing import Protocol

import h11

from edge.errors import RemoteProtocolError

MAX_HEAD_BYTES = 32 * 1024
MAX_CHUNK_LINE_BYTES = 256
MAX_TRAILER_BYTES = 8 * 1024

# 1xx, 204 and 304 have no body whatever their fields say: h11 knows. No folded lines, bare LF or controls.
USUAL_HEAD = re.compile(
    rb"HTTP/1\.1 (2(?!04)[0-9][0-9]|3(?!04)[0-9][0-9]|[45][0-9][0-9])(?: [\t -~]*)?\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~]*\r\n)+)\r\n"
)
LENGTH = re.compile(r"[0-9]{1,15}")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~]*)?")
TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*")


class Body(Protocol):
    """The rest of an answer after its head."""

    is_complete: bool
    is_reusable: bool  # once complete: the connection is fit for another request

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`, maybe none; b"" is the end of the connection. RemoteProtocolError."""
        raise NotImplementedError


class LengthBody:
    """A body of a length told beforehand."""

    __slots__ = ("_left", "is_complete", "is_reusable")

    def __init__(self, length: int, *, keep: bool) -> None:
        self._left = length
        self.is_complete = length == 0
        self.is_reusable = keep

    def feed(self, data: bytes) -> bytes:
        n_bytes = len(data)
        if n_bytes < self._left:
            if n_bytes == 0:
                raise RemoteProtocolError(f"the answer ended {self._left} bytes early")
            self._left -= n_bytes
            return data
        if n_bytes > self._left:
            self.is_reusable = False  # it says more than it was asked
            data = data[: self._left]
        self._left = 0
        self.is_complete = True
        return data


class ChunkedBody:
    """A body in chunks; their extensions and the trailer are skipped."""

    __slots__ = ("_held", "_left", "_step", "_trailer_bytes", "is_complete", "is_reusable")

    def __init__(self, *, keep: bool) -> None:
        self._held = b""  # the beginning of a line
        self._left = 0  # bytes of the present chunk that are to come
        self._step = "size"  # size, data, end (of data), trailer
        self._trailer_bytes = 0
        self.is_complete = False
        self.is_reusable = keep

    def feed(self, data: bytes) -> bytes:
        if not data:
            raise RemoteProtocolError("the answer ended between chunks or within one")
        if self._held:
            data, self._held = self._held + data, b""
        payload: list[bytes] = []
        at, n_bytes = 0, len(data)
        while not self.is_complete:
            if self._step == "data":
                piece = data[at : at + self._left]
                payload.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._step = "end"
            eol = data.find(b"\r\n", at, at + MAX_CHUNK_LINE_BYTES)
            if eol < 0:
                if n_bytes - at >= MAX_CHUNK_LINE_BYTES:
                    raise RemoteProtocolError("a line between chunks is too long")
                self._held = data[at:]
                if b"\n" in self._held or (self._step == "end" and not b"\r\n".startswith(self._held)):
                    raise RemoteProtocolError("a chunk or a line between chunks does not end in CRLF")
                break
            self._line(data[at:eol])
            at = eol + 2
        if self.is_complete and at < n_bytes:
            self.is_reusable = False
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _line(self, line: bytes) -> None:
        if self._step == "size":
            match = CHUNK_LINE.fullmatch(line)
            if match is None:
                raise RemoteProtocolError("the size of a chunk is not a number")
            self._left = int(match[1], 16)
            self._step = "data" if self._left else "trailer"
        elif self._step == "end":
            if line:
                raise RemoteProtocolError("a chunk is longer than its size")
            self._step = "size"
        elif line:
            if TRAILER_LINE.fullmatch(line) is None:
                raise RemoteProtocolError("the trailer is malformed")
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_TRAILER_BYTES:
                raise RemoteProtocolError("the trailer is too long")
        else:
            self.is_complete = True


class Answer:
    """One answer: `feed` it what is received until `is_complete`. `status` is 0 before the head is whole.

    `fields` have lower-case names; a field that came more than once is joined with ", ".
    Raises: RemoteProtocolError.
    """

    __slots__ = ("_any", "_any_request", "_body", "fields", "status")

    def __init__(self, method: str) -> None:
        self.status = 0
        self.fields: dict[str, str] = {}
        self._body: Body | None = None
        self._any: h11.Connection | None = None
        self._any_request = method

    @property
    def is_complete(self) -> bool:
        return self._body is not None and self._body.is_complete

    @property
    def is_reusable(self) -> bool:
        return self._body is not None and self._body.is_complete and self._body.is_reusable

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`; b"" is the end of the connection."""
        if self._body is not None:
            return self._body.feed(data)
        if self._any is None:
            at = self._read_usual_head(data)
            if at:
                return self.feed(data[at:]) if at < len(data) else b""
            self._any = open_h11(self._any_request)
        return self.feed_any(self._any, data)

    def _read_usual_head(self, data: bytes) -> int:
        """Where the body begins, with the head's attributes set; 0 and nothing set if it is unusual."""
        match = USUAL_HEAD.match(data)
        if match is None or match.end() > MAX_HEAD_BYTES:
            return 0
        lines = match[2].decode("ascii").split("\r\n")
        fields: dict[str, str] = {}
        for line in lines[:-1]:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip(" \t")
        connection = fields.get("connection", "keep-alive").lower()
        if len(fields) != len(lines) - 1 or connection not in ("keep-alive", "close"):
            return 0
        keep = connection == "keep-alive"
        length, coding = fields.get("content-length"), fields.get("transfer-encoding")
        if length is not None and coding is None and LENGTH.fullmatch(length):
            self._body = LengthBody(int(length), keep=keep)
        elif length is None and coding is not None and coding.lower() == "chunked":
            self._body = ChunkedBody(keep=keep)
        else:
            return 0
        self.status = int(match[1])
        self.fields = fields
        return match.end()

    def feed_any(self, connection: h11.Connection, data: bytes) -> bytes:
        """`feed` by h11."""
        payload: list[bytes] = []
        try:
            connection.receive_data(data)
            while not self.is_complete:
                event = connection.next_event()
                if isinstance(event, h11.Response):
                    self.status = event.status_code
                    for raw_name, raw_value in event.headers:
                        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
                        self.fields[name] = f"{self.fields[name]}, {value}" if name in self.fields else value
                    self._body = H11Body(self, connection)
                elif isinstance(event, h11.Data):
                    payload.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage) and isinstance(self._body, H11Body):
                    self._body.is_complete = True
                    self._body.is_reusable = (
                        connection.their_state is h11.DONE
                        and connection.our_state is h11.DONE
                        and connection.trailing_data == (b"", False)
                    )
                elif isinstance(event, h11.InformationalResponse):
                    continue
                else:
                    break  # NEED_DATA, PAUSED after a switch of protocols, ConnectionClosed
        except h11.RemoteProtocolError as exc:
            raise RemoteProtocolError(str(exc)) from exc
        if not data and not self.is_complete:
            raise RemoteProtocolError("the connection ended before the answer did")
        return b"".join(payload)


class H11Body:
    """A body that h11 reads for its `Answer`."""

    __slots__ = ("_answer", "_connection", "is_complete", "is_reusable")

    def __init__(self, answer: Answer, connection: h11.Connection) -> None:
        self._answer = answer
        self._connection = connection
        self.is_complete = False
        self.is_reusable = False

    def feed(self, data: bytes) -> bytes:
        return self._answer.feed_any(self._connection, data)


def open_h11(method: str) -> h11.Connection:
    """A client connection that has just sent a request; of that request, only the method matters."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    return connection
