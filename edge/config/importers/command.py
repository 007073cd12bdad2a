"""A server's command with what its file puts into it: variables, and secrets that may not stand in ours.

`command` of our config has no placeholders. Where one is needed, `sh -c` puts the words together, and the values come
to it by `env`; so the server sees the same arguments as before.
"""

import re
import shlex
from collections.abc import Mapping, Sequence

from edge.config.importers.document import Path
from edge.config.importers.draft import Draft, Parts, Variable, expanded, has_variables
from edge.config.importers.placeholders import Placeholders
from edge.config.importers.settings import without_query_secrets
from edge.config.private import WITH_PASSWORD, is_named_secret, is_private, is_secret_name, is_token

ASSIGNMENT = re.compile(r"(-{0,2}[A-Za-z_][A-Za-z0-9_.-]*=)(.+)", re.DOTALL)
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
HEADER = re.compile(r"([A-Za-z][A-Za-z0-9-]*:\s*)(.+)", re.DOTALL)
OPTION = re.compile(r"--?[A-Za-z][A-Za-z0-9_.-]*")
GIVEN = frozenset({"HOME", "USER", "PATH"})  # a child of ours has them without being told


def put_command(
    draft: Draft,
    reading: Placeholders,
    path: Path,
    words: Sequence[str],
    origins: Sequence[Path],
    env: Mapping[str, str],
    env_origin: Path,
) -> None:
    """`command` and `env` of the server at `path`. `origins` has each word's place in the foreign file."""
    owner = str(path[-1])
    at = (*path, "command")
    parts = [reading.parts(word, origin, at) for word, origin in zip(words, origins, strict=True)]
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        if number and not has_variables(parts[number]):
            parts[number] = without_secret(draft, owner, before, word, origins[number], at)
    ours = {
        name: env_value(draft, reading, path, name, value, (*env_origin, name)) for name, value in env.items()
    }
    if any(map(has_variables, parts)):
        inner: dict[str, str] = {}  # what a variable is called in the child
        for part in (part for word in parts for part in word):
            if isinstance(part, Variable) and part.name not in inner and part.name not in GIVEN:
                wanted = f"${{{part.name}}}"
                inner[part.name] = part.name if ours.get(part.name, wanted) == wanted else f"{part.name}_ARG"
                ours[inner[part.name]] = wanted
        line = "exec " + " ".join(shell_word(word, inner) for word in parts)
        command = ["sh", "-c", line]
        text = "is started by sh here, which puts in the variables: mcp-edge puts none into a command"
        draft.changed(origins[0], text, at=at)
    else:
        command = ["".join(str(part) for part in word) for word in parts]
        if any(word == "~" or word.startswith("~/") for word in command):
            draft.to_do(
                origins[0],
                "no shell runs it, so ~ does not become the home directory: write the whole path",
                at=at,
            )
    draft.put(at, command, origin=origins[0])
    for name, value in ours.items():
        draft.put((*path, "env", name), value, origin=(*env_origin, name) if name in env else origins[0])


def env_value(draft: Draft, reading: Placeholders, path: Path, name: str, value: str, origin: Path) -> str:
    """A variable for the child, as our config has it."""
    at = (*path, "env", name)
    parts = reading.parts(value, origin, at)
    literal = "".join(part for part in parts if isinstance(part, str))
    if is_token(literal) or (is_private(name, literal) and not has_variables(parts)):
        what = f"the value of {name} in its env"
        wanted = [name, f"{path[-1]}_{name}"]
        parts = [Variable(draft.variable(wanted, value=value, what=what, origin=origin, at=at))]
    return expanded(parts)


def without_secret(draft: Draft, owner: str, before: str, word: str, origin: Path, at: Path) -> Parts:
    """A word of the command, with a variable for what is secret in it."""
    head, rest, name = "", word, ""
    is_after_option = OPTION.fullmatch(before) is not None and not word.startswith("-")
    if is_after_option and is_named_secret(before, word):
        name = before.strip("-")
    elif found := ASSIGNMENT.fullmatch(word):
        head, rest, name = found[1], found[2], found[1].strip("-=")
    elif is_after_option:
        name = before.strip("-")
    if (field := HEADER.fullmatch(rest)) and is_secret_name(field[1].strip(": ")):
        head, rest, name = head + field[1], field[2], field[1].strip(": ")
    elif URL.match(rest) and not WITH_PASSWORD.match(rest):
        return merged([head, *without_query_secrets(draft, owner, rest, origin, at)])
    if not (is_private(name, rest) if name else is_token(rest)):
        return [word]
    what = f"the value after {name} in its command" if name else "the secret argument of its command"
    wanted = [f"{owner}_{name}"] if name else [f"{owner}_SECRET"]
    return [head, Variable(draft.variable(wanted, value=rest, what=what, origin=origin, at=at))]


def merged(parts: Parts) -> Parts:
    """With the texts between two variables as one."""
    found: Parts = []
    for part in parts:
        if found and isinstance(part, str) and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


def shell_word(parts: Parts, inner: Mapping[str, str]) -> str:
    """One word for a POSIX shell: text quoted, variables put in as they are."""
    shown = "".join(
        f'"${{{inner.get(part.name, part.name)}}}"' if isinstance(part, Variable) else shlex.quote(part)
        for part in parts
        if part != ""
    )
    return shown or "''"
