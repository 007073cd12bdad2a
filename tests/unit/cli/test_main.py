"""Commands from their arguments to words and exit codes."""

import errno
import io
import json
import os
import stat
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge import __version__
from edge.cli.arguments import COMMANDS
from edge.cli.cmd_health import Place, nobody_at
from edge.cli.configfile import SYSTEM_CONFIG
from edge.cli.main import find_command, main, report
from edge.cli.output import OutputFailed, hiding
from edge.errors import ConfigError, Problem

GOOD = 'servers.git = { command = ["sh", "--token=x"], required = true }\nservers.plc.url = "http://plc/mcp?k=v"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    return path


def test_the_traceback_of_a_bug_has_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hiding, "clean", lambda text: text.replace("hunter2", "***"))
    assert report(ExceptionGroup("x", [ValueError("with hunter2")])) == 70
    said = capsys.readouterr().err
    assert said.count("with ***") == 2
    assert "hunter2" not in said


@pytest.mark.parametrize("argv", [["version"], ["--version"]])
def test_version_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert capsys.readouterr().out == f"mcp-edge {__version__}\n"


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["version"]) == ("mcp-edge", __version__)


def test_the_arguments_are_those_of_the_process_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mcp-edge", "version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("mcp-edge ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url"], "argument --url: expected one argument"),
        (["--timeout-s", "0"], "argument --timeout-s: invalid seconds value: '0'"),
        (["--verbos"], "unrecognized arguments: --verbos; did you mean --verbose?"),
    ],
)
def test_a_nagios_check_that_is_called_wrongly_is_unknown_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", "--nagios", *words]) == 3
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (f"UNKNOWN - wrong usage: {said}\n", "")


def test_wrong_usage_is_64_with_a_sentence_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vallidate"]) == 64
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("mcp-edge: there is no command vallidate; did you mean validate?\nusage: ")


def test_what_was_typed_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["\x1b[31m"]) == 64
    assert "\x1b" not in capsys.readouterr().err


def test_help_of_a_command_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_a_good_config_is_summed_up(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-c", str(config)]) == 0
    assert capsys.readouterr().out == (
        f"{config}: good\n"
        "  endpoint  http://127.0.0.1:8766  /mcp\n"
        "  admin     http://127.0.0.1:9766\n"
        "  server    git  (stdio: sh, required)\n"
        "  server    plc  (http: http://plc/mcp)\n"
    )


def test_a_good_config_is_summed_up_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-c", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "config": str(config),
        "problems": [],
        "warnings": [],
        "summary": {
            "gateway": {"listen": ["127.0.0.1:8766"], "path": "/mcp"},
            "admin": "127.0.0.1:9766",
            "servers": [
                {"name": "git", "kind": "stdio", "address": "sh", "required": True},
                {"name": "plc", "kind": "http", "address": "http://plc/mcp", "required": False},
            ],
            "uplinks": [],
            "hub": None,
        },
    }


LINKED = f"""name = "box"
gateway.enabled = false
servers.git.command = ["sh"]
servers.plc.command = ["sh"]
hub.listen = "127.0.0.1:8443"
hub.dialects = ["contextforge"]
hub.jwt.secret_env = "JWT_SECRET"
hub.edges.plant-7.token_sha256 = "{"1" * 64}"
uplinks.cf = {{ dialect = "contextforge", url = "wss://hq?key=${{QUERY}}", publish = "all" }}
uplinks.hq = {{ dialect = "long-poll", url = "https://hq/x", servers = ["plc"] }}
"""


