"""One table of a foreign file, key by key: a wrong kind of value is a problem, what nobody took is told."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from edge.config.exact import kind
from edge.config.importers.document import Path
from edge.config.importers.draft import Draft

MANY = 5


class Table:
    """`value` is a mapping at `path`. A null counts as absent; of several names for a key the first one counts."""

    def __init__(self, draft: Draft, value: Mapping[str, Any], path: Path) -> None:
        self.draft = draft
        self.path = path
        self._value = value
        self._left = dict.fromkeys(value)

    def __contains__(self, key: str) -> bool:
        return self._value.get(key) is not None

    def at(self, key: str | int) -> Path:
        return (*self.path, key)

    def found(self, *keys: str) -> str | None:
        """Which of these is there."""
        return next((key for key in keys if key in self), None)

    def take(self, *keys: str) -> Any:
        key = self.found(*keys)
        if key is None:
            for key in keys:
                self._left.pop(key, None)
            return None
        self._left.pop(key, None)
        return self._value[key]

    def text(self, *keys: str) -> str | None:
        value: str | None = self._of(keys, str, "a string")
        return value

    def flag(self, *keys: str) -> bool | None:
        value: bool | None = self._of(keys, bool, "true or false")
        return value

    def number(self, *keys: str) -> float | None:
        """Also one in quotes."""
        key = self.found(*keys)
        value = self.take(*keys)
        if isinstance(value, str):
            with suppress(ValueError):
                value = float(value)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return None if value is None else float(value)
        self._wrong(str(key), f"must be a number, not {kind(value)}")
        return None

    def texts(self, *keys: str) -> list[str]:
        key = self.found(*keys)
        value = self.take(*keys)
        if value is None:
            return []
        if not isinstance(value, list):
            self._wrong(str(key), f"must be a list of strings, not {kind(value)}")
            return []
        found: list[str] = []
        for at, item in enumerate(value):
            text = as_text(item)
            if text is None:
                self.draft.wrong((*self.at(str(key)), at), f"must be a string, not {kind(item)}")
            else:
                found.append(text)
        return found

    def strings(self, *keys: str) -> dict[str, str]:
        """A mapping of strings; numbers and truth values are written as they are, nulls left out."""
        key = self.found(*keys)
        value = self.take(*keys)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong(str(key), f"must be a table of strings, not {kind(value)}")
            return {}
        found: dict[str, str] = {}
        for name, item in value.items():
            text = as_text(item)
            if text is not None:
                found[name] = text
            elif item is not None:
                self.draft.wrong((*self.at(str(key)), name), f"must be a string, not {kind(item)}")
        return found

    def table(self, *keys: str) -> "Table | None":
        key = self.found(*keys)
        value = self.take(*keys)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._wrong(str(key), f"must be a table, not {kind(value)}")
            return None
        return Table(self.draft, value, self.at(str(key)))

    def tables(self, *keys: str) -> list["Table"]:
        """A list of tables."""
        key = self.found(*keys)
        value = self.take(*keys)
        if value is None:
            return []
        if not isinstance(value, list):
            self._wrong(str(key), f"must be a list, not {kind(value)}")
            return []
        found: list[Table] = []
        for at, item in enumerate(value):
            path = (*self.at(str(key)), at)
            if isinstance(item, dict):
                found.append(Table(self.draft, item, path))
            else:
                self.draft.wrong(path, f"must be a table, not {kind(item)}")
        return found

    def named(self, key: str) -> Iterator[tuple[str, "Table"]]:
        """The tables in a table, by name."""
        outer = self.table(key)
        if outer is not None:
            yield from outer.each()

    def each(self) -> Iterator[tuple[str, "Table"]]:
        for name, value in self._value.items():
            self._left.pop(name, None)
            if isinstance(value, dict):
                yield name, Table(self.draft, value, self.at(name))
            else:
                self.draft.wrong(self.at(name), f"must be a table, not {kind(value)}")

    def ignore(self, *keys: str) -> None:
        """These say nothing that matters here."""
        for key in keys:
            self._left.pop(key, None)

    def lost(self, key: str, text: str) -> None:
        """If it is there, it is not carried over, and `text` says why and what to do."""
        self._left.pop(key, None)
        if key in self:
            self.draft.lost(self.at(key), text)

    def end(
        self, text: str = "is left out: mcp-edge knows no such key (`mcp-edge help config` has all)"
    ) -> None:
        """Nothing else is taken: what is left is told, one by one unless it is much."""
        left = [key for key in self._left if key in self]
        if len(left) <= MANY:
            for key in left:
                self.draft.lost(self.at(key), text)
        else:
            names = ", ".join(left[:MANY])
            self.draft.lost(self.path, f"{len(left)} keys ({names}, …): each {text}")
        self._left.clear()

    def _of(self, keys: tuple[str, ...], type_: type, what: str) -> Any:
        key = self.found(*keys)
        value = self.take(*keys)
        if value is None or isinstance(value, type_):
            return value
        self._wrong(str(key), f"must be {what}, not {kind(value)}")
        return None

    def _wrong(self, key: str, text: str) -> None:
        self.draft.wrong(self.at(key), text)


def as_text(value: Any) -> str | None:
    """A plain value as an environment variable would hold it; None: it is not plain."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
