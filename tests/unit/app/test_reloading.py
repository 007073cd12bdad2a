"""What a reload tells of itself, and how long it waits for whom."""

import signal
from dataclasses import replace
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from edge.app.loaded import Loaded
from edge.app.reloading import drain_of
from edge.app.secret_values import secrets_of
from edge.config.diff import PartSpec
from edge.config.model import BackoffConfig, EdgeConfig, GatewayConfig, StdioServerConfig
from edge.config.uplinks import UplinkConfig
from edge.health import Health
from edge.parts.channel import Ended
from edge.redaction import GENERATIONS
from edge.supervise.reload import ReloadOptions, Verdict
from tests.support.hub_rig import hub_config
from tests.support.memory_channel import ScriptedServer
from tests.support.memory_workshop import memory_app, quiet_config, running
from tests.support.uplink_rig import eventually
from tests.support.upstream_rig import after

Clock = MockClock
PLAIN = ReloadOptions()
CALL_S = 20.0


def server(name: str, word: str = "good", *, required: bool = False) -> StdioServerConfig:
    """One whose command says `broken` does not come up."""
    quick = BackoffConfig(first_s=1, limit_s=1)
    return StdioServerConfig(
        name=name, command=(name, word), required=required, start_timeout_s=5, restart=quick
    )


def scripted(spec: PartSpec) -> ScriptedServer:
    assert isinstance(spec, StdioServerConfig)
    found = ScriptedServer()
    found.answers["tools/call"] = after(CALL_S)
    if spec.command[1] == "broken":
        found.start_errors = [Ended(spec.name, "exited with status 1")] * 1000
    return found


class Files:
    """What each reload finds, one after the other."""

    def __init__(self, *configs: EdgeConfig) -> None:
        self._configs = iter(configs)

    def __call__(self) -> Loaded:
        return Loaded(config=next(self._configs), source="test.toml")


# -- what it says of what is in force then


async def test_a_server_that_is_not_up_yet_is_a_warning_of_the_verdict(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    files = Files(quiet_config(server("a"), server("b", "broken"), server("c")))
    async with running(memory_app(quiet_config(server("a")), files, scripted)) as app:
        verdict = await app.reloads.ask(PLAIN)
    assert (verdict.result, verdict.added) == ("reloaded", ("server b", "server c"))
    assert verdict.warnings == ("servers.b: degraded: exited with status 1",)
    assert verdict.warnings[0] in caplog.messages


async def test_a_server_that_is_no_worse_than_before_is_no_warning(autojump_clock: Clock) -> None:
    before, after = quiet_config(server("b", "broken")), quiet_config(server("a"), server("b", "broken"))
    async with running(memory_app(before, Files(after), scripted)) as app:
        verdict = await app.reloads.ask(PLAIN)
    assert (verdict.result, verdict.warnings) == ("reloaded", ())


# -- and if it is not good


async def breaking(options: ReloadOptions) -> tuple[Verdict, Health]:
    """The verdict on a config whose required server does not come up again, and what health says then."""
    before = quiet_config(server("a", required=True))
    files = Files(quiet_config(server("a", "broken", required=True)))
    async with running(memory_app(before, files, scripted)) as app:
        verdict = await app.reloads.ask(options)
        return verdict, app.health


async def test_a_config_that_was_taken_back_is_said_to_be_so(autojump_clock: Clock) -> None:
    verdict, health = await breaking(ReloadOptions(confirm_s=10))
    assert verdict.result == "rolled back"
    [line] = [line for line in health.lines() if "config" in line]
    assert line.startswith("[-] config taken back 0 s ago, the one before is in force again: ")


async def test_a_config_that_makes_a_server_required_and_breaks_it_is_taken_back(
    autojump_clock: Clock,
) -> None:
    files = Files(quiet_config(server("a", "broken", required=True)))
    async with running(memory_app(quiet_config(server("a")), files, scripted)) as app:
        verdict = await app.reloads.ask(ReloadOptions(confirm_s=10))
        assert verdict.result == "rolled back"
        assert [problem.place for problem in verdict.problems] == ["server:a"]


async def test_a_config_is_not_taken_back_any_more_once_it_is_told_to_end(autojump_clock: Clock) -> None:
    before = quiet_config(server("a", required=True), server("b"))
    files = Files(quiet_config(server("a", "broken", required=True), server("b")))
    app = memory_app(before, files, scripted)
    async with running(app), trio.open_nursery() as nursery:
        nursery.start_soon(partial(app.upstreams["b"].request, "tools/call", None, timeout_s=0))
        asked = app.reloads.poke(ReloadOptions(confirm_s=5))
        await eventually(lambda: app.metrics.server("a").reconnects > 0)
        signal.raise_signal(signal.SIGTERM)  # the call goes on, within the drain
        with trio.fail_after(1):
            await asked.done.wait()
        assert asked.verdict is not None
        assert asked.verdict.result == "reloaded"


# -- and if it is refused


def refused_with(*servers: StdioServerConfig, **tables: object) -> EdgeConfig:
    """One that is refused only when all of it is built: what is required does not come up."""
    return quiet_config(*servers, server("never", "broken", required=True), **tables)


async def test_a_link_of_a_config_that_was_refused_leaves_no_name_in_the_metrics(
    autojump_clock: Clock,
) -> None:
    hq = UplinkConfig(name="hq", dialect="long-poll", url="http://127.0.0.1:9", publish="all")
    good, bad = quiet_config(server("a")), refused_with(server("a"), uplinks={"hq": hq})
    async with running(memory_app(good, Files(bad), scripted)) as app:
        assert (await app.reloads.ask(PLAIN)).result == "refused"
        text = app.metrics.exposition("")[0].decode()
        assert not [line for line in text.splitlines() if '"hq"' in line or '"never"' in line]
        assert app.health.statuses.keys() == {"server:a", "part:sessions"}


async def test_what_is_in_force_stays_hidden_however_many_configs_are_refused(autojump_clock: Clock) -> None:
    def with_token(token: str) -> StdioServerConfig:
        return replace(server("a"), env={"API_TOKEN": token})

    in_force = quiet_config(with_token("hunter2-in-force"))
    refused = [refused_with(with_token(f"hunter2-refused-{n}")) for n in range(2 * GENERATIONS)]
    app = memory_app(in_force, Files(*refused), scripted)
    app.redactor.redact(secrets_of(in_force, {}))  # as at the start
    async with running(app):
        for _ in refused:
            assert (await app.reloads.ask(PLAIN)).result == "refused"
            assert app.redactor.clean("it is hunter2-in-force") == "it is ***"


# -- how long calls may take


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(quiet_config(gateway=GatewayConfig(call_timeout_s=1000)), id="the gateway's"),
        pytest.param(quiet_config(replace(server("a"), call_timeout_s=1000)), id="a server's"),
        pytest.param(quiet_config(hub=hub_config("a", call_timeout_s=1000)), id="the hub's"),
    ],
)
def test_connections_of_a_listener_may_go_on_for_the_longest_call_of_either_config(
    config: EdgeConfig,
) -> None:
    for older, newer in ((config, quiet_config()), (quiet_config(), config)):
        assert drain_of("listener", older, newer, 0) > 1000
        assert drain_of("upstream", older, newer, 0) == newer.gateway.drain_s
    assert drain_of("listener", quiet_config(), quiet_config(), 0) < 1000
