"""The service in a real systemd: told when it is ready, reloaded under load, watched, activated by its socket."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.calling import call, get
from tests.support.service import CONFIG, SOCKET, UNIT, calling_without_pause, drop_in, eventually, put
from tests.support.systemd_sandbox import Box

HOST = '[servers.host]\ncommand = ["/usr/bin/mcp-edge", "host-server"]\n'
BROKEN = (
    "[gateway\n",
    '[gateway]\nlisten = "127.0.0.1:8766"\nnonsense = true\n',
    "[servers.host]\ncommand = 5\n",
)
NOTIFY_RELOAD = "/usr/share/doc/mcp-edge/examples/notify-reload.conf"


def config(round_: int) -> str:
    """A good config, another one each time; `host`, which is being called, stays as it is."""
    return (
        f'name = "round-{round_}"\n[gateway]\ncall_timeout_s = {100 + round_}\n{HOST}{another_server(round_)}'
    )


def another_server(round_: int) -> str:
    command = '["/usr/bin/mcp-edge", "host-server"]'
    return f"[servers.more-{round_}]\ncommand = {command}\n" if round_ % 2 else ""


def name_in_force() -> str:
    return get("/health")[1].partition('"name"')[2].partition('"')[2].partition('"')[0]


def reload(box: Box) -> int:
    return box.run("systemctl", "reload", UNIT, check=False).returncode


def activated_by_socket(box: Box) -> None:
    box.run("systemctl", "stop", UNIT)
    box.run("systemctl", "enable", "--now", SOCKET)
    box.run("systemctl", "start", UNIT)


def test_it_is_ready_when_systemd_says_so_and_says_how_it_is(installed: Box) -> None:
    for _ in range(3):
        installed.run("systemctl", "restart", UNIT)
        assert installed.in_network(call)["isError"] is False
        assert installed.in_network(get, "/readyz")[0] == 200
    assert installed.property(UNIT, "StatusText") != ""


def test_without_a_required_server_the_start_fails_and_is_tried_again(installed: Box) -> None:
    drop_in(installed, "RestartSec=100ms")
    installed.write(
        CONFIG, f'{HOST}[servers.gone]\nrequired = true\nstart_timeout_s = 1\ncommand = ["/bin/false"]\n'
    )
    assert installed.run("systemctl", "restart", UNIT, check=False).returncode != 0
    eventually(lambda: installed.property(UNIT, "ExecMainStatus") == "69")  # the next start has none yet
    eventually(lambda: int(installed.property(UNIT, "NRestarts")) >= 2)


def test_ten_reloads_good_and_broken_while_a_client_calls_lose_no_call(installed: Box) -> None:
    pid = installed.property(UNIT, "MainPID")
    with calling_without_pause(installed) as calls:
        for round_ in range(10):
            before = calls.good
            if round_ % 2:
                installed.write(CONFIG, BROKEN[round_ // 2 % len(BROKEN)])
                assert reload(installed) != 0
                assert installed.in_network(name_in_force) == f"round-{round_ - 1}"
            else:
                installed.write(CONFIG, config(round_))
                assert reload(installed) == 0, installed.journal(UNIT)
                assert installed.in_network(name_in_force) == f"round-{round_}"
            eventually(lambda seen=before: calls.good > seen + 2)  # type: ignore[misc]  # the default binds it
    assert calls.failed == []
    assert installed.property(UNIT, "MainPID") == pid
    assert installed.property(UNIT, "ActiveState") == "active"


def test_a_refused_reload_fails_with_its_reasons_in_the_journal(installed: Box) -> None:
    installed.write(CONFIG, BROKEN[1] + HOST)
    done = installed.run("systemctl", "reload", UNIT, check=False)
    assert done.returncode != 0
    journal = installed.journal(UNIT)
    assert "gateway.nonsense" in journal
    assert installed.property(UNIT, "ActiveState") == "active"
    installed.write(CONFIG, config(1))
    assert reload(installed) == 0


def test_one_that_hangs_is_killed_by_the_watchdog_and_started_again(installed: Box) -> None:
    drop_in(installed, "WatchdogSec=2", "RestartSec=100ms")
    installed.run("systemctl", "restart", UNIT)
    pid = installed.property(UNIT, "MainPID")
    time.sleep(4)  # it lives longer than WatchdogSec=, so it has been heard
    assert installed.property(UNIT, "MainPID") == pid
    installed.run("kill", "-STOP", pid)
    eventually(lambda: installed.property(UNIT, "NRestarts") == "1", lambda: installed.journal(UNIT))
    eventually(lambda: installed.property(UNIT, "ActiveState") == "active", lambda: installed.journal(UNIT))
    assert "Watchdog timeout" in installed.journal(UNIT)
    assert installed.in_network(call)["isError"] is False
    assert pid not in [line.split()[0] for line in installed.processes("mcp-edge")]


def test_a_restart_under_socket_activation_loses_no_call(installed: Box) -> None:
    activated_by_socket(installed)
    with calling_without_pause(installed) as calls:
        for _ in range(3):
            before = calls.good
            installed.run("systemctl", "restart", UNIT)
            eventually(lambda seen=before: calls.good > seen + 2)  # type: ignore[misc]  # the default binds it
    assert calls.failed == []


def test_an_upgrade_under_socket_activation_loses_no_call(installed: Box, next_package: Path) -> None:
    activated_by_socket(installed)
    with calling_without_pause(installed) as calls:
        put(installed, next_package)
        before = calls.good
        eventually(lambda: calls.good > before + 2)
    assert calls.failed == []


def test_the_first_client_starts_the_service_under_socket_activation(installed: Box) -> None:
    activated_by_socket(installed)
    installed.run("systemctl", "stop", UNIT)
    assert installed.in_network(call)["isError"] is False
    assert installed.property(UNIT, "ActiveState") == "active"


def test_a_reload_under_socket_activation_keeps_the_socket(installed: Box) -> None:
    activated_by_socket(installed)
    installed.write(CONFIG, config(1))
    assert reload(installed) == 0, installed.journal(UNIT)
    assert installed.in_network(call)["isError"] is False
    assert installed.property(SOCKET, "ActiveState") == "active"


def test_restarts_go_on_for_ever_where_nobody_hurries_them(as_installed: Box) -> None:
    wait_s, within_s = (
        float(as_installed.property(UNIT, name).removesuffix("s").replace("1min", "60"))
        for name in ("RestartUSec", "StartLimitIntervalUSec")
    )
    assert int(as_installed.property(UNIT, "StartLimitBurst")) > within_s / wait_s


def test_a_client_that_waits_for_a_wrong_config_does_not_start_it_for_ever(installed: Box) -> None:
    drop_in(installed, "StartLimitBurst=4", section="Unit")
    activated_by_socket(installed)
    installed.run("systemctl", "stop", UNIT)
    installed.write(CONFIG, "nonsense = true\n")
    with calling_in_vain(installed):
        eventually(
            lambda: installed.property(SOCKET, "ActiveState") == "failed", lambda: installed.journal(UNIT)
        )
    installed.write(CONFIG, HOST)
    installed.run("systemctl", "reset-failed", SOCKET, UNIT)
    installed.run("systemctl", "start", SOCKET, UNIT)
    assert installed.in_network(call)["isError"] is False


@contextmanager
def calling_in_vain(box: Box) -> Iterator[None]:
    """One client that waits for an answer, and gets none."""

    def work() -> None:
        try:
            call(limit_s=60)
        except (OSError, AssertionError):
            return

    thread = threading.Thread(target=lambda: box.in_network(work))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_reload_by_signal_is_followed_by_systemd(installed: Box) -> None:
    if installed.suite == "bookworm":
        installed.run("systemctl", "kill", "--signal=HUP", "--kill-whom=main", UNIT)
        eventually(lambda: "config unchanged" in installed.journal(UNIT))
        assert installed.property(UNIT, "ActiveState") == "active"
        return
    installed.run("mkdir", "-p", "/etc/systemd/system/mcp-edge.service.d")
    installed.run("cp", NOTIFY_RELOAD, "/etc/systemd/system/mcp-edge.service.d/")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "restart", UNIT)
    with calling_without_pause(installed) as calls:
        for round_ in (1, 2):
            installed.write(CONFIG, config(round_))
            assert reload(installed) == 0
            assert installed.in_network(name_in_force) == f"round-{round_}"
        installed.write(CONFIG, BROKEN[0])
        assert reload(installed) == 0, "the verdict is what this way of reloading loses"
        assert installed.in_network(name_in_force) == "round-2"
    assert calls.failed == []


def test_a_credential_reaches_the_server_that_it_is_for(installed: Box) -> None:
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_error(503)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
            pass

    with installed.in_network(http.server.ThreadingHTTPServer, ("127.0.0.1", 3000), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        installed.write("/etc/mcp-edge/credentials/plc", "s3cr3t-token\n", 0o600)
        remote = '[servers.plc]\nurl = "http://127.0.0.1:3000/mcp"\nbearer_credential = "credentials_plc"\n'
        installed.write(CONFIG, HOST + remote)
        installed.run("systemctl", "restart", UNIT)
        eventually(lambda: bool(seen))
        server.shutdown()
        thread.join()
    assert set(seen) == {"Bearer s3cr3t-token"}
    assert "s3cr3t-token" not in installed.journal(UNIT)
    assert "s3cr3t-token" not in installed.in_network(get, "/health")[1]
    other = installed.run(
        "runuser",
        "-u",
        "nobody",
        "--",
        "cat",
        "/run/credentials/mcp-edge.service/credentials_plc",
        check=False,
    )
    assert other.returncode != 0


def test_a_stop_in_the_middle_of_calls_leaves_no_process(installed: Box) -> None:
    with calling_without_pause(installed):
        installed.run("systemctl", "stop", UNIT)
    assert installed.processes("mcp-edge") == []
    assert installed.property(UNIT, "Result") == "success"


GREEDY = """
import json, sys
hoard = []
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "greedy"}}
    elif asked["method"] == "tools/list":
        result = {"tools": [{"name": "eat", "inputSchema": {"type": "object"}}]}
    else:
        hoard = [bytearray(b"x" * 1_000_000) for _ in range(300)]
        result = {"content": []}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


