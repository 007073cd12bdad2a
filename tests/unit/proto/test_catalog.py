"""The merged catalogue and the way back from it."""

import json
from typing import Any

import pytest

from edge.errors import RpcError
from edge.proto.catalog import MAX_INSTRUCTIONS_BYTES, Item, Merged, ServerCatalog, Target, alone, merge
from edge.proto.naming import Prefix

KEY = b"0123456789abcdef"


def tool(name: str, **more: Any) -> Item:
    return Item(name, json.dumps({"name": name, "inputSchema": {"type": "object"}, **more}))


def prompt(name: str, **more: Any) -> Item:
    return Item(name, json.dumps({"name": name, **more}))


def resource(uri: str) -> Item:
    return Item(uri, json.dumps({"uri": uri, "name": "r"}))


def template(uri: str) -> Item:
    return Item(uri, json.dumps({"uriTemplate": uri, "name": "t"}))


def server(
    name: str,
    *,
    tools: list[Item] | None = None,
    prompts: list[Item] | None = None,
    resources: list[Item] | None = None,
    templates: list[Item] | None = None,
    capabilities: dict[str, Any] | None = None,
    instructions: str | None = None,
) -> ServerCatalog:
    return ServerCatalog(
        server=name,
        capabilities=capabilities or {},
        instructions=instructions,
        tools=tuple(tools or ()),
        prompts=tuple(prompts or ()),
        resources=tuple(resources or ()),
        templates=tuple(templates or ()),
    )


def merged(*catalogs: ServerCatalog, prefix: Prefix = "always", describe: bool = True) -> Merged:
    return merge(catalogs, cursor_key=KEY, prefix=prefix, description_prefix=describe)


def shown(catalog: Merged, kind: str = "tools") -> list[Any]:
    items: list[Any] = json.loads(catalog.page(kind, None, 1000))[kind]
    return items


def paged(catalog: Merged, kind: str, size: int) -> list[list[str]]:
    """The keys of each page, from the first to the last."""
    pages, cursor = [], None
    while True:
        page = json.loads(catalog.page(kind, cursor, size))
        pages.append([item.get("name") for item in page[kind]])
        cursor = page.get("nextCursor")
        if cursor is None:
            return pages


# -- tools and prompts


async def test_order_is_the_servers_names_then_each_servers_own_order() -> None:
    catalog = merged(server("b", tools=[tool("z"), tool("a")]), server("a-2", tools=[tool("x")]), server("B"))
    assert [item["name"] for item in shown(catalog)] == ["a-2__x", "b__z", "b__a"]
    assert catalog.keys("tools") == ["a-2__x", "b__z", "b__a"]
    assert catalog.count("tools") == 3
    assert catalog.problems == ()
    assert catalog.view is None


async def test_a_tool_is_forwarded_letter_for_letter_but_for_its_name_and_description() -> None:
    schema = '{"type":"object","y":12345678901234567890}'
    text = f'{{ "x":1.0, "name" :"t\\u0031","inputSchema":{schema}, "description":"D\\u0041" }}'
    plain = '{"name":"t2","inputSchema":{"type":"object"} }'
    catalog = merged(server("a", tools=[Item("t1", text), Item("t2", plain)]))
    assert catalog.page("tools/list", None, 10) == (
        '{"tools":['
        '{ "x":1.0, "name" :"a__t1","inputSchema":{"type":"object","y":12345678901234567890},'
        ' "description":"[a] D\\u0041" },'
        '{"name":"a__t2","inputSchema":{"type":"object"} ,"description":"Tool from a"}]}'
    )


async def test_the_title_and_prompts_are_not_marked_with_the_server() -> None:
    catalog = merged(server("a", tools=[tool("t", title="T")], prompts=[prompt("p", description="P")]))
    assert shown(catalog)[0]["title"] == "T"
    assert shown(catalog, "prompts") == [{"name": "a__p", "description": "P"}]


