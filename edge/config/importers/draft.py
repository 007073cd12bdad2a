"""A config of ours in the making: its tables, where each value came from, what is to be said about it.

Whatever the foreign file holds, a secret is never put into `table`: `variable` gives the name that stands for it.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any, Literal, NamedTuple

from edge.config.common import MAX_NAME_CHARS
from edge.config.importers.document import Document, Path
from edge.config.private import is_token, variable_name
from edge.config.rules import dotted
from edge.errors import Problem

NoteKind = Literal["lost", "changed", "to do"]
# What the file itself names a variable: in a placeholder, or for a token.
REFERENCE = re.compile(r"(?:\$\{(?:env:|input:)?|\btoken_env['\"]?\s*:\s*['\"]?)([A-Za-z_][A-Za-z0-9_-]*)")


class Note(NamedTuple):
    """One thing that an operator should know; `place` is in the foreign file."""

    kind: NoteKind
    place: str
    text: str


class Draft:
    """What an importer fills. `comments` go before the key or table at their path; `disabled` tables behind a #."""

    def __init__(self, document: Document, text: str) -> None:
        self.document = document
        self.table: dict[str, Any] = {}
        self.comments: dict[Path, list[str]] = {}
        self.disabled: set[Path] = set()
        self.variables: dict[str, str] = {}  # those to be set, each with what it is for
        self._notes: list[tuple[int, Note]] = []  # with their lines
        self._problems: list[tuple[int, Problem]] = []
        self._origins: dict[Path, Path] = {}
        self._values: dict[str, str] = {}  # of variables that stand for what was in the file
        self._reserved = {form for name in REFERENCE.findall(text) for form in (name, variable_name(name))}

    # -- what it becomes

    def put(self, path: Path, value: Any, *, origin: Path) -> None:
        """Set a key of ours; `origin` is the foreign key that a problem with it is about."""
        table = self.table
        for key in path[:-1]:
            table = table.setdefault(str(key), {})
        table[str(path[-1])] = value
        self._origins[path] = origin

    def origin_of(self, path: Path) -> Path:
        """The foreign key behind ours, or behind the nearest thing around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._origins:
                return self._origins[path[:length]]
        return ()

    # -- what is said about it

    def lost(self, origin: Path, text: str, *, at: Path | None = None) -> None:
        self._note("lost", origin, text, at)

    def changed(self, origin: Path, text: str, *, at: Path | None = None) -> None:
        self._note("changed", origin, text, at)

    def to_do(self, origin: Path, text: str, *, at: Path | None = None) -> None:
        self._note("to do", origin, text, at)

    def wrong(self, origin: Path, text: str) -> None:
        """The foreign file is no good there."""
        self._problems.append((self.document.line(origin), Problem(self.document.place(origin), text)))

    @property
    def notes(self) -> list[Note]:
        """In the order of the foreign file."""
        return [note for _, note in sorted(self._notes, key=lambda noted: noted[0])]

    @property
    def problems(self) -> list[Problem]:
        """In the order of the foreign file."""
        return [problem for _, problem in sorted(self._problems, key=lambda noted: noted[0])]

    def _note(self, kind: NoteKind, origin: Path, text: str, at: Path | None = None) -> None:
        self._notes.append((self.document.line(origin), Note(kind, self.document.place(origin), text)))
        if at is not None:
            about = dotted(origin)
            self.comments.setdefault(at, []).append(f"{about}: {text}" if about else text)

    # -- secrets

    def variable(self, wanted: Sequence[str], *, value: str, what: str, origin: Path, at: Path) -> str:
        """The name of the variable that stands for a secret of the file; it has yet to be set.

        The first of the `wanted` names that does not stand for another one already.
        """
        names = [variable_name(each) for each in wanted]
        numbered = (f"{names[-1][:60]}_{n}" for n in count(2))
        free = (
            n
            for n in chain(names, numbered)
            if n not in self._reserved and self._values.get(n, value) == value
        )
        name = next(free)
        is_new = name not in self._values
        self._values[name] = value
        self.variables.setdefault(name, what)
        text = f"set the environment variable {name} to {what}"
        if is_new:
            self.to_do(origin, text, at=at)
        else:
            self.changed(
                origin, f"is the same secret as above: the environment variable {name} stands for both"
            )
        return name

    def named_variable(self, name: str, *, what: str, origin: Path, at: Path, hint: str = "") -> None:
        """A variable that the foreign file itself names."""
        self._reserved.add(name)
        if name in self.variables or name in ("HOME", "USER", "PATH"):
            return
        self.variables[name] = what
        self.to_do(origin, f"set the environment variable {name}{hint}", at=at)


# -- texts with variables in them


class Variable(NamedTuple):
    """A part of a text that the environment gives."""

    name: str


Parts = list[str | Variable]


def expanded(parts: Parts) -> str:
    """As our config has it: `${NAME}`, and a dollar that is one is doubled."""
    return "".join(f"${{{p.name}}}" if isinstance(p, Variable) else p.replace("$", "$$") for p in parts)


def has_variables(parts: Parts) -> bool:
    return any(isinstance(part, Variable) for part in parts)


def shown(value: str) -> str:
    """A value for a sentence, unless it may be a secret."""
    return "its value" if is_token(value) or len(value) > 80 or not value.isprintable() else f"`{value}`"


def good_name(text: str, taken: Mapping[str, Any]) -> str:
    """Text as a name that a server of ours can have, and that no other one has."""
    name = re.sub(r"__+", "_", re.sub(r"[^A-Za-z0-9_.-]+", "-", text)).strip("_.-")[:MAX_NAME_CHARS]
    name = name.rstrip("_.-") or "server"
    if name not in taken:
        return name
    numbered = (f"{name[: MAX_NAME_CHARS - 5]}-{n}" for n in range(2, 10_000))
    return next(each for each in numbered if each not in taken)
