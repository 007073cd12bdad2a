"""The limits page says what is so: every bound of the config is in it, and every number is the program's."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from edge import backoff, journal, metrics_servers
from edge.app import appliance, required, workshop
from edge.cli import configfile, start_problems
from edge.config.load import default_of, keys_of
from edge.config.model import (
    GatewayConfig,
    HubConfig,
    LinkServerConfig,
    UplinkConfig,
)
from edge.config.template import toml_value
from edge.gate import edge_auth
from edge.net import handshakes, start, usage
from edge.net.http_wire import HttpLimits
from edge.parts import (
    acceptor,
    catalog_loader,
    conversation,
    desired,
    edge_sessions,
    edge_webhook,
    edges,
    event_stream,
    gateway,
    hub_desk,
    hub_face,
    kept_link,
    link_channel,
    questions,
    refusals,
    results,
    sessions,
    stdio_channel,
    subscriptions,
    uplink_way,
    upstream,
    views,
    wake,
)
from edge.parts.exchange import Exchange
from edge.parts.link import Link
from edge.parts.peer_channel import Outbox
from edge.proto import catalog, jsonrpc, listing, session, uritemplate
from edge.proto.dialects.contextforge.acceptor import ContextForgeAcceptor, Quirks
from edge.proto.dialects.contextforge.connector import ContextForgeConnector
from edge.proto.dialects.long_poll.acceptor import LongPollAcceptor
from edge.proto.dialects.long_poll.connector import LongPollConnector
from edge.proto.dialects.mcp_reverse.connector import McpReverseConnector
from edge.proto.replay import ReplayRing
from edge.supervise import slot
from tests.support.manual import (
    PAGES,
    TABLES,
    default_of_parameter,
    rows,
)

FIXED: Mapping[str, float] = {
    # clients
    "bytes in a request's head": HttpLimits(max_body_bytes=1).max_head_bytes,
    "seconds for a head, for a TLS handshake, before a new connection's first byte": HttpLimits(
        max_body_bytes=1
    ).head_timeout_s,
    "TLS handshakes that a listener has in hand at once": handshakes.AT_ONCE,
    "seconds for a body": HttpLimits(max_body_bytes=1).body_timeout_s,
    "seconds a connection may be idle between requests": HttpLimits(max_body_bytes=1).idle_timeout_s,
    "seconds without the client taking any of an answer": HttpLimits(max_body_bytes=1).write_timeout_s,
    "seconds of silence before an answer becomes a stream": Exchange.PATIENCE_S,
    "seconds between comments on a quiet stream": event_stream.KEEPALIVE_S,
    "messages in a batch": jsonrpc.MAX_BATCH,
    "notifications that wait for a session's GET stream": sessions.OUTBOX_LIMIT,
    "bytes of them": sessions.OUTBOX_BYTES,
    "seconds they wait while no GET stream is open": sessions.NEWS_KEEP_S,
    "events kept of a session for resuming": default_of_parameter(ReplayRing.__init__, "max_events"),
    "bytes kept of a session for resuming": default_of_parameter(ReplayRing.__init__, "max_bytes"),
    "seconds that events are kept": default_of_parameter(ReplayRing.__init__, "keep_s"),
    "requests of servers that a session has not answered": questions.MAX_OPEN,
    "subscriptions of a session": session.MAX_SUBSCRIPTIONS,
    "characters of a URI that can be subscribed to": subscriptions.MAX_URI_CHARS,
    "seconds a request waits for a server that is starting": gateway.START_WAIT_S,
    "resource links remembered": results.MAX_LINKS,
    "characters of a resource link's URI": results.MAX_URI_CHARS,
    "bytes of all servers' instructions together": catalog.MAX_INSTRUCTIONS_BYTES,
    "characters of a URI that a template can match": uritemplate.MAX_URI_CHARS,
    "connections to the admin listener": workshop.ADMIN_CONNECTIONS,
    # servers
    "seconds for the answer to a `ping`": conversation.PING_TIMEOUT_S,
    "seconds of silence while it has calls to do": conversation.BUSY_SILENCE_S,
    "seconds without a success, beyond `probe_s`": conversation.PING_TIMEOUT_S + upstream.STALE_SLACK_S,
    "seconds for an HTTP server's handshake, and for a page of a list": conversation.START_TIMEOUT_S,
    "seconds for subscribing, and for setting a log level": upstream.CONTROL_TIMEOUT_S,
    "pages of a list": catalog_loader.PAGE_CAP,
    "items of a list": catalog_loader.ITEM_CAP,
    "characters of a list": catalog_loader.LIST_CHARS,
    "seconds before lists are read again whose answer was lost": conversation.RETRY_LISTS_S,
    "bytes that wait for a stdio or HTTP+SSE server to read": Outbox.__init__.__defaults__[0],  # type: ignore[index]  # it has one
    "notifications that wait for one call's client": questions.MAX_NOTES,
    "letters of notifications that wait for one call's client": questions.MAX_NOTE_CHARS,
    "subscriptions at a server": desired.MAX_URIS,
    "seconds that a server's lists outlive it": views.GRACE_S,
    "seconds up before the waits begin anew": default_of_parameter(backoff.Backoff.__init__, "forgive_after_s"),
    "characters of a line on stderr": stdio_channel.STDERR_LINE_CHARS,
    "lines on stderr a second": stdio_channel.STDERR_LINES_PER_S,
    "lines on stderr kept for health": stdio_channel.STDERR_LINES,
    "lines of noise logged for each start": stdio_channel.NOISE_SHOWN,
    "seconds between looks at a server whose limits no cgroup enforces": usage.SAMPLE_S,
    "seconds until a stdio server's program has been executed": start.START_LIMIT_S,
    "starts that hang in the system, of all servers": start.MAX_GIVEN_UP,
    "seconds for a look at a command, when the config is loaded": start_problems.LOOK_S,
    "looks that hang": start_problems.MAX_HANGING,
    "tools of a server with metrics of their own": metrics_servers.MAX_TOOLS,
    # uplinks
    "seconds that calls over an interrupted link go on": kept_link.RESUME_S,
    "seconds before a hub that refused is asked again": kept_link.SLOW_S,
    "seconds of silence, `contextforge`": 2 * UplinkConfig(
        name="hq", dialect="contextforge", url="https://hub"
    ).heartbeat_s + uplink_way.DOUBT_S,
    "seconds of silence, `mcp-reverse`": default_of_parameter(McpReverseConnector.__init__, "dead_after_s"),
    "seconds for the answer to a poll": default_of_parameter(LongPollConnector.__init__, "poll_timeout_s"),
    "seconds for the answer to a registration, `contextforge`": default_of_parameter(
        ContextForgeConnector.__init__, "ack_s"
    ),
    "seconds that the process may stand still": wake.MISSING_S,
    "bytes that wait for the hub, or for its acknowledgement": kept_link.OUTBOX_BYTES,
    "messages that a hub of ours has not acknowledged": kept_link.MAX_UNACKED,
    "bytes of a message between two mcp-edge": default_of_parameter(Link.__init__, "max_message_bytes"),
    "calls at once from `proxy_server`": default_of_parameter(LongPollConnector.__init__, "max_calls"),
    "seconds for a call from `proxy_server`": default_of_parameter(LongPollConnector.__init__, "give_up_s"),
    # the hub
    "seconds that a new call waits for an interrupted link": link_channel.SUSPENDED_WAIT_S,
    "messages that an edge of ours has not acknowledged": edge_sessions.MAX_UNACKED,
    "bytes of a message to a client of ContextForge": Quirks().edge_max_bytes,
    "frames of a WebSocket that are none of the protocol's": default_of_parameter(
        ContextForgeAcceptor.__init__, "max_bad_frames"
    ),
    "seconds of silence before an edge is asked for a `ping`": LinkServerConfig(name="x").probe_s,
    "requests that wait for a `reverse_client`": default_of_parameter(LongPollAcceptor.__init__, "max_queue"),
    "seconds that they wait": default_of_parameter(LongPollAcceptor.__init__, "max_queue_s"),
    "seconds that it may work on one": default_of_parameter(LongPollAcceptor.__init__, "max_work_s"),
    "characters of a token": edge_auth.MAX_TOKEN_CHARS,
    "bytes of a registration, `long-poll`": hub_face.MAX_REGISTRATION_BYTES,
    "names known for each link that there may be, also of one edge": edges.NAMES_PER_LINK,
    "questions to the webhook at once": edge_webhook.AT_ONCE,
    "seconds for `/message`": hub_desk.MESSAGE_S,
    "seconds between log lines of a host for a reason": refusals.REPEAT_S,
    # mcp-edge itself
    "seconds the ready line waits for servers": appliance.FIRST_START_S,
    "seconds that a required HTTP server may take": required.REQUIRED_HTTP_S,
    "failures of one part in 60 s": slot.MAX_RESTARTS,
    "bytes of a config file": configfile.MAX_CONFIG_BYTES,
    "bytes of a secret's file": configfile.MAX_SECRET_BYTES,
    "bytes of a field in the journal": journal.MAX_VALUE_BYTES,
    "fields of an entry in the journal": journal.MAX_FIELDS,
}  # fmt: skip


def test_the_fixed_limits_are_those_of_the_program() -> None:
    told = {cells[0]: cells[1] for cells in rows("limits") if not cells[0].startswith("`[")}
    assert told == {what: f"{limit:.0f}" for what, limit in FIXED.items()}


def test_limits_that_the_manual_says_twice_are_the_same() -> None:
    assert Exchange.KEEPALIVE_S == event_stream.KEEPALIVE_S
    assert listing.MAX_PAGE_ITEMS == catalog_loader.ITEM_CAP
    assert slot.WINDOW_S == 60
    assert upstream.WAITING_PER_PLACE == 4
    assert "four times as many" in PAGES["limits"]
    assert "four times as many" in PAGES["servers"]
    assert start.KILL_WAIT_S == 2
    assert (usage.HEADROOM, usage.ROOM_BYTES) == (4, 1 << 30)
    assert "more than four times `memory_bytes`, and 1 GiB at least" in re.sub(r"\s+", " ", PAGES["servers"])
    assert edge_webhook.MAX_WAITING == 256
    assert "256 more wait" in PAGES["limits"]
    assert "256 more wait" in PAGES["hub"]
    assert acceptor.CONNECTIONS_PER_LINK == 3
    assert "three times `max_links`" in re.sub(r"\s+", " ", PAGES["hub"])


def test_the_limits_that_can_be_set_have_the_defaults_of_the_config() -> None:
    for cells in rows("limits"):
        if (match := re.fullmatch(r"`\[(\S+)\] (\w+)(?:\.(\w+))?`", cells[0])) is None:
            continue
        table, key, inner = match.groups()
        cls = next(cls for cls in TABLES[table] if key in keys_of(cls))
        value = next(default_of(field, None) for field in fields(cls) if field.name == key)
        assert cells[1] == toml_value(getattr(value, inner) if inner else value), cells[0]


def test_every_bound_of_the_gateway_is_in_the_limits_page() -> None:
    assert bounds_told("gateway") == bounds_of(GatewayConfig)


def test_every_bound_of_the_hub_and_of_uplinks_is_in_the_limits_page() -> None:
    assert bounds_told("hub") == bounds_of(HubConfig)
    assert bounds_told("uplinks.NAME") == bounds_of(UplinkConfig)


def bounds_told(table: str) -> set[str]:
    named = "\n".join(cells[0] for cells in rows("limits"))
    return set(re.findall(rf"`\[{re.escape(table)}\] (\w+)`", named))


def bounds_of(cls: type[Any]) -> set[str]:
    """Keys that are numbers."""
    values = {field.name: default_of(field, None) for field in fields(cls)}
    return {
        key for key, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
