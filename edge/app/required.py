"""A server without which we do not start."""

import logging

import trio

from edge.config.model import ServerConfig, StdioServerConfig
from edge.errors import UpstreamError
from edge.parts.upstream import Upstream

REQUIRED_HTTP_S = 30.0

log = logging.getLogger("edge.app")


class RequiredServerDown(UpstreamError):
    """A server that the config requires did not come up in its time; start-up fails, and so does a reload."""


class Required:
    """Reports started once the server has answered.

    Raises: RequiredServerDown, if that takes longer than `limit_s`. Later on it may go down like any other.
    """

    def __init__(self, upstream: Upstream, *, limit_s: float) -> None:
        self._upstream = upstream
        self._limit_s = limit_s
        self._has_been_up = False

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        async with trio.open_nursery() as nursery:
            intake: trio.CancelScope = await nursery.start(self._upstream.run)
            if not self._has_been_up:
                extra = {"server": self._upstream.name, "limit_s": self._limit_s}
                log.info("waiting for a required server", extra=extra)
                with trio.move_on_after(self._limit_s):
                    await self._upstream.wait_ready()
                if not self._upstream.is_ready:
                    raise RequiredServerDown(
                        self._upstream.name, self._upstream.status.reason or "no answer yet"
                    )
                self._has_been_up = True
            task_status.started(intake)


def start_limit_s(spec: ServerConfig) -> float:
    """How long a required server may take: an HTTP one may have to be started first, by somebody else."""
    return spec.start_timeout_s if isinstance(spec, StdioServerConfig) else REQUIRED_HTTP_S
