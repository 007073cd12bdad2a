"""How to start this very program again: its .pyz, or the installed package."""

import sys
import zipfile
from pathlib import Path

import edge


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
