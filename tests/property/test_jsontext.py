import json

from hypothesis import example, given
from hypothesis import strategies as st

from edge.errors import BadMessage
from edge.proto.jsontext import (
    dumps,
    elements,
    members,
    one_line,
    parse,
    quote,
    replace_members,
    replace_name,
)
from tests.support import json_texts

KEYS = st.text('ab\u00e4\\"', max_size=2)


def loads(text: str) -> object:
    """json.loads, but an integer of thousands of digits is a float, as it is for us."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 4000 else float(digits))


@given(json_texts.values, json_texts.blanks)
def test_parse_is_json_loads_with_the_letters_kept(text: str, blank: str) -> None:
    raw = parse(f"{blank}{text}{blank}")
    assert raw.text == text
    assert raw.value == loads(text)


@given(json_texts.objects)
def test_members_are_those_of_json_loads_and_their_spans_mean_the_same(text: str) -> None:
    found = members(text)
    whole = loads(text)
    assert {key: member.value for key, member in found.items()} == whole
    assert {key: loads(text[member.start : member.end]) for key, member in found.items()} == whole
    assert list(found) == list(json.loads(text, parse_int=float))


@given(json_texts.array_texts(json_texts.values))
def test_elements_are_those_of_json_loads(text: str) -> None:
    found = elements(text)
    assert [raw.value for raw in found] == [loads(raw.text) for raw in found] == loads(text)


@given(
    json_texts.object_texts(json_texts.values, KEYS),
    st.dictionaries(KEYS, st.none() | json_texts.values, max_size=3),
)
@example('{"a":1 , "b":2}', {"a": None})
def test_replace_members_is_the_edit_of_the_parsed_object(text: str, edits: dict[str, str | None]) -> None:
    edited = replace_members(text, edits)
    wanted = {key: text[member.start : member.end] for key, member in members(text).items()}
    for key, value in edits.items():
        if value is None:
            wanted.pop(key, None)
        else:
            wanted[key] = value
    found = members(edited)
    # In order, and letter for letter: this says more than equality of what json.loads gives, which follows.
    assert [(key, edited[m.start : m.end]) for key, m in found.items()] == list(wanted.items())
    assert loads(edited) == {key: loads(value) for key, value in wanted.items()}


@given(json_texts.object_texts(json_texts.values, KEYS), json_texts.values)
def test_replacing_values_leaves_every_other_letter(text: str, value: str) -> None:
    for key, member in members(text).items():
        assert replace_members(text, {key: value}) == text[: member.start] + value + text[member.end :]


@given(json_texts.values)
def test_one_line_means_the_same(text: str) -> None:
    line = one_line(text)
    assert "\n" not in line
    assert "\r" not in line
    assert loads(line) == loads(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_parse_inverts_dumps(value: object) -> None:
    text = dumps(value)
    assert text.isascii()
    assert parse(text) == (text, value)


@given(st.text('{}[]",:\\u0061 \n\t-1.eE+trufalsnNI', max_size=40))
@example('{"a"')
def test_what_json_loads_refuses_is_refused_and_nothing_else_is_raised(text: str) -> None:
    try:
        wanted: object = json.loads(text, parse_constant=lambda _: json.loads(""))
    except ValueError:
        wanted = BadMessage
    found: object
    try:
        found = parse(text).value
    except BadMessage:
        found = BadMessage
    assert found == wanted
    try:
        whole: object = {key: member.value for key, member in members(text).items()}
    except BadMessage as exc:
        assert wanted is BadMessage or not isinstance(wanted, dict) or "comes twice" in str(exc)  # noqa: PT017  one of three
    else:
        assert whole == wanted


@given(
    st.sampled_from(("a", "git__log", "\u00e4", 'q"')),
    st.sampled_from(("", "b", "\u00e4")),
    st.sampled_from(
        ('"arguments":{"x":1.0}', '"arguments":{"name":2}', '"a":"\\u006e"', '"\\u006eame":1', '"name":3', "")
    ),
    st.booleans(),
    st.sampled_from(("", " ")),
)
def test_replace_name_is_replace_members_of_the_name(
    old: str, new: str, rest: str, is_first: bool, blank: str
) -> None:
    name = f'"name":{blank}{quote(old)}'
    parts = [name, rest] if is_first else [rest, name]
    text = f"{{{blank}{','.join(part for part in parts if part)}{blank}}}"
    try:
        wanted: str | None = replace_members(text, {"name": quote(new)})
    except BadMessage:  # the name comes twice
        wanted = None
    try:
        assert replace_name(text, old, new) == wanted
    except BadMessage:
        assert wanted is None
