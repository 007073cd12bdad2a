"""The real clients, servers and gateways that tests and the benchmark talk to.

Each has an environment of its own, since they need different versions of the same libraries. What is
missing, and why, goes into `.peers/found.json`, from which `tests/support/peers.py` makes the reasons of
skipped tests.
"""

import json
import shutil
from collections.abc import Sequence

import environments
import machine
import roots
from places import PEER_LOCKS, PEERS
from say import Stop, line, progress, run_quietly

FOUND = PEERS / "found.json"
NODE_PEERS = ("node", "node-bench")
COMMANDS = {
    "git": "git",
    "ip": "iproute2",
    "groff": "groff-base",
    "promtool": "prometheus",
    "chromium": "chromium",
    "linux.uml": "user-mode-linux",
    "mkfs.ext4": "e2fsprogs",
}  # and the Debian packages that have them
FOR_TESTS = (
    "git", "ip", "groff", "promtool", "chromium", "mcp1", "mcp2", "servers", "node", "contextforge", *roots.SUITES,
    "linux.uml", "mkfs.ext4",
)  # fmt: skip
FOR_BENCH = ("mcp-proxy", "node-bench")


def prepare(names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Installs these peers. Gives what the machine lacks, and what should have worked but did not."""
    lacks: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            if name in COMMANDS:
                reason = machine.missing_command(name, COMMANDS[name])
            elif name in NODE_PEERS:
                reason = machine.missing_node()
                if reason is None:
                    install_node(name)
            elif name in roots.SUITES:
                reason = roots.prepare(name)
            else:
                environments.from_lock(PEERS / name, PEER_LOCKS / f"{name}.txt")
                reason = None
        except Stop as exc:
            line(f"{name}: {exc}")
            failed[name] = f"{name} could not be installed, see the output of the build"
        else:
            if reason is not None:
                line(reason)
                lacks[name] = reason
    remember(names, lacks | failed)
    return lacks, failed


def install_node(name: str) -> None:
    """`npm ci` in a folder outside of the sources."""
    folder, source = PEERS / name, PEER_LOCKS / name
    files = [source / "package.json", source / "package-lock.json"]
    stamp, wanted = folder / "installed-from", environments.digest(*files)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Stop("npm is missing")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)
    with progress(f"installing the npm packages of {source.relative_to(PEER_LOCKS.parent.parent)}"):
        run_quietly(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder
        )
    stamp.write_text(wanted)


def remember(names: Sequence[str], missing: dict[str, str]) -> None:
    try:
        facts = json.loads(FOUND.read_text())
    except (OSError, ValueError):
        facts = {}
    facts.update({name: missing.get(name) for name in names})
    FOUND.parent.mkdir(exist_ok=True)
    FOUND.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
