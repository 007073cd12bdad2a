"""What an edge does wrong before its server is known is one warning: with what comes of it, or by itself."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edge.errors import Unavailable
from edge.gate.edge_auth import Edge, TokenAuth, digest_of
from edge.parts.edge_session import EdgeSession, Opening, Visitor
from edge.parts.edge_sessions import EdgeSessions
from edge.parts.refusals import Refusals
from edge.proto.dialect import Closed, Dialect, Event, Opened, Received, Requested
from edge.proto.dialects.contextforge.acceptor import ContextForgeAcceptor
from edge.proto.dialects.mcp_reverse.acceptor import McpReverseAcceptor
from edge.proto.numbered import LinkOffer
from tests.support.edges_rig import EdgesRig
from tests.support.hub_rig import hub_config
from tests.support.scripted_dialect import MemoryCarrier

Lines = list[tuple[str, str, str]]
REGISTER = json.dumps({"type": "register", "sessionId": "x", "server": {"name": "a", "protocol": "stdio"}})
CUT = '{"jsonrpc": "2.0", "id": 1, "resu'
NO_ID = '{"jsonrpc": "2.0", "result": {}}'
NO_MESSAGE, REMARK = "an edge sent what is no JSON-RPC message", "remark on a link"
GONE, DOWN = "edge disconnected", "server down"
WHAT = "what is no JSON-RPC message ("
CALLED = (REMARK, NO_MESSAGE, GONE, DOWN)


class BadEdge:
    """The edge `a`, by events of its carrier. `kind` is its dialect, or `ours`: contextforge between our own ends."""

    def __init__(self, rig: EdgesRig, sessions: EdgeSessions, kind: str) -> None:
        self.rig = rig
        self.kind = kind
        self.is_own = kind == "ours"
        self._sessions = sessions
        self._n_said = 0
        visitor = Visitor(Edge("a"), digest_of("token-of-a"), "peer:1", "token")
        dialect = "mcp-reverse" if kind == "mcp-reverse" else "contextforge"
        opening = sessions.prepare(
            visitor, dialect, LinkOffer() if self.is_own else None, session="s", name="a"
        )
        assert isinstance(opening, Opening)
        self.carrier = MemoryCarrier()
        self.session: EdgeSession = sessions.open(opening, self.carrier, self._dialect())

    def _dialect(self) -> Dialect:
        far_s = 1e6  # no sign of life is asked for
        if self.kind == "mcp-reverse":
            return McpReverseAcceptor(session="s", own=False, dead_after_s=far_s, heartbeat_s=far_s)
        return ContextForgeAcceptor(session="s", own=self.is_own, dead_after_s=far_s, heartbeat_s=far_s)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.session.pump.feed(Opened({}))
        if self.kind != "mcp-reverse":
            self.hear(Received(REGISTER))
        task_status.started()
        self._sessions.close(self.session, await self.session.pump.run())

    def hear(self, event: Event) -> None:
        self._sessions.heard(self.session, event)

    def raw(self, text: str) -> None:
        """What the carrier brings."""
        self.hear(Requested(0, "message", text) if self.kind == "mcp-reverse" else Received(text))

    def say(self, message: str) -> None:
        """As a message, which it need not be."""
        self._n_said += 1
        match self.kind:
            case "ours":
                self.raw(f"{self._n_said} 1 {message}")
            case "contextforge":
                self.raw(f'{{"type": "response", "sessionId": "s", "payload": {message}}}')
            case _:
                self.raw(message)

    def answer(self) -> None:
        """`initialize`, as a server without tools."""
        [text] = [text for text in self.carrier.pushed if '"initialize"' in text]
        asked = json.loads(text[text.index("{") :])
        asked = asked.get("payload", asked)
        result = {
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {},
            "serverInfo": {"name": "t", "version": "1"},
        }
        self.say(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}))


@asynccontextmanager
async def bad_edges() -> AsyncIterator[Callable[[str], Any]]:
    """Gives edges that have registered and been asked to initialize."""
    config = hub_config("a")
    async with EdgesRig(config).running() as rig, trio.open_nursery() as nursery:
        hub = rig.metrics.hub
        sessions = EdgeSessions(config, TokenAuth(config), rig.edges, hub, Refusals(hub))

        async def come(kind: str) -> BadEdge:
            edge = BadEdge(rig, sessions, kind)
            await nursery.start(edge.run)
            await rig.quiet()
            assert "initialize" in edge.carrier.pushed[-1]
            return edge

        yield come
        nursery.cancel_scope.cancel()


def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Message, level and reason (or remark) of all that was said of the edge from `info` up, but that it came."""
    found = [
        record for record in caplog.records if record.levelno >= logging.INFO and record.message in CALLED
    ]
    return [
        (each.message, each.levelname, vars(each).get("reason") or vars(each)["remark"]) for each in found
    ]


