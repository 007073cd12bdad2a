import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from edge.errors import Problem
from edge.gate.origin import Origins
from edge.health import ConfigState, Health, LastReload, Result
from edge.metrics import Metrics
from edge.net.http_server import HttpLimits, HttpRequest, serve_connection
from edge.parts.admin import AdminFace
from edge.parts.status_page import MAX_EDGE_ROWS, size
from edge.parts.status_style import SECURITY_POLICY, STYLE_HASH

PATHS = ("/livez", "/healthz", "/readyz", "/health", "/metrics", "/status")


class Admin:
    """An admin face at the end of a memory stream, asked as a client would."""

    def __init__(self, origins: Origins | None) -> None:
        self.health = Health()
        self.metrics = Metrics()
        self.peer = "127.0.0.1:50000"
        self.info: dict[str, Any] = {
            "name": "plant-7",
            "version": "1.2.3",
            "endpoints": ["http://127.0.0.1:8766/mcp"],
        }
        self.face = AdminFace(
            health=self.health,
            metrics=self.metrics,
            origins=origins,
            info=lambda: self.info,
        )

    async def ask(self, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        ours, theirs = memory_stream_pair()
        fields = {"host": "127.0.0.1:9766", "connection": "close", **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, theirs)
            await ours.send_all(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode())
            answer = b""
            while chunk := await ours.receive_some():
                answer += chunk
            await ours.aclose()
        head_text, _, body = answer.decode().partition("\r\n\r\n")
        status_line, *lines = head_text.split("\r\n")
        answered = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(status_line.split()[1]), answered, body

    async def _serve(self, stream: trio.abc.Stream) -> None:
        await serve_connection(stream, self.face, HttpLimits(max_body_bytes=1000), peer=self.peer)


@pytest.fixture
async def admin() -> Admin:
    return Admin(Origins(["127.0.0.1:9766"]))


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_alive_is_answered_whatever_the_health_is(admin: Admin, path: str) -> None:
    admin.health.add("listener:gateway").failed("in use")
    status, headers, body = await admin.ask(path)
    assert (status, body, headers["cache-control"]) == (200, "ok\n", "no-store")


async def test_readiness_names_what_stands_in_the_way_with_its_age(
    admin: Admin, autojump_clock: MockClock
) -> None:
    admin.health.add("listener:gateway").ready()
    git = admin.health.add("server:git", required=True)
    git.degraded("exited with status 1")
    await trio.sleep(40)
    status, headers, body = await admin.ask("/readyz")
    assert (status, headers["content-type"]) == (503, "text/plain; charset=utf-8")
    assert body == "not ready\n[-] server:git degraded for 40 s (required): exited with status 1\n"
    git.ready()
    assert (await admin.ask("/readyz"))[0::2] == (200, "ready\n")


@pytest.mark.parametrize("query", ["verbose", "verbose=1", "x=1&verbose"])
async def test_verbose_readiness_has_a_line_for_everything(admin: Admin, query: str) -> None:
    admin.health.add("listener:gateway").ready()
    admin.health.add("server:plc").starting()
    status, _, body = await admin.ask(f"/readyz?{query}")
    assert (status, body) == (
        200,
        "ready\n[-] server:plc starting for 0 s\n[+] listener:gateway ready for 0 s\n",
    )


async def test_health_is_json_and_200_also_when_something_is_down(admin: Admin) -> None:
    admin.health.add("listener:gateway").ready()
    admin.health.add("server:git", required=True).failed("given up")
    admin.metrics.server("git").tools_count = 12
    admin.metrics.server("git").reconnects = 3
    status, headers, body = await admin.ask("/health")
    report = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (report["name"], report["version"], report["status"], report["ready"]) == (
        "plant-7",
        "1.2.3",
        "failing",
        False,
    )
    (git,) = report["servers"]
    assert (git["name"], git["state"], git["tools_count"], git["reconnects"]) == ("git", "failed", 12, 3)
    assert git["last_error"] == "given up"


async def test_asking_for_health_makes_no_metrics_of_its_own(admin: Admin) -> None:
    admin.health.add("server:git")
    report = json.loads((await admin.ask("/health"))[2])
    assert "tools_count" not in report["servers"][0]
    assert admin.metrics.servers == {}


async def test_metrics_speak_the_format_that_is_asked_for(admin: Admin) -> None:
    status, headers, body = await admin.ask("/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "mcp_edge_build_info{" in body
    _, headers, body = await admin.ask("/metrics", accept="application/openmetrics-text;version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_a_body(admin: Admin, path: str) -> None:
    admin.health.add("listener:gateway").ready()
    status, headers, body = await admin.ask(path, "HEAD")
    assert (status, body) == (200, "")
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_nothing_but_reading_is_allowed(admin: Admin, method: str) -> None:
    status, headers, _ = await admin.ask("/health", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/mcp", "/livez/", "/-/reload", "/%2e%2e/status"])
async def test_other_paths_are_404_and_say_what_there_is(admin: Admin, path: str) -> None:
    status, _, body = await admin.ask(path)
    assert (status, body) == (404, "there is: /livez /healthz /readyz /health /metrics /status\n")


async def test_a_page_that_rebinds_its_name_to_us_is_refused_and_counted(admin: Admin) -> None:
    assert (await admin.ask("/health", host="evil.example:9766"))[0] == 421
    assert (await admin.ask("/health", origin="http://evil.example"))[0] == 403
    assert admin.metrics.denials == {"host": 1, "origin": 1}


async def test_without_origins_any_name_will_do(admin: Admin) -> None:
    admin.face = AdminFace(health=admin.health, metrics=admin.metrics, origins=None, info=dict)
    assert (await admin.ask("/livez", host="plant-7.example", origin="http://anywhere.example"))[0] == 200


async def test_what_http_itself_refuses_is_plain_text(admin: Admin) -> None:
    refusal = admin.face.refusal(431, "head too large")
    assert (refusal.status, refusal.body, refusal.content_type) == (
        431,
        b"head too large\n",
        "text/plain; charset=utf-8",
    )


class Page(HTMLParser):
    """Text, tags and attributes of a page; complains about tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


async def test_the_status_page_shows_servers_and_why_they_are_down(
    admin: Admin, autojump_clock: MockClock
) -> None:
    admin.health.add("listener:gateway").ready()
    admin.health.add("sessions:main").ready()
    git = admin.health.add("server:git", required=True)
    git.failed("gone for now")
    git.ready()
    admin.health.add("server:plc").degraded("no route to host")
    admin.metrics.server("git").tools_count = 12
    admin.info["sessions"] = {"active": 5}
    await trio.sleep(90)
    status, headers, body = await admin.ask("/status")
    text = Page(body).text
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    for shown in (
        "plant-7", "degraded", "1.2.3", "http://127.0.0.1:8766/mcp", "5", "git", "required", "12", "plc",
        "no route to host", "gone for now (1 min 30 s ago)", "1 min 30 s", "never", "gateway", "main",
    ):  # fmt: skip
        assert shown in text, shown


async def test_the_status_page_shows_links_out_and_edges(admin: Admin) -> None:
    admin.health.add("listener:gateway").ready()
    uplink = admin.health.add("uplink:hq/git")
    uplink.ready()
    uplink.detail |= {
        "dialect": "long-poll",
        "failures": 7,
        "rtt_s": 0.0304,
        "bytes_received": 2048,
        "bytes_sent": 5,
    }
    admin.health.add("edge:plant-8").ready()
    admin.health.add("edge:plant-7").degraded("the link to the edge was lost")
    admin.health.add("edge:plant-6").ready()
    admin.metrics.edge("plant-6").tools_count = 42
    text = Page((await admin.ask("/status"))[2]).text
    for shown in ("Uplinks", "hq/git", "long-poll", "7", "30 ms", "2 KiB", "5 B", "Edges", "42",
                  "2 connected, 1 away", "the link to the edge was lost"):  # fmt: skip
        assert shown in text, shown
    after = text[text.index("Edges") :]
    assert [word for word in after if word.startswith("plant-")] == ["plant-7", "plant-6", "plant-8"], (
        "away first"
    )


async def test_the_status_page_has_no_tables_for_links_that_nobody_asked_for(admin: Admin) -> None:
    text = Page((await admin.ask("/status"))[2]).text
    assert {"Uplinks", "Edges"}.isdisjoint(text)


async def test_of_very_many_edges_the_status_page_shows_those_that_are_away_and_counts_the_rest(
    admin: Admin,
) -> None:
    for number in range(MAX_EDGE_ROWS + 5):
        admin.health.add(f"edge:e{number}").ready()
    admin.health.add("edge:zz").degraded("away")
    text = Page((await admin.ask("/status"))[2]).text
    assert "zz" in text
    assert "and 6 more: " in text
    assert len([word for word in text if re.fullmatch(r"e\d+|zz", word)]) == MAX_EDGE_ROWS
    assert len(json.loads((await admin.ask("/health"))[2])["edges"]) == MAX_EDGE_ROWS + 6


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, ""), (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (3 * 2**20, "3 MiB"), (5 * 2**29, "2.5 GiB")],
)
def test_sizes_are_shown_in_their_unit(count: int | None, shown: str) -> None:
    assert size(count) == shown


async def test_callers_elsewhere_see_how_a_link_does_and_not_where_to(admin: Admin) -> None:
    admin.health.add("uplink:hq").detail |= {
        "url": "https://hq.internal",
        "session": "abc",
        "dialect": "long-poll",
    }
    admin.peer = "192.0.2.7:50000"
    body = (await admin.ask("/health"))[2]
    assert json.loads(body)["uplinks"][0]["dialect"] == "long-poll"
    assert "hq.internal" not in body
    assert '"session"' not in body


async def test_an_empty_status_page_says_so(admin: Admin) -> None:
    admin.info = {}
    text = Page((await admin.ask("/status"))[2]).text
    assert {"mcp-edge", "failing · mcp-edge", "Not ready", "No MCP server is configured."} <= set(text)


async def test_a_page_of_one_that_stops_calls_nothing_wrong(admin: Admin) -> None:
    admin.health.add("listener:gateway").stopped()
    admin.health.stopping = True
    text = Page((await admin.ask("/status"))[2]).text
    assert {"Stopping", "stopping · plant-7"} <= set(text)
    assert "Needs attention" not in text


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ({}, "All is well."),
        (
            {"server:a": "ready", "server:b": "ready", "uplink:u": "ready"},
            "All is well: 2 servers, 1 uplink.",
        ),
        (
            {"server:a": "ready", "edge:e": "ready", "edge:f": "degraded"},
            "All is well: 1 server, 1 of 2 edges.",
        ),
        ({"server:a": "degraded"}, "Ready, but 1 thing is not"),
        ({"server:a": "degraded", "uplink:u": "failed"}, "Ready, but 2 things are not"),
        ({"server!a": "degraded", "server:b": "failed"}, "In the way: server a."),
        ({f"server!{n}": "failed" for n in "abcde"}, "In the way: server a, server b, server c and 2 more."),
    ],
)
async def test_the_verdict_is_told_in_a_sentence(admin: Admin, states: dict[str, str], told: str) -> None:
    admin.health.add("listener:gateway").ready()
    for key, state in states.items():  # a mark of exclamation: it is required
        status = admin.health.add(key.replace("!", ":"), required="!" in key)
        if state == "ready":
            status.ready()
        else:
            getattr(status, state)("away")
    assert told in Page((await admin.ask("/status"))[2]).text


async def test_what_is_wrong_comes_first_and_of_that_what_stands_in_the_way(
    admin: Admin, autojump_clock: MockClock
) -> None:
    admin.health.add("listener:gateway").ready()
    admin.health.add("server:early").degraded("optional")
    admin.health.add("uplink:given-up").failed("for good")
    admin.health.add("edge:away").degraded("not connected")
    late = admin.health.add("server:late", required=True)
    late.ready()
    await trio.sleep(30)
    late.degraded("exited with status 1")
    late.retries_in(90)
    late.restarts = 2
    late.detail |= {"stderr": [f"line {n}" for n in range(9)]}
    await trio.sleep(20)
    text = Page((await admin.ask("/status"))[2]).text
    attention, servers = text.index("Needs attention"), text.index("Servers")
    listed = text[attention:servers]
    assert [word for word in listed if word in ("early", "given-up", "late", "away")] == [
        "late",
        "given-up",
        "early",
    ]
    for shown in (
        "exited with status 1", "for 20 s", "last good 50 s ago", "next attempt in 1 min 10 s (of 1 min 30 s)",
        "2 restarts", "line 4\nline 5\nline 6\nline 7\nline 8",
    ):  # fmt: skip
        assert shown in listed, shown


async def test_process_and_memory_are_shown_where_they_are_known(admin: Admin) -> None:
    git = admin.health.add("server:git")
    git.ready()
    text = Page((await admin.ask("/status"))[2]).text
    assert {"process", "memory", "CPU time"}.isdisjoint(text)
    git.detail |= {"pid": 4711, "memory_bytes": 50 * 2**20, "cpu_s": 65.2}
    text = Page((await admin.ask("/status"))[2]).text
    assert {"process", "4711", "memory", "50 MiB", "CPU time", "1 min 5 s"} <= set(text)


async def test_a_config_that_was_refused_is_told_with_its_problems_and_only_here(admin: Admin) -> None:
    admin.health.add("listener:gateway").ready()
    admin.health.config = ConfigState(
        source="/etc/mcp-edge/config.toml",
        loaded_at=0.0,
        last_reload=LastReload(
            at=1_700_000_000.0, result="refused", problems=(Problem("servers.x", "unknown key"),)
        ),
    )
    text = Page((await admin.ask("/status"))[2]).text
    assert {"Ready", "refused at 2023-11-14 22:13:20 UTC", "servers.x: unknown key"} <= set(text)
    admin.peer = "192.0.2.7:50000"
    for target in ("/status", "/health", "/readyz?verbose"):
        body = (await admin.ask(target))[2]
        assert "servers.x" not in body
        assert "/etc/mcp-edge" not in body
    assert json.loads((await admin.ask("/health"))[2])["config"]["last_reload_ok"] is False


@pytest.mark.parametrize(
    ("result", "what", "now"),
    [
        ("rolled back", "taken back", "The one before is in force again."),
        ("not rolled back", "not good and could not be taken back", "It stays in force."),
    ],
)
async def test_the_page_says_which_config_is_in_force_after_one_that_was_no_good(
    result: Result, what: str, now: str, admin: Admin
) -> None:
    admin.health.config = ConfigState(
        source="c.toml",
        loaded_at=0.0,
        last_reload=LastReload(at=1_700_000_000.0, result=result),
    )
    text = Page((await admin.ask("/status"))[2]).text
    assert {f"{what} at 2023-11-14 22:13:20 UTC", now} <= set(text)
    admin.peer = "192.0.2.7:50000"
    assert json.loads((await admin.ask("/health"))[2])["config"]["last_reload_result"] == result


async def test_nothing_from_outside_becomes_markup(admin: Admin) -> None:
    nasty = "<script>alert(1)</script>\"'&<img src=x onerror=y>"
    admin.info = {"name": nasty, "version": nasty, "endpoints": [nasty], "sessions": nasty}
    admin.health.add(f"server:{nasty}").failed(nasty)
    page = Page((await admin.ask("/status"))[2])
    assert page.text.count(nasty) >= 6
    assert set(page.tags).isdisjoint({"script", "img"})
    assert "onerror" not in page.attributes


async def test_the_page_runs_nothing_and_loads_nothing(admin: Admin) -> None:
    _, headers, body = await admin.ask("/status")
    assert headers["content-security-policy"] == SECURITY_POLICY
    assert SECURITY_POLICY.startswith(f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'")
    page = Page(body)
    assert page.attributes.isdisjoint({"style", "src", "onclick"}), "the policy would forbid them"
    assert not re.search(r"url\(|@import|https?://", body.partition("</style>")[0])


async def test_a_request_made_by_hand_needs_no_connection(admin: Admin) -> None:
    head = HttpRequest("GET", "/health", "", {"host": "localhost"}, frozenset(), b"", "test")
    assert admin.face.admit(head) is None


@pytest.mark.parametrize("peer", ["192.0.2.7:50000", "[2001:db8::7]:50000"])
async def test_callers_elsewhere_are_not_told_why(admin: Admin, peer: str) -> None:
    git = admin.health.add("server:git", required=True)
    git.degraded("cannot open /srv/customer-list")
    git.detail["stderr"] = ["password is hunter2"]
    admin.peer = peer
    for target in ("/readyz?verbose", "/health", "/status"):
        _, _, body = await admin.ask(target)
        assert "git" in body
        assert "customer-list" not in body
        assert "hunter2" not in body


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:9766"},
        {"host": "192.0.2.1:9766"},
        {"host": "localhost:9766", "origin": "http://evil.example:9766"},
        {"host": "localhost:9766", "origin": "null"},
    ],
)
async def test_a_browser_here_that_a_page_from_elsewhere_led_to_a_public_listener_is_not_told_why(
    headers: dict[str, str],
) -> None:
    admin = Admin(None)
    admin.health.add("server:git", required=True).degraded("cannot open /srv/customer-list")
    for target in ("/readyz?verbose", "/health", "/status"):
        _, _, body = await admin.ask(target, **headers)
        assert "git" in body
        assert "customer-list" not in body


async def test_who_asks_a_public_listener_from_this_machine_by_a_loopback_name_is_told_why() -> None:
    admin = Admin(None)
    admin.health.add("server:git", required=True).degraded("cannot open the repository")
    for host in ("localhost:1", "127.0.0.1:9766", "[::1]:9766"):
        assert "cannot open the repository" in (await admin.ask("/readyz?verbose", host=host))[2]


@pytest.mark.parametrize("peer", ["unix", "[::1]:50000", "127.9.9.9:1"])
async def test_callers_on_this_machine_are_told_why(admin: Admin, peer: str) -> None:
    admin.health.add("server:git", required=True).degraded("cannot open the repository")
    admin.peer = peer
    for target in ("/readyz?verbose", "/health", "/status"):
        assert "cannot open the repository" in (await admin.ask(target))[2]
