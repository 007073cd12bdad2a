"""`mcp-edge connect`: one local server to one gateway, without a config file.

Takes the option and variable names of ContextForge's reverse-proxy client too. What it is told becomes a config like
any other, read by the same rules; problems are said with the option's name.
"""

import argparse
import json
import math
import os
import re
import shlex
import socket
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge import __version__
from edge.cli.arguments import UsageError
from edge.cli.configfile import secret_reader, tls_problems
from edge.cli.output import harmless
from edge.config.command_name import name_of_command
from edge.config.load import load_table
from edge.config.model import EdgeConfig
from edge.errors import ConfigError, Problem

if TYPE_CHECKING:
    from edge.app.appliance import App

VARIABLES = {
    "gateway": "REVERSE_PROXY_GATEWAY",
    "token": "REVERSE_PROXY_TOKEN",
    "reconnect_delay": "REVERSE_PROXY_RECONNECT_DELAY",
    "max_retries": "REVERSE_PROXY_MAX_RETRIES",
    "keepalive": "REVERSE_PROXY_KEEPALIVE",
    "log_level": "REVERSE_PROXY_LOG_LEVEL",
}
FILE_KEYS = (
    "local_stdio", "local_http", "gateway", "token", "reconnect_delay", "max_retries", "keepalive", "log_level",
    "name", "dialect",
)  # fmt: skip
PLACES = {
    "servers": "--stdio",
    "url": "--to",
    "token": "--token",
    "dialect": "--dialect",
    "link_name": "--name",
    "heartbeat_s": "--keepalive",
    "reconnect": "--reconnect-delay, --max-retries",
    "headers": "--header",
    "proxy": "--proxy",
    "tls": "--ca-file",
}
LOG_LEVELS = {level: level for level in ("debug", "info", "warning", "error")}
LOG_LEVELS |= {"warn": "warning", "critical": "error"}
BACKOFF_LIMIT_S = 60.0


def connect(args: argparse.Namespace) -> int:
    """Keep the link up until SIGTERM or SIGINT: 0. Given up after --max-retries: 69. Wrong options: 64 or 78."""
    options = gathered(args, os.environ)
    unwise: list[str] = []
    if args.token:
        unwise.append("--token: everyone on this machine can see it; use REVERSE_PROXY_TOKEN or --token-file")
    config = config_of(options, os.environ, unwise)
    # Brings in the whole appliance, which a wrong command line has no use for.
    from edge.app.loaded import Loaded
    from edge.cli.serving import serve

    return serve(
        lambda _: Loaded(config=config, source="command line", warnings=tuple(unwise)),
        announcement,
        level=LOG_LEVELS[options["log_level"]] if "log_level" in options else None,
        format=args.log_format,
        reloads=False,
        gives_up=True,
    )


def gathered(args: argparse.Namespace, env: Mapping[str, str]) -> dict[str, Any]:
    """The options: the command line's, then the environment's, then those of --config."""
    options = dict(read_file(args.config)) if args.config else {}
    options |= {name: env[variable] for name, variable in VARIABLES.items() if env.get(variable)}
    given = {
        "local_stdio": args.stdio, "local_http": args.http, "gateway": args.to, "token": args.token,
        "token_env": args.token_env, "token_file": args.token_file, "name": args.name, "dialect": args.dialect,
        "reconnect_delay": args.reconnect_delay, "max_retries": args.max_retries, "keepalive": args.keepalive,
        "log_level": "debug" if args.verbose else args.log_level, "headers": args.header,
        "ca_file": args.ca_file, "proxy": args.proxy,
    }  # fmt: skip
    named = {name: value for name, value in given.items() if value is not None}
    if {"token", "token_env", "token_file"} & named.keys():
        options.pop("token", None)
    if named.keys() & {"local_stdio", "local_http"}:
        options.pop("local_stdio", None)
        options.pop("local_http", None)
    options |= named
    usage = "usage: mcp-edge connect --stdio COMMAND --to URL"
    if ("local_stdio" in options) == ("local_http" in options):
        what = "--stdio COMMAND is missing: the server to share"
        both = "--stdio and --http: one server is shared, so one of them"
        raise UsageError(both if "local_stdio" in options else what, usage)
    if "gateway" not in options:
        raise UsageError("--to URL is missing: the gateway (or REVERSE_PROXY_GATEWAY)", usage)
    level = str(options.get("log_level", "info")).lower()
    if level not in LOG_LEVELS:
        raise UsageError(f"--log-level: {level} is none of {', '.join(LOG_LEVELS)}", usage)
    if "log_level" in options:
        options["log_level"] = level
    return options