KINDS = ["contextforge", "ours", "mcp-reverse"]
WAYS = [
    pytest.param("contextforge", "raw", CUT, "a frame that is no JSON object", id="contextforge-cut"),
    pytest.param("contextforge", "raw", "[]", "a frame that is no JSON object", id="contextforge-other"),
    pytest.param("contextforge", "say", NO_ID, WHAT, id="contextforge-no-id"),
    pytest.param("ours", "raw", CUT, "a frame that is no JSON object", id="ours-cut"),
    pytest.param("ours", "raw", "x y", "a frame that is no JSON object", id="ours-other"),
    pytest.param("ours", "say", CUT, WHAT, id="ours-cut-message"),
    pytest.param("ours", "say", NO_ID, WHAT, id="ours-no-id"),
    pytest.param("mcp-reverse", "raw", "no JSON", "a POST that holds no JSON object", id="mcp-reverse-other"),
    pytest.param("mcp-reverse", "raw", CUT, WHAT, id="mcp-reverse-cut"),
    pytest.param("mcp-reverse", "raw", NO_ID, WHAT, id="mcp-reverse-no-id"),
]


@pytest.mark.parametrize(("kind", "how", "text", "said"), WAYS)
async def test_what_is_wrong_and_then_silence_is_one_warning_that_has_both(
    kind: str, how: str, text: str, said: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with bad_edges() as come:
        for _ in range(3):  # it comes again and does it again, which is no news
            edge = await come(kind)
            for _ in range(2):
                getattr(edge, how)(text)
            await trio.sleep(40)
            assert edge.session.pump.lost is not None
        [(message, level, reason)] = lines(caplog)
        assert (message, level) == (DOWN, "WARNING")
        assert reason.startswith("no answer in 30 s; before that: ")
        assert said in reason
        assert edge.rig.health.statuses["edge:a"].state != "ready"


@pytest.mark.parametrize(("kind", "how", "text", "said"), WAYS)
async def test_what_is_wrong_is_a_warning_of_its_own_once_the_server_is_known(
    kind: str, how: str, text: str, said: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with bad_edges() as come:
        edge = await come(kind)
        getattr(edge, how)(text)
        await edge.rig.quiet()
        assert lines(caplog) == []
        edge.answer()
        await edge.rig.quiet()
        assert edge.rig.upstreams["a"].is_ready
        [(message, level, reason)] = lines(caplog)
        assert message in (REMARK, NO_MESSAGE)
        assert level == "WARNING"
        assert message == NO_MESSAGE or said in reason
        getattr(edge, how)(text)  # once for each link
        await edge.rig.quiet()
        assert len(lines(caplog)) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_wrong_later_is_a_warning_at_once(
    kind: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with bad_edges() as come:
        edge = await come(kind)
        edge.answer()
        await edge.rig.quiet()
        edge.say(NO_ID)
        assert [(message, level) for message, level, _ in lines(caplog)] == [(NO_MESSAGE, "WARNING")]


async def test_an_edge_that_does_wrong_and_is_cut_off_is_one_warning_that_has_both(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with bad_edges() as come:
        edge = await come("contextforge")
        edge.raw("[]")
        edge.hear(Closed("reset by peer", 1006))
        await edge.rig.quiet()
        [(message, level, reason)] = lines(caplog)
        assert (message, level) == (GONE, "WARNING")
        assert reason.startswith("reset by peer; before that: ")


async def test_an_edge_that_does_too_much_wrong_is_one_warning_that_has_the_first(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with bad_edges() as come:
        edge = await come("contextforge")
        for _ in range(101):
            edge.raw("[]")
        await edge.rig.quiet()
        [(message, level, reason)] = lines(caplog)
        assert (message, level) == (GONE, "WARNING")
        assert reason.startswith("too many invalid frames; before that: ")


async def test_an_edge_that_does_wrong_and_says_goodbye_is_one_warning_for_the_wrong(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with bad_edges() as come:
        edge = await come("contextforge")
        edge.raw("[]")
        edge.raw('{"type": "unregister", "sessionId": "s"}')
        await edge.rig.quiet()
        assert [(message, level) for message, level, _ in lines(caplog)] == [
            (REMARK, "WARNING"),
            (GONE, "INFO"),
        ]


async def test_clients_are_not_told_what_was_wrong(autojump_clock: MockClock) -> None:
    async with bad_edges() as come:
        edge = await come("contextforge")
        edge.raw("[]")
        await trio.sleep(30.5)
        with pytest.raises(Unavailable) as caught:
            await edge.rig.upstreams["a"].request("tools/list", None, timeout_s=0)
        assert "before that" not in str(caught.value)
