"""How a config table states its own rules, and what comes of breaking them.

A dataclass in `model.py` fills one `Rules` in its `__post_init__` and enforces it at the end, so that
one `BadValues` names every broken rule of that table, each with the key it is about.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

PathKey = str | int
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
YEAR_S = 31_536_000.0


class Finding(NamedTuple):
    """One broken rule: the keys that lead to it from the table it was found in, and a sentence."""

    path: tuple[PathKey, ...]
    text: str


def dotted(path: Sequence[PathKey]) -> str:
    """Keys as TOML would write them: `servers.git.command[1]`, odd keys in quotes."""
    shown = ""
    for key in path:
        if isinstance(key, int):
            shown += f"[{key}]"
            continue
        is_bare = BARE_KEY.fullmatch(key)
        word = key if is_bare else '"' + "".join(c if c.isprintable() else "?" for c in key) + '"'
        shown += f".{word}" if shown else word
    return shown


class BadValues(ValueError):
    """Values of one table that break its rules, all of them; never holds a value, only keys."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(f"{dotted(f.path)}: {f.text}" if f.path else f.text for f in findings))
        self.findings = tuple(findings)


class Rules:
    """Collects what is wrong with one table; `enforce` raises it all at once."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []

    def check(self, holds: bool, text: str, *path: PathKey) -> None:
        """Note `text` about the key at `path` (none: the table itself) unless the rule `holds`."""
        if not holds:
            self._findings.append(Finding(path, text))

    def seconds(self, key: str, value: float, *, may_be_zero: bool = False) -> None:
        """A duration: finite, above 0 (or 0 where that means something), at most a year."""
        least = value >= 0 if may_be_zero else value > 0
        text = f"must be {'0 or more' if may_be_zero else 'above 0'} and at most {YEAR_S:.0f} seconds"
        self.check(math.isfinite(value) and least and value <= YEAR_S, text, key)

    def between(self, key: str, value: int, least: int, most: int) -> None:
        """A count or size within its bounds."""
        self.check(least <= value <= most, f"must be from {least} to {most}", key)

    def plain(self, key: str, value: str | None) -> None:
        """A file name or the like: not empty, and nothing in it that no file name can have."""
        if value is not None:
            self.check(value != "", "must not be empty", key)
            self.check("\0" not in value, "must not contain a NUL character", key)

    def enforce(self) -> None:
        if self._findings:
            raise BadValues(self._findings)
