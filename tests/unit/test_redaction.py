"""Secrets are taken out of texts, in whatever form they are written, and a text that is cut shows no part of one."""

import base64
import html
import random
import urllib.parse
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.printable import cut
from edge.redaction import GENERATIONS, MAX_SOURCES, MOST_CUTS, SHORTEST_SECRET, Redactor

TOKEN = "tok-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


def knowing(*secrets: str) -> Redactor:
    redactor = Redactor()
    redactor.redact(secrets)
    return redactor


@pytest.mark.parametrize("secret", ['p"ss\\wörd/42', "hunter2", "0123456789abcdef" * 2, "ÿ>?ÿ>?"])
def test_a_secret_is_removed_as_urls_html_and_base64_have_it(secret: str) -> None:
    redactor = Redactor()
    redactor.redact([secret])
    percent = urllib.parse.quote(secret, safe="")
    forms = [
        percent,
        percent.replace("%2F", "%2f").lower() if secret.islower() else percent,
        html.escape(secret),
    ]
    forms.append(urllib.parse.urlencode({"x": f"{secret} "})[2:-1])
    for user in ("", "a:", "ab:", "abc:", "admin:"):
        for after in ("", "x", "xy", "xyz"):
            raw = f"{user}{secret}{after}".encode()
            forms += [base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()]
    for form in forms:
        cleaned = redactor.clean(f"<{form}>")
        assert "***" in cleaned, form
        assert len(cleaned) < 25, (form, cleaned)


def test_a_form_in_lower_case_escapes_is_removed_too() -> None:
    redactor = Redactor()
    redactor.redact(["a/b=c d"])
    assert redactor.clean("x=a%2fb%3dc%20d a%2Fb%3Dc+d") == "x=*** ***"


def test_a_secret_that_is_escaped_where_it_stands_is_removed_as_it_is_used() -> None:
    redactor = Redactor()
    redactor.redact(["p%40ss%2Fword"])
    assert redactor.clean(f"p@ss/word {base64.b64encode(b'user:p@ss/word').decode()}").startswith(
        "*** dXNlcj"
    )
    assert "c3Mvd29y" not in redactor.clean(base64.b64encode(b"user:p@ss/word").decode())


def test_base64_of_a_very_short_secret_is_left_alone_for_too_much_looks_like_it() -> None:
    redactor = Redactor()
    redactor.redact(["abcd"])
    assert redactor.clean("YWJjZA") == "YWJjZA"


def test_a_secret_inside_another_leaves_no_rest() -> None:
    redactor = Redactor()
    redactor.redact(["abcd"])
    redactor.redact(["abcdefgh"])
    assert redactor.clean("x abcdefgh y abcd") == "x *** y ***"


def test_very_short_values_are_not_redacted_for_they_would_blur_everything() -> None:
    redactor = Redactor()
    redactor.redact(["", "abc", "\x00\x01"])
    assert redactor.clean("abc \x00\x01 abcd") == "abc \x00\x01 abcd"


@given(
    st.lists(st.text("abcXYZ019", min_size=4, max_size=40), min_size=1, max_size=6),
    st.lists(st.one_of(st.integers(0, 5), st.text("abcXYZ019 ", max_size=20)), max_size=8),
)
def test_every_secret_is_found_wherever_it_stands(secrets: list[str], words: list[str | int]) -> None:
    text = "".join(word if isinstance(word, str) else secrets[word % len(secrets)] for word in words)
    cleaned = knowing(*secrets).clean(text)
    assert not any(secret in cleaned for secret in secrets)
    if not any(secret in text for secret in secrets):
        assert cleaned == text


def test_what_is_told_again_and_again_is_hidden_as_long_as_it_is_among_the_last() -> None:
    redactor = Redactor()
    tokens = [f"rotated-token-{n}-of-many" for n in range(GENERATIONS + 5)]
    for token in tokens:
        redactor.redact([token], source="uplink hq")
    cleaned = [redactor.clean(token) for token in tokens]
    assert cleaned == [*tokens[:5], *["***"] * GENERATIONS]


def test_one_source_does_not_make_another_ones_secret_forgotten() -> None:
    redactor = knowing(TOKEN)
    for n in range(2 * GENERATIONS):
        redactor.redact([f"rotated-token-{n}"], source="uplink hq")
    assert redactor.clean(TOKEN) == "***"


def test_a_secret_that_two_sources_have_is_hidden_until_both_have_let_it_go() -> None:
    redactor = knowing(TOKEN)
    redactor.redact([TOKEN], source="uplink hq")
    for n in range(GENERATIONS):
        redactor.redact([f"rotated-token-{n}"], source="uplink hq")
    assert redactor.clean(TOKEN) == "***"
    for n in range(GENERATIONS):
        redactor.redact([f"another-token-{n}"])
    assert redactor.clean(TOKEN) == TOKEN


def test_what_a_source_has_again_is_the_newest_again() -> None:
    redactor = Redactor()
    for n in range(3 * GENERATIONS):
        redactor.redact([f"refused-by-reload-{n}"])
        redactor.redact([TOKEN])
    assert redactor.clean(TOKEN) == "***"


def test_of_very_many_sources_the_one_that_was_told_last_longest_ago_is_forgotten() -> None:
    redactor = Redactor()
    for n in range(MAX_SOURCES + 1):
        redactor.redact([f"token-of-source-{n}."], source=str(n))
        redactor.redact([TOKEN], source="0")
    assert redactor.clean("token-of-source-1.") == "token-of-source-1."
    assert redactor.clean(f"token-of-source-{MAX_SOURCES}. {TOKEN}") == "*** ***"


