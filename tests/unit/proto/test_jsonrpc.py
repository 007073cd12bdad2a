import json

import pytest

from edge.errors import BadMessage
from edge.proto.jsonrpc import (
    INVALID_REQUEST,
    MAX_BATCH,
    PARSE_ERROR,
    ErrorObject,
    Notification,
    Request,
    Response,
    decode,
    decode_batch,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
    id_at_edges,
    may_be_answer,
)
from edge.proto.jsontext import Raw


def refused(text: str | bytes) -> tuple[int, str | None]:
    with pytest.raises(BadMessage) as caught:
        decode(text)
    return caught.value.code, caught.value.id


def test_a_request_keeps_the_letters_of_its_id_and_params() -> None:
    text = ' {"params" : {"n" : 1.0, "m":-0}, "id" : 7.0 , "\\u006dethod":"tools/call","jsonrpc":"2.0"}\r\n'
    params = Raw('{"n" : 1.0, "m":-0}', {"n": 1.0, "m": 0})
    assert decode(text) == Request("7.0", "tools/call", params)
    assert decode(text.encode()) == decode(bytearray(text.encode())) == decode(text)


def test_a_request_needs_no_params() -> None:
    assert decode('{"jsonrpc":"2.0","id":0,"method":"ping"}') == Request("0", "ping", None)


def test_a_notification_is_a_request_without_id() -> None:
    assert decode('{"jsonrpc":"2.0","method":"a","params":{}}') == Notification("a", Raw("{}", {}))
    assert decode('{"jsonrpc":"2.0","method":"a"}') == Notification("a", None)


def test_members_that_nobody_knows_are_passed_over() -> None:
    assert decode('{"jsonrpc":"2.0","method":"a","_x":[1]}') == Notification("a", None)


@pytest.mark.parametrize(
    "id_text", ["7", '"7"', "7.0", "-1", "0", '""', "9223372036854775808", '"\\ud800"', "1e2"]
)
def test_an_id_is_its_text(id_text: str) -> None:
    assert decode(f'{{"jsonrpc":"2.0","id":{id_text},"method":"a"}}') == Request(id_text, "a", None)
    assert decode(f'{{"jsonrpc":"2.0","id":{id_text},"result":{{}}}}') == Response(
        id_text, Raw("{}", {}), None
    )


@pytest.mark.parametrize("id_text", ["null", "true", "1.5", "[]", "{}", "1e400", "9" * 5000])
def test_what_cannot_be_an_id_is_refused(id_text: str) -> None:
    assert refused(f'{{"jsonrpc":"2.0","id":{id_text},"method":"a"}}') == (INVALID_REQUEST, None)
    assert refused(f'{{"jsonrpc":"2.0","id":{id_text},"result":{{}}}}') == (INVALID_REQUEST, None)


@pytest.mark.parametrize("result", ["{}", "null", "0", "[ 1 ]", '"\\u0041"'])
def test_a_result_keeps_its_letters(result: str) -> None:
    text = f'{{"result": {result} ,"id":1,"jsonrpc":"2.0"}}'
    assert decode(text) == Response("1", Raw(result, json.loads(result)), None)


def test_an_error_keeps_code_message_and_the_letters_of_its_data() -> None:
    text = '{"jsonrpc":"2.0","id":"a","error":{"data": {"x" : 1.0},"code":-32042,"message":"no\\n","more":1}}'
    assert decode(text) == Response('"a"', None, ErrorObject(-32042, "no\n", '{"x" : 1.0}'))


def test_an_error_to_something_unreadable_has_no_id_or_null() -> None:
    wanted = Response(None, None, ErrorObject(-32700, "what", None))
    assert decode('{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what"}}') == wanted
    assert decode('{"jsonrpc":"2.0","error":{"code":-32700,"message":"what"}}') == wanted


@pytest.mark.parametrize("id_text", ["true", "1.5", "[]"])
def test_an_error_with_a_strange_id_is_refused(id_text: str) -> None:
    text = f'{{"jsonrpc":"2.0","id":{id_text},"error":{{"code":1,"message":""}}}}'
    assert refused(text) == (INVALID_REQUEST, None)


@pytest.mark.parametrize(
    "rest",
    [
        '"jsonrpc":"2.0"',
        '"jsonrpc":"2.0","params":{}',
        '"jsonrpc":"1.0","method":"a"',
        '"jsonrpc":2.0,"method":"a"',
        '"method":"a"',
        '"jsonrpc":"2.0","method":null',
        '"jsonrpc":"2.0","method":7',
        '"jsonrpc":"2.0","method":"a","params":[]',
        '"jsonrpc":"2.0","method":"a","params":"x"',
        '"jsonrpc":"2.0","method":"a","result":{}',
        '"jsonrpc":"2.0","method":"a","error":{"code":1,"message":""}',
        '"jsonrpc":"2.0","result":{},"error":{"code":1,"message":""}',
        '"jsonrpc":"2.0","error":null',
        '"jsonrpc":"2.0","error":"no"',
        '"jsonrpc":"2.0","error":{}',
        '"jsonrpc":"2.0","error":{"code":"1","message":""}',
        '"jsonrpc":"2.0","error":{"code":true,"message":""}',
        '"jsonrpc":"2.0","error":{"code":1}',
        '"jsonrpc":"2.0","error":{"code":1,"message":null}',
        '"jsonrpc":"2.0","error":{"code":1,"code":1,"message":""}',
    ],
)
def test_what_is_no_message_is_refused_under_its_id(rest: str) -> None:
    assert refused(f'{{"id":7.0,{rest}}}') == (INVALID_REQUEST, "7.0")


