"""Pages of a server's lists: what is kept, what is dropped and why."""

import json
from typing import Any

import pytest

from edge.errors import RemoteProtocolError
from edge.proto.jsontext import parse
from edge.proto.listing import KINDS, MAX_PAGE_ITEMS, Item, Kind, Page, ServerCatalog, read_page

TOOL = '{"name":"add","inputSchema":{"type":"object"}}'
GOOD: dict[Kind, dict[str, Any]] = {
    Kind.TOOLS: {
        "name": "add",
        "title": "Add",
        "description": "Adds.",
        "inputSchema": {"type": "object", "properties": {"a": {}}, "required": ["a"], "anyOf": [True]},
        "outputSchema": {"type": "object"},
        "annotations": {"title": "x", "readOnlyHint": True, "other": 5},
        "execution": {"taskSupport": "optional"},
        "icons": [{"src": "data:,", "mimeType": "image/png", "sizes": ["any"], "theme": "dark"}],
        "_meta": {"x": None},
        "unknown": None,
    },
    Kind.PROMPTS: {
        "name": "p",
        "arguments": [{"name": "a", "title": "A", "description": "d", "required": True}],
    },
    Kind.RESOURCES: {
        "uri": "file:///a",
        "name": "",
        "mimeType": "text/plain",
        "size": 5,
        "annotations": {
            "audience": ["user", "assistant"],
            "priority": 0.5,
            "lastModified": "2025-01-12T15:00:58Z",
        },
    },
    Kind.TEMPLATES: {
        "uriTemplate": "file:///{+path}",
        "name": "t",
        "mimeType": "text/plain",
        "annotations": {},
    },
}


def page_of(kind: str, *items: str, more: str = "") -> Page:
    return read_page(kind, parse(f'{{"{kind}":[{",".join(items)}]{more}}}'))


def test_the_four_lists_know_their_words() -> None:
    assert [(k.value, k.list_method, k.item_key, k.noun, k.capability) for k in KINDS] == [
        ("tools", "tools/list", "name", "tool", "tools"),
        ("prompts", "prompts/list", "name", "prompt", "prompts"),
        ("resources", "resources/list", "uri", "resource", "resources"),
        ("resourceTemplates", "resources/templates/list", "uriTemplate", "resource template", "resources"),
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_good_item_is_kept_letter_for_letter(kind: Kind) -> None:
    text = json.dumps(GOOD[kind], indent=3)
    assert page_of(kind, text, text) == Page([Item(GOOD[kind][kind.item_key], text)] * 2, [], None)


async def test_equal_items_of_several_servers_are_one_object_for_as_long_as_one_has_them() -> None:
    text = json.dumps({"name": "shared-by-many", "inputSchema": {"type": "object"}})
    one, other = page_of(Kind.TOOLS, text).items, page_of(Kind.TOOLS, text).items
    assert one[0] is other[0]


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("tools", {"inputSchema": ...}, "tool 'add': inputSchema is missing"),
        ("tools", {"inputSchema": None}, "tool 'add': inputSchema must be an object"),
        ("tools", {"inputSchema": {}}, "tool 'add': inputSchema type is missing"),
        ("tools", {"inputSchema": {"type": "array"}}, "tool 'add': inputSchema type must be one of object"),
        (
            "tools",
            {"inputSchema": {"type": ["object"]}},
            "tool 'add': inputSchema type must be one of object",
        ),
        (
            "tools",
            {"inputSchema": {"type": "object", "properties": {"a": True}}},
            "tool 'add': inputSchema properties 'a' must be an object",
        ),
        (
            "tools",
            {"inputSchema": {"type": "object", "properties": []}},
            "tool 'add': inputSchema properties must be an object",
        ),
        (
            "tools",
            {"inputSchema": {"type": "object", "required": ["a", 1]}},
            "tool 'add': inputSchema required [1] must be a string",
        ),
        (
            "tools",
            {"inputSchema": {"type": "object", "required": "a"}},
            "tool 'add': inputSchema required must be an array",
        ),
        (
            "tools",
            {"outputSchema": {"type": "string"}},
            "tool 'add': outputSchema type must be one of object",
        ),
        ("tools", {"description": 5}, "tool 'add': description must be a string"),
        (
            "tools",
            {"annotations": {"readOnlyHint": 1}},
            "tool 'add': annotations readOnlyHint must be a boolean",
        ),
        ("tools", {"icons": [{}]}, "tool 'add': icons [0] src is missing"),
        ("tools", {"_meta": []}, "tool 'add': _meta must be an object"),
        ("tools", {"name": ...}, "tool number 1: name is missing"),
        ("tools", {"name": ""}, "tool number 1: name must not be empty"),
        ("tools", {"name": 5}, "tool number 1: name must be a string"),
        ("tools", {"name": "\ud800"}, "tool '\\ud800': name is not valid Unicode"),
        ("tools", {"name": "n" * 100, "title": 5}, f"tool '{'n' * 80}…': title must be a string"),
        ("prompts", {"name": ...}, "prompt number 1: name is missing"),
        ("prompts", {"arguments": [{}]}, "prompt 'p': arguments [0] name is missing"),
        ("resources", {"uri": ...}, "resource number 1: uri is missing"),
        ("resources", {"name": ...}, "resource 'file:///a': name is missing"),
        ("resources", {"size": "5"}, "resource 'file:///a': size must be a number"),
        (
            "resources",
            {"annotations": {"audience": ["me"]}},
            "resource 'file:///a': annotations audience [0] must be one of user, assistant",
        ),
        ("resourceTemplates", {"uriTemplate": ...}, "resource template number 1: uriTemplate is missing"),
        ("resourceTemplates", {"name": 1}, "resource template 'file:///{+path}': name must be a string"),
    ],
)
async def test_a_bad_item_costs_itself_and_is_named_with_the_reason(
    kind: str, change: dict[str, Any], reason: str
) -> None:
    good = GOOD[Kind(kind)]
    bad = {key: value for key, value in {**good, **change}.items() if value is not ...}
    page = page_of(kind, json.dumps(good), json.dumps(bad), json.dumps(good))
    assert page.problems == [reason]
    assert [item.text for item in page.items] == [json.dumps(good)] * 2


