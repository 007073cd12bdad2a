"""How an HTTP call of the connector ended, as a step of its table, and what that means for the link."""

from dataclasses import dataclass, field
from typing import Final

from edge.proto.dialect import CallFailed, Event, Replied
from edge.proto.dialects.refusal import advice_for, detail_of

PASSING: Final = frozenset({408, 425, 429})
"""Statuses below 500 that may be another one next time."""

PATH_ADVICE: Final = "look at the path of the url, and that the hub speaks long-poll"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`status` None: there was no answer, for `reason`."""

    tag: str
    status: int | None
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    may_have_arrived: bool = True

    @property
    def is_passing(self) -> bool:
        """Whether the same call may well succeed a little later."""
        return self.status is None or self.status in PASSING or self.status >= 500

    @property
    def is_final(self) -> bool:
        """Whether it will not help to hurry."""
        return not self.is_passing

    @property
    def problem(self) -> str:
        if self.status is None:
            return self.reason
        detail = detail_of(self.body) if self.status >= 400 else ""
        return f"the hub answered {self.status}{f': {detail}' if detail else ''}"

    @property
    def advice(self) -> str:
        """For the operator; empty if it will pass."""
        if self.status is None or self.is_passing:
            return ""
        if 300 <= self.status < 400:
            return "the hub redirects: write the address it points to as the url"
        usual = "what answers at the url may be no long-poll hub"
        if self.status in (401, 403):
            usual = "the token is missing, wrong or expired, or does not allow this name"
        elif self.status in (404, 405):
            usual = PATH_ADVICE
        return advice_for(self.status, self.body, usual=usual, path=PATH_ADVICE)


class RegisterEnded(Outcome):
    """POST /register."""


class PollEnded(Outcome):
    """GET /poll."""


class PostEnded(Outcome):
    """POST /response."""


class ProbeEnded(Outcome):
    """POST /response for nothing, to see whether there is an answer."""


KINDS: Final[dict[str, type[Outcome]]] = {
    "register": RegisterEnded,
    "poll": PollEnded,
    "response": PostEnded,
    "probe": ProbeEnded,
}


def outcome_of(event: Event) -> Event | Outcome:
    """The step that `event` is: the end of a call becomes an `Outcome`, all else stays."""
    if isinstance(event, Replied):
        kind = KINDS[event.tag.partition("-")[0]]
        return kind(event.tag, event.status, event.body, dict(event.headers))
    if isinstance(event, CallFailed):
        kind = KINDS[event.tag.partition("-")[0]]
        return kind(event.tag, None, reason=event.reason, may_have_arrived=event.may_have_arrived)
    return event
