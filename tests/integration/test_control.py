"""The control socket and the command that talks to it: found or not, and what is said of each verdict."""

import argparse
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from edge.cli.cmd_reload import reload
from edge.cli.control_place import control_of, places_to_ask
from edge.config.diff import ControlSpec
from edge.errors import EdgeError, leaves
from edge.health import Health
from edge.metrics import Metrics
from edge.parts.control import Control
from edge.parts.reload_face import ControlFace, ReloadDesk

VERDICT: dict[str, Any] = {
    "result": "reloaded", "config": "c.toml", "added": ["server c"], "removed": [], "restarted": ["server b"],
    "updated": ["gateway"], "unchanged": ["server a"], "problems": [], "warnings": ["unwise"],
}  # fmt: skip
REFUSED = {
    **VERDICT,
    "result": "refused",
    "added": [],
    "restarted": [],
    "updated": [],
    "warnings": [],
    "problems": [{"place": "c.toml:3: servers.c.url", "text": "is \x1b[31m wrong"}],
}


class Answers:
    def __init__(self, status: int = 200, verdict: Mapping[str, Any] = VERDICT) -> None:
        self.status = status
        self.verdict = verdict
        self.asked: list[tuple[bool, float]] = []

    async def __call__(self, plan: bool, confirm_s: float) -> tuple[int, Mapping[str, Any]]:
        self.asked.append((plan, confirm_s))
        return self.status, self.verdict


def control(usual: str, answers: Answers, *, asked_for: str = "", health: Health | None = None) -> Control:
    return Control(
        ControlSpec(asked_for=asked_for, usual=usual),
        ControlFace(ReloadDesk(answers, None)),
        status=(health or Health()).add("part:control"),
        metrics=Metrics(),
    )


def sockets_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.sock"))


@asynccontextmanager
async def running(part: Control) -> AsyncIterator[None]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(part.run)
            yield
            nursery.cancel_scope.cancel()


async def command(address: str | None = None, config: Path | None = None, **options: Any) -> int:
    usual = {"plan": False, "confirm_s": 0.0, "json": False, "timeout_s": 5.0}
    args = argparse.Namespace(config=config, control=address, **(usual | options))
    return await trio.to_thread.run_sync(reload, args, abandon_on_cancel=True)


# -- the socket


async def test_its_default_folder_is_made_for_nobody_else(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/mcp-edge/control.sock"
    async with running(control(address, Answers())):
        assert (tmp_path / "mcp-edge").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "mcp-edge/control.sock").stat().st_mode & 0o777 == 0o600
        assert await command(address) == 0
    assert not (tmp_path / "mcp-edge/control.sock").exists()


async def test_a_default_folder_that_others_can_write_to_is_not_used_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    health = Health()
    async with running(control(f"unix:{folder}/control.sock", Answers(), health=health)):
        assert list(folder.iterdir()) == []
        [line] = [line for line in health.lines() if "part:control" in line]
    said = [record for record in caplog.records if record.getMessage().startswith("no control socket")]
    assert len(said) == 1
    assert line.startswith("[-] part:control failed for 0 s: cannot listen on unix:")
    assert f"{folder} can be written to by others" in line


async def test_a_default_socket_that_another_process_has_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"unix:{tmp_path}/mcp-edge/control.sock"
    first, ours, others = Answers(), Health(), Health()
    for health in (ours, others):
        health.add("listener:gateway").ready()
    async with (
        running(control(address, first, health=ours)),
        running(control(address, Answers(), health=others)),
    ):
        assert await command(address) == 0
        assert (ours.is_ready(), ours.verdict()) == (True, "ok")
        assert (others.is_ready(), others.verdict()) == (True, "degraded")
    assert first.asked == [(False, 0.0)]
    assert "no control socket, so `mcp-edge reload` finds nobody" in caplog.messages


async def test_a_socket_that_was_asked_for_has_to_work(tmp_path: Path) -> None:
    place = f"unix:{tmp_path}/no/such/folder.sock"
    with pytest.raises(BaseExceptionGroup) as caught:
        async with running(control(f"unix:{tmp_path}/usual.sock", Answers(), asked_for=place)):
            pass
    [cause] = leaves(caught.value)
    assert isinstance(cause, EdgeError)
    assert "the directory of the Unix socket does not exist" in str(cause)
    assert not (tmp_path / "usual.sock").exists()


