"""Links between our own two ends: interrupted, resumed, not resumed in time, and somebody else's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from edge.errors import Gone, Unavailable
from edge.proto.numbered import LinkOffer, Numbered
from tests.support.hub_rig import HubRig, hub, until
from tests.support.scripted_edge import Script, WebSocketEdge, websocket_edge


class OwnEdge:
    """An edge of ours as far as its hub can see: one link, over as many connections as the test likes."""

    def __init__(self, rig: HubRig, home: trio.Nursery, name: str = "a") -> None:
        self.rig = rig
        self.home = home
        self.name = name
        self.script = Script()
        self.numbered = Numbered(max_unacked_bytes=10_000_000, max_unacked=1000)
        self.link: str | None = None

    @asynccontextmanager
    async def connected(self, *, register: bool = True) -> AsyncIterator[WebSocketEdge]:
        offer = LinkOffer(self.link, self.numbered.received).encode()
        client = self.rig.client(self.name)
        async with websocket_edge(
            client, self.script, numbered=self.numbered, home=self.home, mcp_edge_link=offer
        ) as edge:
            if register:
                await edge.register(self.name)
                await edge.frame("register_ack", status="success")
                if edge.link_answer.link == self.link:
                    for frame in self.numbered.resume(edge.link_answer.received):
                        await edge.socket.send_message(frame)
                self.link = edge.link_answer.link
                edge.is_resumed.set()
            yield edge

    async def interrupted(self) -> None:
        """Once the hub has noticed."""

        def is_suspended() -> bool:
            link = self.rig.acceptor.edges.link(self.name)
            return link is not None and link.link.suspended_since is not None

        await until(is_suspended)


async def test_calls_survive_the_loss_of_a_connection() -> None:
    answers: list[Any] = []
    async with hub("a") as rig, trio.open_nursery() as nursery:
        own = OwnEdge(rig, nursery)

        async def call(n: int) -> None:
            answers.append(await rig.call("a", n=n))

        async with own.connected() as edge:
            await rig.ready("a")
            own.script.hold = True
            for n in range(5):
                nursery.start_soon(call, n)
            await until(lambda: own.script.seen.count("tools/call") == 5)
            edge.cut()
        await own.interrupted()
        own.script.release.set()  # they are answered while there is no connection
        own.script.hold = False
        nursery.start_soon(call, 5)  # and one is made
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert answers == []
        async with own.connected():
            await until(lambda: len(answers) == 6)
            assert own.script.seen.count("tools/call") == 6
            assert own.script.seen.count("initialize") == 1
        assert sorted(answer["n"] for answer in answers) == list(range(6))
        assert rig.metrics.hub.traffic.resumed == 1
        nursery.cancel_scope.cancel()


async def test_a_link_is_resumed_though_its_old_connection_seems_to_live() -> None:
    async with hub("a") as rig, trio.open_nursery() as nursery:
        own = OwnEdge(rig, nursery)
        async with own.connected() as older:
            await rig.ready("a")
            async with own.connected() as newer:
                assert newer.link_answer.link == older.link_answer.link
                assert (await older.wait_closed())[0] == 1000
                assert await rig.call("a", n=1) == {"n": 1}
        assert rig.metrics.hub.replaced == 0
        nursery.cancel_scope.cancel()


async def test_a_link_that_is_not_resumed_in_time_ends_with_its_calls() -> None:
    errors: list[str] = []
    async with hub("a", resume_grace_s=0.3) as rig, trio.open_nursery() as nursery:
        own = OwnEdge(rig, nursery)

        async def call() -> None:
            with pytest.raises(Gone) as caught:
                await rig.call("a")
            errors.append(caught.value.text)

        async with own.connected() as edge:
            await rig.ready("a")
            own.script.hold = True
            nursery.start_soon(call)
            await until(lambda: "tools/call" in own.script.seen)
            edge.cut()
        await until(lambda: errors != [])
        assert errors[0].startswith("outcome unknown")
        before = own.link
        own.script.hold = False
        own.numbered = Numbered(max_unacked_bytes=10_000_000, max_unacked=1000)
        async with own.connected():
            assert own.link != before
            await rig.ready("a")
            assert await rig.call("a", n=1) == {"n": 1}
        nursery.cancel_scope.cancel()


async def test_an_edge_that_unregisters_is_not_waited_for() -> None:
    async with hub("a") as rig, trio.open_nursery() as nursery:
        own = OwnEdge(rig, nursery)
        async with own.connected() as edge:
            await rig.ready("a")
            await edge.send(type="unregister", sessionId="mine")
            await rig.down("a")
            assert rig.acceptor.edges.link("a") is None
            with pytest.raises(Unavailable):
                await rig.upstreams["a"].request("ping", None, timeout_s=1)
        nursery.cancel_scope.cancel()


async def test_another_edge_does_not_get_a_link_by_its_id() -> None:
    async with hub("a", "b") as rig, trio.open_nursery() as nursery:
        own, thief = OwnEdge(rig, nursery), OwnEdge(rig, nursery, name="b")
        async with own.connected():
            await rig.ready("a")
            thief.link = own.link
            async with thief.connected(register=False) as other:
                assert other.link_answer.link != own.link
                assert other.link_answer.received == 0
                assert await rig.call("a", n=1) == {"n": 1}
        nursery.cancel_scope.cancel()


async def test_frames_with_a_gap_end_the_link_and_only_that() -> None:
    async with hub("a", "b") as rig, trio.open_nursery() as nursery:
        bad, good = OwnEdge(rig, nursery), OwnEdge(rig, nursery, name="b")
        async with good.connected(), bad.connected() as edge:
            await rig.ready("a")
            await rig.ready("b")
            await edge.socket.send_message('999 0 {"jsonrpc":"2.0","id":1,"result":{}}')
            assert (await edge.wait_closed())[0] == 1002
            await rig.down("a")
            assert rig.acceptor.edges.link("a") is None
            assert await rig.call("b", n=1) == {"n": 1}
            assert rig.metrics.hub.lost["protocol"] == 1
        nursery.cancel_scope.cancel()


async def test_a_link_cannot_be_resumed_under_another_name() -> None:
    async with hub("a") as rig, trio.open_nursery() as nursery:
        own = OwnEdge(rig, nursery)
        async with own.connected():
            await rig.ready("a")
        async with own.connected(register=False) as edge:
            await edge.register("a-2")
            assert (await edge.wait_closed())[0] == 1000
        assert rig.acceptor.edges.connected() == ["a"]
        async with own.connected():
            assert await rig.call("a", n=1) == {"n": 1}
        nursery.cancel_scope.cancel()
