"""The manual says what is so: its commands, keys, topics, errors, metrics, messages and numbers are the program's."""

import io
import re
import time
from collections.abc import Iterator, Mapping
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge import metrics, metrics_servers
from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.cli import cmd_connect
from edge.cli.arguments import COMMANDS, build_parser, parse_arguments
from edge.cli.cmd_help import list_of
from edge.cli.main import main
from edge.config.load import keys_of, load
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
    StdioLimits,
    StdioServerConfig,
    UplinkConfig,
    UplinkTls,
)
from edge.config.secrets import Secret
from edge.gate.edge_auth import Denied, Edge, TokenAuth
from edge.health import State
from edge.net import command, reaper
from edge.parts import (
    admin,
    conversation,
    http_upstream,
    hub_routes,
    kept_link,
    link_channel,
    wake,
)
from edge.proto import catalog, jsonrpc, mcp
from edge.proto.classify import SESSIONLESS_METHODS
from edge.proto.dialects.long_poll.acceptor import LONGEST_HOLD_S
from edge.proto.dialects.mcp_reverse.connector import McpReverseConnector
from edge.redaction import Redactor
from tests.support.manual import (
    PAGES,
    TABLES,
    blocks,
    command_lines,
    default_of_parameter,
    log_messages,
    program_texts,
    python_command,
    quoted,
    rows,
    section,
)

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
        StdioLimits,
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
                of_health = {"rtt_s", "next_attempt_in_s", "backoff_s", "cpu_s", "stalled_s"}
                is_member = topic == "health" and word in of_health
                is_member |= topic == "hub" and word in {"message_bytes"}
                assert word in keys or is_log_field or is_metric or is_member, f"{topic}: {word}"


def test_every_config_in_the_manual_loads() -> None:
    loaded = []
    for topic in PAGES:
        for block in blocks(topic):
            if TOML_START.match(block):
                load(block, env=Anything(), read_secret=lambda path: "s" * 32, source=topic)
                loaded.append(topic)
    assert loaded == [
        *(
            "start",
            "config",
            "servers",
            "servers",
            "servers",
            "uplinks",
            "uplinks",
            "hub",
            "contextforge",
            "contextforge",
            "systemd",
        )
    ]


def test_the_options_of_connect_are_all_told() -> None:
    cells = rows("uplinks", "One server, no file")
    known = set(re.findall(r"--[a-z-]+", build_parser().commands["connect"].format_help()))
    told = {word for row in cells for text in row for word in re.findall(r"--[a-z-]+", text)}
    assert told == known - {"--help", "--log-format"}
    assert {word for row in cells for word in quoted(row[2])} == set(cmd_connect.VARIABLES.values())
    (keys,) = re.findall(
        r"The keys of `--config` are (.*?), in the place", re.sub(r"\s+", " ", PAGES["uplinks"])
    )
    assert tuple(quoted(keys)) == cmd_connect.FILE_KEYS


# -- links


def test_the_manuals_way_to_a_jwt_makes_one_that_a_hub_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "0123456789abcdef" * 4
    command = python_command("hub")
    code, arguments = command[2], command[3 : command.index("<")]
    monkeypatch.setattr("sys.argv", ["-c", *arguments])
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{secret}\n"))
    exec(code, {})
    token = capsys.readouterr().out.strip()
    auth = TokenAuth(HubConfig(listen=("127.0.0.1:0",), jwt=HubJwt(secret=Secret(secret))))
    verdict = auth.judge(token, time.time())
    assert isinstance(verdict, Edge)
    assert verdict.name == "plant-7"
    expired = auth.judge(token, time.time() + 366 * 86400)
    assert isinstance(expired, Denied)
    assert expired.reason == "expired"


def test_a_hubs_addresses_are_those_of_its_routes() -> None:
    named = re.findall(r"https://hub\.example\.com:8443(/[^\s'?]+)", "\n".join(blocks("hub")))
    named += [path.replace("TOKEN", "x") for path in quoted(PAGES["hub"]) if path.startswith("/e/TOKEN/")]
    assert len(named) == 7
    for path in named:
        assert hub_routes.route_of(path) is not None, path


def test_the_times_of_links_are_those_of_the_program() -> None:
    text = re.sub(r"\s+", " ", PAGES["uplinks"])
    uplink = UplinkConfig(name="hq", dialect="contextforge", url="https://hub")
    back_s = uplink.reconnect.limit_s + uplink.connect_timeout_s
    assert f"within `reconnect.limit_s` and `connect_timeout_s`: {back_s:.0f} s by default**" in text
    assert f"within {kept_link.HURRY_S:g} s, but not again" in text
    assert f"{kept_link.SLOW_S:.0f} to {1.25 * kept_link.SLOW_S:.0f} s" in text
    assert f"the edge itself waits {kept_link.RESUME_S:.0f} s" in text
    assert f"waits up to {link_channel.SUSPENDED_WAIT_S:.0f} s for the link" in text
    assert f"for {wake.MISSING_S:.0f} s or more" in text
    assert (
        f"every {default_of_parameter(McpReverseConnector.__init__, 'heartbeat_s'):.0f} s (hub: 15 s)" in text
    )
    assert f"every {LONGEST_HOLD_S:.0f} s: so long a poll waits" in text
    assert cmd_connect.BACKOFF_LIMIT_S == 60


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
    assert told.split() == [*command.BASE_ENV, "LC_*"]
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
    told = [cells[0] for cells in rows("health", "States") if len(cells) == 4]
    assert told == [f"`{state}`" for state in get_args(State)]


def test_the_members_that_everybody_sees_are_in_the_health_page() -> None:
    told = {word for cells in rows("health", "Reading a line") for word in quoted(cells[0])}
    assert told | {"name"} >= admin.FOR_EVERYBODY
    of_links = {"url", "published_as", "kind", "session", "is_resumable", "edge", "peer", "is_suspended"}
    of_processes = {"pid", "stderr", "memory_bytes", "cpu_s", "stalled_s"}
    assert told - admin.FOR_EVERYBODY == {"reason", "last_error"} | of_processes | of_links


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
    used = App(Loaded(config=EdgeConfig()), redactor=Redactor()).metrics
    server = used.server("git")
    server.tool_call("status", 0.1, None)
    server.in_backoff, server.backoff_s, server.last_refresh_ts = False, 0.0, 1.0
    server.processes = metrics_servers.ServerProcesses()
    server.processes.memory_limit_bytes = server.processes.processes_limit = 1
    server.processes.begun(
        lambda: metrics_servers.Usage(stalled_s=dict.fromkeys(metrics_servers.PRESSURES, 0.5))
    )
    server.tls_unverified, used.config_last_reload_ts = True, 1.0
    used.connections_limits = dict.fromkeys(metrics.LISTENERS, 100)
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
    assert {quoted(cells[0])[0] for cells in rows("metrics", "Tools")} == set(metrics_servers.TOOL_ERRORS)


@pytest.mark.parametrize("topic", PAGES)
async def test_every_metric_that_a_page_names_exists(topic: str) -> None:
    families = await exposed()
    for name in re.findall(r"\bmcp_edge_\w+", PAGES[topic]):
        assert re.sub(r"_(?:bucket|count|sum)$", "", name) in families or name in families, name
