"""The commented config file that `mcp-edge init` writes.

Prose is `# text`; a key that has its default, or an example, is `#key = value`: take the `#` away to
set it. Defaults come from the model and all values are written by tomli-w, so neither can go stale.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import tomli_w

from edge.config.load import default_of
from edge.config.model import (
    AdminConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    HubConfig,
    HubEdge,
    HubJwt,
    HubWebhook,
    LogConfig,
    StdioServerConfig,
    UplinkConfig,
)

# One line a key; a key of the model without one fails a test.
COMMENTS: Mapping[str, str] = {
    "insecure_plain_secrets": "allows secrets in this file; for trying things out only",
    "gateway.enabled": "false: nothing listens here; calls come by [uplinks.NAME] only",
    "gateway.listen": "host:port, [::1]:port or unix:/path; several: a list",
    "gateway.path": "all servers together; one alone is at /servers/NAME/mcp",
    "gateway.prefix": "SERVER__TOOL: always | on-collision | never",
    "gateway.separator": "what stands between server and tool",
    "gateway.max_name_chars": "longer names are shortened with a stable hash",
    "gateway.page_size": "entries in one page of a list",
    "gateway.allowed_origins": "browsers' Origin values that may call, as in https://app.example.com",
    "gateway.allowed_hosts": "more names that clients may use for this endpoint (Host header)",
    "gateway.insecure_public": "allows addresses that others can reach, without client authentication",
    "gateway.tls": "serve HTTPS; with client_ca, only clients with a certificate from it",
    "gateway.session_idle_s": "a session that is not used for so long is ended",
    "gateway.max_sessions": "sessions at once; beyond it the one idle for longest makes room",
    "gateway.max_connections": "connections at once",
    "gateway.max_message_bytes": "the largest request body of a client",
    "gateway.call_timeout_s": "how long a call may take",
    "gateway.drain_s": "how long calls in flight may go on after a stop was asked for",
    "admin.listen": "/livez /healthz /readyz /health /metrics /status",
    "admin.enabled": "false: no admin listener, and `mcp-edge health` has nobody to ask",
    "admin.control": "where `mcp-edge reload` finds us: unix:/path, or off; default: $RUNTIME_DIRECTORY/control.sock",
    "admin.reload_token": "by reload_token_env, _file or _credential: allows POST /-/reload over TCP",
    "log.level": "debug | info | warning | error",
    "log.format": "auto | text | json | journal",
    "command": "a list, or one string split as a shell would; no shell runs it",
    "env": "the child gets this and a small clean base, not our environment",
    "cwd": "an absolute path; default: ours",
    "required": "true: not ready without it",
    "stop_grace_s": "how long it may take to end, at each step of asking",
    "start_timeout_s": "how long it may take to start and answer",
    "overlap": "true: on a reload the new one starts before the old one ends",
    "call_timeout_s": "0: the gateway's",
    "restart": "waits before a new start: from first_s doubling to limit_s; max_attempts 0: for ever",
    "limits": "calls at once, bytes in one message; of what is started here, memory and processes (0: any)",
    "probe_s": "how often an idle server is asked whether it is there",
    "list_refresh_s": "how often its lists are read again",
    "url": "http:// or https://; ${NAME} is the environment's value, here and in headers and env",
    "transport": "auto | streamable | sse (the 2024-11-05 transport)",
    "headers": "sent with every request; a secret only as ${NAME}",
    "bearer": "the token: bearer_env, bearer_file, or bearer_credential (systemd)",
    "ca_file": "certificates to trust besides the system's",
    "verify": "false: any certificate will do. Loud, and a metric",
    "connect_timeout_s": "how long connecting may take",
    "reconnect": "as restart of a stdio server",
    "uplinks.dialect": "contextforge (WebSocket) | mcp-reverse (SSE) | long-poll",
    "uplinks.url": "the hub's; ${NAME} is the environment's value, here and in headers, query and proxy",
    "uplinks.token": "by token_env, token_file or token_credential; read again at every attempt",
    "uplinks.servers": "those to publish; none: all",
    "uplinks.publish": "each: one link a server, named BOX-SERVER | all: one link, named BOX",
    "uplinks.link_name": "instead of BOX, which is the box's name",
    "uplinks.headers": "sent with every request; a secret only as ${NAME}",
    "uplinks.query": "added to the url of every request; a secret only as ${NAME}",
    "uplinks.heartbeat_s": "how often a quiet link is used, so that both ends and all between see it is there",
    "uplinks.connect_timeout_s": "how long connecting may take, with TLS and the proxy",
    "uplinks.reconnect": "waits between attempts, each a random part; max_attempts 0: for ever",
    "uplinks.good_after_s": "a link that was good for so long begins at first_s again",
    "uplinks.tls": "certificates to trust besides the system's, and ours; verify = false: any will do",
    "uplinks.proxy": "env: by HTTPS_PROXY and its like | none | http://USER:${NAME}@HOST:PORT",
    "uplinks.max_message_bytes": "the largest message, either way",
    "uplinks.max_calls": "calls at once over one link; more are refused",
    "uplinks.resume": "a broken link goes on where it was, if the hub is mcp-edge, too",
    "hub.listen": "host:port, [::1]:port or unix:/path; several: a list",
    "hub.tls": "needed on any address but loopback; with client_ca, only edges with a certificate from it",
    "hub.insecure_plain": "allows plain HTTP there: tokens and calls can be read on the way",
    "hub.dialects": "those that are accepted",
    "hub.operator_token_sha256": "who may list and end links: the SHA-256 of a token, or a list of them",
    "hub.max_links": "links at once",
    "hub.max_links_per_edge": "of one edge",
    "hub.max_calls_per_link": "calls at once over one link",
    "hub.max_message_bytes": "the largest message, either way",
    "hub.max_pending_bytes": "waiting for one link to take or acknowledge them; beyond, calls wait",
    "hub.handshake_timeout_s": "how long a link may take to be ready",
    "hub.heartbeat_s": "how often a quiet link is used",
    "hub.dead_after_s": "a link that is silent for so long is cut",
    "hub.resume_grace_s": "how long a broken link of mcp-edge may take to come back and go on",
    "hub.forget_s": "a link that did not come back is forgotten after so long",
    "hub.call_timeout_s": "0: the gateway's",
    "edges.token_sha256": "printf %s TOKEN | sha256sum; two in a list while it is changed",
    "edges.dialects": "of these, those that the hub accepts",
    "jwt.secret": "by secret_env, secret_file or secret_credential; HS256, 32 bytes or more",
    "jwt.issuer": "what iss must be; empty: anything",
    "jwt.audience": "what aud must be; empty: not looked at",
    "jwt.name_claim": "where the edge's name is",
    "jwt.leeway_s": "how far clocks may differ",
    "webhook.url": "asked with a POST; 200 with the edge's name is a yes, 401 and 403 are a no",
    "webhook.bearer": "sent to it: bearer_env, bearer_file or bearer_credential",
    "webhook.timeout_s": "how long it may take",
    "webhook.ca_file": "certificates to trust besides the system's",
}
# For keys that have no default that TOML could say.
EXAMPLES: Mapping[str, tuple[str, Any]] = {
    "gateway.tls": (
        "tls",
        {
            "cert": "/etc/mcp-edge/cert.pem",
            "key": "/etc/mcp-edge/key.pem",
            "client_ca": "/etc/mcp-edge/ca.pem",
        },
    ),
    "admin.reload_token": ("reload_token_file", "/etc/mcp-edge/reload.token"),
    "env": ("env", {"GIT_DIR": "/srv/repo/.git"}),
    "cwd": ("cwd", "/srv"),
    "url": ("url", "http://127.0.0.1:3000/mcp"),
    "headers": ("headers", {"X-API-Key": "${PLC_KEY}"}),
    "bearer": ("bearer_file", "/etc/mcp-edge/plc.token"),
    "ca_file": ("ca_file", "/etc/mcp-edge/plc-ca.pem"),
    "uplinks.dialect": ("dialect", "contextforge"),
    "uplinks.url": ("url", "https://gateway.example.com"),
    "uplinks.token": ("token_file", "/etc/mcp-edge/hq.token"),
    "uplinks.headers": ("headers", {"X-Site": "north"}),
    "uplinks.query": ("query", {"site": "north"}),
    "uplinks.tls": (
        "tls",
        {
            "ca_file": "/etc/mcp-edge/hq-ca.pem",
            "cert": "/etc/mcp-edge/edge.pem",
            "key": "/etc/mcp-edge/edge-key.pem",
        },
    ),
    "hub.listen": ("listen", "0.0.0.0:8443"),
    "hub.tls": ("tls", {"cert": "/etc/mcp-edge/hub.pem", "key": "/etc/mcp-edge/hub-key.pem"}),
    "edges.token_sha256": ("token_sha256", "0" * 64),  # no token is known to have it
    "jwt.secret": ("secret_file", "/etc/mcp-edge/jwt.secret"),
    "webhook.url": ("url", "https://auth.example.com/edges"),
    "webhook.bearer": ("bearer_file", "/etc/mcp-edge/webhook.token"),
    "webhook.ca_file": ("ca_file", "/etc/mcp-edge/webhook-ca.pem"),
}


def toml_value(value: Any) -> str:
    """A value on one line, as TOML; numbers without a needless fraction."""
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def toml_key(key: str) -> str:
    return tomli_w.dumps({key: 0}).removesuffix(" = 0\n")


def key_lines(
    cls: Any, prefix: str = "", *, leave_out: tuple[str, ...] = (), command: tuple[str, ...] = ()
) -> Iterator[str]:
    """The keys of one table as commented lines; `command` is the example for a server's."""
    for field in fields(cls):
        name = field.name
        if name in leave_out or field.metadata.get("reads") == "reference":
            continue
        comment = COMMENTS[prefix + name]
        key, value = EXAMPLES.get(prefix + name) or (name, default_of(field, None))
        if name == "command":
            value = command
        elif name == "listen" and len(value) == 1:
            (value,) = value
        yield f"#{key} = {toml_value(value)}  # {comment}"


