"""`mcp-edge doctor`: findings as lines and JSON, without secrets, and what it exits with."""

import argparse
import json
from pathlib import Path

import pytest

from edge.cli.cmd_doctor import line_of, tell
from edge.cli.main import main
from edge.doctor.finding import Finding
from edge.redaction import Redactor

FOUND = [
    Finding("servers", "servers.git", "ok", "MCP 2025-11-25: 3 tools", took_s=0.1234),
    Finding("files", "token", "problem", "it says hunter2\x1b[31m\nand more", "chmod 600 it"),
]


@pytest.fixture
def redactor() -> Redactor:
    made = Redactor()
    made.redact(["hunter2"])
    return made


def test_a_finding_is_one_line_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert line_of(FOUND[0]) == "ok       servers   servers.git: MCP 2025-11-25: 3 tools (123 ms)"
    assert line_of(FOUND[1]) == "problem  files     token: it says hunter2\\x1b[31m and more; chmod 600 it"


def test_secrets_are_not_told_and_the_last_line_counts(
    redactor: Redactor, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(FOUND, None, redactor, argparse.Namespace(json=False))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "problem  files     token: it says ***\\x1b[31m and more; chmod 600 it"
    assert lines[-1] == "1 problem, 0 warnings, 1 good"


def test_everything_is_in_the_json(redactor: Redactor, capsys: pytest.CaptureFixture[str]) -> None:
    tell(FOUND, Path("/c.toml"), redactor, argparse.Namespace(json=True))
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["config"], told["problems"], told["warnings"]) == (False, "/c.toml", 1, 0)
    assert told["findings"][0] == {
        "section": "servers",
        "subject": "servers.git",
        "level": "ok",
        "text": "MCP 2025-11-25: 3 tools",
        "advice": "",
        "took_s": 0.123,
    }
    assert "hunter2" not in json.dumps(told)


def test_a_config_that_does_not_load_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("x = 1\n")
    assert main(["doctor", "-c", str(path)]) == 78
    shown = capsys.readouterr().out
    assert f"problem  config    {path}:1: x: unknown key; `mcp-edge help config`" in shown
    assert "ok       system    python: " in shown


def test_what_is_unwise_in_a_good_config_is_a_warning_and_exits_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        'insecure_plain_secrets = true\n[gateway]\nlisten = "127.0.0.1:0"\n[admin]\nenabled = false\n'
    )
    path.chmod(0o600)
    assert main(["doctor", "-c", str(path), "--offline"]) == 0
    shown = capsys.readouterr().out
    assert (
        f"warning  config    {path}:1: insecure_plain_secrets: secrets may stand in the config file" in shown
    )
    assert f"warning  config    {path}: servers: there is none" in shown


def test_a_time_that_is_none_is_wrong_usage() -> None:
    assert main(["doctor", "--timeout-s", "0"]) == 64
