"""`mcp-edge init`: writes a commented config to start from, fitted to this machine."""

import argparse
import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from edge.cli import exit_codes
from edge.cli.output import harmless, say
from edge.cli.program import own_command, typed_name
from edge.config.template import template

GIT_LAUNCHERS = (("uvx", "mcp-server-git"), ("pipx", "run", "mcp-server-git"))


def git_command() -> tuple[str, ...]:
    """An example of a server's command that works on this machine, if one does."""
    for launcher, *rest in GIT_LAUNCHERS:
        if found := shutil.which(launcher):
            return (found, *rest)
    return GIT_LAUNCHERS[0]


def init(args: argparse.Namespace) -> int:
    name = os.uname().nodename
    text = template(name=name, host_command=(*own_command(), "host-server"), git_command=git_command())
    if args.output is None:
        say(text.rstrip("\n"))
        return exit_codes.OK
    path = Path(args.output)
    shown = harmless(str(path))
    try:
        write_file(path, text, replace=args.force)
    except FileExistsError:
        say(f"mcp-edge: {shown} is there already; --force replaces it", err=True)
        return exit_codes.USAGE
    except OSError as exc:
        say(f"mcp-edge: cannot write {shown}: {exc.strerror or type(exc).__name__}", err=True)
        return exit_codes.UNAVAILABLE
    program = harmless(typed_name())
    say(
        f"wrote {shown}\ncheck it with:  {program} validate -c {shown}\nstart with:     {program} run -c {shown}"
        f"\nif it will not: {program} doctor -c {shown}"
    )
    return exit_codes.OK


def write_file(path: Path, text: str, *, replace: bool, mode: int | None = None) -> None:
    """Write the whole file or nothing; without a `mode` it keeps its own, or is readable by all.

    Raises: FileExistsError if it is there and may not be replaced; OSError.
    """
    path = path.resolve()  # a link stays a link
    if path.exists() and not replace:
        raise FileExistsError(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    if mode is None:
        mode = (
            path.stat().st_mode & 0o777 if path.exists() else 0o644
        )  # a service of another user reads it, too
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # unlike a rename, fails if somebody was quicker
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
