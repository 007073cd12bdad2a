"""The manual's table of verdicts, row by row: every page and both kinds of exit code over a real socket."""

import itertools
import re
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from edge.errors import Problem
from edge.health import ConfigState, Health, LastReload, State, Status
from tests.support.admin_rig import admin_listener, ask
from tests.support.manual import quoted, rows

STALE_AFTER_S = 45.0


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Situation:
    """A health in the making; `it` and its clock, and the state that a thing is to be in."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.it = Health(now=self.clock)

    def put(self, key: str, state: State, *, required: bool | None = None) -> None:
        status: Status = self.it.add(key, required=required)
        match state:
            case "starting":
                status.starting("no answer to initialize yet")
            case "ready":
                status.ready()
            case "stale":
                status.stale_after_s = STALE_AFTER_S
                status.ready()
                self.clock.now += STALE_AFTER_S + 1
            case "degraded":
                status.degraded("exited with status 1")
            case "failed":
                status.failed("given up")
            case "stopped":
                status.stopped()
        assert status.state == state

    def config(self, **settings: object) -> None:
        self.it.config = ConfigState(source="config.toml", loaded_at=0.0, **settings)  # type: ignore[arg-type]  # of the rows below

    def stop(self) -> None:
        self.it.stopping = True


def nothing(situation: Situation) -> None:
    situation.it.statuses.clear()


def all_ready(situation: Situation) -> None:
    situation.put("server:a", "ready", required=True)
    situation.put("server:b", "ready")
    situation.put("uplink:c", "ready")
    situation.put("edge:d", "ready")
    situation.config()


def put(key: str, state: State, *, required: bool | None = None) -> Callable[[Situation], None]:
    return lambda situation: situation.put(key, state, required=required)


SITUATIONS: dict[str, Callable[[Situation], None]] = {
    "nothing is set up yet": nothing,
    "all is ready": all_ready,
    "there is no server": put("listener:gateway", "ready"),
    "a required server is starting": put("server:r1", "starting", required=True),
    "a required server is stale": put("server:r2", "stale", required=True),
    "a required server is degraded": put("server:r3", "degraded", required=True),
    "a required server is failed": put("server:r4", "failed", required=True),
    "another server is starting": put("server:o1", "starting"),
    "another server is stale": put("server:o2", "stale"),
    "another server is degraded": put("server:o3", "degraded"),
    "another server is failed": put("server:o4", "failed"),
    "an uplink is starting": put("uplink:u1", "starting"),
    "an uplink is degraded": put("uplink:u2", "degraded"),
    "an uplink is failed": put("uplink:u3", "failed"),
    "a listener is starting": put("listener:l1", "starting"),
    "a listener is degraded": put("listener:l2", "degraded"),
    "a listener is failed": put("listener:l3", "failed"),
    "a part of ours is degraded": put("part:sessions", "degraded"),
    "a part of ours is failed": put("part:control", "failed"),
    "a hub without any edge": put("listener:hub", "ready"),
    "an edge of a hub is stale": put("edge:e1", "stale"),
    "an edge of a hub is degraded": put("edge:e2", "degraded"),
    "the hub's listener is degraded": put("listener:hub", "degraded"),
    "the config is being loaded again": lambda situation: situation.config(is_reloading=True),
    "a new config was refused": lambda situation: situation.config(
        last_reload=LastReload(at=1.0, result="refused", problems=(Problem("servers.x", "unknown"),))
    ),
    "stopping, with calls in flight or without": Situation.stop,
    "nobody answers": lambda situation: None,
}
ROWS = {cells[0]: cells[1:] for cells in rows("health", "The verdict")}
ORDER = ("ok", "degraded", "failing")


def test_the_table_has_these_situations() -> None:
    assert list(ROWS) == list(SITUATIONS)


@pytest.mark.parametrize("name", ROWS)
async def test_a_row_of_the_table_is_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    alive, ready, status, plain, nagios = ROWS[name]
    situation = Situation()
    async with admin_listener("127.0.0.1:0", situation.it, now=situation.clock) as address:
        SITUATIONS[name](situation)
        url = f"http://{address}"
        if name != "nobody answers":
            async with httpx.AsyncClient(trust_env=False) as client:
                for path in ("/livez", "/healthz"):
                    assert str((await client.get(url + path)).status_code) == alive
                readiness = await client.get(f"{url}/readyz")
                assert str(readiness.status_code) == ready
                assert readiness.text.splitlines()[0] == ("ready" if ready == "200" else "not ready")
                health = await client.get(f"{url}/health")
                page = await client.get(f"{url}/status")
                assert [f"`{health.json()['status']}`", health.status_code] == [status, 200]
                word = "stopping" if situation.it.stopping else quoted(status)[0]
                assert [f"<title>{word} · plant-7</title>" in page.text, page.status_code] == [True, 200]
            assert await told(url, capsys) == (plain, nagios)
    if name == "nobody answers":
        with suppress(httpx.TransportError):
            await httpx.AsyncClient(trust_env=False).get(url)
            pytest.fail("somebody answers")
        assert {alive, ready, status} == {"none"}
        assert await told(url, capsys) == (plain, nagios)


async def told(url: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Word and exit code of `mcp-edge health`, without and with `--nagios`, as the table has them."""
    cells: list[str] = []
    for nagios in (False, True):
        code = await ask(url, nagios=nagios)
        found = re.fullmatch(r"([A-Z ]+) - .*\n", capsys.readouterr().out)
        assert found is not None
        cells.append(f"{found[1]}, {code}")
    return cells[0], cells[1]


NOT_WITH_OTHERS = {"nothing is set up yet", "nobody answers"}


@pytest.mark.parametrize(
    "pair", [*itertools.combinations(sorted(ROWS.keys() - NOT_WITH_OTHERS), 2)], ids=" + ".join
)
async def test_of_two_at_once_the_worse_counts(pair: tuple[str, str]) -> None:
    situation = Situation()
    situation.it.add("listener:admin").ready()
    for name in sorted(pair, key=lambda name: name.startswith("the hub")):  # one hub has one listener
        SITUATIONS[name](situation)
    words = [quoted(ROWS[name][2])[0] for name in pair]
    assert situation.it.verdict() == max(words, key=ORDER.index)
    assert situation.it.is_ready() == all(ROWS[name][1] == "200" for name in pair)
