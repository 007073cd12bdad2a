"""The manual says what is so: its commands, keys, topics, errors, metrics, messages and numbers are the program's."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge import app, backoff, metrics
from edge.app import App
from edge.cli import configfile
from edge.cli.arguments import COMMANDS, parse_arguments
from edge.cli.cmd_help import list_of
from edge.cli.main import main
from edge.config.load import default_of, keys_of, load
from edge.config.model import (
    DIALECTS,
    AdminConfig,
    BackoffConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    HubConfig,
    HubEdge,
    HubJwt,
    HubWebhook,
    LogConfig,
    ServerLimits,
    ServerTlsConfig,
    StdioServerConfig,
    UplinkConfig,
    UplinkTls,
)
from edge.config.template import toml_value
from edge.health import State
from edge.log import Redactor
from edge.net import child, reaper
from edge.net.http_wire import HttpLimits
from edge.parts import (
    admin,
    catalog_loader,
    conversation,
    desired,
    event_stream,
    gateway,
    http_upstream,
    peer_channel,
    results,
    sessions,
    stdio_channel,
    streamable_channel,
    subscriptions,
    upstream,
    views,
)
from edge.parts.exchange import Exchange
from edge.parts.peer_channel import Outbox
from edge.proto import catalog, jsonrpc, listing, mcp, session, uritemplate
from edge.proto.classify import SESSIONLESS_METHODS
from edge.proto.replay import ReplayRing
from edge.supervise import slot
from tests.support.manual import (
    PAGES,
    blocks,
    command_lines,
    log_messages,
    program_texts,
    quoted,
    rows,
    section,
)

TABLES: Mapping[str, tuple[Any, ...]] = {
    "gateway": (GatewayConfig,),
    "admin": (AdminConfig,),
    "log": (LogConfig,),
    "servers.NAME": (StdioServerConfig, HttpServerConfig),
    "uplinks.NAME": (UplinkConfig,),
    "hub": (HubConfig,),
    "hub.edges.NAME": (HubEdge,),
    "hub.jwt": (HubJwt,),
    "hub.webhook": (HubWebhook,),
    "limits": (ServerLimits,),
    "restart": (BackoffConfig,),
    "reconnect": (BackoffConfig,),
}
TOML_START = re.compile(
    r"\[(?:gateway|admin|log|servers\.\w+|uplinks\.\w+|hub(?:\.[\w.-]+)?)\]$|[a-z_]+ = ", re.MULTILINE
)
OPEN_LABELS = {"server", "tool", "version", "python_version", "uplink", "edge"}


class Anything(Mapping[str, str]):
    """An environment in which everything is set."""

    def __getitem__(self, name: str) -> str:
        return "x"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def default_of_parameter(function: Any, name: str) -> Any:
    return function.__kwdefaults__[name]


# -- pages and topics


def test_help_lists_every_page_with_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    shown = capsys.readouterr().out
    for topic, page in PAGES.items():
        title = page.partition("\n")[0]
        assert re.fullmatch(r"# \S.*", title)
        assert re.search(rf"(?m)^  {topic} +{re.escape(title[2:])}$", shown)
    assert list_of(PAGES) in shown


def test_start_names_every_other_topic() -> None:
    assert set(quoted(section("start", "The manual"))) >= PAGES.keys() - {"start"}


@pytest.mark.parametrize("topic", PAGES)
def test_a_page_is_plain_text_of_at_most_120_characters_a_line(topic: str) -> None:
    page = PAGES[topic]
    assert [line for line in page.splitlines() if len(line) > 120 or line != line.rstrip()] == []
    assert "```" not in page
    assert "](" not in page
    assert page.endswith("\n")


@pytest.mark.parametrize("topic", PAGES)
def test_tables_have_as_many_cells_in_each_row(topic: str) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", PAGES[topic], re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize("topic", PAGES)
def test_command_lines_can_be_typed(topic: str) -> None:
    for words in command_lines(topic):
        args = parse_arguments(words)
        if args.command == "help" and args.topic not in (None, "TOPIC"):
            assert args.topic in PAGES or args.topic in COMMANDS, args.topic


def test_every_command_is_in_the_manual() -> None:
    used = {words[0] for topic in PAGES for words in command_lines(topic)}
    assert used >= COMMANDS.keys() - {"version"}


# -- config


@pytest.mark.parametrize("topic", PAGES)
def test_every_key_that_is_named_with_its_table_exists(topic: str) -> None:
    page = PAGES[topic]
    named = [
        *re.findall(
            r"`\[(gateway|admin|log|servers\.NAME|uplinks\.NAME|hub(?:\.[\w.]+)?)\] (\w+)(?:\.(\w+))?`", page
        ),
        *re.findall(r"`(gateway|admin|log|limits|restart|reconnect)\.(\w+)()`", page),
    ]
    for table, key, inner in named:
        assert any(key in keys_of(cls) for cls in TABLES[table]), (table, key)
        assert not inner or any(inner in keys_of(cls) for cls in TABLES[key]), (key, inner)


def test_every_word_in_backticks_that_looks_like_a_key_is_one() -> None:
    classes = (
        EdgeConfig,
        GatewayConfig,
        AdminConfig,
        LogConfig,
        StdioServerConfig,
        HttpServerConfig,
        ServerLimits,
        BackoffConfig,
        ServerTlsConfig,
        *(UplinkConfig, UplinkTls, HubConfig, HubEdge, HubJwt, HubWebhook),
    )
    keys = {key for cls in classes for key in keys_of(cls)}
    for topic, page in PAGES.items():
        for word in quoted(re.sub(r"\s+", " ", page)):
            if re.fullmatch(r"[a-z]+(?:_[a-z]+)*_(?:s|bytes|chars|attempts|file|env|credential)", word):
                is_log_field = topic == "logs" and word in {"took_s", "retry_s", "within_s"}
                is_metric = word.startswith("mcp_edge_")
                is_member = topic == "health" and word in {"rtt_s", "next_attempt_in_s"}
                assert word in keys or is_log_field or is_metric or is_member, f"{topic}: {word}"


def test_every_config_in_the_manual_loads() -> None:
    loaded = []
    for topic in PAGES:
        for block in blocks(topic):
            if TOML_START.match(block):
                load(block, env=Anything(), read_secret=lambda path: "secret", source=topic)
                loaded.append(topic)
    assert loaded == ["config", "servers", "servers"]


def test_an_assignment_in_backticks_is_good_config() -> None:
    wrong = []
    for topic, page in PAGES.items():
        for text in quoted(re.sub(r"\s+", " ", page)):
            if match := re.fullmatch(r"(\w+) = (?:true|false|\".*\")", text):
                key = match[1]
                if not any(
                    key in keys_of(cls) for classes in TABLES.values() for cls in (*classes, EdgeConfig)
                ):
                    wrong.append((topic, text))
    assert [one for one in wrong if not one[1].startswith(("X", "SSH_"))] == []


# -- what clients see


def test_the_error_codes_of_the_endpoint_page_are_those_of_the_program() -> None:
    ours = {value for value in vars(mcp).values() if isinstance(value, int) and value < 0}
    assert {-32010, -32011, -32012} <= ours
    listed = {int(cells[0]) for cells in rows("endpoint", "Errors: JSON-RPC codes")}
    assert listed == ours | {jsonrpc.PARSE_ERROR}


@pytest.mark.parametrize("topic", PAGES)
def test_no_page_names_another_error_code(topic: str) -> None:
    known = {int(cells[0]) for cells in rows("endpoint", "Errors: JSON-RPC codes")}
    assert {int(code) for code in re.findall(r"-32\d{3}", PAGES[topic])} <= known


def test_the_statuses_of_the_endpoint_page_are_those_that_are_counted() -> None:
    listed = {
        status for cells in rows("endpoint", "Errors: HTTP statuses") for status in cells[0].split(", ")
    }
    not_yet = {"401", "417", "429"}  # without authentication and rate limits
    assert {status for status in listed if status >= "400"} == (
        set(metrics.REFUSED_STATUSES) - not_yet - {"other"}
    )


def test_the_endpoint_page_names_every_revision_and_what_needs_no_session() -> None:
    text = section("endpoint", "MCP revisions")
    assert set(re.findall(r"\d{4}-\d\d-\d\d", text)) == {*mcp.LEGACY_VERSIONS, *mcp.MODERN_VERSIONS}
    (told,) = re.findall(r"\* (.*?) are answered without a session", re.sub(r"\s+", " ", text))
    lists = {kind.list_method for kind in catalog.KINDS}
    assert set(quoted(told.rpartition("* ")[2])) | lists == SESSIONLESS_METHODS


# -- servers


def test_the_environment_of_a_server_is_the_one_that_is_told() -> None:
    (told,) = (block for block in blocks("servers") if block.startswith("PATH "))
    assert told.split() == [*child.BASE_ENV, "LC_*"]
    assert f"`{reaper.MARKER}`" in PAGES["servers"]


def test_the_answers_that_lead_to_the_old_transport_are_told() -> None:
    text = section("servers", "HTTP: a server that is called")
    told = re.search(r"If the answer is ([\d,\s]+or \d+)", text)
    assert told is not None
    assert set(map(int, re.findall(r"\d+", told[1]))) == http_upstream.OLD_TRANSPORT
    assert f"2 × `limits.concurrency` + {http_upstream.SPARE_CONNECTIONS} connections" in text


def test_what_is_asked_once_more_is_told() -> None:
    (told,) = re.findall(r"What changes nothing \(lists, ([^)]+)\)", re.sub(r"\s+", " ", PAGES["servers"]))
    lists = {kind.list_method for kind in catalog.KINDS}
    assert set(quoted(told)) | lists == conversation.REPEATABLE


# -- health, logs, messages


def test_the_states_of_the_health_page_are_all_there_are() -> None:
    assert [cells[0] for cells in rows("health", "States")] == [f"`{state}`" for state in get_args(State)]


def test_the_members_that_everybody_sees_are_in_the_health_page() -> None:
    told = {word for cells in rows("health", "Reading a line") for word in quoted(cells[0])}
    assert told | {"name"} >= admin.FOR_EVERYBODY
    of_links = {"url", "published_as", "kind", "session", "is_resumable"}
    assert told - admin.FOR_EVERYBODY == {"reason", "last_error", "pid", "stderr"} | of_links


def test_every_log_message_is_in_the_logs_page_with_its_level() -> None:
    told = {cells[0]: cells[1] for cells in rows("logs", "Messages from `info` up")}
    assert told == log_messages()


def test_every_message_in_troubleshooting_is_one_of_the_program() -> None:
    texts = program_texts()
    symptoms = [cells[0] for cells in rows("troubleshooting")]
    messages = [message for symptom in symptoms for message in re.findall(r'"([^"]+)"', symptom)]
    assert len(messages) > 30
    for message in messages:
        for part in filter(str.strip, message.split("…")):
            assert any(part in text for text in texts), part


# -- metrics


async def exposed() -> dict[str, tuple[str, dict[str, set[str]]]]:
    """Every family: its type, and the values of each of its labels, with one server and one tool in it."""
    used = App(EdgeConfig(), redactor=Redactor()).metrics
    server = used.server("git")
    server.tool_call("status", 0.1, None)
    server.in_backoff, server.backoff_s, server.last_refresh_ts = False, 0.0, 1.0
    server.tls_unverified, used.config_last_reload_ts = True, 1.0
    for dialect in DIALECTS:
        used.link("hq", "git", dialect).rtt_s = 0.02
    used.edge("plant-7")
    found: dict[str, tuple[str, dict[str, set[str]]]] = {}
    for family in text_string_to_metric_families(used.exposition()[0].decode()):
        labels: dict[str, set[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label != "le":
                    labels.setdefault(label, set()).add(value)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, labels)
    return found


async def test_the_metrics_page_has_every_family_with_its_type_and_labels() -> None:
    told = {
        name: (kind, set(filter(None, labels.strip("{}").split(", "))))
        for name, labels, kind in re.findall(
            r"^\* `(mcp_edge_\w+)(\{.*?\})?` (gauge|counter|histogram): ", PAGES["metrics"], re.MULTILINE
        )
    }
    assert told == {name: (kind, set(labels)) for name, (kind, labels) in (await exposed()).items()}


async def test_the_metrics_page_has_every_value_of_the_labels_that_are_closed_sets() -> None:
    told: dict[tuple[str, str], set[str]] = {}
    for entry in section("metrics", "Label values").split("\n* "):
        if ":" in entry:
            head, _, values = entry.removeprefix("\n* ").partition(":")
            *names, label = quoted(head)
            told |= {
                (f"mcp_edge_{name}", label): set(quoted(re.sub(r"\(.*?\)", "", values, flags=re.DOTALL)))
                for name in names
            }
    closed = {
        (name, label): values
        for name, (_, labels) in (await exposed()).items()
        for label, values in labels.items()
        if label not in OPEN_LABELS
    }
    assert told == closed


def test_the_reasons_of_failed_calls_are_explained() -> None:
    assert {quoted(cells[0])[0] for cells in rows("metrics", "Tools")} == set(metrics.TOOL_ERRORS)


@pytest.mark.parametrize("topic", PAGES)
async def test_every_metric_that_a_page_names_exists(topic: str) -> None:
    families = await exposed()
    for name in re.findall(r"\bmcp_edge_\w+", PAGES[topic]):
        assert re.sub(r"_(?:bucket|count|sum)$", "", name) in families or name in families, name


# -- limits

FIXED: Mapping[str, float] = {
    # clients
    "bytes in a request's head": HttpLimits(max_body_bytes=1).max_head_bytes,
    "seconds for a head, for a TLS handshake, before a new connection's first byte": HttpLimits(
        max_body_bytes=1
    ).head_timeout_s,
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
    "subscriptions of a session": session.MAX_SUBSCRIPTIONS,
    "characters of a URI that can be subscribed to": subscriptions.MAX_URI_CHARS,
    "seconds a request waits for a server that is starting": gateway.START_WAIT_S,
    "resource links remembered": results.MAX_LINKS,
    "bytes of all servers' instructions together": catalog.MAX_INSTRUCTIONS_BYTES,
    "characters of a URI that a template can match": uritemplate.MAX_URI_CHARS,
    "connections to the admin listener": app.ADMIN_CONNECTIONS,
    # servers
    "seconds for the answer to a `ping`": conversation.PING_TIMEOUT_S,
    "seconds of silence while it has calls to do": conversation.BUSY_SILENCE_S,
    "seconds for an HTTP server's handshake, and for a page of a list": conversation.START_TIMEOUT_S,
    "seconds for subscribing, and for setting a log level": upstream.CONTROL_TIMEOUT_S,
    "pages of a list": catalog_loader.PAGE_CAP,
    "items of a list": catalog_loader.ITEM_CAP,
    "seconds before lists are read again whose answer was lost": conversation.RETRY_LISTS_S,
    "bytes that wait for a stdio or HTTP+SSE server to read": Outbox.__init__.__defaults__[0],  # type: ignore[index]  # it has one
    "notifications that wait for one call's client": peer_channel.MAX_NOTES,
    "subscriptions at a server": desired.MAX_URIS,
    "seconds that a server's lists outlive it": views.GRACE_S,
    "seconds up before the waits begin anew": default_of_parameter(backoff.Backoff.__init__, "forgive_after_s"),
    "characters of a line on stderr": stdio_channel.STDERR_LINE_CHARS,
    "lines on stderr a second": stdio_channel.STDERR_LINES_PER_S,
    "lines on stderr kept for health": stdio_channel.STDERR_LINES,
    "lines of noise logged for each start": stdio_channel.NOISE_SHOWN,
    "tools of a server with metrics of their own": metrics.MAX_TOOLS,
    # mcp-edge itself
    "seconds the ready line waits for servers": app.FIRST_START_S,
    "seconds that a required HTTP server may take": app.REQUIRED_HTTP_S,
    "failures of one part in 60 s": slot.MAX_RESTARTS,
    "bytes of a config file": configfile.MAX_CONFIG_BYTES,
    "bytes of a secret's file": configfile.MAX_SECRET_BYTES,
}  # fmt: skip


def test_the_fixed_limits_are_those_of_the_program() -> None:
    told = {cells[0]: cells[1] for cells in rows("limits") if not cells[0].startswith("`[")}
    assert told == {what: f"{limit:.0f}" for what, limit in FIXED.items()}


def test_limits_that_the_manual_says_twice_are_the_same() -> None:
    assert streamable_channel.MAX_NOTES == peer_channel.MAX_NOTES
    assert Exchange.KEEPALIVE_S == event_stream.KEEPALIVE_S
    assert listing.MAX_PAGE_ITEMS == catalog_loader.ITEM_CAP
    assert slot.WINDOW_S == 60
    assert upstream.WAITING_PER_PLACE == 4
    assert "four times as many" in PAGES["limits"]
    assert "four times as many" in PAGES["servers"]
    assert child.KILL_WAIT_S == 2


def test_the_limits_that_can_be_set_have_the_defaults_of_the_config() -> None:
    for cells in rows("limits"):
        if (match := re.fullmatch(r"`\[(\S+)\] (\w+)(?:\.(\w+))?`", cells[0])) is None:
            continue
        table, key, inner = match.groups()
        cls = next(cls for cls in TABLES[table] if key in keys_of(cls))
        value = next(default_of(field, None) for field in fields(cls) if field.name == key)
        assert cells[1] == toml_value(getattr(value, inner) if inner else value), cells[0]


def test_every_bound_of_the_gateway_is_in_the_limits_page() -> None:
    named = re.findall(r"`\[gateway\] (\w+)`", "\n".join(cells[0] for cells in rows("limits")))
    bounds = {
        field.name
        for field in fields(GatewayConfig)
        if isinstance(default_of(field, None), int | float)
        and field.name not in ("insecure_public", "enabled")
    }
    assert set(named) == bounds
