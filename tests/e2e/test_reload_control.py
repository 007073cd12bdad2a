"""The control socket moves by a reload that is asked for over it, though the file has only the new place by then."""

import os
from pathlib import Path

import pytest

from tests.support.appliance import Appliance, running
from tests.support.peers import requires
from tests.support.reloads import command, reload

pytestmark = requires("pyz")


def listen(edge: Appliance, control: str) -> None:
    """The config with another `control`; empty: without one."""
    before, _, _ = edge.config.read_text().partition("[admin]")
    line = f'control = "{control}"\n' if control else ""
    edge.config.write_text(f'{before}[admin]\nlisten = "127.0.0.1:0"\n{line}')


def asked_at(edge: Appliance, place: str) -> int:
    return command(edge, "reload", "--plan", "--control", place).returncode


def control_of(edge: Appliance) -> dict[str, object]:
    [record] = [record for record in edge.health()["parts"] if record["name"] == "control"]
    return {what: record[what] for what in ("state", "reason")}


def is_there(place: str) -> bool:
    return os.path.lexists(place.removeprefix("unix:"))


def test_the_command_moves_it_from_one_place_to_another_and_back_to_the_usual_one(tmp_path: Path) -> None:
    first, second = f"unix:{tmp_path}/first.sock", f"unix:{tmp_path}/second.sock"
    with running(f'[admin]\nlisten = "127.0.0.1:0"\ncontrol = "{first}"\n') as edge:
        assert asked_at(edge, first) == 0
        listen(edge, second)
        code, verdict = reload(edge)
        assert (code, verdict["result"]) == (0, "reloaded")
        assert "control" in verdict["restarted"]
        assert asked_at(edge, second) == 0
        assert not is_there(first)
        assert control_of(edge) == {"state": "ready", "reason": None}
        listen(edge, "")
        assert reload(edge)[0] == 0
        assert not is_there(second)
        assert reload(edge)[1]["result"] == "unchanged"
        listen(edge, first)
        assert reload(edge)[0] == 0
        assert asked_at(edge, first) == 0
        assert edge.stop() == 0
        assert not list(edge.folder.rglob("*.sock"))
        assert not is_there(first)


def test_a_place_that_cannot_be_used_is_refused_and_the_old_one_answers_on(tmp_path: Path) -> None:
    place = f"unix:{tmp_path}/good.sock"
    with running(f'[admin]\nlisten = "127.0.0.1:0"\ncontrol = "{place}"\n') as edge:
        listen(edge, f"unix:{tmp_path}/no/such/folder.sock")
        code, verdict = reload(edge)
        assert (code, verdict["result"]) == (78, "refused")
        assert "the directory of the Unix socket does not exist" in verdict["problems"][0]["text"]
        assert asked_at(edge, place) == 0


def test_a_service_is_found_in_its_runtime_directory_whatever_its_file_says_by_then(tmp_path: Path) -> None:
    """As `ExecReload=` asks: both have $RUNTIME_DIRECTORY."""
    first, second = f"unix:{tmp_path}/first.sock", f"unix:{tmp_path}/second.sock"
    runtime = tmp_path / "runtime"
    runtime.mkdir(0o755)
    text = f'[admin]\nlisten = "127.0.0.1:0"\ncontrol = "{first}"\n'
    with running(text, env={"RUNTIME_DIRECTORY": str(runtime)}) as edge:
        listen(edge, second)
        asked = ("reload", "-c", str(edge.config))
        assert command(edge, *asked, env={"RUNTIME_DIRECTORY": str(runtime)}).returncode == 0
        assert asked_at(edge, second) == 0
        assert not is_there(first)


@pytest.mark.parametrize("after", ["", "off"])
def test_one_that_is_switched_off_or_on_by_a_reload(tmp_path: Path, after: str) -> None:
    place = f"unix:{tmp_path}/place.sock"
    with running(f'[admin]\nlisten = "127.0.0.1:0"\ncontrol = "{place}"\n') as edge:
        listen(edge, after)
        assert reload(edge)[0] == 0
        assert not is_there(place)
        found = command(edge, "reload", "-c", str(edge.config))
        assert found.returncode == (69 if after == "off" else 0), found.stderr


def test_where_its_usual_place_cannot_be_used_health_says_so_and_is_ready(tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)  # others could put another socket there
    with running("", env={"RUNTIME_DIRECTORY": str(open_folder)}) as edge:
        assert edge.request("GET", f"{edge.admin}/readyz").status == 200
        health = edge.health()
        assert health["status"] == "degraded"
        found = control_of(edge)
        assert found["state"] == "failed"
        assert f"{open_folder} can be written to by others" in str(found["reason"])
