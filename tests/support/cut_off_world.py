"""A network of memory with somebody in it, and parts of the appliance that are cut off there at each of their steps."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import trio

from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.config.diff import ControlSpec, PartKey
from edge.config.model import EdgeConfig
from edge.net.file_reader import FileReader
from edge.redaction import Redactor
from tests.support.cut_off import cut_off_at_every_step, live_as_part
from tests.support.memory_channel import ScriptedServer
from tests.support.memory_net import MemoryAddresses, MemoryNet
from tests.support.memory_site import Site, site
from tests.support.memory_workshop import MemoryWorkshop

T = TypeVar("T")
QUICK_HUB = {"heartbeat_s": 1.5, "dead_after_s": 4, "resume_grace_s": 5}


class World:
    """Each part is of an appliance of its own."""

    def __init__(self, place: Site) -> None:
        self.place = place
        self.net = place.net
        self._loading: App | None = None
        self._begins = trio.Event()

    def app(
        self, config: EdgeConfig, control: ControlSpec | None = None, afterwards: EdgeConfig | None = None
    ) -> App:
        """`afterwards` is what a reload finds."""

        def load() -> Loaded:
            if self._loading is app:  # and not one that was cut off meanwhile
                self._loading = None
            return Loaded(config=afterwards or config, control=control)

        app = App(
            Loaded(config=config, control=control),
            redactor=Redactor(),
            addresses=MemoryAddresses(self.net),
            load=load,
            load_limit_s=float("inf"),
        )
        app.workshop = MemoryWorkshop(app, lambda spec: ScriptedServer())
        return app

    async def try_out(
        self,
        key: PartKey,
        config: EdgeConfig,
        use: Callable[[Any], Awaitable[None]],
        *,
        control: ControlSpec | None = None,
        stride: int = 1,
    ) -> int:
        """Cut the part off at every step of a life in which `use` does something with it."""

        def make() -> Any:
            app = self.app(config, control)
            return app.workshop.build(key, app.loaded.parts[key], app.loaded, "box").subject

        async def live(part: Any) -> None:
            await live_as_part(part, lambda: use(part))

        return await cut_off_at_every_step(make, live, left=self.left, stride=stride)

    def left(self) -> object:
        return self.net.open, self.net.listening

    @contextmanager
    def loading(self, app: App) -> Iterator[None]:
        """A reload is asked for: until it has read its file, in a thread, the clock must not jump."""
        self._loading = app
        self._begins.set()
        try:
            yield
        finally:
            self._loading = None

    async def keep_time(self) -> None:
        """In a task that is nobody's who is cut off: its steps are not to be counted."""
        while True:
            await self._begins.wait()
            self._begins = trio.Event()
            while self._loading is not None:
                await trio.lowlevel.checkpoint()


async def read_in_place(_: FileReader, what: Callable[[], T], limit_s: float) -> T:
    """As `FileReader.read`, without a thread: while one reads, the mock clock would jump over its time limit."""
    del limit_s
    await trio.lowlevel.checkpoint()
    return what()


@asynccontextmanager
async def world(**hub_settings: Any) -> AsyncIterator[World]:
    """Its hub knows the edge `box`."""
    net = MemoryNet()
    with net.calling(), patch.object(FileReader, "read", read_in_place):
        async with site(net, "box", **QUICK_HUB, **hub_settings) as place, trio.open_nursery() as nursery:
            found = World(place)
            nursery.start_soon(found.keep_time)
            yield found
            nursery.cancel_scope.cancel()


async def call(upstream: Any, tool: str) -> None:
    """Once it is up; later it is probed, as nobody asks it any more."""
    await upstream.wait_ready()
    await upstream.request("tools/call", json.dumps({"name": tool}), timeout_s=5)
    await trio.sleep(1.5)
