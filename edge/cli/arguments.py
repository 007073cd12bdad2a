"""The argument tree. A wrong command line is a `UsageError` with a sentence; argparse never exits by itself."""

import argparse
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

COMMANDS = {
    "run": "serve the MCP servers of this box, in the foreground",
    "connect": "share one local MCP server through one gateway, without a config file",
    "validate": "check a config file as `run` would load it, and print all problems",
    "health": "ask the running mcp-edge whether it is ready, and why not",
    "reload": "have the running mcp-edge load its config again, and wait for the verdict",
    "init": "write a commented config file to start from",
    "import": "turn another program's config into one for mcp-edge, and say what was lost",
    "doctor": "check config, files, commands, network and servers, and say what to do",
    "help": "the manual",
    "version": "the version",
}
FORMAT_NAMES = (
    "mcp-servers",
    "contextforge",
    "mcpstead",
    "mcp-gateway",
)  # those of config/importers/formats.py
EXIT_CODES = (
    "exit codes: 0 good, 64 wrong usage, 69 not available or not ready, 70 internal error, 78 wrong config"
)


class UsageError(Exception):
    """A command line that cannot be used; `usage` shows how it is meant."""

    def __init__(self, text: str, usage: str) -> None:
        super().__init__(text)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """argparse that raises instead of exiting with 2."""

    commands: Mapping[str, "Parser"]
    """The parsers of the commands, by name; only the root has it."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.format_usage().rstrip())


def seconds(text: str) -> float:
    """A duration above 0; the name is what argparse puts into its sentence."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(text)
    return value


def build_parser() -> Parser:
    """All commands and options; `args.command` is the command's name."""
    parser = Parser(
        prog="mcp-edge",
        description="The MCP servers of this box, gathered behind one endpoint.",
        epilog=f"{EXIT_CODES}. `mcp-edge help TOPIC` shows the manual.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="as the command version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def add(name: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=COMMANDS[name], description=COMMANDS[name], allow_abbrev=False)

    def add_config(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "-c",
            "--config",
            metavar="FILE",
            help="default: $MCP_EDGE_CONFIG, /etc/mcp-edge/config.toml, ~/.config/mcp-edge/config.toml",
        )

    run = add("run")
    add_config(run)
    run.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), help="instead of log.level"
    )
    run.add_argument(
        "--log-format", choices=("auto", "text", "json", "journal"), help="instead of log.format"
    )

    add_connect(add("connect"))

    validate = add("validate")
    add_config(validate)
    validate.add_argument("--json", action="store_true", help="the verdict as JSON")

    health = add("health")
    add_config(health)
    health.add_argument("--url", metavar="URL", help="of the admin listener")
    health.add_argument("--json", action="store_true", help="the whole report as JSON")
    health.add_argument("-v", "--verbose", action="store_true", help="a line for everything, with its reason")
    health.add_argument(
        "--nagios",
        action="store_true",
        help="as a Nagios check: OK, WARNING, CRITICAL or UNKNOWN; exit 0 to 3",
    )
    health.add_argument(
        "--timeout-s", type=seconds, default=5.0, metavar="SECONDS", help="how long to wait (default: 5)"
    )

    reload = add("reload")
    add_config(reload)
    reload.add_argument("--plan", action="store_true", help="only say what would happen")
    reload.add_argument(
        "--confirm-s",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="put the old config back if a required server or a link that was good is not good again after so long",
    )
    reload.add_argument("--control", metavar="ADDRESS", help="unix:/path of the running process's socket")
    reload.add_argument("--json", action="store_true", help="the verdict as JSON")
    reload.add_argument(
        "--timeout-s", type=seconds, default=90.0, metavar="SECONDS", help="how long to wait (default: 90)"
    )

    init = add("init")
    init.add_argument("-o", "--output", metavar="FILE", help="default: stdout")
    init.add_argument("--force", action="store_true", help="replace FILE if it is there")

    import_ = add("import")
    import_.add_argument("file", metavar="FILE", help="the other program's config; - is stdin")
    import_.add_argument("-o", "--output", metavar="OUT", help="default: stdout")
    import_.add_argument("--format", choices=FORMAT_NAMES, help="default: by what is in the file")
    import_.add_argument("--force", action="store_true", help="replace OUT if it is there")
    import_.add_argument("--json", action="store_true", help="config and notes as JSON")

    doctor = add("doctor")
    add_config(doctor)
    doctor.add_argument(
        "--offline", action="store_true", help="nothing over the network; servers are started"
    )
    doctor.add_argument(
        "--timeout-s", type=seconds, default=30.0, metavar="SECONDS", help="for each check (default: 30)"
    )
    doctor.add_argument("--json", action="store_true", help="the findings as JSON")

    help_ = add("help")
    help_.add_argument("topic", metavar="TOPIC", nargs="?", help="without one: the list of topics")

    version = add("version")
    version.add_argument("--json", action="store_true", help="as JSON")

    # Not for people: what the config's built-in `host` server runs.
    commands.add_parser("host-server", allow_abbrev=False)
    parser.commands = commands.choices
    return parser


