import platform
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edge.metrics import SESSION_ENDS, Metrics
from edge.metrics_exposition import prefers_openmetrics
from tests.support.scrapes import METHODS, body, metrics, series

OPENMETRICS = "application/openmetrics-text;version=1.0.0"

DOCUMENTED = """
build_info start_time_seconds uptime_seconds ready
upstream_connected upstream_tools_count upstream_reconnects_total upstream_last_seen_seconds upstream_restarts_total
upstream_initialize_total upstream_initialize_duration_seconds upstream_health_checks_total
upstream_reconnect_attempts_total upstream_backoff_seconds_total upstream_in_backoff upstream_current_backoff_seconds
upstream_session_resets_total upstream_tools_refresh_total upstream_tools_refresh_duration_seconds
upstream_tools_last_refresh_timestamp_seconds upstream_bytes_total
upstream_calls_waiting upstream_calls_in_flight upstream_tls_unverified upstream_outbox_bytes upstream_dropped_items
upstream_noise_lines_total upstream_oversized_lines_total upstream_notes_dropped_total
upstream_ready upstream_required upstream_backoff_limit_seconds upstream_calls_waiting_limit
upstream_calls_in_flight_limit downstream_sessions_limit connections_limit
downstream_sessions_active downstream_sessions_total downstream_session_duration_seconds
downstream_session_terminations_total mcp_requests_total mcp_request_duration_seconds
mcp_auth_attempts_total mcp_auth_failures_total config_reloads_total config_last_reload_timestamp_seconds
config_last_reload_successful
server_memory_bytes server_memory_limit_bytes server_processes server_processes_limit server_cpu_seconds_total
server_pressure_stalled_seconds_total server_oom_kills_total
tool_calls_total tool_call_errors_total tool_call_duration_seconds
http_refused_total denied_total connections connections_accepted_total connections_rejected_total
write_timeouts_total notes_dropped_total queue_length part_crashes_total
link_up link_attempts_total link_reconnects_total link_resumed_total link_rtt_seconds link_bytes_total
link_messages_total link_calls_in_flight
hub_links hub_refused_total hub_links_replaced_total hub_resumed_total hub_lost_total hub_bytes_total
hub_pending_bytes hub_link_up hub_calls_total hub_calls_in_flight hub_last_seen_seconds
"""


def busy() -> Metrics:
    of = metrics()
    server = of.server("git")
    server.connected = True
    server.tool_call('odd"\\\nname', 0.3, None)
    server.in_backoff = True
    server.last_refresh_ts = 4000.0
    of.server("plc").tool_call("read", 31.0, "internal")
    of.queues["notes"] = lambda: 3
    of.link("hq", "time", "long-poll").rtt_s = 0.1
    of.edge("plant-7")
    of.config_last_reload_ts = 1.0
    of.http_refused.add("499")
    return of


def families(text: str, parser: str) -> Iterable[Metric]:
    parse: Callable[[str], Iterable[Metric]] = parse_openmetrics if parser == "openmetrics" else parse_text
    return parse(text)


@pytest.mark.parametrize(("accept", "parser"), [("", "text"), (OPENMETRICS, "openmetrics")])
def test_a_strict_parser_takes_all_of_it(accept: str, parser: str) -> None:
    found = list(families(body(busy(), accept), parser))
    names = [family.name for family in found]
    assert len(names) == len(set(names)) > 50
    assert all(
        name.startswith("mcp_edge_") and family.documentation
        for name, family in zip(names, found, strict=True)
    )
    labels = [s.labels["tool"] for f in found if f.name == "mcp_edge_tool_calls" for s in f.samples]
    assert labels == ['odd"\\\nname', "read"]


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_each_family_is_described_once_and_nothing_says_created(accept: str) -> None:
    text = body(busy(), accept)
    for word in ("HELP", "TYPE"):
        described = re.findall(rf"^# {word} (\S+)", text, re.MULTILINE)
        assert len(described) == len(set(described)) > 50
    assert "_created" not in text


def test_the_documented_families_are_all_there_and_no_other() -> None:
    described = re.findall(r"^# TYPE mcp_edge_(\S+)", body(busy()), re.MULTILINE)
    of_the_process = {name for name in described if name.startswith("process_")}
    assert set(described) - of_the_process == set(DOCUMENTED.split())


def test_content_type_follows_accept() -> None:
    of = metrics()
    assert of.exposition("")[1] == "text/plain; version=0.0.4; charset=utf-8"
    assert of.exposition(OPENMETRICS)[1] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body(of, OPENMETRICS).endswith("# EOF\n")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", True),
        ("text/plain, application/openmetrics-text; q=0.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=often", False),
        ("Application/OpenMetrics-Text; q=0.5", True),
    ],
)
def test_openmetrics_is_given_to_those_who_prefer_it(accept: str, wanted: bool) -> None:
    assert prefers_openmetrics(accept) is wanted


