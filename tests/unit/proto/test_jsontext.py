import json
from json import scanner

import pytest

from edge.errors import BadMessage, LocalProtocolError
from edge.proto import jsontext
from edge.proto.jsontext import (
    INVALID_REQUEST,
    PARSE_ERROR,
    Member,
    Raw,
    decode_text,
    dumps,
    elements,
    is_array,
    members,
    one_line,
    parse,
    replace_members,
    spans,
)

LETTERS = [
    "0",
    "-0",
    "1.0",
    "1e400",
    "9223372036854775808",
    '"\\ud800"',
    '"\\u0041\\/"',
    '{"b":1,"a":[ ]}',
    "null",
]

NOT_JSON = [
    "",
    " ",
    "nul",
    "NaN",
    "Infinity",
    "-Infinity",
    "[NaN]",
    "01",
    "1 2",
    '"a\x01"',
    '"a\nb"',
    '"\\x"',
    '"open',
    "[1,]",
    "[1 2]",
    "[1",
    "{",
    '{"a"',
    '{"a" 1}',
    '{"a":}',
    '{"a":1',
    '{"a":1,}',
    '{"a":1 "b":2}',
    "{,}",
    "{'a':1}",
    '{"a":1}}',
    '{"a\x01":1}',
    '{"\\x":1}',
    '{"\\u0061" 1}',
    "{} {}",
    "\xa01",
    "\ufeff1",
]


def code_of(text: str) -> int:
    with pytest.raises(BadMessage) as caught:
        members(text)
    return caught.value.code


def test_bytes_become_text() -> None:
    assert decode_text(b'"\xc3\xa4"') == '"ä"'
    assert decode_text(bytearray(b"1")) == "1"


