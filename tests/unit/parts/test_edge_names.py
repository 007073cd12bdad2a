"""How long the names of edges are kept, and how many."""

import trio
from trio.testing import MockClock

from edge.parts.edges import NAMES_PER_LINK
from tests.support.edges_rig import edges_rig


async def test_a_name_is_forgotten_when_it_was_not_seen_for_long(autojump_clock: MockClock) -> None:
    async with edges_rig(forget_s=3600) as rig:
        await rig.come_and_go("a", owner="box")
        await trio.sleep(3590)
        assert rig.edges.owner_of("a") == "box"
        await trio.sleep(20)
        assert rig.edges.owner_of("a") is None
        assert "a" not in rig.upstreams
        assert "edge:a" not in rig.health.statuses
        assert "a" not in rig.metrics.edges
        await rig.arrive(rig.link("a"))
        assert rig.upstreams["a"].is_ready


async def test_names_of_an_edge_that_is_gone_are_forgotten_at_once_but_for_those_with_a_link(
    autojump_clock: MockClock,
) -> None:
    async with edges_rig() as rig:
        await rig.come_and_go("was-here", owner="gone")
        await rig.come_and_go("may-come-back", owner="stays")
        await rig.arrive(rig.link("is-here", owner="gone"))
        rig.edges.forget(lambda _, owner: owner == "gone")
        await rig.quiet()
        names = {"may-come-back", "is-here"}
        assert rig.upstreams.keys() == rig.metrics.edges.keys() == names
        assert rig.health.statuses.keys() == {f"edge:{name}" for name in names}
        assert rig.edges.owner_of("was-here") is None


async def test_names_without_a_link_do_not_pile_up(autojump_clock: MockClock) -> None:
    async with edges_rig(max_links=3, max_links_per_edge=2, forget_s=100) as rig:
        for n in range(2 * NAMES_PER_LINK):
            assert rig.edges.no_room_for(f"a-{n}", "a") is None
            await rig.come_and_go(f"a-{n}", owner="a")
        assert rig.edges.no_room_for("a-new", "a") == "too many names of this edge that are not forgotten yet"
        assert rig.edges.no_room_for("a-0", "a") is None
        assert rig.edges.no_room_for("b", "b") is None
        for n in range(NAMES_PER_LINK):
            await rig.come_and_go(f"b-{n}", owner="b")
        assert rig.edges.no_room_for("c", "c") == "too many names that are not forgotten yet"
        await trio.sleep(101)
        assert rig.edges.no_room_for("a-new", "a") is rig.edges.no_room_for("c", "c") is None


async def test_a_name_counts_for_the_edge_that_has_it(autojump_clock: MockClock) -> None:
    async with edges_rig(max_links_per_edge=1, forget_s=100) as rig:
        for owner in ("a", "b"):
            link = rig.link("a-b", owner=owner)
            carrier = await rig.arrive(link)
            assert rig.edges.no_room_for("other", owner) == "too many links of this edge"
            carrier.cut()
            rig.edges.settle(link)
        for n in range(NAMES_PER_LINK - 1):
            await rig.come_and_go(f"a-{n}", owner="a")
        assert rig.edges.no_room_for("a-new", "a") is None