def test_closed_label_sets_are_there_from_the_start_with_0() -> None:
    of = metrics()
    requests = series(of, "mcp_requests_total")
    assert len(requests) == 2 * (len(METHODS) + 4)
    assert set(requests.values()) == {0}
    assert series(of, "downstream_session_terminations_total") == {
        f'downstream_session_terminations_total{{reason="{reason}"}}': 0 for reason in SESSION_ENDS
    }
    assert series(of, "denied_total") == {
        'denied_total{reason="host"}': 0,
        'denied_total{reason="origin"}': 0,
    }
    assert series(of, "config_reloads_total").keys() == {
        'config_reloads_total{result="success"}', 'config_reloads_total{result="error"}',
    }  # fmt: skip


def test_build_info_names_version_and_the_python_that_runs() -> None:
    labels = f'python_version="{platform.python_version()}",version="1.2.3"'
    assert series(metrics(), "build_info") == {f"build_info{{{labels}}}": 1}


def test_start_and_uptime_come_from_their_own_clocks() -> None:
    of = metrics()
    assert series(of, "start_time_seconds") == {"start_time_seconds": 5000}
    assert series(of, "uptime_seconds") == {
        "uptime_seconds": 30
    }  # the third reading, 15 s from one to the next


def test_requests_are_counted_by_method_and_result_and_no_other_label() -> None:
    of = metrics()
    of.request("tools/call", "success", 0.02)
    of.request("tools/call", "error", 0.02)
    of.request("made/up", "whatever", 31.0)
    counts = {key: n for key, n in series(of, "mcp_requests_total").items() if n}
    assert counts == {
        'mcp_requests_total{method="tools/call",result="success"}': 1,
        'mcp_requests_total{method="tools/call",result="error"}': 1,
        'mcp_requests_total{method="unknown",result="error"}': 1,
    }
    assert "made/up" not in body(of)


def test_histogram_buckets_are_inclusive_and_add_up() -> None:
    of = metrics()
    for seconds in (0.005, 0.0051, 10.0, 31.0):
        of.request("ping", "success", seconds)
    found = {
        key: n for key, n in series(of, "mcp_request_duration_seconds").items() if 'method="ping"' in key
    }
    bucket = 'mcp_request_duration_seconds_bucket{{le="{}",method="ping"}}'
    assert [found[bucket.format(le)] for le in ("0.005", "0.01", "5.0", "10.0", "30.0", "+Inf")] == [
        1,
        2,
        2,
        3,
        3,
        4,
    ]
    assert found['mcp_request_duration_seconds_count{method="ping"}'] == 4
    assert found['mcp_request_duration_seconds_sum{method="ping"}'] == pytest.approx(41.0101)


def test_sessions_are_counted_in_and_out_with_their_age() -> None:
    of = metrics()
    of.session_created()
    of.session_created()
    of.session_ended("idle_timeout", 3600.0)
    of.sessions_active = lambda: 1
    assert series(of, "downstream_sessions") == {
        "downstream_sessions_active": 1,
        "downstream_sessions_total": 2,
    }
    assert series(of, "downstream_session_terminations_total")[
        'downstream_session_terminations_total{reason="idle_timeout"}'
    ] == 1  # fmt: skip
    duration = series(of, "downstream_session_duration_seconds")
    assert duration['downstream_session_duration_seconds_bucket{le="1800.0"}'] == 0
    assert duration['downstream_session_duration_seconds_bucket{le="3600.0"}'] == 1


def test_limits_are_told_beside_what_they_limit() -> None:
    of = metrics()
    assert (
        series(of, "ready")
        == series(of, "downstream_sessions_limit")
        == series(of, "connections_limit")
        == {}
    )
    of.is_ready, of.sessions_limit, of.connections_limits = lambda: True, 20, {"gateway": 1000}
    server = of.server("git")
    server.inflight_limit, server.queue_limit, server.backoff_limit_s = 2, 8, 60.0
    assert series(of, "ready") == {"ready": 1}
    assert series(of, "downstream_sessions_limit") == {"downstream_sessions_limit": 20}
    assert series(of, "connections_limit") == {'connections_limit{listener="gateway"}': 1000}
    found = series(of, "upstream_")
    assert found['upstream_calls_in_flight_limit{server="git"}'] == 2
    assert found['upstream_calls_waiting_limit{server="git"}'] == 8
    assert found['upstream_backoff_limit_seconds{server="git"}'] == 60


