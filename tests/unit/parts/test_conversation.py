"""One conversation by itself: who renews a lost session, and which failures a server survives."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from edge.config.model import HttpServerConfig
from edge.errors import EdgeError, Gone, RpcError, SessionLost, TimedOut, Unavailable
from edge.health import Status
from edge.metrics_servers import ServerMetrics
from edge.net.http_client import BadAnswer
from edge.parts.channel import Channel
from edge.parts.conversation import RETRY_LISTS_S, Conversation
from edge.parts.desired import Desired
from edge.parts.server_http import HttpRefused
from edge.proto.listing import Kind
from tests.support.http_server_toys import Listener
from tests.support.memory_channel import (
    MemoryChannel,
    ScriptedServer,
    initialized,
    sleeps_forever,
    tools,
)

WEB = HttpServerConfig(name="git", url="http://localhost:1/mcp")
LOG = logging.getLogger("edge.upstream")
REFUSED = HttpRefused("git", 500, "HTTP 500")
TOO_LONG = BadAnswer("git", "the answer is over the limit")


class SessionServer(ScriptedServer):
    """Knows at most one session: `forget` it, and calls fail until an initialize has come to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.takes_s = 0.0
        self.is_down = False
        self.session: str | None = "good"
        self.answers["initialize"] = self._initialize
        self.answers["tools/call"] = self._call

    def forget(self) -> None:
        self.session = "lost"

    async def _initialize(self, params: str | None) -> str:
        self.session = None  # the client has given up the old one
        await trio.sleep(self.takes_s)
        if self.is_down:
            raise Unavailable("git", "connection refused")
        self.session = "good"
        return initialized(tools={})

    async def _call(self, params: str | None) -> str:
        if self.session is None:
            raise RpcError(-32000, "no session id")
        if self.session == "lost":
            raise SessionLost("git", "unknown_session")
        return '{"content":[]}'


def no_limit() -> float:
    return 0.0


@asynccontextmanager
async def talking(server: ScriptedServer, desired: Desired | None = None) -> AsyncIterator[Conversation]:
    async with server.connect(Listener()) as channel:
        yield conversation_on(channel, desired)


def conversation_on(channel: Channel, desired: Desired | None = None) -> Conversation:
    return Conversation(
        WEB, channel, desired or Desired("git", LOG), Status("server:git"), ServerMetrics(), LOG, no_limit
    )


async def test_a_caller_that_leaves_amid_a_renewal_leaves_it_to_the_next(autojump_clock: MockClock) -> None:
    server = SessionServer()
    async with talking(server) as conversation:
        await conversation.begin()
        server.forget()
        server.takes_s = 1
        with trio.move_on_after(0.5):
            await conversation.ask("tools/call", None)
        assert (await conversation.ask("tools/call", None)).text == '{"content":[]}'
        assert server.count("initialize") == 3


async def test_a_renewal_that_fails_is_tried_once_for_all_that_wait(autojump_clock: MockClock) -> None:
    server = SessionServer()
    lost: list[str] = []
    async with talking(server) as conversation:
        await conversation.begin()
        server.forget()
        server.takes_s, server.is_down = 0.1, True

        async def call() -> None:
            with pytest.raises(SessionLost) as caught:
                await conversation.ask("tools/call", None)
            lost.append(caught.value.reason)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(call)
            await trio.sleep(1)
            nursery.start_soon(call)
    assert lost == ["unknown_session"] * 11
    assert server.count("initialize") == 2


class DeafToNotifications(MemoryChannel):
    async def notify(self, method: str, params: str | None) -> None:
        await trio.sleep_forever()


async def test_a_server_that_never_takes_initialized_is_given_up(autojump_clock: MockClock) -> None:
    conversation = conversation_on(DeafToNotifications(ScriptedServer()))
    with pytest.raises(TimedOut):
        await conversation.begin()
    assert trio.current_time() == 30


@pytest.mark.parametrize("failure", [REFUSED, TOO_LONG])
async def test_a_list_that_is_refused_costs_the_server_that_list_only(failure: EdgeError) -> None:
    server = ScriptedServer(tools={}, resources={})
    server.answers["resources/list"] = failure
    async with talking(server) as conversation:
        await conversation.begin()
        catalog = conversation.loader.catalog()
    assert [item.key for item in catalog.tools] == ["echo"]
    assert catalog.resources == ()


async def test_lists_that_were_lost_on_the_way_are_read_again_soon(autojump_clock: MockClock) -> None:
    server = ScriptedServer()
    refreshed: list[float] = []
    async with talking(server) as conversation, trio.open_nursery() as nursery:
        await conversation.begin()
        nursery.start_soon(conversation.keep, lambda: refreshed.append(trio.current_time()))
        server.answers["tools/list"] = Gone("git", "the connection ended")
        conversation.mark_stale(Kind.TOOLS)
        await trio.sleep(1)
        server.answers["tools/list"] = tools("new")
        await trio.sleep(2 * RETRY_LISTS_S)
        assert [item.key for item in conversation.loader.catalog().tools] == ["new"]
        assert len(refreshed) == 1
        nursery.cancel_scope.cancel()


def wishes() -> Desired:
    desired = Desired("git", LOG)
    desired.uris = dict.fromkeys(["file:///a", "file:///b", "file:///c"])
    return desired


async def test_wishes_that_are_refused_in_http_do_not_keep_a_server_down() -> None:
    server = ScriptedServer(resources={"subscribe": True})
    server.answers["resources/subscribe"] = REFUSED
    async with talking(server, wishes()) as conversation:
        await conversation.begin()
    assert server.count("resources/subscribe") == 3


async def test_wishes_that_are_not_answered_take_one_time_limit_in_all(autojump_clock: MockClock) -> None:
    server = ScriptedServer(resources={"subscribe": True})
    server.answers["resources/subscribe"] = sleeps_forever
    async with talking(server, wishes()) as conversation:
        await conversation.begin()
    assert trio.current_time() == 30
    assert server.count("resources/subscribe") == 1


async def test_every_exchange_that_succeeds_counts_as_a_sign_of_life(autojump_clock: MockClock) -> None:
    server = SessionServer()
    async with server.connect(Listener()) as channel:
        status, metrics = Status("server:git"), ServerMetrics()
        conversation = Conversation(WEB, channel, Desired("git", LOG), status, metrics, LOG, no_limit)
        await conversation.begin()
        for method in ("tools/call", "tools/list", "ping"):
            await trio.sleep(5)
            await conversation.ask(method, None)
            assert metrics.last_success == status.last_success == trio.current_time()
