"""The Debian package in a real Debian: installed, used, stopped, upgraded, removed, purged."""

import re
from pathlib import Path

import pytest

from tests.support.calling import ADMIN, call, get
from tests.support.peers import PEERS, node, requires
from tests.support.service import CONFIG, SOCKET, UNIT, drop_in, eventually, install, put
from tests.support.systemd_sandbox import Box, booted
from tests.systemd.conftest import NEXT_VERSION

HOST_TOOLS = ("overview", "memory", "disks", "network", "processes", "failed_units")
PLACES = ("/etc", "/usr", "/var", "/run", "/root", "/home", "/tmp", "/opt", "/srv")


def left_over(box: Box) -> list[str]:
    """Files and directories of ours, of any owner."""
    return box.out(
        "find", *PLACES, "-xdev", "-name", "*mcp-edge*", "-not", "-path", "/root/mcp-edge.deb"
    ).splitlines()


def users_processes(box: Box) -> list[str]:
    return [line for line in box.processes("mcp-edge") if "dpkg" not in line]


def test_it_is_up_at_once_and_after_each_boot_and_answers(as_installed: Box) -> None:
    assert as_installed.out("systemctl", "is-enabled", UNIT) == "enabled"
    assert as_installed.out("mcp-edge", "health").splitlines()[0].startswith("OK - ")
    assert as_installed.in_network(call, "host__overview")["isError"] is False


def test_it_runs_as_a_user_of_its_own_without_any_capability(as_installed: Box) -> None:
    pid = as_installed.property(UNIT, "MainPID")
    assert as_installed.out("ps", "--no-headers", "-o", "user,group", "-p", pid).split() == [
        "mcp-edge",
        "mcp-edge",
    ]
    status = as_installed.path(f"/proc/{pid}/status").read_text()
    assert re.findall(r"^Cap(?:Eff|Bnd|Prm):\t(\w+)$", status, re.MULTILINE) == ["0" * 16] * 3


def test_all_tools_of_the_built_in_server_work_in_the_sandbox(as_installed: Box) -> None:
    for tool in HOST_TOOLS:
        result = as_installed.in_network(call, f"host__{tool}")
        assert result["isError"] is False, (tool, result)
    seen = as_installed.in_network(call, "host__processes")["structuredContent"]["processes"]
    assert {"root"} < {process["user"] for process in seen}, "processes of others, by their users' names"


def test_the_sandbox_is_as_tight_as_promised(as_installed: Box) -> None:
    said = as_installed.out("systemd-analyze", "security", "--no-pager", UNIT)
    (exposure,) = re.findall(r"Overall exposure level for mcp-edge.service: ([\d.]+)", said)
    assert float(exposure) <= 2.0, said


def test_systemd_has_no_remark_on_the_units(as_installed: Box) -> None:
    done = as_installed.run("systemd-analyze", "verify", "--man=no", UNIT, SOCKET)
    remarks = [line for line in done.stderr.splitlines() if "mcp-edge" in line]
    assert remarks == []


def test_the_service_cannot_write_where_it_has_nothing_to_write(installed: Box) -> None:
    installed.write(
        CONFIG,
        '[servers.host]\ncommand = ["/usr/bin/mcp-edge", "host-server"]\n'
        '[servers.writes]\ncommand = ["sh", "-c", "for d in /etc /usr /var /home /root /etc/mcp-edge '
        "/var/lib/mcp-edge /var/cache/mcp-edge /var/log/mcp-edge /tmp; do touch $d/x 2>/dev/null && echo wrote $d >&2; "
        'done; ls /home /root >&2; exec cat"]\n',
    )
    installed.run("systemctl", "restart", UNIT)
    eventually(lambda: "wrote /tmp" in installed.journal(UNIT), lambda: installed.journal(UNIT))
    wrote = set(re.findall(r"wrote (/[\w/-]+)", installed.journal(UNIT)))
    assert wrote == {"/var/lib/mcp-edge", "/var/cache/mcp-edge", "/var/log/mcp-edge", "/tmp"}
    assert not installed.path("/tmp/x").exists(), "its /tmp is its own"


def test_a_stop_leaves_no_process_and_is_no_failure(installed: Box) -> None:
    assert users_processes(installed)
    installed.run("systemctl", "stop", UNIT)
    assert users_processes(installed) == []
    assert installed.property(UNIT, "Result") == "success"
    assert not installed.path("/run/mcp-edge").exists()


def test_what_is_killed_comes_back_and_its_servers_are_gone(installed: Box) -> None:
    # In a container systemd now and then misses that the cgroup is empty, and waits for TimeoutStopSec=, twice.
    # test_kernel.py has the same without containers.
    drop_in(installed, "RestartSec=100ms", "TimeoutStopSec=10")
    before = users_processes(installed)
    pid = installed.property(UNIT, "MainPID")
    installed.run("kill", "-KILL", pid)
    eventually(lambda: installed.property(UNIT, "NRestarts") == "1", lambda: installed.state(UNIT))
    eventually(lambda: installed.property(UNIT, "ActiveState") == "active", lambda: installed.journal(UNIT))
    after = users_processes(installed)
    assert not {line.split()[0] for line in before} & {line.split()[0] for line in after}
    assert installed.in_network(call)["isError"] is False


