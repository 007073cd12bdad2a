"""What `run` says when it is up, and what it serves without a config."""

import argparse
import json
import logging
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from edge import __version__
from edge.app.appliance import App
from edge.app.loaded import BUILT_IN, Loaded
from edge.backoff import Backoff
from edge.cli.cmd_connect import announcement as shared
from edge.cli.cmd_run import ConfigLoad, announcement, default_config
from edge.cli.program import own_command
from edge.config.model import EdgeConfig, StdioServerConfig
from edge.errors import ConfigError
from edge.health import Status
from edge.parts.channel import Ended
from edge.parts.upstream import Upstream
from edge.redaction import Redactor
from tests.support.memory_channel import ScriptedServer, Witness, tools

Clock = MockClock


class Listening(App):
    """One that is where a test says."""

    addresses: tuple[str, ...] = ("http://127.0.0.1:8766/mcp",)

    @property
    def endpoints(self) -> list[str]:
        return list(self.addresses)

    @property
    def admin_urls(self) -> list[str]:
        return ["http://127.0.0.1:9766"]


class Linked(Listening):
    """One with one link."""

    link: Status

    def uplink_states(self) -> list[Status]:
        return [self.link]


def app(source: str = BUILT_IN) -> Listening:
    return Listening(Loaded(config=EdgeConfig(name="plant-7"), source=source), redactor=Redactor())


def upstream(app: App, name: str, server: ScriptedServer) -> Upstream:
    return Upstream(
        StdioServerConfig(name=name, command=(name,)),
        server.connect,
        events=Witness(),
        status=app.health.add(f"server:{name}"),
        metrics=app.metrics.server(name),
        backoff=Backoff(first_s=1, limit_s=1, jitter=0),
        log=logging.getLogger("edge.server"),
    )


def test_the_built_in_default_is_one_server_made_of_this_program_on_loopback() -> None:
    config = default_config()
    [host] = config.servers.values()
    assert isinstance(host, StdioServerConfig)
    assert (host.name, host.command) == ("host", (*own_command(), "host-server"))
    assert config.gateway.listen == ("127.0.0.1:8766",)
    assert config.admin.listen == "127.0.0.1:9766"


# -- which config a reload loads


NAME = ".config/mcp-edge/config.toml"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a config in it; nothing is in `/etc`, whatever this machine has there."""
    monkeypatch.setattr("edge.cli.configfile.SYSTEM_CONFIG", tmp_path / "etc/mcp-edge/config.toml")
    write(tmp_path / "home" / NAME, "home")
    return tmp_path / "home"


def write(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'name = "{name}"\n')


def config_load(home: Path, named: str | None = None) -> ConfigLoad:
    return ConfigLoad(argparse.Namespace(config=named), {"HOME": str(home)})


@pytest.mark.parametrize("is_named", [False, True])
def test_a_config_that_has_gone_is_refused_and_not_replaced_by_the_built_in_default(
    home: Path, is_named: bool
) -> None:
    load = config_load(home, str(home / NAME) if is_named else None)
    in_force = load(None).source
    assert in_force == str(home / NAME)
    (home / NAME).unlink()
    with pytest.raises(ConfigError) as caught:
        load(in_force)
    [problem] = caught.value.problems
    assert problem == (str(home / NAME), "has gone; put it back, or restart to run with another config")
    write(home / NAME, "back")
    assert load(in_force).config.name == "back"


def test_a_config_that_comes_to_a_place_that_goes_before_it_does_not_take_over(home: Path) -> None:
    load = config_load(home)
    in_force = load(None).source
    write(home.parent / "etc/mcp-edge/config.toml", "etc")
    assert load(in_force).config.name == "home"
    assert load(None).config.name == "etc"


def test_a_config_that_comes_takes_over_from_the_built_in_default_and_goes_if_it_was_never_in_force(
    home: Path,
) -> None:
    (home / NAME).unlink()
    load = config_load(home)
    assert load(None).source == BUILT_IN
    (home / NAME).write_text("name = ")
    with pytest.raises(ConfigError):
        load(BUILT_IN)
    write(home / NAME, "home")
    assert load(BUILT_IN).source == str(home / NAME)  # as for `--plan`
    (home / NAME).unlink()
    assert load(BUILT_IN).source == BUILT_IN


async def test_the_announcement_names_every_server_with_its_state(autojump_clock: Clock) -> None:
    good, bad, small = ScriptedServer(), ScriptedServer(), ScriptedServer()
    small.answers["tools/list"] = tools("one")
    good.answers["tools/list"] = tools("one", "two")
    bad.start_errors = [Ended("bad", "exited with status 1", "\x1b[31mred\n")]
    running = app("/etc/mcp-edge/config.toml")
    async with trio.open_nursery() as nursery:
        for name, server in (("good", good), ("bad", bad), ("small", small)):
            running.upstreams[name] = upstream(running, name, server)
            await nursery.start(running.upstreams[name].run)
        for each in running.upstreams.values():
            await each.wait_settled()
        text = announcement(running)
        nursery.cancel_scope.cancel()
    assert text.splitlines() == [
        f"mcp-edge {__version__} is ready on plant-7",
        "",
        "  server    bad: degraded: exited with status 1: \\x1b[31mred",
        "  server    good: 2 tools",
        "  server    small: 1 tool",
        "  endpoint  http://127.0.0.1:8766/mcp",
        "  status    http://127.0.0.1:9766/status",
    ]


async def test_a_link_that_is_down_says_when_it_is_tried_again(autojump_clock: Clock) -> None:
    running = Linked(Loaded(config=EdgeConfig(), source="c.toml"), redactor=Redactor())
    link = running.link = running.health.add("uplink:hq")
    link.degraded("the gateway answered 401")
    assert "  uplink    hq: degraded (the gateway answered 401)\n" in announcement(running)
    link.retries_in(63.2)
    assert "  uplink    hq: degraded (the gateway answered 401; trying again in 64 s)\n" in announcement(
        running
    )
    assert "  link      hq: degraded: the gateway answered 401; trying again in 64 s\n" in shared(running)
    link.failed("given up after 1 attempt: no")
    assert "  link      hq: failed: given up after 1 attempt: no\n" in shared(running)
    link.ready()
    assert "  link      hq: ready\n" in shared(running)


async def test_the_built_in_default_says_what_to_paste_into_a_client(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mcp-edge"])
    text = announcement(app())
    pasted = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert pasted == {"mcpServers": {"mcp-edge": {"type": "http", "url": "http://127.0.0.1:8766/mcp"}}}
    assert "claude mcp add --transport http mcp-edge http://127.0.0.1:8766/mcp)" in text
    assert "\nThis is the built-in default. To serve your own: mcp-edge init -o /" in text
    monkeypatch.setattr(sys, "argv", ["./mcp-edge.pyz"])
    assert " ./mcp-edge.pyz init -o /" in announcement(app())


async def test_a_client_is_told_nothing_to_paste_where_there_is_no_url(autojump_clock: Clock) -> None:
    running = app()
    running.addresses = ("unix:/run/mcp.sock",)
    text = announcement(running)
    assert "  endpoint  unix:/run/mcp.sock" in text
    assert "mcpServers" not in text
