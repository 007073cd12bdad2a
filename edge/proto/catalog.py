"""What clients see: the lists of several servers as one, or of one server as they are; and the way back.

Order is the server's name, then the server's own order. Tools and prompts get qualified names (see
naming.py). Resources keep their URIs; where two servers use the same, the first keeps it and the others' are
published as `mcp-edge://SERVER/<the URI, percent-encoded>`, their templates as `mcp-edge://SERVER/=<the
template as it is>`, so that filling it in and taking `mcp-edge://SERVER/=` off again gives the server's own
URI. Items are forwarded letter for letter but for these names and, on prefixed tools, a `[server] ` before
the description (not the title). Source: MCP 2025-11-25, Server Features.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote as percent_encoded
from urllib.parse import unquote

from edge.errors import RpcError
from edge.proto.cursor import Cursors, Position
from edge.proto.jsontext import dumps, quote
from edge.proto.listing import KINDS as KINDS
from edge.proto.listing import Item as Item
from edge.proto.listing import Kind as Kind
from edge.proto.listing import Page as Page
from edge.proto.listing import ServerCatalog as ServerCatalog
from edge.proto.listing import read_page as read_page
from edge.proto.mcp import INVALID_PARAMS
from edge.proto.naming import Naming, Prefix, assign
from edge.proto.uritemplate import UriTemplate

SCHEME: Final = "mcp-edge://"
MAX_INSTRUCTIONS_BYTES: Final = 16_384
LIST_CAPABILITIES: Final = ("tools", "prompts", "resources")
_CUT_MARK: Final = " […]"
_BY_METHOD: Final = {kind.list_method: kind for kind in KINDS}


class Target(NamedTuple):
    """Whose it is, and what it is called there."""

    server: str
    name: str


class Entry(NamedTuple):
    """One item as it is published."""

    at: Position
    original: str
    text: str


class Merged:
    """An immutable catalogue. Made by `merge` and `alone`; `view` is the one server's name, None for all.

    `problems` says what could not be published as the servers have it.
    """

    __slots__ = (
        "_by_key",
        "_catalogs",
        "_cursors",
        "_entries",
        "_published",
        "_renamed_templates",
        "_servers",
        "_templates",
        "problems",
        "view",
    )

    def __init__(
        self,
        catalogs: Sequence[ServerCatalog],
        entries: Mapping[Kind, Sequence[Entry]],
        problems: Sequence[str],
        *,
        view: str | None,
        cursor_key: bytes,
    ) -> None:
        self.view = view
        self._catalogs = tuple(catalogs)
        self._servers = frozenset(catalog.server for catalog in catalogs)
        self._entries = {kind: tuple(entries[kind]) for kind in KINDS}
        self._cursors = Cursors(cursor_key, view)
        self._by_key = {
            kind: {entry.at.key: Target(entry.at.server, entry.original) for entry in entries[kind]}
            for kind in KINDS
        }
        self._published = {
            Target(entry.at.server, entry.original): entry.at.key for entry in entries[Kind.RESOURCES]
        }
        noted = list(problems)
        self._templates: list[tuple[UriTemplate, Target]] = []
        self._renamed_templates: dict[str, list[UriTemplate]] = {}
        for entry in entries[Kind.TEMPLATES]:
            try:
                template = UriTemplate(entry.original)
            except ValueError as exc:
                noted.append(
                    f"resource template {entry.original!r} of {entry.at.server} matches nothing: {exc}"
                )
                continue
            if entry.at.key == entry.original:
                self._templates.append((template, Target(entry.at.server, entry.original)))
            else:
                self._renamed_templates.setdefault(entry.at.server, []).append(template)
        # The sort is stable: of equally specific templates the first server's wins.
        self._templates.sort(key=lambda pair: -pair[0].literal_chars)
        self.problems = tuple(noted)

    # -- lists

    def page(self, kind: str, cursor: str | None, page_size: int) -> str:
        """The result of a list request as JSON text; `kind` is a `Kind` or its list method.

        RpcError(-32602) for a cursor that is not ours, or not of this list of this view.
        """
        kind = _BY_METHOD[kind] if kind in _BY_METHOD else Kind(kind)
        entries = self._entries[kind]
        start = 0 if cursor is None else self._after(entries, self._cursors.decode(kind, cursor))
        shown = entries[start : start + page_size]
        tail = ""
        if start + page_size < len(entries):
            tail = f',"nextCursor":{quote(self._cursors.encode(kind, shown[-1].at))}'
        return f'{{"{kind.value}":[{",".join([entry.text for entry in shown])}]{tail}}}'

    def _after(self, entries: Sequence[Entry], last: Position) -> int:
        """Where the list goes on: after that very item, or, if it is gone, with what has taken its place."""
        at = bisect_left(
            entries, (last.server, last.place), key=lambda entry: (entry.at.server, entry.at.place)
        )
        if at < len(entries) and entries[at].at.key == last.key:
            return at + 1
        for moved, entry in enumerate(entries):
            if entry.at.key == last.key:
                return moved + 1
        return at

    def count(self, kind: str) -> int:
        return len(self._entries[Kind(kind)])

    def keys(self, kind: str) -> list[str]:
        """The published names or URIs, in order."""
        return [entry.at.key for entry in self._entries[Kind(kind)]]

    def changed_since(self, older: "Merged") -> list[str]:
        """The lists (tools, prompts, resources) that a client of `older` has to be told about."""
        kinds = [kind for kind in KINDS if self._texts(kind) != older._texts(kind)]
        return [
            capability
            for capability in LIST_CAPABILITIES
            if any(kind.capability == capability for kind in kinds)
        ]

    def _texts(self, kind: Kind) -> list[str]:
        return [entry.text for entry in self._entries[kind]]

    # -- the way back

    def tool(self, name: str) -> Target | None:
        return self._by_key[Kind.TOOLS].get(name)

    def prompt(self, name: str) -> Target | None:
        return self._by_key[Kind.PROMPTS].get(name)

    def resource(self, uri: str) -> Target | None:
        """Whose resource that is: a listed one, one renamed by us, or what the most specific template makes.

        One server alone is asked for any URI: it may have resources that it does not list.
        """
        listed = self._by_key[Kind.RESOURCES].get(uri)
        if listed is not None:
            return listed
        if self.view is not None:
            return Target(self.view, uri)
        if uri.startswith(SCHEME):
            server, slash, rest = uri.removeprefix(SCHEME).partition("/")
            server = unquote(server)
            if slash and rest and server in self._servers:
                return Target(server, rest[1:] if rest.startswith("=") else _decoded(rest))
        for template, target in self._templates:
            if template.matches(uri):
                return Target(target.server, uri)
        return None

    def published_uri(self, server: str, original: str) -> str:
        """How clients know a URI of that server: in its results and updates, listed or not."""
        published = self._published.get(Target(server, original))
        if published is not None:
            return published
        target = self.resource(original)
        if target == (server, original) or (target is None and not original.startswith(SCHEME)):
            return original
        if any(template.matches(original) for template in self._renamed_templates.get(server, ())):
            return _base(server) + "=" + original
        return renamed_uri(server, original)

    def completion(self, ref: Mapping[str, Any]) -> tuple[Target, dict[str, str | None]] | None:
        """Whose completions `ref` asks for, and its members as that server has them (for `replace_members`).

        None if there is no such prompt or resource; RpcError(-32602) if `ref` is no reference.
        """
        kind, member = ref.get("type"), "name"
        target: Target | None
        if kind == "ref/prompt":
            target = self.prompt(_text_of(ref, "name"))
        elif kind == "ref/resource":
            member = "uri"
            uri = _text_of(ref, "uri")
            target = self._by_key[Kind.TEMPLATES].get(uri) or self.resource(uri)
        else:
            raise RpcError(INVALID_PARAMS, "params.ref.type must be ref/prompt or ref/resource")
        return None if target is None else (target, {member: quote(target.name)})

    # -- initialize

    def capabilities(self, *, expected: Collection[str] = ()) -> str:
        """The union of what the servers can do, as JSON text.

        `expected`: lists that are promised in any case, for servers that may still come up. A client asks
        once, and `list_changed` reaches only those that were told there is a list.
        """
        declared = [catalog.capabilities for catalog in self._catalogs]
        union: dict[str, Any] = {}
        for name in LIST_CAPABILITIES:
            if name in expected or any(name in one for one in declared):
                union[name] = {"listChanged": True}
        if any(
            isinstance(one.get("resources"), dict) and one["resources"].get("subscribe") is True
            for one in declared
        ):
            union["resources"]["subscribe"] = True
        for name in ("completions", "logging"):
            if any(name in one for one in declared):
                union[name] = {}
        return dumps(union)

    def instructions(self) -> str | None:
        """The servers' instructions, each under its name if there may be several; None if none has any.

        Limits: MAX_INSTRUCTIONS_BYTES in all. Long texts are cut before short ones are.
        """
        texts = {
            catalog.server: catalog.instructions if self.view is not None else _headed(catalog)
            for catalog in self._catalogs
            if catalog.instructions and catalog.instructions.strip()
        }
        if not texts:
            return None
        shown: dict[str, str] = {}
        left = MAX_INSTRUCTIONS_BYTES
        by_size = sorted(texts, key=lambda server: len(_utf8(texts[server])))
        for number, server in enumerate(by_size):
            shown[server] = _cut(texts[server], left // (len(by_size) - number) - 2)
            left -= len(_utf8(shown[server])) + 2
        return "\n\n".join(shown[server] for server in texts)


def merge(
    catalogs: Iterable[ServerCatalog],
    *,
    cursor_key: bytes,
    prefix: Prefix = "always",
    separator: str = "__",
    max_name_chars: int = 64,
    description_prefix: bool = True,
) -> Merged:
    """Several servers as one. `description_prefix`: say in a prefixed tool's description whose it is."""
    ordered = sorted(catalogs, key=lambda catalog: catalog.server)
    naming = Naming(prefix=prefix, separator=separator, max_name_chars=max_name_chars)
    problems: list[str] = []
    entries = {
        Kind.TOOLS: _named(Kind.TOOLS, ordered, naming, problems, describe=description_prefix),
        Kind.PROMPTS: _named(Kind.PROMPTS, ordered, naming, problems, describe=False),
        Kind.RESOURCES: _located(Kind.RESOURCES, ordered, problems),
        Kind.TEMPLATES: _located(Kind.TEMPLATES, ordered, problems),
    }
    return Merged(ordered, entries, problems, view=None, cursor_key=cursor_key)


