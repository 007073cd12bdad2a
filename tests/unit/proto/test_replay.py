"""Events kept for clients that come back."""

import pytest

from edge.errors import LocalProtocolError
from edge.proto.replay import Replay, ReplayRing


def missed(replay: Replay | None) -> list[str]:
    assert replay is not None
    return [event.data for event in replay.events]


async def test_only_the_stream_that_broke_is_replayed() -> None:
    ring = ReplayRing()
    one, two = ring.open_stream(), ring.open_stream()
    first = ring.append(one, "a", now=0)
    ring.append(two, "b", now=0)
    second = ring.append(one, "c", now=0)
    replay = ring.after(first, now=0)
    assert replay is not None
    assert (replay.stream, replay.is_finished) == (one, False)
    assert [(event.id, event.data) for event in replay.events] == [(second, "c")]
    assert missed(ring.after(second, now=0)) == []
    assert missed(ring.after(ring.start_id(two), now=0)) == ["b"]


async def test_ids_are_visible_ascii_and_never_come_again() -> None:
    ring = ReplayRing(max_events=2)
    ids = []
    for _ in range(5):
        stream = ring.open_stream()
        ids += [ring.append(stream, "x", now=0) for _ in range(3)]
        ring.close_stream(stream, now=0)
    assert len(set(ids)) == 15
    assert all(0x21 <= ord(char) <= 0x7E for text in ids for char in text)


async def test_a_finished_stream_says_so_and_is_forgotten_with_its_last_event() -> None:
    ring = ReplayRing(keep_s=60)
    stream = ring.open_stream()
    assert not ring.is_finished(stream)
    event = ring.append(stream, "x", now=0)
    ring.close_stream(stream, now=1)
    ring.close_stream(stream, now=1)
    assert ring.is_finished(stream)
    replay = ring.after(event, now=60)
    assert replay == Replay(stream, [], True)
    assert ring.after(event, now=60.5) is None
    assert ring.streams == frozenset()
    assert ring.is_finished(stream)
    ring.close_stream(stream, now=61)


async def test_a_stream_that_never_said_anything_leaves_nothing_behind() -> None:
    ring = ReplayRing()
    ring.close_stream(ring.open_stream(), now=0)
    assert ring.streams == frozenset()


async def test_an_open_stream_outlives_its_events() -> None:
    ring = ReplayRing(keep_s=60)
    stream = ring.open_stream()
    old = ring.append(stream, "x", now=0)
    assert missed(ring.after(ring.start_id(stream), now=61)) == []
    new = ring.append(stream, "y", now=61)
    assert missed(ring.after(old, now=61)) == ["y"]
    assert missed(ring.after(new, now=61)) == []


async def test_closing_lets_what_is_too_old_go_first() -> None:
    ring = ReplayRing(keep_s=60)
    stream = ring.open_stream()
    ring.append(stream, "x", now=0)
    ring.close_stream(stream, now=100)
    assert (len(ring), ring.streams) == (0, frozenset())


async def test_a_client_that_missed_what_is_gone_gets_the_rest() -> None:
    ring = ReplayRing(max_events=2)
    stream = ring.open_stream()
    first, second, _ = (ring.append(stream, data, now=0) for data in "abc")
    assert missed(ring.after(first, now=0)) == ["b", "c"]
    ring.append(stream, "the answer", now=0)
    ring.close_stream(stream, now=0)
    assert missed(ring.after(first, now=0)) == ["c", "the answer"]
    assert missed(ring.after(second, now=0)) == ["c", "the answer"]


async def test_bytes_are_bounded_and_counted_as_utf8() -> None:
    ring = ReplayRing(max_bytes=10)
    stream = ring.open_stream()
    first = ring.append(stream, "€€", now=0)
    assert ring.kept_bytes == 6
    ring.append(stream, "abcd", now=0)
    assert ring.kept_bytes == 10
    ring.append(stream, "e", now=0)
    assert ring.kept_bytes == 5
    assert missed(ring.after(first, now=0)) == ["abcd", "e"]
    ring.append(stream, "x" * 11, now=0)
    assert (len(ring), ring.kept_bytes) == (0, 0)


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "1-9", "9-1", "01-1", "1-01", "1-+1", "1-1 ", "١-1", "1-" + "9" * 5000]
)
async def test_an_id_that_was_never_given_out_is_unknown(text: str) -> None:
    ring = ReplayRing()
    ring.append(ring.open_stream(), "x", now=0)
    assert missed(ring.after("1-0", now=0)) == ["x"]
    assert ring.after(text, now=0) is None


async def test_writing_to_a_stream_that_is_not_open_is_a_bug() -> None:
    ring = ReplayRing()
    stream = ring.open_stream()
    ring.append(stream, "x", now=0)
    ring.close_stream(stream, now=0)
    for name in (stream, "99"):
        with pytest.raises(LocalProtocolError, match=f"stream {name} is not open"):
            ring.append(name, "y", now=0)
