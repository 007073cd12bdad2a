"""Names in a merged catalogue: which server's they are can be seen, and every client takes them.

A qualified name is SERVER + separator + NAME. Many clients hand tool names to model APIs that take 64
characters of `[A-Za-z0-9_-]`; MCP 2025-11-25 (Tools) adds the dot. A name that is too long or has other
characters is shortened to a readable part and a hash of server and name: the same item always gets the same
name, whatever else is in the catalogue. Names that are never routed by parsing need no inverse: a table has
it.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Prefix = Literal["always", "on-collision", "never"]

HASH_CHARS: Final = 8
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How names are made.

    `always`: every name has its server's; `on-collision`: those that several servers have; `never`: none, and
    of several servers the first one in order has the name.
    """

    prefix: Prefix = "always"
    separator: str = "__"
    max_name_chars: int = 64

    def __post_init__(self) -> None:
        if self.max_name_chars < 2 * HASH_CHARS:
            raise ValueError(f"max_name_chars must be at least {2 * HASH_CHARS}")


class Named(NamedTuple):
    """An item's published name; `is_prefixed`: it shows the server."""

    server: str
    original: str
    name: str
    is_prefixed: bool


def assign(owned: Iterable[tuple[str, str]], naming: Naming) -> tuple[list[Named | None], list[str]]:
    """Names for (server, name) pairs, in their order and all different, and what has to be reported.

    None: unreachable, because the pair came before, or (`never`) an earlier server has the name.
    """
    pairs = list(owned)
    problems: list[str] = []
    wanted = _wanted(pairs, naming, problems)
    # Names that need no change come first, so that a made-up name can never take one of theirs.
    taken: dict[str, Named] = {}
    given: list[Named | None] = [None] * len(pairs)
    later: list[int] = []
    for index, named in enumerate(wanted):
        if named is None:
            continue
        if named.name in taken or not _fits(named.name, naming):
            later.append(index)
        else:
            given[index] = taken[named.name] = named
    for index in later:
        named = wanted[index]
        assert named is not None
        if named.name in taken:
            other = taken[named.name]
            problems.append(
                f"{named.original!r} of {named.server} and {other.original!r} of {other.server} would both be"
                f" {named.name!r}; the former gets a hash"
            )
        name, attempt = shortened(named, naming), 0
        while name in taken:
            attempt += 1
            name = shortened(named, naming, attempt)
        given[index] = taken[name] = Named(named.server, named.original, name, named.is_prefixed)
    return given, problems


def shortened(named: Named, naming: Naming, attempt: int = 0) -> str:
    """A name within the limits: what is readable of it, `_`, and a hash of who it belongs to."""
    identity = "\0".join((named.server, named.original, *([str(attempt)] if attempt else [])))
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARS]
    readable = _FOREIGN.sub("_", named.name)[: naming.max_name_chars - HASH_CHARS - 1]
    return f"{readable}_{digest}"


def _fits(name: str, naming: Naming) -> bool:
    return len(name) <= naming.max_name_chars and _FOREIGN.search(name) is None


def _wanted(pairs: list[tuple[str, str]], naming: Naming, problems: list[str]) -> list[Named | None]:
    """Each pair's name before any limit is applied."""
    owners = Counter(name for _, name in dict.fromkeys(pairs))
    seen: set[tuple[str, str]] = set()
    first_owner: dict[str, str] = {}
    wanted: list[Named | None] = []
    for server, name in pairs:
        if (server, name) in seen:
            problems.append(f"{name!r} of {server} comes twice; the first one counts")
            wanted.append(None)
            continue
        seen.add((server, name))
        first = first_owner.setdefault(name, server)
        if naming.prefix == "never" and first != server:
            problems.append(f"{name!r} of {server} is hidden by the one of {first}")
            wanted.append(None)
            continue
        is_prefixed = naming.prefix == "always" or (naming.prefix == "on-collision" and owners[name] > 1)
        full = f"{server}{naming.separator}{name}" if is_prefixed else name
        wanted.append(Named(server, name, full, is_prefixed))
    return wanted
