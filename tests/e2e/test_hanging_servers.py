"""A server whose program hangs in the kernel, as on a network mount that has gone: nobody else waits for it."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import cgroups
from tests.support.appliance import Appliance, running, toml_list
from tests.support.hanging import dead_mount, is_leased, leased, why_no_dead_mount
from tests.support.peers import requires
from tests.support.processes import descendants, eventually
from tests.support.reloads import edit, reload

pytestmark = requires("pyz")
TOY = Path(__file__).parent.parent / "support" / "toy_server.py"


class Hung(NamedTuple):
    program: Path
    still_hangs: Callable[[], bool]


def server(name: str, *command: str | Path) -> str:
    return f"[servers.{name}]\ncommand = {toml_list(command)}\n"


def toy(name: str, *words: str) -> str:
    return server(name, sys.executable, TOY, *words)


@contextmanager
def hanging_in_its_execution(folder: Path) -> Iterator[Hung]:
    program = folder / "hung"
    shutil.copy(shutil.which("cat") or "/bin/cat", program)
    with leased(program):
        yield Hung(program, lambda: is_leased(program))


@contextmanager
def hanging_where_it_is_looked_for(folder: Path) -> Iterator[Hung]:
    with dead_mount(folder / "dead"):
        yield Hung(folder / "dead" / "hung", lambda: True)  # as long as it is mounted


WAYS = {
    "in its execution": hanging_in_its_execution,
    "where it is looked for": hanging_where_it_is_looked_for,
}


@pytest.fixture(params=WAYS)
def hung(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hung]:
    if request.param == "where it is looked for" and (why_not := why_no_dead_mount()) is not None:
        pytest.skip(why_not)
    with WAYS[request.param](tmp_path) as found:
        yield found


@pytest.fixture(params=["with a guard", "with cgroups"])
def service(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Any]]:
    """How it is started: from a shell, or as by systemd, which delegates a cgroup to it."""
    if request.param == "with a guard":
        yield {}
        return
    if (why_not := cgroups.why_not()) is not None:
        pytest.skip(why_not)
    with cgroups.delegated() as place:
        yield {"env": cgroups.EVIDENCE, "prefix": cgroups.inside(place)}
        assert cgroups.rooms(place) == []


def states(edge: Appliance) -> dict[str, str]:
    return {record["name"]: record["state"] for record in edge.health()["servers"]}


def servers_of(edge: Appliance) -> int:
    return len([each for each in descendants(edge.pid) if each.is_alive])


def test_it_holds_up_neither_the_others_nor_reloads(hung: Hung, service: Mapping[str, Any]) -> None:
    bad = server("hung", hung.program)
    with running(toy("good") + bad, **service) as edge:
        assert states(edge) == {"good": "ready", "hung": "starting"}
        edit(edge, toy("good") + bad + toy("more"))
        assert reload(edge)[1]["added"] == ["server more"]
        assert states(edge) == {"good": "ready", "hung": "starting", "more": "ready"}
        edit(edge, toy("good") + toy("more"))
        assert reload(edge)[1]["removed"] == ["server hung"]
        eventually(lambda: servers_of(edge) == 2)
        edit(edge, toy("good") + bad)
        assert reload(edge)[0] == 0
        edit(edge, toy("good") + toy("hung"))  # mended, while the start before still hangs
        assert reload(edge)[0] == 0
        eventually(lambda: states(edge) == {"good": "ready", "hung": "ready"})
        eventually(lambda: servers_of(edge) == 2)
        assert hung.still_hangs()


def test_it_holds_up_no_stop(hung: Hung, service: Mapping[str, Any]) -> None:
    with running(toy("good") + server("hung", hung.program), **service) as edge:
        assert states(edge)["hung"] == "starting"
        left = descendants(edge.pid)
        assert edge.stop() == 0
        assert [each for each in left if each.is_alive] == []
        assert hung.still_hangs()
