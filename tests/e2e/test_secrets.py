"""Secrets by value: put wherever the config takes one, given back by servers that say too much, and looked for in all
that mcp-edge writes."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.appliance import Appliance, running, toml_list
from tests.support.peers import PYZ, ROOT, requires
from tests.support.processes import eventually

pytestmark = requires("pyz")
TOY = ROOT / "tests" / "support" / "toy_server.py"
SECRETS = {
    "ENV_TOKEN": "env-t0ken/with+signs=",
    "BEARER": "bearer-9f8e7d6c5b4a",
    "API_KEY": "api-key-q7w8e9r0t1",
    "URL_TOKEN": "url-token-a1s2d3f4",
    "UPLINK_TOKEN": "uplink-token-z1x2c3",
    "QUERY_TOKEN": "query-token-p0o9i8",
    "HEADER_TOKEN": "header-token-m5n6b7",
    "PROXY_PASSWORD": "proxy-passw0rd-k4j5",
    "WORDS": "env-proxy-pass/word-g6h7",  # nothing in its name; it is the password in ALL_PROXY, see `environment`
}


class Echo(BaseHTTPRequestHandler):
    """Refuses everything, and says with which words it was asked."""

    def refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = f"{self.path} {dict(self.headers.items())} {quote(str(self.headers.get('Authorization')))}"
        body = f"refused: {asked}".encode()
        self.send_response(500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_CONNECT = refuse  # noqa: N815  the library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's word
        pass


@contextmanager
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(address: str) -> dict[str, str]:
    return {**SECRETS, "ALL_PROXY": f"http://user:{quote(SECRETS['WORDS'], safe='')}@{address}"}


def config(address: str, folder: Path) -> str:
    bearer = folder / "bearer"
    bearer.write_text(SECRETS["BEARER"] + "\n")
    bearer.chmod(0o600)
    restart = "{ first_s = 0.1, limit_s = 0.5 }"
    return f"""
[servers.leaky]
command = {toml_list([sys.executable, TOY, "leak=SERVICE_TOKEN"])}
env = {{ SERVICE_TOKEN = "${{ENV_TOKEN}}" }}
[servers.dying]
command = {toml_list([sys.executable, TOY, "leak=SERVICE_TOKEN", "exit=3"])}
env = {{ SERVICE_TOKEN = "${{ENV_TOKEN}}" }}
restart = {restart}
[servers.telling]
command = {toml_list([sys.executable, TOY, "leak=WORDS"])}
env = {{ WORDS = "${{WORDS}}" }}
[servers.web]
url = "http://{address}/mcp?token=${{URL_TOKEN}}"
bearer_file = "{bearer}"
headers = {{ X-Api-Key = "${{API_KEY}}" }}
reconnect = {restart}
[uplinks.one]
dialect = "contextforge"
url = "http://{address}"
token_env = "UPLINK_TOKEN"
headers = {{ X-Auth-Token = "Bearer ${{HEADER_TOKEN}}" }}
query = {{ access_token = "${{QUERY_TOKEN}}" }}
proxy = "none"
reconnect = {restart}
[uplinks.two]
dialect = "mcp-reverse"
url = "http://{address}"
token_env = "UPLINK_TOKEN"
publish = "all"
proxy = "http://user:${{PROXY_PASSWORD}}@{address}"
reconnect = {restart}
[uplinks.three]
dialect = "long-poll"
url = "http://hub.example.com"
publish = "all"
reconnect = {restart}
"""


def forms_of(secret: str) -> set[str]:
    basic = base64.b64encode(f"user:{secret}".encode()).decode().rstrip("=")
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], basic[7:-1]}


def leaks_in(name: str, text: str) -> list[str]:
    """What of which secret is in it."""
    return [
        f"{variable} in {name}: {form}"
        for variable, secret in SECRETS.items()
        for form in forms_of(secret)
        if form in text
    ]


def mcp_edge(folder: Path, *arguments: str | Path, **env: str) -> str:
    """All that a command prints."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(PYZ), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
    )
    return done.stdout + done.stderr