async def test_only_a_tool_whose_name_has_the_server_has_it_in_its_description() -> None:
    one = server("a", tools=[tool("x", description="X"), tool("y", description="Y")])
    two = server("b", tools=[tool("x", description="X")])
    told = {item["name"]: item["description"] for item in shown(merged(one, two, prefix="on-collision"))}
    assert told == {"a__x": "[a] X", "y": "Y", "b__x": "[b] X"}
    assert [item["description"] for item in shown(merged(one, prefix="never"))] == ["X", "Y"]
    assert [item["description"] for item in shown(merged(one, describe=False))] == ["X", "Y"]


async def test_a_published_name_leads_to_its_server_and_the_name_there() -> None:
    catalog = merged(
        server("a", tools=[tool("x"), tool("n" * 100)], prompts=[prompt("p q")]),
        server("b", tools=[tool("x")]),
    )
    names = catalog.keys("tools")
    assert [catalog.tool(name) for name in names] == [
        Target("a", "x"),
        Target("a", "n" * 100),
        Target("b", "x"),
    ]
    assert catalog.tool("x") is None
    assert catalog.prompt(catalog.keys("prompts")[0]) == Target("a", "p q")
    assert catalog.prompt("a__p q") is None


async def test_what_cannot_be_published_is_reported_with_its_kind() -> None:
    catalog = merged(
        server("a", tools=[tool("x")], prompts=[prompt("p"), prompt("p")]),
        server("b", tools=[tool("x")]),
        prefix="never",
    )
    assert catalog.tool("x") == Target("a", "x")
    assert catalog.problems == (
        "tool 'x' of b is hidden by the one of a",
        "prompt 'p' of a comes twice; the first one counts",
    )


# -- pages


async def test_pages_follow_each_other_without_gap_or_repetition() -> None:
    catalog = merged(server("a", tools=[tool(f"t{n}") for n in range(5)]), server("b", tools=[tool("t5")]))
    names = [f"a__t{n}" for n in range(5)] + ["b__t5"]
    for size in (1, 2, 3, 6, 7):
        pages = paged(catalog, "tools", size)
        assert [name for page in pages for name in page] == names
        assert all(len(page) == size for page in pages[:-1])
        assert pages[-1]
    assert paged(merged(), "tools", 5) == [[]]


async def cursor_after(catalog: Merged, size: int) -> str:
    cursor: str = json.loads(catalog.page("tools", None, size))["nextCursor"]
    return cursor


async def test_a_cursor_stays_right_when_items_come_and_go() -> None:
    before = merged(server("b", tools=[tool("1"), tool("2"), tool("3")]))
    cursor = await cursor_after(before, 2)

    def rest(*catalogs: ServerCatalog) -> list[str]:
        page = json.loads(merged(*catalogs).page("tools", cursor, 10))
        return [item["name"] for item in page["tools"]]

    assert rest(server("a", tools=[tool("0")]), server("b", tools=[tool("2"), tool("3")])) == ["b__3"]
    assert rest(server("b", tools=[tool("0"), tool("1"), tool("2"), tool("3")])) == ["b__3"]
    assert rest(server("b", tools=[tool("1"), tool("3"), tool("4")])) == ["b__3", "b__4"]
    assert rest(server("b", tools=[tool("1")]), server("c", tools=[tool("9")])) == ["c__9"]
    assert rest(server("a", tools=[tool("1")])) == []


async def test_a_cursor_of_another_list_or_view_is_refused() -> None:
    one = server("a", tools=[tool("1"), tool("2")], prompts=[prompt("1"), prompt("2")])
    cursor = await cursor_after(merged(one), 1)
    for catalog, kind, wrong in [
        (merged(one), "prompts", cursor),
        (alone(one, cursor_key=KEY), "tools", cursor),
        (merged(one), "tools", ""),
    ]:
        with pytest.raises(RpcError) as caught:
            catalog.page(kind, wrong, 1)
        assert caught.value.code == -32602


