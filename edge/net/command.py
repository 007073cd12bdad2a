"""A command as the config has it: the file that would be run, its environment, and what is wrong with it in words.

All of it looks into file systems, any of which may hang.
"""

import os
import shutil
from collections.abc import Mapping

from edge.errors import EdgeError

BASE_ENV = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR")
"""All that a child gets of our environment, besides LC_*: ours may hold secrets of the gateway and of others.
Session sockets (XDG_RUNTIME_DIR, SSH_AUTH_SOCK, DISPLAY) are for the config to pass on by name."""


class NotStarted(EdgeError):
    """The command could not be run; the text names the command and what is wrong with it."""


def environment(ours: Mapping[str, str], configured: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: the base of ours, and over it what the config says."""
    base = {name: value for name, value in ours.items() if name in BASE_ENV or name.startswith("LC_")}
    base.setdefault("PATH", os.defpath)
    return {**base, **configured}


def find_program(command: str, search_path: str, cwd: str | None) -> str:
    """The file that would be run. Raises NotStarted in words that help: what was looked for, and where."""
    if cwd is not None and not os.path.isdir(cwd):
        raise NotStarted(f"the working directory {cwd} does not exist or is not a directory")
    # Also so that a mount that does not answer is met here: a child that hangs as it changes to its directory still has
    # copies of all our descriptors.
    if cwd is not None and not os.access(cwd, os.X_OK):
        raise NotStarted(f"the working directory {cwd} may not be entered")
    if "/" in command:
        path = os.path.join(cwd or "", command)
        if os.path.isdir(path):
            raise NotStarted(f"the command {command} is a directory")
        if not os.path.exists(path):
            raise NotStarted(f"the command {command} does not exist" + (f" (in {cwd})" if cwd else ""))
        if not os.access(path, os.X_OK):
            raise NotStarted(f"the command {command} is not executable; try chmod +x")
        return os.path.abspath(path)
    found = shutil.which(command, path=search_path)
    if found is None:
        n = len([folder for folder in search_path.split(os.pathsep) if folder])
        folders = f"{n} folder{'s'[: n != 1]}"
        text = f"the command {command} was not found, or is not executable, in PATH ({folders})"
        raise NotStarted(f"{text}; install it, or write its whole path")
    return os.path.abspath(found)


def why_not(exc: OSError, path: str) -> str:
    if isinstance(exc, FileNotFoundError) and os.path.exists(path):
        return "the interpreter named in its first line does not exist"
    if exc.errno == 8:  # ENOEXEC
        return "it is neither a program for this machine nor a script with a #! line"
    return exc.strerror or str(exc)
