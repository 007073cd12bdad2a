"""Finds the config file, reads it, and says what is allowed in it but unwise."""

import argparse
import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from edge.cli.start_problems import is_home, start_problems
from edge.config.address import ip_or_none, parse_address
from edge.config.diff import hub_paths, tls_paths
from edge.config.load import load
from edge.config.model import EdgeConfig, HttpServerConfig, StdioServerConfig, UplinkTls
from edge.config.places import Places, leading_keys
from edge.config.private import is_named_secret
from edge.config.rules import dotted
from edge.config.secrets import Expanded
from edge.errors import ConfigError, EdgeError, Problem

SYSTEM_CONFIG = Path("/etc/mcp-edge/config.toml")
SHELL_WORDS = frozenset(("&&", "||", "&", "|", ";", ">", ">>", "<", "2>&1"))
MAX_CONFIG_BYTES = 4_194_304
MAX_SECRET_BYTES = 65_536


def config_places(env: Mapping[str, str]) -> list[Path]:
    """Where a config is looked for when none was named, first one first."""
    home = env.get("HOME")
    return [SYSTEM_CONFIG, *([Path(home, ".config/mcp-edge/config.toml")] if home else [])]


def find_config(args: argparse.Namespace, env: Mapping[str, str]) -> Path | None:
    """The config to use: `--config`, `$MCP_EDGE_CONFIG`, or the first that is there; None: there is none.

    One that was named is given back even if it is not there, and so is one that may not be looked at:
    falling back to something else would surprise.
    """
    named: str | None = args.config or env.get("MCP_EDGE_CONFIG")
    if named:
        return Path(named)
    return next(filter(is_there, config_places(env)), None)


