"""How to start this very program again: its .pyz, or the installed package."""

import sys
import zipfile
from pathlib import Path


def own_command() -> tuple[str, ...]:
    """The words before a command's name. Isolated: the environment's PYTHON* variables change nothing."""
    program = Path(sys.argv[0])
    if program.is_file() and zipfile.is_zipfile(program):
        return (sys.executable, "-I", "-S", str(program.resolve()))
    return (sys.executable, "-I", "-m", "edge")