# -- resources


async def test_a_uri_that_several_servers_have_stays_with_the_first_and_is_renamed_for_the_others() -> None:
    catalog = merged(
        server("b", resources=[resource("file:///ä b")]), server("a", resources=[resource("file:///ä b")])
    )
    renamed = "mcp-edge://b/file%3A%2F%2F%2F%C3%A4%20b"
    assert [item["uri"] for item in shown(catalog, "resources")] == ["file:///ä b", renamed]
    assert catalog.resource("file:///ä b") == Target("a", "file:///ä b")
    assert catalog.resource(renamed) == Target("b", "file:///ä b")
    assert catalog.published_uri("a", "file:///ä b") == "file:///ä b"
    assert catalog.published_uri("b", "file:///ä b") == renamed
    assert catalog.problems == (
        f"resource 'file:///ä b' of b is published as {renamed!r}, because a has it too",
    )


async def test_a_template_that_several_servers_have_is_renamed_so_that_filling_it_in_leads_back() -> None:
    catalog = merged(
        server("a", templates=[template("db://{id}")]), server("b", templates=[template("db://{id}")])
    )
    assert [item["uriTemplate"] for item in shown(catalog, "resourceTemplates")] == [
        "db://{id}",
        "mcp-edge://b/=db://{id}",
    ]
    assert catalog.resource("db://x%20y") == Target("a", "db://x%20y")
    assert catalog.resource("mcp-edge://b/=db://x%20y") == Target("b", "db://x%20y")
    assert catalog.published_uri("a", "db://x%20y") == "db://x%20y"
    assert catalog.published_uri("b", "db://x%20y") == "mcp-edge://b/=db://x%20y"


async def test_a_uri_that_one_server_has_twice_counts_once() -> None:
    catalog = merged(
        server("a", resources=[resource("x:1"), resource("x:1")], templates=[template("x:{a}")] * 2)
    )
    assert [len(shown(catalog, kind)) for kind in ("resources", "resourceTemplates")] == [1, 1]
    assert catalog.problems == (
        "resource 'x:1' of a comes twice; the first one counts",
        "resource template 'x:{a}' of a comes twice; the first one counts",
    )


async def test_a_server_cannot_squat_on_the_renamed_uris_of_another() -> None:
    taken = "mcp-edge://b/x%3A1"
    catalog = merged(
        server("a", resources=[resource("x:1"), resource(taken)], templates=[template("mcp-edge://b/={+x}")]),
        server("b", resources=[resource("x:1")]),
    )
    assert catalog.keys("resources") == ["x:1", "mcp-edge://a/mcp-edge%3A%2F%2Fb%2Fx%253A1", taken]
    assert [catalog.resource(uri) for uri in catalog.keys("resources")] == [
        ("a", "x:1"),
        ("a", taken),
        ("b", "x:1"),
    ]
    assert catalog.keys("resourceTemplates") == ["mcp-edge://a/=mcp-edge://b/={+x}"]
    assert catalog.resource("mcp-edge://b/=y:1") == Target("b", "y:1")
    assert catalog.published_uri("a", "mcp-edge://nobody/y") == "mcp-edge://a/mcp-edge%3A%2F%2Fnobody%2Fy"
    assert catalog.problems[0].endswith("because mcp-edge:// is the gateway's own")


async def test_a_listed_resource_goes_before_templates_and_the_most_specific_template_before_others() -> None:
    catalog = merged(
        server("a", templates=[template("file:///{+path}")]),
        server("b", templates=[template("file:///docs/{name}"), template("file:///{+x}/z")]),
        server("c", resources=[resource("file:///docs/one")]),
        server("d", templates=[template("file:///{+all}")]),
    )
    assert catalog.resource("file:///docs/one") == Target("c", "file:///docs/one")
    assert catalog.resource("file:///docs/two") == Target("b", "file:///docs/two")
    assert catalog.resource("file:///other") == Target("a", "file:///other")
    assert catalog.resource("http://x") is None