def is_there(path: Path) -> bool:
    """Also where it may not be looked at: then it is not known to be missing."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def secret_reader(warn: Callable[[str], None] = lambda text: None) -> Callable[[str], str]:
    """What reads a secret's file; `warn` hears of those that others can read."""

    def read_secret(name: str) -> str:
        with open(name, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & stat.S_IROTH:
                warn(f"{name}: everyone on this machine can read this secret; chmod 600 it")
            data = file.read(MAX_SECRET_BYTES + 1)
        if len(data) > MAX_SECRET_BYTES:
            raise ValueError("too long for a secret")
        return data.decode()

    return read_secret


def read_config(
    path: Path, env: Mapping[str, str], *, warn: Callable[[str], None] = lambda text: None
) -> EdgeConfig:
    """The config in the file at `path`; `warn` hears of secret files that others can read.

    Raises: ConfigError, also for a file that cannot be read, be it this one or one that it names for TLS.
    """

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as exc:
        text = f"cannot be read: {exc.strerror or type(exc).__name__}"
        raise ConfigError([Problem(str(path), text)]) from exc
    except ValueError:  # a NUL character in the name
        raise ConfigError([Problem(str(path), "is not a name that a file can have")]) from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError([Problem(str(path), f"is larger than {MAX_CONFIG_BYTES} bytes")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError([Problem(f"{path}:{line}", "is not UTF-8 text")]) from None
    config = load(text, env=env, read_secret=secret_reader(warn), source=str(path))
    if found := list(tls_problems(config)):
        places = Places(text, str(path))
        raise ConfigError([Problem(places.place(where), said) for where, said in found])
    return config


def tls_problems(config: EdgeConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """Certificates, keys and authorities that cannot be used: the path of each one's table or key, and why."""
    hub = config.hub
    endpoints = {("gateway", "tls"): config.gateway.tls, ("hub", "tls"): hub.tls if hub is not None else None}
    shown = {path: tls for path, tls in endpoints.items() if tls is not None}
    trusted: dict[tuple[str, ...], UplinkTls] = {
        ("servers", name, "ca_file"): UplinkTls(ca_file=server.ca_file)
        for name, server in config.servers.items()
        if isinstance(server, HttpServerConfig) and server.ca_file
    }
    trusted |= {
        ("uplinks", name, "tls"): uplink.tls
        for name, uplink in config.uplinks.items()
        if uplink.tls is not None
    }
    if hub is not None and hub.webhook is not None and hub.webhook.ca_file:
        trusted["hub", "webhook", "ca_file"] = UplinkTls(ca_file=hub.webhook.ca_file)
    if not shown and not trusted:
        return
    # These bring in ssl, which most configs have no use for.
    from edge.net.tls import client_context, endpoint_context

    for path, tls in shown.items():
        try:
            endpoint_context(tls)
        except ConfigError as exc:
            yield from ((path, problem.text) for problem in exc.problems)
    for place, ways in trusted.items():
        try:
            client_context(ways.ca_file, ways.verify, ways.cert, ways.key)
        except EdgeError as exc:
            yield place, str(exc)


def file_digests(config: EdgeConfig) -> dict[str, str]:
    """Of the files that listeners' TLS is made from, by path; a file that cannot be read has none."""
    tables = [config.gateway.tls, config.hub.tls if config.hub is not None else None]
    paths = {path for tls in tables for path in tls_paths(tls)}
    if config.hub is not None:
        paths.update(hub_paths(config.hub))
    found: dict[str, str] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return found


def warnings_of(config: EdgeConfig, env: Mapping[str, str] = os.environ, *, starts: bool = True) -> list[str]:
    """What is allowed and unwise, or will not work as things are now: a sentence each, with its place.

    `starts`: also why commands would not start.
    """
    found: list[str] = []
    if config.insecure_plain_secrets:
        found.append(
            "insecure_plain_secrets: secrets may stand in the config file; this is for trying things out"
        )
    outside = [text for text in config.gateway.listen if not parse_address(text).is_local]
    tls = config.gateway.tls
    if outside and (tls is None or tls.client_ca is None):
        found.append(f"gateway.insecure_public: whoever reaches {', '.join(outside)} can call every tool")
    if outside and tls is None:
        found.append("gateway.tls: without it, all that clients send and get can be read on the way")
    if not config.gateway.allowed_hosts and any(is_wildcard(text) for text in outside):
        found.append(
            "gateway.allowed_hosts: empty, so requests from outside are refused (421), whatever they call us"
        )
    if config.admin.enabled and not parse_address(config.admin.listen).is_local:
        found.append(
            f"admin.listen: whoever reaches {config.admin.listen} can read names, states and metrics"
        )
    if not config.servers and config.hub is None:
        found.append("servers: there is none, so clients find an empty endpoint")
    stdio = [server for server in config.servers.values() if isinstance(server, StdioServerConfig)]
    not_starting = start_problems(stdio, env) if starts else {}
    for name, server in config.servers.items():
        if isinstance(server, StdioServerConfig):
            if not config.insecure_plain_secrets:
                found += plain_secrets(server)
            found += not_starting.get(name, ())
            found += shell_words(server)
            continue
        if not server.verify:
            found.append(
                f"{dotted(('servers', name))}.verify: any certificate will do, so anyone on the way can pose as it"
            )
        url = urlsplit(server.url)
        if server.bearer is not None and url.scheme == "http" and not is_loopback(url.hostname or ""):
            found.append(
                f"{dotted(('servers', name))}.url: the bearer token goes over the network in the clear"
            )
    return [*found, *link_warnings(config)]


def placed_warnings(
    config: EdgeConfig, path: Path, env: Mapping[str, str] = os.environ, *, starts: bool = True
) -> list[Problem]:
    """`warnings_of` the config that was read from `path`, with their lines in it."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError):
        text = ""  # it has gone, or is another one by now
    places = Places(text, str(path))
    found = [each.partition(": ") for each in warnings_of(config, env, starts=starts)]
    return [Problem(places.place(leading_keys(place)), said) for place, _, said in found]


def link_warnings(config: EdgeConfig) -> Iterator[str]:
    """The same about connections out, and those of edges."""
    for name, uplink in config.uplinks.items():
        place = dotted(("uplinks", name))
        if uplink.tls is not None and not uplink.tls.verify:
            yield f"{place}.tls.verify: any certificate will do, so anyone on the way can pose as the hub"
        if not uplink.is_tls and not is_loopback(urlsplit(uplink.url).hostname or ""):
            yield f"{place}.url: tokens and calls go over the network in the clear"
    hub = config.hub
    if hub is not None and hub.tls is None:
        outside = [text for text in hub.listen if not parse_address(text).is_local]
        if outside:
            yield f"hub.insecure_plain: what edges send to {', '.join(outside)} can be read on the way"


def plain_secrets(server: StdioServerConfig) -> Iterator[str]:
    """Variables that are secrets by their name, with a value that stands in the file."""
    for name, value in server.env.items():
        if is_named_secret(name, value) and not isinstance(value, Expanded):
            place = dotted(("servers", server.name, "env", name))
            yield f"{place}: a secret stands in the config file; ${{NAME}} takes it from the environment"


def shell_words(server: StdioServerConfig) -> Iterator[str]:
    """What a shell would do, and nobody does here."""
    place = dotted(("servers", server.name))
    if any(map(is_home, server.command)):
        yield f"{place}.command: no shell runs it, so ~ does not become the home directory: write the whole path"
    # Of an argument no more is shown than this: it may hold a secret.
    words = (";" if word.endswith(";") and " " not in word else word for word in server.command)
    if found := next((word for word in words if word in SHELL_WORDS), None):
        yield f'{place}.command: no shell runs it, so "{found}" is an argument like any other; use sh -c'


def is_wildcard(text: str) -> bool:
    """A listen address that means every interface."""
    return parse_address(text).host in ("0.0.0.0", "::")  # noqa: S104  looked at, not bound


def is_loopback(host: str) -> bool:
    """A URL's host is this machine."""
    ip = ip_or_none(host)
    return ip.is_loopback if ip is not None else host == "localhost" or host.endswith(".localhost")
