"""JSON to a `Document`; comments and a comma too many are let through, as editors do with such files.

Source: RFC 8259; the additions are those of VS Code's "JSON with Comments".
"""

import json
import re
from typing import Any

from edge.config.importers.document import MAX_DEPTH, MAX_VALUES, Document, Path, is_text
from edge.errors import ConfigError, Problem

TOKEN = re.compile(
    r'(?P<blank>[ \t\r\n]+|//[^\n]*|/\*.*?\*/)|(?P<mark>[{}\[\],:])|(?P<string>"(?:[^"\\\n]|\\.)*")'
    r'|(?P<word>[^\s{}\[\],:"/]+)',
    re.DOTALL,
)
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<rest>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
WORDS = {"true": True, "false": False, "null": None}


def read_json(text: str, source: str) -> Document:
    """Raises: ConfigError, with the first thing that is no JSON, or with every key that is there twice."""
    reader = Reader(text, source)
    reader.whole()
    if reader.problems:
        raise ConfigError(reader.problems)
    return Document(reader.value, reader.lines, source)


class Reader:
    """One reading. Never more than MAX_DEPTH calls deep."""

    def __init__(self, text: str, source: str) -> None:
        self.value: Any = None
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self._text = text
        self._source = source
        self._at = 0  # where the present token begins
        self._next = 0
        self._line, self._counted = 1, 0  # the line of the place up to which line ends were counted
        self._kind = self._word = ""

    def whole(self) -> None:
        self._step()
        self.value = self._value(())
        if self._kind:
            raise self._wrong("something follows after the end")

    def _step(self) -> None:
        """To the next token; its kind is empty at the end."""
        while True:
            found = TOKEN.match(self._text, self._next)
            self._at = self._next
            if found is None:
                self._kind = self._word = ""
                if self._next < len(self._text):
                    unfinished = self._text.startswith('"', self._next)
                    raise self._wrong("a string does not end" if unfinished else "an unexpected character")
                return
            self._next = found.end()
            if found["blank"] is None:
                self._kind, self._word = str(found.lastgroup), found[0]
                return

    def _wrong(self, text: str) -> ConfigError:
        line = self._text.count("\n", 0, self._at) + 1
        column = self._at - self._text.rfind("\n", 0, self._at)
        return ConfigError([Problem(f"{self._source}:{line}:{column}", f"not JSON: {text}")])

    def _note_line(self, path: Path) -> None:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        self.lines.setdefault(path, self._line)

    def _value(self, path: Path) -> Any:
        if len(path) > MAX_DEPTH:
            raise self._wrong("nested too deeply")
        if len(self.lines) > MAX_VALUES:
            raise self._wrong(f"more than {MAX_VALUES} values")
        self._note_line(path)
        match self._kind, self._word:
            case "mark", "{":
                return self._object(path)
            case "mark", "[":
                return self._array(path)
            case "string", _:
                value: Any = self._string()
            case "word", word if word in WORDS:
                value = WORDS[word]
            case "word", word:
                value = self._number(word)
            case "", _:
                raise self._wrong("it ends too early")
            case _:
                raise self._wrong(f"a value is missing before {self._word}")
        self._step()
        return value

    def _string(self) -> str:
        try:
            value: str = json.loads(self._word)
        except ValueError:
            raise self._wrong("a string with a control character or an escape that is none") from None
        if not is_text(value):
            raise self._wrong("a string with half a surrogate pair")
        return value

    def _number(self, word: str) -> int | float:
        found = NUMBER.fullmatch(word)
        if found is None:
            raise self._wrong("a word that is neither a number nor true, false or null")
        try:
            return float(word) if found["rest"] else int(word)
        except ValueError:  # Python's own limit on digits
            raise self._wrong("a number with too many digits") from None

    def _object(self, path: Path) -> dict[str, Any]:
        table: dict[str, Any] = {}
        self._step()
        while not self._is_end("}"):
            if self._kind != "string":
                raise self._wrong("a key in double quotes is expected")
            key = self._string()
            where = (*path, key)
            self._note_line(where)
            if key in table:
                self.problems.append(Problem(self._place(where), "this key is there twice"))
            self._step()
            if self._word != ":" or self._kind != "mark":
                raise self._wrong("a colon is expected after a key")
            self._step()
            table[key] = self._value(where)
            self._comma("}")
        self._step()
        return table

    def _array(self, path: Path) -> list[Any]:
        values: list[Any] = []
        self._step()
        while not self._is_end("]"):
            values.append(self._value((*path, len(values))))
            self._comma("]")
        self._step()
        return values

    def _place(self, path: Path) -> str:
        return Document(None, {path: self._line}, self._source).place(path)

    def _is_end(self, mark: str) -> bool:
        return self._kind == "mark" and self._word == mark

    def _comma(self, end: str) -> None:
        if self._is_end(","):
            self._step()
        elif not self._is_end(end):
            raise self._wrong(f"a comma or {end} is expected" if self._kind else "it ends too early")
