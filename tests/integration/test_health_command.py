import argparse
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from edge.cli.arguments import UsageError
from edge.cli.cmd_health import health
from edge.errors import ConfigError
from edge.health import Health
from edge.metrics import Metrics
from edge.net.http_server import HttpLimits
from edge.parts.admin import AdminFace
from edge.parts.listener import Listener


@asynccontextmanager
async def admin_listener(address: str, status: Health) -> AsyncIterator[str]:
    """An admin listener, and the address it really has."""
    metrics = Metrics()
    face = AdminFace(health=status, metrics=metrics, origins=None, info=lambda: {"name": "plant-7"})
    listener = Listener(
        "admin", (address,), None, face, HttpLimits(max_body_bytes=1000), max_connections=10,
        status=status.add("listener:admin"), metrics=metrics,
    )  # fmt: skip
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            yield listener.bound[0]
            nursery.cancel_scope.cancel()


async def ask(url: str | None, *, as_json: bool = False) -> int:
    args = argparse.Namespace(config=None, url=url, json=as_json, timeout_s=5.0)
    return await trio.to_thread.run_sync(health, args, abandon_on_cancel=True)


WriteConfig = Callable[[str], object]


@pytest.fixture(autouse=True)
def write_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WriteConfig:
    """Writes the config that is found; until then it is missing."""
    config = tmp_path / "config.toml"
    monkeypatch.setenv("MCP_EDGE_CONFIG", str(config))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # never to be used for what is here
    return config.write_text


async def test_ready_and_not_ready_with_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    status = Health()
    async with admin_listener("127.0.0.1:0", status) as address:
        assert await ask(f"http://{address}/") == 0
        assert capsys.readouterr().out.startswith("ready\n  [+] listener:admin ready for ")
        status.add("server:git", required=True).failed("exited with \x1b[31m status 1")
        assert await ask(f"http://{address}") == 69
    out = capsys.readouterr().out
    assert out.startswith("not ready\n")
    assert "[-] server:git failed for 0 s (required): exited with" in out
    assert "\x1b" not in out


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


@pytest.mark.parametrize(
    "config", ["[admin\n", "admin = 5\n", "[admin]\nlisten = 5\n", '[admin]\nlisten = "here"\n']
)
async def test_a_wrong_config_is_a_config_error(write_config: WriteConfig, config: str) -> None:
    write_config(config)
    with pytest.raises(ConfigError):
        await ask(None)


@pytest.mark.parametrize("url", ["ftp://x", "localhost:9766", "http://"])
async def test_a_wrong_url_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match="--url"):
        await ask(url)
