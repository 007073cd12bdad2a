"""A server in the test's hands behind a real `PeerChannel`: it asks, takes back, answers, and hears what comes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from edge.metrics_servers import ServerMetrics
from edge.parts.channel import Channel, Inbound
from edge.parts.peer_channel import Outbox, PeerChannel
from edge.proto.jsonrpc import decode
from tests.support.gateway_client import Client, as_bytes, request
from tests.support.gateway_rig import Rig
from tests.support.memory_channel import ScriptedServer

ASKABLE: dict[str, dict[str, object]] = {"sampling": {}, "elicitation": {}, "roots": {}}


class AskingServer(ScriptedServer):
    """`calls`: ids of the tool calls it has got, in order. `heard`: every other message that is no request of ours
    about lists and the like, as it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.heard: list[str] = []
        self.offered: Any = None
        self.metrics = ServerMetrics()
        self.channel: PeerChannel

    @asynccontextmanager
    async def connect(self, inbound: Inbound) -> AsyncIterator[Channel]:
        async with super().connect(inbound):
            outbox = Outbox()
            self.channel = PeerChannel("a", outbox, inbound, self.metrics)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, outbox)
                try:
                    yield self.channel
                finally:
                    self.channel.lost("gone")
                nursery.cancel_scope.cancel()

    async def _serve(self, outbox: Outbox) -> None:
        while True:
            for line in await outbox.take():
                self._hear(line.decode())

    def _hear(self, text: str) -> None:
        message = json.loads(text)
        method = message.get("method")
        if method == "tools/call":
            self.calls.append(message["id"])
        elif method in self.answers:
            if method == "initialize":
                self.offered = message["params"]["capabilities"]
            self.say(f'{{"jsonrpc":"2.0","id":{message["id"]},"result":{self.answers[method]}}}')
        elif method != "notifications/initialized":
            self.heard.append(text)

    def say(self, text: str) -> None:
        self.channel.receive(decode(text))

    def ask(self, question_id: str = '"q"', method: str = "roots/list", params: str = "{}") -> None:
        self.say(f'{{"jsonrpc":"2.0","id":{question_id},"method":"{method}","params":{params}}}')

    def take_back(self, question_id: str = '"q"') -> None:
        params = f'{{"requestId":{question_id},"reason":"no need", "x":1.0}}'
        self.say(f'{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}')

    def finish(self, number: int = -1) -> None:
        """Answer one of the calls."""
        self.say(f'{{"jsonrpc":"2.0","id":{self.calls[number]},"result":{{"content":[]}}}}')

    @property
    def refusal(self) -> Any:
        """The error that it got last."""
        return json.loads(self.heard[-1])["error"]


async def asked_client(rig: Rig, capabilities: object = None, path: str = "/mcp") -> Client:
    """A client with a session, which declares what it can be asked."""
    client = rig.connect(path)
    await client.initialize(capabilities=ASKABLE if capabilities is None else capabilities)
    return client


async def begin_call(
    rig: Rig, client: Client, request_id: int = 1, *, lockstep: bool = False, **headers: str
) -> Client:
    """A call on a connection of its own; it has reached the server."""
    other = rig.again(client, lockstep=lockstep)
    body = as_bytes(request("tools/call", {"name": "a__echo", "arguments": {}}, request_id))
    await other.send("POST", body, {name.title(): value for name, value in headers.items()})
    await quiet()
    return other


async def answer(rig: Rig, client: Client, text: str) -> None:
    """The client's answer to what it was asked."""
    told = await rig.again(client).post(text)
    assert told.status == 202
    await quiet()


async def quiet() -> None:
    await trio.testing.wait_all_tasks_blocked()
