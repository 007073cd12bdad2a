"""The real ContextForge gateway (SQLite, reverse proxy switched on), running on loopback for one test.

It writes its database and its log into a folder of its own. `token()` is one that its API and its reverse proxy
accept: its subject has to be a user that exists, so it is the administrator's.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.peers import command_of, python_of

JWT_KEY = "a-key-for-tests-of-a-length-that-the-gateway-accepts"
PASSWORD = "Not-a-secret-123456"
ADMIN = "admin@example.com"
START_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0
SETTINGS = {
    "MCPGATEWAY_REVERSE_PROXY_ENABLED": "true",
    "JWT_SECRET_KEY": JWT_KEY,
    "AUTH_ENCRYPTION_SECRET": JWT_KEY + "-2",
    "PLATFORM_ADMIN_EMAIL": ADMIN,
    "PLATFORM_ADMIN_PASSWORD": PASSWORD,
    "DEFAULT_USER_PASSWORD": PASSWORD,
    "BASIC_AUTH_PASSWORD": PASSWORD,
    "MCPGATEWAY_UI_ENABLED": "false",
    "MCPGATEWAY_ADMIN_API_ENABLED": "false",
    "PLUGINS_ENABLED": "false",
    "CACHE_TYPE": "memory",
    "SSRF_ALLOW_LOCALHOST": "true",
    "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
    "LOG_LEVEL": "INFO",
}


class Reply(NamedTuple):
    status: int
    body: Any  # JSON, or text where it is none


class ContextForge:
    """A gateway that can be stopped and started again on the same port, with the same database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        with open(self._folder / "gateway.log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    command_of("contextforge", "mcpgateway"),
                    "mcpgateway.main:app",
                    *("--host", "127.0.0.1", "--port", str(self.port)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._env(),
            )
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            with contextlib.suppress(OSError):
                if self.call("GET", "/health").status == 200:
                    return
            assert self._process.poll() is None, f"the gateway ended:\n{self.log()[-5000:]}"
            assert time.monotonic() < deadline, f"the gateway does not answer:\n{self.log()[-5000:]}"
            time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self) -> str:
        return (self._folder / "gateway.log").read_text(errors="replace")

    def token(self, *, minutes: int = 60) -> str:
        """Made by the gateway's own tool."""
        module: list[str | Path] = [python_of("contextforge"), "-m", "mcpgateway.utils.create_jwt_token"]
        options = ["--username", ADMIN, "--exp", str(minutes), "--admin", "--secret", JWT_KEY]
        made = subprocess.run(
            [*module, *options], capture_output=True, text=True, check=True, cwd=self._folder, env=self._env()
        )
        found: str = made.stdout.strip().splitlines()[-1]
        return found

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None
    ) -> Reply:
        """One request to its HTTP API."""
        request = urllib.request.Request(self.url + path, method=method)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        data = None
        if body is not None:
            request.add_header("Content-Type", "application/json")
            data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, data, timeout=30) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                status, text = exc.code, exc.read().decode()
        try:
            return Reply(status, json.loads(text))
        except ValueError:
            return Reply(status, text)

    def _env(self) -> dict[str, str]:
        return {
            **SETTINGS,
            "DATABASE_URL": f"sqlite:///{self._folder}/mcp.db",
            "PATH": f"{python_of('contextforge').parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(self._folder),
        }


@contextlib.contextmanager
def contextforge() -> Iterator[ContextForge]:
    """A running gateway; ended at the end."""
    with tempfile.TemporaryDirectory(prefix="mcp-edge-contextforge-") as folder:
        gateway = ContextForge(Path(folder))
        try:
            gateway.start()
            yield gateway
        finally:
            gateway.stop()
