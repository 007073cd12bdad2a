"""Whether a tool, prompt, resource or template has the shape MCP gives it, where clients insist on it.

Source: MCP 2025-11-25, schema. Official clients read a list with all its items as one value: a single item
that breaks the schema costs them the whole list (observed from TypeScript SDK 1.32). So what they check is
checked here, item by item. Members that the schema does not name are nobody's business.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from edge.printable import cut

Check = Callable[[Any], str | None]
"""What is wrong with a value, as the end of a sentence ("must be a string"), or None."""


def _kind(expected: type, words: str) -> Check:
    def check(value: Any) -> str | None:
        return None if type(value) is expected else f"must be {words}"

    return check


def _each(check_one: Check) -> Check:
    def check(value: Any) -> str | None:
        if type(value) is not list:
            return "must be an array"
        for index, element in enumerate(value):
            wrong = check_one(element)
            if wrong is not None:
                return f"[{index}] {wrong}"
        return None

    return check


def _object(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    def check(value: Any) -> str | None:
        if type(value) is not dict:
            return "must be an object"
        return next(iter(_wrong_members(value, required, optional)), None)

    return check


def _wrong_members(
    value: dict[str, Any], required: Mapping[str, Check], optional: Mapping[str, Check]
) -> list[str]:
    for key, check in required.items():
        wrong = check(value[key]) if key in value else "is missing"
        if wrong is not None:
            return [f"{key} {wrong}"]
    for key, check in optional.items():
        if key in value:
            wrong = check(value[key])
            if wrong is not None:
                return [f"{key} {wrong}"]
    return []


def _name(value: Any) -> str | None:
    if type(value) is not str:
        return "must be a string"
    if not value:
        return "must not be empty"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None


def _one_of(*words: str) -> Check:
    def check(value: Any) -> str | None:
        return None if value in words else f"must be one of {', '.join(words)}"

    return check


def _number(value: Any) -> str | None:
    return None if type(value) in (int, float) else "must be a number"


def _values_are_objects(value: Any) -> str | None:
    if type(value) is not dict:
        return "must be an object"
    for key, inner in value.items():
        if type(inner) is not dict:
            return f"{cut(key, 64)!r} must be an object"
    return None


_STRING = _kind(str, "a string")
_BOOLEAN = _kind(bool, "a boolean")
_OBJECT = _kind(dict, "an object")
_SCHEMA = _object(
    {"type": _one_of("object")}, {"properties": _values_are_objects, "required": _each(_STRING)}
)
_HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_TOOL_ANNOTATIONS = _object({}, {"title": _STRING, **dict.fromkeys(_HINTS, _BOOLEAN)})
_ANNOTATIONS = _object(
    {}, {"audience": _each(_one_of("user", "assistant")), "priority": _number, "lastModified": _STRING}
)
_ICONS = _each(_object({"src": _STRING}, {"mimeType": _STRING, "sizes": _each(_STRING), "theme": _STRING}))
_ARGUMENT = _object({"name": _STRING}, {"title": _STRING, "description": _STRING, "required": _BOOLEAN})
_COMMON: Final[Mapping[str, Check]] = {
    "title": _STRING,
    "description": _STRING,
    "icons": _ICONS,
    "_meta": _OBJECT,
}

REQUIRED: Final[Mapping[str, Mapping[str, Check]]] = {
    "tools": {"name": _name, "inputSchema": _SCHEMA},
    "prompts": {"name": _name},
    "resources": {"uri": _name, "name": _STRING},
    "resourceTemplates": {"uriTemplate": _name, "name": _STRING},
}
OPTIONAL: Final[Mapping[str, Mapping[str, Check]]] = {
    "tools": {**_COMMON, "outputSchema": _SCHEMA, "annotations": _TOOL_ANNOTATIONS, "execution": _OBJECT},
    "prompts": {**_COMMON, "arguments": _each(_ARGUMENT)},
    "resources": {**_COMMON, "mimeType": _STRING, "annotations": _ANNOTATIONS, "size": _number},
    "resourceTemplates": {**_COMMON, "mimeType": _STRING, "annotations": _ANNOTATIONS},
}


def wrong_with(kind: str, item: Any) -> str | None:
    """Why `item` must not be in a list of `kind`, or None. Members that are null must be gone already."""
    return _object(REQUIRED[kind], OPTIONAL[kind])(item)


def null_members(kind: str, item: dict[str, Any]) -> list[str]:
    """Optional members that are null: some servers write that for "absent", and strict clients refuse it."""
    return [key for key in OPTIONAL[kind] if key in item and item[key] is None]