def test_secrets_that_overlap_are_hidden_both() -> None:
    assert knowing("abcdefgh", "efghijkl").clean("x abcdefghijkl y") == "x *** y"


def test_of_a_secret_with_several_lines_each_is_hidden_by_itself() -> None:
    lines = [
        "-----BEGIN PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
        "{",
        "-----END PRIVATE KEY-----",
    ]
    redactor = knowing("\n".join(lines))
    assert [redactor.clean(line) for line in lines] == ["***", "***", "{", "***"]


@pytest.mark.parametrize("before", range(60))
def test_an_excerpt_has_no_part_of_a_secret_wherever_it_is_cut(before: int) -> None:
    excerpt = knowing(TOKEN).excerpt("x" * before + TOKEN + " and more" * 9, 50)
    assert "tok" not in excerpt
    assert excerpt[:50] == ("x" * before + "***" + " and more" * 9)[:50]
    assert excerpt.endswith("…")


def test_an_excerpt_of_a_short_text_is_the_text() -> None:
    assert knowing(TOKEN).excerpt("short", 5) == "short"


def test_an_excerpt_of_nothing_but_secrets_has_no_part_of_one() -> None:
    assert set(knowing(TOKEN).excerpt(TOKEN * 10_000, 500)) == {"*", "…"}


@pytest.mark.parametrize("at", range(SHORTEST_SECRET, len(TOKEN)))
@pytest.mark.parametrize("form", [TOKEN, base64.b64encode(f"user:{TOKEN}".encode()).decode()[7:]])
def test_a_secret_that_was_cut_before_is_known_by_the_sign_for_it(form: str, at: int) -> None:
    redactor = knowing(TOKEN, "another-token-that-has-the-same", TOKEN[:8] + "x" * 20)
    assert redactor.clean(f"it said: {cut(form, at)} and more") == "it said: ***… and more"
    assert redactor.clean(repr(cut(f"it {form}", at + 3))) == "'it ***…'"


def test_of_a_secret_that_was_cut_the_longest_piece_is_hidden() -> None:
    assert knowing("abababab-z").clean("x abababab… ababz…") == "x ***… ababz…"


def test_what_only_begins_like_a_secret_and_was_not_cut_is_left_alone() -> None:
    redactor = knowing(TOKEN)
    for text in ("tok-AbCdEf", "tok-AbCdEf.", "tok-AbCx…", "tok-AbCd …", "tok…", "…tok-AbCd", "…", "x…"):
        assert redactor.clean(text) == text
    assert Redactor().clean("tok-AbCd…") == "tok-AbCd…"


def test_a_cut_secret_is_hidden_from_when_it_is_told_until_it_is_forgotten() -> None:
    redactor = Redactor()
    assert redactor.clean("tok-AbCd…") == "tok-AbCd…"
    redactor.redact([TOKEN])
    assert redactor.clean("tok-AbCd…") == "***…"
    for n in range(GENERATIONS):
        redactor.redact([f"another-{n}"])
    assert redactor.clean("tok-AbCd… another-…") == "tok-AbCd… ***…"


def test_of_very_many_cuts_the_last_ones_are_looked_at() -> None:
    assert knowing(TOKEN).clean("tok-A… " + "…" * MOST_CUTS + "tok-B…").endswith("…tok-B…")
    assert knowing(TOKEN).clean("…" * 100_000 + "tok-AbC…").endswith("…***…")


pieces = st.text("abcXYZ019%=ä\\\"' ", max_size=12)


@given(
    st.lists(st.text("abcXYZ019%ä\\\"'", min_size=5, max_size=40), min_size=1, max_size=5),
    st.lists(st.tuples(pieces, st.integers(0, 4)), max_size=4),
    st.integers(0, 120),
)
def test_no_cut_shows_more_than_three_letters_of_a_secret_at_its_end(
    secrets: list[str], words: list[tuple[str, int]], at: int
) -> None:
    text = "".join(f"{word}{secrets[which % len(secrets)]}" for word, which in words)
    cleaned = knowing(*secrets).clean(cut(text, at))
    assert not any(secret in cleaned for secret in secrets)
    assert not any(cleaned.endswith(f"{secret[:n]}…") for secret in secrets for n in range(4, len(secret)))


@given(st.integers(0, 2**32), st.integers(1, 90))
def test_a_text_that_is_shown_in_pieces_shows_no_part_of_a_secret(seed: int, step: int) -> None:
    rng = random.Random(seed)
    redactor = knowing(TOKEN, "sh0rt")
    text = "".join(rng.choice((TOKEN, "sh0rt", "-", "--------", "=" * 30)) for _ in range(40))
    shown, rest = "", ""
    for begin, end in pairwise((*range(0, len(text), step), len(text))):
        rest += text[begin:end]
        if len(rest) > 20 + redactor.longest:
            cut = redactor.boundary(rest, len(rest) - redactor.longest)
            shown += redactor.clean(rest[:cut])
            rest = rest[cut:]
    shown += redactor.clean(rest)
    assert set(shown) <= set("*-=")


def test_longest_is_that_of_the_longest_form_of_what_is_hidden() -> None:
    redactor = Redactor()
    assert redactor.longest == 0
    redactor.redact([TOKEN])
    assert len(TOKEN) < redactor.longest <= len(base64.b64encode(TOKEN.encode()))
