"""The config changed while it runs: what changes, what does not notice, and what is refused."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.appliance import Appliance, running, toml_list
from tests.support.peers import requires
from tests.support.reloads import command, edit, reload

pytestmark = requires("pyz")

TOY = Path(__file__).parent.parent / "support" / "toy_server.py"


def toy(name: str, *words: str) -> str:
    return f"[servers.{name}]\ncommand = {toml_list([sys.executable, TOY, *words])}\n"


def pids(appliance: Appliance) -> dict[str, int]:
    return {server["name"]: server["pid"] for server in appliance.health()["servers"]}


def tools(appliance: Appliance) -> set[str]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answer = appliance.request("POST", appliance.endpoint, body).json()
    return {tool["name"].partition("__")[0] for tool in answer["result"]["tools"]}


@pytest.fixture(scope="module")
def two() -> Iterator[Appliance]:
    with running(toy("a") + toy("b")) as appliance:
        yield appliance


def test_an_equal_config_changes_nothing(two: Appliance) -> None:
    before = pids(two)
    code, verdict = reload(two)
    assert (code, verdict["result"]) == (0, "unchanged")
    assert verdict["added"] == verdict["removed"] == verdict["restarted"] == verdict["updated"] == []
    assert {"server a", "server b", "gateway", "admin"} <= set(verdict["unchanged"])
    assert pids(two) == before


def test_servers_come_go_and_change_and_the_others_keep_their_processes(two: Appliance) -> None:
    original = two.config.read_text()
    before = pids(two)
    try:
        edit(two, toy("a") + toy("b").replace('"]', '", "--other"]') + toy("c"))
        planned = reload(two, "--plan")[1]
        assert pids(two) == before
        code, verdict = reload(two)
        assert code == 0
        for kind in ("added", "removed", "restarted", "updated"):
            assert planned[kind] == verdict[kind]
        assert (verdict["added"], verdict["restarted"]) == (["server c"], ["server b"])
        assert tools(two) == {"a", "b", "c"}
        after = pids(two)
        assert after["a"] == before["a"]
        assert after["b"] != before["b"]
    finally:
        two.config.write_text(original)
    code, verdict = reload(two)
    assert (verdict["removed"], verdict["restarted"]) == (["server c"], ["server b"])
    assert verdict["warnings"] == []  # one that has only begun is no reason for any
    assert tools(two) == {"a", "b"}
    assert pids(two)["a"] == before["a"]


def test_a_broken_file_is_refused_whole_with_every_problem(two: Appliance) -> None:
    original = two.config.read_text()
    before = pids(two)
    try:
        two.config.write_text(original + "\n[servers.c]\nurl = 5\nnonsense = true\n")
        code, verdict = reload(two)
    finally:
        two.config.write_text(original)
    assert (code, verdict["result"]) == (78, "refused")
    assert [problem["place"].rpartition(": ")[2] for problem in verdict["problems"]] == [
        "servers.c.url",
        "servers.c.nonsense",
    ]
    assert pids(two) == before
    assert two.metric("mcp_edge_config_last_reload_successful") == 0
    assert any("reload refused" in line for line in two.log)


def test_an_address_that_is_taken_is_refused_and_the_old_one_goes_on(two: Appliance) -> None:
    original = two.config.read_text()
    taken = two.endpoint.split("/")[2]
    try:
        two.config.write_text(original.replace("[admin]\nlisten", f'[admin]\nlisten = "{taken}"\n#'))
        code, verdict = reload(two)
    finally:
        two.config.write_text(original)
    assert (code, verdict["result"]) == (78, "refused")
    assert "our own gateway listens on" in verdict["problems"][0]["text"]
    assert two.request("GET", f"{two.admin}/livez").status == 200
    assert tools(two) == {"a", "b"}


def test_sighup_reloads_and_says_so(two: Appliance) -> None:
    seen = len(two.log)
    two.process.send_signal(signal.SIGHUP)
    two.wait_said("config unchanged", seen)
    assert two.process.poll() is None


def test_a_reload_over_tcp_needs_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("the-reload-token\n")
    token.chmod(0o600)
    extra = f'[admin]\nlisten = "127.0.0.1:0"\nreload_token_file = "{token}"\n'
    with running(toy("a") + extra) as appliance:
        url = f"{appliance.admin}/-/reload"
        assert appliance.request("POST", url).status == 401
        assert appliance.request("POST", url, headers={"Authorization": "Bearer wrong"}).status == 401
        good = appliance.request("POST", url, headers={"Authorization": "Bearer the-reload-token"})
        assert (good.status, good.json()["result"]) == (200, "unchanged")
        assert appliance.request("GET", url).status == 405
        bad = appliance.request(
            "POST", f"{url}?confirm_s=x", headers={"Authorization": "Bearer the-reload-token"}
        )
        assert bad.status == 400


def test_without_a_token_a_reload_over_tcp_is_refused(two: Appliance) -> None:
    answer = two.request("POST", f"{two.admin}/-/reload")
    assert answer.status == 403
    assert b"reload_token_file" in answer.body


def test_a_config_that_breaks_a_required_server_is_taken_back() -> None:
    required = toy("a").replace("command", "required = true\ncommand")
    with running(required + toy("b")) as appliance:
        edit(appliance, required.replace(str(TOY), "/nonexistent/server.py") + toy("b"))
        code, verdict = reload(appliance, "--confirm-s", "3")
        assert (code, verdict["result"]) == (69, "rolled back")
        assert verdict["problems"][0]["place"] == "server:a"
        assert tools(appliance) == {"a", "b"}
        # The file is as the operator left it: the next reload finds it again.
        assert reload(appliance, "--plan")[1]["restarted"] == ["server a"]


def test_a_renewed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    def issue(name: str) -> None:
        issued = trustme.CA().issue_cert("127.0.0.1", common_name=name)
        (tmp_path / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
        (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())

    def shown(appliance: Appliance) -> bytes:
        import ssl

        host, port = appliance.endpoint.split("/")[2].split(":")
        return ssl.get_server_certificate((host, int(port))).encode()

    issue("first")
    tls = f'tls = {{ cert = "{tmp_path}/cert.pem", key = "{tmp_path}/key.pem" }}'
    config = f'[gateway]\nlisten = "127.0.0.1:0"\n{tls}\n'
    with running(toy("a") + config) as appliance:
        before = shown(appliance)
        assert reload(appliance)[1]["result"] == "unchanged"
        issue("second")
        assert reload(appliance)[1]["updated"] == ["gateway"]
        assert shown(appliance) != before
        (tmp_path / "key.pem").write_text("no key")
        assert reload(appliance)[0] == 78
        assert shown(appliance) != before


def test_a_plan_for_people_names_what_would_happen(two: Appliance) -> None:
    done = command(two, "reload", "-c", str(two.config), "--plan")
    assert done.returncode == 0
    assert "a reload would do this" in done.stdout
    assert "nothing" in done.stdout


def test_nobody_to_ask_is_said_with_the_places_that_were_looked_at(tmp_path: Path, two: Appliance) -> None:
    other = tmp_path / "other.toml"
    other.write_text("")
    done = command(two, "reload", "-c", str(other))
    assert done.returncode == 69
    assert "no running mcp-edge found" in done.stderr
