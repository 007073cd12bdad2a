"""The MCP handshake with each server: started or called as by `run`, initialized, its lists read, and left."""

import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial

from edge.config.model import EdgeConfig, HttpServerConfig, ServerConfig, StdioServerConfig
from edge.config.rules import dotted
from edge.doctor.commands import found_command
from edge.doctor.finding import Check, Report
from edge.doctor.way import Target, advice_for, causes_of, go
from edge.errors import EdgeError, RpcError, TimedOut, UpstreamError, leaves
from edge.health import Status
from edge.metrics_servers import ServerMetrics
from edge.net.command import NotStarted
from edge.net.http_client import split_url
from edge.net.tls import client_context
from edge.parts.channel import Connect, Ended
from edge.parts.conversation import Conversation
from edge.parts.desired import Desired
from edge.parts.http_upstream import connect_http
from edge.parts.server_http import AuthFailed, HttpRefused
from edge.parts.stdio_channel import connect_stdio
from edge.proto.jsonrpc import METHOD_NOT_FOUND, Notification, Request
from edge.proto.listing import ServerCatalog
from edge.proto.mcp import InitializeResult
from edge.redaction import Redactor

SECTION = "servers"
BY_HAND = "run it by hand, with the same env and cwd, and see what it prints"
DROPPED_SHOWN = 3

log = logging.getLogger("edge.doctor")


class Alone:
    """Nobody is behind us: what a server says by itself is not heard (parts/channel.py: `Inbound`)."""

    def told(self, notification: Notification) -> None:
        pass

    def waiting(self, reason: str) -> None:
        pass

    def doubted(self) -> None:
        pass

    def asked(self, request: Request) -> str:
        if request.method == "ping":
            return "{}"
        raise RpcError(METHOD_NOT_FOUND, "not supported by mcp-edge doctor")


def server_checks(
    config: EdgeConfig, env: Mapping[str, str], redactor: Redactor, *, offline: bool
) -> Iterator[Check]:
    """`offline`: servers that are called are left out. So are those of whose command it is told that it is missing.
    `redactor` is for what they say, before it is shortened."""
    for name, server in config.servers.items():
        if isinstance(server, HttpServerConfig):
            is_left_out = offline
        else:
            is_left_out = not isinstance(found_command(server, env), str)
        if not is_left_out:
            yield Check(
                SECTION, dotted(("servers", name)), partial(look_at_server, server=server, redactor=redactor)
            )


async def look_at_server(report: Report, server: ServerConfig, redactor: Redactor) -> None:
    metrics = ServerMetrics()
    status = Status(f"server:{server.name}")
    if isinstance(server, StdioServerConfig):
        connect: Connect = connect_stdio(server, metrics=metrics, log=log, status=status, redactor=redactor)
    else:
        origin, _ = split_url(server.url)
        tls = (lambda: client_context(server.ca_file, server.verify)) if origin.is_tls else None
        if not await go(report, Target(server.name, origin, None, tls, server.connect_timeout_s)):
            return
        connect = connect_http(server, metrics=metrics, log=log, redactor=redactor)
    began = time.monotonic()
    seen: list[tuple[InitializeResult, ServerCatalog]] = []
    try:
        async with connect(Alone()) as channel:
            conversation = Conversation(
                server, channel, Desired(server.name, log), status, metrics, log, lambda: 0.0
            )
            await conversation.begin()
            took_s = time.monotonic() - began
            seen.append((conversation.init, conversation.loader.catalog()))
    except* EdgeError as group:
        if not seen:  # else it is only in leaving that something went wrong
            tell_failure(report, server, group, status)
    for init, catalog in seen:
        tell_catalog(report, init, catalog, took_s)


def tell_failure(
    report: Report, server: ServerConfig, group: BaseExceptionGroup[EdgeError], status: Status
) -> None:
    """The most telling of what was raised together, and the server's last words if it left in silence."""
    found = [exc for exc in leaves(group) if isinstance(exc, EdgeError)]
    cause = next((exc for exc in found if isinstance(exc, Ended)), found[0])
    text = cause.text if isinstance(cause, UpstreamError) else str(cause)
    words = status.detail.get("stderr")
    if isinstance(cause, TimedOut) and words:
        text = f"{text}; on its stderr: {words[-1]}"
    report.problem(text, advice_about(server, cause))


def advice_about(server: ServerConfig, cause: EdgeError) -> str:
    """What to do, by the kind of what happened."""
    if isinstance(cause, AuthFailed):
        return "its token is missing, wrong or expired: bearer_file, bearer_env or headers"
    if isinstance(cause, HttpRefused):
        if cause.status == 404:
            return "the url is not its MCP endpoint: mostly it ends in /mcp or /sse"
        return "see what the server's own log says about it; is the url its MCP endpoint?"
    if any(isinstance(each, NotStarted) for each in causes_of(cause)):
        return "install it, or write the whole path of the command"
    if isinstance(server, HttpServerConfig):
        return advice_for(cause) if not isinstance(cause, TimedOut | Ended) else "is the url an MCP endpoint?"
    if isinstance(cause, TimedOut):
        return f"{BY_HAND}: is it an MCP server on stdio, and does it only start slowly (start_timeout_s)?"
    return BY_HAND


def tell_catalog(report: Report, init: InitializeResult, catalog: ServerCatalog, took_s: float) -> None:
    counts = {"tool": len(catalog.tools), "prompt": len(catalog.prompts), "resource": len(catalog.resources)}
    told = ", ".join(f"{n} {noun}{'s'[: n != 1]}" for noun, n in counts.items() if n) or "nothing"
    if told == "nothing" and not catalog.templates:
        report.warning(
            f"answers (MCP {init.version}), and offers nothing", "does it need a setting or a token?"
        )
    else:
        report.ok(f"MCP {init.version}: {told}", took_s=took_s)
    for text in catalog.dropped[:DROPPED_SHOWN]:
        report.warning(f"part of a list left out: {text}", "tell whoever wrote the server")
    if len(catalog.dropped) > DROPPED_SHOWN:
        report.warning(
            f"and {len(catalog.dropped) - DROPPED_SHOWN} more parts of lists", "see the log of `run`"
        )
