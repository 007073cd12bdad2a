"""One server's lists as it gave them: pages read, items judged one by one and kept letter for letter.

Source: MCP 2025-11-25, Server Features and Pagination.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from edge.errors import BadMessage, RemoteProtocolError
from edge.printable import cut
from edge.proto.itemshape import null_members, wrong_with
from edge.proto.jsontext import Raw, elements, members, replace_members

MAX_NAME_IN_REPORT: Final = 80
MAX_PAGE_ITEMS: Final = 10_000
"""Read of one page. Judging what a 20 MB page can hold would stop everything else for ten seconds."""


class Kind(StrEnum):
    """The four lists. The value is the result member that holds the items."""

    TOOLS = "tools"
    PROMPTS = "prompts"
    RESOURCES = "resources"
    TEMPLATES = "resourceTemplates"

    @property
    def list_method(self) -> str:
        return _LIST_METHODS[self]

    @property
    def item_key(self) -> str:
        """The member that names an item."""
        return _ITEM_KEYS[self]

    @property
    def noun(self) -> str:
        return _NOUNS[self]

    @property
    def capability(self) -> str:
        """The capability that says there is such a list; also the word in its list_changed notification."""
        return "resources" if self is Kind.TEMPLATES else self.value


KINDS: Final = tuple(Kind)
_LIST_METHODS: Final = {
    Kind.TOOLS: "tools/list",
    Kind.PROMPTS: "prompts/list",
    Kind.RESOURCES: "resources/list",
    Kind.TEMPLATES: "resources/templates/list",
}
_ITEM_KEYS: Final = {
    Kind.TOOLS: "name",
    Kind.PROMPTS: "name",
    Kind.RESOURCES: "uri",
    Kind.TEMPLATES: "uriTemplate",
}
_NOUNS: Final = {
    Kind.TOOLS: "tool",
    Kind.PROMPTS: "prompt",
    Kind.RESOURCES: "resource",
    Kind.TEMPLATES: "resource template",
}
_SPLICED: Final = frozenset({"name", "uri", "uriTemplate", "description"})


class Span(NamedTuple):
    start: int
    end: int


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Item:
    """A tool, prompt, resource or template: `key` is its name or URI, `text` the object as written.

    `spans` says where in the text the members stand that a merged catalogue rewrites; found once, when the
    item is read, so that merging costs no parsing.
    """

    key: str
    text: str
    spans: Mapping[str, Span] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        spans = {
            name: Span(start, end) for name, (_, start, end) in members(self.text).items() if name in _SPLICED
        }
        object.__setattr__(self, "spans", spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCatalog:
    """What one server offers. `dropped` has what was left out and why, a sentence each."""

    server: str
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    server_info: Raw | None = None
    instructions: str | None = None
    tools: tuple[Item, ...] = ()
    prompts: tuple[Item, ...] = ()
    resources: tuple[Item, ...] = ()
    templates: tuple[Item, ...] = ()
    dropped: tuple[str, ...] = ()

    def items(self, kind: Kind) -> tuple[Item, ...]:
        match kind:
            case Kind.TOOLS:
                return self.tools
            case Kind.PROMPTS:
                return self.prompts
            case Kind.RESOURCES:
                return self.resources
        return self.templates


_IN_USE: Final = {kind: WeakValueDictionary[str, Item]() for kind in KINDS}
"""Items by their text, as long as a catalogue has them: the edges of a hub are often many with the same server."""


class Page(NamedTuple):
    """One page: its good items, what was wrong with the others, and the next cursor's JSON text."""

    items: list[Item]
    problems: list[str]
    next_cursor: str | None


def read_page(kind: str, result: Raw) -> Page:
    """The items of one list result. A bad item costs itself, never the page; no list: RemoteProtocolError.

    `next_cursor` goes into the next request's params as it is. An empty string is a cursor like any other;
    null counts as none, and so does what is no string, which is reported.
    """
    kind = Kind(kind)
    if not isinstance(result.value, dict) or not isinstance(result.value.get(kind), list):
        raise RemoteProtocolError(f"the answer to {kind.list_method} has no array {kind.value!r}")
    found = members(result.text)
    array = found[kind]
    items: list[Item] = []
    problems: list[str] = []
    found_items = elements(result.text[array.start : array.end])
    if len(found_items) > MAX_PAGE_ITEMS:
        problems.append(
            f"{kind.list_method}: {len(found_items)} items in one page; those after {MAX_PAGE_ITEMS} are left out"
        )
    for index, raw in enumerate(found_items[:MAX_PAGE_ITEMS]):
        item = _read_item(kind, raw)
        if isinstance(item, Item):
            items.append(item)
        else:
            problems.append(f"{kind.noun} {_label(kind, index, raw.value)}: {item}")
    cursor = found.get("nextCursor")
    if cursor is None or cursor.value is None:
        return Page(items, problems, None)
    if not isinstance(cursor.value, str):
        problems.append(f"{kind.list_method}: nextCursor must be a string; taken as the end of the list")
        return Page(items, problems, None)
    return Page(items, problems, result.text[cursor.start : cursor.end])


def _read_item(kind: Kind, raw: Raw) -> Item | str:
    """The item, or what is wrong with it."""
    text, value = raw
    if isinstance(value, dict):
        nulls = null_members(kind, value)
        if nulls:
            value = {key: inner for key, inner in value.items() if key not in nulls}
    wrong = wrong_with(kind, value)
    if wrong is not None:
        return wrong
    try:
        # Both refuse an object in which a member comes twice.
        if len(value) != len(raw.value):
            text = replace_members(text, dict.fromkeys(nulls))
        return _IN_USE[kind].get(text) or _IN_USE[kind].setdefault(text, Item(value[kind.item_key], text))
    except BadMessage as exc:
        return str(exc)


def _label(kind: Kind, index: int, value: Any) -> str:
    name = value.get(kind.item_key) if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        return f"number {index}"
    return repr(cut(name, MAX_NAME_IN_REPORT))
