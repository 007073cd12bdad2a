"""The command of each stdio server, as its child would find it: on the PATH that it gets, with its interpreter."""

import os
from collections.abc import Iterator, Mapping

from edge.config.model import EdgeConfig, StdioServerConfig
from edge.config.rules import dotted
from edge.doctor.finding import Check, Report, at_once
from edge.net.command import NotStarted, environment, find_program

SECTION = "commands"
WHOLE_PATH = "install it, or write its whole path: a service has a shorter PATH than a shell"


def command_checks(config: EdgeConfig, env: Mapping[str, str]) -> Iterator[Check]:
    for name, server in config.servers.items():
        if isinstance(server, StdioServerConfig):
            yield Check(SECTION, dotted(("servers", name)), at_once(look_at_command, server, env))


def look_at_command(report: Report, server: StdioServerConfig, env: Mapping[str, str]) -> None:
    found = found_command(server, env)
    if isinstance(found, str):
        report.ok(found)
    else:
        report.problem(*found)


def found_command(server: StdioServerConfig, env: Mapping[str, str]) -> str | tuple[str, str]:
    """What would be run; or why nothing would, and what to do."""
    search_path = environment(env, server.env).get("PATH", os.defpath)
    try:
        path = find_program(server.command[0], search_path, server.cwd)
    except NotStarted as exc:
        said, _, advice = str(exc).partition("; ")
        return said, advice or WHOLE_PATH
    interpreter = interpreter_of(path)
    if interpreter is None:
        return path
    words = interpreter.split()
    program, rest = words[0], [word for word in words[1:] if not word.startswith("-")]
    try:
        find_program(program, search_path, server.cwd)
        if program.rpartition("/")[2] == "env" and rest and "=" not in rest[0]:
            program = rest[0]
            find_program(program, search_path, server.cwd)
    except NotStarted as exc:
        said = str(exc).partition("; ")[0]
        text = f"the first line of {path} names an interpreter that cannot be run: {said}"
        return text, "install it, or name the interpreter in command"
    return f"{path}, run by {program}"


def interpreter_of(path: str) -> str | None:
    """What a script's first line names; None: it is no script."""
    try:
        with open(path, "rb") as file:
            start = file.read(256)
    except OSError:
        return None  # it may be run, and not read
    if not start.startswith(b"#!"):
        return None
    line = start[2:].split(b"\n", 1)[0].decode(errors="replace").strip()
    return line or None
