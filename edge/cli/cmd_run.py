"""`mcp-edge run`: the appliance in the foreground, with its config or, without one, the built-in default."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

from edge import __version__
from edge.app.appliance import App
from edge.app.loaded import BUILT_IN, Loaded
from edge.cli.configfile import (
    config_places,
    file_digests,
    find_config,
    is_there,
    placed_warnings,
    read_config,
)
from edge.cli.control_place import control_of
from edge.cli.output import harmless
from edge.cli.program import own_command, typed_name
from edge.cli.serving import serve, server_lines, why_down
from edge.config.model import EdgeConfig, StdioServerConfig
from edge.errors import ConfigError, Problem

HAS_GONE = "has gone; put it back, or restart to run with another config"


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT: 0. It cannot start: 69 or 78. A bug: 70."""
    return serve(ConfigLoad(args, os.environ), announcement, level=args.log_level, format=args.log_format)


class ConfigLoad:
    """Loads the config as these arguments and the machine say now, from the file that the one in force is of.

    Only where that is none is another one looked for: a file that has gone must not make the built-in default of what
    runs, nor one that came to a place that goes before it replace it.
    """

    def __init__(self, args: argparse.Namespace, env: Mapping[str, str]) -> None:
        self._args = args
        self._env = env

    def __call__(self, in_force: str | None) -> Loaded:
        """`in_force` is the source of the config that is; None at the start. Raises: ConfigError."""
        env = self._env
        is_of_file = in_force is not None and in_force != BUILT_IN
        path = Path(in_force) if is_of_file and in_force is not None else find_config(self._args, env)
        if path is None:
            return Loaded(config=default_config(), control=control_of("", path, env))
        if is_of_file and not is_there(path):
            raise ConfigError([Problem(str(path), HAS_GONE)])
        unwise: list[str] = []
        config = read_config(path, env, warn=unwise.append)
        return Loaded(
            config=config,
            source=str(path),
            control=control_of(config.admin.control, path, env),
            digests=file_digests(config),
            warnings=(*unwise, *map(str, placed_warnings(config, path))),
        )


def default_config() -> EdgeConfig:
    """Loopback, and one server: `host`, a stdio child made of this same program."""
    host = StdioServerConfig(name="host", command=(*own_command(), "host-server"))
    return EdgeConfig(servers={"host": host})


def announcement(app: App) -> str:
    """What a person wants to know now: where it is, what is there, and what to do next."""
    lines = [f"mcp-edge {__version__} is ready on {app.name}", ""]
    lines += server_lines(app)
    lines += uplink_lines(app)
    lines += [f"  edges     {url}" for url in app.hub_urls]
    lines += [f"  endpoint  {endpoint}" for endpoint in app.endpoints]
    lines += [f"  status    {at(url, '/status')}" for url in app.admin_urls]
    endpoint = next((url for url in app.endpoints if url.startswith("http")), None)
    if app.loaded.source == BUILT_IN and endpoint is not None:
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


def uplink_lines(app: App) -> list[str]:
    """Each link out, and where it stands."""
    return [
        f"  uplink    {state.name}: {state.state}{f' ({why})' if (why := why_down(state)) else ''}"
        for state in app.uplink_states()
    ]


def at(address: str, path: str) -> str:
    """A page's URL; for a Unix socket, which has none, the socket and the path."""
    return f"{address}, path {path}" if address.startswith("unix:") else address + path