def test_servers_have_cgroups_of_their_own_below_that_of_the_service(installed: Box) -> None:
    group = f"/sys/fs/cgroup{installed.property(UNIT, 'ControlGroup')}"
    main = installed.property(UNIT, "MainPID")
    assert main in installed.out("cat", f"{group}/main/cgroup.procs").split()
    servers = installed.out("sh", "-c", f"cat {group}/server-*/cgroup.procs").split()
    assert servers
    assert main not in servers


def test_a_server_over_its_memory_limit_is_ended_and_nobody_else_notices(installed: Box) -> None:
    installed.write("/usr/local/lib/greedy.py", GREEDY, 0o644)
    limited = '[servers.greedy]\ncommand = ["/usr/bin/python3", "/usr/local/lib/greedy.py"]\n'
    installed.write(CONFIG, f"{HOST}{limited}limits = {{ memory_bytes = 100_000_000 }}\n")
    assert reload(installed) == 0
    main = installed.property(UNIT, "MainPID")
    with calling_without_pause(installed) as calls:
        installed.in_network(eaten)
        eventually(lambda: "memory limit" in installed.journal(UNIT), lambda: installed.journal(UNIT))
    assert calls.failed == []
    assert installed.property(UNIT, "MainPID") == main
    assert installed.property(UNIT, "ActiveState") == "active"


def eaten() -> None:
    """Has the greedy server eat; whether it gets to answer is not the point."""
    with suppress(OSError, AssertionError, LookupError):
        call("greedy__eat")
