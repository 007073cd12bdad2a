"""`python3 build test ARGS` prepares what those tests need, and everything if that cannot be told."""

import re
import subprocess
import sys
from pathlib import Path

import peers
import pytest
import selection

from tests.support.peers import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("tests/unit/net", "tests/e2e", "tests/systemd", "tests/bench", "build"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tests/e2e/test_run.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    "args",
    [
        ["tests/unit"],
        ["tests/unit/net/"],
        ["-x", "tests/unit"],
        ["-xvs", "--lf", "--tb=short", "tests/unit"],
        ["tests/unit", "-k", "build"],  # which is a folder, too
        ["-k", "tests and not bench", "tests/unit"],
    ],
)
def test_unit_tests_alone_need_no_peers(args: list[str], root: Path) -> None:
    assert selection.peers_for(args, root) == ()


@pytest.mark.parametrize(
    "path", ["tests/e2e", "tests/e2e/test_run.py", "tests/e2e/test_run.py::test_it[a/b]"]
)
def test_end_to_end_tests_need_peers_and_no_root_file_systems(path: str, root: Path) -> None:
    found = selection.peers_for([path], root)
    assert {"mcp1", "mcp2", "node", "servers", "contextforge"} <= set(found)
    assert not any(name.startswith("systemd-") for name in found)


def test_folders_add_up(root: Path) -> None:
    assert selection.peers_for(["tests/systemd", "tests/unit"], root) == selection.IN_MACHINES
    assert selection.peers_for(["tests/unit", "tests/e2e", "tests/systemd"], root) == peers.FOR_TESTS


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["-x"],
        ["-k", "journal"],
        ["tests"],
        ["."],
        ["tests/unit", "tests/bench"],
        ["tests/unit/test_no_such.py"],
        ["--ignore", "tests/unit"],
        ["--rootdir", "tests/unit", "-x"],
    ],
)
def test_everything_is_prepared_when_in_doubt(args: list[str], root: Path) -> None:
    assert selection.peers_for(args, root) == peers.FOR_TESTS


@pytest.mark.parametrize("folder", selection.NEEDS)
def test_what_the_marks_of_a_folder_ask_for_is_what_it_needs(folder: str) -> None:
    sources = [path.read_text() for path in (ROOT / "tests" / folder).rglob("*.py")]
    asked = {
        name
        for source in sources
        for words in re.findall(r"(?:requires|missing)\(([^)]*)\)", source)
        for name in re.findall(r'"([\w.-]+)"', words)
    }
    assert sources
    assert asked & set(peers.FOR_TESTS) <= set(selection.NEEDS[folder])


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["tests/unit", "--help"]])
def test_help_comes_before_anything_is_made(args: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "build"
    copy.mkdir()
    for path in (ROOT / "build").glob("*.py"):
        (copy / path.name).write_bytes(path.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-S", copy, "test", *args], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python3 build test [ARGUMENTS]\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build"]
