"""The command `mcp-edge`: picks the command's module, and turns how it ended into an exit code.

Modules of commands are imported only when they are needed, so that `version` and `help` are quick.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

from edge.cli import exit_codes
from edge.cli.arguments import UsageError, parse_arguments
from edge.cli.output import OutputFailed, flush, harmless, painted, prepare_streams, say, say_problems
from edge.errors import ConfigError, leaves

Command = Callable[[argparse.Namespace], int]

GUARDED = ("run", "connect")  # they start other programs


def find_command(name: str) -> Command:
    """The function behind a command."""
    match name:
        case "run":
            from edge.cli.cmd_run import run as command
        case "connect":
            from edge.cli.cmd_connect import connect as command
        case "validate":
            from edge.cli.cmd_validate import validate as command
        case "health":
            from edge.cli.cmd_health import health as command
        case "reload":
            from edge.cli.cmd_reload import reload as command
        case "init":
            from edge.cli.cmd_init import init as command
        case "import":
            from edge.cli.cmd_import import import_ as command
        case "doctor":
            from edge.cli.cmd_doctor import doctor as command
        case "help":
            from edge.cli.cmd_help import show_help as command
        case "version":
            from edge.cli.cmd_version import version as command
        case "host-server":
            from edge.cli.cmd_host import host_server as command
        case _:
            raise AssertionError(f"the argument tree knows {name}, find_command does not")
    return command


def guarded() -> int | None:
    """The exit code, in the process that stays behind as guard; None in the one that goes on."""
    from edge.cli.guard import stand

    return stand()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's); the exit code."""
    prepare_streams()
    try:
        try:
            args = parse_arguments(sys.argv[1:] if argv is None else argv)
            # A test that calls this with words of its own is not to be forked.
            if argv is None and args.command in GUARDED and (code := guarded()) is not None:
                return code
            return find_command(args.command)(args)
        except SystemExit as exc:  # argparse after --help, which may still be in the buffer
            flush()
            return exc.code if isinstance(exc.code, int) else exit_codes.OK
    except UsageError as exc:
        words = sys.argv[1:] if argv is None else argv
        if (
            words[:1] == ["health"] and "--nagios" in words
        ):  # whoever runs checks reads one line, and knows 0 to 3
            say(f"UNKNOWN - wrong usage: {harmless(' '.join(str(exc).split()))}")
            return exit_codes.NAGIOS_UNKNOWN
        say(f"mcp-edge: {harmless(str(exc))}\n{exc.usage}", err=True)
        return exit_codes.USAGE
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except Exception as exc:
        return report(exc)


def report(exc: Exception) -> int:
    """Say what ended a command: a config's problems, or a bug of ours with its traceback."""
    parts = list(leaves(exc)) if isinstance(exc, BaseExceptionGroup) else [exc]
    problems = [problem for part in parts if isinstance(part, ConfigError) for problem in part.problems]
    if all(isinstance(part, ConfigError) for part in parts):
        say_problems(problems)
        return exit_codes.CONFIG
    if all(isinstance(part, OutputFailed) for part in parts):
        say(f"mcp-edge: {harmless(str(parts[0]))}", err=True)
        return exit_codes.INTERNAL
    say(harmless("".join(traceback.format_exception(exc)).rstrip("\n")), err=True)
    headline = painted("mcp-edge: internal error", "red", sys.stderr)
    words = "; ".join(f"{type(part).__name__}: {part}" for part in parts).replace("\n", " ")
    say(f"{headline}: {harmless(words)}", err=True)
    return exit_codes.INTERNAL
