"""Words on a terminal: lines that cannot steer it, colours only where wanted, quiet on a closed pipe."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TextIO

from edge.errors import Problem

COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}


def has_colour(stream: TextIO | None) -> bool:
    """A terminal, and nobody has said no (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or stream is None:
        return False
    return stream.isatty()


def painted(text: str, colour: str, stream: TextIO | None) -> str:
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if has_colour(stream) else text


def harmless(text: str) -> str:
    """Text from elsewhere, without characters that would steer a terminal; line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def prepare_streams() -> None:
    """A character that the terminal's encoding lacks is written as an escape, and is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Hiding:
    """What takes the values of secrets out of all that is printed. `clean` is replaced by whoever has learned some."""

    def __init__(self) -> None:
        self.clean: Callable[[str], str] = str


hiding = Hiding()


class OutputFailed(Exception):
    """What was to be printed cannot be; the text says why."""


def say(text: str, *, err: bool = False) -> None:
    """One line (or several) on stdout, or stderr. A reader that has left is no error: the rest is dropped.

    Raises: OutputFailed, for stdout only: about stderr there is nobody to tell.
    """
    put(text + "\n", err=err)


def flush() -> None:
    """What others have printed on stdout; as `say`."""
    put("")


def put(text: str, *, err: bool = False) -> None:
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    try:
        stream.write(hiding.clean(text))
        stream.flush()
    except BrokenPipeError:
        drop_output(stream)
    except OSError as exc:
        drop_output(stream)
        if not err:
            raise OutputFailed(f"cannot write to stdout: {exc.strerror or type(exc).__name__}") from exc


def drop_output(stream: TextIO) -> None:
    """Let what is written to a broken pipe or a full disk go nowhere, also what the interpreter flushes at its end."""
    with suppress(OSError, ValueError):  # a stream without a descriptor has nothing to flush
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def say_json(value: Any) -> None:
    """A document for programs, on stdout."""
    say(json.dumps(value, indent=2))


def say_problems(problems: Iterable[Problem], *, err: bool = True) -> None:
    """One line for each thing wrong with a config, or with an option that stands for a part of one."""
    stream = sys.stderr if err else sys.stdout
    for problem in problems:
        program = (
            "mcp-edge: " if problem.place.startswith("--") else ""
        )  # a place in a file begins with its name
        place = program + painted(harmless(problem.place), "bold", stream)
        say(f"{place}: {harmless(problem.text)}" if problem.place else harmless(problem.text), err=err)