def test_a_result_without_an_id_is_refused() -> None:
    assert refused('{"jsonrpc":"2.0","result":{}}') == (INVALID_REQUEST, None)


def test_a_key_that_comes_twice_in_the_envelope_is_refused() -> None:
    assert refused('{"jsonrpc":"2.0","id":1,"method":"a","\\u0069d":2}') == (INVALID_REQUEST, None)


@pytest.mark.parametrize("text", ["[]", '[{"jsonrpc":"2.0","id":1,"method":"a"}]', "1", '"a"', "null"])
def test_what_is_not_an_object_is_no_message(text: str) -> None:
    assert refused(text) == (INVALID_REQUEST, None)


@pytest.mark.parametrize("data", [b"", b"{", b"[", b"\xff", b"\xef\xbb\xbf{}", b'{"id":1,"method":NaN}'])
def test_what_is_not_json_is_a_parse_error(data: bytes) -> None:
    assert refused(data) == (PARSE_ERROR, None)


def test_a_batch_has_each_message_or_its_error() -> None:
    good = '{"jsonrpc":"2.0","id":1,"method":"a"}'
    found = decode_batch(f' [ {good} , 1, {{"id":2,"jsonrpc":"2.0"}}, [{good}]]')
    assert found is not None
    assert found[0] == Request("1", "a", None)
    assert [(e.code, e.id) for e in found[1:] if isinstance(e, BadMessage)] == [
        (INVALID_REQUEST, None),
        (INVALID_REQUEST, "2"),
        (INVALID_REQUEST, None),
    ]


def test_what_is_not_an_array_is_no_batch() -> None:
    assert decode_batch('{"jsonrpc":"2.0","id":1,"method":"a"}') is None
    assert decode_batch("") is None


@pytest.mark.parametrize(
    ("text", "code"),
    [("[]", INVALID_REQUEST), ("[1,", PARSE_ERROR), ("[" + "1," * MAX_BATCH + "1]", INVALID_REQUEST)],
)
def test_an_empty_a_broken_and_an_endless_batch_are_refused_whole(text: str, code: int) -> None:
    with pytest.raises(BadMessage) as caught:
        decode_batch(text)
    assert caught.value.code == code


def test_a_batch_may_be_as_long_as_the_limit() -> None:
    assert len(decode_batch("[" + "1," * (MAX_BATCH - 1) + "1]") or ()) == MAX_BATCH


def test_messages_are_written_as_compact_text() -> None:
    assert encode_request('"1"', 'a"b', None) == '{"jsonrpc":"2.0","id":"1","method":"a\\"b"}'
    assert (
        encode_request("1.0", "a", '{"n" : 1.0}')
        == '{"jsonrpc":"2.0","id":1.0,"method":"a","params":{"n" : 1.0}}'
    )
    assert encode_notification("a", None) == '{"jsonrpc":"2.0","method":"a"}'
    assert encode_notification("a", "{}") == '{"jsonrpc":"2.0","method":"a","params":{}}'
    assert encode_result("1", "{ }") == '{"jsonrpc":"2.0","id":1,"result":{ }}'
    assert (
        encode_error(None, -1, "ä") == '{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"\\u00e4"}}'
    )
    assert (
        encode_error("1", -1, "", "1.0")
        == '{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"","data":1.0}}'
    )


def test_params_that_are_null_count_as_none() -> None:
    assert decode('{"jsonrpc":"2.0","id":1,"method":"a","params":null}') == Request("1", "a", None)


def test_an_error_that_is_null_beside_a_result_is_passed_over() -> None:
    wanted = Response("1", Raw("null", None), None)
    assert decode('{"jsonrpc":"2.0","id":1,"result":null,"error":null}') == wanted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"jsonrpc":"2.0","id":1,"error":"no"}', True),
        ('{"id":1,"result":{}}', True),
        ('{"jsonrpc":"2.0","id":1}', True),
        ("half of an ans", True),
        ('{"jsonrpc":"2.0","id":1,"method":"roots/list","params":[]}', False),
        ('{"level":"info","id":1}', False),
    ],
)
def test_what_may_have_been_meant_as_an_answer(text: str, expected: bool) -> None:
    with pytest.raises(BadMessage):
        decode(text)
    assert may_be_answer(text) is expected


@pytest.mark.parametrize(
    ("head", "tail", "wanted"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":{"a', b"", "7"),
        (b' { "jsonrpc" : "2.0" , "id" : 7 , "error" : {', b"", "7"),
        (b'{"result":{"a', b'"},"jsonrpc":"2.0","id":7}', "7"),
        (b'{"result":{"a', b'"} , "jsonrpc": "2.0", "id": 7 }\r', "7"),
        (b'{"jsonrpc":"2.0","id":7,"method":"a","params":{"a', b"", None),
        (b'{"jsonrpc":"2.0","method":"a","params":{"id":7', b'"}}', None),
        (b"", b"", None),
    ],
)
def test_the_id_of_an_answer_may_be_seen_at_its_ends(head: bytes, tail: bytes, wanted: str | None) -> None:
    assert id_at_edges(head, tail) == wanted
