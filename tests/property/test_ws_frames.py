"""The fast path of WebSocket frames never disagrees with wsproto, whatever comes and however it is cut.

Frames are made usual and then mutated, so that most are almost right: that is where parsers differ.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from edge.net.ws_frames import Frames, size_of_frame
from tests.support.raw_websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

LIMIT = 70_000

texts = st.one_of(
    st.text(max_size=12),
    st.builds(lambda letter, size: letter * size, st.sampled_from("xé😀"), st.integers(100, 140)),
    st.sampled_from(["x" * size for size in (125, 126, 300, 65535, 65536)]),
)
payloads = st.one_of(
    texts.map(str.encode), st.binary(max_size=6), st.sampled_from([b"\xff" * 130, b"\xed\xa0\x80", b"\xc3"])
)
opcodes = st.sampled_from([TEXT, TEXT, TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 3])


@st.composite
def streams(draw: st.DrawFn, *, masked: bool) -> bytes:
    """Some frames; a byte near a head may be another one, and the end may be cut off."""
    data = bytearray()
    for _ in range(draw(st.integers(1, 5))):
        is_usual = draw(st.integers(0, 2))
        at = len(data)
        if is_usual:
            data += frame(TEXT, draw(texts).encode(), masked=masked)
        else:
            data += frame(draw(opcodes), draw(payloads), masked=masked, final=draw(st.booleans()))
        if not draw(st.integers(0, 5)):
            where = min(at + draw(st.integers(0, 12)), len(data) - 1)
            data[where] = draw(
                st.one_of(st.integers(0, 255), st.sampled_from([0x81, 0x01, 125, 126, 127, 254]))
            )
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


cuts = st.lists(st.one_of(st.integers(0, 40), st.integers(0, 70_000)), max_size=8)


def pieces_of(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


class Heard:
    """What came, independent of how messages were cut into events."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.is_over = False
        self._message: str | bytes | None = None

    def take(self, found: str | Event) -> None:
        if self.is_over:
            return
        if isinstance(found, str):
            assert self._message is None, "a message within another one"
            self.told.append(found)
        elif isinstance(found, TextMessage | BytesMessage):
            piece: Any = found.data if isinstance(found.data, str) else bytes(found.data)
            message: Any = piece if self._message is None else self._message + piece
            self._message = None if found.message_finished else message
            if found.message_finished:
                self.told.append(message)
        else:
            self.is_over = isinstance(found, CloseConnection)
            self.told.append(found)

    @property
    def all(self) -> list[Any]:
        return [*self.told, self.is_over, self._message or None]


def heard_by_wsproto(pieces: Iterable[bytes], *, is_client: bool) -> list[Any]:
    heard, judge = Heard(), Connection(ConnectionType.CLIENT if is_client else ConnectionType.SERVER)
    for piece in pieces:
        judge.receive_data(piece)
        for event in judge.events():
            heard.take(event)
    return heard.all


def heard_by_us(pieces: Iterable[bytes], *, is_client: bool, limit: int = LIMIT) -> list[Any]:
    heard, frames = Heard(), Frames(is_client=is_client, limit=limit)
    for piece in pieces:
        frames.feed(piece)
        while (found := frames.next()) is not None:
            heard.take(found)
            if heard.is_over:
                return heard.all
    return heard.all


def check(data: bytes, places: list[int], *, is_client: bool) -> None:
    pieces = pieces_of(data, places)
    told = heard_by_wsproto(pieces, is_client=is_client)
    assert heard_by_us(pieces, is_client=is_client) == told
    assert heard_by_us(pieces, is_client=is_client, limit=10) == told, "what is over the limit is wsproto's"


@given(streams(masked=True), cuts)
@example(frame(TEXT, b"abc") + frame(TEXT, b"d", final=False) + frame(TEXT, b"e"), [])
@example(frame(TEXT, b"abc", masked=False), [])
@example(
    frame(TEXT, b"a", final=False) + frame(PING, b"!") + frame(CONTINUATION, b"b") + frame(TEXT, b"c"), [1]
)
@example(b"\x81\xfe\x00\x05\x01\x02\x03\x04hello", [3])  # a length in more bytes than it needs
@example(b"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00", [])
def test_a_servers_frames_are_read_as_wsproto_reads_them(data: bytes, places: list[int]) -> None:
    check(data, places, is_client=False)


@given(streams(masked=False), cuts)
@example(frame(TEXT, b"abc"), [])
@example(frame(TEXT, b"", masked=False) * 3, [1, 3])
def test_a_clients_frames_are_read_as_wsproto_reads_them(data: bytes, places: list[int]) -> None:
    check(data, places, is_client=True)


@given(texts, st.booleans())
def test_what_we_write_is_read_by_wsproto(text: str, is_client: bool) -> None:
    data = Frames(is_client=is_client, limit=LIMIT).text(text)
    assert size_of_frame(data[:10]) == len(data)
    assert heard_by_wsproto([data], is_client=not is_client) == [text, False, None]
    if not is_client:
        judge = Connection(ConnectionType.SERVER)
        assert data == judge.send(TextMessage(data=text))


@given(st.binary(max_size=125), st.sampled_from([Ping, Pong]), st.booleans())
def test_pings_and_pongs_we_write_are_read_by_wsproto(
    payload: bytes, kind: type[Ping | Pong], is_client: bool
) -> None:
    data = Frames(is_client=is_client, limit=LIMIT).send(kind(payload=payload))
    judge = Connection(ConnectionType.SERVER if is_client else ConnectionType.CLIENT)
    judge.receive_data(data)
    assert list(judge.events()) == [kind(payload=payload)]


def test_each_frame_of_a_client_has_a_mask_of_its_own() -> None:
    frames = Frames(is_client=True, limit=LIMIT)
    assert len({frames.text("hello")[2:6] for _ in range(20)}) > 10


def test_the_usual_frame_is_read_without_wsproto() -> None:
    for is_client in (False, True):
        frames = Frames(is_client=is_client, limit=LIMIT)
        for size in (2, 125, 126, 65535):
            data = frame(TEXT, b"x" * size, masked=not is_client)
            frames.feed(data * 3)
            # A str is ours: what came through wsproto would be a TextMessage.
            assert [frames.next() for _ in range(4)] == ["x" * size] * 3 + [None]
