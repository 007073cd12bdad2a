"""Text that cannot end a line, pose as another one or steer a terminal."""

import json
import re

# C0, C1, line and paragraph separators, bidirectional overrides, lone surrogates
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
CUT = "…"
SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(text: str) -> str:
    """A JSON string: readable beyond ASCII, harmless on a terminal."""
    return UNSAFE.sub(as_unicode_escape, json.dumps(text, ensure_ascii=False))


def escaped(text: str) -> str:
    return UNSAFE.sub(lambda match: SHORT_ESCAPES.get(match[0]) or as_unicode_escape(match), text)


def cut(text: str, at_most: int) -> str:
    """The beginning of a text, with `…` for what was left out.

    By this sign a redactor knows the beginning of a secret before it, so it is for all texts of others that are cut
    before one has seen them.
    """
    return text if len(text) <= at_most else text[:at_most] + CUT


def as_unicode_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