def read_file(path: str) -> Mapping[str, Any]:
    """A file of options, JSON or TOML. Raises: ConfigError."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except (OSError, ValueError) as exc:
        what = exc.strerror if isinstance(exc, OSError) else "is not UTF-8 text"
        raise ConfigError([Problem(path, f"cannot be read: {what}")]) from exc
    try:
        table = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError as exc:
        raise ConfigError([Problem(path, f"is neither JSON nor TOML: {exc}")]) from None
    options = {str(key).replace("-", "_"): value for key, value in table.items()}
    unknown = sorted(options.keys() - set(FILE_KEYS))
    if unknown:
        known = ", ".join(FILE_KEYS)
        raise ConfigError([Problem(path, f"unknown key {key}; there are {known}") for key in unknown])
    return options


def config_of(options: Mapping[str, Any], env: Mapping[str, str], unwise: list[str]) -> EdgeConfig:
    """The config that these options stand for. Raises: ConfigError, with the options' names as places."""
    server, name = local_server(options)
    uplink: dict[str, Any] = {"url": with_scheme(str(options["gateway"])), "publish": "all"}
    uplink["dialect"] = options.get("dialect", "contextforge")
    uplink["link_name"] = options.get("name") or f"{safe(socket.gethostname())}-{name}"[:64].rstrip("_.-")
    for key in ("token", "token_env", "token_file"):
        if key in options:
            uplink[key] = options[key]
    if "keepalive" in options:
        uplink["heartbeat_s"] = number(options["keepalive"], "--keepalive")
    first_s = number(options.get("reconnect_delay", 1.0), "--reconnect-delay")
    attempts = number(options.get("max_retries", 0), "--max-retries")
    if not attempts.is_integer():
        raise ConfigError([Problem("--max-retries", "must be a whole number")])
    uplink["reconnect"] = {
        "first_s": first_s,
        "limit_s": max(first_s, BACKOFF_LIMIT_S),
        "max_attempts": int(attempts),
    }
    if "headers" in options:
        uplink["headers"] = dict(header(text) for text in options["headers"])
    if "proxy" in options:
        uplink["proxy"] = options["proxy"]
    if "ca_file" in options:
        uplink["tls"] = {"ca_file": options["ca_file"]}
    table = {
        "gateway": {"enabled": False, "prefix": "never"},
        "admin": {"enabled": False},
        "servers": {name: server},
        "uplinks": {"gateway": uplink},
        # What stands on the command line or in a variable that we were told to read is no secret in a file.
        "insecure_plain_secrets": True,
    }
    try:
        config = load_table(table, env=env, read_secret=secret_reader(unwise.append), source="")
    except ConfigError as exc:
        raise ConfigError([Problem(option_of(found.place), found.text) for found in exc.problems]) from None
    if problems := [Problem(option_of(".".join(where)), text) for where, text in tls_problems(config)]:
        raise ConfigError(problems)
    return config


def local_server(options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The table of the server to share, and a name for it."""
    if "local_http" in options:
        return {"url": options["local_http"]}, "server"
    command = options["local_stdio"]
    if not isinstance(command, str | list):
        raise ConfigError([Problem("--stdio", "must be a string, or a list of strings")])
    try:
        words = shlex.split(command) if isinstance(command, str) else command
    except ValueError as exc:
        raise ConfigError([Problem("--stdio", f"cannot be split into words: {str(exc).lower()}")]) from None
    return {"command": words}, safe(name_of_command(words))


def safe(text: str) -> str:
    """Text as a name of a server or link can be."""
    name = re.sub(r"__+", "_", re.sub(r"[^A-Za-z0-9_.-]+", "-", text)).strip("_.-")
    return name[:40] or "server"


def with_scheme(url: str) -> str:
    return url if "://" in url else f"wss://{url}"


def header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigError([Problem("--header", "must look like 'Name: value'")])
    return name.strip(), value.strip()


def number(value: object, option: str) -> float:
    try:
        found = float(str(value))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ConfigError([Problem(option, "must be a number")])
    return found


def option_of(place: str) -> str:
    """The option behind a place in the table that we have made."""
    words = [word for word in re.split(r"[.:\s]+", place) if word not in ("", "uplinks", "gateway")]
    key = words[0] if words else ""
    if key in ("token_env", "token_file"):
        return "--" + key.replace("_", "-")
    return PLACES.get(key, place)


def announcement(app: "App") -> str:
    """The ready line, with what to do next if it is not."""
    from edge.cli.serving import server_lines, why_down

    lines = [f"mcp-edge {__version__}: sharing one server, Ctrl-C ends it", "", *server_lines(app)]
    for status in app.uplink_states():
        where = f" at {status.detail['url']}" if "url" in status.detail else ""
        why = f": {why}" if (why := why_down(status)) else ""
        lines.append(
            f"  link      {status.detail.get('published_as', status.name)}{where}: {status.state}{why}"
        )
    return "\n".join(harmless(line) for line in lines) + "\n"
