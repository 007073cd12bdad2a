"""The stage of fault tests: an appliance with a faulty server, a good one beside it, and a client of both.

    with staged(toy("bad", "mute")) as stage:
        ...
        stage.good_answers()

Leaving the block shows that the fault has left nothing behind: the good server is the same process and answers,
the appliance holds no more descriptors than at first, no call hangs, nothing crashed, it ends with exit code 0,
and no process that it started lives on.
"""

import json
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.support.appliance import Appliance, running, toml_list
from tests.support.peers import ROOT
from tests.support.processes import Process, descendants, eventually, process

TOY = ROOT / "tests" / "support" / "toy_server.py"
VERSION = "2025-11-25"
HURRY = {"restart": "{ first_s = 0.2, limit_s = 1 }", "stop_grace_s": "1"}


def toy(name: str, *switches: object, **options: object) -> str:
    """The table of a toy server (toy_server.py); options are TOML text, quick restarts unless they say else."""
    words = [sys.executable, "-I", "-S", str(TOY), *map(str, switches)]
    return table(name, command=toml_list(words), **(HURRY | options))


def table(name: str, **options: object) -> str:
    """A server's table in the config; options are TOML text."""
    return "\n".join([f"[servers.{name}]", *(f"{key} = {value}" for key, value in options.items())])


