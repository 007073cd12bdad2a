"""The reverse-proxy client of ContextForge: its options as YAML or JSON, and the file for several servers.

Source: its documentation, "MCP Reverse Proxy" (the file for several servers is in there, though the released client
never reads it). Keys may have hyphens or underscores, as argparse has it.
"""

import math
import shlex

from edge.config.command_name import name_of_command
from edge.config.importers.command import put_command
from edge.config.importers.document import Path
from edge.config.importers.draft import Draft, good_name
from edge.config.importers.foreign_table import Table
from edge.config.importers.placeholders import Placeholders
from edge.config.importers.settings import host_of, put_level, put_url
from edge.config.private import variable_name

THEIR_LIMIT_S = 60.0
TOKEN_VARIABLE = "REVERSE_PROXY_TOKEN"  # noqa: S105  its name, not its value


def import_contextforge(draft: Draft, root: Table) -> None:
    """One server, or several, each with its gateway."""
    draft.put(("gateway", "enabled"), False, origin=())
    text = "as before, nothing listens on this box; true: clients on it can call the servers, too"
    draft.comments[("gateway", "enabled")] = [text]
    put_level(
        draft, "debug" if root.flag("verbose") else root.text("log_level", "log-level"), root.at("log_level")
    )
    root.ignore("verbose", "config")
    reading = Placeholders(draft, {})
    links: dict[tuple[object, ...], str] = {}
    if "servers" in root:
        for table in root.tables("servers"):
            put_link(draft, reading, table, root, links)
    else:
        put_link(draft, reading, root, root, links)
    root.ignore("gateway", "token", "reconnect_delay", "max_retries", "keepalive")
    root.end()


def put_link(
    draft: Draft, reading: Placeholders, table: Table, root: Table, links: dict[tuple[object, ...], str]
) -> None:
    """One server, and the uplink that publishes it; the root's values hold where the table has none."""
    server = put_server(draft, reading, table)
    if server is None:
        return
    gateway = table.text("gateway") or (root.text("gateway") if table is not root else None)
    if gateway is None:
        draft.wrong(table.path, "names no gateway, the URL to connect to")
        return
    origin = table.at("gateway")
    token = table.text("token") or (root.text("token") if table is not root else None)
    numbers = tuple(
        number_of(table, root, key, dashed)
        for key, dashed in (
            ("reconnect_delay", "reconnect-delay"),
            ("max_retries", "max-retries"),
            ("keepalive", "keepalive"),
        )
    )
    key = (gateway, token, *numbers)
    if key in links:
        draft.table["uplinks"][links[key]]["servers"].append(server)
    else:
        name = links[key] = good_name(host_of(gateway), draft.table.get("uplinks", {}))
        put_uplink(draft, reading, name, server, gateway, token, numbers, table, origin)
    if table is not root:
        table.end()


def put_uplink(
    draft: Draft,
    reading: Placeholders,
    name: str,
    server: str,
    gateway: str,
    token: str | None,
    numbers: tuple[float | None, ...],
    table: Table,
    origin: Path,
) -> None:
    path = ("uplinks", name)
    delay_s, retries, keepalive_s = numbers
    draft.put((*path, "dialect"), "contextforge", origin=origin)
    url = gateway if "://" in gateway else f"wss://{gateway}"
    put_url(draft, path, name, reading.parts(url, origin, (*path, "url")), origin)
    at = (*path, "token_env")
    if token is None:
        draft.put(at, TOKEN_VARIABLE, origin=table.at("token"))
        draft.named_variable(TOKEN_VARIABLE, what="the gateway's token", origin=table.path, at=at)
    else:
        parts = reading.parts(token, table.at("token"), at)
        if len(parts) == 1 and not isinstance(parts[0], str):
            draft.put(at, parts[0].name, origin=table.at("token"))
        else:
            wanted = [TOKEN_VARIABLE, variable_name(f"{name}_TOKEN")]
            what = "the gateway's token"
            variable = draft.variable(wanted, value=token, what=what, origin=table.at("token"), at=at)
            draft.put(at, variable, origin=table.at("token"))
    draft.put((*path, "servers"), [server], origin=table.path)
    draft.changed(
        table.path, f"is known to the gateway as BOX-{server}, BOX being the name of this box (or link_name)"
    )
    if keepalive_s is not None:
        draft.put((*path, "heartbeat_s"), keepalive_s, origin=table.at("keepalive"))
    if delay_s is not None:
        limit_s = max(delay_s, THEIR_LIMIT_S)
        draft.put((*path, "reconnect", "first_s"), delay_s, origin=table.at("reconnect_delay"))
        draft.put((*path, "reconnect", "limit_s"), limit_s, origin=table.at("reconnect_delay"))
    if retries:
        draft.put((*path, "reconnect", "max_attempts"), int(retries), origin=table.at("max_retries"))


def put_server(draft: Draft, reading: Placeholders, table: Table) -> str | None:
    """The server's own table; its name, or None if it is no good."""
    key = table.found("local_stdio", "local-stdio", "command", "stdio")
    http = table.found("local_http", "local-http", "local_sse", "url")
    foreign_name = table.text("name")
    if key is None and http is None:
        draft.wrong(table.path, "names no server: local_stdio is the command that starts it")
        return None
    if key is not None:
        value = table.take(key)
        try:
            words = shlex.split(value) if isinstance(value, str) else value
        except ValueError:
            draft.wrong(table.at(key), "cannot be split into words: a quotation does not end")
            return None
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            draft.wrong(table.at(key), "must be a command: a string, or a list of strings")
            return None
        name = good_name(foreign_name or name_of_command(words), draft.table.get("servers", {}))
        path = ("servers", name)
        args = table.texts("args")
        origins = [table.at(key)] * len(words) + [table.at("args")] * len(args)
        put_command(draft, reading, path, [*words, *args], origins, table.strings("env"), table.at("env"))
        if http is not None:
            table.lost(http, "is not used: the server is started by its command")
    else:
        url = table.text(str(http))
        if url is None:
            return None
        name = good_name(foreign_name or "server", draft.table.get("servers", {}))
        path = ("servers", name)
        put_url(
            draft, path, name, reading.parts(url, table.at(str(http)), (*path, "url")), table.at(str(http))
        )
    if foreign_name is not None and name != foreign_name:
        draft.changed(table.at("name"), f"is called {name} here", at=path)
    return name


def number_of(table: Table, root: Table, *keys: str) -> float | None:
    found = table.number(*keys)
    if found is None and table is not root:
        found = root.number(*keys)
    if found is not None and not math.isfinite(found):
        table.draft.wrong(table.at(keys[0]), "must be a finite number")
        return None
    return found
