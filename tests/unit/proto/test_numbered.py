"""Numbered frames: what they look like, what is refused, and going on over a new carrier."""

import pytest

from edge.proto.numbered import (
    ACK_BYTES,
    ACK_MESSAGES,
    BadFrame,
    LinkAnswer,
    LinkOffer,
    Numbered,
    batch_limit,
    parse_answer,
    parse_offer,
    size_of,
)

ID = "0123456789abcdef0123456789abcdef"


def end(*, max_unacked: int = 100, max_unacked_bytes: int = 10_000) -> Numbered:
    return Numbered(max_unacked=max_unacked, max_unacked_bytes=max_unacked_bytes)


@pytest.mark.parametrize(
    ("offer", "text"), [(LinkOffer(), "v=1"), (LinkOffer(ID, 17), f"v=1; link={ID}; received=17")]
)
def test_an_offer_is_read_as_it_was_written(offer: LinkOffer, text: str) -> None:
    assert offer.encode() == text
    assert parse_offer(text) == offer


def test_an_answer_is_read_as_it_was_written() -> None:
    answer = LinkAnswer(ID, 3)
    assert answer.encode() == f"v=1; link={ID}; received=3"
    assert parse_answer(answer.encode()) == answer


def test_what_a_later_version_might_add_does_no_harm() -> None:
    assert parse_offer("v=1;more=yes") == LinkOffer()
    assert parse_answer(f"received=2;link={ID};v=1;grace=60") == LinkAnswer(ID, 2)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "v=2",
        f"link={ID}; received=1",
        f"v=1; link={ID}",
        "v=1; received=1",
        f"v=1; link={ID}; received=-1",
        f"v=1; link={ID}; received=01",
        f"v=1; link={ID}; received={10**15}",
        f"v=1; link={ID}; received=1; received=1",
        "v=1; link=short; received=1",
        f"v=1; link={ID}é; received=1",
        "v=1; ",
        "v=1" + " " * 200,
    ],
)
def test_anything_else_is_neither_an_offer_nor_an_answer(text: str | None) -> None:
    assert parse_offer(text) is None
    assert parse_answer(text) is None


def test_a_new_link_cannot_be_answered_without_an_id() -> None:
    assert parse_answer("v=1") is None


def test_the_id_of_a_link_is_not_shown() -> None:
    assert ID not in repr(LinkOffer(ID, 1))
    assert ID not in repr(LinkAnswer(ID, 1))


def test_a_frame_is_number_acknowledgement_and_message() -> None:
    a, b = end(), end()
    assert a.send('{"x": 1}') == '1 0 {"x": 1}'
    assert a.send('{"y": " "}') == '2 0 {"y": " "}'
    assert b.receive('1 0 {"x": 1}') == '{"x": 1}'
    assert b.receive('2 0 {"y": " "}') == '{"y": " "}'
    assert b.send("{}") == "1 2 {}"
    assert (b.received, b.sent, b.acknowledged) == (2, 1, 0)


def test_what_was_sent_is_kept_until_it_is_acknowledged() -> None:
    a, b = end(), end()
    frames = [a.send("abc"), a.send("€")]
    assert (a.unacked_count, a.unacked_bytes) == (2, 6)
    b.receive(frames[0])
    assert b.ack() == "0 1"
    assert a.receive("0 1") is None
    assert (a.unacked_count, a.unacked_bytes, a.acknowledged) == (1, 3, 1)
    b.receive(frames[1])
    a.receive(b.send("{}"))
    assert (a.unacked_count, a.unacked_bytes) == (0, 0)


def test_a_frame_that_comes_again_gives_nothing_and_still_acknowledges() -> None:
    a = end()
    assert a.receive("1 0 {}") == "{}"
    a.send("x")
    assert a.receive("1 1 {}") is None
    assert a.unacked_count == 0


def test_an_old_acknowledgement_says_nothing() -> None:
    a = end()
    a.send("x")
    a.send("y")
    a.receive("0 2")
    a.receive("0 1")
    assert a.acknowledged == 2


@pytest.mark.parametrize(
    "frame",
    [
        "", "{}", "1", "1 ", "1 0", "1 0 ", "0 0 ", "0 0 {}", "0  0", " 0 0", "1 0\t{}", "01 0 {}", "1 00 {}",
        "-1 0 {}", "1 -1 {}", "1.0 0 {}", "x 0 {}", "\N{SUPERSCRIPT ONE} 0 {}", "\N{ARABIC-INDIC DIGIT ONE} 0 {}",
        f"{10**15} 0 {{}}", "0 0\n", "0 0x",
    ],
)  # fmt: skip
def test_garbage_is_refused_and_changes_nothing(frame: str) -> None:
    a = end()
    with pytest.raises(BadFrame):
        a.receive(frame)
    assert (a.received, a.unsaid_count) == (0, 0)
    assert a.receive("1 0 {}") == "{}"


