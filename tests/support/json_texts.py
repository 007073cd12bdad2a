"""Hypothesis strategies for JSON as foreign writers spell it: white space, escapes, numbers of all sorts."""

import json
from typing import Any

from hypothesis import strategies as st

blanks = st.sampled_from(["", "", " ", "\n", "\t\r\n"])
# "long" is one of more digits than int() takes; spelled out late, it keeps Hypothesis' messages short.
numbers = st.sampled_from(
    ["0", "-0", "7", "7.0", "1e400", "-1e400", "1E+2", "9223372036854775808", "long"]
).map(lambda text: "9" * 5000 if text == "long" else text)


def spelled(value: str, escapes: list[bool]) -> str:
    """A string's JSON text, each character plain or as `\\uXXXX`, as `escapes` (repeated) has it."""
    letters = []
    for at, char in enumerate(value):
        units = char.encode("utf-16-be", "surrogatepass")
        escaped = "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
        is_escaped = escapes[at % len(escapes)]
        letters.append(escaped if is_escaped else json.dumps(char, ensure_ascii=False)[1:-1])
    return '"' + "".join(letters) + '"'


def string_texts(strings: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[str]:
    """The JSON texts of strings."""
    words = st.text(max_size=6) if strings is None else strings
    return st.builds(spelled, words, st.lists(st.booleans(), min_size=1, max_size=3))


def object_texts(
    values: st.SearchStrategy[str], keys: st.SearchStrategy[str] | None = None
) -> st.SearchStrategy[str]:
    """The texts of objects with keys that differ."""
    key_texts = string_texts(st.text(max_size=4) if keys is None else keys)
    member = st.tuples(blanks, key_texts, blanks, st.just(":"), blanks, values, blanks)

    def joined(found: list[tuple[str, ...]], blank: str) -> str:
        return "{" + (",".join(map("".join, found)) or blank) + "}"

    def key_of(parts: tuple[str, ...]) -> Any:
        return json.loads(parts[1])

    return st.builds(joined, st.lists(member, max_size=4, unique_by=key_of), blanks)


def array_texts(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The texts of arrays."""
    spaced = st.tuples(blanks, values, blanks).map("".join)
    return st.lists(spaced, max_size=4).map(lambda found: "[" + ",".join(found) + "]")


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The texts of arrays and objects."""
    return array_texts(inner) | object_texts(inner)


scalars = st.sampled_from(["null", "true", "false"]) | numbers | string_texts()
values = st.recursive(scalars, containers, max_leaves=6)
objects = object_texts(values)
