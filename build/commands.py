"""The commands of `python3 build`, by name."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import bench
import checks
import dashboard_picture
import deb
import interruption
import machine
import pictures
import pyz
import relock
from places import PYZ
from say import Stop


def run(args: Sequence[str]) -> int:
    pyz.make_current()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-S", str(PYZ), "run", *args])


def archive(args: Sequence[str]) -> int:
    match args:
        case []:
            pyz.make_current()
        case ["--out", path]:
            pyz.make(Path(path).absolute(), machine.interpreters())
        case _:
            raise Stop("pyz takes --out FILE, or nothing")
    return 0


def lock(args: Sequence[str]) -> int:
    if args:
        raise Stop("lock takes no arguments")
    relock.make_all()
    return 0


COMMANDS = {
    "run": run,
    "test": checks.main,
    "pyz": archive,
    "deb": deb.main,
    "bench": bench.main,
    "pictures": pictures.main,
    "dashboard": dashboard_picture.main,
    "lock": lock,
}


def main(args: Sequence[str], usage: str) -> int:
    if not args or args[0] not in COMMANDS:
        asked_for_help = args[:1] in (["help"], ["-h"], ["--help"])
        if not asked_for_help:
            print(
                f"build: {f'there is no command {args[0]}' if args else 'a command is missing'}",
                file=sys.stderr,
            )
        print(usage, end="", file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 64
    interruption.listen()
    try:
        return COMMANDS[args[0]](args[1:])
    except Stop as exc:
        print(f"build: {exc}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("build: interrupted", file=sys.stderr, flush=True)
        return 130