@pytest.fixture
def linked(config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JWT_SECRET", "s" * 32)
    monkeypatch.setenv("QUERY", "not-to-be-seen")
    config.write_text(LINKED)
    return config


def test_uplinks_and_the_hub_are_summed_up(linked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-c", str(linked)]) == 0
    assert capsys.readouterr().out == (
        f"{linked}: good\n"
        "  endpoint  off\n"
        "  admin     http://127.0.0.1:9766\n"
        "  server    git  (stdio: sh)\n"
        "  server    plc  (stdio: sh)\n"
        "  uplink    cf  (contextforge: wss://hq)  as box\n"
        "  uplink    hq  (long-poll: https://hq/x)  as box-plc\n"
        "  hub       http://127.0.0.1:8443  (contextforge; edges: 1 by token, jwt)\n"
    )


def test_uplinks_and_the_hub_are_summed_up_as_json(linked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-c", str(linked), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["gateway"] is None
    assert summary["uplinks"] == [
        {"name": "cf", "dialect": "contextforge", "url": "wss://hq", "links": ["box"]},
        {"name": "hq", "dialect": "long-poll", "url": "https://hq/x", "links": ["box-plc"]},
    ]
    assert summary["hub"] == {
        "listen": ["127.0.0.1:8443"],
        "dialects": ["contextforge"],
        "edges": ["plant-7"],
        "asks": ["jwt"],
    }


def test_sockets_and_an_admin_listener_that_is_off_are_shown_as_they_are(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text('gateway.listen = "unix:/x"\nadmin.enabled = false\n')
    assert main(["validate", "-c", str(config)]) == 0
    shown = capsys.readouterr().out
    assert "  endpoint  unix:/x  /mcp\n  admin     off\n" in shown
    assert f"warning: {config}: servers: there is none" in shown
    config.write_text('admin.listen = "unix:/x"\n')
    assert main(["validate", "-c", str(config)]) == 0
    assert "  admin     unix:/x\n" in capsys.readouterr().out


def test_a_bad_config_is_78_with_every_problem(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("nam = 'x'\ngateway.path = 'x'\n")
    assert main(["validate", "-c", str(config)]) == 78
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{config}:1: nam: unknown key; did you mean name?"
    assert lines[1].startswith(f"{config}:2: gateway.path: must be a path")
    assert lines[2] == f"{config}: 2 problems"
    config.write_text("nam = 'x'\n")
    assert main(["validate", "-c", str(config)]) == 78
    assert capsys.readouterr().out.endswith(f"{config}: 1 problem\n")


def test_a_bad_config_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("nam = 'x'\n")
    assert main(["validate", "-c", str(config), "--json"]) == 78
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"] is False
    assert shown["problems"] == [{"place": f"{config}:1: nam", "text": "unknown key; did you mean name?"}]


def test_a_problem_of_an_option_says_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["connect", "--stdio", "x", "--to", "http://hub", "--token-file", "/nowhere.token"]
    assert main(words) == 78
    assert capsys.readouterr().err.startswith("mcp-edge: --token-file: cannot read /nowhere.token: ")


def test_the_config_is_found_by_the_variable(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCP_EDGE_CONFIG", str(config))
    assert main(["validate"]) == 0
    assert f"{config}: good" in capsys.readouterr().out


@pytest.mark.skipif(SYSTEM_CONFIG.exists(), reason=f"{SYSTEM_CONFIG} is there")
def test_no_config_is_good_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MCP_EDGE_CONFIG", raising=False)
    assert main(["validate"]) == 0
    assert "no config file (looked for /etc/mcp-edge/config.toml, " in capsys.readouterr().out
    assert main(["validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] is None


def test_init_writes_a_config_that_is_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "mcp-edge.pyz"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    path = tmp_path / "new" / "config.toml"
    assert main(["init", "-o", str(path)]) == 0
    assert capsys.readouterr().out == (
        f"wrote {path}\ncheck it with:  {program} validate -c {path}\n"
        f"start with:     {program} run -c {path}\n"
        f"if it will not: {program} doctor -c {path}\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["config.toml"]
    assert main(["validate", "-c", str(path)]) == 0
    assert tomllib.loads(path.read_text())["servers"]["host"]["command"][-1] == "host-server"


def test_init_replaces_a_file_only_if_told_and_keeps_its_mode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text("mine")
    path.chmod(0o600)
    assert main(["init", "-o", str(path)]) == 64
    assert "--force replaces it" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert main(["init", "-o", str(path), "--force"]) == 0
    assert path.read_text().startswith("# mcp-edge")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_init_says_why_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["init", "-o", str(tmp_path / "file" / "config.toml")]) == 69
    assert "config.toml: Not a directory" in capsys.readouterr().err


def test_init_without_a_file_prints_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["name"] == os.uname().nodename


def test_commands_are_looked_for_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["init"]) == 0
    shown = capsys.readouterr().out
    assert '\n#command = ["uvx", "mcp-server-git"]' in shown
    (tmp_path / "pipx").touch(mode=0o755)
    assert main(["init"]) == 0
    shown = capsys.readouterr().out
    assert f'\n#command = ["{tmp_path}/pipx", "run", "mcp-server-git"]' in shown


def test_help_lists_commands_and_topics(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    shown = capsys.readouterr().out
    for word in (
        *COMMANDS,
        "start",
        "config",
        "servers",
        "endpoint",
        "health",
        "security",
        "troubleshooting",
    ):
        assert f"  {word} " in shown
    assert shown.index("  start ") < shown.index("  security ")


def test_help_prints_a_topic(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "config"]) == 0
    assert capsys.readouterr().out.startswith("# The config file")


def test_help_knows_the_commands_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "validate"]) == 0
    assert capsys.readouterr().out.startswith("usage: mcp-edge validate")


def test_an_unknown_topic_is_64_with_a_suggestion_and_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "confg"]) == 64
    shown = capsys.readouterr().err
    assert shown.startswith("mcp-edge: there is no topic confg; did you mean config?\n  start ")
    assert main(["help", "zzz"]) == 64
    assert capsys.readouterr().err.startswith("mcp-edge: there is no topic zzz\n")


def test_a_bug_is_70_with_one_line_and_the_traceback_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise RuntimeError("out\nof order")

    monkeypatch.setattr(sys, "stdout", Broken())
    assert main(["version"]) == 70
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):")
    assert shown.endswith("mcp-edge: internal error: RuntimeError: out of order\n")


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdout", Interrupted())
    assert main(["version"]) == 130


def test_a_config_error_from_deep_inside_is_still_78(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ConfigError([Problem("gateway.tls.cert", "cannot be read"), Problem("", "and more")])
    assert report(ExceptionGroup("", [ExceptionGroup("", [wrong])])) == 78
    assert capsys.readouterr().err == "gateway.tls.cert: cannot be read\nand more\n"
    assert report(ExceptionGroup("", [wrong, KeyError("x")])) == 70


def test_a_reader_that_has_left_is_no_error(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["help", "config"]) == 0
    config.write_text("nam = 1")
    assert main(["validate", "-c", str(config)]) == 78


def test_nothing_is_left_to_write_when_a_pipe_is_closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["help", "config"]) == 0
        stream.write("what the interpreter flushes at its end")


def test_a_closed_stdout_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["version"]) == 0


@pytest.mark.parametrize(
    ("env", "is_terminal", "is_coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colours_only_on_a_terminal_that_wants_them(
    env: dict[str, str], is_terminal: bool, is_coloured: bool, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["validate", "-c", str(config)]) == 0
    assert ("\x1b[32m" in stream.getvalue()) is is_coloured


def test_a_terminal_without_utf_8_gets_escapes(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    raw = io.BytesIO()
    stream: Any = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    config.write_text('"ä" = 1')
    assert main(["validate", "-c", str(config)]) == 78
    assert b'"\\xe4": unknown key' in raw.getvalue()


def test_only_known_commands_have_a_function() -> None:
    for name in ("validate", "init", "help", "version"):
        assert callable(find_command(name))
    with pytest.raises(AssertionError, match="the argument tree knows nothing"):
        find_command("nothing")


def test_that_nobody_answers_is_said_in_plain_words() -> None:
    place = Place("http://127.0.0.1:9", "", "http://127.0.0.1:9")
    for exc in (
        ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)),
        httpx.ConnectError("[Errno 111] Connection refused"),
    ):
        assert str(nobody_at(place, exc)) == (
            "nothing answers at http://127.0.0.1:9 (connection refused); "
            "is mcp-edge running, with this [admin] listen?"
        )


@pytest.mark.parametrize("argv", [["version"], ["help", "config"], ["--help"], ["help", "run"], ["init"]])
def test_a_full_disk_behind_stdout_is_one_line_and_70(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(argv) == 70
        stream.write("what the interpreter flushes at its end")
    assert capsys.readouterr().err == "mcp-edge: cannot write to stdout: No space left on device\n"


def test_a_full_disk_behind_stderr_is_not_told_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(["vallidate"]) == 64


def test_output_that_failed_deep_inside_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ExceptionGroup("", [OutputFailed("cannot write to stdout: why")])) == 70
    assert capsys.readouterr().err == "mcp-edge: cannot write to stdout: why\n"
