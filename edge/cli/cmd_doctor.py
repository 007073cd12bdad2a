"""`mcp-edge doctor`: looks at everything that `run` needs, and says of each thing whether it is good, or what to do."""

import argparse
import logging
import os
import socket
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from edge.app.secret_values import secrets_of
from edge.cli import exit_codes
from edge.cli.cmd_run import default_config
from edge.cli.configfile import find_config, placed_warnings, read_config, secret_reader
from edge.cli.output import harmless, painted, say, say_json
from edge.cli.serving import state_directory
from edge.config.model import EdgeConfig
from edge.doctor.finding import Finding, examine
from edge.doctor.plan import checks_of
from edge.doctor.system import system_checks
from edge.errors import ConfigError
from edge.redaction import Redactor

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
SEE_CONFIG = "`mcp-edge help config`"


def doctor(args: argparse.Namespace) -> int:
    """0: no problem, though maybe warnings. 69: something is wrong that is not the config. 78: the config."""
    logging.getLogger("edge").addHandler(logging.NullHandler())  # what parts log is told as findings
    path = find_config(args, os.environ)
    redactor = Redactor()
    try:
        config, found = loaded(path)
    except ConfigError as exc:
        found = [
            Finding("config", problem.place, "problem", problem.text, SEE_CONFIG) for problem in exc.problems
        ]
        found += trio.run(lambda: examine(list(system_checks(None)), timeout_s=args.timeout_s))
        tell(found, path, redactor, args)
        return exit_codes.CONFIG
    redactor.redact(secrets_of(config, os.environ))
    checks = checks_of(
        config,
        raw_table(path),
        path,
        config.name or socket.gethostname(),
        env=os.environ,
        read_secret=secret_reader(),
        # each a source of its own: none may make room for another
        learn=lambda secret: redactor.redact([secret], source=f"read anew {secret}"),
        redactor=redactor,
        state=state_directory(os.environ),
        offline=args.offline,
    )
    found += trio.run(lambda: examine(list(checks), timeout_s=args.timeout_s))
    tell(found, path, redactor, args)
    return exit_codes.UNAVAILABLE if any(each.level == "problem" for each in found) else exit_codes.OK


def loaded(path: Path | None) -> tuple[EdgeConfig, list[Finding]]:
    """The config that `run` would take, and what is unwise in it. Raises: ConfigError."""
    if path is None:
        config = default_config()
        return config, [Finding("config", "built-in", "ok", "no file: the built-in default")]
    config = read_config(path, os.environ)
    sizes = {"server": len(config.servers), "uplink": len(config.uplinks)}
    counts = ", ".join(f"{n} {noun}{'s'[: n != 1]}" for noun, n in sizes.items())
    found = [Finding("config", str(path), "ok", f"loads: {counts}")]
    for place, said in placed_warnings(config, path, starts=False):  # commands have a check of their own
        found.append(Finding("config", place, "warning", said, SEE_CONFIG))
    return config, found


def raw_table(path: Path | None) -> Mapping[str, Any]:
    """It has just been read, and was good."""
    return {} if path is None else tomllib.loads(path.read_bytes().decode("utf-8-sig"))


def tell(found: list[Finding], path: Path | None, redactor: Redactor, args: argparse.Namespace) -> None:
    """Everything, without secrets; ends with the verdict."""
    clean = [
        each._replace(
            text=redactor.clean(each.text),
            advice=redactor.clean(each.advice),
            subject=redactor.clean(each.subject),
        )
        for each in found
    ]
    counts = {level: sum(each.level == level for each in clean) for level in COLOURS}
    if args.json:
        findings = [
            each._replace(took_s=None if each.took_s is None else round(each.took_s, 3))._asdict()
            for each in clean
        ]
        say_json(
            {
                "ok": not counts["problem"],
                "config": None if path is None else str(path),
                "problems": counts["problem"],
                "warnings": counts["warning"],
                "findings": findings,
            }
        )
        return
    for each in clean:
        say(line_of(each))
    verdict = ", ".join(
        f"{counts[level]} {level}{'s'[: counts[level] != 1]}" for level in ("problem", "warning")
    )
    colour = "red" if counts["problem"] else "yellow" if counts["warning"] else "green"
    say(painted(f"{verdict}, {counts['ok']} good", colour, sys.stdout))


def line_of(each: Finding) -> str:
    mark = painted(f"{each.level:8}", COLOURS[each.level], sys.stdout)
    took = "" if each.took_s is None else f" ({each.took_s * 1000:.0f} ms)"
    text = " ".join(f"{each.subject}: {each.text}".split())
    advice = f"; {' '.join(each.advice.split())}" if each.advice else ""
    return f"{mark} {each.section:9} {harmless(text)}{took}{harmless(advice)}"
