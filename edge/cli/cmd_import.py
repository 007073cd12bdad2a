"""`mcp-edge import FILE`: another program's config as one of ours, and what was lost, changed or is left to do."""

import argparse
import sys
from pathlib import Path
from typing import Any

from edge.cli import exit_codes
from edge.cli.arguments import UsageError
from edge.cli.cmd_init import write_file
from edge.cli.output import harmless, painted, put, say, say_json, say_problems
from edge.cli.program import typed_name
from edge.config.importers.formats import MAX_BYTES, Imported, import_text
from edge.errors import ConfigError, Problem

COLOURS = {"to do": "yellow", "lost": "yellow", "changed": "bold"}
PRIVATE = 0o600  # whatever was in the foreign file, nobody else has to read what came of it


def import_(args: argparse.Namespace) -> int:
    """0: there is a config, though something may be lost. 64: it was not to be written. 78: the file is no good."""
    try:
        text, source = read_foreign(args.file)
        imported = import_text(text, source=source, name=args.format)
    except ConfigError as exc:
        if args.json:
            problems = [problem._asdict() for problem in exc.problems]
            say_json(
                {
                    "ok": False,
                    "format": None,
                    "config": None,
                    "output": None,
                    "notes": [],
                    "variables": {},
                    "problems": problems,
                }
            )
        else:
            say_problems(exc.problems)
        return exit_codes.CONFIG
    if args.output is not None and (failed := written(imported.text, args)) is not None:
        return failed
    if args.json:
        say_json(as_json(imported, args.output))
        return exit_codes.OK
    if args.output is None:
        put(imported.text)
    for note in imported.notes:
        kind = painted(note.kind, COLOURS[note.kind], sys.stderr)
        say(f"{kind}: {harmless(f'{note.place}: {note.text}')}", err=True)
    if imported.variables:
        names = ", ".join(sorted(imported.variables))
        say(harmless(f"secrets stay out of it: mcp-edge takes them from its environment ({names})"), err=True)
    if args.output is not None:
        shown = harmless(args.output)
        program = harmless(typed_name())
        say(f"wrote {shown} (mode 600)\ncheck it with: {program} doctor -c {shown}", err=True)
    say(harmless(summary(imported)), err=True)
    return exit_codes.OK


def read_foreign(name: str) -> tuple[str, str]:
    """The file's text, and what problems call it. Raises: ConfigError."""
    source = "stdin" if name == "-" else name
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigError([Problem(source, f"cannot be read: {exc.strerror or type(exc).__name__}")]) from exc
    except ValueError:  # a NUL character in the name
        raise ConfigError([Problem(source, "is not a name that a file can have")]) from None
    if len(data) > MAX_BYTES:
        raise ConfigError([Problem(source, f"is larger than {MAX_BYTES} bytes")])
    try:
        return data.decode("utf-8-sig"), source
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError([Problem(f"{source}:{line}", "is not UTF-8 text")]) from None


def written(text: str, args: argparse.Namespace) -> int | None:
    """Write the file; the exit code if that could not be."""
    shown = harmless(args.output)
    try:
        write_file(Path(args.output), text, replace=args.force, mode=PRIVATE)
    except FileExistsError:
        raise UsageError(
            f"{args.output} is there already; --force replaces it",
            "usage: mcp-edge import FILE [-o OUT] [--force]",
        ) from None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a name that a file can have"
        say(f"mcp-edge: cannot write {shown}: {reason or type(exc).__name__}", err=True)
        return exit_codes.UNAVAILABLE
    return None


def summary(imported: Imported) -> str:
    """The last line: what there was, and how much of it needs a look."""
    counts = {
        kind: sum(note.kind == kind for note in imported.notes) for kind in ("to do", "changed", "lost")
    }
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    things = [f"{imported.n_servers} server{'s'[: imported.n_servers != 1]}"]
    if imported.n_uplinks:
        things.append(f"{imported.n_uplinks} uplink{'s'[: imported.n_uplinks != 1]}")
    return f"imported from {imported.format.title}: {', '.join(things)}; {told}"


def as_json(imported: Imported, output: str | None) -> dict[str, Any]:
    return {
        "ok": True,
        "format": imported.format.name,
        "config": imported.text,
        "output": output,
        "notes": [note._asdict() for note in imported.notes],
        "variables": dict(imported.variables),
        "problems": [],
    }
