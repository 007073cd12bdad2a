"""The built .pyz, running under a bare interpreter: what end-to-end tests talk to. Nothing of `edge` is imported."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.support.peers import PYZ
from tests.support.processes import appliance_below

START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
SAID_LOOKS = 300
SAID_LOOK_S = 0.1


class Answer(NamedTuple):
    """An HTTP answer read to its end; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Appliance:
    """A running mcp-edge. `endpoint`, `admin` and `hub` (for edges) are its URLs; `log` grows while it runs.

    `process` is what an operator starts, signals and waits for: the guard, where there is one. `pid` is the
    appliance itself, which has the servers, the memory and the descriptors.

    `folder` is its own: its home, and where its config is, unless it was started without one.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.config = folder / "config.toml"
        self.output: list[str] = []
        self.log: list[str] = []
        self.endpoint = self.admin = self.hub = ""
        self.pid = process.pid  # known when it is ready
        self._ready = threading.Event()
        self._spoken = threading.Event()
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def wait_ready(self) -> None:
        """Return once it has said that it is ready; AssertionError with its log if it ends instead."""
        assert self._ready.wait(START_LIMIT_S), f"no ready line:\n{self.said()}"
        assert self.endpoint, f"ended instead of getting ready:\n{self.said()}"
        self.pid = appliance_below(self.process.pid) or self.process.pid

    def request(
        self,
        method: str,
        url: str,
        body: bytes | Mapping[str, Any] | Sequence[Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request over a connection of its own. A body that is no bytes is sent as JSON."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        usual = {"Accept": "application/json, text/event-stream"}
        if sent is not None:
            usual["Content-Type"] = "application/json"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        with contextlib.closing(connection):
            connection.request(method, target or "/", sent, {**usual, **(headers or {})})
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, fields, answer.read())

    def metric(self, sample: str) -> float:
        """The value of one line of /metrics, such as `mcp_edge_upstream_connected{server="git"}`."""
        text = self.request("GET", f"{self.admin}/metrics").body.decode()
        for line in text.splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no sample {sample} in:\n{text}")

    def health(self) -> Any:
        return self.request("GET", f"{self.admin}/health").json()

    def wait_said(self, words: str, since: int = 0) -> str:
        """The first line of the log after `since` lines that has these words, when it is there."""
        for _ in range(SAID_LOOKS):
            for line in self.log[since:]:
                if words in line:
                    return line
            self._spoken.wait(SAID_LOOK_S)
            self._spoken.clear()
        raise AssertionError(f"never said {words!r}:\n{self.said()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end; its exit code. SIGKILL goes to the appliance itself, as it does when memory is short."""
        if self.process.poll() is None:
            if number == signal.SIGKILL:
                os.kill(self.pid, number)
            else:
                self.process.send_signal(number)
        code = self.process.wait(STOP_LIMIT_S)
        for reader, stream in zip(self._readers, (self.process.stdout, self.process.stderr), strict=True):
            reader.join(STOP_LIMIT_S)
            assert stream is not None
            stream.close()
        return code

    def said(self) -> str:
        return "\n".join([*self.output, *self.log])

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if found := re.match(r" +endpoint +(\S+)", line):
                self.endpoint = found[1]
            if found := re.match(r" +edges +(\S+)", line):
                self.hub = found[1]
            if found := re.match(r" +status +(\S+)/status", line):
                self.admin = found[1]
                self._ready.set()
        self._ready.set()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))
            self._spoken.set()


@contextlib.contextmanager
def running(
    config: str | None,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Appliance]:
    """mcp-edge from the .pyz with this config text (None: the built-in default), ready; ended at the end.

    `prefix` are words before the command, for another program to start it (and to become it by exec).

    A config that names no addresses gets free ports on loopback.
    """
    with tempfile.TemporaryDirectory(prefix="mcp-edge-test-") as folder:
        options: list[str] = []
        if config is not None:
            path = Path(folder, "config.toml")
            if "[gateway]" not in config:
                config = f'{config}\n[gateway]\nlisten = "127.0.0.1:0"\n'
            if "[admin]" not in config:
                config = f'{config}\n[admin]\nlisten = "127.0.0.1:0"\n'
            path.write_text(config)
            options = ["-c", str(path)]
        process = subprocess.Popen(
            [*prefix, sys.executable, "-I", "-S", str(PYZ), "run", *options, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "HOME": folder,
                "XDG_RUNTIME_DIR": folder,
                **(env or {}),
            },
        )
        appliance = Appliance(process, Path(folder))
        try:
            appliance.wait_ready()
            yield appliance
        finally:
            try:
                appliance.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def toml_list(words: Sequence[str | Path]) -> str:
    """Words as a TOML array of strings."""
    return json.dumps([str(word) for word in words])
