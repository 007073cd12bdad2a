"""Official SDK clients and real servers, through the built .pyz: everything a client may do, by every transport.

One gateway in front of `mcp-server-time` and `mcp-server-git` (stdio), `server-everything` three times (stdio,
Streamable HTTP, HTTP+SSE) and a toy server for what those cannot show (cancellation, list changes, 4 MB results).
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.appliance import Appliance, running, toml_list
from tests.support.peers import ROOT, command_of, node, node_package, python_of, requires

pytestmark = requires("pyz", "node", "servers", "git")

EVERYTHING = "@modelcontextprotocol/server-everything"
CLIENTS = Path(__file__).with_name("clients")
TOY = ROOT / "tests" / "support" / "toy_server.py"
LIMIT_S = 120


@contextmanager
def everything_over_http(transport: str, says: str) -> Iterator[int]:
    """server-everything listening on a free port of its own; it tells on stderr when it does."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [node(), node_package(EVERYTHING) / "dist" / "index.js", transport],
        env={"PATH": os.environ["PATH"], "PORT": str(port)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if re.search(says, line):
                break
        else:
            raise AssertionError(f"server-everything {transport} did not start")
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    subprocess.run(
        ["git", "-C", folder, *identity, "commit", "--quiet", "--allow-empty", "-m", "the first one"],
        check=True,
    )
    return folder


@pytest.fixture(scope="module")
def gateway(repository: Path) -> Iterator[Appliance]:
    everything: list[str | Path] = [node(), node_package(EVERYTHING) / "dist" / "index.js", "stdio"]
    with ExitStack() as stack:
        streamable = stack.enter_context(everything_over_http("streamableHttp", "listening on port"))
        sse = stack.enter_context(everything_over_http("sse", "running on port"))
        config = f"""
[gateway]
listen = "127.0.0.1:0"
[servers.time]
command = {toml_list([command_of("servers", "mcp-server-time")])}
[servers.git]
command = {toml_list([command_of("servers", "mcp-server-git"), "-r", repository])}
[servers.stdio]
command = {toml_list(everything)}
[servers.toy]
command = {toml_list([sys.executable, TOY])}
[servers.http]
url = "http://127.0.0.1:{streamable}/mcp"
[servers.sse]
url = "http://127.0.0.1:{sse}/sse"
"""
        yield stack.enter_context(running(config))


def drive(client: str, gateway: Appliance, server: str) -> dict[str, Any]:
    """What this client saw of that server, as its driver in `clients/` prints it."""
    command: list[str | Path]
    match client:
        case "python1":
            command = [python_of("mcp1"), CLIENTS / "python1.py"]
        case "python2":
            # Subscriptions and log levels are deprecated in the modern era; this is about the legacy one.
            command = [python_of("mcp2"), "-W", "ignore", CLIENTS / "python2.py"]
        case _:
            command = [node(), CLIENTS / "node1.mjs", node_package("@modelcontextprotocol/sdk")]
    done = subprocess.run(
        [*command, gateway.endpoint, server], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{gateway.said()}"
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


@pytest.mark.parametrize("server", ["stdio", "http", "sse"])
@pytest.mark.parametrize(
    "client",
    [
        pytest.param("python1", marks=requires("mcp1")),
        pytest.param("python2", marks=requires("mcp2")),
        "node1",
    ],
)
def test_sdk_client_gets_everything_a_server_has(client: str, server: str, gateway: Appliance) -> None:
    seen = drive(client, gateway, server)

    # The Python SDK 2.x offered the modern era first: that it speaks this version shows that it fell back.
    assert seen["version"] == "2025-11-25"
    assert seen["name"] == "mcp-edge"
    assert {"time__get_current_time", "git__git_status", f"{server}__echo", "toy__echo"} <= set(seen["tools"])
    assert seen["tools"] == sorted(seen["tools"], key=lambda name: name.partition("__")[0])
    assert f"{server}__args-prompt" in seen["prompts"]
    assert any(
        template.endswith("demo://resource/dynamic/text/{resourceId}") for template in seen["templates"]
    )

    assert "hello" in seen["echo"]
    assert set(seen["structured"]) == {"temperature", "conditions", "humidity"}
    assert "Resource 1" in seen["read"]
    assert "Paris" in seen["prompt"]
    assert seen["completion"] == ["Engineering"]
    assert seen["progress"] == [1, 2, 3, 4]
    assert seen["logs"] > 0
    assert set(seen["updated"]) == {seen["subscribed"]}
    assert seen["list_changed"] > 0
    assert len(seen["tools_after"]) == len(seen["tools"]) + 1
    assert seen["cancelled_at_server"] > 0
    assert seen["fifty"] is True
    assert seen["big"] == 4_000_000
    assert seen["unknown_tool"] == -32602
    assert seen["time"] == "UTC"


@pytest.mark.parametrize("server", ["stdio", "http", "sse"])
@requires("mcp1")
def test_what_a_server_asks_is_answered_by_the_client_that_called_it(server: str, gateway: Appliance) -> None:
    calls: list[tuple[str, dict[str, object]]] = [
        (f"{server}__trigger-sampling-request", {"prompt": "How warm is it?", "maxTokens": 50}),
        (f"{server}__trigger-elicitation-request", {}),
        (f"{server}__get-roots-list", {}),
    ]
    command: list[str | Path] = [python_of("mcp1"), CLIENTS / "asked.py", gateway.endpoint, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{gateway.said()}"
    seen = json.loads(done.stdout)
    assert "How warm is it?" in seen["asked"]["sampling/createMessage"]
    assert "elicitation/create" in seen["asked"]
    sampled, elicited, roots = seen["answered"]
    assert "warm" in sampled
    assert "V7" in elicited
    assert "file:///plant" in roots


def test_git_server_answers_about_the_repository_alone_and_among_others(
    gateway: Appliance, repository: Path
) -> None:
    arguments = {"repo_path": str(repository)}
    root = gateway.endpoint.removesuffix("/mcp")
    for url, name in ((gateway.endpoint, "git__git_log"), (f"{root}/servers/git/mcp", "git_log")):
        call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": name, "arguments": arguments},
        }
        answer = gateway.request("POST", url, call)
        assert answer.status == 200
        assert "the first one" in answer.json()["result"]["content"][0]["text"]
