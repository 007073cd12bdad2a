"""The program as its operator sees it: the ready line, signals, exit codes, and the commands beside `run`."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.appliance import Appliance, running, toml_list
from tests.support.peers import PYZ, ROOT, requires
from tests.support.processes import appliance_below, descendants, eventually

pytestmark = [
    requires("pyz"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc, which Linux has"),
]
BARE = [sys.executable, "-I", "-S", str(PYZ)]
TOY = ROOT / "tests" / "support" / "toy_server.py"
OK, USAGE, UNAVAILABLE, CONFIG = 0, 64, 69, 78
FREE = '[gateway]\nlisten = "127.0.0.1:0"\n{more}\n[admin]\nlisten = "127.0.0.1:0"\n'


def toy(name: str = "toy", *switches: str, **settings: Any) -> str:
    """A table of the config; settings are TOML."""
    command = toml_list([sys.executable, TOY, *switches])
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([f"[servers.{name}]", f"command = {command}", *lines, ""])


def config(*tables: str, **gateway: Any) -> str:
    return FREE.format(more="\n".join(f"{k} = {json.dumps(v)}" for k, v in gateway.items())) + "\n".join(
        tables
    )


def mcp_edge(*arguments: str | Path, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """One command, run to its end."""
    return subprocess.run(
        [*BARE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
    )


def run_config(text: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = folder / "config.toml"
    path.write_text(text)
    return mcp_edge("run", "-c", path, *arguments, folder=folder)


def said_plainly(done: subprocess.CompletedProcess[str]) -> str:
    """What a program that could not start said last; it has said nothing else than log lines."""
    assert "Traceback" not in done.stderr
    assert "is ready" not in done.stdout
    words = [line for line in done.stderr.splitlines() if not line.startswith(("time=", "{"))]
    assert len(words) == 1, done.stderr
    return words[0]


def call(appliance: Appliance, tool: str, **arguments: object) -> Any:
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": arguments},
    }
    return appliance.request("POST", appliance.endpoint, message, {"Accept": "application/json"}).json()


@contextmanager
def calling(appliance: Appliance, tool: str, **arguments: object) -> Iterator[list[Any]]:
    """A call in flight; the list has its response when the block is left."""
    responses: list[Any] = []

    def call_it() -> None:
        try:
            responses.append(call(appliance, tool, **arguments))
        except OSError as exc:
            responses.append(exc)

    thread = threading.Thread(target=call_it)
    thread.start()
    try:
        eventually(lambda: appliance.metric('mcp_edge_upstream_calls_in_flight{server="toy"}') == 1)
        yield responses
    finally:
        thread.join(60)
    assert not thread.is_alive()


# -- being ready, and ending


def test_the_ready_line_names_servers_and_urls() -> None:
    with running(config(toy(), toy("broken", "exit=3"))) as appliance:
        assert re.fullmatch(r"mcp-edge \S+ is ready on \S+", appliance.output[0])
        said = [" ".join(line.split()) for line in appliance.output]
        assert "server toy: 15 tools" in said
        assert any(line.startswith("server broken: degraded: exited with status 3") for line in said)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/mcp", appliance.endpoint)
        assert f"endpoint {appliance.endpoint}" in said
        assert appliance.request("GET", f"{appliance.admin}/status").status == 200
        assert appliance.request("GET", f"{appliance.admin}/readyz").status == 200
        assert not any("mcpServers" in line for line in appliance.output)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_no_child_is_left(number: signal.Signals) -> None:
    with running(config(toy("toy", "grandchild", "escaped"))) as appliance:
        children = descendants(appliance.pid)
        assert len(children) == 3
        assert appliance.stop(number) == OK
        assert not [child for child in children if child.is_alive]
        assert not any("Traceback" in line for line in appliance.log)
        assert any("stopped" in line for line in appliance.log)


def test_a_call_that_runs_is_let_finish_and_nothing_new_begins() -> None:
    with running(config(toy())) as appliance:
        with calling(appliance, "toy__sleep", s=1.5) as responses:
            appliance.process.send_signal(signal.SIGTERM)
            eventually(lambda: any("stopping" in line for line in appliance.log))
            with pytest.raises(OSError):
                call(appliance, "toy__echo", text="late")
        assert responses[0]["result"]["content"][0]["text"] == "slept"
        assert appliance.stop() == OK


def test_a_call_that_takes_longer_than_the_drain_is_given_up_and_its_client_told() -> None:
    with running(config(toy(), drain_s=1.5)) as appliance:
        with calling(appliance, "toy__sleep", s=300) as responses:
            assert appliance.stop() == OK
        assert responses[0]["error"]["code"] == -32012
        assert responses[0]["error"]["data"] == {"reason": "stopping"}


def test_a_second_signal_does_not_wait_for_the_drain() -> None:
    with running(config(toy(), drain_s=3000)) as appliance:
        with calling(appliance, "toy__sleep", s=3000):
            appliance.process.send_signal(signal.SIGTERM)
            eventually(lambda: any("stopping" in line for line in appliance.log))
            time.sleep(1)  # so soon it would count as the same
            appliance.process.send_signal(signal.SIGINT)
            assert appliance.process.wait(30) == OK
        assert any("told twice" in line for line in appliance.log)


@contextmanager
def starting(text: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`run` with a config, before it is ready."""
    path = folder / "config.toml"
    path.write_text(text)
    process = subprocess.Popen(
        [*BARE, "run", "-c", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("required", [False, True])
def test_a_signal_before_it_is_ready_ends_it_with_0(tmp_path: Path, required: bool) -> None:
    text = config(toy("toy", "mute", "ignore-term", required=required, stop_grace_s=0.1))
    with starting(text, tmp_path) as process:
        children = eventually(lambda: descendants(appliance_below(process.pid) or process.pid))
        process.send_signal(signal.SIGTERM)
        output, log = process.communicate(timeout=60)
        assert (process.returncode, output) == (OK, ""), log
        assert not [child for child in children if child.is_alive]


def test_a_server_that_crashes_is_started_again() -> None:
    with running(config(toy(restart={"first_s": 0.05, "limit_s": 0.1}).replace(": ", " = "))) as appliance:
        assert call(appliance, "toy__exit", status=4)["error"]["code"] == -32012
        assert call(appliance, "toy__echo", text="back")["result"]["content"][0]["text"] == "back"
        assert appliance.metric('mcp_edge_upstream_restarts_total{server="toy"}') == 1


# -- not being able to start


def test_an_address_in_use_is_69_with_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for listener in ("gateway", "admin"):
            free, used = '"127.0.0.1:0"', f'"{address}"'
            gateway, admin = (used, free) if listener == "gateway" else (free, used)
            text = f"[gateway]\nlisten = {gateway}\n[admin]\nlisten = {admin}\n{toy()}"
            done = run_config(text, tmp_path)
            assert done.returncode == UNAVAILABLE
            words = said_plainly(done)
            assert address in words
            assert "in use" in words.lower()


def test_a_required_server_that_does_not_start_is_69_and_named(tmp_path: Path) -> None:
    text = config(toy("good"), toy("needed", "exit=3", required=True, start_timeout_s=0.5))
    done = run_config(text, tmp_path)
    assert done.returncode == UNAVAILABLE
    words = said_plainly(done)
    assert words.startswith("mcp-edge: server needed: exited with status 3")


def test_a_required_command_that_does_not_exist_is_69_and_named(tmp_path: Path) -> None:
    missing = '[servers.needed]\ncommand = ["no-such-mcp-server"]\nrequired = true\nstart_timeout_s = 0.5\n'
    done = run_config(config(missing), tmp_path)
    assert done.returncode == UNAVAILABLE
    words = said_plainly(done)
    assert "needed" in words
    assert "no-such-mcp-server" in words
    assert "PATH" in words


BAD_CONFIG = """
[gateway]
listen = "0.0.0.0:8766"
sesion_idle_s = 5
call_timeout_s = "long"
[servers.git_]
command = "git-server"
[servers.plc]
url = "ftp://plc"
headers = { X-Key = "${NOT_SET_ANYWHERE}" }
"""
PLACES = (
    "gateway.listen",
    "gateway.sesion_idle_s",
    "gateway.call_timeout_s",
    "servers.git_",
    "servers.plc.url",
    "servers.plc.headers",
)


def test_a_bad_config_is_78_with_all_of_its_problems(tmp_path: Path) -> None:
    done = run_config(BAD_CONFIG, tmp_path)
    assert (done.returncode, done.stdout) == (CONFIG, "")
    assert "Traceback" not in done.stderr
    for place in PLACES:
        assert place in done.stderr
    assert "session_idle_s" in done.stderr  # what was meant
    validated = mcp_edge("validate", "-c", tmp_path / "config.toml", folder=tmp_path)
    assert validated.returncode == CONFIG
    assert set(done.stderr.splitlines()) <= set(validated.stdout.splitlines())


@pytest.mark.parametrize("text", ["[gateway", "\0", "listen = 5\n[gateway]\n[gateway]\n"])
def test_a_config_that_is_no_toml_is_78_with_its_place(tmp_path: Path, text: str) -> None:
    done = run_config(text, tmp_path)
    assert done.returncode == CONFIG
    assert "config.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_config_that_is_not_there_is_78(tmp_path: Path) -> None:
    for words in (["-c", "nowhere.toml"], []):
        done = mcp_edge("run", *words, folder=tmp_path, MCP_EDGE_CONFIG=str(tmp_path / "nowhere.toml"))
        assert done.returncode == CONFIG
        assert "nowhere.toml" in done.stderr


@pytest.mark.parametrize(
    "words",
    [["run", "--port", "1"], ["run", "extra"], ["rum"], ["--what"], [], ["run", "--log-level", "loud"]],
)
def test_a_wrong_command_line_is_64_with_the_usage(tmp_path: Path, words: list[str]) -> None:
    done = mcp_edge(*words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr.startswith("mcp-edge: ")
    assert "usage: mcp-edge" in done.stderr


# -- the built-in default


def test_without_a_config_it_serves_this_host_and_says_what_to_paste(tmp_path: Path) -> None:
    for port in (8766, 9766):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port}, which the built-in default has, is in use on this machine")
    with running(None) as appliance:
        assert appliance.endpoint == "http://127.0.0.1:8766/mcp"
        assert appliance.admin == "http://127.0.0.1:9766"
        listed = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = appliance.request("POST", appliance.endpoint, listed)
        names = [tool["name"] for tool in answer.json()["result"]["tools"]]
        assert f"  server    host: {len(names)} tools" in appliance.output
        assert names
        assert all(name.startswith("host__") for name in names)
        text = eventually(lambda: whole(appliance.output), lambda: appliance.output)
        pasted = json.loads(text[text.index("{") : text.rindex("}") + 1])
        assert pasted["mcpServers"]["mcp-edge"] == {"type": "http", "url": appliance.endpoint}
        assert mcp_edge("health", folder=tmp_path).returncode == OK


def whole(output: list[str]) -> str:
    """All that it says in the beginning, once the last line is there."""
    text = "\n".join(output)
    return text if "mcp-edge.pyz init -o " in text else ""


# -- the other commands


def test_health_is_0_when_ready_and_69_when_not(tmp_path: Path) -> None:
    with running(config(toy())) as appliance:
        done = mcp_edge("health", "--url", appliance.admin, folder=tmp_path)
        assert (done.returncode, done.stderr) == (OK, "")
        assert "1 of 1 servers ready" in done.stdout
        as_json = mcp_edge("health", "--url", appliance.admin, "--json", folder=tmp_path)
        assert json.loads(as_json.stdout)["ready"] is True
        admin = appliance.admin
    done = mcp_edge("health", "--url", admin, folder=tmp_path)
    assert done.returncode == UNAVAILABLE
    assert admin in done.stdout
    assert "Traceback" not in done.stderr


def test_health_is_69_with_the_reason_when_a_required_server_went_down(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    needed = toy("toy", f"exit-once={flag}", required=True)
    with running(config(needed)) as appliance:
        flag.unlink()  # the next start exits; the one after that would be in a second or so
        call(appliance, "toy__exit", status=4)
        [done] = eventually(lambda: unready(appliance.admin, tmp_path), appliance.said)
        assert "server:toy" in done.stdout
        eventually(lambda: mcp_edge("health", "--url", appliance.admin, folder=tmp_path).returncode == OK)


def unready(admin: str, folder: Path) -> list[subprocess.CompletedProcess[str]]:
    done = mcp_edge("health", "--url", admin, folder=folder)
    return [done] if done.returncode == UNAVAILABLE else []


def test_validate_takes_what_run_takes(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text(config(toy()))
    done = mcp_edge("validate", "-c", path, folder=tmp_path)
    assert done.returncode == OK
    assert "toy" in done.stdout
    as_json = mcp_edge("validate", "-c", path, "--json", folder=tmp_path)
    assert json.loads(as_json.stdout)["ok"] is True


def test_what_init_writes_loads_and_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "config.toml"
    assert mcp_edge("init", "-o", path, folder=tmp_path).returncode == OK
    text = path.read_text()
    assert "host" in tomllib.loads(text)["servers"]
    assert mcp_edge("validate", "-c", path, folder=tmp_path).returncode == OK
    again = mcp_edge("init", "-o", path, folder=tmp_path)
    assert (again.returncode, path.read_text()) == (USAGE, text)
    assert mcp_edge("init", "-o", path, "--force", folder=tmp_path).returncode == OK
    assert tomllib.loads(mcp_edge("init", folder=tmp_path).stdout) == tomllib.loads(text)


def test_what_init_writes_serves_this_host(tmp_path: Path) -> None:
    text = mcp_edge("init", folder=tmp_path).stdout
    values = tomllib.loads(text)
    for table in ("gateway", "admin"):
        text = re.sub(rf"(?m)^\[{table}\]$", f'[{table}]\nlisten = "127.0.0.1:0"', text)
        assert "listen" not in values.get(table, {}), "the template leaves the address to its default"
    with running(text) as appliance:
        assert any(line.startswith("  server    host: ") for line in appliance.output)
        assert "0 tools" not in " ".join(appliance.output)


def test_help_and_version(tmp_path: Path) -> None:
    overview = mcp_edge("help", folder=tmp_path)
    assert (overview.returncode, overview.stderr) == (OK, "")
    for topic in ("run", "config"):
        page = mcp_edge("help", topic, folder=tmp_path)
        assert (page.returncode, page.stderr) == (OK, "")
        assert topic in page.stdout
    assert mcp_edge("help", "nothing", folder=tmp_path).returncode == USAGE
    for words in (["version"], ["--version"]):
        assert re.fullmatch(r"mcp-edge \d+\.\d+\S*\n", mcp_edge(*words, folder=tmp_path).stdout)
    as_json = mcp_edge("version", "--json", folder=tmp_path)
    assert json.loads(as_json.stdout)["name"] == "mcp-edge"
