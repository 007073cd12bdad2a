"""`mcp-edge validate`: loads a config exactly as `run` does and says all that is wrong with it."""

import argparse
import os
import sys
from typing import Any

from edge.cli import exit_codes
from edge.cli.configfile import config_places, find_config, read_config, warnings_of
from edge.cli.output import harmless, painted, say, say_json, say_problems
from edge.config.model import EdgeConfig, ServerConfig, StdioServerConfig
from edge.errors import ConfigError


def validate(args: argparse.Namespace) -> int:
    path = find_config(args, os.environ)
    if path is None:
        places = ", ".join(map(str, config_places(os.environ)))
        if args.json:
            say_json({"ok": True, "config": None, "problems": [], "warnings": [], "summary": None})
        else:
            say(f"no config file (looked for {places}): `mcp-edge run` would serve the built-in default")
        return exit_codes.OK
    warnings: list[str] = []
    try:
        config = read_config(path, os.environ, warn=warnings.append)
    except ConfigError as exc:
        if args.json:
            problems = [problem._asdict() for problem in exc.problems]
            say_json(
                {
                    "ok": False,
                    "config": str(path),
                    "problems": problems,
                    "warnings": warnings,
                    "summary": None,
                }
            )
        else:
            say_problems(exc.problems, err=False)
            count = "1 problem" if len(exc.problems) == 1 else f"{len(exc.problems)} problems"
            say(painted(f"{harmless(str(path))}: {count}", "red", sys.stdout))
        return exit_codes.CONFIG
    warnings += warnings_of(config)
    if args.json:
        summary = summary_of(config)
        say_json({"ok": True, "config": str(path), "problems": [], "warnings": warnings, "summary": summary})
        return exit_codes.OK
    for warning in warnings:
        say(f"{painted('warning', 'yellow', sys.stdout)}: {harmless(warning)}")
    say(painted(f"{harmless(str(path))}: good", "green", sys.stdout))
    say(harmless("\n".join(summary_lines(config))))
    return exit_codes.OK


def address_of(server: ServerConfig) -> str:
    """What is started or called; arguments and a URL's query are left out, as they may hold a secret."""
    return server.command[0] if isinstance(server, StdioServerConfig) else server.shown_url


def summary_of(config: EdgeConfig) -> dict[str, Any]:
    """What a good config leads to."""
    return {
        "gateway": {"listen": list(config.gateway.listen), "path": config.gateway.path},
        "admin": config.admin.listen if config.admin.enabled else None,
        "servers": [
            {
                "name": name,
                "kind": "stdio" if isinstance(server, StdioServerConfig) else "http",
                "address": address_of(server),
                "required": server.required,
            }
            for name, server in config.servers.items()
        ],
    }


def summary_lines(config: EdgeConfig) -> list[str]:
    """The same for people."""
    scheme = "https" if config.gateway.tls else "http"
    lines = [
        f"  endpoint  {text if text.startswith('unix:') else f'{scheme}://{text}'}  {config.gateway.path}"
        for text in config.gateway.listen
    ]
    admin = config.admin.listen
    shown = admin if admin.startswith("unix:") else f"http://{admin}"
    lines.append(f"  admin     {shown if config.admin.enabled else 'off'}")
    for name, server in config.servers.items():
        kind = "stdio" if isinstance(server, StdioServerConfig) else "http"
        lines.append(
            f"  server    {name}  ({kind}: {address_of(server)}{', required' if server.required else ''})"
        )
    return lines
