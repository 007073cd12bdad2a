"""YAML to a `Document`: nothing but plain values, each key once, and aliases only as far as they stay small.

The library parses; what a scalar means is decided here, by the core schema of YAML 1.2.2, section 10.3.2, so that a
date stays text and no tag makes an object. It is loaded only here: nothing but `import` reads YAML.
"""

from typing import Any

from edge.config.importers.document import MAX_DEPTH, MAX_VALUES, Document, Path, is_text
from edge.errors import ConfigError, Problem

STANDARD = "tag:yaml.org,2002:"
KNOWN_TAGS = frozenset({"str", "int", "float", "bool", "null", "map", "seq", "merge", "timestamp", "value"})


def read_yaml(text: str, source: str) -> Document:
    """Raises: ConfigError, with the first thing that is no YAML, or with all that has no place here."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark is not None else source
        what = exc.problem or exc.context or "it cannot be read"
        raise ConfigError([Problem(place, f"not YAML: {what}")]) from None
    except ReaderError as exc:
        line = text.count("\n", 0, int(exc.position)) + 1
        raise ConfigError([Problem(f"{source}:{line}", f"not YAML: {exc.reason}")]) from None
    except RecursionError:
        raise ConfigError([Problem(source, "is nested too deeply")]) from None
    except (YAMLError, ValueError, OverflowError):  # of escapes that name no character, the last two
        raise ConfigError([Problem(source, "not YAML")]) from None
    walk = Walk(source)
    value = None if node is None else walk.value(node, ())
    if walk.problems:
        raise ConfigError(walk.problems)
    return Document(value, walk.lines, source)


class Walk:
    """From the library's nodes to values. Aliases lead to nodes that were there before: they are walked again."""

    def __init__(self, source: str) -> None:
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self._source = source
        self._n_values = 0

    def value(self, node: Any, path: Path) -> Any:
        from ruamel.yaml.nodes import MappingNode, ScalarNode

        self._n_values += 1
        line = node.start_mark.line + 1
        if self._n_values > MAX_VALUES or len(path) > MAX_DEPTH:
            what = "is nested too deeply" if len(path) > MAX_DEPTH else f"has more than {MAX_VALUES} values"
            text = f"{what}, or its aliases make it so"
            raise ConfigError([Problem(f"{self._source}:{line}", text)])
        self.lines.setdefault(path, line)
        tag = str(node.tag)
        if not tag.startswith(STANDARD) or tag.removeprefix(STANDARD) not in KNOWN_TAGS:
            self._wrong(path, "has a tag (!); only plain values are read")
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node.value, tag.removeprefix(STANDARD), path)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        return [self.value(item, (*path, at)) for at, item in enumerate(node.value)]

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        from ruamel.yaml.nodes import ScalarNode

        table: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._wrong(path, "has a key that is no plain text")
                continue
            key = self._text(key_node.value, path)
            if key_node.tag == f"{STANDARD}merge":
                merged = self._merged(value_node, path) | merged
                continue
            where = (*path, key)
            if key in table:
                self.lines[where] = key_node.start_mark.line + 1
                self._wrong(where, "this key is there twice")
                continue
            self.lines[where] = key_node.start_mark.line + 1
            table[key] = self.value(value_node, where)
        return merged | table

    def _merged(self, node: Any, path: Path) -> dict[str, Any]:
        """What `<<` brings in: a mapping, or several of which the first ones win."""
        value = self.value(node, path)
        tables = value if isinstance(value, list) else [value]
        found: dict[str, Any] = {}
        for table in tables:
            if not isinstance(table, dict):
                self._wrong(path, "merges (<<) what is no mapping")
                return {}
            found = table | found
        return found

    def _scalar(self, text: str, kind: str, path: Path) -> Any:
        text = self._text(text, path)
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text, 0 if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10)
                case "float":
                    return float(text.replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            return text
        return text

    def _text(self, text: str, path: Path) -> str:
        """Two escapes that make one character, as JSON has it, are one."""
        if is_text(text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._wrong(path, "holds half a surrogate pair")
            return ""

    def _wrong(self, path: Path, text: str) -> None:
        self.problems.append(Problem(Document(None, self.lines, self._source).place(path), text))
