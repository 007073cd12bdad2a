import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from edge.cli.arguments import UsageError
from edge.errors import ConfigError, Problem
from edge.health import ConfigState, Health, LastReload, Result
from tests.support.admin_rig import admin_listener, ask

WriteConfig = Callable[[str], object]


@pytest.fixture(autouse=True)
def write_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WriteConfig:
    """Writes the config that is found; until then it is missing."""
    config = tmp_path / "config.toml"
    monkeypatch.setenv("MCP_EDGE_CONFIG", str(config))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # never to be used for what is here
    return config.write_text


async def test_it_prints_one_line_and_more_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    status = Health()
    async with admin_listener("127.0.0.1:0", status) as address:
        status.add("server:plc").ready()
        assert await ask(f"http://{address}/") == 0
        assert capsys.readouterr().out == "OK - plant-7: 1 of 1 servers ready\n"
        status.add("server:git", required=True).failed("exited with \x1b[31m status 1")
        status.add("uplink:hq").degraded("refused")
        assert await ask(f"http://{address}") == 69
        reason = "exited with \\x1b[31m status 1"
        first = f"NOT READY - plant-7: server:git failed for 0 s (required): {reason} (and 1 more)\n"
        assert capsys.readouterr().out == first
        assert await ask(f"http://{address}", verbose=True) == 69
    out = capsys.readouterr().out
    assert out.startswith(f"{first}  [-] server:git failed for 0 s (required): exited with")
    assert "\n  [-] uplink:hq degraded for 0 s: refused\n  [+] listener:admin ready for" in out
    assert "\x1b" not in out


async def test_what_does_not_count_is_not_given_as_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    status = Health()
    async with admin_listener("127.0.0.1:0", status) as address:
        status.add("edge:plant-8").degraded("away")
        status.add("server:git").degraded("exited with status 1")
        status.config = ConfigState(
            source="x",
            loaded_at=0.0,
            last_reload=LastReload(at=0.0, result="refused", problems=(Problem("", "a"),)),
        )
        assert await ask(f"http://{address}") == 0
        assert capsys.readouterr().out == (
            "DEGRADED - plant-7: server:git degraded for 0 s: exited with status 1\n"
        )
        status.remove("server:git")
        assert await ask(f"http://{address}") == 0
        assert capsys.readouterr().out == ("OK - plant-7: 0 of 1 edges ready; the last reload was refused\n")


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("refused", "the last reload was refused"),
        ("rolled back", "the last reload was taken back"),
        ("not rolled back", "the last reload was not good and could not be taken back"),
    ],
)
async def test_it_is_said_which_config_a_bad_reload_left_in_force(
    result: Result, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = Health()
    async with admin_listener("127.0.0.1:0", status) as address:
        status.config = ConfigState(source="x", loaded_at=0.0, last_reload=LastReload(at=0.0, result=result))
        assert await ask(f"http://{address}") == 0
    assert capsys.readouterr().out == f"OK - plant-7: ready; {told}\n"


async def test_a_nagios_check_has_figures_and_no_other_bar(capsys: pytest.CaptureFixture[str]) -> None:
    status = Health()
    async with admin_listener("127.0.0.1:0", status) as address:
        status.add("server:git").degraded("a|b")
        status.add("uplink:hq").ready()
        assert await ask(f"http://{address}", nagios=True, verbose=True) == 1
    first, *rest = capsys.readouterr().out.splitlines()
    text, figures = first.split(" | ")
    assert text == "WARNING - plant-7: server:git degraded for 0 s: a/b"
    assert figures == "servers=0;;;0;1 uplinks=1;;;0;1 sessions=4;;;0 uptime=0s;;;0"
    assert rest
    assert not [line for line in rest if "|" in line]


async def test_a_nagios_check_that_cannot_tell_whom_to_ask_is_unknown(
    write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    for config in ("[admin\n", "admin = 5\n", "[admin]\nenabled = false\n"):
        write_config(config)
        assert await ask(None, nagios=True) == 3
        assert re.fullmatch(r"UNKNOWN - \S.*\n", capsys.readouterr().out)
    assert await ask("ftp://x", nagios=True, as_json=True) == 3
    assert json.loads(capsys.readouterr().out)["status"] == "unknown"


async def test_json_is_the_whole_report(capsys: pytest.CaptureFixture[str]) -> None:
    async with admin_listener("127.0.0.1:0", Health()) as address:
        assert await ask(f"http://{address}", as_json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], report["ready"], report["listeners"][0]["name"]) == ("plant-7", True, "admin")


async def test_the_config_says_where_to_ask(write_config: WriteConfig, tmp_path: Path) -> None:
    async with admin_listener("127.0.0.1:0", Health()) as address:
        write_config(f'[admin]\nlisten = "{address}"\n[servers.x]\nbearer_env = "NOT_SET"\n')
        assert await ask(None) == 0
        everywhere = address.replace("127.0.0.1", "0.0.0.0")
        write_config(f'admin = {{ listen = "{everywhere}" }}\n')
        assert await ask(None) == 0
    async with admin_listener(f"unix:{tmp_path}/admin.sock", Health()) as address:
        write_config(f'[admin]\nlisten = "{address}"\n')
        assert await ask(None) == 0
        assert await ask(address) == 0


async def test_nobody_there_is_69_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async with admin_listener("127.0.0.1:0", Health()) as address:
        pass
    assert await ask(f"http://{address}") == 69
    assert "is mcp-edge running" in capsys.readouterr().out
    assert await ask(f"unix:{tmp_path}/none.sock", as_json=True) == 69
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["ready"], verdict["status"]) == (False, "unknown")


async def test_something_else_at_the_address_is_not_taken_for_us(capsys: pytest.CaptureFixture[str]) -> None:
    async def other(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, other, 0)
            port = listeners[0].socket.getsockname()[1]
            assert await ask(f"http://127.0.0.1:{port}") == 69
            nursery.cancel_scope.cancel()
    assert "not as an admin listener" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[admin]\nenabled = false\n", "admin.enabled = false"),
        ('[admin]\nlisten = "127.0.0.1:0"\n', "--url"),
        ("[admin\n", "is not TOML (mcp-edge validate says where)"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
async def test_a_config_that_names_no_place_is_69(
    write_config: WriteConfig, capsys: pytest.CaptureFixture[str], config: str | None, words: str
) -> None:
    if config is not None:
        write_config(config)
    assert await ask(None) == 69
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("config", ["admin = 5\n", "[admin]\nlisten = 5\n", '[admin]\nlisten = "here"\n'])
async def test_a_wrong_config_is_a_config_error(write_config: WriteConfig, config: str) -> None:
    write_config(config)
    with pytest.raises(ConfigError):
        await ask(None)


@pytest.mark.parametrize("url", ["ftp://x", "localhost:9766", "http://"])
async def test_a_wrong_url_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match="--url"):
        await ask(url)
