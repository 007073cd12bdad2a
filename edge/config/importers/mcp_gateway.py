"""mcp-gateway's YAML: a proxy before HTTP servers, with keys, policy, rate limits, routes and audit.

Source: @isanjosgon/mcp-gateway 0.1.5. What mcp-edge does not have yet is told item by item.
"""

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

HOST, PORT, PATH = "127.0.0.1", 8080, "/mcp"
NOT_YET = "is left out: mcp-edge has no {} yet"
NO_LIMITS = NOT_YET.format("rate limits") + ": clients may call as often as they like"
NO_POLICY = NOT_YET.format("policy") + ": every client may call everything"


def import_mcp_gateway(draft: Draft, root: Table) -> None:
    server = root.table("server")
    host, port = HOST, float(PORT)
    if server is not None:
        host = server.text("host") or HOST
        port = server.number("port") or port
        path = server.text("path")
        if path is not None and path != PATH:
            draft.put(("gateway", "path"), path, origin=server.at("path"))
        origins = server.texts("allowedOrigins")
        if origins:
            draft.put(("gateway", "allowed_origins"), origins, origin=server.at("allowedOrigins"))
        if server.flag("requireOrigin"):
            draft.lost(
                server.at("requireOrigin"),
                "is left out, so a request without Origin is let in: clients that are no browsers send none",
            )
        server.end()
    put_listen(draft, host, int(port), ("server", "port"))
    tables = root.tables("upstreams")
    if not tables and not draft.problems:
        draft.wrong(("upstreams",), "must name at least one upstream")
    for table in tables:
        put_upstream(draft, table)
    put_names(draft, len(tables))
    tell_guards(draft, root)
    logging = root.table("logging")
    if logging is not None:
        put_level(draft, logging.text("level"), logging.at("level"))
        logging.lost(
            "redactKeys", "is not needed: request bodies are not logged, and known secrets are removed"
        )
        logging.end()
    root.end()


def put_names(draft: Draft, n_upstreams: int) -> None:
    """Tools were called as their server calls them."""
    at = ("gateway", "prefix")
    if n_upstreams == 1:
        draft.put(at, "never", origin=("upstreams",))
    else:
        draft.put(at, "on-collision", origin=("upstreams",))
        draft.changed(
            ("upstreams",),
            "all are listed now, not only the first; tools that two of them have are called SERVER__TOOL",
            at=at,
        )


def put_upstream(draft: Draft, table: Table) -> None:
    named = name_and_url(draft, table)
    if named is None:
        return
    foreign_name, url = named
    kind = table.text("type")
    if kind not in (None, "http"):
        draft.wrong(table.at("type"), "must be http")
    taken = draft.table.get("servers", {})
    if foreign_name in taken:
        draft.changed(
            table.at("name"),
            "another one has this name, and there only that one was used: here both are, by names of their own",
        )
    name = good_name(foreign_name, taken)
    path = ("servers", name)
    if name != foreign_name:
        draft.changed(table.at("name"), f"is called {name} here", at=path)
    put_url(draft, path, name, [url], table.at("url"))
    timeout = table.number("timeoutMs")
    if timeout is not None:
        draft.put((*path, "call_timeout_s"), timeout / 1000, origin=table.at("timeoutMs"))
    auth = table.table("auth")
    if auth is not None:
        auth.ignore("type")
        key = auth.table("apiKey")
        if key is not None:
            header, value = key.text("header"), key.text("value")
            if not header or not value:
                draft.wrong(key.path, "needs header and value")
            else:
                reading = Placeholders(draft, {})
                parts = reading.parts(value, key.at("value"), (*path, "headers", header))
                put_header(draft, path, name, header, parts, key.at("value"), is_secret=True)
            key.end()
        auth.end()
    table.end()


def tell_guards(draft: Draft, root: Table) -> None:
    """Everything that stood between clients and servers, one by one: a user has to know that it is gone."""
    auth = root.table("auth")
    if auth is not None:
        if (auth.text("mode") or "none") != "none":
            text = f"{NOT_YET.format('authentication of clients')}: {OPEN_TO_ALL}"
            draft.lost(auth.at("mode"), text, at=("gateway", "listen"))
        for entry in auth.tables("apiKeys"):
            subject = f"{entry.text('tenant')}/{entry.text('client')}"
            draft.lost(entry.path, f"the key of {subject} {NOT_YET.format('client keys')}")
        auth.end()
    limits = root.table("rateLimit")
    if limits is not None:
        for key in ("keyPrefix", "defaultRpm"):
            limits.lost(key, NO_LIMITS)
        for method in limits.strings("byMethod"):
            draft.lost((*limits.at("byMethod"), method), NO_LIMITS)
        limits.end()
    policy = root.table("policy")
    if policy is not None:
        policy.lost("default", NO_POLICY)
        for rule in policy.tables("rules"):
            whose = rule.table("subject")
            who = "" if whose is None else f"the rule of {whose.text('tenant')}/{whose.text('client')} "
            draft.lost(rule.path, who + NO_POLICY)
        policy.end()
    headers = root.table("upstreamHeaders")
    if headers is not None:
        headers.lost(
            "forward",
            NOT_YET.format("forwarding of client headers") + ": a server gets those of its own table",
        )
        headers.end()
    for rule in root.tables("routing"):
        text = NOT_YET.format("routes") + ": a name belongs to the server that has it"
        draft.lost(rule.path, f"the route to {rule.text('upstream')} {text}")
    audit = root.table("audit")
    if audit is not None:
        if audit.flag("enabled") is not False:
            draft.lost(audit.path, NOT_YET.format("audit log") + ": there are the log and the metrics")
        audit.ignore("environments")
        audit.end()
