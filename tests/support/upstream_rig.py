"""An upstream over a scripted server, and all that can be seen of it."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from edge.backoff import Backoff
from edge.config.model import ServerConfig, StdioServerConfig
from edge.health import Status
from edge.metrics_servers import ServerMetrics
from edge.parts.upstream import Upstream
from tests.support.memory_channel import ScriptedServer, Witness

GIT = StdioServerConfig(name="git", command=("git-server",))


class Rig:
    """An upstream over a scripted server, and all that can be seen of it."""

    def __init__(self, server: ScriptedServer, config: ServerConfig = GIT) -> None:
        self.server = server
        self.events = Witness()
        self.status = Status("server:git")
        self.metrics = ServerMetrics()
        self.upstream = Upstream(
            config,
            server.connect,
            events=self.events,
            status=self.status,
            metrics=self.metrics,
            backoff=Backoff(first_s=1, limit_s=60, jitter=0),
            log=logging.getLogger("edge.upstream"),
        )

    async def call(self, method: str = "tools/call", timeout_s: float = 0) -> str:
        return (await self.upstream.request(method, '{"name":"echo"}', timeout_s=timeout_s)).text


@asynccontextmanager
async def up(server: ScriptedServer, config: ServerConfig = GIT) -> AsyncIterator[Rig]:
    """Running and ready; cancelled at the end."""
    rig = Rig(server, config)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.upstream.run)
        await rig.upstream.wait_ready()
        yield rig
        nursery.cancel_scope.cancel()


def after(seconds: float, text: str = "{}") -> Callable[[str | None], Awaitable[str]]:
    async def answer(params: str | None) -> str:
        await trio.sleep(seconds)
        return text

    return answer


def in_turn(*answers: str | Exception) -> Callable[[str | None], Awaitable[str]]:
    rest = list(answers)

    async def answer(params: str | None) -> str:
        now = rest.pop(0) if len(rest) > 1 else rest[0]
        if isinstance(now, Exception):
            raise now
        return now

    return answer
