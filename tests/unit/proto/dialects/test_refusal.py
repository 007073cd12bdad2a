import pytest

from edge.proto.dialects.mcp_reverse.refusals import judge
from edge.proto.dialects.refusal import MAX_CHARS, detail_of


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"detail":"no such user"}', "no such user"),
        ('{"error":"this token has expired"}', "this token has expired"),
        ('{"error":{"code":1}}', ""),
        ('{"other":"x"}', ""),
        ("Unauthorized", ""),
        ("[]", ""),
        ('{"detail":"a\\nb"}', "a?b"),
        (f'{{"detail":"{"x" * 500}"}}', "x" * MAX_CHARS),
    ],
)
def test_what_a_refusal_says_for_itself_is_found(body: str, text: str) -> None:
    assert detail_of(body) == text


def test_a_refusal_that_says_why_gets_no_guesses_beside_it() -> None:
    reason, _, advice = judge(403, '{"error":"the name must be plant-7"}')
    assert reason.endswith("403 to the opening of the stream: the name must be plant-7")
    assert advice == ""
    assert judge(401, "Unauthorized")[2] != ""
