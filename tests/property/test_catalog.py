"""Merging: whatever servers offer, names are different, within limits, and lead back."""

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge.proto.catalog import KINDS, Item, Kind, Merged, ServerCatalog, Target, merge, read_page
from edge.proto.jsontext import parse
from edge.proto.naming import Naming, Prefix, assign

KEY = b"0123456789abcdef"
servers = st.sampled_from(["a", "a__b", "a-b", "z.9", "b" * 40])
names = st.sampled_from(["x", "b__x", "a__x", "y", "n" * 70, "o" * 70, "read file", "read_file"]) | st.text(
    min_size=1
)
prefixes = st.sampled_from(["always", "on-collision", "never"])
uris = st.sampled_from(["file:///a", "x:1", "x:2", "mcp-edge://a/x%3A1", "mcp-edge://a-b/=x:1"])
templates = st.sampled_from(["file:///{+p}", "x:{a}", "x:{b}", "{+all}", "broken{"])


def tool(name: str) -> Item:
    return Item(name, json.dumps({"name": name, "inputSchema": {"type": "object"}}))


def catalog_of(server: str, tools: list[str], resources: list[str], patterns: list[str]) -> ServerCatalog:
    return ServerCatalog(
        server=server,
        tools=tuple(tool(name) for name in tools if _is_unicode(name)),
        resources=tuple(Item(uri, json.dumps({"name": "r", "uri": uri})) for uri in resources),
        templates=tuple(Item(text, json.dumps({"name": "t", "uriTemplate": text})) for text in patterns),
    )


def _is_unicode(text: str) -> bool:
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in text)


catalogs = st.lists(
    st.builds(catalog_of, servers, st.lists(names), st.lists(uris), st.lists(templates)),
    unique_by=lambda catalog: catalog.server,
)


def everything(catalog: Merged, kind: Kind, size: int) -> list[Any]:
    items: list[Any] = []
    cursor: str | None = None
    while True:
        page = json.loads(catalog.page(kind, cursor, size))
        items += page[kind.value]
        cursor = page.get("nextCursor")
        if cursor is None:
            return items


@given(st.lists(st.tuples(servers, names)), prefixes, st.integers(16, 80))
def test_names_are_different_within_limits_and_only_duplicates_and_hidden_ones_get_none(
    pairs: list[tuple[str, str]], prefix: Prefix, limit: int
) -> None:
    given_names, _ = assign(pairs, Naming(prefix=prefix, max_name_chars=limit))
    published = [named.name for named in given_names if named]
    assert len(set(published)) == len(published)
    assert all(re.fullmatch(f"[A-Za-z0-9_.-]{{1,{limit}}}", name) for name in published)
    reached = {(named.server, named.original) for named in given_names if named}
    if prefix == "never":
        assert {name for _, name in reached} == {name for _, name in pairs}
    else:
        assert reached == set(pairs)


@given(catalogs, prefixes)
def test_the_order_in_which_servers_come_does_not_matter(some: list[ServerCatalog], prefix: Prefix) -> None:
    one, two = (merge(order, cursor_key=KEY, prefix=prefix) for order in (some, some[::-1]))
    assert one.changed_since(two) == []
    assert one.problems == two.problems


@given(catalogs, prefixes, st.integers(1, 7))
def test_everything_that_is_listed_is_listed_once_and_leads_to_who_has_it(
    some: list[ServerCatalog], prefix: Prefix, size: int
) -> None:
    catalog = merge(some, cursor_key=KEY, prefix=prefix)
    have = {
        kind: {Target(one.server, item.key) for one in some for item in one.items(kind)} for kind in KINDS
    }
    for kind in KINDS:
        keys = [item[kind.item_key] for item in everything(catalog, kind, size)]
        assert keys == catalog.keys(kind)
        assert len(set(keys)) == len(keys)
    for name in catalog.keys(Kind.TOOLS):
        assert catalog.tool(name) in have[Kind.TOOLS]
    for uri in catalog.keys(Kind.RESOURCES):
        target = catalog.resource(uri)
        assert target in have[Kind.RESOURCES]
        assert target is not None
        assert catalog.published_uri(*target) == uri


@given(catalogs, uris | st.text(max_size=9).filter(_is_unicode))
def test_a_published_uri_that_leads_anywhere_leads_back(some: list[ServerCatalog], uri: str) -> None:
    catalog = merge(some, cursor_key=KEY)
    for one in some:
        back = catalog.resource(catalog.published_uri(one.server, uri))
        assert back is None or back == (one.server, uri)


@given(catalogs, catalogs, st.integers(1, 5))
def test_a_cursor_of_an_older_catalogue_still_gives_what_comes_after(
    before: list[ServerCatalog], after: list[ServerCatalog], size: int
) -> None:
    old, new = (merge(some, cursor_key=KEY) for some in (before, after))
    cursor = json.loads(old.page("tools", None, size)).get("nextCursor")
    if cursor is not None:
        last = old.keys("tools")[size - 1]
        rest = [item["name"] for item in json.loads(new.page("tools", cursor, 10_000))["tools"]]
        keys = new.keys("tools")
        assert rest == keys[len(keys) - len(rest) :]
        if last in keys:
            assert rest == keys[keys.index(last) + 1 :]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "uri", "uriTemplate", "type", "inputSchema", "properties", "description", "icons"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(KINDS), st.lists(json_values, max_size=4))
def test_any_list_is_read_item_by_item(kind: Kind, values: list[Any]) -> None:
    page = read_page(kind, parse(json.dumps({kind.value: values, "x": 1})))
    assert len(page.items) + len(page.problems) == len(values)
    for item in page.items:
        value = json.loads(item.text)
        assert value[kind.item_key] == item.key
        assert (
            value in values
            or None
            in next(v for v in values if isinstance(v, dict) and v.get(kind.item_key) == item.key).values()
        )
