"""What is told of servers, and of edges behind accepted links."""

from edge.metrics_servers import MAX_TOOLS
from tests.support.scrapes import body, metrics, series


def test_a_server_has_every_series_from_the_start_but_backoff_and_refresh_time() -> None:
    of = metrics()
    of.server("git")
    found = series(of, "upstream_")
    assert found['upstream_connected{server="git"}'] == 0
    assert found['upstream_last_seen_seconds{server="git"}'] == -1
    assert found['upstream_health_checks_total{result="failure",server="git"}'] == 0
    assert found['upstream_session_resets_total{reason="expired",server="git"}'] == 0
    assert found['upstream_bytes_total{direction="sent",server="git"}'] == 0
    absent = (
        "upstream_in_backoff",
        "upstream_current_backoff_seconds",
        "upstream_tools_last_refresh_timestamp",
    )
    assert not [key for key in found if key.startswith(absent)]


def test_what_happens_at_a_server_is_told() -> None:
    of = metrics()
    server = of.server("git")
    server.connected, server.last_success, server.in_backoff, server.backoff_s = True, 990.5, True, 4.0
    server.backoff_total += 1.5
    server.bytes_received += 7
    server.initialize("success", 0.2)
    server.health_check("failure")
    server.reconnect_attempt("error")
    server.refresh("error", 0.1)
    server.refresh("success", 0.1)
    found = series(of, "upstream_")
    label = 'server="git"'
    assert found[f"upstream_connected{{{label}}}"] == 1
    assert found[f"upstream_last_seen_seconds{{{label}}}"] == 9.5
    assert found[f"upstream_in_backoff{{{label}}}"] == 1
    assert found[f"upstream_current_backoff_seconds{{{label}}}"] == 4
    assert found[f"upstream_backoff_seconds_total{{{label}}}"] == 1.5
    assert found[f'upstream_bytes_total{{direction="received",{label}}}'] == 7
    assert found[f'upstream_initialize_total{{result="success",{label}}}'] == 1
    assert found[f"upstream_initialize_duration_seconds_count{{{label}}}"] == 1
    assert found[f'upstream_health_checks_total{{result="failure",{label}}}'] == 1
    assert found[f'upstream_reconnect_attempts_total{{result="error",{label}}}'] == 1
    assert found[f'upstream_tools_refresh_total{{result="error",{label}}}'] == 1
    assert found[f"upstream_tools_refresh_duration_seconds_count{{{label}}}"] == 2
    assert found[f"upstream_tools_last_refresh_timestamp_seconds{{{label}}}"] == 5000


def test_a_server_can_be_connected_and_not_ready() -> None:
    of = metrics()
    server = of.server("git")
    server.connected = server.is_required = True
    assert series(of, "upstream_ready") == {'upstream_ready{server="git"}': 1}, (
        "nobody has said anything else"
    )
    server.is_ready = lambda: False
    assert series(of, "upstream_ready") == {'upstream_ready{server="git"}': 0}
    assert series(of, "upstream_connected") == {'upstream_connected{server="git"}': 1}
    assert series(of, "upstream_required") == {'upstream_required{server="git"}': 1}


def test_the_series_of_a_removed_server_go_with_it() -> None:
    of = metrics()
    of.server("git").connected = True
    of.server("plc").tool_call("read", 31.0, "internal")
    of.drop_server("git")
    of.drop_server("never-there")
    assert 'server="git"' not in body(of)
    assert 'server="plc"' in body(of)
    assert of.server("git").connected is False, "and one of the same name begins anew"


def test_of_an_edge_few_series_are_told_whatever_its_tools_are() -> None:
    of = metrics()
    edge = of.edge("plant-7")
    assert of.edge("plant-7") is edge
    edge.connected, edge.last_success, edge.inflight = True, 990.0, 4
    for number in range(50):
        edge.tool_call(f"tool{number}", 0.1, None)
    edge.tool_call("tool1", 0.1, "upstream_timeout")
    edge.initialize("success", 0.1)
    assert {key: n for key, n in series(of, "").items() if "plant-7" in key} == {
        'hub_link_up{edge="plant-7"}': 1,
        'hub_calls_total{edge="plant-7",result="success"}': 50,
        'hub_calls_total{edge="plant-7",result="error"}': 1,
        'hub_calls_in_flight{edge="plant-7"}': 4,
        'hub_last_seen_seconds{edge="plant-7"}': 10,
    }
    assert edge.tools == {}, "nothing is kept a tool"
    of.drop_edge("plant-7")
    of.drop_edge("plant-7")
    assert "plant-7" not in body(of)


def test_an_edge_that_never_answered_says_so() -> None:
    of = metrics()
    of.edge("plant-7")
    assert series(of, "hub_last_seen") == {'hub_last_seen_seconds{edge="plant-7"}': -1}


def test_tool_calls_are_counted_with_failures_among_them() -> None:
    of = metrics()
    git = of.server("git")
    git.tool_call("log", 0.1, None)
    git.tool_call("log", 0.1, "upstream_timeout")
    git.tool_call("log", 0.1, "never heard of")
    assert series(of, "tool_calls_total") == {'tool_calls_total{server="git",tool="log"}': 3}
    errors = series(of, "tool_call_errors_total")
    assert {key for key, n in errors.items() if n} == {
        'tool_call_errors_total{reason="upstream_timeout",server="git",tool="log"}',
        'tool_call_errors_total{reason="internal",server="git",tool="log"}',
    }
    assert len(errors) == 7, "every reason is there, once the tool was called"


def test_tools_beyond_the_limit_share_one_series() -> None:
    of = metrics()
    git = of.server("git")
    for n in range(MAX_TOOLS + 5):
        git.tool_call(f"tool{n}", 0.1, None)
    calls = series(of, "tool_calls_total")
    assert len(calls) == MAX_TOOLS + 1
    assert calls['tool_calls_total{server="git",tool="_unknown"}'] == 5
