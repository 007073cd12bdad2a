import pytest

from edge.errors import LocalProtocolError, RemoteProtocolError
from edge.proto.sse import KEEPALIVE, SseDecoder, SseEvent, encode_event


def decode(stream: bytes, *, max_event_bytes: int = 1000) -> list[SseEvent]:
    return SseDecoder(max_event_bytes).feed(stream)


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [
        # The three examples of the specification's section "Interpreting an event stream".
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [SseEvent("YHOO\n+2\n10")]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
         [SseEvent("first event", id="1"), SseEvent("second event", id=""), SseEvent(" third event")]),
        (b"data\n\ndata\ndata\n\ndata:", [SseEvent(""), SseEvent("\n")]),
        (b"data:test\n\ndata: test\n\n", [SseEvent("test"), SseEvent("test")]),
    ],
)  # fmt: skip
def test_the_specifications_examples(stream: bytes, wanted: list[SseEvent]) -> None:
    assert decode(stream) == wanted


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_in_lf_cr_or_crlf(end: bytes) -> None:
    lines = [b"event: a", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""]
    assert decode(end.join(lines)) == [SseEvent("1\n2", event="a"), SseEvent("3")]


def test_a_crlf_split_between_chunks_counts_once() -> None:
    decoder = SseDecoder(1000)
    assert decoder.feed(b"data: 1\r") == []
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"data: 2\r") == []
    assert decoder.feed(b"\r") == [SseEvent("1\n2")]
    assert decoder.feed(b"\ndata: 3\n\n") == [SseEvent("3")]


def test_a_character_split_between_chunks_is_whole() -> None:
    decoder = SseDecoder(1000)
    wire = "data: ä€😀\n\n".encode()
    assert [event for i in range(len(wire)) for event in decoder.feed(wire[i : i + 1])] == [SseEvent("ä€😀")]


def test_only_one_byte_order_mark_at_the_start_is_dropped() -> None:
    assert decode(b"\xef\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n") == [SseEvent("1")]
    assert decode(b"\xef\xbb\xbf\ndata: 1\n\n") == [SseEvent("1")]


def test_comments_and_unknown_fields_are_dropped() -> None:
    assert decode(b":\n: data: x\nother: 1\nDATA: 2\ndata: 3\n\n") == [SseEvent("3")]
    assert decode(KEEPALIVE) == []


def test_only_lf_cr_and_crlf_break_lines() -> None:
    assert decode("data: a\x0b\x0c\x1c\x85\u2028b\n\n".encode()) == [SseEvent("a\x0b\x0c\x1c\x85\u2028b")]


def test_an_event_without_data_is_none_but_its_id_and_retry_count() -> None:
    decoder = SseDecoder(1000)
    assert decoder.feed(b"id: 7\nretry: 250\nevent: x\n\n") == []
    assert (decoder.last_event_id, decoder.retry_ms) == ("7", 250)
    assert decoder.feed(b"data: 1\n\n") == [SseEvent("1")]
    assert (decoder.last_event_id, decoder.retry_ms) == ("7", 250)


def test_a_priming_event_has_empty_data_and_an_id() -> None:
    assert decode(b"id: 7\nretry: 10\ndata:\n\n") == [SseEvent("", id="7", retry_ms=10)]


@pytest.mark.parametrize(
    "field", [b"id: a\0b", b"retry: x", b"retry: -1", b"retry:", b"retry: " + b"9" * 5000]
)
def test_a_bad_id_or_retry_is_passed_over(field: bytes) -> None:
    assert decode(field + b"\ndata: 1\n\n", max_event_bytes=9000) == [SseEvent("1")]


def test_a_retry_in_foreign_digits_is_passed_over() -> None:
    assert decode("retry: ٣\ndata: 1\n\n".encode()) == [SseEvent("1")]


def test_an_empty_event_type_is_message() -> None:
    assert decode(b"event: a\nevent:\ndata: 1\n\n") == [SseEvent("1", event="message")]


def test_close_completes_the_event_that_the_streams_end_left_open() -> None:
    for left in (b"data: 1", b"data: 1\n", b"data: 1\r"):
        decoder = SseDecoder(1000)
        assert decoder.feed(left) == []
        assert decoder.close() == [SseEvent("1")]
        assert decoder.close() == []


def test_close_of_a_finished_stream_gives_nothing() -> None:
    decoder = SseDecoder(1000)
    assert decoder.feed(b"data: 1\n\n: x\n") == [SseEvent("1")]
    assert decoder.close() == []


def test_an_event_of_just_the_limit_is_delivered_and_the_next_begins_at_nothing() -> None:
    decoder = SseDecoder(16)
    for _ in range(3):
        assert decoder.feed(b"data: 1\ndata: 23\n\n") == [SseEvent("1\n23")]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: 1\ndata: 234\n\n"],
        [b"data: 1\n", b"data: 2", b"34"],
        [b"x" * 17],
        [b":" + b"x" * 16],
        [b"data\n" * 4],
    ],
)
def test_an_event_over_the_limit_is_an_error(chunks: list[bytes]) -> None:
    decoder = SseDecoder(16)

    def feed() -> None:
        for chunk in chunks:
            decoder.feed(chunk)

    with pytest.raises(RemoteProtocolError, match="more than 16 bytes"):
        feed()


def test_comments_between_events_are_not_counted() -> None:
    decoder = SseDecoder(16)
    for _ in range(100):
        assert decoder.feed(b": comment\n") == []
    assert decoder.feed(b"data: 1\n\n") == [SseEvent("1")]


def test_what_is_not_utf8_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError, match="UTF-8"):
        decode(b"data: \xff\n\n")


def test_events_are_written_field_by_field() -> None:
    assert encode_event("x") == b"data: x\n\n"
    assert encode_event("") == b"data: \n\n"
    assert encode_event("x", event="message") == b"event: message\ndata: x\n\n"
    assert (
        encode_event("ä", event="e", id="s-1", retry_ms=5)
        == "event: e\nid: s-1\nretry: 5\ndata: ä\n\n".encode()
    )


@pytest.mark.parametrize("data", ["a\nb", "a\rb", "a\r\nb"])
def test_line_breaks_in_data_become_data_lines(data: str) -> None:
    assert encode_event(data) == b"data: a\ndata: b\n\n"


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_line_breaks_in_an_id_or_type_are_our_bug(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_event("x", id=text)
    with pytest.raises(LocalProtocolError):
        encode_event("x", event=text)
