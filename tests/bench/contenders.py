"""What is compared: the server alone, mcp-edge from its file, and gateways from the package indexes.

pip mcp-proxy and npm supergateway cannot put one HTTP endpoint in front of another: each turns stdio into HTTP
or HTTP into stdio. In front of an HTTP server two of a kind are therefore chained, and both count. One half of
the chain of pip mcp-proxy, HTTP to stdio, is measured as well, with its calls made over its pipes: less work
than ours, so beating it says more. npm mcp-proxy knows no HTTP servers.
"""

import json
import re
import shlex
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYZ = ROOT / "dist" / "mcp-edge.pyz"
PEERS = ROOT / ".peers"
ECHO = Path(__file__).with_name("echo.py")
KINDS = ("stdio", "http")

DIRECT = "direct"
EDGE = "mcp-edge"
PIP_PROXY = "pip-mcp-proxy"
PIP_PROXY_HALF = "pip-mcp-proxy-half"
NPM_PROXY = "npm-mcp-proxy"
SUPERGATEWAY = "supergateway"

MCP_PROXY = PEERS / "mcp-proxy" / "bin" / "mcp-proxy"
NODE_PACKAGES = PEERS / "node-bench" / "node_modules"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one contender is run: ports to listen on, the HTTP echo server, an empty folder."""

    port: int
    admin_port: int
    server_port: int
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to the echo server. Without a `command` nothing is started: the server itself is asked."""

    key: str
    kind: str
    label: str
    command: Callable[[Place], list[str | Path]] | None
    needs: Path
    tool: str = "echo"
    is_asked_over_pipes: bool = False
    counts_children: bool = False  # they are gateways too, and not the server


def bare_python() -> Path:
    """The interpreter below any virtual environment."""
    bare = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return bare if bare.exists() else Path(sys.executable)


def node() -> Path:
    return Path(shutil.which("node") or "node")


def echo_over_stdio() -> list[str | Path]:
    return [bare_python(), "-I", "-S", ECHO, "stdio"]


def echo_over_http(port: int) -> list[str | Path]:
    return [bare_python(), "-I", "-S", ECHO, "http", str(port)]


def server_url(place: Place) -> str:
    return f"http://127.0.0.1:{place.server_port}/mcp"


def edge(place: Place, server: str) -> list[str | Path]:
    config = place.folder / "mcp-edge.toml"
    listen = (
        f'[gateway]\nlisten = "127.0.0.1:{place.port}"\n[admin]\nlisten = "127.0.0.1:{place.admin_port}"\n'
    )
    config.write_text(f"{listen}[servers.bench]\n{server}\n")
    return [bare_python(), "-I", "-S", PYZ, "run", "--config", config]


def edge_stdio(place: Place) -> list[str | Path]:
    return edge(place, f"command = {json.dumps([str(word) for word in echo_over_stdio()])}")


def edge_http(place: Place) -> list[str | Path]:
    return edge(place, f'url = "{server_url(place)}"\ntransport = "streamable"')


def pip_proxy(place: Place, server: list[str | Path]) -> list[str | Path]:
    return [MCP_PROXY, "--log-level", "WARNING", "--port", str(place.port), "--", *server]


def pip_proxy_half(place: Place) -> list[str | Path]:
    return [MCP_PROXY, "--log-level", "WARNING", "--transport", "streamablehttp", server_url(place)]


def npm_proxy(place: Place) -> list[str | Path]:
    program = NODE_PACKAGES / "mcp-proxy" / "dist" / "bin" / "mcp-proxy.mjs"
    options = ["--host", "127.0.0.1", "--port", str(place.port), "--server", "stream"]
    return [node(), program, *options, "--", *echo_over_stdio()]


def supergateway(place: Place, server: list[str | Path]) -> list[str | Path]:
    command = shlex.join(map(str, server))
    options = ["--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none"]
    return [*supergateway_program(), "--stdio", command, *options, "--port", str(place.port)]


def supergateway_half(place: Place) -> list[str | Path]:
    return [*supergateway_program(), "--streamableHttp", server_url(place), "--logLevel", "none"]


def supergateway_program() -> list[str | Path]:
    return [node(), NODE_PACKAGES / "supergateway" / "dist" / "index.js"]


def all_contenders() -> list[Contender]:
    """In the order of the tables. `needs` tells what has to be there; see `missing`."""
    edge_name = f"mcp-edge {edge_version()}"
    pip_name = f"pip mcp-proxy {pip_version('mcp_proxy')}"
    npm_name = f"npm mcp-proxy {npm_version('mcp-proxy')}"
    super_name = f"npm supergateway {npm_version('supergateway')}"
    return [
        Contender(key=DIRECT, kind="stdio", label="no gateway: over the pipes", command=None, needs=ECHO),
        Contender(key=EDGE, kind="stdio", label=edge_name, command=edge_stdio, needs=PYZ, tool="bench__echo"),
        Contender(
            key=PIP_PROXY,
            kind="stdio",
            label=pip_name,
            command=lambda place: pip_proxy(place, echo_over_stdio()),
            needs=MCP_PROXY,
        ),
        Contender(key=NPM_PROXY, kind="stdio", label=npm_name, command=npm_proxy, needs=NODE_PACKAGES),
        Contender(
            key=SUPERGATEWAY,
            kind="stdio",
            label=super_name,
            command=lambda place: supergateway(place, echo_over_stdio()),
            needs=NODE_PACKAGES,
        ),
        Contender(key=DIRECT, kind="http", label="no gateway: over HTTP", command=None, needs=ECHO),
        Contender(key=EDGE, kind="http", label=edge_name, command=edge_http, needs=PYZ, tool="bench__echo"),
        Contender(
            key=PIP_PROXY,
            kind="http",
            label=f"{pip_name}, two chained",
            command=lambda place: pip_proxy(place, pip_proxy_half(place)),
            needs=MCP_PROXY,
            counts_children=True,
        ),
        Contender(
            key=PIP_PROXY_HALF,
            kind="http",
            label=f"{pip_name}, one, asked over its pipes",
            command=pip_proxy_half,
            needs=MCP_PROXY,
            is_asked_over_pipes=True,
        ),
        Contender(
            key=SUPERGATEWAY,
            kind="http",
            label=f"{super_name}, two chained",
            command=lambda place: supergateway(place, supergateway_half(place)),
            needs=NODE_PACKAGES,
            counts_children=True,
        ),
    ]


def missing(contender: Contender) -> str | None:
    """Why it cannot be measured here, or None."""
    if contender.needs == NODE_PACKAGES and shutil.which("node") is None:
        return "Node.js is not installed"
    if not contender.needs.exists():
        return f"{contender.needs.relative_to(ROOT)} is not there; `python3 build bench` makes it"
    return None


def edge_version() -> str:
    found = re.search(r'^__version__ = "([^"]+)"$', (ROOT / "edge" / "__init__.py").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def trio_version() -> str:
    """Of the Trio inside of the .pyz."""
    if not PYZ.exists():
        return "unknown"
    with zipfile.ZipFile(PYZ) as archive:
        found = [re.match(r"trio-([0-9.]+)\.dist-info/", name) for name in archive.namelist()]
    return next((match[1] for match in found if match), "unknown")


def pip_version(package: str) -> str:
    found = next((PEERS / "mcp-proxy").glob(f"lib/python*/site-packages/{package}-*.dist-info"), None)
    return found.name.removesuffix(".dist-info").rpartition("-")[2] if found else "(not there)"


def npm_version(package: str) -> str:
    try:
        return str(json.loads((NODE_PACKAGES / package / "package.json").read_text())["version"])
    except OSError:
        return "(not there)"
