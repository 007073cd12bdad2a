"""A real uplink over a running gateway with scripted servers; its token is `env["TOKEN"]`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from edge.config.common import BackoffConfig
from edge.config.secrets import SecretRef
from edge.config.uplinks import UplinkConfig
from edge.health import Health, Status
from edge.parts.connector import Uplink
from edge.parts.link_names import LinkNames
from edge.parts.link_store import LinkStore
from tests.support.gateway_rig import Rig


async def eventually(condition: Callable[[], bool]) -> None:
    """For what only shows in a status or a metric; the test bounds it."""
    while True:
        if condition():
            return
        await trio.sleep(0.01)


QUICK = BackoffConfig(first_s=0.01, limit_s=0.05)


class UplinkRig:
    def __init__(self, rig: Rig, config: UplinkConfig, store: LinkStore) -> None:
        self.config = config
        self.names = LinkNames()
        self.env = {"TOKEN": "secret-1"}
        self.learned: list[str] = []
        self.health = Health()
        self.metrics = rig.metrics
        self.intake: trio.CancelScope | None = None
        self.has_ended = trio.Event()
        self.uplink = Uplink(
            config,
            config.links("box", sorted(rig.servers)),
            gateway=rig.gateway,
            sessions=rig.sessions,
            metrics=rig.metrics,
            names=self.names,
            add_status=self.health.add,
            store=store,
            env=self.env,
            read_secret=self._no_files,
            learn=self.learned.append,
        )

    def _no_files(self, path: str) -> str:
        raise FileNotFoundError(path)

    @property
    def status(self) -> Status:
        (status,) = self.health.statuses.values()
        return status

    async def stop(self) -> None:
        assert self.intake is not None
        self.intake.cancel()
        await self.has_ended.wait()


@asynccontextmanager
async def uplink(rig: Rig, url: str, **settings: Any) -> AsyncIterator[UplinkRig]:
    """Running until the end of the block, where it is cancelled."""
    store = settings.pop("store", LinkStore(None))
    config = UplinkConfig(
        **{
            "name": "hq",
            "dialect": "contextforge",
            "url": url,
            "token_ref": SecretRef("env", "TOKEN"),
            "reconnect": QUICK,
            "proxy": "none",
            **settings,
        }
    )
    up = UplinkRig(rig, config, store)
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
            await up.uplink.run(task_status=task_status)
            up.has_ended.set()

        up.intake = await nursery.start(run)
        yield up
        nursery.cancel_scope.cancel()
