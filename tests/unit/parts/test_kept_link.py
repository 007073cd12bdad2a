"""A link is tried again as its losses suggest, and its calls live as long as the logical link does."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from edge.backoff import Backoff
from edge.errors import EdgeError
from edge.health import Status
from edge.metrics import LinkMetrics
from edge.parts.kept_link import KeptLink
from edge.parts.link import Link
from edge.parts.link_face import LinkFace
from edge.proto.dialect import Closed, Received, Refused
from tests.support.checkpoints import cancel_at_every_step
from tests.support.gateway_rig import Asked, Rig, ToolServer, gateway, hang
from tests.support.toy_link import ToyHub


class Kept:
    """A kept link and all that can be seen of it."""

    def __init__(self, rig: Rig, hub: ToyHub, settings: dict[str, Any]) -> None:
        self.hub = hub
        self.status = Status("uplink:hq")
        self.metrics = LinkMetrics()

        def make_face(link: Link) -> LinkFace:
            extra = {"link": "box"}
            return LinkFace(
                link, rig.gateway, rig.sessions, "a", metrics=rig.metrics, max_calls=8, extra=extra
            )

        self.link = KeptLink(
            "box",
            hub,
            make_face,
            status=self.status,
            metrics=self.metrics,
            backoff=Backoff(1, 30, jitter=0, forgive_after_s=30),
            rng=lambda: 1.0,
            extra={"link": "box"},
            detail={"dialect": "toy"},
            **{
                "slow_s": 30,
                "good_after_s": 30,
                "max_attempts": 0,
                "max_message_bytes": 1_000_000,
                "resume": True,
                "remember": None,
                "shows_session": False,
                **settings,
            },
        )

    def call(self, request_id: int, tool: str = "echo") -> None:
        params = {"name": tool, "arguments": {}}
        self.hub.send(
            json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params})
        )

    async def answer(self) -> Any:
        return json.loads(await self.hub.read())


@asynccontextmanager
async def kept(hub: ToyHub, server: ToolServer | None = None, **settings: Any) -> AsyncIterator[Kept]:
    async with gateway(server or ToolServer()) as rig:
        link = Kept(rig, hub, settings)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.link.run)
            yield link
            nursery.cancel_scope.cancel()
        assert (link.metrics.up, link.status.state) == (False, "stopped")


async def test_a_call_is_answered_over_the_link(autojump_clock: trio.testing.MockClock) -> None:
    hub = ToyHub()
    async with kept(hub) as link:
        await hub.up.wait()
        link.call(1)
        assert (await link.answer())["id"] == 1
        assert link.status.is_good
        assert link.metrics.up is True
        link.link.refresh()
        detail = link.status.detail
        assert (detail["kind"], detail["failures"], detail["connections"]) == ("v1", 0, 1)
        assert detail["bytes_received"] > 0


async def test_what_was_last_heard_of_the_hub_is_its_last_success(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub = ToyHub()
    async with kept(hub) as link:
        await hub.up.wait()
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await trio.sleep(7)
        link.link.refresh()
        assert link.status.last_success == began
        link.call(1)
        await link.answer()
        link.link.refresh()
        assert link.status.last_success == began + 7
        await trio.sleep(5)
        link.metrics.rtt_s = 0.02  # as a heartbeat that was answered leaves it
        link.link.refresh()
        assert link.status.last_success == began + 12


async def test_attempts_that_fail_come_with_growing_delays(autojump_clock: trio.testing.MockClock) -> None:
    hub = ToyHub(*[Closed("no route")] * 7)
    async with kept(hub) as link:
        await hub.up.wait()
        assert hub.attempts == [0, 1, 3, 7, 15, 31, 61, 91]
        assert link.metrics.attempts["failed"] == 7
        assert link.metrics.attempts["ready"] == 0  # its answer is on the way
        await trio.testing.wait_all_tasks_blocked()
        assert link.metrics.attempts["ready"] == 1


async def test_a_loss_is_forgiven_only_after_the_link_was_good_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub = ToyHub()
    async with kept(hub):
        for up_s in (1, 1, 40):
            await hub.up.wait()
            await trio.sleep(up_s)
            hub.cut()
        await hub.up.wait()
        waits = [b - a for a, b in zip(hub.attempts, hub.attempts[1:], strict=False)]
        assert waits == [1 + 1, 1 + 2, 40 + 1]


async def test_a_link_whose_files_hang_can_be_stopped(autojump_clock: trio.testing.MockClock) -> None:
    hub = ToyHub()
    hub.takes_s = 1000
    async with kept(hub) as link:
        await trio.testing.wait_all_tasks_blocked()
        await link.link.stop()
        assert trio.current_time() == 0
        assert (link.status.state, hub.dialects) == ("stopped", [])


async def test_a_refusal_is_not_hurried_and_says_what_to_do(autojump_clock: trio.testing.MockClock) -> None:
    hub = ToyHub(Refused(403))
    async with kept(hub, slow_s=30) as link:
        await trio.sleep(1)
        assert link.status.state == "degraded"
        assert link.status.reason == "answered 403 (look at the token)"
        link.link.refresh()
        assert link.status.report(trio.current_time())["next_attempt_in_s"] == 74
        await hub.up.wait()
        assert hub.attempts == [0, 75]
        assert link.metrics.attempts["refused"] == 1


async def test_a_loss_that_invites_to_come_back_is_hurried_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub = ToyHub()
    async with kept(hub):
        for _ in range(3):
            await hub.up.wait()
            await trio.testing.wait_all_tasks_blocked()
            hub.cut("now")
        await hub.up.wait()
        assert hub.attempts == [0, 0.25, 1.25, 3.25]
        await trio.sleep(30)
        hub.cut("now")
        await hub.up.wait()
        assert hub.attempts[-1] == 33.5


async def test_an_attempt_that_cannot_be_made_is_made_again(autojump_clock: trio.testing.MockClock) -> None:
    hub = ToyHub(EdgeError("the token cannot be read: it is empty"))
    async with kept(hub) as link:
        await trio.testing.wait_all_tasks_blocked()
        assert link.status.reason == "the token cannot be read: it is empty"
        await hub.up.wait()
        assert hub.attempts == [0, 1]


async def test_after_max_attempts_it_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    hub = ToyHub(*[Closed("no route")] * 3)
    async with kept(hub, max_attempts=3) as link:
        await trio.sleep(1000)
        assert link.status.state == "failed"
        assert link.status.reason == "given up after 3 attempts: no route"
        assert hub.attempts == [0, 1, 3]
        await link.link.stop()


async def test_the_same_trouble_is_said_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    hub = ToyHub(Closed("no route"), Closed("no route"), Refused(401), Closed("no route"))
    async with kept(hub):
        await hub.up.wait()
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [(r.getMessage(), vars(r)["reason"]) for r in warnings] == [
        ("link down", "no route"),
        ("link down", "answered 401"),
        ("link down", "no route"),
    ]


async def test_with_a_foreign_gateway_a_cut_ends_the_calls_and_their_server_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub, server = ToyHub(), ToolServer(hang=hang)
    async with kept(hub, server) as link:
        await hub.up.wait()
        link.call(1, "hang")
        await trio.testing.wait_all_tasks_blocked()
        hub.cut()
        await trio.testing.wait_all_tasks_blocked()
        assert server.cancelled == ["tools/call"]
        assert link.status.state == "degraded"
        await hub.up.wait()
        link.call(2, "hang")
        await trio.testing.wait_all_tasks_blocked()
        assert link.metrics.reconnects == 1
        assert hub.received == []


async def slow(asked: Asked) -> str:
    await trio.sleep(5)
    return '{"content":[]}'


async def test_with_a_hub_of_ours_calls_survive_a_cut(autojump_clock: trio.testing.MockClock) -> None:
    hub, server = ToyHub(own=True), ToolServer(slow=slow)
    async with kept(hub, server) as link:
        await hub.up.wait()
        link.call(1, "slow")
        await trio.sleep(3)
        hub.outcomes = [Closed("still down"), Closed("still down")]
        hub.cut()
        link.call(2, "slow")  # written by the hub while there was no carrier
        assert [(await link.answer())["id"] for _ in range(2)] == [1, 2]
        assert hub.offers[0] == "v=1; max=1000000"
        assert hub.offers[1] == f"v=1; link={hub.link_id}; received=1; max=1000000"
        assert hub.attempts == [0, 3.25, 4.25, 6.25]  # the first one after the cut is hurried
        assert server.cancelled == []
        assert len(server.asked_for("tools/call")) == 2
        assert link.metrics.resumed == 1


async def test_what_was_lost_on_the_way_is_sent_again_after_a_cut(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub = ToyHub(own=True)
    async with kept(hub) as link:
        await hub.up.wait()
        await trio.testing.wait_all_tasks_blocked()
        carrier, hub.carrier = hub.carrier, None  # nobody hears us, and we have not noticed
        assert carrier is not None
        frame = hub.numbered.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
        carrier.give(Received(frame))
        await trio.testing.wait_all_tasks_blocked()
        assert hub.received == []
        carrier.give(Closed("cut"))
        assert (await link.answer())["id"] == 1
        await trio.testing.wait_all_tasks_blocked()
        assert hub.received == []


async def test_a_new_link_of_a_hub_of_ours_ends_the_old_one_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub, server = ToyHub(own=True), ToolServer(hang=hang)
    async with kept(hub, server) as link:
        await hub.up.wait()
        link.call(1, "hang")
        await trio.testing.wait_all_tasks_blocked()
        hub.cut()
        await trio.testing.wait_all_tasks_blocked()
        assert server.cancelled == []
        hub.forget()
        await hub.up.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert server.cancelled == ["tools/call"]
        link.call(1)
        assert "error" in await link.answer()  # there is no such tool, and the id is free


async def test_a_link_that_is_not_resumed_in_time_ends(autojump_clock: trio.testing.MockClock) -> None:
    hub, server = ToyHub(own=True), ToolServer(hang=hang)
    async with kept(hub, server) as link:
        await hub.up.wait()
        link.call(1, "hang")
        await trio.testing.wait_all_tasks_blocked()
        hub.outcomes = [Closed("down")] * 100
        hub.cut()
        await trio.sleep(119)
        assert server.cancelled == []
        await trio.sleep(2)
        assert server.cancelled == ["tools/call"]
        hub.outcomes.clear()
        await hub.up.wait()
        assert hub.offers[-1] == "v=1; max=1000000"


async def test_a_link_that_was_resumed_has_all_the_time_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub, server = ToyHub(own=True), ToolServer(hang=hang)
    async with kept(hub, server) as link:
        await hub.up.wait()
        link.call(1, "hang")
        await trio.testing.wait_all_tasks_blocked()
        hub.cut()
        await hub.up.wait()
        await trio.sleep(200)  # the hub waits 120 s for a link; a call may take 300 s
        assert server.cancelled == []
        assert len(hub.offers) == 2


async def test_ends_that_disagree_begin_anew(autojump_clock: trio.testing.MockClock) -> None:
    hub, server = ToyHub(own=True), ToolServer(hang=hang)
    async with kept(hub, server) as link:
        await hub.up.wait()
        link.call(1, "hang")
        await trio.testing.wait_all_tasks_blocked()
        assert hub.carrier is not None
        hub.numbered.sent += 1  # a message is missing
        link.call(2, "hang")
        await trio.testing.wait_all_tasks_blocked()
        assert hub.closed[0].code == 1002
        assert server.cancelled == ["tools/call"]
        await hub.up.wait()
        assert hub.offers[-1] == "v=1; max=1000000"


async def test_an_answer_that_is_none_is_not_used(autojump_clock: trio.testing.MockClock) -> None:
    hub = ToyHub(own=True)
    hub.answer = "v=9"
    async with kept(hub) as link:
        await hub.up.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert hub.closed[0].code == 1002
        assert not link.metrics.up


async def test_resumption_that_is_switched_off_is_not_offered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub = ToyHub(own=True)
    async with kept(hub, resume=False):
        await hub.up.wait()
        assert hub.offers == [None]


async def test_stopping_lets_calls_end_and_says_goodbye(autojump_clock: trio.testing.MockClock) -> None:
    hub = ToyHub()
    async with kept(hub, ToolServer(slow=slow)) as link:
        await hub.up.wait()
        link.call(1, "slow")
        await trio.sleep(1)
        await link.link.stop()
        assert trio.current_time() == 5
        assert json.loads(hub.received[0])["id"] == 1
        assert [farewell.code for farewell in hub.closed] == [1000]
        assert link.status.state == "stopped"
        assert len(hub.attempts) == 1


async def test_stopping_does_not_wait_for_the_next_attempt(autojump_clock: trio.testing.MockClock) -> None:
    hub = ToyHub(Refused(403))
    async with kept(hub) as link:
        await trio.sleep(1)
        await link.link.stop()
        assert trio.current_time() == 1
        assert hub.attempts == [0]


async def test_waking_up_doubts_a_link_that_is_up_and_cuts_a_wait_short(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub = ToyHub(Refused(403))
    async with kept(hub) as link:
        await trio.sleep(2)
        link.link.wake()
        await hub.up.wait()
        assert hub.attempts == [0, 2]
        link.link.wake()
        assert hub.dialects[-1].doubts == 1


async def test_cancelled_at_any_step_it_ends_and_its_calls_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[tuple[Kept, ToolServer]] = []

    async def scenario() -> None:
        hub, server = ToyHub(own=True), ToolServer(hang=hang, slow=slow)
        async with kept(hub, server) as link:
            seen.append((link, server))
            await hub.up.wait()
            link.call(1, "hang")
            link.call(2, "slow")
            await trio.sleep(1)
            hub.cut()
            await link.answer()
            hub.cut()
            hub.forget()
            await hub.up.wait()
            await link.link.stop()

    runs = await cancel_at_every_step(scenario)
    assert runs > 50
    for link, server in seen:
        assert not link.metrics.up
        assert len(server.cancelled) >= len(server.asked_for("tools/call")) - 1
