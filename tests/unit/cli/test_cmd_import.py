"""`mcp-edge import`: files in, a config and notes out, and the exit codes."""

import io
import json
import stat
import sys
from pathlib import Path

import pytest

from edge.cli.main import main

GIT = '"git": {"command": "uvx", "args": ["mcp-server-git"], "env": {"GIT_TOKEN": "hunter2"}}'
FOREIGN = f'{{"mcpServers": {{{GIT}}}, "x": 1}}'


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "mcp.json"
    path.write_text(FOREIGN)
    return path


def test_the_config_is_printed_and_the_notes_are_beside_it(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(foreign)]) == 0
    shown = capsys.readouterr()
    assert '[servers.git]\ncommand = ["uvx", "mcp-server-git"]\n' in shown.out
    assert shown.err.splitlines() == [
        f"to do: {foreign}:1: mcpServers.git.env.GIT_TOKEN: set the environment variable GIT_TOKEN to the value of"
        " GIT_TOKEN in its env",
        f"lost: {foreign}:1: x: is left out: it is not about servers",
        "secrets stay out of it: mcp-edge takes them from its environment (GIT_TOKEN)",
        "imported from a client's mcpServers: 1 server; 1 to do, 0 changed, 1 lost",
    ]


def test_what_is_written_is_for_its_owner_only_and_is_good(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.toml"
    assert main(["import", str(foreign), "-o", str(out)]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert capsys.readouterr().out == ""
    assert main(["validate", "-c", str(out)]) == 78
    assert "environment variable GIT_TOKEN is not set" in capsys.readouterr().out
    monkeypatch.setenv("GIT_TOKEN", "x")
    assert main(["validate", "-c", str(out)]) == 0


def test_a_file_that_is_there_is_replaced_only_by_force(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.toml"
    out.write_text("mine")
    out.chmod(0o644)
    assert main(["import", str(foreign), "-o", str(out)]) == 64
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["import", str(foreign), "-o", str(out), "--force"]) == 0
    assert "[servers.git]" in out.read_text()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_is_said(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(foreign), "-o", str(foreign / "below" / "c.toml")]) == 69
    assert "cannot write" in capsys.readouterr().err


def test_stdin_is_read_for_a_hyphen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + FOREIGN.encode())))
    assert main(["import", "-"]) == 0
    assert "stdin:1: x: is left out: it is not about servers" in capsys.readouterr().err


def test_everything_is_in_the_json(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(foreign), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["format"], told["problems"]) == (True, "mcp-servers", [])
    assert "[servers.git]" in told["config"]
    assert told["variables"] == {"GIT_TOKEN": "the value of GIT_TOKEN in its env"}
    assert [note["kind"] for note in told["notes"]] == ["to do", "lost"]


def test_a_bad_file_is_78_with_every_problem_also_as_json(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign.write_text('{"mcpServers": {\n"a": {},\n"b": 3}}')
    assert main(["import", str(foreign)]) == 78
    assert capsys.readouterr().err.splitlines() == [
        f"{foreign}:2: mcpServers.a: needs command (a server to start) or url (a server to call)",
        f"{foreign}:3: mcpServers.b: must be a table, not an integer",
    ]
    assert main(["import", str(foreign), "--json"]) == 78
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], len(told["problems"])) == (False, 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff", "is not UTF-8 text"), (b" " * 2_000_000, "is larger than 1048576 bytes")],
)
def test_a_file_that_is_no_text_of_bounded_size_is_said(
    content: bytes, said: str, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign.write_bytes(content)
    assert main(["import", str(foreign)]) == 78
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "/nowhere/mcp.json"]) == 78
    assert capsys.readouterr().err == "/nowhere/mcp.json: cannot be read: No such file or directory\n"
    assert main(["import", "a\0b"]) == 78


def test_an_unknown_format_is_wrong_usage(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(foreign), "--format", "ini"]) == 64
    assert "invalid choice: 'ini'" in capsys.readouterr().err
