"""`mcp-edge validate`: loads a config exactly as `run` does and says all that is wrong with it."""

import argparse
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from edge.cli import exit_codes
from edge.cli.configfile import config_places, find_config, placed_warnings, read_config
from edge.cli.output import harmless, painted, say, say_json, say_problems
from edge.config.model import (
    EdgeConfig,
    HubConfig,
    ServerConfig,
    ServerTlsConfig,
    StdioServerConfig,
    UplinkConfig,
)
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
    warnings += map(str, placed_warnings(config, path))
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
    gateway = config.gateway
    return {
        "gateway": {"listen": list(gateway.listen), "path": gateway.path} if gateway.enabled else None,
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
        "uplinks": [
            {
                "name": name,
                "dialect": uplink.dialect,
                "url": uplink.shown_url,
                "links": list(links_of(config, uplink)),
            }
            for name, uplink in config.uplinks.items()
        ],
        "hub": None if config.hub is None else hub_summary(config.hub),
    }


def links_of(config: EdgeConfig, uplink: UplinkConfig) -> Mapping[str, str | None]:
    """The names that an uplink publishes here and now, each with the server behind it."""
    return uplink.links(config.name or socket.gethostname(), tuple(config.servers))


def hub_summary(hub: HubConfig) -> dict[str, Any]:
    """Where edges connect to, by what, and how it is known who they are."""
    asked = {"jwt": hub.jwt, "webhook": hub.webhook}
    return {
        "listen": list(hub.listen),
        "dialects": list(hub.dialects),
        "edges": list(hub.edges),
        "asks": [way for way, table in asked.items() if table is not None],
    }


def summary_lines(config: EdgeConfig) -> list[str]:
    """The same for people."""
    gateway, hub = config.gateway, config.hub
    lines = [f"  endpoint  {at(text, gateway.tls)}  {gateway.path}" for text in gateway.listen]
    if not gateway.enabled:
        lines = ["  endpoint  off"]
    admin = config.admin.listen
    shown = admin if admin.startswith("unix:") else f"http://{admin}"
    lines.append(f"  admin     {shown if config.admin.enabled else 'off'}")
    for name, server in config.servers.items():
        kind = "stdio" if isinstance(server, StdioServerConfig) else "http"
        lines.append(
            f"  server    {name}  ({kind}: {address_of(server)}{', required' if server.required else ''})"
        )
    for name, uplink in config.uplinks.items():
        links = links_of(config, uplink)
        lines.append(f"  uplink    {name}  ({uplink.dialect}: {uplink.shown_url})  as {', '.join(links)}")
    if hub is not None:
        ways = [f"{len(hub.edges)} by token"] if hub.edges else []
        ways += hub_summary(hub)["asks"]
        lines += [
            f"  hub       {at(text, hub.tls)}  ({', '.join(hub.dialects)}; edges: {', '.join(ways)})"
            for text in hub.listen
        ]
    return lines


def at(address: str, tls: ServerTlsConfig | None) -> str:
    """A listener's address as a URL, if it has one."""
    return address if address.startswith("unix:") else f"{'https' if tls else 'http'}://{address}"