@pytest.mark.parametrize("data", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf{}"])
def test_what_is_not_utf8_or_begins_with_a_bom_is_refused(data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        decode_text(data)
    assert caught.value.code == PARSE_ERROR


@pytest.mark.parametrize("text", LETTERS)
def test_a_value_keeps_its_letters_and_loses_outer_white_space(text: str) -> None:
    assert parse(f" \t\r\n{text}\n ") == Raw(text, json.loads(text))


@pytest.mark.parametrize("text", LETTERS)
def test_a_members_span_has_the_letters_of_its_value(text: str) -> None:
    whole = f' {{ "a" : {text} ,\n"b":{text}}} '
    found = members(whole)
    assert [(key, whole[m.start : m.end], m.value) for key, m in found.items()] == [
        ("a", text, json.loads(text)),
        ("b", text, json.loads(text)),
    ]
    assert spans(whole) == found


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_not_json_is_a_parse_error(text: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(text)
    assert caught.value.code == PARSE_ERROR
    assert code_of(text) == PARSE_ERROR
    assert code_of(f'{{"a":{text}}}') == PARSE_ERROR
    with pytest.raises(BadMessage) as caught:
        elements(f"[{text.strip(' ') or ','}]")
    assert caught.value.code == PARSE_ERROR


def test_a_parse_error_says_what_and_where() -> None:
    with pytest.raises(BadMessage, match=r"^not JSON: expecting ',' delimiter at character 3$"):
        parse("[1 2]")
    with pytest.raises(BadMessage, match=r"^not JSON: NaN$"):
        members('{"a":NaN}')


@pytest.mark.parametrize("text", ["1", "[]", '"{}"', "null"])
def test_members_of_what_is_not_an_object_are_refused(text: str) -> None:
    assert code_of(text) == INVALID_REQUEST


@pytest.mark.parametrize("text", ["{}", " { } ", "{\n}"])
def test_an_empty_object_has_no_members(text: str) -> None:
    assert members(text) == {}


@pytest.mark.parametrize(
    "text", ['{"id":1,"id":2}', '{"id":1,"\\u0069d":2}', '{"\\u0069d":1 , "x":0, "id":2}']
)
def test_a_key_that_comes_twice_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadMessage, match="'id' comes twice") as caught:
        members(text)
    assert caught.value.code == INVALID_REQUEST


def test_a_key_with_an_escape_is_the_key_that_it_means() -> None:
    assert members('{"\\u0069d" : 7}') == {"id": Member(7, 13, 14)}
    assert members('{"a":1, "\\"":2,"c":3}') == {
        "a": Member(1, 5, 6),
        '"': Member(2, 13, 14),
        "c": Member(3, 19, 20),
    }


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_a_parse_error(opening: str) -> None:
    deep = opening * 200_000
    with pytest.raises(BadMessage, match="nested too deeply") as caught:
        parse(deep)
    assert caught.value.code == PARSE_ERROR
    assert code_of(f'{{"a":{deep}') == PARSE_ERROR


def test_an_integer_too_long_for_python_is_judged_as_a_float_and_keeps_its_letters() -> None:
    long = "9" * 5000
    assert parse(long) == Raw(long, float("inf"))
    assert parse(f"[-{long},7]").value == [float("-inf"), 7]
    found = members(f'{{"a":{long},"b":1}}')
    assert found == {"a": Member(float("inf"), 5, 5005), "b": Member(1, 5010, 5011)}


def test_elements_of_an_array() -> None:
    assert elements(' [ 1.0 , {"a" : 2},[]\n] ') == [
        Raw("1.0", 1.0),
        Raw('{"a" : 2}', {"a": 2}),
        Raw("[]", []),
    ]
    assert elements("[ ]") == []


def test_an_array_of_too_many_elements_is_refused() -> None:
    assert len(elements("[1,2]", at_most=2)) == 2
    with pytest.raises(BadMessage, match="more than 2 elements") as caught:
        elements("[1,2,3", at_most=2)
    assert caught.value.code == INVALID_REQUEST


@pytest.mark.parametrize("text", ["{}", "1"])
def test_elements_of_what_is_not_an_array_are_refused(text: str) -> None:
    with pytest.raises(BadMessage) as caught:
        elements(text)
    assert caught.value.code == INVALID_REQUEST


def test_an_array_is_known_by_its_bracket() -> None:
    assert is_array("\n [1")
    assert not is_array('{"a":[]}')


@pytest.mark.parametrize(
    ("text", "edits", "wanted"),
    [
        ('{"a":1,"b":2}', {}, '{"a":1,"b":2}'),
        (' { "a" : 1.0 , "b":2 }\n', {"b": '"x"'}, ' { "a" : 1.0 , "b":"x" }\n'),
        ('{"\\u0061":1,"b":2}', {"a": "[]"}, '{"\\u0061":[],"b":2}'),
        ('{"a":1,"b":2,"c":3}', {"a": None}, '{"b":2,"c":3}'),
        ('{ "a":1 , "b":2 }', {"a": None}, '{ "b":2 }'),
        ('{"a":1,"b":2,"c":3}', {"b": None}, '{"a":1,"c":3}'),
        ('{"a":1,"b":2,"c":3}', {"c": None}, '{"a":1,"b":2}'),
        ('{"a":1,"b":2,"c":3}', {"a": None, "b": None}, '{"c":3}'),
        ('{"a":1,"b":2}', {"a": None, "b": None}, "{}"),
        ('{"a":1}', {"a": None, "z": "0"}, '{"z":0}'),
        ('{"a":1}', {"z": "0", "y": "1"}, '{"a":1,"z":0,"y":1}'),
        ("{ }", {"z": "0", 'q"': "1"}, '{"z":0,"q\\"":1 }'),
        ("{}", {"z": None}, "{}"),
        ('{"a":{"a":1},"b":","}', {"b": "2"}, '{"a":{"a":1},"b":2}'),
    ],
)
def test_members_are_replaced_and_the_rest_is_kept(
    text: str, edits: dict[str, str | None], wanted: str
) -> None:
    assert replace_members(text, edits) == wanted


@pytest.mark.parametrize("text", ["[]", "{", '{"a":1,"a":2}'])
def test_nothing_is_replaced_in_what_is_not_an_object_with_differing_keys(text: str) -> None:
    with pytest.raises(BadMessage):
        replace_members(text, {"a": "1"})


def test_one_line_has_no_line_breaks_and_the_same_meaning() -> None:
    text = '{\r\n"a":\n"x\\n"}'
    assert one_line(text) == '{  "a": "x\\n"}'
    assert one_line("[\r]") == "[ ]"


def test_text_without_line_breaks_stays() -> None:
    assert one_line('{ "a":"\u2028"}') == '{ "a":"\u2028"}'


def test_dumps_is_compact_ascii_in_order_of_keys() -> None:
    assert dumps({"b": [1, 2.5, None], "a": "ä\ud800"}) == '{"b":[1,2.5,null],"a":"\\u00e4\\ud800"}'


def test_dumps_refuses_what_json_cannot_say() -> None:
    deep: list[object] = []
    for _ in range(200_000):
        deep = [deep]
    for value in (float("nan"), float("inf"), deep):
        with pytest.raises(LocalProtocolError):
            dumps(value)
    while deep:  # or its end would come by recursion
        deep = deep.pop()  # type: ignore[assignment]  # all the way down it is lists


def test_without_the_c_scanner_everything_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "make_scanner", vars(scanner)["py_make_scanner"])
    slow = jsontext._scanner(None)
    for text in LETTERS:
        assert jsontext._strictly(jsontext._one, text, slow) == parse(text)
    for text in [*NOT_JSON, "[" * 200_000]:
        with pytest.raises(BadMessage) as caught:
            jsontext._strictly(jsontext._one, text, slow)
        assert caught.value.code == PARSE_ERROR
