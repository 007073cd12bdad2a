"""What a reload means for the links that have no carrier when it comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from trio.testing import MockClock

from edge.config.hub import HubConfig, HubEdge, HubJwt
from edge.config.secrets import Secret
from edge.gate.edge_auth import Edge, TokenAuth, digest_of
from edge.parts.edge_session import Opening, Visitor
from edge.parts.edge_sessions import EdgeSessions
from edge.parts.hub_link import HubLink
from edge.parts.refusals import Refusals
from edge.proto.dialect import Opened
from edge.proto.numbered import LinkOffer
from tests.support.edges_rig import EdgesRig
from tests.support.hub_rig import hub_config
from tests.support.scripted_dialect import MemoryCarrier, PlainDialect


class Suspended:
    """The link `a-b` of the edge `a`, which is ours, and has lost its carrier."""

    def __init__(self, rig: EdgesRig, sessions: EdgeSessions, link: HubLink) -> None:
        self.rig = rig
        self.sessions = sessions
        self.link = link

    def update(self, config: HubConfig) -> None:
        self.sessions.update(config, TokenAuth(config))

    def prepare(self) -> Opening:
        """Its edge is back and would go on."""
        visitor = Visitor(Edge("a"), digest_of("token-of-a"), "peer", "token")
        assert self.link.link.numbered is not None
        offer = LinkOffer(self.link.id, self.link.link.numbered.sent)
        opening = self.sessions.prepare(visitor, self.link.dialect, offer, session="new")
        assert isinstance(opening, Opening)
        return opening


@asynccontextmanager
async def suspended() -> AsyncIterator[Suspended]:
    config = hub_config("a")
    async with EdgesRig(config).running() as rig:
        link = rig.link("a-b", own=True, owner="a")
        (await rig.arrive(link)).cut()
        await rig.quiet()
        assert link.link.suspended_since is not None
        hub = rig.metrics.hub
        sessions = EdgeSessions(config, TokenAuth(config), rig.edges, hub, Refusals(hub))
        yield Suspended(rig, sessions, link)


def dialects(config: HubConfig, *allowed: Any) -> HubConfig:
    edge = replace(config.edges["a"], dialects=allowed)
    return replace(config, edges=MappingProxyType({"a": edge}))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(hub_config("other"), id="its edge is gone"),
        pytest.param(hub_config("a", "a-b"), id="its name is another edge's"),
        pytest.param(dialects(hub_config("a"), "long-poll"), id="its edge may not speak this any more"),
    ],
)
async def test_a_suspended_link_that_would_not_be_let_in_ends(
    config: HubConfig, autojump_clock: MockClock
) -> None:
    async with suspended() as one:
        opening = one.prepare()
        assert opening.resumes is one.link
        one.update(config)
        assert one.link.link.ended == "it may no longer connect"
        assert one.link.lost_as == "revoked"
        assert (len(one.rig.edges), one.rig.edges.link("a-b")) == (0, None)
        session = one.sessions.open(opening, MemoryCarrier(), PlainDialect())
        session.pump.feed(Opened({}))
        assert (session.link, session.refused is None) == (None, False)


@pytest.mark.parametrize("more", [{}, {"jwt": HubJwt(secret=Secret("s" * 32))}])
async def test_a_name_that_is_another_edges_now_is_free_for_that_one(
    more: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with suspended() as one:
        one.update(hub_config("a", "a-b", **more))
        assert one.sessions.judge_name(Edge("a-b"), "a-b") is None
        assert "edge:a-b" not in one.rig.health.statuses


async def test_a_name_whose_edge_may_come_back_is_nobody_elses(autojump_clock: MockClock) -> None:
    async with suspended() as one:
        one.rig.edges.end(one.link, "not resumed", "dead")
        one.update(hub_config("a", "b"))
        assert one.sessions.judge_name(Edge("b"), "a-b") is not None
        assert "edge:a-b" in one.rig.health.statuses


async def test_a_suspended_link_whose_name_becomes_a_servers_ends(autojump_clock: MockClock) -> None:
    async with suspended() as one:
        one.sessions.avoid(frozenset({"a-b"}))
        assert one.link.lost_as == "revoked"
        assert one.prepare().resumes is None


async def test_a_suspended_link_whose_edge_a_jwt_may_name_can_be_resumed_when_the_file_has_it_no_more(
    autojump_clock: MockClock,
) -> None:
    async with suspended() as one:
        one.update(hub_config("other", jwt=HubJwt(secret=Secret("s" * 32))))
        assert one.prepare().resumes is one.link


async def test_a_suspended_link_that_may_stay_can_be_resumed_after_a_reload(
    autojump_clock: MockClock,
) -> None:
    async with suspended() as one:
        rotated = HubEdge(name="a", token_sha256=(digest_of("another").hex(),))
        one.update(replace(hub_config("a"), edges=MappingProxyType({"a": rotated})))
        one.sessions.avoid(frozenset({"other"}))
        assert one.link.link.ended is None
        assert one.prepare().resumes is one.link
