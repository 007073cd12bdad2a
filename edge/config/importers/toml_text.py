"""A draft as the text of a config file, with a comment wherever something needs attention."""

from collections.abc import Iterator, Mapping
from typing import Any

from edge.config.importers.document import Path
from edge.config.importers.draft import Draft
from edge.config.template import toml_key, toml_value

GROUPS = ("servers", "uplinks")  # tables of their own, by name
ORDER = ("gateway", "admin", "log", *GROUPS)


def toml_text(draft: Draft, head: str, *, everything: bool = False) -> str:
    """`head` is the first comment. `everything`: also what is disabled stands there without its #."""
    lines = [
        f"# {plain(head)}",
        "# Check it with `mcp-edge validate -c FILE`; the manual is `mcp-edge help config`.",
    ]
    for key in ORDER:
        value = draft.table.get(key)
        if not isinstance(value, Mapping):
            continue
        if key in GROUPS:
            for name, table in value.items():
                lines += ["", *table_lines(draft, (key, name), table, everything=everything)]
        else:
            lines += ["", *table_lines(draft, (key,), value, everything=everything)]
    return "\n".join(lines) + "\n"


def table_lines(draft: Draft, path: Path, table: Mapping[str, Any], *, everything: bool) -> Iterator[str]:
    mark = "#" if path in draft.disabled and not everything else ""
    yield from comments(draft, path)
    yield f"{mark}[{'.'.join(toml_key(str(key)) for key in path)}]"
    for key, value in table.items():
        where = (*path, key)
        yield from comments(draft, where)
        for inner in value if isinstance(value, Mapping) else ():
            yield from comments(draft, (*where, inner))
        yield f"{mark}{toml_key(key)} = {toml_value(value)}"
    length = len(path)
    for about in draft.comments:  # also what is said about keys that did not come to be
        if about[:length] == path and len(about) > length and about[length] not in table:
            yield from comments(draft, about)


def comments(draft: Draft, path: Path) -> Iterator[str]:
    yield from (f"# {plain(text)}" for text in draft.comments.get(path, ()))


def plain(text: str) -> str:
    """Text that cannot end a comment."""
    return "".join(c if c.isprintable() else "?" for c in text)
