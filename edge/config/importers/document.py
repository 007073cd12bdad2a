"""A foreign file as plain values, each with its line, whatever it was written in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.config.rules import PathKey, dotted

Path = tuple[PathKey, ...]

MAX_DEPTH = 64
MAX_VALUES = 100_000  # aliases of YAML counted as often as they are used


@dataclass(frozen=True, slots=True)
class Document:
    """`value` is made of dict, list, str, int, float, bool and None; `lines` count from 1."""

    value: Any
    lines: Mapping[Path, int]
    source: str

    def line(self, path: Path) -> int:
        """That of the value, or of the nearest thing around it; 0: nothing is known."""
        return next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), 0)

    def place(self, path: Path) -> str:
        """`mcp.json:12: mcpServers.git.command`, as far as each of the three is known."""
        line = self.line(path)
        parts = [f"{self.source}:{line}" if line else self.source, dotted(path)]
        return ": ".join(part for part in parts if part)


def is_text(value: str) -> bool:
    """It can be written as UTF-8: half a surrogate pair, as an escape may name one, cannot."""
    return not any("\ud800" <= c <= "\udfff" for c in value)
