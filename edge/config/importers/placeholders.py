"""The placeholders of MCP clients, `${NAME}` and its like, as parts of a text.

`${env:NAME}`, `${input:ID}`, `${userHome}`, `${workspaceFolder}`: VS Code and Cursor. `${NAME}` and
`${NAME:-default}`: Claude Code. Those that are not known stay as they are, and are told.
"""

import re
from collections.abc import Mapping

from edge.config.importers.document import Path
from edge.config.importers.draft import Draft, Parts, Variable, shown
from edge.config.private import variable_name

PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FOLDERS = {
    "workspaceFolder": "WORKSPACE_FOLDER",
    "workspaceRoot": "WORKSPACE_FOLDER",
    "cwd": "WORKSPACE_FOLDER",
}
SLASHES = frozenset({"/", "pathSeparator"})


class Placeholders:
    """Reads texts of one file; `inputs` are VS Code's, each id with its description."""

    def __init__(self, draft: Draft, inputs: Mapping[str, str]) -> None:
        self._draft = draft
        self._inputs = inputs

    def parts(self, text: str, origin: Path, at: Path) -> Parts:
        """The text in parts; each variable that it names is noted as one to be set."""
        parts: Parts = []
        done = 0
        for found in PLACEHOLDER.finditer(text):
            parts.append(text[done : found.start()])
            parts.append(self._part(found[1], found[0], origin, at))
            done = found.end()
        parts.append(text[done:])
        return [part for part in parts if part != ""]

    def _part(self, inside: str, whole: str, origin: Path, at: Path) -> str | Variable:
        if inside in SLASHES:
            return "/"
        if inside == "userHome":
            return Variable("HOME")
        if inside in FOLDERS:
            hint = ": there is no workspace here, so it is the folder that was meant"
            return self._named(FOLDERS[inside], "the folder that the editor had open", hint, origin, at)
        if inside.startswith("input:"):
            name = inside.removeprefix("input:")
            about = self._inputs.get(name, "")
            hint = f": the editor asked for it{f' ({about})' if about else ''}"
            return self._named(variable_name(name), about or f"the input {name}", hint, origin, at)
        name, has_default, default = inside.removeprefix("env:").partition(":-")
        if NAME.fullmatch(name):
            hint = f"; without it, {shown(default)} was used" if has_default and default else ""
            return self._named(name, "what it was", hint, origin, at)
        self._draft.to_do(
            origin,
            "put in the value of its placeholder by hand: it is not known here, and stays as it is",
            at=at,
        )
        return whole

    def _named(self, name: str, what: str, hint: str, origin: Path, at: Path) -> Variable:
        self._draft.named_variable(name, what=what, hint=hint, origin=origin, at=at)
        return Variable(name)
