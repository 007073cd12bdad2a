"""The answers that a gateway sends on one connection, read without any I/O.

Gateways answer a call with JSON or with an event stream, with a length or in chunks, in one segment or in
several. `AnswerScanner` copes with all of it, at the price of some microseconds. `shape_of` learns what every
further answer of the same gateway looks like, so that the load generator need only compare.
"""

import json
from typing import Any, NamedTuple

HEAD_END = b"\r\n\r\n"


class BadAnswer(Exception):
    """The gateway did not answer as it should have."""


class Shape(NamedTuple):
    """What the bytes of all answers have in common, if they arrive in one piece and ids have one length."""

    length: int
    at: int  # where the id is
    tail: bytes  # what follows the id


def shape_of(received: bytes, call_id: bytes) -> Shape:
    """The shape of one whole answer.

    Raises: BadAnswer if the id is in there more than once (an event id, say): no two such answers need be alike.
    """
    at = received.find(call_id)
    if at < 0 or received.count(call_id) != 1:
        raise BadAnswer(f"the id {call_id.decode()} is not in the answer exactly once")
    return Shape(len(received), at, received[at + len(call_id) :])


class AnswerScanner:
    """Reads one answer after the other: `feed` until it `has_ended`, then `begin` the next.

    `message` is the JSON-RPC response as soon as it is there whole; with an event stream that can be well
    before the HTTP answer has ended. Other messages on an event stream are skipped.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.message: dict[str, Any] | None = None
        self.has_ended = False
        self._wire = b""
        self._body = b""
        self._left: int | None = (
            None  # bytes of the body or the chunk still to come; None until that is known
        )

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def feed(self, chunk: bytes) -> None:
        """Takes bytes from the connection; empty bytes are its end."""
        if self.has_ended:
            raise BadAnswer("more bytes than the answer has")
        if not chunk:
            raise BadAnswer("the connection was closed before the answer had ended")
        self._wire += chunk
        if not self.status and not self._take_head():
            return
        if "chunked" in self.headers.get("transfer-encoding", ""):
            self._take_chunks()
        else:
            self._take_body()
        self._take_message()

    def _take_head(self) -> bool:
        head, separator, rest = self._wire.partition(HEAD_END)
        if not separator:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or words[0] != "HTTP/1.1" or not words[1].isdigit():
            raise BadAnswer(f"no HTTP answer: {first[:80]}")
        self.status = int(words[1])
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self._wire = rest
        return True

    def _take_body(self) -> None:
        if self._left is None:
            if "content-length" not in self.headers and self.status != 202:
                raise BadAnswer("an answer that ends with its connection")
            self._left = int(self.headers.get("content-length", "0"))
        self._body += self._wire[: self._left]
        self._left -= len(self._wire[: self._left])
        self._wire = b""
        self.has_ended = self._left == 0

    def _take_chunks(self) -> None:
        while not self.has_ended:
            if self._left is None:
                line, separator, rest = self._wire.partition(b"\r\n")
                if not separator:
                    return
                self._wire, self._left = rest, int(line.split(b";")[0], 16)
            if len(self._wire) < self._left + 2:
                return
            self._body += self._wire[: self._left]
            self._wire = self._wire[self._left + 2 :]
            self.has_ended = self._left == 0
            self._left = None

    def _take_message(self) -> None:
        if self.is_stream:
            text = self._body.replace(b"\r\n", b"\n")
            *events, rest = text.split(b"\n\n")
            self._body = rest
            for event in events:
                data = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
                self._judge(b"\n".join(data))
        elif self.has_ended:
            if self.status not in (200, 202):
                raise BadAnswer(f"status {self.status}: {self._body[:200]!r}")
            self._judge(self._body)

    def _judge(self, text: bytes) -> None:
        if not text:
            return
        message = json.loads(text)
        if isinstance(message, dict) and ("result" in message or "error" in message):
            self.message = message
