import pytest

from edge.errors import Problem
from edge.health import ConfigState, Health, LastReload, Result, Status, ago


class Clock:
    """Monotonic seconds and Unix time, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now


def health(clock: Clock) -> Health:
    return Health(now=clock.monotonic, wall=clock.wall)


def test_nothing_set_up_is_not_ready() -> None:
    it = health(Clock())
    assert not it.is_ready()
    assert it.lines() == ["not ready", "[-] process starting: nothing that is required has been set up yet"]
    assert it.report(100.0)["uptime_seconds"] == 0


def test_ready_means_listeners_and_required_servers() -> None:
    it = health(Clock())
    listener, git = it.add("listener:gateway"), it.add("server:git", required=True)
    optional = it.add("server:plc")
    listener.ready()
    assert (it.is_ready(), it.verdict()) == (False, "failing")
    git.ready()
    assert (it.is_ready(), it.verdict()) == (True, "degraded")
    optional.ready()
    assert (it.is_ready(), it.verdict()) == (True, "ok")
    optional.degraded("exited with status 1")
    assert (it.is_ready(), it.verdict()) == (True, "degraded")
    git.failed("given up")
    assert (it.is_ready(), it.verdict()) == (False, "failing")


def test_a_process_that_was_asked_to_end_is_not_ready() -> None:
    it = health(Clock())
    it.add("listener:gateway").ready()
    it.stopping = True
    assert not it.is_ready()
    assert it.lines(verbose=False) == ["not ready", "[-] process stopping"]


def test_a_removed_thing_no_longer_counts() -> None:
    it = health(Clock())
    it.add("listener:gateway").ready()
    it.add("server:git", required=True)
    it.remove("server:git")
    it.remove("server:never-there")
    assert it.verdict() == "ok"


def test_since_counts_from_the_change_of_state_not_from_its_repetition() -> None:
    clock = Clock()
    status = health(clock).add("server:git")
    clock.now = 110.0
    status.degraded("no such command")
    clock.now = 150.0
    status.degraded("exited with status 1")
    assert status.line() == "[-] server:git degraded for 40 s: exited with status 1"
    record = status.report(151.0)
    assert (record["since"], record["state_seconds"]) == ("2023-11-14T22:15:10Z", 41.0)
    assert (record["last_error"], record["last_error_seconds_ago"]) == ("exited with status 1", 1.0)


def test_an_error_is_remembered_when_it_is_good_again() -> None:
    clock = Clock()
    status = health(clock).add("server:git")
    status.failed("broken")
    clock.now = 130.0
    status.ready()
    clock.now = 190.0
    status.succeeded()
    assert status.line() == "[+] server:git ready for 1 min 0 s"
    record = status.report(195.5)
    assert (record["reason"], record["last_error"], record["last_seen_seconds_ago"]) == (None, "broken", 5.5)


def test_lines_name_all_or_only_what_stands_in_the_way() -> None:
    it = health(Clock())
    it.add("server:git", required=True).starting("waiting for initialize")
    it.add("listener:gateway").ready()
    it.add("server:plc").degraded("away")
    it.add("edge:plant-7")
    assert it.lines(verbose=False) == [
        "not ready",
        "[-] server:git starting for 0 s (required): waiting for initialize",
    ]
    assert it.lines() == [
        "not ready",
        "[-] server:git starting for 0 s (required): waiting for initialize",
        "[-] server:plc degraded for 0 s: away",
        "[-] edge:plant-7 starting for 0 s",
        "[+] listener:gateway ready for 0 s",
    ]


def test_the_report_has_servers_listeners_and_the_rest_sorted_by_name() -> None:
    clock = Clock()
    it = health(clock)
    for key in ("server:plc", "sessions:main", "listener:gateway", "server:git"):
        it.add(key).stopped()
    clock.now = 105.0
    report = it.report(105.0)
    assert [record["name"] for record in report["servers"]] == ["git", "plc"]
    assert [record["name"] for record in report["listeners"]] == ["gateway"]
    assert [record["name"] for record in report["parts"]] == ["main"]
    assert (report["status"], report["ready"], report["uptime_seconds"]) == ("failing", False, 5.0)
    assert report["servers"][0] == {
        "name": "git", "state": "stopped", "required": False, "connected": False, "since": "2023-11-14T22:15:00Z",
        "state_seconds": 5.0, "reason": None, "last_success": None, "last_seen_seconds_ago": None, "last_error": None,
        "last_error_seconds_ago": None, "restarts": 0, "backoff_s": None, "next_attempt_in_s": None,
    }  # fmt: skip


def test_links_have_lists_of_their_own_in_the_report() -> None:
    it = health(Clock())
    for key in ("uplink:hq/plc", "edge:plant-7", "uplink:hq/git", "server:git"):
        it.add(key)
    report = it.report(100.0)
    names = {
        shelf: [record["name"] for record in report[shelf]]
        for shelf in ("uplinks", "edges", "servers", "parts")
    }
    assert names == {"uplinks": ["hq/git", "hq/plc"], "edges": ["plant-7"], "servers": ["git"], "parts": []}


def test_an_uplink_that_is_down_degrades_the_verdict_and_an_edge_that_is_away_does_not() -> None:
    it = health(Clock())
    it.add("listener:gateway").ready()
    it.add("edge:plant-7").degraded("the link was lost")
    assert it.verdict() == "ok"
    it.add("uplink:hq").degraded("refused")
    assert (it.verdict(), it.is_ready()) == ("degraded", True)


def test_detail_is_shown_but_hides_nothing() -> None:
    status = health(Clock()).add("server:git")
    status.detail |= {"tools_count": 3, "state": "ready"}
    record = status.report(100.0)
    assert (record["tools_count"], record["state"]) == (3, "starting")


def test_a_reason_is_one_short_line_without_secrets() -> None:
    clock = Clock()
    clean = Health(now=clock.monotonic, wall=clock.wall, clean=lambda text: text.replace("hunter2", "***"))
    status = clean.add("server:git")
    status.failed("login hunter2\n[+] listener:gateway ready\t" + "x" * 1000)
    assert status.reason.startswith("login *** [+] listener:gateway ready xxx")
    assert len(status.reason) == 400
    assert status.last_error == status.reason


def test_a_detail_is_shown_without_secrets_however_deep() -> None:
    clock = Clock()
    clean = Health(now=clock.monotonic, wall=clock.wall, clean=lambda text: text.replace("hunter2", "***"))
    status = clean.add("server:git")
    status.detail |= {"stderr": ["login hunter2", "ok"], "deep": {"x": ("hunter2", 1, None)}}
    record = status.report(100.0)
    assert (record["stderr"], record["deep"]) == (["login ***", "ok"], {"x": ["***", 1, None]})


async def test_the_clock_is_the_loops_unless_another_is_given() -> None:
    assert Health().add("server:git").report(0.0)["state"] == "starting"
    assert Status("server:git").state == "starting"


def test_what_was_ready_is_stale_when_nothing_succeeds_for_its_time() -> None:
    clock = Clock()
    it = health(clock)
    it.add("listener:gateway").ready()
    git = it.add("server:git", required=True)
    git.stale_after_s = 45.0
    git.ready()
    clock.now = 145.0
    assert (git.state, it.is_ready()) == ("ready", True)
    clock.now = 165.0
    assert (git.state, git.is_good, it.is_ready(), it.verdict()) == ("stale", False, False, "failing")
    assert it.lines(verbose=False) == [
        "not ready",
        "[-] server:git stale for 20 s (required): "
        "nothing has succeeded for 1 min 5 s, though its connection stands",
    ]
    record = git.report(165.0)
    assert (record["since"], record["state_seconds"], record["connected"]) == (
        "2023-11-14T22:15:45Z",
        20.0,
        False,
    )
    assert (record["last_success"], record["last_seen_seconds_ago"]) == ("2023-11-14T22:15:00Z", 65.0)
    git.succeeded()
    assert (git.state, git.line()) == ("ready", "[+] server:git ready for 1 min 5 s (required)")


def test_what_is_down_is_not_called_stale() -> None:
    clock = Clock()
    git = health(clock).add("server:git")
    git.stale_after_s = 45.0
    git.ready()
    git.degraded("exited with status 1")
    clock.now = 500.0
    assert (git.state, git.reason) == ("degraded", "exited with status 1")


def test_a_wait_for_the_next_attempt_is_over_when_it_begins_or_when_it_is_good_or_given_up() -> None:
    clock = Clock()
    git = health(clock).add("server:git")

    def wait() -> tuple[float | None, float | None]:
        record = git.report(clock.now)
        return record["backoff_s"], record["next_attempt_in_s"]

    for end in (git.trying, git.ready, lambda: git.failed("given up"), git.stopped):
        git.degraded("exited with status 1")
        git.retries_in(8.0)
        clock.now += 3.0
        assert wait() == (8.0, 5.0)
        end()
        assert wait() == (None, None)
        clock.now += 10.0


def test_an_attempt_does_not_hide_that_and_why_it_is_down() -> None:
    git = health(Clock()).add("server:git")
    git.trying("connecting")
    assert (git.state, git.reason) == ("starting", "connecting")
    git.degraded("exited with status 1")
    git.trying("connecting")
    assert (git.state, git.reason) == ("degraded", "exited with status 1")


def test_the_config_in_force_is_told_and_changes_no_verdict() -> None:
    clock = Clock()
    it = Health(now=clock.monotonic, wall=clock.wall, clean=lambda text: text.replace("hunter2", "***"))
    it.add("listener:gateway").ready()
    assert it.report(100.0)["config"] is None
    loaded_at = clock.wall()
    clock.now = 160.0
    problems = (Problem("servers.git.command", "no\nhunter2"), Problem("", "x"), Problem("", "y"))
    for state, line in (
        (
            ConfigState(source="/etc/c.toml", loaded_at=loaded_at),
            "[+] config in force for 1 min 0 s: /etc/c.toml",
        ),
        (
            ConfigState(source="/etc/c.toml", loaded_at=loaded_at, is_reloading=True),
            "[+] config is being reloaded",
        ),
        (
            ConfigState(
                source="/etc/c.toml",
                loaded_at=loaded_at,
                last_reload=LastReload(at=loaded_at + 20, result="refused", problems=problems),
            ),
            "[-] config refused 40 s ago, the one before stays in force: servers.git.command: no *** (and 2 more)",
        ),
    ):
        it.config = state
        assert (it.verdict(), it.lines()[-1]) == ("ok", line)
        assert it.lines(verbose=False) == ["ready"]
    assert it.report(160.0)["config"] == {
        "source": "/etc/c.toml", "loaded_at": "2023-11-14T22:15:00Z", "is_reloading": False,
        "last_reload_at": "2023-11-14T22:15:20Z", "last_reload_ok": False,
        "last_reload_result": "refused",
        "last_reload_problems": [
            {"place": "servers.git.command", "text": "no ***"}, {"place": "", "text": "x"}, {"place": "", "text": "y"},
        ],
    }  # fmt: skip
    assert it.lines(reasons=False)[-1] == "[-] config refused 40 s ago, the one before stays in force"


@pytest.mark.parametrize(
    ("result", "line"),
    [
        ("refused", "[-] config refused 40 s ago, the one before stays in force: no room"),
        ("rolled back", "[-] config taken back 40 s ago, the one before is in force again: no room"),
        (
            "not rolled back",
            "[-] config not good and could not be taken back 40 s ago, it stays in force: no room",
        ),
    ],
)
def test_a_reload_that_was_not_good_says_which_config_is_in_force(result: Result, line: str) -> None:
    clock = Clock()
    it = health(clock)
    it.config = ConfigState(
        source="c.toml",
        loaded_at=clock.wall(),
        last_reload=LastReload(at=clock.wall() - 40, result=result, problems=(Problem("", "no room"),)),
    )
    assert it.lines()[-1] == line
    assert it.report(160.0)["config"]["last_reload_result"] == result


def test_before_the_first_reload_there_is_no_result_of_one() -> None:
    it = health(Clock())
    it.config = ConfigState(source="c.toml", loaded_at=0.0)
    config = it.report(160.0)["config"]
    assert [config[f"last_reload_{what}"] for what in ("at", "ok", "result", "problems")] == [
        None,
        None,
        None,
        [],
    ]


@pytest.mark.parametrize("result", ["reloaded", "unchanged"])
def test_after_a_good_reload_its_result_is_known_and_nothing_is_said_against_the_config(
    result: Result,
) -> None:
    it = health(Clock())
    it.config = ConfigState(source="c.toml", loaded_at=0.0, last_reload=LastReload(at=0.0, result=result))
    config = it.report(160.0)["config"]
    assert (config["last_reload_ok"], config["last_reload_result"]) == (True, result)
    assert it.lines()[-1].startswith("[+] config in force")


def test_durations_have_two_units_at_most() -> None:
    assert [ago(s) for s in (-1, 59.9, 60, 3600, 86_399, 200_000)] == [
        "0 s", "59 s", "1 min 0 s", "1 h 0 min", "23 h 59 min", "2 d 7 h",
    ]  # fmt: skip
