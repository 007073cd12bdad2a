"""What is read in results: links that tools hand out, and resources under a name of ours."""

import pytest

from edge.parts.results import MAX_LINKS, MAX_URI_CHARS, Links, with_published_uris
from edge.proto.jsontext import parse


def linking(*uris: object) -> object:
    return {"content": [{"type": "resource_link", "uri": uri} for uri in uris]}


def test_links_lead_to_the_server_that_handed_them_out_last() -> None:
    links = Links()
    links.learn("a", linking("x://1", "x://2"))
    links.learn("b", linking("x://2"))
    assert [links.server_of(f"x://{n}") for n in (1, 2, 3)] == ["a", "b", None]


@pytest.mark.parametrize(
    "result",
    [
        None,
        5,
        [],
        {},
        {"content": None},
        {"content": {"type": "resource_link", "uri": "x://1"}},
        {"content": ["x://1", None, {"type": "text", "uri": "x://1"}, {"uri": "x://1"}]},
        linking(None, 5, ["x://1"]),
    ],
)
def test_what_is_no_link_is_passed_over(result: object) -> None:
    links = Links()
    links.learn("a", result)
    assert len(links) == 0


def test_links_are_bounded_and_those_learnt_longest_ago_go_first() -> None:
    links = Links()
    links.learn("a", linking("x://old", "x://kept"))
    links.learn("a", linking(*(f"y://{number}" for number in range(MAX_LINKS - 2))))
    links.learn("a", linking("x://kept", "x://new"))
    assert len(links) == MAX_LINKS
    assert [links.server_of(f"x://{name}") for name in ("old", "kept", "new")] == [None, "a", "a"]


def test_a_link_that_is_very_long_is_not_remembered() -> None:
    links = Links()
    links.learn("a", linking("x" * MAX_URI_CHARS, "y" * (MAX_URI_CHARS + 1)))
    assert links.server_of("x" * MAX_URI_CHARS) == "a"
    assert len(links) == 1


def test_contents_are_called_as_the_client_knows_them_and_nothing_else_changes() -> None:
    text = '{"z":1.0, "contents" : [ {"text":"x","uri":"x:\\/\\/1","n":1e400}, {"uri":"x://2"}, 5 ],"a":-0}'
    assert with_published_uris(parse(text), "x://1", "our://1") == (
        '{"z":1.0, "contents" : [{"text":"x","uri":"our://1","n":1e400},{"uri":"x://2"},5],"a":-0}'
    )


@pytest.mark.parametrize("text", ["5", "[]", "{}", '{"contents":5}', '{"contents":[]}'])
def test_a_result_without_contents_is_as_it_was(text: str) -> None:
    assert with_published_uris(parse(text), "x://1", "our://1") == text
