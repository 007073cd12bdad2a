"""Which concrete URIs a URI template may have made: for routing, not for reading values out.

Source: RFC 6570 levels 1 to 3, and the `*` and `:n` of level 4. Matching is generous where expansion is
strict (clients fill templates in by hand), and steps through the URI once per part, so no template can make
it slow.
"""

import re
from dataclasses import dataclass
from typing import Final

from edge.printable import cut

MAX_URI_CHARS: Final = 4096
MAX_PARTS: Final = 64

_EXPRESSION: Final = re.compile(r"\{([^{}]*)\}")
_BODY: Final = re.compile(
    r"([+#./;?&]?)([A-Za-z0-9_.%-]+(?::[0-9]{1,4}|\*)?(?:,[A-Za-z0-9_.%-]+(?::[0-9]{1,4}|\*)?)*)"
)


@dataclass(frozen=True, slots=True)
class _Wild:
    """What an expression may expand to: after `lead`, characters other than those in `stops`."""

    lead: str
    stops: str
    may_be_empty: bool


_WILD: Final = {
    "": _Wild("", "/", False),
    "+": _Wild("", "", False),
    "#": _Wild("#", "", True),
    ".": _Wild(".", "/", True),
    "/": _Wild("/", "?#", True),
    ";": _Wild(";", "/?#", True),
    "?": _Wild("?", "#", True),
    "&": _Wild("&", "#", True),
}


class UriTemplate:
    """A template made ready for matching; ValueError says what is wrong with one that is none."""

    __slots__ = ("_parts", "literal_chars", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[str | _Wild] = []
        self.literal_chars = 0
        """How much of it is fixed: of several templates that match, the one with the most is meant."""
        at = 0
        for expression in _EXPRESSION.finditer(text):
            self._literal(text[at : expression.start()])
            body = _BODY.fullmatch(expression[1])
            if body is None:
                raise ValueError(f"{cut(expression[0], 40)!r} is not an expression of RFC 6570")
            self._parts.append(_WILD[body[1]])
            at = expression.end()
        self._literal(text[at:])
        if len(self._parts) > MAX_PARTS:
            raise ValueError(f"more than {MAX_PARTS} parts")

    def _literal(self, text: str) -> None:
        if "{" in text or "}" in text:
            raise ValueError("a brace without its partner")
        if text:
            self._parts.append(text)
            self.literal_chars += len(text)

    def matches(self, uri: str) -> bool:
        """Whether this template may have made `uri`; a URI over MAX_URI_CHARS was made by none."""
        if len(uri) > MAX_URI_CHARS:
            return False
        ends = {0}
        for part in self._parts:
            ends = _after_literal(uri, part, ends) if isinstance(part, str) else _after_wild(uri, part, ends)
            if not ends:
                return False
        return len(uri) in ends


def _after_literal(uri: str, literal: str, starts: set[int]) -> set[int]:
    return {start + len(literal) for start in starts if uri.startswith(literal, start)}


def _after_wild(uri: str, wild: _Wild, starts: set[int]) -> set[int]:
    """Where an expansion can end that begins at one of `starts`."""
    ends = set(starts) if wild.may_be_empty else set()
    inside = False
    for at, char in enumerate(uri):
        begins = at in starts and uri.startswith(wild.lead, at)
        inside = (inside and char not in wild.stops) or (
            begins and (bool(wild.lead) or char not in wild.stops)
        )
        if inside:
            ends.add(at + 1)
    return ends
