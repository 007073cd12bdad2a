"""The file of an MCP client: `mcpServers` of Claude Desktop, Claude Code, Cursor, Windsurf and Cline, `servers` of VS
Code's mcp.json, `mcp.servers` of its settings.

Source: the clients' documentation as of 2026; there is no common specification.
"""

import re
import shlex

from edge.config.importers.command import put_command
from edge.config.importers.draft import Draft, good_name
from edge.config.importers.foreign_table import Table
from edge.config.importers.placeholders import Placeholders
from edge.config.importers.settings import put_header, put_url

URL_KEYS = ("url", "serverUrl", "httpUrl", "endpoint")
TRANSPORTS = {"http": "auto", "streamable-http": "streamable", "streamablehttp": "streamable"}
TRANSPORTS |= {"streamable_http": "streamable", "sse": "sse", "http-first": "auto", "remote": "auto"}
STDIO = frozenset({"stdio", "local"})
APPROVAL = "is left out: it is the client's own, approve tools there"
OF_CLIENTS = {
    "autoApprove": APPROVAL,
    "alwaysAllow": APPROVAL,
    "trust": APPROVAL,
    "disabledTools": "is left out, so clients see all of its tools: mcp-edge cannot hide some yet",
    "enabledTools": "is left out, so clients see all of its tools: mcp-edge cannot hide some yet",
    "includeTools": "is left out, so clients see all of its tools: mcp-edge cannot hide some yet",
    "excludeTools": "is left out, so clients see all of its tools: mcp-edge cannot hide some yet",
    "tools": "is left out, so clients see all of its tools: mcp-edge cannot hide some yet",
    "oauth": "OAuth is not supported: a token that lasts goes into bearer_file or bearer_env",
    "auth": "is not supported: a token goes into bearer_file or bearer_env",
    "dev": "is left out: it is for development in the editor",
    "sandbox": "is left out: servers run with the rights of mcp-edge (`mcp-edge help systemd` bounds these)",
}
MILLISECONDS_FROM = 1000.0


def import_mcp_servers(draft: Draft, root: Table) -> None:
    """Every server of the file."""
    inputs = {}
    settings = root.table("mcp") if isinstance(root.take("mcp"), dict) else None
    for holder in (root, *([settings] if settings is not None else [])):
        for each in holder.tables("inputs"):
            name = each.text("id")
            if name is not None:
                inputs[name] = each.text("description") or ""
    reading = Placeholders(draft, inputs)
    holders = [(root, "mcpServers"), (root, "servers")]
    holders += [(settings, "servers"), (settings, "mcpServers")] if settings is not None else []
    found = [each for holder, key in holders if key in holder for each in holder.named(key)]
    if not found and not any(key in holder for holder, key in holders):
        found = list(root.each())  # the bare tables
    for name, table in found:
        put_server(draft, reading, name, table)
    if settings is not None:
        settings.end()
    root.lost(
        "projects", "servers of single projects are not looked at: import them from a file of their own"
    )
    root.end("is left out: it is not about servers")


def put_server(draft: Draft, reading: Placeholders, foreign_name: str, table: Table) -> None:
    name = good_name(foreign_name, draft.table.get("servers", {}))
    path = ("servers", name)
    if name != foreign_name:
        draft.changed(table.path, f"is called {name} here: its name starts the names of its tools", at=path)
    said = (table.text("type", "transport", "transportType") or "").lower()
    url_key = table.found(*URL_KEYS)
    if said in STDIO or (url_key is None and "command" in table):
        put_stdio(draft, reading, name, table)
    elif url_key is not None and (said in TRANSPORTS or not said):
        put_http(draft, reading, name, table, url_key, said)
    elif said in ("ws", "websocket"):
        draft.lost(
            table.path, "is left out: MCP over a WebSocket is not supported; has it an address for HTTP, too?"
        )
        return
    elif said and said not in TRANSPORTS:
        draft.wrong(
            table.at(table.found("type", "transport", "transportType") or "type"),
            "is no transport known here",
        )
        return
    else:
        draft.wrong(table.path, "needs command (a server to start) or url (a server to call)")
        return
    timeout = table.number("timeout")
    if timeout is not None and timeout > 0:
        is_ms = timeout >= MILLISECONDS_FROM
        draft.put((*path, "call_timeout_s"), timeout / 1000 if is_ms else timeout, origin=table.at("timeout"))
        unit = "milliseconds" if is_ms else "seconds"
        draft.changed(table.at("timeout"), f"is taken to be {unit}, as call_timeout_s")
    is_off = table.flag("disabled")
    is_on = table.flag("enabled")
    if is_off or is_on is False:
        draft.disabled.add(path)
        draft.changed(
            table.path,
            "was switched off, so it stands behind # here: take that away to switch it on",
            at=path,
        )
    for key, text in OF_CLIENTS.items():
        table.lost(key, text)
    table.ignore("name", "description", "icon", "gallery", "version", "metadata")  # words for people
    table.end()


def put_stdio(draft: Draft, reading: Placeholders, name: str, table: Table) -> None:
    path = ("servers", name)
    command = table.text("command")
    args = table.texts("args")
    if not command:
        draft.wrong(table.at("command"), "is missing" if command is None else "must not be empty")
        return
    origins = [table.at("command"), *((*table.at("args"), at) for at in range(len(args)))]
    words = [command, *args]
    if not args and re.search(r"\s", command) and not command.startswith(("/", ".", "~")):
        try:
            words = shlex.split(command)
        except ValueError:
            draft.wrong(table.at("command"), "cannot be split into words: a quotation does not end")
            return
        origins = [table.at("command")] * len(words)
        draft.changed(
            table.at("command"), "is split into words here, as a shell would: see whether they are right"
        )
    if len(words) > 2 and words[0].lower() in ("cmd", "cmd.exe") and words[1].lower() == "/c":
        words, origins = words[2:], origins[2:]
        draft.changed(table.at("command"), "`cmd /c` is left out: it is for Windows")
    put_command(draft, reading, path, words, origins, table.strings("env"), table.at("env"))
    for key in URL_KEYS:
        table.lost(key, "is not used: this server is started by its command")
    table.lost("headers", "is not used: this server is started by its command")
    if "envFile" in table:
        draft.to_do(
            table.at("envFile"), "is not read: name its variables in env, as ${NAME}", at=(*path, "env")
        )
        table.ignore("envFile")
    cwd = table.text("cwd")
    if cwd is None:
        return
    if cwd.startswith("/") and "${" not in cwd:
        draft.put((*path, "cwd"), cwd, origin=table.at("cwd"))
    else:
        text = "set cwd to an absolute path without placeholders: this one is none"
        draft.to_do(table.at("cwd"), text, at=path)


def put_http(draft: Draft, reading: Placeholders, name: str, table: Table, url_key: str, said: str) -> None:
    path = ("servers", name)
    at = (*path, "url")
    url = table.text(url_key)
    if url is None:
        return  # said already
    put_url(draft, path, name, reading.parts(url.strip(), table.at(url_key), at), table.at(url_key))
    if (transport := TRANSPORTS.get(said, "auto")) != "auto":
        draft.put((*path, "transport"), transport, origin=table.path)
    for header, value in table.strings("headers", "requestInit").items():
        origin = (*table.at("headers"), header)
        parts = reading.parts(value.strip(), origin, (*path, "headers", header))
        put_header(draft, path, name, header, parts, origin)
    for key in ("command", "args", "env", "envFile", "cwd"):
        table.lost(key, "is for servers that are started: this one is called by its url")
