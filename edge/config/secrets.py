"""Values that must not show: `Secret`, and text in which `${NAME}` was replaced from the environment."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

PLACEHOLDER = re.compile(r"\$(?:(\$)|\{([^}]*)(\})?)")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# A header or parameter of such a name must not have a plain value. What is hidden is more: private.py.
SECRET_NAME = re.compile(r"(?:authorization|cookie|api[-_]?key|token|secret|password)$", re.IGNORECASE)
USUAL_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


class Secret:
    """A value that is used and never shown: `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, to be put on the wire and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


class Expanded(str):
    """Text in which placeholders were replaced: an ordinary `str` whose repr is the text as written.

    So it goes to a child's environment or into a header as it is, while a dataclass, mapping or list
    that holds it prints `'Bearer ${TOKEN}'`. Do not log it by itself: `written` is there for that.
    `inserted` are the values that were put in.
    """

    __slots__ = ("inserted", "written")
    written: str
    inserted: tuple[str, ...]

    def __new__(cls, value: str, written: str = "***", inserted: tuple[str, ...] = ()) -> "Expanded":
        self = super().__new__(cls, value)
        self.written = written
        self.inserted = inserted
        return self

    def __repr__(self) -> str:
        return repr(self.written)


def as_written(text: str) -> str:
    """`text` as the config file has it: safe to show."""
    return text.written if isinstance(text, Expanded) else text


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace each `${NAME}` by the environment's value; `$$` is one `$`, and any other `$` is itself.

    Gives an `Expanded` if a value was put in. Values are not looked into again.
    Raises ValueError with one sentence that names every variable that is missing or empty.
    """
    complaints: list[str] = []
    inserted: list[str] = []

    def replaced(found: re.Match[str]) -> str:
        dollar, name, brace = found.groups()
        if dollar:
            return "$"
        if not brace or not VARIABLE_NAME.fullmatch(name):
            complaints.append("a placeholder is written ${NAME}; a plain ${ is written $${")
            return ""
        if not env.get(name):
            state = "empty" if name in env else "not set"
            complaints.append(f"environment variable {name} is {state}")
            return ""
        inserted.append(env[name])
        return env[name]

    value = PLACEHOLDER.sub(replaced, text)
    if complaints:
        raise ValueError("; ".join(dict.fromkeys(complaints)))
    return Expanded(value, text, tuple(inserted)) if inserted else value


def inserted_into(texts: Iterable[str]) -> set[str]:
    """All values that placeholders put into these texts."""
    return {value for text in texts if isinstance(text, Expanded) for value in text.inserted}


SOURCES = ("env", "file", "credential")  # suffixes: bearer_env, bearer_file, bearer_credential


def fetch_secret(
    source: str, where: str, env: Mapping[str, str], read_secret: Callable[[str], str]
) -> Secret:
    """The secret behind `X_env = where`, `X_file = where` or `X_credential = where`.

    A file's last line end does not belong to it. Raises ValueError with a sentence for the operator.
    """
    if source == "env":
        if not env.get(where):
            # A name in another style may be the secret itself, put here by mistake: it is not repeated.
            name = f"environment variable {where}" if USUAL_NAME.fullmatch(where) else "the variable it names"
            raise ValueError(f"{name} is {'empty' if where in env else 'not set'}")
        return Secret(env[where])
    path = where
    if source == "credential":
        directory = env.get("CREDENTIALS_DIRECTORY")
        if not where or "/" in where or where in (".", ".."):
            raise ValueError("must be the name of a systemd credential, without a slash")
        if not directory:
            raise ValueError("needs systemd's $CREDENTIALS_DIRECTORY, which is not set (LoadCredential=)")
        path = f"{directory}/{where}"
    try:
        value = read_secret(path)
    except OSError as exc:
        raise ValueError(f"cannot read {path}: {exc.strerror or type(exc).__name__}") from exc
    except ValueError:  # not UTF-8, too long, or a name that no file can have; the value must not show
        raise ValueError(f"cannot read {path}: it is not a short UTF-8 text file") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ValueError(f"{path} is empty")
    return Secret(value)


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret comes from, so that it can be read again: it may have been changed meanwhile.

    `source` is one of SOURCES. `where` is not shown: it may be the secret itself, put there by mistake.
    """

    source: str
    where: str = field(repr=False)

    def read(self, env: Mapping[str, str], read_secret: Callable[[str], str]) -> Secret:
        """The secret as it is now; raises ValueError as `fetch_secret` does."""
        return fetch_secret(self.source, self.where, env, read_secret)