@pytest.mark.parametrize("item", ["5", "null", '"add"', "[]"])
async def test_what_is_no_object_is_no_item(item: str) -> None:
    assert page_of("tools", item).problems == ["tool number 0: must be an object"]


@pytest.mark.parametrize("extra", ['"name":"other"', '"description":null,"description":null'])
async def test_an_item_in_which_a_member_comes_twice_is_dropped(extra: str) -> None:
    page = page_of("tools", f"{TOOL[:-1]},{extra}}}")
    assert page.items == []
    assert len(page.problems) == 1
    assert page.problems[0].endswith("comes twice")


async def test_an_optional_member_that_is_null_is_left_out_and_the_rest_stays() -> None:
    page = page_of(
        "tools",
        '{"description": null, "name":"a" ,"outputSchema":null,"x":null,"inputSchema":{"type":"object"}}',
    )
    assert page.problems == []
    assert [item.text for item in page.items] == ['{ "name":"a","x":null,"inputSchema":{"type":"object"}}']


@pytest.mark.parametrize("result", ["[]", "{}", '{"tools":null}', '{"tools":{}}', '{"prompts":[]}'])
async def test_an_answer_without_the_list_is_a_protocol_error(result: str) -> None:
    with pytest.raises(RemoteProtocolError, match="the answer to tools/list has no array 'tools'"):
        read_page("tools", parse(result))


@pytest.mark.parametrize(
    ("more", "cursor"),
    [
        ("", None),
        (',"nextCursor":null', None),
        (',"nextCursor":""', '""'),
        (',"nextCursor": "\\u0061" ', '"\\u0061"'),
    ],
)
async def test_the_next_cursor_is_kept_as_it_was_written(more: str, cursor: str | None) -> None:
    assert page_of("tools", TOOL, more=more) == Page([Item("add", TOOL)], [], cursor)


async def test_a_cursor_that_is_no_string_ends_the_list_and_is_reported() -> None:
    page = page_of("tools", TOOL, more=',"nextCursor":5')
    assert page.next_cursor is None
    assert page.problems == ["tools/list: nextCursor must be a string; taken as the end of the list"]


async def test_an_empty_list_is_a_list() -> None:
    assert page_of("prompts") == Page([], [], None)


async def test_a_catalogue_gives_its_items_by_kind() -> None:
    items = {kind: (Item("k", '{"name":"k"}'),) * n for n, kind in enumerate(KINDS)}
    catalog = ServerCatalog(
        server="s",
        tools=items[Kind.TOOLS],
        prompts=items[Kind.PROMPTS],
        resources=items[Kind.RESOURCES],
        templates=items[Kind.TEMPLATES],
    )
    assert {kind: catalog.items(kind) for kind in KINDS} == items


def test_of_a_page_without_measure_the_first_ten_thousand_items_count() -> None:
    prompts = ",".join(f'{{"name":"p{number}"}}' for number in range(MAX_PAGE_ITEMS + 2))
    page = read_page("prompts", parse(f'{{"prompts":[{prompts}],"nextCursor":"more"}}'))
    assert len(page.items) == MAX_PAGE_ITEMS
    assert page.problems == ["prompts/list: 10002 items in one page; those after 10000 are left out"]
    assert page.next_cursor == '"more"'
