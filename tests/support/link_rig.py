"""The face of a link over a running gateway, and the other end of that link, without any carrier between."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from edge.metrics import LinkCounts
from edge.parts.link import Link
from edge.parts.link_face import LinkFace
from tests.support.gateway_rig import Rig


class FarEnd:
    """What a hub does over a link: sends messages, reads what comes."""

    def __init__(
        self, rig: Rig, view_key: str | None, *, max_calls: int, limit_bytes: int, can_ask: bool = False
    ) -> None:
        self.link = Link("box", self._nobody, numbered=None, limit_bytes=limit_bytes, counts=LinkCounts())
        self.face = LinkFace(
            self.link,
            rig.gateway,
            rig.sessions,
            view_key,
            metrics=rig.metrics,
            max_calls=max_calls,
            extra={"link": "box"},
            can_ask=can_ask,
        )
        self.link.receive = self.face.receive
        self._read: list[Any] = []

    def _nobody(self, text: str) -> None:
        raise AssertionError

    def send(self, message: object) -> None:
        self.link.take_in(message if isinstance(message, str) else json.dumps(message))

    def ask(self, request_id: object, method: str, **params: object) -> None:
        self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})

    def tell(self, method: str, **params: object) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def call(self, request_id: object, tool: str = "echo", **arguments: object) -> None:
        self.ask(request_id, "tools/call", name=tool, arguments=arguments)

    async def read(self) -> Any:
        """The next message."""
        while not self._read:
            self._read += [json.loads(line) for line in await self.link.outbox.take()]
        return self._read.pop(0)

    async def quiet(self) -> list[Any]:
        """All that is there once nothing happens any more."""
        await trio.testing.wait_all_tasks_blocked()
        lines = self.link.outbox.take_some()
        self._read += [json.loads(line) for line in lines]
        found, self._read = self._read, []
        return found

    async def initialize(self, version: str = "2025-11-25", capabilities: object = None) -> Any:
        info = {"name": "hub", "version": "1"}
        declared = {} if capabilities is None else capabilities
        self.ask("init", "initialize", protocolVersion=version, capabilities=declared, clientInfo=info)
        answer = await self.read()
        self.tell("notifications/initialized")
        return answer


@asynccontextmanager
async def linked(
    rig: Rig,
    view_key: str | None = None,
    *,
    max_calls: int = 8,
    limit_bytes: int = 1 << 20,
    can_ask: bool = False,
) -> AsyncIterator[FarEnd]:
    """A link with its face running; cancelled at the end, as when the link is lost."""
    far = FarEnd(rig, view_key, max_calls=max_calls, limit_bytes=limit_bytes, can_ask=can_ask)
    async with trio.open_nursery() as nursery:
        await nursery.start(far.face.run)
        yield far
        nursery.cancel_scope.cancel()