def client_hears(appliance: Appliance) -> str:
    heard = ""
    for tool in ("leaky__exit", "dying__echo", "web__anything", "leaky__nothing"):
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": {}},
        }
        answer = appliance.request("POST", appliance.endpoint, message)
        assert "error" in answer.json()
        heard += answer.body.decode()
    for way in ("servers/web/mcp", "servers/dying/mcp"):
        base = appliance.endpoint.removesuffix("/mcp")
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        heard += appliance.request("POST", f"{base}/{way}", message).body.decode()
    return heard


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_in_anything_that_is_written(tmp_path: Path, form: str) -> None:
    with echo() as address:
        text = config(address, tmp_path)
        with running(
            text, "--log-level", "debug", "--log-format", form, env=environment(address)
        ) as appliance:
            heard = client_hears(appliance)
            eventually(lambda: sum("link down" in line for line in appliance.log) >= 3, appliance.said)
            eventually(lambda: sum("HTTP 500" in line for line in appliance.log) >= 2, appliance.said)
            pages = {
                path: appliance.request("GET", f"{appliance.admin}{path}").body.decode()
                for path in ("/health", "/status", "/readyz?verbose", "/metrics")
            }
            for words in (["--verbose"], ["--json"], ["--nagios", "--verbose"]):
                pages[f"health {words}"] = mcp_edge(tmp_path, "health", "--url", appliance.admin, *words)
        path = tmp_path / "config.toml"
        path.write_text(text)
        written = {
            **pages,
            "what a client hears": heard,
            "stdout": "\n".join(appliance.output),
            "log": "\n".join(appliance.log),
            "validate": mcp_edge(tmp_path, "validate", "-c", path, **environment(address)),
            "validate --json": mcp_edge(tmp_path, "validate", "-c", path, "--json", **environment(address)),
        }
    assert [leak for name, text in written.items() for leak in leaks_in(name, text)] == []
    assert "good" in written["validate"]
    log = written["log"]
    # The servers did say them: what is looked for would have been there.
    assert log.count("leaking ***") >= 2
    assert "?t=***" in log
    assert "Basic " in log
    for name in ("log", "/health", "/status", "/readyz?verbose", "health ['--verbose']"):
        assert "refused: /mcp?token=***" in written[name], name


BAD = """
[servers.a]
url = "ftp://user:${PROXY_PASSWORD}@host/?token=${URL_TOKEN}"
headers = { "X Y" = "${API_KEY}", Authorization = "plain-credential-in-the-file", X-Token = 5 }
[servers.b]
url = "http://user:${PROXY_PASSWORD}@host:99999/"
bearer = "plain-credential-in-the-file"
[servers.c]
command = ["x"]
env = { "A=B" = "${ENV_TOKEN}", MY_TOKEN = "plain-credential-in-the-file" }
[uplinks.u]
dialect = "contextforge"
url = "nothing://${UPLINK_TOKEN}"
token = "plain-credential-in-the-file"
proxy = "http://u:plain-credential-in-the-file@x:y"
query = { "" = "${QUERY_TOKEN}", access_token = "plain-credential-in-the-file" }
headers = { X = "a\\r\\n${HEADER_TOKEN}" }
[hub]
listen = "127.0.0.1:1"
[hub.edges.e]
token_sha256 = "plain-credential-in-the-file"
[hub.jwt]
secret = "plain-credential-in-the-file"
"""


@pytest.mark.parametrize("more", [(), ("--json",)])
@pytest.mark.parametrize("allowed", ["", "insecure_plain_secrets = true\n"])
def test_the_problems_of_a_config_have_no_secret_in_them(
    tmp_path: Path, more: tuple[str, ...], allowed: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(allowed + BAD)
    for command in ("validate", "run"):
        if command == "run" and more:
            continue
        said = mcp_edge(tmp_path, command, "-c", path, *more, **SECRETS)
        assert "servers.a" in said
        assert leaks_in(command, said) == []
        assert "plain-credential" not in said, said