async def test_a_uri_that_is_not_listed_is_published_so_that_it_leads_back_to_its_server() -> None:
    catalog = merged(server("a", templates=[template("file:///{+path}")]), server("b", tools=[tool("t")]))
    assert catalog.published_uri("a", "file:///x") == "file:///x"
    assert catalog.published_uri("b", "file:///x") == "mcp-edge://b/file%3A%2F%2F%2Fx"
    assert catalog.resource("mcp-edge://b/file%3A%2F%2F%2Fx") == Target("b", "file:///x")
    assert catalog.published_uri("b", "other:x") == "other:x"


@pytest.mark.parametrize("uri", ["mcp-edge://", "mcp-edge://b", "mcp-edge://b/", "mcp-edge://nobody/x%3A1"])
async def test_a_renamed_uri_of_nobody_leads_nowhere(uri: str) -> None:
    assert merged(server("b")).resource(uri) is None


async def test_a_template_that_is_none_is_listed_matches_nothing_and_is_reported() -> None:
    catalog = merged(server("a", templates=[template("x://{")]))
    assert len(shown(catalog, "resourceTemplates")) == 1
    assert catalog.resource("x://{") is None
    assert catalog.problems == (
        "resource template 'x://{' of a matches nothing: a brace without its partner",
    )


# -- completion


async def test_completion_goes_to_the_owner_of_the_prompt_template_or_resource() -> None:
    catalog = merged(
        server("a", prompts=[prompt("p")], templates=[template("x:{a}")]),
        server("b", templates=[template("x:{a}")], resources=[resource("y:1")]),
    )
    assert catalog.completion({"type": "ref/prompt", "name": "a__p"}) == (Target("a", "p"), {"name": '"p"'})
    by_uri = {
        uri: catalog.completion({"type": "ref/resource", "uri": uri})
        for uri in ("x:{a}", "mcp-edge://b/=x:{a}", "y:1", "x:5", "z:")
    }
    assert by_uri == {
        "x:{a}": (Target("a", "x:{a}"), {"uri": '"x:{a}"'}),
        "mcp-edge://b/=x:{a}": (Target("b", "x:{a}"), {"uri": '"x:{a}"'}),
        "y:1": (Target("b", "y:1"), {"uri": '"y:1"'}),
        "x:5": (Target("a", "x:5"), {"uri": '"x:5"'}),
        "z:": None,
    }
    assert catalog.completion({"type": "ref/prompt", "name": "p"}) is None


@pytest.mark.parametrize(
    "ref", [{}, {"type": "ref/tool", "name": "x"}, {"type": "ref/prompt"}, {"type": "ref/resource", "uri": 5}]
)
async def test_a_reference_that_is_none_is_invalid_params(ref: dict[str, Any]) -> None:
    with pytest.raises(RpcError) as caught:
        merged().completion(ref)
    assert caught.value.code == -32602


# -- one server alone


async def test_one_server_alone_has_its_items_as_they_are() -> None:
    one = server(
        "a",
        tools=[tool("n" * 100, description="D"), tool("read file")],
        prompts=[prompt("p")],
        resources=[resource("mcp-edge://a/x")],
        templates=[template("x:{a}")],
    )
    catalog = alone(one, cursor_key=KEY)
    assert catalog.view == "a"
    for kind, items in [
        ("tools", one.tools),
        ("prompts", one.prompts),
        ("resources", one.resources),
        ("resourceTemplates", one.templates),
    ]:
        assert catalog.page(kind, None, 9) == f'{{"{kind}":[{",".join(item.text for item in items)}]}}'
    assert catalog.tool("read file") == Target("a", "read file")
    assert catalog.prompt("p") == Target("a", "p")


