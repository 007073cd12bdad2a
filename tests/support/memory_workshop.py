"""An appliance whose servers are scripted ones: everything but sockets and processes is real."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from edge.app.appliance import App
from edge.app.loaded import Load, Loaded
from edge.app.required import Required, start_limit_s
from edge.app.workshop import Built, Workshop, backoff_of
from edge.config.diff import PartKey, PartSpec
from edge.config.model import AdminConfig, EdgeConfig, GatewayConfig, HttpServerConfig, StdioServerConfig
from edge.parts.upstream import Upstream
from edge.redaction import Redactor
from edge.supervise.slot import Part, Slot
from tests.support.memory_channel import ScriptedServer

NO_SOCKETS = {"gateway": GatewayConfig(enabled=False), "admin": AdminConfig(enabled=False)}


def quiet_config(*servers: StdioServerConfig | HttpServerConfig, **tables: object) -> EdgeConfig:
    """One that nothing listens for; call with `gateway` or `admin` for other settings of theirs."""
    return EdgeConfig(servers={one.name: one for one in servers}, **{**NO_SOCKETS, **tables})  # type: ignore[arg-type]  # the tables are the caller's


class MemoryWorkshop(Workshop):
    """Builds servers that would be processes over what `script` gives for them, and everything else as usual."""

    def __init__(self, app: App, script: Callable[[PartSpec], ScriptedServer]) -> None:
        self._app = app
        self._usual = app.workshop
        self._script = script

    def build(
        self, key: PartKey, spec: PartSpec, loaded: Loaded, box: str, *, is_late: bool = False
    ) -> Built:
        if not isinstance(spec, StdioServerConfig):
            return self._usual.build(key, spec, loaded, box, is_late=is_late)
        status = self._app.health.make(f"server:{spec.name}", required=spec.required)
        upstream = Upstream(
            spec,
            self._script(spec).connect,
            events=self._app.gateway,
            status=status,
            metrics=self._app.metrics.new_server(),
            backoff=backoff_of(spec),
            log=logging.getLogger("edge.server"),
        )
        part: Part = upstream
        if spec.required and not is_late:
            part = Required(upstream, limit_s=start_limit_s(spec))

        def update(new: PartSpec, loaded: Loaded) -> Callable[[], None]:
            assert isinstance(new, StdioServerConfig)
            backoff = backoff_of(new)
            return lambda: upstream.update(new, backoff)

        slot = Slot(*key, lambda: part, metrics=self._app.metrics, status=status)
        return Built(
            key=key, spec=spec, slot=slot, subject=upstream, statuses=lambda: [status], update=update
        )


def memory_app(
    config: EdgeConfig, load: Load, script: Callable[[PartSpec], ScriptedServer], **settings: Any
) -> App:
    """Not running yet."""
    # A thread takes no time on the clock of a test, and that clock must not run away with it.
    settings = {"load_limit_s": float("inf"), **settings}
    app = App(Loaded(config=config, source="test.toml"), redactor=Redactor(), load=load, **settings)
    app.workshop = MemoryWorkshop(app, script)
    return app


@asynccontextmanager
async def running(app: App) -> AsyncIterator[App]:
    """Until the end of the block, where it is cancelled."""
    is_up = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.run, lambda app: is_up.set())
        await is_up.wait()
        yield app
        nursery.cancel_scope.cancel()
