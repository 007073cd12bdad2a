"""mcpstead's YAML: an aggregating gateway in front of HTTP servers.

Source: its configuration as read by the released version; what it ignored without a word is told here.
"""

from typing import Any

from edge.config.importers.draft import Draft, good_name
from edge.config.importers.foreign_table import Table
from edge.config.importers.placeholders import Placeholders
from edge.config.importers.settings import (
    OPEN_TO_ALL,
    name_and_url,
    put_header,
    put_level,
    put_listen,
    put_url,
)

NOT_YET = "is left out: mcp-edge cannot tell clients apart yet"
PORT = 8766
LIMIT_MS = 30_000.0


def import_mcpstead(draft: Draft, root: Table) -> None:
    host = root.text("host") or "127.0.0.1"
    port = root.number("port")
    put_listen(
        draft, host, PORT if port is None else int(port), root.at("port" if "port" in root else "host")
    )
    mcp = root.table("mcp")
    if mcp is not None:
        put_mcp(draft, mcp)
    for table in root.tables("servers"):
        put_server(draft, table)
    metrics = root.table("metrics")
    if metrics is not None:
        if metrics.flag("enabled") is False:
            draft.put(("admin", "enabled"), False, origin=metrics.at("enabled"))
            draft.changed(
                metrics.at("enabled"),
                "switches off health, too: both are on one listener, and admin.enabled = true has both",
            )
        metrics.end()
    else:
        draft.changed((), "/metrics, /healthz and /readyz are on a listener of their own, 127.0.0.1:9766")
    logging = root.table("logging")
    if logging is not None:
        put_level(draft, logging.text("level"), logging.at("level"))
        logging.end()
    root.end()


def put_mcp(draft: Draft, mcp: Table) -> None:
    auth = mcp.table("auth")
    if auth is not None:
        mode = auth.text("mode") or "none"
        if mode != "none":
            text = f"{NOT_YET}: {OPEN_TO_ALL}"
            draft.lost(auth.at("mode"), text, at=("gateway", "listen"))
        auth.lost("token_env", NOT_YET)
        auth.lost("token", NOT_YET)
        auth.end()
    session = mcp.table("session")
    if session is not None:
        for key, ours in (("idle_ttl_seconds", "session_idle_s"), ("shutdown_grace_seconds", "drain_s")):
            value = session.number(key)
            if value is not None:
                draft.put(("gateway", ours), value, origin=session.at(key))
        session.lost("gc_interval_seconds", "is not needed: sessions end when their time is over")
        session.end()
    mcp.end()


def put_server(draft: Draft, table: Table) -> None:
    named = name_and_url(draft, table)
    if named is None:
        return
    foreign_name, url = named
    name = good_name(foreign_name, draft.table.get("servers", {}))
    path = ("servers", name)
    if name != foreign_name:
        draft.changed(table.at("name"), f"is called {name} here, and its tools {name}__TOOL", at=path)
    put_url(draft, path, name, [url], table.at("url"))
    protocol = (table.text("protocol") or "streamable").lower()
    known = {"streamable": "streamable", "streamable_http": "streamable", "sse": "sse", "auto": "auto"}
    if protocol not in known:
        draft.wrong(table.at("protocol"), "must be streamable, sse or auto")
    elif known[protocol] != "auto":
        draft.put((*path, "transport"), known[protocol], origin=table.at("protocol"))
    if table.flag("required"):
        draft.put((*path, "required"), True, origin=table.at("required"))
    if table.flag("tls_skip_verify"):
        draft.put((*path, "verify"), False, origin=table.at("tls_skip_verify"))
        draft.to_do(
            table.at("tls_skip_verify"),
            "any certificate will do: better have ca_file, and verify the server",
            at=(*path, "verify"),
        )
    put_auth(draft, name, table)
    reading = Placeholders(draft, {})
    for header, value in table.strings("headers").items():
        origin = (*table.at("headers"), header)
        put_header(
            draft, path, name, header, reading.parts(value, origin, (*path, "headers", header)), origin
        )
    put_reconnect(draft, path, table)
    quirks = table.table("quirks")
    if quirks is not None:
        quirks.lost(
            "normalize_sse_events", "is not needed: answers are read whatever their events are called"
        )
        quirks.lost("inject_accept_header", "is not needed: Accept always names both forms")
        quirks.end()
    tools = table.table("tools")
    if tools is not None:
        ttl = tools.number("ttl_seconds")
        if ttl is not None:
            draft.put((*path, "list_refresh_s"), max(ttl, 1.0), origin=tools.at("ttl_seconds"))
        tools.end()
    table.end()


def put_auth(draft: Draft, name: str, table: Table) -> None:
    given: Any = table.take("auth")
    if given is None or given == "none":
        return
    if not isinstance(given, dict):
        draft.wrong(table.at("auth"), "must be none, or a table with type and token_env")
        return
    auth = Table(draft, given, table.at("auth"))
    type_ = auth.text("type") or "none"
    variable = auth.text("token_env")
    at = ("servers", name, "bearer_env")
    if type_ not in ("none", "bearer"):
        draft.wrong(auth.at("type"), "must be none or bearer")
    elif type_ == "bearer" and variable:
        draft.put(at, variable, origin=auth.at("token_env"))
        draft.named_variable(variable, what="its bearer token", origin=auth.at("token_env"), at=at)
    elif type_ == "bearer":
        token = auth.text("token")
        if token:
            new = draft.variable(
                [f"{name}_TOKEN"], value=token, what="its bearer token", origin=auth.at("token"), at=at
            )
            draft.put(at, new, origin=auth.at("token"))
        else:
            draft.wrong(auth.at("token_env"), "is missing: bearer needs the variable with the token")
    auth.end()


def put_reconnect(draft: Draft, path: tuple[str, ...], table: Table) -> None:
    reconnect = table.table("reconnect")
    if reconnect is None:
        return
    attempts = reconnect.number("max_attempts")
    first_ms, limit_ms = reconnect.number("backoff_base_ms"), reconnect.number("backoff_max_ms")
    if attempts:
        draft.put((*path, "reconnect", "max_attempts"), int(attempts), origin=reconnect.at("max_attempts"))
    if first_ms is not None:
        draft.put((*path, "reconnect", "first_s"), first_ms / 1000, origin=reconnect.at("backoff_base_ms"))
    if first_ms is not None or limit_ms is not None:
        limit_s = (LIMIT_MS if limit_ms is None else limit_ms) / 1000
        draft.put((*path, "reconnect", "limit_s"), limit_s, origin=reconnect.at("backoff_max_ms"))
    reconnect.end()