def test_a_gap_is_refused() -> None:
    a = end()
    a.receive("1 0 {}")
    with pytest.raises(BadFrame, match="message 3 came after 1"):
        a.receive("3 0 {}")
    assert a.received == 1


def test_an_acknowledgement_of_what_was_never_sent_is_refused() -> None:
    a = end()
    a.send("x")
    with pytest.raises(BadFrame, match="2 was acknowledged but only 1 were sent"):
        a.receive("1 2 {}")
    assert (a.received, a.unacked_count) == (0, 1)


def test_a_message_may_hold_anything_but_is_not_looked_into() -> None:
    a, b = end(), end()
    for text in ("1 0 {}", " x ", "ü\n", "\N{LINE SEPARATOR}"):
        assert b.receive(a.send(text)) == text


def test_it_is_full_by_count_until_acknowledged() -> None:
    a = end(max_unacked=2)
    seen = []
    for text in ("x", "x", "x"):
        a.send(text)
        seen.append(a.is_full)
    a.receive("0 2")
    assert [*seen, a.is_full] == [False, True, True, False]


def test_it_is_full_by_bytes_until_acknowledged() -> None:
    a = end(max_unacked_bytes=10)
    seen = []
    for text in ("x" * 9, "x", "x"):
        a.send(text)
        seen.append(a.is_full)
    a.receive("0 2")
    assert [*seen, a.is_full] == [False, True, True, False]


def test_after_many_messages_an_acknowledgement_is_owed() -> None:
    a, b = end(), end()
    owed = []
    for _ in range(ACK_MESSAGES):
        b.receive(a.send("x"))
        owed.append(b.owes_ack)
    b.ack()
    assert [*owed, b.owes_ack] == [False] * (ACK_MESSAGES - 1) + [True, False]


def test_after_many_bytes_an_acknowledgement_is_owed_and_any_message_pays() -> None:
    a, b = end(), end()
    owed = []
    for text in ("x" * (ACK_BYTES - 1), "x"):
        b.receive(a.send(text))
        owed.append(b.owes_ack)
    b.send("{}")
    assert [*owed, b.owes_ack] == [False, True, False]
    assert (b.unsaid_count, b.unsaid_bytes) == (0, 0)


def test_acknowledgements_alone_are_never_acknowledged() -> None:
    a, b = end(), end()
    for _ in range(2 * ACK_MESSAGES):
        a.receive(b.ack())
    assert (a.owes_ack, a.unsaid_count) == (False, 0)


def test_a_new_carrier_gets_what_the_other_end_lacks_with_fresh_acknowledgements() -> None:
    a = end()
    for text in ("one", "two", "three"):
        a.send(text)
    a.receive("1 1 {}")
    a.receive("2 1 {}")
    assert a.resume(2) == ["3 2 three"]
    assert (a.unacked_count, a.acknowledged, a.unsaid_count) == (1, 2, 0)
    assert a.resume(2) == ["3 2 three"]
    assert a.resume(3) == []
    assert a.send("four") == "4 2 four"


def test_a_link_that_carried_nothing_resumes_with_nothing() -> None:
    assert end().resume(0) == []


@pytest.mark.parametrize("received", [0, 3])
def test_no_resumption_where_the_other_end_forgot_or_dreams(received: int) -> None:
    a = end()
    a.send("one")
    a.send("two")
    a.receive("0 1")
    assert not a.can_resume(received)
    with pytest.raises(BadFrame, match=f"has {received} of 1 to 2"):
        a.resume(received)
    assert a.resume(1) == ["2 0 two"]


def test_sizes_are_those_on_the_wire() -> None:
    assert [size_of(text) for text in ("", "abc", "é", "€", "\N{GRINNING FACE}")] == [0, 3, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "limit"), [("max=1024", 1024), ("max=0", None), ("max=x", None), ("max=01", None), ("", None)]
)
def test_either_end_may_say_how_long_a_message_may_be(value: str, limit: int | None) -> None:
    link = "a" * 32
    more = f"; {value}" if value else ""
    assert parse_offer(f"v=1{more}") == LinkOffer(max_bytes=limit)
    assert parse_offer(f"v=1; link={link}; received=3{more}") == LinkOffer(link, 3, limit)
    assert parse_answer(f"v=1; link={link}; received=3{more}") == LinkAnswer(link, 3, limit)


def test_a_limit_survives_being_sent() -> None:
    for offer in (LinkOffer(max_bytes=7), LinkOffer("b" * 32, 9, 7)):
        assert parse_offer(offer.encode()) == offer
    assert parse_answer(LinkAnswer("b" * 32, 9, 7).encode()) == LinkAnswer("b" * 32, 9, 7)


def test_frames_that_share_a_body_fit_into_what_a_message_may_be_there() -> None:
    assert batch_limit(1000, None) == 1000
    assert batch_limit(1000, LinkAnswer(ID, 0)) == 1000
    assert batch_limit(1000, LinkAnswer(ID, 0, 4000)) == 1000
    assert batch_limit(1000, LinkAnswer(ID, 0, 2000)) == 500  # letters may have four bytes
