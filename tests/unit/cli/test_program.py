"""What starts this program again."""

import sys
import zipfile
from pathlib import Path

import pytest

import edge
from edge.cli.program import own_command, typed_name


def test_the_archive_is_started_as_an_archive_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "mcp-edge.pyz", "w") as archive:
        archive.writestr("__main__.py", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mcp-edge.pyz"])
    assert own_command() == (sys.executable, "-I", "-S", str(tmp_path / "mcp-edge.pyz"))


def test_the_installed_package_is_started_as_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "mcp-edge"
    script.write_text("#!/usr/bin/python3")
    monkeypatch.chdir(tmp_path)
    for argv0 in (str(script), "nowhere"):
        monkeypatch.setattr(sys, "argv", [argv0])
        assert own_command() == (sys.executable, "-P", "-m", "edge")


def test_a_checkout_finds_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(edge.__file__).parents[1])
    monkeypatch.setattr(sys, "argv", ["edge/__main__.py"])
    assert own_command() == (sys.executable, "-m", "edge")


def test_what_to_type_is_what_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b.pyz").touch(mode=0o755)
    (tmp_path / "plain.pyz").touch(mode=0o644)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/no/such")
    for argv0, typed in (
        ("mcp-edge", "mcp-edge"),
        ("", "mcp-edge"),
        ("./a b.pyz", "'./a b.pyz'"),
        ("a b.pyz", "python3 -I -S 'a b.pyz'"),
        ("./plain.pyz", "python3 -I -S ./plain.pyz"),
        ("/x/edge/__main__.py", "python3 -m edge"),
    ):
        monkeypatch.setattr(sys, "argv", [argv0])
        assert typed_name() == typed
    (tmp_path / "mcp-edge").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "mcp-edge")])
    assert typed_name() == "mcp-edge"
