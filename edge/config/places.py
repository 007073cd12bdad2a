"""Where in a TOML text a key stands, so that a problem can say its line.

A light scan of text that `tomllib` has already accepted: statements are split at line ends outside
strings and brackets. Keys inside an inline table or an array have the line of the statement.
"""

import re
from collections.abc import Sequence

from edge.config.rules import PathKey, dotted

TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""+|\'\'\'.*?\'\'\'+|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|(?P<comment>\#[^\n]*)'
    r"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<end>\n)|[^\"'#\[\]{}\n]+",
    re.DOTALL,
)
KEY = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"([^"\\]*)"|'([^']*)')\s*(\.)?""")


def statements(text: str) -> list[tuple[int, str]]:
    """The statements of a TOML text with the line each begins in, counting from 1."""
    found: list[tuple[int, str]] = []
    line, began, depth, statement = 1, 1, 0, ""
    for token in TOKEN.finditer(text + "\n"):
        depth += (token["open"] is not None) - (token["close"] is not None)
        if token["end"] is not None and depth == 0:
            if statement.strip():
                found.append((began, statement.strip()))
            statement = ""
            began = line + 1
        elif token["comment"] is None:
            statement += token[0]
        line += token[0].count("\n")
    return found


def leading_keys(text: str) -> tuple[str, ...]:
    """The dotted key at the start of `text`; empty if it has one that this scan does not read."""
    keys: list[str] = []
    at = 0
    while match := KEY.match(text, at):
        keys.append(match[1] or match[2] or match[3] or "")
        at = match.end()
        if match[4] is None:
            return tuple(keys)
    return ()


class Places:
    """Lines of one TOML text by path of keys; made only when there is a problem to report."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._lines: dict[tuple[PathKey, ...], int] = {}
        table: tuple[str, ...] = ()
        for line, statement in statements(text):
            if statement.startswith("["):
                table = leading_keys(statement.lstrip("["))
                path = table
            else:
                path = table + leading_keys(statement)
            for length in range(1, len(path) + 1):
                self._lines.setdefault(path[:length], line)

    def line_of(self, path: Sequence[PathKey]) -> int:
        """The line of the key at `path`, or of the nearest thing around it; 0 if nothing is known."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(tuple(path[:length]))
            if line:
                return line
        return 0

    def place(self, path: Sequence[PathKey]) -> str:
        """`config.toml:12: servers.git.command`, as far as each of the three is known."""
        line = self.line_of(path)
        parts = [f"{self._source}:{line}" if line else self._source, dotted(path)]
        return ": ".join(part for part in parts if part)
