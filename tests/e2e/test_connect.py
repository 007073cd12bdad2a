"""`mcp-edge connect`: one server, one gateway, no file; what it says when it is ready, and when it is refused."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.appliance import Appliance
from tests.support.contextforge import contextforge
from tests.support.faulty_neighbour import TOY, Client
from tests.support.links import Site, site, until_edge
from tests.support.peers import PYZ, requires
from tests.support.processes import eventually

pytestmark = requires("pyz")

TOY_COMMAND = f"{sys.executable} -I -S {TOY}"


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site() as found:
        yield found


@pytest.fixture(scope="module")
def hub(place: Site) -> Iterator[Appliance]:
    with place.hub("laptop") as found:
        yield found


class Connect:
    """`mcp-edge connect` in the background; `said` is what it has printed so far."""

    def __init__(self, folder: str, words: tuple[str, ...], env: Mapping[str, str]) -> None:
        self._output = Path(folder, "output")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", PYZ, "connect", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": folder, **env},
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def until(self, text: str) -> None:
        eventually(lambda: text in self.said or self.process.poll() is not None, lambda: self.said)
        assert text in self.said

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@contextlib.contextmanager
def connect(*words: str, env: Mapping[str, str] | None = None) -> Iterator[Connect]:
    with tempfile.TemporaryDirectory(prefix="mcp-edge-connect-") as folder:
        found = Connect(folder, words, env or {})
        try:
            yield found
        finally:
            if found.process.poll() is None:
                found.process.kill()
                found.process.wait()


def test_one_command_shares_a_server_through_a_hub(place: Site, hub: Appliance) -> None:
    token_file = str(place.token_file("laptop"))
    words = ("--stdio", TOY_COMMAND, "--to", hub.hub, "--name", "laptop", "--ca-file", str(place.ca))
    with connect(*words, "--token-file", token_file, "--proxy", "none") as shared:
        shared.until(f"link      laptop at {hub.hub}: ready")
        until_edge(hub, "laptop")
        client = Client(hub, hub.endpoint)
        assert client.text("laptop__echo", text="hello") == "hello"
        assert shared.end() == 0
        assert place.token("laptop") not in shared.said
    until_edge(hub, "laptop", "degraded")


def test_contextforges_own_names_do_as_well(place: Site, hub: Appliance) -> None:
    env = {
        "REVERSE_PROXY_TOKEN": place.token("laptop"),
        "REVERSE_PROXY_GATEWAY": hub.hub,
        "SSL_CERT_FILE": str(place.ca),
        "NO_PROXY": "*",
    }
    with connect("--local-stdio", TOY_COMMAND, "--name", "laptop-toy", "--keepalive", "5", env=env) as shared:
        shared.until("ready")
        until_edge(hub, "laptop-toy")
        assert Client(hub, hub.endpoint).text("laptop-toy__echo", text="x") == "x"
        assert shared.end() == 0
        assert place.token("laptop") not in shared.said


def test_a_refusal_says_what_to_look_at_and_the_end_comes_after_so_many_attempts(
    place: Site, hub: Appliance
) -> None:
    words = ("--stdio", TOY_COMMAND, "--to", hub.hub, "--ca-file", str(place.ca), "--proxy", "none")
    with connect(*words, "--max-retries", "1", env={"REVERSE_PROXY_TOKEN": "wrong"}) as shared:
        assert shared.process.wait(60) == 69
        assert "40" in shared.said
        assert "token" in shared.said
        assert "Traceback" not in shared.said


def test_wrong_options_are_told_by_name(place: Site) -> None:
    with connect("--stdio", "x", "--to", "ftp://gw") as shared:
        assert shared.process.wait(30) == 78
        assert "--to: must start with" in shared.said
    with connect("--to", "http://gw") as shared:
        assert shared.process.wait(30) == 64
        assert "--stdio COMMAND is missing" in shared.said


@requires("contextforge")
def test_the_real_gateway_and_a_wrong_token() -> None:
    with contextforge() as gateway:
        words = ("--stdio", TOY_COMMAND, "--to", gateway.url, "--proxy", "none")
        with connect(*words, env={"REVERSE_PROXY_TOKEN": "a.b.c"}) as shared:
            shared.until("403")
            assert all(word in shared.said for word in ("token", "switch", "path"))
        with connect(*words, "--name", "mine", env={"REVERSE_PROXY_TOKEN": gateway.token()}) as shared:
            shared.until(f"link      mine at {gateway.url}: ready")
            assert shared.end() == 0
