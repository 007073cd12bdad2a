"""What an answer that is no success means for the next attempt, and what the operator can do."""

from typing import Final

from edge.proto.dialect import Hurry
from edge.proto.dialects.refusal import detail_of

TOKEN_ADVICE: Final = "the token is missing or wrong, or the name is not one that it allows"  # noqa: S105  words
PATH_ADVICE: Final = "nothing there: the url ends before /sse, as in https://host/mcp-reverse"
MOVED_ADVICE: Final = "write the address that it points to into url"
STREAM_ADVICE: Final = (
    "what answers is no mcp-reverse endpoint, or something between takes the X-Session-Id header away"
)
SIZE_ADVICE: Final = "lower max_message_bytes here, or raise the other end's"


def judge(status: int, body: str = "") -> tuple[str, Hurry, str]:
    """Of the stream's opening: reason, hurry, advice."""
    reason = f"the acceptor answered {status} to the opening of the stream"
    detail = detail_of(body)
    if detail:
        reason += f": {detail}"
    if status >= 500 or status in (408, 425):
        return reason, Hurry.NORMAL, ""
    advice = {401: TOKEN_ADVICE, 403: TOKEN_ADVICE, 404: PATH_ADVICE, 429: ""}
    if detail and status in (401, 403):  # it says itself what is wrong
        return reason, Hurry.SLOW, ""
    usual = MOVED_ADVICE if 300 <= status < 400 else STREAM_ADVICE
    return reason, Hurry.SLOW, advice.get(status, usual)