def alone(catalog: ServerCatalog, *, cursor_key: bytes) -> Merged:
    """One server, its names as they are."""
    problems: list[str] = []
    entries: dict[Kind, list[Entry]] = {}
    for kind in KINDS:
        first: dict[str, Entry] = {}
        for index, item in enumerate(catalog.items(kind)):
            if item.key in first:
                problems.append(_twice(kind, catalog.server, item))
            else:
                first[item.key] = Entry(Position(catalog.server, index, item.key), item.key, item.text)
        entries[kind] = list(first.values())
    return Merged([catalog], entries, problems, view=catalog.server, cursor_key=cursor_key)


def renamed_uri(server: str, original: str) -> str:
    """The URI under which a resource is published whose own one belongs to another server."""
    return _base(server) + percent_encoded(original, safe="", errors="surrogatepass")


def _named(
    kind: Kind, catalogs: Sequence[ServerCatalog], naming: Naming, problems: list[str], *, describe: bool
) -> list[Entry]:
    owned = [
        (catalog.server, index, item)
        for catalog in catalogs
        for index, item in enumerate(catalog.items(kind))
    ]
    names, found = assign([(server, item.key) for server, _, item in owned], naming)
    problems += [f"{kind.noun} {problem}" for problem in found]
    return [
        Entry(
            Position(server, index, named.name),
            item.key,
            _rewritten(item, kind, named.name, server if describe and named.is_prefixed else None),
        )
        for (server, index, item), named in zip(owned, names, strict=True)
        if named is not None
    ]