def test_a_link_out_is_there_with_all_its_series_but_the_round_trip() -> None:
    of = metrics()
    assert of.link("hq", "git", "long-poll") is of.link("hq", "git", "long-poll")
    of.link("hq", "", "contextforge")
    found = series(of, "link_")
    assert found['link_up{dialect="long-poll",server="git",uplink="hq"}'] == 0
    assert found['link_attempts_total{result="refused",server="",uplink="hq"}'] == 0
    assert not [key for key in found if key.startswith("link_rtt")]


def test_what_happens_on_a_link_out_is_told() -> None:
    of = metrics()
    link = of.link("hq", "", "mcp-reverse")
    link.up, link.rtt_s, link.inflight, link.reconnects, link.resumed = True, 0.25, 2, 3, 4
    link.bytes_in, link.bytes_out, link.messages_in, link.messages_out = 5, 6, 7, 8
    link.attempts.add("failed")
    found = series(of, "link_")
    label = 'server="",uplink="hq"'
    assert found[f'link_up{{dialect="mcp-reverse",{label}}}'] == 1
    assert found[f"link_rtt_seconds{{{label}}}"] == 0.25
    assert found[f"link_calls_in_flight{{{label}}}"] == 2
    assert found[f"link_reconnects_total{{{label}}}"] == 3
    assert found[f"link_resumed_total{{{label}}}"] == 4
    assert found[f'link_bytes_total{{direction="received",{label}}}'] == 5
    assert found[f'link_bytes_total{{direction="sent",{label}}}'] == 6
    assert found[f'link_messages_total{{direction="received",{label}}}'] == 7
    assert found[f'link_messages_total{{direction="sent",{label}}}'] == 8
    assert found[f'link_attempts_total{{result="failed",{label}}}'] == 1


def test_the_links_of_a_removed_uplink_go_with_it() -> None:
    of = metrics()
    of.link("hq", "git", "long-poll").up = True
    of.link("lab", "git", "long-poll").up = True
    of.keep_links([("lab", "git", "long-poll")])
    assert series(of, "link_up") == {'link_up{dialect="long-poll",server="git",uplink="lab"}': 1}


def test_the_hub_counts_its_links_and_keeps_the_sums_of_those_that_are_over() -> None:
    of = metrics()
    first, second = of.hub.opened("long-poll"), of.hub.opened("long-poll")
    first.bytes_in, first.bytes_out, first.resumed = 10, 20, 1
    second.bytes_in, second.messages_in, second.carriers = 5, 1, 2
    of.hub.closed("long-poll", first, "dead")
    of.hub.refused.add("unknown_token")
    of.hub.replaced += 1
    of.hub.pending_bytes = lambda: 99
    found = series(of, "hub_")
    assert found['hub_links{dialect="long-poll"}'] == 1
    assert found['hub_links{dialect="contextforge"}'] == 0
    assert found['hub_lost_total{reason="dead"}'] == 1
    assert found['hub_bytes_total{direction="received"}'] == 15
    assert found['hub_bytes_total{direction="sent"}'] == 20
    assert found["hub_resumed_total"] == 1
    assert found['hub_refused_total{reason="unknown_token"}'] == 1
    assert found["hub_links_replaced_total"] == 1
    assert found["hub_pending_bytes"] == 99
    total = of.hub.traffic
    assert (total.messages_by_direction, total.carriers, total.rtt_s) == ({"received": 1, "sent": 0}, 2, None)


def test_closing_a_link_twice_counts_once() -> None:
    of = metrics()
    link = of.hub.opened("long-poll")
    link.bytes_in = 7
    of.hub.closed("long-poll", link, "closed")
    of.hub.closed("long-poll", link, "shutdown")
    found = series(of, "hub_")
    assert found['hub_links{dialect="long-poll"}'] == 0
    assert found['hub_bytes_total{direction="received"}'] == 7
    assert found['hub_lost_total{reason="shutdown"}'] == 0


def test_refusals_and_denials_are_counted() -> None:
    of = metrics()
    of.refused(413)
    of.denied("host")
    assert series(of, "http_refused_total")['http_refused_total{status="413"}'] == 1
    assert series(of, "denied_total")['denied_total{reason="host"}'] == 1


def test_queues_that_are_named_are_shown_as_long_as_they_are() -> None:
    assert series(busy(), "queue_length") == {'queue_length{queue="notes"}': 3}


def test_process_metrics_are_those_of_this_process() -> None:
    found = series(metrics(), "process_")
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_max_fds"] > 0
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc on this system: the rest is left out, as it should be")
    assert found["process_open_fds"] >= 3
    assert found["process_threads"] >= 1
    assert 1e6 < found["process_resident_memory_bytes"] < found["process_virtual_memory_bytes"]
