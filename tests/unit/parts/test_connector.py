"""The links of an uplink, as the servers that they publish come and go."""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.parts.connector import Uplink
from edge.parts.link_store import LinkStore
from tests.support.gateway_rig import Rig, ToolServer, gateway, hang
from tests.support.toy_link import ToyCarrier, ToyDialect, ToyHub
from tests.support.uplink_rig import UplinkRig, uplink

LINKS = {"box-a": "a"}
CALL = '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hang", "arguments": {}}}'


class SlowHub(ToyHub):
    """Closing a carrier of this one takes a second, whoever cancels it."""

    async def __call__(self) -> tuple[ToyDialect, ToyCarrier]:
        dialect, carrier = await super().__call__()
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
        await call_over(hubs["box-a"])
        yield up, hubs["box-a"]


async def call_over(hub: ToyHub) -> None:
    """A call that does not end is under way over this hub's link then."""
    if hub.carrier is None:
        await hub.up.wait()
    await wait_all_tasks_blocked()
    hub.send(CALL)
    await wait_all_tasks_blocked()


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


def renamed(up: UplinkRig, rig: Rig, *, url: str = "ws://hub", **links: str) -> Uplink:
    """Another table that leads to the same hub, with these links, and knows the same names."""
    return Uplink(
        replace(up.config, name="renamed", url=url),
        {name.replace("_", "-"): server for name, server in links.items()},
        gateway=rig.gateway,
        sessions=rig.sessions,
        metrics=rig.metrics,
        names=up.names,
        add_status=up.health.add,
        store=LinkStore(None),
        env=up.env,
        read_secret=str,
        learn=up.learned.append,
    )


async def test_a_link_waits_for_its_namesake_in_another_table(
    autojump_clock: MockClock, hubs: dict[str, ToyHub]
) -> None:
    """Both go to one hub: it would throw out the older one, with the call that is under way."""
    async with (
        gateway(ToolServer(hang=hang)) as rig,
        uplink(rig, "ws://hub") as up,
        trio.open_nursery() as nursery,
    ):
        hub = hubs["box-a"]
        await call_over(hub)
        other = renamed(up, rig, box_a="a", box_b="a")
        await nursery.start(other.run)
        await trio.sleep(5)
        assert [status.reason for status in other.statuses] == [
            "waits until another one of its name has left",
            "",
        ]
        assert (len(hub.attempts), len(hubs["box-b"].attempts)) == (1, 1)
        left_at = trio.current_time()
        up.uplink.update({}, 10)
        await trio.sleep(30)
        assert hub.attempts == [0, left_at + 10 + 1]
        nursery.cancel_scope.cancel()


OTHER_PATHS = ["http://hub/mcp-reverse", "ws://HUB:80/x?tenant=2"]


@pytest.mark.parametrize("url", OTHER_PATHS)
@pytest.mark.parametrize("by", ["update", "stop"])
async def test_a_link_waits_for_its_namesake_that_leaves_another_path_of_the_same_host(
    autojump_clock: MockClock, hubs: dict[str, ToyHub], url: str, by: str
) -> None:
    """It may be the same hub, in another dialect."""
    async with (
        gateway(ToolServer(hang=hang)) as rig,
        uplink(rig, "ws://hub") as up,
        trio.open_nursery() as nursery,
    ):
        hub = hubs["box-a"]
        await call_over(hub)
        left_at = trio.current_time()
        if by == "update":
            up.uplink.update({}, 10)
        else:
            assert up.intake is not None
            up.intake.cancel()
        other = renamed(up, rig, url=url, box_a="a")
        await nursery.start(other.run)
        await trio.sleep(5)
        assert [status.reason for status in other.statuses] == [
            "waits until another one of its name has left"
        ]
        assert hub.attempts == [0]
        if by == "stop":
            hub.send('{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}')
            left_at = trio.current_time() - 10
        await trio.sleep(30)
        assert hub.attempts == [0, left_at + 10 + 1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("url", [*OTHER_PATHS, "ws://hub:81", "ws://other", "wss://hub"])
async def test_links_of_one_name_to_different_places_that_are_both_wanted_do_not_wait(
    autojump_clock: MockClock, hubs: dict[str, ToyHub], url: str
) -> None:
    async with (
        gateway(ToolServer(hang=hang)) as rig,
        uplink(rig, "ws://hub") as up,
        trio.open_nursery() as nursery,
    ):
        await call_over(hubs["box-a"])
        other = renamed(up, rig, url=url, box_a="a")
        await nursery.start(other.run)
        await trio.sleep(1)
        assert hubs["box-a"].attempts == [0, 0]
        nursery.cancel_scope.cancel()


async def test_a_link_waits_for_nobody_who_leaves_another_host(
    autojump_clock: MockClock, hubs: dict[str, ToyHub]
) -> None:
    async with busy(hubs) as (up, hub), gateway() as rig, trio.open_nursery() as nursery:
        up.uplink.update({}, 10)
        await nursery.start(renamed(up, rig, url="ws://hub:81", box_a="a").run)
        await trio.sleep(1)
        assert hub.attempts == [0, 0]
        nursery.cancel_scope.cancel()
