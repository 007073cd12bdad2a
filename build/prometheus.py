"""A real Prometheus (Debian's package) on a free port of loopback, for as long as a test or a picture needs it."""

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

PACKAGING = Path(__file__).resolve().parent.parent / "packaging" / "prometheus"
RULES = PACKAGING / "mcp-edge.rules.yml"
RULE_TESTS = PACKAGING / "mcp-edge.rules.test.yml"
EXAMPLE_CONFIG = PACKAGING / "prometheus.example.yml"
START_S, STOP_S = 30.0, 30.0
ATTEMPTS = 3  # somebody else may take the port that was free a moment ago


class PrometheusFailed(Exception):
    """It did not start, or refused a question; the text has its words."""


class Series(NamedTuple):
    """A series' labels, and its values with their times (Unix time)."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class Prometheus:
    """One that runs; `running` makes it."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Never by way of a proxy: it is on this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def now(self, expr: str) -> list[Series]:
        """Raises: PrometheusFailed if it is not valid."""
        result = self.ask("query", query=expr)["result"]
        return [series(each["metric"], [each["value"]]) for each in result]

    def over(self, expr: str, *, start: float, end: float, step_s: float) -> list[Series]:
        """The values in a range of time. Raises: PrometheusFailed if it is not valid."""
        result = self.ask("query_range", query=expr, start=start, end=end, step=step_s)["result"]
        return [series(each["metric"], each["values"]) for each in result]

    def ask(self, path: str, **parameters: object) -> Any:
        """What its HTTP API says, below /api/v1."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with self._opener.open(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as exc:
            raise PrometheusFailed(exc.read().decode(errors="replace")) from exc

    def is_ready(self) -> bool:
        try:
            with self._opener.open(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def series(labels: dict[str, str], values: list[tuple[float, str]]) -> Series:
    return Series(labels, [(float(at), float(value)) for at, value in values])


def config(targets: Mapping[str, str], interval_s: float) -> str:
    """Scrapes these (host:port, by the name that is to be their instance) as the job that the rules are made for."""
    static = [{"targets": [address], "labels": {"instance": name}} for name, address in targets.items()]
    return json.dumps(  # which is YAML, too
        {
            "global": {"scrape_interval": f"{interval_s:g}s", "evaluation_interval": f"{interval_s:g}s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "mcp-edge", "static_configs": static}],
        }
    )


@contextmanager
def running(targets: Mapping[str, str], *, interval_s: float = 1.0) -> Iterator[Prometheus]:
    """A Prometheus with our rules that scrapes these (`config`). Raises: PrometheusFailed."""
    program = shutil.which("prometheus")
    if program is None:
        raise PrometheusFailed("there is no prometheus on this machine")
    with tempfile.TemporaryDirectory(prefix="mcp-edge-prometheus-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "prometheus.yml").write_text(config(targets, interval_s))
        for _ in range(ATTEMPTS):
            address = f"127.0.0.1:{free_port()}"
            with open(folder / "log", "wb") as log:
                process = subprocess.Popen(
                    [
                        program,
                        "--config.file=prometheus.yml",
                        "--storage.tsdb.path=data",
                        f"--web.listen-address={address}",
                    ],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            try:
                server = Prometheus(f"http://{address}")
                if starts(server, process):
                    yield server
                    return
            finally:
                stop(process)
        raise PrometheusFailed((folder / "log").read_text(errors="replace"))


def starts(server: Prometheus, process: subprocess.Popen[bytes]) -> bool:
    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        if server.is_ready():
            return process.poll() is None  # and nobody else's, whose port it was
        time.sleep(0.1)
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
