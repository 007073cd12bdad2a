"""Which foreign format a file is in, and the config that comes of it.

A format is known by its keys, never by the name of its file. The result is read by our own loader before anybody sees
it; a rule that it breaks is told with the place in the foreign file that it comes from.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge.config.importers.contextforge import import_contextforge
from edge.config.importers.document import Document
from edge.config.importers.draft import Draft, Note
from edge.config.importers.foreign_table import Table
from edge.config.importers.jsonc import read_json
from edge.config.importers.mcp_gateway import import_mcp_gateway
from edge.config.importers.mcp_servers import URL_KEYS, import_mcp_servers
from edge.config.importers.mcpstead import import_mcpstead
from edge.config.importers.toml_text import toml_text
from edge.config.load import Reader
from edge.errors import ConfigError, Problem

MAX_BYTES = 1_048_576
STAND_IN = "1"  # for each variable that is yet to be set: good as a token, a port, a part of a path


@dataclass(frozen=True, slots=True)
class Format:
    """`name` is what `--format` takes; `signs` what such a file is known by."""

    name: str
    title: str
    signs: str
    found: Callable[[Mapping[str, Any]], str]  # the sign that is there, or nothing
    read: Callable[[Draft, Table], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """`text` is our config. `variables` have to be set before it loads, each with what it is for."""

    format: Format
    text: str
    notes: tuple[Note, ...]
    variables: Mapping[str, str]
    n_servers: int
    n_uplinks: int


def sign_of_mcp_servers(root: Mapping[str, Any]) -> str:
    inner = root.get("mcp")
    settings = inner if isinstance(inner, dict) else {}
    for holder, prefix in ((root, ""), (settings, "mcp.")):
        for key in ("mcpServers", "servers"):
            if isinstance(holder.get(key), dict):
                return f"the table {prefix}{key}"
    is_bare = bool(root) and all(
        isinstance(value, dict) and ("command" in value or any(key in value for key in URL_KEYS))
        for value in root.values()
    )
    return "tables with command or url" if is_bare else ""


def items(root: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The tables in a list, if it is one."""
    value = root.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def sign_of_contextforge(root: Mapping[str, Any]) -> str:
    names = ("local_stdio", "local-stdio", "local_http", "local-http")
    if key := next((key for key in names if key in root), None):
        return key
    if isinstance(root.get("gateway"), str):
        return "gateway"
    keys = (*names, "command", "gateway")
    return (
        "servers[] with command or gateway"
        if any(k in s for s in items(root, "servers") for k in keys)
        else ""
    )


def sign_of_mcpstead(root: Mapping[str, Any]) -> str:
    if any("url" in server for server in items(root, "servers")):
        return "servers[] with url"
    mcp = root.get("mcp")
    return "mcp.auth or mcp.session" if isinstance(mcp, dict) and ("auth" in mcp or "session" in mcp) else ""


def sign_of_mcp_gateway(root: Mapping[str, Any]) -> str:
    if isinstance(root.get("upstreams"), list):
        return "upstreams[]"
    return next((key for key in ("rateLimit", "upstreamHeaders") if key in root), "")


FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        Format(
            "mcp-servers",
            "a client's mcpServers",
            "a table mcpServers, servers or mcp.servers (VS Code)",
            sign_of_mcp_servers,
            import_mcp_servers,
        ),
        Format(
            "contextforge",
            "ContextForge's reverse proxy",
            "local_stdio and gateway, or a list servers[] with command and gateway",
            sign_of_contextforge,
            import_contextforge,
        ),
        Format(
            "mcpstead",
            "mcpstead",
            "a list servers[] with url, mcp.auth, mcp.session",
            sign_of_mcpstead,
            import_mcpstead,
        ),
        Format(
            "mcp-gateway",
            "mcp-gateway",
            "a list upstreams[], rateLimit, upstreamHeaders",
            sign_of_mcp_gateway,
            import_mcp_gateway,
        ),
    )
}


def import_text(text: str, *, source: str, name: str | None = None) -> Imported:
    """The config that a foreign file stands for; `name` says which format it is in, if that cannot be seen.

    Raises: ConfigError with every problem, each with its place in the foreign file; no value is ever quoted.
    """
    document = read_document(text, source)
    if not isinstance(document.value, dict):
        raise ConfigError([Problem(source, "holds no table at its top; a config file was expected")])
    chosen = FORMATS[name] if name is not None else detect(document)
    draft = Draft(document, text)
    chosen.read(draft, Table(draft, document.value, ()))
    if draft.problems:
        raise ConfigError(draft.problems)
    check(draft)
    count = len(draft.notes)
    head = f"Made by `mcp-edge import` from {chosen.title}; it had {count} note{'s'[: count != 1]}."
    return Imported(
        chosen,
        toml_text(draft, head),
        tuple(draft.notes),
        draft.variables,
        len(draft.table.get("servers", {})),
        len(draft.table.get("uplinks", {})),
    )


def read_document(text: str, source: str) -> Document:
    """JSON if it begins like that, else YAML. Raises: ConfigError."""
    start = text.lstrip()
    if not start:
        raise ConfigError([Problem(source, "is empty")])
    if is_toml(text):
        raise ConfigError(
            [Problem(source, "is TOML, as configs of mcp-edge are: try `mcp-edge validate -c FILE`")]
        )
    if start.startswith(("{", "[", "//", "/*")):
        return read_json(text, source)
    # Brings in the library for YAML, which JSON has no use for.
    from edge.config.importers.yaml_text import read_yaml

    return read_yaml(text, source)


def is_toml(text: str) -> bool:
    try:
        return bool(tomllib.loads(text))
    except (ValueError, RecursionError):
        return False


def detect(document: Document) -> Format:
    """The one format whose signs are there. Raises: ConfigError that names the signs."""
    signs = {each.name: each.found(document.value) for each in FORMATS.values()}
    found = [name for name, sign in signs.items() if sign]
    if len(found) == 1:
        return FORMATS[found[0]]
    if found:
        told = ", ".join(f"{name} ({signs[name]})" for name in found)
        raise ConfigError([Problem(document.source, f"could be {told}: say which with --format")])
    looked = "; ".join(f"{each.name}: {each.signs}" for each in FORMATS.values())
    raise ConfigError([Problem(document.source, f"is in no format known here. Looked for {looked}")])


def check(draft: Draft) -> None:
    """Read the result as `run` would, with every variable set. Raises: ConfigError with places in the foreign file."""
    table = tomllib.loads(toml_text(draft, "", everything=True))
    reader = Reader(
        env=dict.fromkeys(draft.variables, STAND_IN) | {"HOME": "/", "USER": "x", "PATH": "/"},
        read_secret=none,
    )
    reader.config(table)
    for finding in reader.findings:
        draft.wrong(draft.origin_of(finding.path), finding.text)
    if draft.problems:
        raise ConfigError(list(dict.fromkeys(draft.problems)))


def none(path: str) -> str:
    raise OSError(f"no file is read: {path}")
