import pytest

from edge.proto.framing import EDGE_BYTES, MAX_LINE_BYTES, LineDecoder, Oversized


def test_lines_come_out_as_they_are_completed() -> None:
    decoder = LineDecoder()
    assert decoder.feed(b"a") == []
    assert decoder.feed(b"b\nc\nd") == [b"ab", b"c"]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == [b"d"]


def test_a_carriage_return_belongs_to_the_line_end_and_empty_lines_are_dropped() -> None:
    assert LineDecoder().feed(b"a\r\n\r\n\n b\r\r\n") == [b"a", b" b\r"]
    decoder = LineDecoder()
    assert decoder.feed(b"a\r") == []
    assert decoder.feed(b"\n") == [b"a"]


def test_only_a_line_feed_ends_a_line() -> None:
    assert LineDecoder().feed("a\x0b\x0c\x85\u2028b\rc\n".encode()) == ["a\x0b\x0c\x85\u2028b\rc".encode()]


def test_a_line_of_just_the_limit_is_delivered() -> None:
    assert LineDecoder(3).feed(b"abc\n") == [b"abc"]
    decoder = LineDecoder(3)
    assert decoder.feed(b"ab") + decoder.feed(b"c") + decoder.feed(b"\n") == [b"abc"]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"x\nabcd\ny\n"],
        [b"x\nabc", b"d", b"\ny\n"],
        [b"x\nabc", b"d\ny\n"],
        [b"x\nab", b"c", b"d\n", b"y\n"],
    ],
)
def test_an_over_long_line_is_reported_once_and_in_its_place(chunks: list[bytes]) -> None:
    decoder = LineDecoder(3)
    assert [line for chunk in chunks for line in decoder.feed(chunk)] == [b"x", Oversized(4), b"y"]


def test_an_over_long_line_is_skipped_to_its_end() -> None:
    decoder = LineDecoder(3)
    for _ in range(1000):
        assert decoder.feed(b"x" * 100) == []
    assert decoder.feed(b"xx\nok\n") == [Oversized(100_002), b"ok"]


def test_twenty_megabytes_in_pipe_sized_chunks_are_one_line() -> None:
    decoder = LineDecoder()
    chunk = b"x" * 65_536
    for _ in range(320):
        assert decoder.feed(chunk) == []
    assert decoder.feed(b"\n") == [chunk * 320]
    assert MAX_LINE_BYTES > 320 * 65_536


def test_of_a_line_that_was_skipped_both_ends_are_told() -> None:
    line = b"<" + b"a" * 300 + b"b" * 5000 + b"c" * 300 + b">"
    for size in (1, 7, 999, 10_000):
        decoder = LineDecoder(1000)
        data = line + b"\n"
        found = [one for at in range(0, len(data), size) for one in decoder.feed(data[at : at + size])]
        (skipped,) = found
        assert isinstance(skipped, Oversized)
        assert skipped.head == line[:EDGE_BYTES]
        assert skipped.tail == line[-EDGE_BYTES:]
