"""Exact cattrs hooks for the values of a TOML file: nothing is coerced, and errors are sentences.

cattrs as it comes turns `5` into `"5"` and `"false"` into `True`. Here each hook takes a TOML value and
gives it back as the model has it, or raises `BadValues`; no sentence ever holds the value itself.
"""

import difflib
from collections.abc import Collection
from typing import Any, Literal, get_args, get_origin

from cattrs import Converter

from edge.config.rules import BadValues, Finding, PathKey


def suggestion(key: str, known: Collection[str]) -> str:
    """The rest of the sentence about an unknown key."""
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def kind(value: object) -> str:
    """What a TOML value is, for a sentence; never the value itself."""
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    return next(
        (name for type_, name in names.items() if isinstance(value, type_)), f"a {type(value).__name__}"
    )


def bad(text: str, *path: PathKey) -> BadValues:
    return BadValues([Finding(path, text)])


def exact_str(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise bad(f"must be a string, not {kind(value)}")
    return value


def exact_bool(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise bad(f"must be true or false, not {kind(value)}")
    return value


def exact_int(value: object, _: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad(f"must be an integer, not {kind(value)}")
    return value


def exact_float(value: object, _: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise bad(f"must be a number, not {kind(value)}")
    try:
        return float(value)
    except OverflowError:
        raise bad("is too large") from None


def exact_strings(value: object, _: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise bad(f"must be a list of strings, not {kind(value)}")
    wrong = [
        Finding((at,), f"must be a string, not {kind(item)}")
        for at, item in enumerate(value)
        if not isinstance(item, str)
    ]
    if wrong:
        raise BadValues(wrong)
    return tuple(value)


def exact_choice(value: object, type_: Any) -> str:
    choices: tuple[str, ...] = get_args(type_)
    if not isinstance(value, str):
        raise bad(f"must be a string, not {kind(value)}")
    if value not in choices:
        raise bad(f"must be one of {', '.join(choices)}{suggestion(value, choices)}")
    return value


def exact_choices(value: object, type_: Any) -> tuple[str, ...]:
    texts = exact_strings(value, None)
    found: list[Finding] = []
    for at, text in enumerate(texts):
        try:
            exact_choice(text, get_args(type_)[0])
        except BadValues as exc:
            found += [Finding((at,), finding.text) for finding in exc.findings]
        if text in texts[:at]:
            found.append(Finding((at,), "is listed twice"))
    if found:
        raise BadValues(found)
    return texts


def is_choices(type_: Any) -> bool:
    origin: Any = get_origin(type_)
    return origin is tuple and is_choice(get_args(type_)[0])


def is_choice(type_: Any) -> bool:
    origin: Any = get_origin(type_)
    return origin is Literal


def exact_converter() -> Converter:
    """A converter that knows the types of our leaf values, and nothing of coercion."""
    converter = Converter(detailed_validation=False)
    for type_, hook in ((str, exact_str), (bool, exact_bool), (int, exact_int), (float, exact_float)):
        converter.register_structure_hook(type_, hook)
    converter.register_structure_hook_func(is_choice, exact_choice)
    converter.register_structure_hook_func(is_choices, exact_choices)
    converter.register_structure_hook_func(lambda type_: type_ == tuple[str, ...], exact_strings)
    return converter
