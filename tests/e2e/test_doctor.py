"""`mcp-edge doctor` as built: beside a running edge and hub, with a wrong token, and what it exits with."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.appliance import Appliance, running
from tests.support.links import DIALECTS, Site, site, toy_server, until_edge
from tests.support.peers import PYZ, requires
from tests.support.processes import descendants

pytestmark = requires("pyz")


def doctor(
    config: Path | None, *options: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = [] if config is None else ["-c", str(config)]
    clean = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent", **(env or {})}
    return subprocess.run(
        [sys.executable, "-I", "-S", str(PYZ), "doctor", *words, *options],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean,
        check=False,
    )


def findings(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return found


def about(done: subprocess.CompletedProcess[str], subject: str) -> list[dict[str, Any]]:
    return [each for each in findings(done) if each["subject"] == subject]


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site() as found:
        yield found


@pytest.fixture(scope="module")
def hub(place: Site) -> Iterator[Appliance]:
    with place.hub("box") as found:
        yield found


def edge_config(place: Site, hub: Appliance, dialect: str, token_file: Path) -> str:
    paths = {"contextforge": "", "mcp-reverse": "/mcp-reverse", "long-poll": ""}
    return (
        f'name = "box"\n[gateway]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n{toy_server()}'
        f'[uplinks.hq]\ndialect = "{dialect}"\nurl = "{hub.hub}{paths[dialect]}"\ntoken_file = "{token_file}"\n'
        f'publish = "all"\ntls = {{ ca_file = "{place.ca}" }}\n'
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_link_is_tried_without_disturbing_the_one_that_is_up(
    place: Site, hub: Appliance, dialect: str, tmp_path: Path
) -> None:
    with place.edge("box", hub, dialect, servers=toy_server()) as edge:
        until_edge(hub, "box")
        config = tmp_path / "config.toml"
        config.write_text(edge_config(place, hub, dialect, place.token_file("box")))
        done = doctor(config, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        texts = [each["text"] for each in about(done, "uplinks.hq")]
        assert texts[-1] == "the hub has let us in"
        assert any("TLS with" in text for text in texts)
        (link,) = edge.health()["uplinks"]
        assert (link["state"], link["restarts"]) == ("ready", 0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_wrong_token_is_told_with_what_to_do(
    place: Site, hub: Appliance, dialect: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2-hunter2")
    token.chmod(0o600)
    config = tmp_path / "config.toml"
    config.write_text(edge_config(place, hub, dialect, token))
    done = doctor(config)
    assert done.returncode == 69
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("problem ")]
    assert line.startswith("problem  uplinks   uplinks.hq: ")
    assert "401" in line
    assert "token" in line.partition("; ")[2]
    assert "hunter2" not in done.stdout + done.stderr


def test_a_name_that_is_not_its_own_is_the_hubs_to_refuse(
    place: Site, hub: Appliance, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    text = edge_config(place, hub, "mcp-reverse", place.token_file("box"))
    config.write_text(text.replace('name = "box"', 'name = "another"'))
    done = doctor(config)
    assert done.returncode == 69
    assert "problem  uplinks   uplinks.hq: " in done.stdout


def test_our_own_running_process_is_no_problem(tmp_path: Path) -> None:
    with running(f'name = "box"\n{toy_server()}') as appliance:
        config = tmp_path / "config.toml"
        addresses = [
            url.removeprefix("http://").partition("/")[0] for url in (appliance.endpoint, appliance.admin)
        ]
        config.write_text(
            f'{toy_server()}[gateway]\nlisten = "{addresses[0]}"\n[admin]\nlisten = "{addresses[1]}"\n'
        )
        done = doctor(config, "--json")
        assert done.returncode == 0, done.stdout
        for subject, address in zip(("gateway.listen", "admin.listen"), addresses, strict=True):
            (each,) = about(done, subject)
            assert each["text"] == f"{address} is in use by mcp-edge itself, which runs as box"


def test_somebody_elses_port_is_a_problem_with_the_name_of_the_program(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        config = tmp_path / "config.toml"
        config.write_text(
            f'{toy_server()}[gateway]\nlisten = "127.0.0.1:{port}"\n[admin]\nlisten = "127.0.0.1:0"\n'
        )
        done = doctor(config)
    assert done.returncode == 69
    assert f"gateway.listen: 127.0.0.1:{port} is in use by process {os.getpid()} (" in done.stdout


def test_a_config_that_does_not_load_is_78_with_every_problem(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[gateway]\nlisten = 3\n[servers.x]\nurl = "ftp://h"\n')
    done = doctor(config, "--json")
    assert done.returncode == 78
    told = json.loads(done.stdout)
    assert (told["ok"], told["problems"]) == (False, 2)
    assert [each["subject"] for each in told["findings"] if each["section"] == "config"] == [
        f"{config}:2: gateway.listen",
        f"{config}:4: servers.x.url",
    ]


def test_offline_calls_nobody_and_still_starts_servers(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'{toy_server()}[servers.far]\nurl = "https://nowhere.invalid/mcp"\n[gateway]\nlisten = "127.0.0.1:0"\n'
        '[admin]\nlisten = "127.0.0.1:0"\n[uplinks.hq]\ndialect = "long-poll"\nurl = "https://nowhere.invalid"\n'
    )
    done = doctor(config, "--offline")
    assert done.returncode == 0, done.stdout
    assert "ok       servers   servers.toy: MCP 2025-11-25: 15 tools" in done.stdout
    assert "nowhere.invalid" not in done.stdout


def test_the_built_in_default_is_examined_without_a_config() -> None:
    done = doctor(None, "--offline", "--json")
    texts = [each["text"] for each in about(done, "servers.host")]
    assert any(text.startswith("MCP 2025-11-25: ") for text in texts), done.stdout


def test_no_secret_and_no_process_is_left(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    secret = tmp_path / "secret"
    secret.write_text("hunter2-hunter2")
    config = tmp_path / "config.toml"
    config.write_text(
        f'{toy_server("toy", "exit=3", "stderr=the token is hunter2-hunter2")}env = {{ API_TOKEN = "${{KEY}}" }}\n'
        f'[servers.plc]\nurl = "http://127.0.0.1:1/mcp?token=${{KEY}}"\nbearer_file = "{secret}"\n'
        '[gateway]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
    )
    for options in ([], ["--json"]):
        done = doctor(config, *options, env={"KEY": "hunter2-hunter2"})
        assert done.returncode == 69
        assert "hunter2" not in done.stdout + done.stderr
        assert "everyone on this machine can read this secret" in done.stdout
    assert descendants(os.getpid()) == before
