"""How to start this very program again, its .pyz or the installed package: for a child, and for a person."""

import os
import shlex
import shutil
import sys
import zipfile
from pathlib import Path

import edge


def typed_name() -> str:
    """What to type for this program: as it was called, such that a shell finds it again."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return "python3 -m edge"
    if "/" not in called and not called.endswith(".pyz"):
        return "mcp-edge"
    if (found := shutil.which(Path(called).name)) and os.path.realpath(found) == os.path.realpath(called):
        return shlex.quote(Path(called).name)
    is_runnable = "/" in called and os.access(called, os.X_OK)
    return shlex.quote(called) if is_runnable else f"python3 -I -S {shlex.quote(called)}"


def own_command() -> tuple[str, ...]:
    """The words before a command's name.

    A folder `edge` in the child's working directory must not be taken for the package (-P), unless it is that:
    when this runs from a checkout.
    """
    program = Path(sys.argv[0])
    if program.is_file() and zipfile.is_zipfile(program):
        return (sys.executable, "-I", "-S", str(program.resolve()))
    is_checkout = Path(edge.__path__[0]).parent == Path.cwd()
    return (sys.executable, *(() if is_checkout else ("-P",)), "-m", "edge")
