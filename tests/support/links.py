"""A hub and edges, each the built .pyz, joined over loopback with TLS: what end-to-end tests of links stand on.

    with site() as place, place.hub() as hub, place.edge("plant-7", hub) as edge:
        client = Client(hub, hub.endpoint)

Every edge has a token of its own in a file; `place.rotate` makes another one.
"""

import hashlib
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trustme

from tests.support.appliance import Appliance, running, toml_list
from tests.support.faulty_neighbour import TOY
from tests.support.peers import command_of
from tests.support.processes import eventually

DIALECTS = ("contextforge", "mcp-reverse", "long-poll")
PATHS = {"contextforge": "", "mcp-reverse": "/mcp-reverse", "long-poll": ""}
JSON_LOG = '[log]\nformat = "json"\n'
OPERATOR = "the-operator-of-the-tests"


def toy_server(name: str = "toy", *switches: str) -> str:
    """The table of a toy server (toy_server.py)."""
    return f"[servers.{name}]\ncommand = {toml_list([sys.executable, '-I', '-S', TOY, *switches])}\n"


def time_server(name: str = "time") -> str:
    """The table of `mcp-server-time` over stdio."""
    return f"[servers.{name}]\ncommand = {toml_list([command_of('servers', 'mcp-server-time')])}\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Site:
    """Certificates and tokens for one hub and its edges."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        issued = authority.issue_cert(
            "localhost", "127.0.0.1", "127.0.0.2", "127.0.0.3", "hub.test", "10.99.0.1"
        )
        self.cert, self.key = folder / "hub.pem", folder / "hub.key"
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self._tokens: dict[str, list[str]] = {}

    def token(self, edge: str) -> str:
        """The edge's present token."""
        return self.tokens(edge)[-1]

    def tokens(self, edge: str) -> list[str]:
        if edge not in self._tokens:
            self._tokens[edge] = []
            self.rotate(edge)
        return self._tokens[edge]

    def rotate(self, edge: str) -> str:
        """Another token in the edge's file; the hub's config has to learn it."""
        token = secrets.token_urlsafe(24)
        self._tokens.setdefault(edge, []).append(token)
        self.token_file(edge).write_text(token + "\n")
        self.token_file(edge).chmod(0o600)
        return token

    def token_file(self, edge: str) -> Path:
        return self.folder / f"{edge}.token"

    def hub_config(
        self,
        edges: Sequence[str],
        *,
        listen: str = "127.0.0.1:0",
        head: str = "",
        tokens: Mapping[str, Sequence[str]] | None = None,
        **settings: Any,
    ) -> str:
        """The hub's config; `settings` are TOML text for its [hub] table."""
        lines = [head, "[hub]", f'listen = "{listen}"']
        lines.append(f'tls = {{ cert = "{self.cert}", key = "{self.key}" }}')
        lines.append(f'operator_token_sha256 = "{sha256(OPERATOR)}"')
        lines += [f"{name} = {value}" for name, value in settings.items()]
        for edge in edges:
            known = (tokens or {}).get(edge) or self.tokens(edge)
            lines += [
                f"[hub.edges.{edge}]",
                f"token_sha256 = {toml_list([sha256(token) for token in known])}",
            ]
        return "\n".join(lines) + "\n"

    def uplink(
        self, edge: str, url: str, dialect: str = "contextforge", name: str = "hq", **settings: Any
    ) -> str:
        """An uplink's table; `settings` are TOML text."""
        settings = {"publish": '"all"', "reconnect": "{ first_s = 0.1, limit_s = 1 }", **settings}
        lines = [
            f"[uplinks.{name}]",
            f'dialect = "{dialect}"',
            f'url = "{url}{PATHS[dialect]}"',
            f'token_file = "{self.token_file(edge)}"',
            f'tls = {{ ca_file = "{self.ca}" }}',
            'proxy = "none"',
        ]
        return "\n".join([*lines, *(f"{key} = {value}" for key, value in settings.items())]) + "\n"

    @contextmanager
    def hub(self, *edges: str, log: str = JSON_LOG, **settings: Any) -> Iterator[Appliance]:
        with running(log + self.hub_config(edges or ("plant-7",), **settings)) as hub:
            yield hub

    @contextmanager
    def edge(
        self,
        name: str,
        hub: Appliance,
        dialect: str = "contextforge",
        *,
        servers: str = "",
        url: str = "",
        log: str = JSON_LOG,
        env: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Iterator[Appliance]:
        """An edge with one uplink `hq` to this hub; ready when its link is."""
        uplink = self.uplink(name, url or hub.hub, dialect, **settings)
        with running(f'name = "{name}"\n{log}{servers or toy_server()}{uplink}', env=env) as edge:
            until_linked(edge)
            yield edge


@contextmanager
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="mcp-edge-site-") as folder:
        yield Site(Path(folder))


def links(edge: Appliance) -> list[dict[str, Any]]:
    """What the edge's /health says of its links."""
    found: list[dict[str, Any]] = edge.health()["uplinks"]
    return found


def edges(hub: Appliance) -> dict[str, dict[str, Any]]:
    """What the hub's /health says of its edges, by name."""
    return {each["name"]: each for each in hub.health()["edges"]}


def until_linked(edge: Appliance, limit_s: float = 45) -> None:
    """All links of the edge are ready."""
    eventually(lambda: all(link["state"] == "ready" for link in links(edge)), edge.said, limit_s)


def until_edge(hub: Appliance, name: str, state: str = "ready", limit_s: float = 45) -> None:
    """The hub has this edge in this state."""
    eventually(
        lambda: edges(hub).get(name, {}).get("state") == state, lambda: f"{edges(hub)}\n{hub.said()}", limit_s
    )


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