async def test_one_server_alone_is_asked_for_any_uri() -> None:
    catalog = alone(server("a"), cursor_key=KEY)
    assert catalog.resource("mcp-edge://a/x") == Target("a", "mcp-edge://a/x")
    assert catalog.published_uri("a", "any:thing") == "any:thing"


async def test_one_server_alone_with_a_name_twice_shows_the_first() -> None:
    catalog = alone(
        server("a", tools=[tool("x", title="1"), tool("x", title="2"), tool("y")]), cursor_key=KEY
    )
    assert [item.get("title") for item in shown(catalog)] == ["1", None]
    assert catalog.problems == ("tool 'x' of a comes twice; the first one counts",)
    assert paged(catalog, "tools", 1) == [["x"], ["y"]]


# -- what changed


async def test_a_client_is_told_of_the_lists_that_changed_for_it() -> None:
    old = merged(server("a", tools=[tool("x")], resources=[resource("x:1")]))
    assert merged(server("a", tools=[tool("x")], resources=[resource("x:1")])).changed_since(old) == []
    assert merged(server("a", tools=[tool("x", title="T")], resources=[resource("x:1")])).changed_since(
        old
    ) == ["tools"]
    assert merged(
        server("a", prompts=[prompt("p")], resources=[resource("x:1")], templates=[template("x:{a}")])
    ).changed_since(old) == ["tools", "prompts", "resources"]


# -- initialize


async def test_capabilities_are_the_union_of_the_servers_and_every_list_can_change() -> None:
    catalog = merged(
        server("a", capabilities={"tools": {}, "logging": {}, "experimental": {"x": {}}, "tasks": {}}),
        server("b", capabilities={"resources": {"subscribe": True}, "completions": {}}),
        server("c", capabilities={"resources": {}, "prompts": {"listChanged": False}}),
    )
    assert json.loads(catalog.capabilities()) == {
        "tools": {"listChanged": True},
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
        "completions": {},
        "logging": {},
    }
    assert merged().capabilities() == "{}"


@pytest.mark.parametrize("resources", [{}, {"subscribe": False}, {"subscribe": 1}, True])
async def test_subscriptions_are_offered_only_if_a_server_says_so(resources: Any) -> None:
    catalog = merged(server("a", capabilities={"resources": resources}))
    assert json.loads(catalog.capabilities()) == {"resources": {"listChanged": True}}


async def test_lists_can_be_promised_for_servers_that_may_still_come_up() -> None:
    assert json.loads(merged().capabilities(expected=("tools",))) == {"tools": {"listChanged": True}}


async def test_instructions_are_put_under_their_servers_names() -> None:
    catalog = merged(
        server("b", instructions=" Be kind.\n"),
        server("a", instructions="Be quick."),
        server("c", instructions="  "),
        server("d"),
    )
    assert catalog.instructions() == "## a\n\nBe quick.\n\n## b\n\nBe kind."
    assert merged(server("d")).instructions() is None
    assert alone(server("a", instructions="Be quick.\n"), cursor_key=KEY).instructions() == "Be quick.\n"


async def test_long_instructions_are_cut_and_short_ones_kept() -> None:
    catalog = merged(
        server("a", instructions="€" * 20_000),
        server("b", instructions="short"),
        server("c", instructions="x" * 20_000),
    )
    text = catalog.instructions()
    assert text is not None
    assert MAX_INSTRUCTIONS_BYTES - 20 < len(text.encode()) <= MAX_INSTRUCTIONS_BYTES
    assert "## b\n\nshort\n\n## c" in text
    assert text.count("€ […]") == text.count("x […]") == 1


async def test_names_with_odd_characters_are_escaped_where_they_are_written_into_json() -> None:
    catalog = merged(server("ä", tools=[tool("x", description="D")]), prefix="always")
    assert shown(catalog)[0]["description"] == "[ä] D"
    assert catalog.published_uri("ä", "z:") == "z:"
