"""Which texts of a foreign file may be secrets: rather one too many than one too few, as nothing is lost by it."""

import re

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
SECRET_ENDS = ("key", "token", "secret", "password")
# What a name ends in that is about a secret, and holds none.
HARMLESS_ENDS = frozenset(
    {"count", "dir", "field", "file", "header", "id", "limit", "max", "mode", "name", "path", "size", "sock"}
    | {"timeout", "ttl", "type", "url"}
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
FILE_NAME = re.compile(r"(?:~|\.{1,2})?/[^\0\n]*\.[A-Za-z0-9]{1,8}|[A-Za-z]:\\.*")


def is_secret_name(name: str) -> bool:
    """A variable, header, option or parameter of this name holds a secret."""
    words = [word.lower() for word in WORD.findall(name)]
    if not words or words[-1] in HARMLESS_ENDS:
        return False
    return any(word in SECRET_WORDS or word.endswith(SECRET_ENDS) for word in words)


def is_token(value: str) -> bool:
    """A text looks like a secret by itself, whatever it is called."""
    looks = (KNOWN_TOKEN, RANDOM, UUID, WITH_PASSWORD)
    return any(pattern.search(value) for pattern in looks) or CREDENTIAL.fullmatch(value.strip()) is not None


def is_private(name: str, value: str) -> bool:
    """A value under this name is not for a config file."""
    if not value.strip() or value.strip().lower() in ("true", "false"):
        return False
    if is_token(value):
        return True
    is_number_of = name.lower().endswith(("tokens", "keys")) and value.isdecimal()
    return is_secret_name(name) and not is_number_of and not FILE_NAME.fullmatch(value)


def variable_name(text: str) -> str:
    """Text as the name of an environment variable."""
    name = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")
    return (f"_{name}" if name[:1].isdigit() else name)[:64] or "SECRET"
