"""Bodies of the long-poll dialect, and the answers to those that are none."""

import json

import pytest

from edge.proto.dialects.long_poll import frames
from edge.proto.dialects.long_poll.frames import Answer, Registration, Reply


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("session_id=abc", "abc"),
        ("x=1&session_id=a%2Db&session_id=second", "a-b"),
        ("session_id=", ""),
        ("session=abc", frames.MISSING_SESSION),
        ("", frames.MISSING_SESSION),
    ],
)
def test_the_session_is_in_the_query_or_missing(query: str, found: str | Answer) -> None:
    assert frames.session_of(query) == found


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("a3e8255c51716b6e", True),
        ("A-b" * 10, True),
        ("short", False),
        ("x" * 129, False),
        ("a b" * 8, False),
    ],
)
def test_only_what_could_be_a_secret_and_needs_no_escape_is_adopted(text: str, good: bool) -> None:
    assert frames.is_session_id(text) is good


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("[]", Registration(None, None)),
        ('{"type":"mcp_server"}', Registration(None, None)),
        ('{"name":7,"description":[]}', Registration(None, None)),
        (frames.registration_body("plant-7", "Pumps", 9), Registration("plant-7", "Pumps")),
        ("", frames.INVALID_REQUEST),
        ("{", frames.INVALID_REQUEST),
    ],
)
def test_any_json_value_registers_and_only_texts_name_the_edge(
    body: str, found: Registration | Answer
) -> None:
    assert frames.read_registration(body) == found


def test_the_register_answer_is_the_real_hubs_letter_for_letter() -> None:
    assert frames.register_answer("a3e8255c51716b6e") == (
        200,
        '{"session_id":"a3e8255c51716b6e","poll_endpoint":"/poll","response_endpoint":"/response"}',
    )


def test_the_register_answer_names_endpoints_below_the_path_that_was_used() -> None:
    found = frames.read_register_answer(frames.register_answer("s", "/e/SECRET").body)
    assert found == ("s", "/e/SECRET/poll", "/e/SECRET/response")


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"session_id":7}', '{"session_id":""}', '{"session_id":"a b"}']
)
def test_an_answer_without_a_usable_session_is_none(body: str) -> None:
    assert frames.read_register_answer(body) is None


@pytest.mark.parametrize(
    "endpoint", ["https://elsewhere/poll", "//elsewhere/poll", "poll", "/a?b", "/\n", 7, None]
)
def test_endpoints_that_are_no_paths_of_this_origin_are_not_followed(endpoint: object) -> None:
    found = frames.read_register_answer(json.dumps({"session_id": "s", "poll_endpoint": endpoint}))
    assert found == ("s", None, None)


@pytest.mark.parametrize(
    ("base", "endpoint", "target"),
    [
        ("", "/poll", "/poll"),
        ("/hub", "/poll", "/hub/poll"),
        ("/hub", "/hub/poll", "/hub/poll"),
        ("/hub", "/hubs/poll", "/hub/hubs/poll"),
    ],
)
def test_endpoints_lie_below_the_uplinks_own_path(base: str, endpoint: str, target: str) -> None:
    assert frames.target_of(base, endpoint, {}) == target


def test_the_users_query_comes_before_the_session_which_is_escaped() -> None:
    assert frames.target_of("", "/poll", {"a": "b&c"}, "s/1") == "/poll?a=b%26c&session_id=s%2F1"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"request_id":"r","request": {"id": 1.0} }', ("r", '{"id": 1.0}')),
        ('{"request_id":"r"}', ("r", None)),
        ('{"request_id":7,"request":{}}', None),
        ('{"request":{}}', None),
        ("[]", None),
        ("<html>", None),
    ],
)
def test_an_envelope_needs_an_id_to_be_answered_under(
    body: str, found: tuple[str, str | None] | None
) -> None:
    assert frames.read_envelope(body) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"request_id":"r","response": [1.0]}', Reply("r", "[1.0]")),
        ("nonsense", frames.INVALID_RESPONSE),
        ("", frames.INVALID_RESPONSE),
        ("[]", frames.INVALID_FORMAT),
        ('{"response":{}}', frames.INVALID_FORMAT),
        ('{"request_id":7}', frames.INVALID_FORMAT),
        ('{"request_id":7,"response":{}}', frames.INVALID_RESPONSE),
        ('{"request_id":"r","response":{},"response":{}}', frames.INVALID_FORMAT),
    ],
)
def test_a_response_is_checked_as_the_real_hub_does_keys_before_types(
    body: str, found: Reply | Answer
) -> None:
    assert frames.read_response(body) == found


def test_what_is_written_is_read_again() -> None:
    assert frames.read_envelope(frames.envelope('r"1', '{"id":1}')) == ('r"1', '{"id":1}')
    assert frames.read_response(frames.reply_body('r"1', "{}")) == ('r"1', "{}")


def test_frames_go_together_up_to_a_limit_and_a_large_one_alone() -> None:
    small, large = "x" * 100_000, "x" * 300_000
    assert frames.batch([small, small, small]) == 2
    assert frames.batch([large, small]) == 1
    assert frames.batch([small]) == 1
    assert frames.batch([small, small, small], 100_002) == 1