async def test_it_listens_where_it_was_asked_to_and_at_the_usual_place_too(tmp_path: Path) -> None:
    asked_for, usual = f"unix:{tmp_path}/asked.sock", f"unix:{tmp_path}/mcp-edge/usual.sock"
    answers = Answers()
    async with running(control(usual, answers, asked_for=asked_for)):
        assert [await command(asked_for), await command(usual)] == [0, 0]
    assert len(answers.asked) == 2
    assert await trio.to_thread.run_sync(sockets_in, tmp_path) == []


async def test_one_that_was_asked_for_does_without_a_usual_place_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked_for, health = f"unix:{tmp_path}/asked.sock", Health()
    health.add("listener:gateway").ready()
    (tmp_path / "file").touch()
    async with running(
        control(f"unix:{tmp_path}/file/usual.sock", Answers(), asked_for=asked_for, health=health)
    ):
        assert await command(asked_for) == 0
        assert health.verdict() == "ok"
    assert caplog.messages.count("the control socket is only where the config has it") == 1


# -- the command


async def test_a_verdict_for_people_names_what_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"unix:{tmp_path}/mcp-edge/c.sock"
    answers = Answers()
    async with running(control(address, answers)):
        assert await command(address, confirm_s=30.0) == 0
    assert answers.asked == [(False, 30.0)]
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "c.toml: reloaded", "  added      server c", "  restarted  server b", "  updated    gateway", "warning: unwise",
    ]  # fmt: skip
    assert said.err == ""


@pytest.mark.parametrize(
    ("status", "result", "code", "words"),
    [
        (400, "refused", 78, "refused: nothing has changed"),
        (409, "rolled back", 69, "taken back: the config before is in force"),
        (409, "not rolled back", 69, "in force, and not good: the config before cannot be put back"),
        (503, "refused", 69, "refused: nothing has changed"),
    ],
)
async def test_a_verdict_that_is_not_good_goes_to_stderr_with_its_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, result: str, code: int, words: str
) -> None:
    address = f"unix:{tmp_path}/mcp-edge/c.sock"
    async with running(control(address, Answers(status, {**REFUSED, "result": result}))):
        assert await command(address) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert "servers.c.url" in said.err
    assert "\x1b" not in said.err


async def test_json_is_the_whole_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"unix:{tmp_path}/mcp-edge/c.sock"
    answers = Answers(400, REFUSED)
    async with running(control(address, answers)):
        assert await command(address, json=True, plan=True) == 78
    assert json.loads(capsys.readouterr().out) == REFUSED
    assert answers.asked == [(True, 0.0)]


async def test_a_plan_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"unix:{tmp_path}/mcp-edge/c.sock"
    nothing = {**VERDICT, "result": "planned", "added": [], "restarted": [], "updated": [], "warnings": []}
    async with running(control(address, Answers(200, nothing))):
        assert await command(address, plan=True) == 0
    assert capsys.readouterr().out.splitlines() == ["c.toml: a reload would do this", "  nothing"]


# httpcore leaves the socket of a Unix address that nobody listens on to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_nobody_there_is_said_with_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command(f"unix:{tmp_path}/none.sock") == 69
    assert f"unix:{tmp_path}/none.sock" in capsys.readouterr().err


async def test_an_address_that_is_no_socket_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert await command("127.0.0.1:9766") == 69
    assert "it is written unix:/path" in capsys.readouterr().err


async def test_no_verdict_in_time_says_that_the_log_will_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"unix:{tmp_path}/mcp-edge/c.sock"

    class Never(Answers):
        async def __call__(self, plan: bool, confirm_s: float) -> tuple[int, Mapping[str, Any]]:
            await trio.sleep_forever()
            raise AssertionError

    async with running(control(address, Never())):
        assert await command(address, timeout_s=0.2) == 69
    assert "no verdict yet" in capsys.readouterr().err


# -- where it is


