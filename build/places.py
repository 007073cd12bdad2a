"""Where things are in the repository, for all build scripts."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
DIST = ROOT / "dist"
PYZ = DIST / "mcp-edge.pyz"
SBOM = DIST / "mcp-edge.cdx.json"
STAGE = DIST / ".stage"  # what the next build of the .pyz can use again
VENV = ROOT / ".venv"
PEERS = ROOT / ".peers"
RUNTIME_LOCK = BUILD / "lock" / "runtime.txt"
DEV_LOCK = BUILD / "lock" / "dev.txt"
UNITS = ROOT / "systemd"
PACKAGING = ROOT / "packaging"
PICTURES = PACKAGING / "pictures"
PEER_LOCKS = ROOT / "tests" / "peers"
