"""What an answer that is no success means for the next attempt, and what the operator can do."""

from typing import Final

from edge.proto.dialect import Hurry
from edge.proto.dialects.refusal import advice_for, detail_of

TOKEN_ADVICE: Final = "the token is missing or wrong, or the name is not one that it allows"  # noqa: S105  words
PATH_ADVICE: Final = "the url ends before /sse, as in https://host/mcp-reverse"
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
    if 300 <= status < 400:
        return reason, Hurry.SLOW, MOVED_ADVICE
    usual = {401: TOKEN_ADVICE, 403: TOKEN_ADVICE, 404: PATH_ADVICE, 429: ""}.get(status, STREAM_ADVICE)
    return reason, Hurry.SLOW, advice_for(status, body, usual=usual, path=PATH_ADVICE)