def test_the_socket_is_where_the_config_or_the_environment_says(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    assert control_of("unix:/x.sock", path, {"RUNTIME_DIRECTORY": "/run/mcp-edge"}) == ControlSpec(
        asked_for="unix:/x.sock", usual="unix:/run/mcp-edge/control.sock"
    )
    assert control_of("off", path, {"XDG_RUNTIME_DIR": "/run/user/1"}) is None
    unit = control_of("", path, {"RUNTIME_DIRECTORY": "/run/mcp-edge:/run/other", "XDG_RUNTIME_DIR": "/x"})
    assert unit == ControlSpec(usual="unix:/run/mcp-edge/control.sock")
    user = control_of("", path, {"XDG_RUNTIME_DIR": "/run/user/1"})
    assert user is not None
    assert user.usual.startswith("unix:/run/user/1/mcp-edge/")


def test_a_config_that_names_the_usual_place_however_it_is_written_asks_for_that_one(tmp_path: Path) -> None:
    real, link = tmp_path / "run", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    for folder in (real, link):
        place = f"unix:{folder}/control.sock"
        assert control_of(place, None, {"RUNTIME_DIRECTORY": str(real)}) == ControlSpec(asked_for=place)


def test_the_same_file_has_the_same_socket_whatever_it_is_called(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": "/run/user/1"}
    path = tmp_path / "c.toml"
    path.write_text("")
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    crooked = Path(os.path.relpath(tmp_path)) / ".." / tmp_path.name / "c.toml"
    assert control_of("", path, env) == control_of("", link, env) == control_of("", crooked, env)
    assert control_of("", path, env) != control_of("", tmp_path / "d.toml", env)


@pytest.mark.parametrize(
    "text",
    ['[admin]\ncontrol = "off"\n[servers', "[admin\ncontrol = ", "admin = 3", "[admin]\ncontrol = 5", ""],
)
def test_a_file_that_is_broken_does_not_keep_us_from_asking(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    places = places_to_ask(path, {"XDG_RUNTIME_DIR": "/run/user/1"})
    assert places[0].startswith("unix:/run/user/1/mcp-edge/")
    assert "unix:/run/mcp-edge/control.sock" not in places, (
        "another file's process must not be asked by mistake"
    )


def test_the_place_in_the_file_is_asked_first(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[admin]\ncontrol = "unix:/x.sock"\n')
    assert places_to_ask(path, {"XDG_RUNTIME_DIR": "/run/user/1"})[0] == "unix:/x.sock"


@pytest.mark.parametrize(
    "text", ['[admin]\ncontrol = "unix:/x.sock"\n[servers', "admin.control='unix:/x.sock' # ours\nx = [1,\n"]
)
def test_the_place_in_the_file_is_asked_even_if_the_file_is_broken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    assert places_to_ask(path, {"XDG_RUNTIME_DIR": "/run/user/1"})[0] == "unix:/x.sock"


def test_a_service_whose_config_is_a_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link = tmp_path / "real.toml", tmp_path / "config.toml"
    path.write_text("")
    link.symlink_to(path)
    monkeypatch.setattr("edge.cli.control_place.SYSTEM_CONFIG", link)
    for asked in (link, path):
        assert "unix:/run/mcp-edge/control.sock" in places_to_ask(asked, {})


@pytest.mark.parametrize(
    ("config", "others", "way"),
    [
        (None, ["other"], "this one could be asked: --control {other}\n"),
        ("gone.toml", ["other"], "this one could be asked: --control {other}\n"),
        (None, ["other", "third"], "{other}, {third}: say which by -c FILE or --control ADDRESS\n"),
        ("gone.toml", ["other", "third"], "{other}, {third}: say which by --control ADDRESS\n"),
    ],
)
async def test_who_asks_the_wrong_one_is_told_whom_to_ask(
    config: str | None,
    others: list[str],
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MCP_EDGE_CONFIG", str(tmp_path / "nothing.toml"))
    monkeypatch.setattr("edge.cli.control_place.SYSTEM_RUNTIME", str(tmp_path / "system"))
    (tmp_path / "mcp-edge").mkdir()
    (tmp_path / "mcp-edge" / "left-behind.sock").touch()
    answers = Answers()
    args = argparse.Namespace(config=config, control=None, plan=False, confirm_s=0, timeout_s=5.0, json=False)
    at = {name: f"unix:{tmp_path}/mcp-edge/{name}.sock" for name in others}
    async with trio.open_nursery() as nursery:
        for address in at.values():
            await nursery.start(control("", answers, asked_for=address).run)
        assert await trio.to_thread.run_sync(reload, args) == 69
        nursery.cancel_scope.cancel()
    said = capsys.readouterr().err
    assert said.endswith(
        way.format(**{name: f"{place} (process {os.getpid()})" for name, place in at.items()})
    )
    assert "left-behind" not in said
    assert answers.asked == []