def _located(kind: Kind, catalogs: Sequence[ServerCatalog], problems: list[str]) -> list[Entry]:
    """Resources or templates under URIs that are all different."""
    owner: dict[str, str] = {}
    entries: list[Entry] = []
    for catalog in catalogs:
        own: set[str] = set()
        for index, item in enumerate(catalog.items(kind)):
            if item.key in own:
                problems.append(_twice(kind, catalog.server, item))
                continue
            own.add(item.key)
            uri = item.key
            if uri in owner or uri.startswith(SCHEME):
                uri = (
                    renamed_uri(catalog.server, uri)
                    if kind is Kind.RESOURCES
                    else f"{_base(catalog.server)}={uri}"
                )
                why = (
                    f"{owner[item.key]} has it too" if item.key in owner else f"{SCHEME} is the gateway's own"
                )
                problems.append(
                    f"{kind.noun} {item.key!r} of {catalog.server} is published as {uri!r}, because {why}"
                )
            # Nobody else can have a renamed one: the scheme is ours, and the server's name is in it.
            owner[uri] = catalog.server
            at = Position(catalog.server, index, uri)
            entries.append(
                Entry(at, item.key, item.text if uri == item.key else _rewritten(item, kind, uri, None))
            )
    return entries


def _rewritten(item: Item, kind: Kind, key: str, described_for: str | None) -> str:
    """The item's text under another key, and with whose it is in its description."""
    text = item.text
    edits = [(*item.spans[kind.item_key], quote(key))]
    if described_for is not None:
        span = item.spans.get("description")
        if span is None:
            edits.append(
                (len(text) - 1, len(text) - 1, f',"description":{quote(f"Tool from {described_for}")}')
            )
        else:
            edits.append((span.start + 1, span.start + 1, quote(f"[{described_for}] ")[1:-1]))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _twice(kind: Kind, server: str, item: Item) -> str:
    return f"{kind.noun} {item.key!r} of {server} comes twice; the first one counts"


def _base(server: str) -> str:
    return f"{SCHEME}{percent_encoded(server, safe='')}/"


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogatepass")


def _text_of(ref: Mapping[str, Any], member: str) -> str:
    value = ref.get(member)
    if not isinstance(value, str):
        raise RpcError(INVALID_PARAMS, f"params.ref.{member} must be a string")
    return value


def _headed(catalog: ServerCatalog) -> str:
    assert catalog.instructions is not None
    return f"## {catalog.server}\n\n{catalog.instructions.strip()}"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _cut(text: str, limit_bytes: int) -> str:
    """The text, or as much of it as fits with a mark that says so."""
    if len(_utf8(text)) <= limit_bytes:
        return text
    kept = _utf8(text)[: max(0, limit_bytes - len(_utf8(_CUT_MARK)))]
    return kept.decode("utf-8", "ignore") + _CUT_MARK
