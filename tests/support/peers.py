"""Where the real clients and servers are that `python3 build test` installed, and what to skip without them.

`requires("node", "git")` is a mark for tests; `missing(...)` gives the reason as text, for a `pytestmark` or
a fixture. Names: mcp1, mcp2 (the official Python SDK 1.x and 2.x), servers (mcp-server-time and -git), node
(the npm SDK and server-everything), contextforge (the gateway), git, groff, ip (iproute2), promtool (and prometheus
itself), chromium, pyz, systemd-bookworm and systemd-trixie (root file systems), linux.uml (User-Mode Linux), mkfs.ext4
(e2fsprogs); for the benchmark mcp-proxy and node-bench.
"""

import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"
PYZ = ROOT / "dist" / "mcp-edge.pyz"


def python_of(peer: str) -> Path:
    """The interpreter of a Python peer's environment; its commands are beside it."""
    return PEERS / peer / "bin" / "python"


def command_of(peer: str, command: str) -> Path:
    """A command that a Python peer's environment has, such as `mcp-server-time` of `servers`."""
    return python_of(peer).with_name(command)


def node_package(name: str, peer: str = "node") -> Path:
    """The folder of an installed npm package, such as `@modelcontextprotocol/server-everything`."""
    return PEERS / peer / "node_modules" / name


def node() -> Path:
    """The Node.js of this machine."""
    found = shutil.which("node")
    assert found is not None, "ask requires('node') first"
    return Path(found)


def missing(*names: str) -> str | None:
    """None if all of these are there, else why one is not."""
    for name in names:
        if not _is_there(name):
            return _reasons().get(name) or f"{name} is not there; `python3 build test` prepares it"
    return None


def requires(*names: str) -> pytest.MarkDecorator:
    """Skips a test, with the reason, if one of these is not there."""
    reason = missing(*names)
    return pytest.mark.skipif(reason is not None, reason=reason or "")


def _is_there(name: str) -> bool:
    if name == "promtool":
        return shutil.which("promtool") is not None and shutil.which("prometheus") is not None
    if name in ("git", "ip", "groff", "chromium", "linux.uml", "mkfs.ext4"):
        return shutil.which(name) is not None
    if name == "pyz":
        return PYZ.exists()
    if name.startswith("systemd-"):
        return (PEERS / f"{name}.made-from").exists()
    if name.startswith("node"):
        # The stamp is written last: without it the installation was broken off.
        return shutil.which("node") is not None and (PEERS / name / "installed-from").exists()
    return (PEERS / name / "made-from.json").exists() and python_of(name).exists()


def _reasons() -> dict[str, str | None]:
    try:
        facts = json.loads((PEERS / "found.json").read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
