"""What is shipped beside the archive, looked at with the tools that will use it."""

import json
import re
import subprocess
from pathlib import Path

import deb
import manpages
import pytest
import roff

from edge.cli.main import main
from tests.support.containerfile import OCI, containerfile
from tests.support.manual import PAGES
from tests.support.peers import ROOT, requires

DIST = ROOT / "dist"
SCRIPTS = sorted((ROOT / "packaging" / "deb").glob("p*"))
INSTRUCTIONS = {
    "FROM", "RUN", "COPY", "ENV", "VOLUME", "WORKDIR", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
    "CMD",
}  # fmt: skip


@requires("groff")
@pytest.mark.parametrize("topic", PAGES)
def test_groff_has_no_remark_on_any_page(topic: str) -> None:
    text = roff.page(f"mcp-edge-{topic}", 7, "what", roff.converted(PAGES[topic]), version="1")
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > len(PAGES[topic]) / 2


@requires("groff", "pyz")
def test_the_page_of_the_command_has_all_commands(tmp_path: Path) -> None:
    manpages.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "mcp-edge.1",
        "mcp-edge.toml.5",
        "mcp-edge-systemd.7",
    }
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbou", tmp_path / "mcp-edge.1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    for command in ("run", "connect", "validate", "health", "init", "help", "version"):
        assert re.search(rf"(?m)^   mcp-edge {command}$", done.stdout), command


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_scripts_of_the_package_are_shell_that_stops_at_the_first_failure(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/bin/sh"
    assert "set -e" in lines
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0


def test_there_are_the_three_scripts() -> None:
    assert [script.name for script in SCRIPTS] == sorted(deb.SCRIPTS)


@requires("pyz")
def test_two_packages_are_the_same_bytes_and_times_are_those_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (deb.make(tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one == two
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert deb.make(tmp_path / "three").read_bytes() != one


@requires("pyz")
def test_the_config_in_the_package_is_good_and_has_no_name_of_the_building_machine() -> None:
    text = manpages.ask(deb.ASK_FOR_CONFIG)
    assert 'name = ""' in text
    assert 'command = ["/usr/bin/mcp-edge", "host-server"]' in text


@requires("pyz")
def test_sums_and_bill_of_materials_are_those_of_the_archive() -> None:
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=DIST,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "mcp-edge.pyz: OK" in checked.stdout
    bill = json.loads((DIST / "mcp-edge.cdx.json").read_text())
    (line,) = [
        line for line in (DIST / "SHA256SUMS").read_text().splitlines() if line.endswith("mcp-edge.pyz")
    ]
    assert bill["metadata"]["component"]["hashes"][0]["content"] == line.split()[0]
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "build/lock/runtime.txt").read_text(), re.MULTILINE))
    assert {each["purl"].split("/")[1].split("@")[0] for each in bill["components"]} == {
        re.sub(r"[-_.]+", "-", name).lower() for name in locked
    }


def test_the_containerfile_has_known_instructions_and_sources_that_are_there() -> None:
    instructions = containerfile()
    assert {name for name, _ in instructions} <= INSTRUCTIONS
    assert instructions[0][0] == "FROM"
    for name, rest in instructions:
        if name == "COPY":
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            assert sources == ["dist/mcp-edge.pyz"]


def test_the_container_is_not_roots_and_tells_its_health() -> None:
    found = dict(containerfile())
    assert found["USER"].split(":")[0].isdigit()
    assert found["USER"].split(":")[0] != "0"
    assert json.loads(found["HEALTHCHECK"].partition("CMD ")[2]) == ["mcp-edge", "health"]
    assert [json.loads(found[name]) for name in ("ENTRYPOINT", "CMD")] == [["mcp-edge"], ["run"]]


def test_the_configs_of_the_compose_file_are_good(tmp_path: Path) -> None:
    text = (OCI / "compose.yaml").read_text().replace("${EDGE_TOKEN_SHA256}", "ab" * 32)
    contents = re.findall(r"^  (\w+):\n    content: \|\n((?:      .*\n)+)", text, re.MULTILINE)
    assert [name for name, _ in contents] == ["hub", "edge"]
    token = tmp_path / "edge.token"
    token.write_text("x" * 32)
    for name, content in contents:
        file = tmp_path / f"{name}.toml"
        toml = re.sub(r"^ {6}", "", content, flags=re.MULTILINE)
        file.write_text(toml.replace("/run/secrets/edge.token", str(token)))
        assert main(["validate", "-c", str(file)]) == 0


def test_the_package_names_no_mailbox_that_is_somebody_elses() -> None:
    fields = deb.control("1", {})["control"].content
    assert fields is not None
    maintainer = re.search(r"(?m)^Maintainer: (.*)$", fields.decode())
    assert maintainer is not None
    assert maintainer[1] == "The mcp-edge developers <mcp-edge@localhost>"
    assert f" -- {maintainer[1]}  " in deb.changelog("1", 0)
    assert "@" not in fields.decode().replace(maintainer[1], "")


def test_what_the_package_rotates_is_where_the_manual_says_that_a_log_file_goes() -> None:
    rotated = (ROOT / "packaging" / "deb" / "logrotate").read_text()
    said = re.search(r"StandardError=append:(\S+)", PAGES["logs"])
    assert said is not None
    assert f"#   {said[0]}\n" in rotated
    assert re.search(r"(?m)^(/.*) \{$", rotated)[1] == f"{Path(said[1]).parent}/*.log"  # type: ignore[index]  # it is there