class Client:
    """One session. Each request has a connection of its own."""

    def __init__(self, edge: Appliance, url: str) -> None:
        self.url = url
        self._edge = edge
        self._next_id = 0
        answer = edge.request("POST", url, self.message("initialize", hello()))
        assert answer.status == 200, answer
        self.headers = {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": VERSION}
        edge.request("POST", url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, self.headers)

    def message(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._next_id += 1
        return {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params}

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The one response; an HTTP answer with more or less than that fails."""
        message = self.message(method, params)
        answer = self._edge.request("POST", self.url, message, self.headers)
        assert answer.status == 200, answer
        if answer.headers["content-type"] == "text/event-stream":
            lines = re.findall(rb"^data: (.+)$", answer.body, re.MULTILINE)
            said = [json.loads(line) for line in lines]
            responses = [each for each in said if "id" in each]
        else:
            responses = [answer.json()]
        assert [each["id"] for each in responses] == [message["id"]], responses
        found: dict[str, Any] = responses[0]
        return found

    def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """The response to a tool call, good or bad."""
        return self.ask("tools/call", {"name": tool, "arguments": arguments})

    def text(self, tool: str, **arguments: object) -> str:
        """What the tool says; it has to succeed."""
        response = self.call(tool, **arguments)
        assert "result" in response, response
        found: str = response["result"]["content"][0]["text"]
        return found

    def error_code(self, tool: str, **arguments: object) -> int:
        """The code of the error that the call ends with."""
        response = self.call(tool, **arguments)
        assert "error" in response, response
        code: int = response["error"]["code"]
        return code

    def tools(self) -> set[str]:
        return {tool["name"] for tool in self.ask("tools/list", {})["result"]["tools"]}

    def raw(self, tool: str, **arguments: object) -> bytes:
        """A tool call as the bytes that go over the wire."""
        return http_post(
            self.url, self.message("tools/call", {"name": tool, "arguments": arguments}), self.headers
        )


class Stage:
    """A running appliance, and who is on it. `later` runs something in a thread of its own."""

    def __init__(self, edge: Appliance, threads: ThreadPoolExecutor) -> None:
        self.edge = edge
        self._threads = threads
        self.client = self.session()
        self.good = process(self.pid_of("good"))
        self.good_answers()
        self.family: set[Process] = set()
        self.fds_at_first = eventually(self.fds_at_rest)

    def session(self, url: str = "") -> Client:
        return Client(self.edge, url or self.edge.endpoint)

    def later(self, tool: str, **arguments: object) -> "Future[dict[str, Any]]":
        return self._threads.submit(self.client.call, tool, **arguments)

    def good_answers(self) -> None:
        """The good server answers, and it is still the process that it was."""
        assert self.client.text("good__echo", text="still here") == "still here"
        assert self.pid_of("good") == self.good.pid

    def server(self, name: str) -> dict[str, Any]:
        """What /health says of it."""
        found: dict[str, Any] = next(s for s in self.edge.health()["servers"] if s["name"] == name)
        return found

    def pid_of(self, name: str) -> int:
        pid: int = self.server(name)["pid"]
        return pid

    def metric(self, name: str, server: str = "bad", **labels: str) -> float:
        pairs = ",".join(f'{key}="{value}"' for key, value in sorted({"server": server, **labels}.items()))
        return self.edge.metric(f"mcp_edge_{name}{{{pairs}}}")

    def fds_at_rest(self) -> int:
        """Descriptors that are open while nobody but us is connected; 0 if somebody still is."""
        text = self.edge.request("GET", f"{self.edge.admin}/metrics").body.decode()
        samples = dict(line.rsplit(" ", 1) for line in text.splitlines())
        clients = [samples[f'mcp_edge_connections{{listener="{name}"}}'] for name in ("gateway", "admin")]
        return int(float(samples["mcp_edge_process_open_fds"])) if clients == ["0.0", "1.0"] else 0

    def until_in_flight(self, count: int, server: str = "bad") -> None:
        eventually(lambda: self.metric("upstream_calls_in_flight", server) == count)

    def until_ready(self, server: str = "bad") -> None:
        eventually(lambda: self.server(server)["state"] == "ready", lambda: self.server(server))

    def log(self, message: str, **fields: object) -> list[dict[str, Any]]:
        """The log's records with this message and these fields."""
        wanted = {"msg": message, **fields}.items()
        records = [json.loads(line) for line in list(self.edge.log) if line.startswith("{")]
        return [record for record in records if wanted <= record.items()]

    def retries(self, server: str = "bad") -> list[float]:
        """The delays after each failure so far, seconds. At log level info there is only the first one."""
        told = [*self.log("server down", server=server), *self.log("server still down", server=server)]
        return [record["retry_s"] for record in sorted(told, key=lambda record: record["time"])]

    def settle(self, more_fds: int = 0) -> None:
        """As at first: the good server, no calls, no more descriptors."""
        self.good_answers()
        for server in ("good", *(s["name"] for s in self.edge.health()["servers"])):
            eventually(lambda server=server: self.metric("upstream_calls_in_flight", server) == 0)  # type: ignore[misc]  # binds the loop's name
        most = self.fds_at_first + more_fds
        eventually(lambda: 0 < self.fds_at_rest() <= most, lambda: f"{self.fds_at_rest()} of {most}")
        text = self.edge.request("GET", f"{self.edge.admin}/metrics").body.decode()
        crashes = re.findall(r"^mcp_edge_part_crashes_total\{.*\} (\S+)$", text, re.MULTILINE)
        assert len(crashes) > 0
        assert set(crashes) == {"0.0"}

    def stop(self) -> None:
        """It ends in good order, and takes all that it started along."""
        self.family |= descendants(self.edge.pid)
        assert self.edge.stop() == 0, self.edge.said()
        eventually(lambda: not any(each.is_alive for each in self.family), lambda: self.family)
        records = [json.loads(line) for line in self.edge.log if line.startswith("{")]
        assert [record for record in records if "exc" in record] == []


@contextmanager
def staged(
    *tables: str,
    gateway: Sequence[str] = (),
    env: dict[str, str] | None = None,
    more_fds: int = 0,
    log_level: str = "info",
) -> Iterator[Stage]:
    """See the module's top. `gateway` are lines of that table; `more_fds` may be open at the end on purpose."""
    head = [
        "[log]",
        'format = "json"',
        f'level = "{log_level}"',
        "[gateway]",
        'listen = "127.0.0.1:0"',
        *gateway,
    ]
    config = "\n".join([*head, toy("good"), *tables])
    with ThreadPoolExecutor(64) as threads, running(config, env=env) as edge:
        stage = Stage(edge, threads)
        yield stage
        if edge.process.poll() is None:
            stage.settle(more_fds)
            stage.stop()


def hello() -> dict[str, Any]:
    """The params of `initialize`."""
    return {
        "protocolVersion": VERSION,
        "capabilities": {},
        "clientInfo": {"name": "fault test", "version": "1"},
    }


def http_post(url: str, message: dict[str, Any], headers: dict[str, str]) -> bytes:
    """A POST as the bytes that go over the wire, for clients that pipeline or do not read."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return http_head("POST", url, headers, len(body)) + body


def http_head(method: str, url: str, headers: dict[str, str], length: int | None = None) -> bytes:
    parts = urlsplit(url)
    fields = {"Host": parts.netloc, "Accept": "application/json, text/event-stream", **headers}
    if length is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(length)}
    lines = [f"{method} {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def connect(url: str, *, receive_bytes: int = 0) -> socket.socket:
    """A connection to the listener of `url`; with `receive_bytes`, the kernel takes little for us."""
    parts = urlsplit(url)
    sock = socket.socket()
    try:
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(30)
        sock.connect((parts.hostname, parts.port))
    except BaseException:
        sock.close()
        raise
    return sock
