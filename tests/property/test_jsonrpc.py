import contextlib

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BadMessage
from edge.proto.jsonrpc import (
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
)
from edge.proto.jsontext import parse
from tests.support import json_texts

ids = st.integers().map(str) | json_texts.string_texts() | st.sampled_from(["7.0", "1e2", "-0"])
params = st.none() | json_texts.objects
words = st.text(max_size=6)


@given(ids, words, params)
def test_decode_inverts_encode_request(id_text: str, method: str, text: str | None) -> None:
    raw = None if text is None else parse(text)
    assert decode(encode_request(id_text, method, text)) == Request(id_text, method, raw)
    assert decode(encode_notification(method, text).encode()) == Notification(method, raw)


@given(ids, json_texts.values)
def test_decode_inverts_encode_result(id_text: str, text: str) -> None:
    assert decode(encode_result(id_text, text)) == Response(id_text, parse(text), None)


@given(st.none() | ids, st.integers(), words, st.none() | json_texts.values)
def test_decode_inverts_encode_error(id_text: str | None, code: int, message: str, data: str | None) -> None:
    wanted = Response(id_text, None, ErrorObject(code, message, data))
    assert decode(encode_error(id_text, code, message, data)) == wanted


envelopes = json_texts.object_texts(
    json_texts.values | st.sampled_from(['"2.0"', '{"code":1,"message":"x"}']),
    st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "x"]),
)


@given(envelopes.map(str.encode) | st.binary() | json_texts.values.map(str.encode))
def test_decode_raises_nothing_but_bad_message(data: bytes) -> None:
    with contextlib.suppress(BadMessage):
        decode(data)


@given(st.lists(envelopes, min_size=1, max_size=4))
def test_a_batch_is_its_messages_one_by_one(texts: list[str]) -> None:
    def outcome(text: str) -> object:
        try:
            return decode(text)
        except BadMessage as exc:
            return exc.code, exc.id, str(exc)

    found = decode_batch(f"[{','.join(texts)}]")
    assert found is not None
    got = [(one.code, one.id, str(one)) if isinstance(one, BadMessage) else one for one in found]
    assert got == [outcome(text) for text in texts]
