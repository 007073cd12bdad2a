"""The archive itself: the same bytes each time, at home everywhere, and `version` before any import."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import machine
import pytest

from tests.support.peers import PYZ, ROOT, requires

pytestmark = requires("pyz")
BARE = [sys.executable, "-I", "-S"]


def run(command: Sequence[str | Path], **where: object) -> subprocess.CompletedProcess[str]:
    options: dict[str, object] = {"capture_output": True, "text": True, "timeout": 60, **where}
    return subprocess.run([str(word) for word in command], **options)  # type: ignore[call-overload,no-any-return]  # options vary


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two more builds, in circumstances that differ in all that should not matter."""
    first, second = (tmp_path_factory.mktemp("build") / name for name in ("first.pyz", "second.pyz"))
    calm = os.environ | {"PYTHONHASHSEED": "1", "TZ": "UTC"}
    wild = os.environ | {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1"}
    python = getattr(sys, "_base_executable", sys.executable)
    for target, env, cwd, umask in ((first, calm, ROOT, 0o022), (second, wild, first.parent, 0o077)):
        done = run(
            [python, ROOT / "build", "pyz", "--out", target], env=env, cwd=cwd, umask=umask, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return first, second


def test_two_builds_give_the_same_bytes(rebuilt: tuple[Path, Path]) -> None:
    first, second = rebuilt
    assert first.read_bytes() == second.read_bytes()


def test_names_are_sorted_and_times_and_modes_are_fixed() -> None:
    entries = zipfile.ZipFile(PYZ).infolist()
    assert [each.filename for each in entries] == sorted(each.filename for each in entries)
    assert {(each.date_time, each.external_attr >> 16) for each in entries} == {
        ((1980, 1, 1, 0, 0, 0), 0o100644)
    }


def test_every_library_brings_its_metadata_and_its_licence() -> None:
    names = zipfile.ZipFile(PYZ).namelist()
    infos = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert any(info.startswith("trio-") for info in infos)
    for info in infos:
        mine = [name.removeprefix(f"{info}/") for name in names if name.startswith(f"{info}/")]
        assert "METADATA" in mine
        assert any("licen" in name.lower() for name in mine), info


def test_version_is_printed_before_anything_is_imported() -> None:
    nothing = run([*BARE, "-X", "importtime", "-c", "import runpy"])
    done = run([*BARE, "-X", "importtime", PYZ, "version"])
    assert done.returncode == 0
    assert done.stdout.startswith("mcp-edge ")
    more = imported(done.stderr) - imported(nothing.stderr)
    # What Python itself needs to look into a zip file.
    assert more <= {"zlib", "zipimport", "struct", "_struct", "time", "pkgutil", "weakref", "_weakrefset"}


def imported(importtime: str) -> set[str]:
    return {
        line.rpartition("|")[2].strip() for line in importtime.splitlines() if line.startswith("import time:")
    }


def test_version_says_the_same_as_the_program_itself() -> None:
    short = run([*BARE, PYZ, "version"])
    program = "import sys; sys.path.insert(0, sys.argv[1]); import edge.cli.main as it; it.main(['version'])"
    whole = run([*BARE, "-c", program, PYZ])
    assert (whole.returncode, whole.stdout.splitlines()[:1]) == (0, short.stdout.splitlines()[:1])


@pytest.mark.parametrize("python", machine.interpreters(), ids=lambda python: python.version)
def test_every_python_it_was_compiled_for_takes_its_own_tree(python: machine.Interpreter) -> None:
    done = run([python.path, "-I", "-S", "-v", PYZ, "help"])
    assert done.returncode == 0, done.stderr[-2000:]
    [line] = [line for line in done.stderr.splitlines() if line.startswith("import 'edge.cli.main' #")]
    assert f"{PYZ}/{python.tag}/" in line


def test_it_runs_from_any_folder_with_any_umask_on_a_read_only_place(tmp_path: Path) -> None:
    place = tmp_path / "read only"
    place.mkdir()
    copy = place / "mcp-edge.pyz"
    copy.write_bytes(PYZ.read_bytes())
    copy.chmod(0o555)
    place.chmod(0o555)
    try:
        for file, cwd in ((copy, Path("/")), (Path("mcp-edge.pyz"), place)):
            done = run([*BARE, file, "help"], cwd=cwd, umask=0o777, env={})
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout
        assert [path.name for path in place.iterdir()] == ["mcp-edge.pyz"]
    finally:
        place.chmod(0o755)


def test_it_can_be_started_by_its_name() -> None:
    assert PYZ.read_bytes().startswith(b"#!/usr/bin/python3 -IS\n")
    system = machine.ask(Path("/usr/bin/python3"))
    if system is None or int(system.version.split(".")[1]) < 11:
        pytest.skip("/usr/bin/python3 is not Python 3.11 or newer")
    done = run([PYZ, "version"], cwd="/", env={})
    assert (done.returncode, done.stderr) == (0, "")


def test_a_python_with_another_magic_number_takes_the_sources(tmp_path: Path) -> None:
    content = {}
    with zipfile.ZipFile(PYZ) as archive:
        for name in archive.namelist():
            content[name] = archive.read(name)
    magic = next(line for line in content["__main__.py"].splitlines() if line.startswith(b"MAGIC_NUMBERS"))
    content["__main__.py"] = content["__main__.py"].replace(magic, b"MAGIC_NUMBERS = {}")
    target = tmp_path / "foreign.pyz"
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in content.items():
            if not name.startswith("cpython-"):
                archive.writestr(name, data)
    done = run([*BARE, target, "help"])
    assert (done.returncode, done.stdout) == (0, run([*BARE, PYZ, "help"]).stdout)


def test_a_python_that_is_too_old_is_told_so_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "old.py"
    script.write_bytes(
        b"import sys\nsys.version_info = (3, 9, 2, 'final', 0)\nimport runpy\n"
        b"runpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    done = run([sys.executable, script, PYZ])
    assert done.returncode == 1
    assert done.stderr == f"mcp-edge needs Python 3.11 or newer; {sys.executable} is 3.9\n"


def test_the_library_for_yaml_is_in_the_archive_and_only_import_loads_it(tmp_path: Path) -> None:
    foreign = ROOT / "tests" / "golden" / "import" / "mcpstead.yaml"
    done = run([*BARE, "-W", "error", "-X", "importtime", PYZ, "import", foreign])
    assert done.returncode == 0, done.stderr
    assert done.stdout == foreign.with_name("mcpstead.yaml.toml").read_text()
    assert "ruamel.yaml" in imported(done.stderr)
    config = tmp_path / "config.toml"
    config.write_text('[servers.git]\ncommand = ["sh"]\n')
    others: list[list[str | Path]] = [
        ["validate", "-c", config],
        ["import", foreign.with_name("claude.json")],
    ]
    for words in others:
        other = run([*BARE, "-X", "importtime", PYZ, *words])
        assert other.returncode == 0, other.stderr
        assert not {name for name in imported(other.stderr) if name.startswith("ruamel")}
