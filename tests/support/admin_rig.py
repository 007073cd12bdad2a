"""An admin listener on a real socket over a `Health` that a test writes, and `mcp-edge health` asking it."""

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from edge.cli.cmd_health import health
from edge.health import Health
from edge.metrics import Metrics
from edge.net.http_server import HttpLimits
from edge.parts.admin import AdminFace
from edge.parts.listener import Listener


@asynccontextmanager
async def admin_listener(
    address: str, status: Health, *, now: Callable[[], float] = trio.current_time
) -> AsyncIterator[str]:
    """An admin listener, and the address it really has. `now` is the clock of `status`."""
    metrics = Metrics()
    face = AdminFace(
        health=status, metrics=metrics, origins=None, info=lambda: {"name": "plant-7", "sessions": 4}, now=now
    )
    listener = Listener(
        "admin", (address,), None, face, HttpLimits(max_body_bytes=1000), max_connections=10,
        status=status.add("listener:admin"), metrics=metrics,
    )  # fmt: skip
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            yield listener.bound[0]
            nursery.cancel_scope.cancel()


async def ask(url: str | None, *, as_json: bool = False, nagios: bool = False, verbose: bool = False) -> int:
    """`mcp-edge health` with these options; its exit code."""
    args = argparse.Namespace(
        config=None, url=url, json=as_json, timeout_s=5.0, nagios=nagios, verbose=verbose
    )
    return await trio.to_thread.run_sync(health, args, abandon_on_cancel=True)
