"""Foreign files as plain values: what is read, with which lines, and what is refused."""

import pytest

from edge.config.importers.document import MAX_DEPTH
from edge.config.importers.jsonc import read_json
from edge.config.importers.yaml_text import read_yaml
from edge.errors import ConfigError


def problems(read: object, text: str) -> list[str]:
    assert callable(read)
    with pytest.raises(ConfigError) as caught:
        read(text, "f")
    return [str(problem) for problem in caught.value.problems]


def test_json_with_comments_and_trailing_commas_is_read_with_lines() -> None:
    document = read_json('// a\n{\n  "a": [1, 2.5, -0e1,], /* b\n */ "b": {"c": "\\u00e9//"},\n}', "f")
    assert document.value == {"a": [1, 2.5, -0.0], "b": {"c": "é//"}}
    assert document.place(("a", 1)) == "f:3: a[1]"
    assert document.place(("b", "c", "none")) == "f:4: b.c.none"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a" 1}', "f:1:6: not JSON: a colon is expected after a key"),
        ('{"a": 1 "b": 2}', "f:1:9: not JSON: a comma or } is expected"),
        ('{\n"a": "x', "f:2:6: not JSON: a string does not end"),
        ("{a: 1}", "f:1:2: not JSON: a key in double quotes is expected"),
        ('{"a": NaN}', "f:1:7: not JSON: a word that is neither a number nor true, false or null"),
        ('{"a": 1} x', "f:1:10: not JSON: something follows after the end"),
        ('{"a": ,}', "f:1:7: not JSON: a value is missing before ,"),
        ('{"a": [1', "f:1:9: not JSON: it ends too early"),
        ('{"a": "\\ud800"}', "f:1:7: not JSON: a string with half a surrogate pair"),
        ('{"a": "\t"}', "f:1:7: not JSON: a string with a control character or an escape that is none"),
        ("[" * 100, f"f:1:{MAX_DEPTH + 2}: not JSON: nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "f:1:7: not JSON: a number with too many digits"),
    ],
)
def test_what_is_no_json_is_said_with_its_place(text: str, said: str) -> None:
    assert problems(read_json, text) == [said]


def test_every_key_that_is_there_twice_is_said_in_json_and_yaml() -> None:
    assert problems(read_json, '{"a": 1,\n"a": 2, "b": {"c": 1,\n"c": 1}}') == [
        "f:2: a: this key is there twice",
        "f:3: b.c: this key is there twice",
    ]
    assert problems(read_yaml, "a: 1\na: 2\nb:\n  c: 1\n  c: 2\n") == [
        "f:2: a: this key is there twice",
        "f:5: b.c: this key is there twice",
    ]


def test_yaml_is_read_by_the_core_schema_with_lines() -> None:
    document = read_yaml(
        "a: [yes, on, 0x1f, 010, 1e3, ~, true, 2001-01-01, 1_0x]\nb: &x {c: '3'}\nd: *x\n"
        "e: {<<: *x, f: 1}\n8080: !!str 1\n",
        "f",
    )
    assert document.value == {
        "a": ["yes", "on", 31, 10, 1000.0, None, True, "2001-01-01", "1_0x"],
        "b": {"c": "3"},
        "d": {"c": "3"},
        "e": {"c": "3", "f": 1},
        "8080": "1",
    }
    assert document.place(("e", "f")) == "f:4: e.f"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2", "f:2:2: not YAML: expected ',' or ']', but got ':'"),
        ("a: *b\n", "f:1:4: not YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", "f:2:1: not YAML: but found another document"),
        ("a: !!python/object:os.system x\n", "f:1: a: has a tag (!); only plain values are read"),
        ("? [a]\n: 1\n", "f:1: has a key that is no plain text"),
        ("a:\n  <<: 3\n", "f:1: a: merges (<<) what is no mapping"),
        ("[" * 2000, "f: is nested too deeply"),
        ("a: \x07\n", "f:1: not YAML: special characters are not allowed"),
    ],
)
def test_what_has_no_place_in_yaml_is_said(text: str, said: str) -> None:
    assert problems(read_yaml, text) == [said]


def test_aliases_that_multiply_are_refused_in_no_time() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    (said,) = problems(read_yaml, bomb)
    assert "has more than 100000 values, or its aliases make it so" in said


def test_an_alias_to_what_is_around_it_is_refused() -> None:
    (said,) = problems(read_yaml, "a: &a [*a]\n")
    assert "nested too deeply, or its aliases make it so" in said
