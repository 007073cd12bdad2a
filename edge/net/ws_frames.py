"""The frames of one WebSocket, both directions: bytes in, messages and events out.

Theory of operation. Nearly every message is one small text frame, and wsproto spends more on that than all the rest of
a call's way; while there are none there are pings and pongs, and it would be made anew for each. So these usual frames
are read and made here, and every other is wsproto's, to the byte. For that a frame that is not a usual one is handed
over whole, and not a byte of the next; until it has ended, and until a message in several frames has, nothing is read
here. What is wrong is always wsproto's to judge. Between frames and messages it has nothing to remember, and is let go:
an idle WebSocket does not pay for it. Source: RFC 6455, section 5.2.
"""

import os
import struct

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import Event, Ping, Pong, TextMessage

FINAL_TEXT, FINAL_PING, FINAL_PONG = 0x81, 0x89, 0x8A
USUAL = (FINAL_TEXT, FINAL_PING, FINAL_PONG)
FINAL, CONTROL, MASKED = 0x80, 0x08, 0x80
ONE_BYTE, TWO_BYTES = 125, 65535  # the longest payload whose length needs no more
IN_TWO, IN_EIGHT = 126, 127  # in place of a length: it follows
LONGEST_LENGTH = 10  # bytes of a head up to the end of the length


class Frames:
    """One end's. `rest` is what was received already; a message of more than `limit` bytes is left to wsproto."""

    __slots__ = (
        "_at",
        "_data",
        "_head",
        "_is_client",
        "_is_within",
        "_limit",
        "_may_have",
        "_missing",
        "_proto",
    )

    def __init__(self, *, is_client: bool, limit: int, rest: bytes = b"") -> None:
        self._proto: Connection | None = None  # while it has something to remember
        self._is_client = is_client
        self._limit = min(limit, TWO_BYTES)
        self._data = rest
        self._at = 0  # what of it has been used
        self._head = b""  # of the frame that wsproto is being given, while its length is not known
        self._missing = 0  # bytes of that frame
        self._is_within = False  # a message that goes on in the next frame
        self._may_have = False  # wsproto may have events

    @property
    def state(self) -> ConnectionState:
        return ConnectionState.OPEN if self._proto is None else self._proto.state

    def feed(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def next(self) -> str | Event | None:
        """A message, or what wsproto says; None: more bytes are needed."""
        while True:
            if self._may_have:
                for event in self._wsproto().events():
                    return event
                self._may_have = False
                self._let_go()
            if self._at == len(self._data):
                self._data, self._at = b"", 0
                return None
            if not (self._missing or self._head or self._is_within):
                usual = self._usual()
                if usual is not None:
                    return usual
            self._hand_over()

    def text(self, text: str) -> bytes:
        """A message."""
        payload = text.encode()
        if len(payload) <= TWO_BYTES:
            return self._framed(FINAL_TEXT, payload)
        return self.send(TextMessage(data=text))

    def send(self, event: Event) -> bytes:
        """Everything else."""
        if isinstance(event, (Ping, Pong)) and len(event.payload) <= ONE_BYTE:
            return self._framed(FINAL_PING if isinstance(event, Ping) else FINAL_PONG, bytes(event.payload))
        data = self._wsproto().send(event)
        self._let_go()
        return data

    def _framed(self, first: int, payload: bytes) -> bytes:
        size = len(payload)
        masked = MASKED if self._is_client else 0
        is_short = size <= ONE_BYTE
        head = (
            bytes((first, masked | size)) if is_short else struct.pack("!BBH", first, masked | IN_TWO, size)
        )
        if not masked:
            return head + payload
        mask = os.urandom(4)
        return head + mask + masked_with(mask, payload)

    def _usual(self) -> str | Event | None:
        """The next frame, if it is complete: a text of moderate size, a ping or a pong."""
        data, at = self._data, self._at
        n_bytes = len(data)
        if n_bytes - at < 4:  # an empty one may have two bytes, and is not usual
            return None
        first = data[at]
        if first not in USUAL:
            return None
        size, start = data[at + 1], at + 2
        if not self._is_client:
            size -= MASKED
        if size == IN_TWO and first == FINAL_TEXT:
            size, start = data[start] << 8 | data[start + 1], start + 2
            if size <= ONE_BYTE:
                return None
        elif not 0 <= size <= ONE_BYTE:
            return None
        if size > self._limit:
            return None
        mask_at = start
        if not self._is_client:
            start += 4
        end = start + size
        if end > n_bytes:
            return None
        payload = data[start:end]
        if not self._is_client:
            payload = masked_with(data[mask_at:start], payload)
        if first != FINAL_TEXT:
            self._at = end
            return Ping(payload=payload) if first == FINAL_PING else Pong(payload=payload)
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            return None
        self._at = end
        return text

    def _hand_over(self) -> None:
        """To wsproto: the rest of its frame, or what is there of the next."""
        data, at = self._data, self._at
        if not self._missing:
            head = self._head + data[at : at + LONGEST_LENGTH]
            size = size_of_frame(head)
            if size is None:
                self._head = head
                self._missing = len(data) - at  # all there is
            else:
                self._missing, self._head = size - len(self._head), b""
                if not head[0] & CONTROL:
                    self._is_within = not head[0] & FINAL
        end = min(at + self._missing, len(data))
        self._missing -= end - at
        self._at = end
        self._wsproto().receive_data(data[at:end])
        self._may_have = True

    def _wsproto(self) -> Connection:
        if self._proto is None:
            self._proto = Connection(ConnectionType.CLIENT if self._is_client else ConnectionType.SERVER)
        return self._proto

    def _let_go(self) -> None:
        has_rest = self._may_have or self._missing or self._head or self._is_within
        if not has_rest and self.state is ConnectionState.OPEN:
            self._proto = None


def masked_with(mask: bytes, payload: bytes) -> bytes:
    """Masks, and unmasks. As one large number: quick up to some KiB, which nearly all are."""
    size = len(payload)
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(whole, "little")).to_bytes(size, "little")


def size_of_frame(head: bytes) -> int | None:
    """All of it, head included; None if so much of its head does not tell."""
    if len(head) < 2:
        return None
    size, start = head[1] & ~MASKED, 2
    if size > ONE_BYTE:
        start = 4 if size == IN_TWO else LONGEST_LENGTH
        if len(head) < start:
            return None
        size = int.from_bytes(head[2:start], "big")
    return start + (4 if head[1] & MASKED else 0) + size
