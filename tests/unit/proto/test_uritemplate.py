"""Which URIs a template may have made."""

import pytest

from edge.proto.uritemplate import MAX_PARTS, MAX_URI_CHARS, UriTemplate


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("test://static", "test://static"),
        ("users://{id}", "users://7"),
        ("users://{id}/profile", "users://a%20b/profile"),
        ("x://{a,b}", "x://1,2"),
        ("x://{a:3}", "x://abc"),
        ("x://{a*}", "x://1,2"),
        ("file:///{+path}", "file:///a/b/c.txt"),
        ("file:///{+path}/meta", "file:///a/meta/b/meta"),
        ("x://{+a}/{b}", "x://p/q/r"),
        ("x://doc{#part}", "x://doc#one/two"),
        ("x://doc{#part}", "x://doc"),
        ("x://doc{.ext}", "x://doc.tar.gz"),
        ("x://doc{.ext}", "x://doc"),
        ("x://h{/a,b}", "x://h/1/2"),
        ("x://h{/a*}/end", "x://h/1/2/end"),
        ("x://h{/a}", "x://h"),
        ("x://h{;a,b}", "x://h;a=1;b"),
        ("x://h{?q,limit}", "x://h?q=a&limit=3"),
        ("x://h{?q}", "x://h"),
        ("x://h?fixed=1{&q}", "x://h?fixed=1&q=a"),
        ("x://{a}{b}", "x://12"),
        ("{+all}", "anything://at/all"),
    ],
)
async def test_a_template_matches_what_it_expands_to(template: str, uri: str) -> None:
    assert UriTemplate(template).matches(uri)


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("test://static", "test://static/"),
        ("users://{id}", "users://"),
        ("users://{id}", "users://7/profile"),
        ("users://{id}/profile", "users://7/other"),
        ("users://{id}/profile", "users:///profile"),
        ("file:///{+path}", "file:///"),
        ("x://doc{#part}", "x://doc/one"),
        ("x://doc{.ext}", "x://document"),
        ("x://h{/a}", "x://h/1?q=2"),
        ("x://h{;a}", "x://h;a/b"),
        ("x://h{?q}", "x://h?q#f"),
        ("x://h{?q}", "x://h&q=1"),
        ("x://{a}{b}", "x://1"),
        ("", "x"),
    ],
)
async def test_a_template_does_not_match_what_it_cannot_make(template: str, uri: str) -> None:
    assert not UriTemplate(template).matches(uri)


async def test_the_fixed_part_of_a_template_is_its_weight() -> None:
    assert UriTemplate("file:///{+path}").literal_chars == 8
    assert UriTemplate("file:///{+path}/x").literal_chars == 10


@pytest.mark.parametrize(
    "text",
    ["x://{", "x://}", "x://{a", "x://a}b", "x://{{a}}", "x://{}", "x://{a b}", "x://{!a}", "x://{a,}"],
)
async def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"brace|expression"):
        UriTemplate(text)


async def test_parts_are_bounded() -> None:
    UriTemplate("{a}" * MAX_PARTS)
    with pytest.raises(ValueError, match=f"more than {MAX_PARTS} parts"):
        UriTemplate("{a}" * (MAX_PARTS + 1))


async def test_a_uri_that_is_too_long_matches_nothing() -> None:
    template = UriTemplate("{+a}")
    assert template.matches("x" * MAX_URI_CHARS)
    assert not template.matches("x" * (MAX_URI_CHARS + 1))


async def test_a_hostile_template_takes_steps_in_proportion_to_its_parts_and_the_uri() -> None:
    # A backtracking matcher would need about 4000**30 steps: this test would not end.
    assert not UriTemplate("{+a}x" * 30 + "!").matches("x" * 4000)
