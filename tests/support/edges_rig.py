"""Edges without sockets: links that a test makes, carries, cuts and answers, on the mock clock."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from edge.config.hub import HubConfig
from edge.health import Health
from edge.metrics import Metrics
from edge.parts.edges import Edges
from edge.parts.hub_link import HubLink
from edge.parts.link import Link
from edge.parts.upstream import Upstream
from edge.proto.jsontext import Raw
from edge.proto.numbered import Numbered
from tests.support.hub_rig import hub_config


class ToyCarrier:
    """Carries a link as a pump would, and answers as a server with the tool `echo`; `is_mute` answers nothing, nor
    does it from a request of the method `mute_from` on; one of the method `deaf_to` is never answered."""

    def __init__(
        self,
        link: HubLink,
        *,
        is_mute: bool = False,
        refuses: bool = False,
        mute_from: str = "",
        deaf_to: str = "",
    ) -> None:
        self.link = link
        self.asked: list[dict[str, Any]] = []
        self._mute_from = mute_from
        self._deaf_to = deaf_to
        self.is_mute = is_mute
        self.refuses = refuses
        self.seen: list[str] = []
        self.left: str | None = None
        self._scope = trio.CancelScope()

    def leave(self, reason: str) -> None:
        self.left = reason
        self._scope.cancel()

    def try_write(self, line: bytes) -> bool:
        return False

    async def run(self) -> None:
        """Until it is told to leave, or cut."""
        link = self.link.link
        received = 0 if link.numbered is None else link.numbered.acknowledged
        link.attach(self, received)
        with self._scope:
            while True:
                for line in await link.outbox.take():
                    frame = link.frame(line)
                    assert frame is not None
                    self._answer(json.loads(frame[frame.index("{") :]))

    def cut(self, reason: str = "cut") -> None:
        self.link.link.detach(self, reason)
        self._scope.cancel()

    def say(self, message: Mapping[str, Any]) -> None:
        numbered, text = self.link.link.numbered, json.dumps(message)
        self.link.link.take_in(
            text if numbered is None else f"{numbered.received + 1} {numbered.sent} {text}"
        )

    def _answer(self, message: dict[str, Any]) -> None:
        method = message["method"]
        self.seen.append(method)
        self.asked.append(message)
        self.is_mute = self.is_mute or method == self._mute_from
        if "id" not in message or self.is_mute or method == self._deaf_to:
            return
        if self.refuses:
            self.say({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32603, "message": "broken"}})
            return
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": message.get("params", {}).get("protocolVersion"),
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "toy", "version": "1"},
            },
            "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
        }
        self.say({"jsonrpc": "2.0", "id": message["id"], "result": results.get(method, {})})


class EdgesRig:
    """The edges of a hub, and who hears of them."""

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.health = Health()
        self.upstreams: Mapping[str, Upstream] = {}
        self.changes: list[str] = []
        self.edges = Edges(
            config,
            events=self,
            attach=self._attach,
            health=self.health,
            metrics=self.metrics,
            rng=lambda: 0.5,
        )
        self.intake: trio.CancelScope
        self.has_ended = trio.Event()
        self._nursery: trio.Nursery

    def _attach(self, upstreams: Mapping[str, Upstream]) -> None:
        self.upstreams = upstreams

    def catalog_changed(self, upstream: Upstream) -> None:
        self.changes.append(upstream.name)

    def resource_updated(self, upstream: Upstream, params: Raw) -> None:
        self.changes.append(f"{upstream.name} {params.text}")

    def logged(self, upstream: Upstream, params: Raw) -> None:
        self.changes.append(f"{upstream.name} {params.text}")

    def link(self, name: str, *, own: bool = False, owner: str | None = None) -> HubLink:
        """A new one, not there yet."""
        numbered = Numbered(max_unacked_bytes=1_000_000, max_unacked=1000) if own else None
        counts = self.metrics.hub.opened("contextforge")
        link = Link(name, print, numbered=numbered, limit_bytes=1_000_000, counts=counts)
        return HubLink(name, owner or name, "contextforge", link, f"id-of-{name}" if own else None, counts)

    async def arrive(self, link: HubLink, **carrier: Any) -> ToyCarrier:
        """It is there, and carried; everything that follows has happened."""
        self.edges.arrive(link, None)
        return await self.carry(link, **carrier)

    async def carry(self, link: HubLink, **carrier: Any) -> ToyCarrier:
        toy = ToyCarrier(link, **carrier)
        self._nursery.start_soon(toy.run)
        await self.quiet()
        return toy

    async def come_and_go(self, name: str, *, owner: str | None = None) -> None:
        """A link of this name was there, and its carrier is lost."""
        link = self.link(name, owner=owner)
        carrier = await self.arrive(link)
        carrier.cut()
        self.edges.settle(link)
        await self.quiet()

    async def break_one(self, name: str, **carrier: Any) -> None:
        """A link of this name was there, and is reset."""
        link = self.link(name)
        await self.arrive(link, **carrier)
        self.edges.end(link, "reset", "broken")
        await self.quiet()

    async def quiet(self) -> None:
        """Everything has happened that needs no more than a moment."""
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(0.02)

    async def _run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        await self.edges.run(task_status=task_status)
        self.has_ended.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["EdgesRig"]:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.intake = await nursery.start(self._run)
            yield self
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def edges_rig(**config: Any) -> AsyncIterator[EdgesRig]:
    async with EdgesRig(hub_config("a", **config)).running() as rig:
        yield rig
