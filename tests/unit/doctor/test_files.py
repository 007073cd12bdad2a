"""Files: modes, dates and directories, each with what to do about it."""

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trustme

from edge.config.load import load
from edge.config.model import StdioServerConfig
from edge.doctor.commands import interpreter_of, look_at_command
from edge.doctor.files import file_checks, look_at_disk
from edge.doctor.finding import Finding, Report, examine


def checked(text: str, path: Path | None, env: Mapping[str, str] | None = None) -> list[Finding]:
    env = env or {}
    config = load(text, env=env, read_secret=lambda name: Path(name).read_text(), source="c.toml")
    checks = list(file_checks(config, tomllib.loads(text), path, env, None))
    return trio.run(lambda: examine(checks, timeout_s=5))


def about(found: list[Finding], subject: str) -> list[tuple[str, str, str]]:
    return [(each.level, each.text, each.advice) for each in found if each.subject == subject]


def test_a_config_that_anybody_can_change_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    path.chmod(0o640)
    assert about(checked("", path), str(path)) == [("ok", "mode 640", "")]
    path.chmod(0o666)
    assert about(checked("", path), str(path)) == [
        ("problem", "everyone on this machine can change it, and so run commands as us", f"chmod o-w {path}")
    ]


def test_a_config_with_a_secret_in_it_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    path.chmod(0o644)
    plain = '[servers.x]\ncommand = ["x"]\nenv = { API_TOKEN = "hunter2" }\n'
    said = [("problem", "holds secrets, and everyone on this machine can read it", f"chmod 600 {path}")]
    assert about(checked(plain, path), str(path)) == said
    assert about(checked("insecure_plain_secrets = true", path), str(path)) == said
    good = plain.replace("hunter2", "${KEY}")
    assert about(checked(good, path, {"KEY": "hunter2"}), str(path)) == [("ok", "mode 644", "")]


@pytest.mark.parametrize(
    ("mode", "level", "text"),
    [
        (0o600, "ok", "{path}, mode 600"),
        (0o640, "ok", "{path}, mode 640"),
        (0o644, "problem", "everyone on this machine can read this secret ({path}, mode 644)"),
        (0o660, "problem", "others can change this secret ({path}, mode 660)"),
    ],
)
def test_a_secret_is_for_its_owner(mode: int, level: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hunter2")
    path.chmod(mode)
    config = f'[servers.plc]\nurl = "http://127.0.0.1:1/mcp"\nbearer_file = "{path}"\n'
    advice = "" if level == "ok" else f"chmod 600 {path}"
    assert about(checked(config, None), "servers.plc.bearer_file") == [
        (level, text.format(path=path), advice)
    ]


def test_a_credential_is_looked_for_where_systemd_puts_it(tmp_path: Path) -> None:
    (tmp_path / "plc").write_text("x")
    (tmp_path / "plc").chmod(0o400)
    config = '[servers.plc]\nurl = "http://127.0.0.1:1/mcp"\nbearer_credential = "plc"\n'
    found = checked(config, None, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert about(found, "servers.plc.bearer_credential") == [("ok", f"{tmp_path}/plc, mode 400", "")]


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("begins", "ends", "level", "text", "advice"),
    [
        (-9, -1, "problem", "expired on", "renew it, and start mcp-edge anew"),
        (1, 90, "problem", "is good only from", "is this machine's clock right?"),
        (-9, 9, "warning", "expires on", "renew it soon"),
        (-9, 90, "ok", "is good until", ""),
    ],
)
def test_a_certificate_is_judged_by_its_dates(
    begins: int, ends: int, level: str, text: str, advice: str, tmp_path: Path
) -> None:
    issued = trustme.CA().issue_cert(
        "localhost", not_before=NOW + timedelta(days=begins), not_after=NOW + timedelta(days=ends)
    )
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    config = f'[gateway]\ntls = {{ cert = "{cert}", key = "{key}" }}\n'
    of_key, of_cert = about(checked(config, None), "gateway.tls")
    assert of_key == ("ok", f"{key}, mode 600", "")
    assert (of_cert[0], of_cert[2]) == (level, advice)
    assert of_cert[1].startswith(f"{cert} {text}")


def test_the_directory_of_a_unix_socket_has_to_be_there(tmp_path: Path) -> None:
    here, gone = f"unix:{tmp_path}/a", f"unix:{tmp_path}/gone/b"
    found = checked(f'[gateway]\nlisten = ["{here}", "{gone}"]\n', None)
    assert about(found, here) == [("ok", f"{tmp_path} can be written to", "")]
    assert about(found, gone) == [
        (
            "problem",
            f"the directory {tmp_path}/gone does not exist",
            "make it, or RuntimeDirectory= in the unit",
        )
    ]


def test_a_full_disk_is_a_problem(tmp_path: Path) -> None:
    report = Report("files", "disk")
    look_at_disk(report, tmp_path, min_free_bytes=1 << 80)
    (found,) = report.findings
    assert (found.level, found.advice) == ("problem", "make room: logs and servers cannot write")


def looked_at(command: str, tmp_path: Path) -> tuple[str, str, str]:
    report = Report("commands", "x")
    server = StdioServerConfig(name="x", command=(command,), env={"PATH": str(tmp_path)})
    look_at_command(report, server, {})
    (found,) = report.findings
    return found.level, found.text, found.advice


def script(path: Path, first: str, mode: int = 0o755) -> Path:
    path.write_text(f"{first}\n")
    path.chmod(mode)
    return path


def test_a_command_is_looked_for_on_the_path_that_its_child_gets(tmp_path: Path) -> None:
    path = script(tmp_path / "server", "#!/bin/sh -e")
    assert looked_at("server", tmp_path) == ("ok", f"{path}, run by /bin/sh", "")
    level, text, advice = looked_at("nothere", tmp_path)
    assert (level, text) == (
        "problem",
        "the command nothere was not found, or is not executable, in PATH (1 folder)",
    )
    assert "write its whole path" in advice


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("#!/nowhere/python", "the command /nowhere/python does not exist"),
        ("#!/usr/bin/env -S nopython -u", "the command nopython was not found"),
    ],
)
def test_a_script_whose_interpreter_is_missing_is_a_problem(first: str, said: str, tmp_path: Path) -> None:
    path = script(tmp_path / "server", first)
    level, text, advice = looked_at("server", tmp_path)
    assert level == "problem"
    assert text.startswith(f"the first line of {path} names an interpreter that cannot be run: {said}")
    assert advice == "install it, or name the interpreter in command"


def test_a_command_that_is_not_executable_is_a_problem(tmp_path: Path) -> None:
    path = script(tmp_path / "server", "", 0o644)
    assert looked_at(str(path), tmp_path) == (
        "problem",
        f"the command {path} is not executable",
        "try chmod +x",
    )


def test_a_program_has_no_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF")
    assert interpreter_of(str(path)) is None
    path.write_bytes(b"#!\n")
    assert interpreter_of(str(path)) is None


def test_the_token_for_reloads_is_looked_at_too(tmp_path: Path) -> None:
    token = tmp_path / "reload.token"
    token.write_text("hunter2hunter2hunter2")
    token.chmod(0o644)
    found = about(checked(f'[admin]\nreload_token_file = "{token}"\n', None), "admin.reload_token_file")
    assert [level for level, _, _ in found] == ["problem"]
