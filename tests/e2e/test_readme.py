"""Every command in the README is run here as it stands there, in a copy of the tree and a network of its own.

The commands use the default ports. So that they are free, and nobody else's, the shell runs in a network namespace
where this machine allows one.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.peers import PYZ, ROOT, requires

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    re.sub(r"\s+#.*", "", line)
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.replace("\\\n", "").splitlines()
]
IN_OWN_NETWORK = [
    "unshare",
    "--net",
    "--map-root-user",
    "sh",
    "-ec",
    'ip link set lo up; exec sh -ec "$1"',
    "sh",
]


def has_networks() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*IN_OWN_NETWORK, "true"], capture_output=True, check=False).returncode == 0


def in_shell(folder: Path, script: str, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a script in a network of its own; every process of it is gone afterwards."""
    process = subprocess.Popen(
        [*IN_OWN_NETWORK, script],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "MCP_EDGE_CONFIG": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"took too long:\n{output}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, output)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A copy of what a user has, with the archive that was built already."""
    folder = tmp_path / "tree"
    skipped = shutil.ignore_patterns(".git", ".venv", ".peers", "tests", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=skipped)
    yield folder
    shutil.rmtree(folder)


def started(command: str, ready: str, log: str = "run.log") -> str:
    """Shell text that starts `command` beside what follows, and waits for a line of its output."""
    return f"""
{command} > {log} 2>&1 &
pid=$!
pids="${{pids:-}} $pid"
trap 'kill $pids; wait $pids || true' EXIT
n=0
until grep -q '{ready}' {log}; do
    n=$((n+1)); kill -0 $pid && [ $n -lt 600 ] || {{ cat {log}; exit 1; }}; sleep 0.1
done
"""


def test_the_readme_has_no_other_commands_than_these() -> None:
    starts = [" ".join(command.split(" -")[0].split()[:3]) for command in COMMANDS]
    assert starts == [
        "python3 build run",
        "curl",
        "curl",
        "dist/mcp-edge.pyz init",
        "dist/mcp-edge.pyz validate",
        "dist/mcp-edge.pyz doctor",
        "dist/mcp-edge.pyz run",
        "dist/mcp-edge.pyz health",
        "dist/mcp-edge.pyz reload",
        "python3 build deb",
        "openssl rand",
        "printf '[hub]\\nlisten =",
        "dist/mcp-edge.pyz run",
        "dist/mcp-edge.pyz connect",
        "curl",
        "python3 build test",
        "python3 build bench",
        "python3 build pictures",
    ]


def test_git_ignores_the_files_that_the_commands_write_into_a_clone() -> None:
    written = {name for command in COMMANDS for name in re.findall(r"(?:-o|>) (\S+)", command)}
    assert written == {"box.token", "config.toml", "hub.toml"}
    assert {f"/{name}" for name in written} <= set((ROOT / ".gitignore").read_text().splitlines())


@requires("pyz")
@pytest.mark.skipif(not has_networks(), reason="network namespaces cannot be made here (unshare --net)")
def test_the_first_minute_goes_as_the_readme_says(tree: Path) -> None:
    run, call, readyz = COMMANDS[:3]
    done = in_shell(tree, started(run.replace("python3", sys.executable), "is ready") + f"{call}\n{readyz}")
    assert done.returncode == 0, done.stdout
    assert '"structuredContent"' in done.stdout
    assert "ready\n[+] listener:admin ready" in done.stdout
    shown = (tree / "run.log").read_text()
    assert "http://127.0.0.1:8766/mcp" in shown
    assert '"mcpServers"' in shown


@requires("pyz")
@pytest.mark.skipif(not has_networks(), reason="network namespaces cannot be made here (unshare --net)")
def test_own_servers_go_as_the_readme_says(tree: Path) -> None:
    init, validate, doctor, run, health, reload = COMMANDS[3:9]
    assert PYZ.exists()
    done = in_shell(tree, f"{init}\n{validate}\n{doctor}\n{started(run, 'is ready')}{health}\n{reload}")
    assert done.returncode == 0, done.stdout
    assert "0 problems" in done.stdout
    assert "config.toml: nothing has changed" in done.stdout
    assert re.search(r"^OK - \S+: 1 of 1 servers ready$", done.stdout, re.MULTILINE)


@requires("pyz")
@pytest.mark.skipif(not has_networks(), reason="network namespaces cannot be made here (unshare --net)")
def test_the_package_is_built_as_the_readme_says(tree: Path) -> None:
    done = in_shell(tree, COMMANDS[9].replace("python3", sys.executable))
    assert done.returncode == 0, done.stdout
    assert [path.name[:9] for path in (tree / "dist").glob("*_all.deb")] == ["mcp-edge_"]
    assert "_all.deb" in (tree / "dist" / "SHA256SUMS").read_text()


@requires("pyz")
@pytest.mark.skipif(not has_networks(), reason="network namespaces cannot be made here (unshare --net)")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the token")
def test_a_box_is_called_from_elsewhere_as_the_readme_says(tree: Path) -> None:
    token, config, hub, connect, call = COMMANDS[10:15]
    edge = started(connect, "box at http://127.0.0.1:8443: ready", "edge.log")
    done = in_shell(tree, f"{token}\n{config}\n{started(hub, 'is ready')}{edge}{call}")
    assert done.returncode == 0, done.stdout + (tree / "run.log").read_text()
    assert '"structuredContent"' in done.stdout


def test_ci_runs_the_readmes_test_command_and_nothing_cleverer() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    test = COMMANDS[15]
    assert test in script
    assert f"exec {test}" == script.strip().splitlines()[-1]


def test_every_path_that_the_readme_names_is_there() -> None:
    for path in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / path).exists(), path