def template(*, name: str, host_command: tuple[str, ...], git_command: tuple[str, ...]) -> str:
    """The file's text: it loads as it is and serves the built-in `host` server.

    `name` is this box's, `host_command` starts the built-in server, `git_command` is the example.
    """
    lines = [
        "# mcp-edge: what this box serves, and where.",
        "#",
        "# All keys are here. A key behind a # has its default, or an example: take the # away to set it.",
        "# Check with `mcp-edge validate -c FILE`; the manual is `mcp-edge help config`.",
        "",
        f"name = {toml_value(name)}  # this box; default: the host's name",
        *key_lines(EdgeConfig, leave_out=("name", "gateway", "admin", "servers", "uplinks", "hub", "log")),
        "",
        "[gateway]  # the endpoint for MCP clients",
        *key_lines(GatewayConfig, "gateway."),
        "",
        "[admin]  # metrics and health; no secrets in it",
        *key_lines(AdminConfig, "admin."),
        "",
        "[log]",
        *key_lines(LogConfig, "log."),
        "",
        "[servers.host]  # built in: read-only facts about this box",
        f"command = {toml_value(host_command)}",
        "",
        "# A server that is started here (stdio):",
        "#[servers.git]",
        *key_lines(StdioServerConfig, leave_out=("name",), command=git_command),
        "",
        "# A server that is called (HTTP):",
        "#[servers.plc]",
        *key_lines(HttpServerConfig, leave_out=("name",)),
        "",
        "# A connection out, to a hub or another gateway: who is there can call what is here.",
        "#[uplinks.hq]",
        *key_lines(UplinkConfig, "uplinks.", leave_out=("name",)),
        "",
        "# Where edges connect to; only on the public side. At least one of the three tables below it is needed.",
        "#[hub]",
        *key_lines(HubConfig, "hub.", leave_out=("edges", "jwt", "webhook")),
        "",
        "# An edge that may connect, as this name or one that begins with it and a hyphen:",
        "#[hub.edges.plant-8]",
        *key_lines(HubEdge, "edges.", leave_out=("name",)),
        "",
        "# Edges whose tokens are signed:",
        "#[hub.jwt]",
        *key_lines(HubJwt, "jwt."),
        "",
        "# A service that knows the edges:",
        "#[hub.webhook]",
        *key_lines(HubWebhook, "webhook."),
    ]
    return "\n".join(lines) + "\n"
