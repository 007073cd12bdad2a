from hypothesis import given
from hypothesis import strategies as st

from edge.errors import RemoteProtocolError
from edge.proto.sse import KEEPALIVE, SseDecoder, SseEvent, encode_event

words = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=5)
events = st.builds(
    SseEvent,
    data=st.text(st.characters(codec="utf-8"), max_size=12),
    event=words.map(lambda word: word or "message"),
    id=st.none() | words,
    retry_ms=st.none() | st.integers(0, 10**6),
)
cuts_lists = st.lists(st.integers(0, 9))
streams = st.lists(
    st.sampled_from(
        b"data|data:|: c|event: e|id: 1|retry: 5|x|\n|\r|\r\n|\xef\xbb\xbf|\xc3|\xa4|\xff| |0123456789".split(
            b"|"
        )
    )
).map(b"".join)


def with_line_feeds(event: SseEvent) -> SseEvent:
    data = event.data.replace("\r\n", "\n").replace("\r", "\n")
    return SseEvent(data, event.event, event.id, event.retry_ms)


def feed(stream: bytes, cuts: list[int], limit: int) -> list[SseEvent] | str:
    decoder = SseDecoder(limit)
    found: list[SseEvent] = []
    try:
        for cut in [*cuts, len(stream)]:
            found += decoder.feed(stream[:cut])
            stream = stream[cut:]
        return found + decoder.close()
    except RemoteProtocolError as exc:
        return str(exc)


@given(st.lists(events, max_size=4), cuts_lists, st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_any_chunking_gives_back_the_events(sent: list[SseEvent], cuts: list[int], start: bytes) -> None:
    wire = start + KEEPALIVE.join(
        encode_event(event.data, event=event.event, id=event.id, retry_ms=event.retry_ms) for event in sent
    )
    decoder, got = SseDecoder(1000), []
    for cut in [*cuts, len(wire)]:
        got += decoder.feed(wire[:cut])
        wire = wire[cut:]
    assert got == [with_line_feeds(event) for event in sent]
    assert decoder.close() == []


@given(streams, cuts_lists, st.sampled_from([5, 12, 1000]))
def test_any_chunking_of_anything_ends_alike(stream: bytes, cuts: list[int], limit: int) -> None:
    assert feed(stream, cuts, limit) == feed(stream, [], limit)


@given(st.text(st.characters(codec="utf-8")))
def test_no_data_can_break_out_of_its_event(data: str) -> None:
    lines = encode_event(data, id="1").splitlines()
    assert lines[0] == b"id: 1"
    assert all(line.startswith(b"data: ") for line in lines[1:-1])
    assert lines[-1] == b""