def add_connect(connect: argparse.ArgumentParser) -> None:
    """Its options; the second names are those of ContextForge's reverse-proxy client."""
    add = connect.add_argument
    add("--stdio", "--local-stdio", metavar="COMMAND", help="the server to share, started here")
    add("--http", metavar="URL", help="the server to share, if it speaks HTTP")
    add("--to", "--gateway", metavar="URL", help="the gateway; or $REVERSE_PROXY_GATEWAY")
    add("--name", metavar="NAME", help="what it is called there (default: this box and the server)")
    add(
        "--dialect",
        choices=("contextforge", "mcp-reverse", "long-poll"),
        help="what the gateway speaks (default: contextforge)",
    )
    add("--token-env", metavar="VARIABLE", help="the environment variable with the token")
    add("--token-file", metavar="FILE", help="the file with the token, read again for each attempt")
    add("--token", metavar="TOKEN", help="the token, for all to see; rather set $REVERSE_PROXY_TOKEN")
    add("--header", action="append", metavar="'NAME: VALUE'", help="sent when connecting; may be repeated")
    add("--ca-file", metavar="FILE", help="certificates to trust besides the system's")
    add("--proxy", metavar="URL", help="env (default), none, or http://host:port")
    add("--keepalive", metavar="SECONDS", help="between heartbeats (default: 25)")
    add("--reconnect-delay", metavar="SECONDS", help="before the first new attempt (default: 1)")
    add("--max-retries", metavar="N", help="end after so many failures in a row (default: 0, never)")
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    add("--log-format", choices=("auto", "text", "json", "journal"), help="as log.format of a config")
    add("--verbose", "-v", action="store_true", help="as --log-level debug")
    add("--config", metavar="FILE", help="these options as JSON or TOML, such as local_stdio and gateway")


def not_taken(parser: Parser, args: argparse.Namespace, words: Sequence[str]) -> UsageError:
    """The error about words that the command does not take, with what may have been meant."""
    command = parser if args.command is None else parser.commands[args.command]
    near: list[str] = []
    option = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
    if option is not None:
        near = difflib.get_close_matches(
            option, re.findall(r"(?<![\w-])--[a-z-]+", command.format_help()), n=1
        )
    elif len(words) == 1 and ("." in words[0] or "/" in words[0]):
        for name, flag in (("config", "-c"), ("output", "-o")):
            if name in args and getattr(args, name) is None:
                near = [f"{flag} {words[0]}"]
    hint = f"; did you mean {near[0]}?" if near else ""
    return UsageError(f"unrecognized arguments: {' '.join(words)}{hint}", command.format_usage().rstrip())


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace with its `command` set. Raises UsageError; SystemExit after --help."""
    parser = build_parser()
    if argv and not argv[0].startswith("-") and argv[0] not in (*COMMANDS, "host-server"):
        near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"there is no command {argv[0]}{hint}", parser.format_usage().rstrip())
    args, extra = parser.parse_known_args(argv)
    if extra:
        raise not_taken(parser, args, extra)
    if args.version is True:
        return argparse.Namespace(command="version", json=False)
    if args.command is None:
        raise UsageError("a command is missing", parser.format_help().rstrip())
    return args
