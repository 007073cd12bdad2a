"""`mcp-edge run`: the appliance in the foreground, with its config or, without one, the built-in default."""

import argparse
import dataclasses
import json
import logging
import os
from pathlib import Path

import trio

from edge import __version__
from edge.app import App, secrets_of
from edge.cli import exit_codes
from edge.cli.configfile import config_places, find_config, read_config, warnings_of
from edge.cli.output import harmless, say
from edge.cli.program import own_command, typed_name
from edge.config.model import EdgeConfig, LogConfig, StdioServerConfig
from edge.errors import ConfigError, EdgeError, leaves
from edge.log import Redactor, set_up

log = logging.getLogger("edge.run")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT: 0. It cannot start: 69 or 78. A bug: 70."""
    path = find_config(args, os.environ)
    unwise: list[str] = []
    config = default_config() if path is None else read_config(path, os.environ, warn=unwise.append)
    chosen = LogConfig(level=args.log_level or config.log.level, format=args.log_format or config.log.format)
    config = dataclasses.replace(config, log=chosen)
    redactor = Redactor()
    redactor.redact(secrets_of(config))
    set_up(config.log.level, config.log.format, redactor=redactor)
    for text in (*unwise, *warnings_of(config)):
        log.warning(text)
    app = App(config, redactor=redactor)
    log.info(
        "starting",
        extra={"version": __version__, "config": str(path or "built-in"), "servers": len(config.servers)},
    )

    def announce(app: App) -> None:
        say(redactor.clean(announcement(app, path)))

    try:
        trio.run(app.run, announce)
    except Exception as exc:
        # The nurseries' groups hold one cause each; what was expected to be possible is said in a line of its own.
        parts = list(leaves(exc)) if isinstance(exc, BaseExceptionGroup) else [exc]
        if all(isinstance(part, EdgeError) and not isinstance(part, ConfigError) for part in parts):
            for part in parts:
                say(f"mcp-edge: {harmless(redactor.clean(str(part)))}", err=True)
            return exit_codes.UNAVAILABLE
        raise
    return exit_codes.OK


def default_config() -> EdgeConfig:
    """Loopback, and one server: `host`, a stdio child made of this same program."""
    host = StdioServerConfig(name="host", command=(*own_command(), "host-server"))
    return EdgeConfig(servers={"host": host})


def announcement(app: App, path: Path | None) -> str:
    """What a person wants to know now: where it is, what is there, and what to do next."""
    lines = [f"mcp-edge {__version__} is ready on {app.name}", ""]
    for name, upstream in sorted(app.upstreams.items()):
        state = upstream.status
        count = len(upstream.catalog.tools)
        tools = "1 tool" if count == 1 else f"{count} tools"
        found = tools if upstream.is_ready else f"{state.state}: {state.reason}"
        lines.append(f"  server    {name}: {found}")
    lines += [f"  endpoint  {endpoint}" for endpoint in app.endpoints]
    lines += [f"  status    {at(url, '/status')}" for url in app.admin_urls]
    endpoint = next((url for url in app.endpoints if url.startswith("http")), None)
    if path is None and endpoint is not None:
        client = json.dumps({"mcpServers": {"mcp-edge": {"type": "http", "url": endpoint}}}, indent=2)
        lines += [
            "",
            "For an MCP client (most read such a file; Claude Code: "
            f"claude mcp add --transport http mcp-edge {endpoint}):",
            "",
            *(f"  {line}" for line in client.splitlines()),
            "",
            "This is the built-in default. To serve your own: "
            f"{typed_name()} init -o {config_places(os.environ)[-1]}",
        ]
    return "\n".join(harmless(line) for line in lines) + "\n"


def at(address: str, path: str) -> str:
    """A page's URL; for a Unix socket, which has none, the socket and the path."""
    return f"{address}, path {path}" if address.startswith("unix:") else address + path
