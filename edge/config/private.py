"""What is a secret, by its name or by its look: for what must not show, and for what `import` does not carry over.

Rather one too many than one too few.
"""

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

SECRET_WORDS = frozenset(
    {
        "authorization",
        "bearer",
        "cookie",
        "credential",
        "credentials",
        "jwt",
        "key",
        "keys",
        "pass",
        "passphrase",
    }
    | {"passwd", "password", "pat", "private", "pwd", "secret", "secrets", "token", "tokens", "dsn"}
)
SECRET_ENDS = ("key", "token", "secret", "password", "cookie", "authorization")
# What a name ends in that is about a secret, and holds none.
HARMLESS_ENDS = frozenset(
    {"count", "dir", "field", "file", "header", "id", "limit", "max", "mode", "name", "path", "size", "sock"}
    | {"timeout", "ttl", "type", "url"}
)
# Words that a name of a secret may stand before, and that half of all lines have.
COMMON = frozenset(
    {"true", "false", "yes", "no", "on", "off", "none", "null", "auto", "default", "enabled", "disabled"}
    | {"auth", "basic", "bearer", "digest", "oauth", "oauth2", "required", "optional", "localhost"}
)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
KNOWN_TOKEN = re.compile(
    r"(?:sk-|sk_|pk_|rk_|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|AKIA|ASIA|AIza|eyJ|ya29\.|hf_|npm_|pypi-|SG\."
    r"|dop_v1_|shpat_|lin_api_|ntn_|figd_|tvly-|gsk_|r8_)[A-Za-z0-9_.\-]{8,}"
)
# Long, letters and digits; not a digest or commit, which are written after these signs.
RANDOM = re.compile(r"(?<![A-Za-z0-9:@])(?=[A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{20,}")
UUID = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
WITH_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/@\s:]*:[^/@\s]+@")
CREDENTIAL = re.compile(r"(?:bearer|basic|token|api-key)\s+\S+", re.IGNORECASE)
FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*):\s*(.+)", re.DOTALL)  # of a header
OPTION = re.compile(r"^--?[A-Za-z][A-Za-z0-9-]*=")  # before what an option is given
NAME_AT_END = re.compile(r"[\w .-]+$")
FILE_NAME = re.compile(r"(?:~|\.{1,2})?/[^\0\n]*\.[A-Za-z0-9]{1,8}|[A-Za-z]:\\.*")


def is_secret_name(name: str) -> bool:
    """A variable, header, option or parameter of this name holds a secret."""
    words = [word.lower() for word in WORD.findall(name)]
    if not words or words[-1] in HARMLESS_ENDS:
        return False
    return words[-1] == "auth" or any(word in SECRET_WORDS or word.endswith(SECRET_ENDS) for word in words)


def is_token(value: str) -> bool:
    """A text looks like a secret by itself, whatever it is called."""
    looks = (KNOWN_TOKEN, RANDOM, UUID, WITH_PASSWORD)
    if any(pattern.search(value) for pattern in looks) or CREDENTIAL.fullmatch(value.strip()):
        return True
    return next(secrets_within(value), None) is not None


def is_private(name: str, value: str) -> bool:
    """A value under this name is not for a config file."""
    return not is_common(value) and (is_token(value) or is_named_secret(name, value))


def is_named_secret(name: str, value: str) -> bool:
    """A value is a secret because of its name; one that cannot be a secret is not, whatever its name is."""
    if not is_secret_name(name) or is_common(value) or FILE_NAME.fullmatch(value):
        return False
    return not (name.lower().endswith(("tokens", "keys")) and value.isdecimal())


def is_common(value: str) -> bool:
    return not value.strip() or value.strip().lower() in COMMON


def hidden_in(name: str, value: str) -> Iterator[str]:
    """What must not show of a value: all of it if its name says so, otherwise the secrets within."""
    if is_named_secret(name, value):
        yield value
        yield from without_scheme(value)
    yield from secrets_within(value)


def without_scheme(value: str) -> Iterator[str]:
    """What comes after `Bearer` and the like; of `Basic` also the password."""
    scheme, blank, rest = value.strip().partition(" ")
    if blank:
        yield rest.strip()
    if scheme.lower() == "basic":
        try:
            yield b64decode(rest).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return


def secrets_within(value: str) -> Iterator[str]:
    """The parts of a text that are secrets by their place in it, or look like tokens that are known.

    Passwords and parameters of URLs; `Password=…` and its like in a list; members of JSON; a header's value, also
    without its name (`Bearer …`).
    """
    yield from (found[0] for found in KNOWN_TOKEN.finditer(value))
    if CREDENTIAL.fullmatch(value.strip()):
        yield from (part for part in without_scheme(value) if not is_common(part))
    if "://" in value:
        head, _, query = value.partition("#")[0].partition("?")
        authority = head.partition("://")[2].partition("/")[0]
        yield from filter(None, [authority.rpartition("@")[0].partition(":")[2]])
        yield from secrets_of_list(query)
    if "://" not in value or ";" in value:  # a connection string may have a URL among its parts
        yield from secrets_of_list(value)
    if field := FIELD.fullmatch(OPTION.sub("", value)):
        name, rest = field[1], field[2]
        if not rest.startswith("//") and is_named_secret(name, rest):
            yield rest
            yield from without_scheme(rest)
    if value.lstrip()[:1] in ("{", "["):
        try:
            yield from secrets_of_json("", json.loads(value))
        except (ValueError, RecursionError):
            return


def secrets_of_list(text: str) -> Iterator[str]:
    """Of `a=b;c=d`, or with other signs between."""
    for part in re.split(r"[&;]" if ";" in text else r"[&,\s]+", text):
        head, equals, value = part.partition("=")
        name = NAME_AT_END.search(unquote_plus(head)) if equals else None
        value = value.strip().strip("\"'")
        if name and is_named_secret(name[0], value):
            yield value


def secrets_of_json(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from secrets_of_json(key, item)
    elif isinstance(value, list):
        for item in value:
            yield from secrets_of_json(name, item)
    elif isinstance(value, str):
        yield from hidden_in(name, value)


def variable_name(text: str) -> str:
    """Text as the name of an environment variable."""
    name = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")
    return (f"_{name}" if name[:1].isdigit() else name)[:64] or "SECRET"
