"""JSON as text: parsed once to be judged, forwarded letter for letter.

What is parsed here keeps the span it was read from, so that numbers (2^63, 1.0, -0), escapes, key order and
unknown members reach the other side exactly as they were written, and large values are never encoded again.
An object is walked member by member: one regular expression per key, json's own C scanner per value.
Source: RFC 8259; stricter than Python's json module (no NaN, no Infinity, no duplicate keys where we look).
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from json.decoder import scanstring  # type: ignore[attr-defined]  # public there, unknown to typeshed
from typing import Any, Final, NamedTuple, TypeVar

from edge.errors import BadMessage, LocalProtocolError
from edge.printable import cut

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600

Scan = Callable[[str, int], tuple[Any, int]]
R = TypeVar("R")
Span = tuple[Any, int, int]
"""What a `Member` is, as the plain tuple that is made six times faster."""


class Raw(NamedTuple):
    """One JSON value: its letters as received (no outer white space), and what they mean."""

    text: str
    value: Any


class Member(NamedTuple):
    """One member of an object: its value, and where in the object's text the value stands."""

    value: Any
    start: int
    end: int


def decode_text(data: bytes | bytearray) -> str:
    """UTF-8 bytes to text; a byte order mark is refused (RFC 8259 section 8.1)."""
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise BadMessage(PARSE_ERROR, f"not UTF-8 at byte {exc.start}") from None
    if text[:1] == "\ufeff":
        raise BadMessage(PARSE_ERROR, "begins with a byte order mark")
    return text


def parse(text: str) -> Raw:
    """Exactly one JSON value. An integer too long for Python's int is judged as a float; its text stays."""
    return _strictly(_one, text)


def members(text: str) -> dict[str, Member]:
    """The members of the one object that `text` is, in order; a key that comes twice is refused.

    Only this object's keys are compared: in the objects within it the last duplicate counts, as in json.
    """
    return {key: Member(*span) for key, span in _strictly(_object, text).items()}


def spans(text: str) -> dict[str, Span]:
    """`members` for the hot path."""
    return _strictly(_object, text)


def elements(text: str, *, at_most: int = sys.maxsize) -> list[Raw]:
    """The elements of the one array that `text` is; one with more than `at_most` is refused on the way."""
    return _strictly(partial(_array, at_most=at_most), text)


def is_array(text: str) -> bool:
    """Whether `text` can only be an array; it may still be broken further on."""
    return _BRACKET(text) is not None


def replace_members(text: str, edits: Mapping[str, str | None]) -> str:
    """An object's text with other value texts: None removes a member, one that is not there is appended.

    Everything else stays letter for letter; with a removed member goes the comma before it (or, for the
    first, after it).
    """
    found = _strictly(_object, text)
    left = dict(edits)
    inside = at = text.index("{") + 1
    pieces = [text[:at]]
    is_first = True
    for key, (_, start, end) in found.items():
        value: str | None = left.pop(key) if key in left else text[start:end]
        if value is not None:
            if is_first and at > inside:
                at = (
                    text.index(",", at) + 1
                )  # what stood before is gone, and only white space precedes its comma
            pieces += (text[at:start], value)
            is_first = False
        at = end
    for key, value in left.items():
        if value is not None:
            pieces.append(f"{quote(key)}:{value}" if is_first else f",{quote(key)}:{value}")
            is_first = False
    pieces.append(text[at:])
    return "".join(pieces)


def replace_name(text: str, old: str, new: str) -> str:
    """`replace_members(text, {"name": new})` for an object whose `name` is the string `old`.

    Clients write the name first: then the rest needs not be read again, if it cannot hold another one.
    """
    lead = f'{{"name":{quote(old)}'
    if text.startswith(lead) and text.count('"name"') == 1 and "\\u" not in text:
        return f'{{"name":{quote(new)}{text[len(lead) :]}'
    return replace_members(text, {"name": quote(new)})


def one_line(text: str) -> str:
    """JSON text without CR and LF: raw ones can only be white space between tokens, so blanks will do."""
    if "\n" in text or "\r" in text:
        return text.replace("\n", " ").replace("\r", " ")
    return text


def dumps(value: Any) -> str:
    """Compact ASCII JSON text, keys in their order. NaN and infinity (what `1e400` parses to) are refused."""
    try:
        return _encode(value)
    except (ValueError, RecursionError) as exc:
        raise LocalProtocolError(f"cannot be written as JSON: {exc}") from None


def _refuse_constant(name: str) -> Any:
    raise BadMessage(PARSE_ERROR, f"not JSON: {name}")


def _scanner(parse_int: Callable[[str], Any] | None) -> Scan:
    decoder = json.JSONDecoder(parse_int=parse_int, parse_constant=_refuse_constant)
    scan: Scan = decoder.scan_once  # type: ignore[attr-defined]  # C where there is C, else Python; not in typeshed
    return scan


