"""The links of an uplink, as the servers that they publish come and go."""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.gateway_rig import ToolServer, gateway, hang
from tests.support.toy_link import ToyCarrier, ToyDialect, ToyHub
from tests.support.uplink_rig import UplinkRig, uplink

LINKS = {"box-a": "a"}
CALL = '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hang", "arguments": {}}}'


class SlowHub(ToyHub):
    """Closing a carrier of this one takes a second, whoever cancels it."""

    def __call__(self) -> tuple[ToyDialect, ToyCarrier]:
        dialect, carrier = super().__call__()
        run = carrier.run

        async def run_slowly(feed: Any) -> None:
            try:
                await run(feed)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)

        carrier.run = run_slowly  # type: ignore[method-assign]  # of this one only
        return dialect, carrier


@pytest.fixture
def hubs(monkeypatch: pytest.MonkeyPatch) -> dict[str, ToyHub]:
    """What each link is dialled at, by its name."""
    found: dict[str, ToyHub] = defaultdict(SlowHub)
    monkeypatch.setattr("edge.parts.connector.Way", lambda config, name, *args, **more: found[name])
    return found


@asynccontextmanager
async def busy(hubs: dict[str, ToyHub]) -> AsyncIterator[tuple[UplinkRig, ToyHub]]:
    """An uplink with one link, and its hub; a call that does not end is under way over it."""
    async with gateway(ToolServer(hang=hang)) as rig, uplink(rig, "ws://hub") as up:
        hub = hubs["box-a"]
        if hub.carrier is None:
            await hub.up.wait()
        await wait_all_tasks_blocked()
        hub.send(CALL)
        await wait_all_tasks_blocked()
        yield up, hub


async def test_a_link_that_is_removed_while_it_waits_for_its_namesake_never_begins(
    autojump_clock: MockClock, hubs: dict[str, ToyHub]
) -> None:
    async with busy(hubs) as (up, hub):
        for links in ({}, LINKS, {}):
            up.uplink.update(links, 10)
            await wait_all_tasks_blocked()
        await trio.sleep(30)
        assert (up.uplink.links, len(hub.attempts)) == ([], 1)
        up.uplink.update(LINKS, 10)
        await trio.sleep(1)
        assert len(hub.attempts) == 2


async def test_an_uplink_stops_while_a_link_waits_for_its_namesake(
    autojump_clock: MockClock, hubs: dict[str, ToyHub]
) -> None:
    async with busy(hubs) as (up, hub):
        for links in ({}, LINKS):
            up.uplink.update(links, 10)
            await wait_all_tasks_blocked()
        with trio.fail_after(20):
            await up.stop()
        assert len(hub.attempts) == 1


async def test_a_link_begins_when_its_namesake_has_really_ended(
    autojump_clock: MockClock, hubs: dict[str, ToyHub]
) -> None:
    async with busy(hubs) as (up, hub):
        began = trio.current_time()
        for links in ({}, LINKS):
            up.uplink.update(links, 10)
        await trio.sleep(30)
        assert hub.attempts == [0, began + 10 + 1]  # cancelled after ten, closed one later