def test_a_wrong_config_is_not_tried_again(installed: Box) -> None:
    drop_in(installed, "RestartSec=100ms")
    installed.write(CONFIG, "[gateway]\nlisten = 5\nnonsense = true\n")
    assert installed.run("systemctl", "restart", UNIT, check=False).returncode != 0
    assert installed.property(UNIT, "ActiveState") == "failed"
    assert installed.property(UNIT, "ExecMainStatus") == "78"
    assert installed.property(UNIT, "NRestarts") == "0"
    journal = installed.journal(UNIT)
    assert "gateway.nonsense" in journal
    assert "gateway.listen" in journal


def test_an_upgrade_restarts_cleanly_and_keeps_the_config(installed: Box, next_package: Path) -> None:
    changed = installed.path(CONFIG).read_text().replace('name = ""', 'name = "mine"')
    installed.write(CONFIG, changed)
    before = installed.property(UNIT, "MainPID")
    install(installed, next_package)
    assert installed.property(UNIT, "MainPID") != before
    assert installed.path(CONFIG).read_text() == changed
    assert installed.out("dpkg-query", "--show", "--showformat=${Version}", "mcp-edge") == NEXT_VERSION
    assert installed.property(UNIT, "NRestarts") == "0"
    journal = installed.journal(UNIT)
    assert "Traceback" not in journal
    assert "Failed with result" not in journal
    assert '"name": "mine"' in re.sub(r"\s+", " ", installed.in_network(get, "/health")[1])


def test_an_upgrade_leaves_disabled_what_was_disabled(installed: Box, next_package: Path) -> None:
    installed.run("systemctl", "disable", "--now", UNIT)
    put(installed, next_package)
    assert installed.run("systemctl", "is-enabled", UNIT, check=False).stdout.strip() == "disabled"
    assert installed.property(UNIT, "ActiveState") == "inactive"


def test_a_wrong_config_does_not_hold_up_the_package_manager(installed: Box, next_package: Path) -> None:
    installed.write(CONFIG, "nonsense = true\n")
    put(installed, next_package)
    assert (
        installed.out("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", "mcp-edge").strip() == "ii"
    )


def test_removing_stops_and_keeps_the_config_and_purging_leaves_nothing(installed: Box) -> None:
    installed.run("systemctl", "stop", UNIT)
    installed.run("systemctl", "enable", "--now", SOCKET)
    installed.in_network(call)
    for kind in ("lib", "cache", "log"):
        installed.run("touch", f"/var/{kind}/mcp-edge/something")
    installed.write("/etc/mcp-edge/credentials/plc", "secret", 0o600)

    installed.run("dpkg", "--remove", "mcp-edge")
    assert users_processes(installed) == []
    assert installed.path(CONFIG).exists()
    assert installed.path("/etc/mcp-edge/credentials/plc").exists()

    installed.run("dpkg", "--purge", "mcp-edge")
    assert left_over(installed) == []
    listed = installed.run("systemctl", "list-unit-files", "--no-legend", "mcp-edge*", check=False)
    assert listed.stdout == ""
    assert "mcp-edge" not in installed.path("/var/lib/dpkg/status").read_text()
    assert (
        "mcp-edge" not in installed.path("/etc/passwd").read_text() + installed.path("/etc/group").read_text()
    )


def test_files_are_what_the_package_says(as_installed: Box) -> None:
    assert as_installed.out("dpkg", "--verify", "mcp-edge") == ""
    assert as_installed.out("mcp-edge", "validate").splitlines()
    modes = as_installed.out(
        "stat", "-c", "%a %U %n", "/etc/mcp-edge/credentials", CONFIG, "/usr/bin/mcp-edge"
    )
    assert [line.split()[:2] for line in modes.splitlines()] == [
        ["700", "root"],
        ["644", "root"],
        ["755", "root"],
    ]


def test_logrotate_takes_the_file(as_installed: Box) -> None:
    done = as_installed.run("logrotate", "--debug", "/etc/logrotate.d/mcp-edge")
    assert "error" not in done.stderr.lower()


def test_the_directory_of_credentials_is_made_where_it_is_missing(installed: Box) -> None:
    installed.run("rmdir", "/etc/mcp-edge/credentials")
    installed.run("systemctl", "restart", UNIT)
    assert installed.out("stat", "-c", "%a", "/etc/mcp-edge/credentials") == "700"


@requires("node")
def test_a_server_of_nodejs_runs_in_the_sandbox(suite: str, package: Path) -> None:
    binary = node().resolve()
    binds = (f"--bind-ro={binary}:/usr/local/bin/node", f"--bind-ro={PEERS.resolve() / 'node'}:/opt/node")
    with booted(suite, *binds) as box:
        box.write(
            CONFIG,
            "[servers.everything]\nrequired = true\n"
            'command = ["/usr/local/bin/node", '
            '"/opt/node/node_modules/@modelcontextprotocol/server-everything/dist/index.js"]\n',
        )
        box.copy(package, "/root/mcp-edge.deb")
        box.run("dpkg", "--install", "--force-confold", "/root/mcp-edge.deb")
        eventually(lambda: box.in_network(is_ready), lambda: box.journal(UNIT))


def is_ready() -> bool:
    try:
        return get("/readyz", port=ADMIN)[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("unit", ["notify-reload.conf", "servers.conf"])
def test_drop_ins_are_shipped_as_examples(as_installed: Box, unit: str) -> None:
    assert as_installed.path(f"/usr/share/doc/mcp-edge/examples/{unit}").exists()