def _long_int(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # more digits than sys.get_int_max_str_digits()
        return float(text)


quote: Final = json.encoder.encode_basestring_ascii  # a str to its JSON text, in C
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_scan = _scanner(None)
_scan_long_ints = _scanner(_long_int)

# Possessive repeats (*+): none of these can be made to backtrack.
_WS = r"[ \t\n\r]*+"
_PLAIN_KEY = _WS + r'"([^"\\\x00-\x1f]*+)"' + _WS + ":" + _WS
_SPACE = re.compile(_WS).match
_BRACKET = re.compile(_WS + r"\[").match
_FIRST_KEY = re.compile(_WS + r"\{" + _PLAIN_KEY).match
_NEXT_KEY_OR_END = re.compile(_WS + "(?:," + _PLAIN_KEY + r"|\}" + _WS + r"\Z)").match  # no key: the end
_OPEN_OBJECT = re.compile(_WS + r"\{" + _WS).match
_OPEN_ARRAY = re.compile(_WS + r"\[" + _WS).match
_SEPARATOR = re.compile(_WS + "," + _WS).match
_COLON = re.compile(_WS + ":" + _WS).match
_END_EMPTY = re.compile(r"\}" + _WS + r"\Z").match
_END_ARRAY = re.compile(_WS + r"\]" + _WS + r"\Z").match


def _strictly(walk: Callable[[str, Scan], R], text: str, scan: Scan = _scan) -> R:
    """Runs `walk`, with everything that json raises turned into BadMessage."""
    try:
        return walk(text, scan)
    except StopIteration as exc:
        raise _not_json("a value is missing", exc.value) from None
    except json.JSONDecodeError as exc:
        raise _not_json(exc.msg[:1].lower() + exc.msg[1:].removesuffix(" at"), exc.pos) from None
    except RecursionError:
        raise BadMessage(PARSE_ERROR, "nested too deeply") from None
    except ValueError:
        # Only int() raises the plain kind. The hook that avoids it costs a call per integer, so it is
        # not in the scanner that everything else uses.
        return _strictly(walk, text, _scan_long_ints)


def _not_json(what: str, at: int) -> BadMessage:
    return BadMessage(PARSE_ERROR, f"not JSON: {what} at character {at}")


def _one(text: str, scan: Scan) -> Raw:
    start = _SPACE(text).end()  # type: ignore[union-attr]  # the pattern matches anything
    value, end = scan(text, start)
    if end != len(text) and _SPACE(text, end).end() != len(text):  # type: ignore[union-attr]  # as above
        raise _not_json("more text after the value", end)
    return Raw(text[start:end], value)


def _object(text: str, scan: Scan) -> dict[str, Span]:
    found: dict[str, Span] = {}
    step = _FIRST_KEY(text)
    if step is None:
        opening = _OPEN_OBJECT(text)
        if opening is None:
            _one(text, scan)  # raises if it is not JSON at all
            raise BadMessage(INVALID_REQUEST, "not an object")
        if _END_EMPTY(text, opening.end()):
            return found
        key, start = _hard_key(text, opening.end())
    else:
        key, start = step[1], step.end()
    while True:
        value, end = scan(text, start)
        if key in found:
            raise BadMessage(INVALID_REQUEST, f"member {cut(key, 64)!r} comes twice")
        found[key] = (value, start, end)
        step = _NEXT_KEY_OR_END(text, end)
        if step is not None:
            key = step[1]
            if key is None:
                return found
            start = step.end()
        else:
            separator = _SEPARATOR(text, end)
            if separator is None:
                raise _not_json("expecting ',' or the end of the object", end)
            key, start = _hard_key(text, separator.end())


def _hard_key(text: str, at: int) -> tuple[str, int]:
    """A key that the patterns do not take, because there is an escape in it; or what is wrong there."""
    if text[at : at + 1] != '"':
        raise _not_json("expecting a key in double quotes", at)
    key, at = scanstring(text, at + 1, True)
    colon = _COLON(text, at)
    if colon is None:
        raise _not_json("expecting ':'", at)
    return key, colon.end()


def _array(text: str, scan: Scan, at_most: int) -> list[Raw]:
    opening = _OPEN_ARRAY(text)
    if opening is None:
        _one(text, scan)  # raises if it is not JSON at all
        raise BadMessage(INVALID_REQUEST, "not an array")
    found: list[Raw] = []
    start = opening.end()
    if _END_ARRAY(text, start):
        return found
    while True:
        if len(found) == at_most:
            raise BadMessage(INVALID_REQUEST, f"an array of more than {at_most} elements")
        value, end = scan(text, start)
        found.append(Raw(text[start:end], value))
        separator = _SEPARATOR(text, end)
        if separator is None:
            if _END_ARRAY(text, end):
                return found
            raise _not_json("expecting ',' or the end of the array", end)
        start = separator.end()
