"""Health that is earned, through the built .pyz: servers that live and say nothing, and who asks about them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.appliance import Appliance, running, toml_list
from tests.support.peers import PYZ, ROOT, requires
from tests.support.processes import eventually

pytestmark = [
    requires("pyz"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc, which Linux has"),
]
TOY = ROOT / "tests" / "support" / "toy_server.py"


def toy(*switches: str, **settings: Any) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(
        ["[servers.toy]", f"command = {toml_list([sys.executable, TOY, *switches])}", *lines, ""]
    )


def record(appliance: Appliance) -> dict[str, Any]:
    (found,) = appliance.health()["servers"]
    assert isinstance(found, dict)
    return found


def in_state(appliance: Appliance, state: str) -> dict[str, Any]:
    def is_so() -> dict[str, Any]:
        found = record(appliance)
        return found if found["state"] == state else {}

    return eventually(is_so, lambda: f"{record(appliance)}")


def check(appliance: Appliance, folder: Path, *options: str) -> tuple[int, str]:
    """`mcp-edge health`: exit code and output."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(PYZ), "health", "--url", appliance.admin, *options],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_server_whose_tools_are_never_listed_is_not_ready_with_no_tools(tmp_path: Path) -> None:
    with running(toy("mute=tools/list", start_timeout_s=0.5)) as appliance:
        found = in_state(appliance, "degraded")
        assert found["reason"] == "tools/list: no answer in 0.5 s"
        code, said = check(appliance, tmp_path)
        assert (code, said.count("\n")) == (0, 1)
        assert said.startswith("DEGRADED - ")
        assert "tools/list: no answer in 0.5 s" in said
        # What it does answer is there all the same.
        prompts = {"jsonrpc": "2.0", "id": 1, "method": "prompts/list"}
        assert "toy__hello" in appliance.request("POST", appliance.endpoint, prompts).body.decode()


def test_a_server_that_lives_and_answers_nothing_more_is_found_out_by_asking(tmp_path: Path) -> None:
    with running(toy("deaf", probe_s=0.5)) as appliance:
        pid = record(appliance)["pid"]
        assert record(appliance)["state"] == "ready"
        found = in_state(appliance, "degraded")
        assert found["last_error"].startswith("no answer to ping in 10 s")
        eventually(lambda: record(appliance).get("pid") not in (None, pid))


def test_a_server_that_is_down_says_when_it_is_tried_again(tmp_path: Path) -> None:
    table = toy("exit=3").rstrip() + "\nrestart = { first_s = 500, limit_s = 1000 }\n"
    with running(table) as appliance:
        found = in_state(appliance, "degraded")
        assert 0 < found["next_attempt_in_s"] <= found["backoff_s"] <= 1000
        assert check(appliance, tmp_path)[0] == 0
        code, said = check(appliance, tmp_path, "--nagios")
        assert code == 1
        assert said.startswith("WARNING - ")
        assert " | servers=0;;;0;1 sessions=0;;;0 uptime=" in said


def test_health_says_which_config_is_in_force(tmp_path: Path) -> None:
    with running(toy()) as appliance:
        config = appliance.health()["config"]
        assert config["source"].endswith("config.toml")
        assert config["last_reload_ok"] is None
        verbose = appliance.request("GET", f"{appliance.admin}/readyz?verbose").body.decode()
        assert verbose.splitlines()[-1].startswith("[+] config in force for ")
