"""An appliance in a network of memory that a test reloads, with a failure at any step; and a client that stays."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.app.reloading import Reloading
from edge.config.diff import PartKey
from edge.errors import EdgeError
from edge.redaction import Redactor
from edge.supervise.reload import ReloadOptions, Verdict
from tests.support.checkpoints import CancelAtStep
from tests.support.gateway_client import Client, EventStream
from tests.support.memory_channel import ScriptedServer
from tests.support.memory_http import RawClient
from tests.support.memory_net import MemoryAddresses
from tests.support.memory_site import Site
from tests.support.memory_workshop import MemoryWorkshop
from tests.support.reload_files import Disk, File

OF_PREDECESSORS = "mcp_edge_upstream_tools_last_refresh_timestamp_seconds"
"""When the lists of a server of this name were last read; one that never was up has this of the one before it."""

PLAN = b"POST /-/reload?plan HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


class FaultyWorkshop(MemoryWorkshop):
    """Parts of the kind `fails` cannot be made."""

    fails: str | None = None

    def build(self, key: PartKey, *args: Any, **more: Any) -> Any:
        built = super().build(key, *args, **more)
        if key[0] == self.fails:
            raise EdgeError("cannot be made")
        return built


class Box:
    """The appliance in its surroundings; `load` finds `loaded`."""

    def __init__(self, place: Site, disk: Disk, first: File) -> None:
        self.place = place
        self.net = place.net
        self.disk = disk
        self.loaded = first.loaded(disk)
        disk.put(first.certificate)
        self.is_loading = False
        self.app = App(
            self.loaded,
            redactor=Redactor(),
            load=self.load,
            addresses=MemoryAddresses(place.net),
            load_limit_s=float("inf"),
        )
        self.workshop = self.app.workshop = FaultyWorkshop(self.app, lambda spec: ScriptedServer())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Nursery]:
        """Until the end of the block, where it is told to stop."""
        is_up = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.app.run, lambda app: is_up.set())
            await is_up.wait()
            yield nursery
            signal.raise_signal(signal.SIGTERM)

    def load(self) -> Loaded:
        self.is_loading = False
        return self.loaded

    async def hold_time(self) -> None:
        """The clock must not jump because a thread reads the file."""
        while self.is_loading:
            await trio.lowlevel.checkpoint()

    async def reload(self, loaded: Loaded, *, confirm_s: float, cancel_at: int | None) -> Verdict | None:
        """None: it was cut off."""
        self.loaded = loaded
        self.is_loading = True
        verdict: Verdict | None = None

        async def apply() -> None:
            nonlocal verdict
            with trio.CancelScope() as scope:
                at_step = CancelAtStep(cancel_at or 1_000_000, scope, trio.lowlevel.current_task())
                trio.lowlevel.add_instrument(at_step)
                try:
                    reloading = Reloading(self.app, self.load, load_limit_s=float("inf"))
                    verdict = await reloading.apply(ReloadOptions(confirm_s=confirm_s))
                finally:
                    trio.lowlevel.remove_instrument(at_step)
                    self.is_loading = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.hold_time)
            nursery.start_soon(apply)
        return verdict

    def parts(self) -> dict[PartKey, object]:
        return {key: built.subject for key, built in self.app.built.items()}

    def good_uplinks(self) -> set[str]:
        """The names of uplinks' statuses that are good."""
        return {one.name for one in self.app.health.statuses.values() if one.kind == "uplink" and one.is_good}

    def seen(self) -> dict[str, object]:
        """All that others see of it without asking it anything."""
        app = self.app
        text = app.metrics.exposition("")[0].decode()
        return {
            "config": app.loaded,
            "parts": {key: built.spec for key, built in app.built.items()},
            "addresses": (app.endpoints, app.admin_urls, app.hub_urls, set(self.net.listening)),
            "links": set(self.place.links),
            "health": {key: (one.state, one.required) for key, one in app.health.statuses.items()},
            "series": {
                line.rsplit(" ", 1)[0]
                for line in text.splitlines()
                if line[0] != "#" and not line.startswith(OF_PREDECESSORS)
            },
            "callable": {name: len(one.catalog.tools) for name, one in app.upstreams.items()},
        }

    async def answers(self, file: File) -> dict[str, object]:
        """What those hear who come by the ways that are in `file`."""
        found: dict[str, object] = {}
        if file.control is not None:
            self.is_loading = True
            async with self.net.stream(file.control.made_of) as stream, trio.open_nursery() as nursery:
                nursery.start_soon(self.hold_time)
                answer = await RawClient(stream).ask(PLAN)
                found["control"] = answer.status, json.loads(answer.body)["result"]
        if file.certificate:
            assert file.hub is not None
            stream = self.net.stream(file.hub.made_of[0])
            async with await self.disk.certificates.client_side(stream) as secure:
                found["certificate"] = secure.peer_certificate()["serialNumber"]
        return found


class Visitor:
    """A client with one session, which it keeps for as long as there is any way to it; it listens where it can.

    `heard` are the methods of what it was told since it last looked, `is_listening` whether its stream is open.
    """

    def __init__(self, box: Box, nursery: trio.Nursery) -> None:
        self.heard: list[str] = []
        self.is_listening = False
        self._box = box
        self._nursery = nursery
        self._session: str | None = None
        self._listening: Client | None = None
        self._n_asked = 0

    async def tools(self, file: File) -> list[str] | None:
        """What is listed in the session; None if there is no way to ask. Asserts that the session is there."""
        if file.gateway is None:
            return None
        if self._session is None:
            async with self._connection(file) as client:
                await client.initialize("2025-11-25")
                self._session = client.session
        async with self._connection(file) as client:
            listed = await client.result("tools/list")
        if not self.is_listening:
            await self.leave()
            self._listening = self._client(file)
            self.is_listening = True
            self._nursery.start_soon(self._listen, await self._listening.listen())
        return sorted(tool["name"] for tool in listed["tools"])

    async def hears(self, method: str) -> bool:
        """Whether it has been told, or is in time."""
        with trio.move_on_after(5):
            while method not in self.heard:  # noqa: ASYNC110  it is over when the time is
                await trio.sleep(0.1)
        return method in self.heard

    async def leave(self) -> None:
        if self._listening is not None:
            await self._listening.leave()

    async def _listen(self, stream: EventStream) -> None:
        try:
            while True:
                message = await stream.message()
                self.heard.append(message["method"])
        except (EOFError, trio.ClosedResourceError):
            self.is_listening = False

    def _client(self, file: File) -> Client:
        assert file.gateway is not None
        client = Client(self._box.net.stream(file.gateway.made_of[0]), file.gateway.settings)
        client.session = self._session
        return client

    @asynccontextmanager
    async def _connection(self, file: File) -> AsyncIterator[Client]:
        client = self._client(file)
        try:
            yield client
        finally:
            await client.leave()
