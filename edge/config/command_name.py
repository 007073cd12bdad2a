"""A name for the server that a command starts, when nobody has given it one.

It goes to gateways, logs and metrics, so nothing that may be a secret becomes one.
"""

import re
from collections.abc import Iterator, Sequence

from edge.config.private import is_token

NAMELESS = "server"
LAUNCHERS = frozenset(
    {"uvx", "npx", "uv", "run", "tool", "exec", "node", "env", "bunx", "pnpm", "dlx", "pipx"}
)
PYTHON = re.compile(r"python[0-9.]*$")
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=", re.ASCII)
WITH_VALUE = frozenset({"-u", "--unset", "-C", "--chdir"})  # of env: the next word belongs to it
SUFFIX = re.compile(r"\.(py|js|mjs|cjs|ts|sh)$")


def name_of_command(words: Sequence[str]) -> str:
    """What a person would call it: `uvx mcp-server-git` is mcp-server-git. May have any characters."""
    for word in program_words(words):
        base = word.rpartition("/")[2].partition("@")[0]
        if base and base not in LAUNCHERS and not PYTHON.match(base):
            return NAMELESS if is_token(word) or is_token(base) else SUFFIX.sub("", base)
    return NAMELESS


def program_words(words: Sequence[str]) -> Iterator[str]:
    """The words that are no options, no variables for the program, and no addresses."""
    is_of_env = is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = is_of_env and word in WITH_VALUE
        elif not ASSIGNMENT.match(word) and "://" not in word:
            is_of_env = word.rpartition("/")[2] == "env"
            yield word
