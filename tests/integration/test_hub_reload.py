"""A hub and an uplink that go on with other settings: whose link ends, with which words, and who does not notice."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
import trio.testing

from edge.config.common import ServerTlsConfig
from edge.config.hub import HubConfig, HubEdge, HubJwt, HubWebhook
from edge.config.secrets import Secret
from edge.errors import ConfigError
from edge.gate.edge_auth import WayIn, withdrawn
from tests.support.gateway_rig import Asked, ToolServer, gateway
from tests.support.hub_rig import HubRig, hashed, hub, hub_config, until
from tests.support.scripted_edge import HubClient, Script, websocket_edge
from tests.support.scripted_hub import scripted_hub
from tests.support.uplink_rig import eventually, uplink

JWT = HubJwt(secret=Secret("s" * 32))
WEBHOOK = HubWebhook(url="https://judge", bearer=Secret("b"))


def knowing(config: HubConfig, **tokens: tuple[str, ...]) -> HubConfig:
    """The same hub, with these edges and their tokens."""
    edges = {
        name: HubEdge(name=name, token_sha256=tuple(hashed(token) for token in known))
        for name, known in tokens.items()
    }
    return replace(config, edges=edges)


async def registered(stack: AsyncExitStack, rig: HubRig, name: str, client: HubClient | None = None) -> Any:
    edge = await stack.enter_async_context(websocket_edge(client or rig.client(name), Script()))
    await edge.register(name)
    await edge.frame("register_complete", status="success")
    await rig.ready(name)
    return edge


async def test_a_token_that_is_good_no_longer_ends_its_link_and_no_other() -> None:
    async with hub("a", "b") as rig, AsyncExitStack() as stack:
        kept, revoked = await registered(stack, rig, "a"), await registered(stack, rig, "b")
        rig.acceptor.update(knowing(rig.config, a=("token-of-a",), b=("another",)), None)
        assert (await revoked.wait_closed()) == (1000, "it may no longer connect")
        await rig.down("b")
        assert rig.metrics.hub.lost["revoked"] == 1
        assert await rig.call("a", n=1) == {"n": 1}
        assert kept.closed is None
        assert (await rig.client("b").ask("GET", "/poll?session_id=x")).status in (401, 403, 404)
        await registered(stack, rig, "b", HubClient(rig.address, "another"))


async def test_a_rotated_token_is_good_beside_the_old_one() -> None:
    async with hub("a") as rig, AsyncExitStack() as stack:
        edge = await registered(stack, rig, "a")
        rig.acceptor.update(knowing(rig.config, a=("token-of-a", "fresh")), None)
        assert await rig.call("a", n=1) == {"n": 1}
        assert edge.closed is None
        await registered(stack, rig, "a", HubClient(rig.address, "fresh"))
        assert (await edge.wait_closed())[1].startswith("replaced by a newer connection")


async def test_a_dialect_that_is_no_longer_accepted_ends_its_links() -> None:
    async with hub("a", "b") as rig, AsyncExitStack() as stack:
        ends, stays = await registered(stack, rig, "a"), await registered(stack, rig, "b")
        edges = dict(rig.config.edges)
        edges["a"] = replace(edges["a"], dialects=("long-poll",))
        rig.acceptor.update(replace(rig.config, edges=edges), None)
        assert (await ends.wait_closed())[0] == 1000
        assert await rig.call("b", n=1) == {"n": 1}
        assert stays.closed is None


async def test_a_name_that_becomes_a_servers_of_the_hub_ends_its_link() -> None:
    async with hub("a", "b") as rig, AsyncExitStack() as stack:
        ends, stays = await registered(stack, rig, "a"), await registered(stack, rig, "b")
        rig.acceptor.avoid(frozenset({"a"}))
        assert (await ends.wait_closed())[0] == 1000
        assert stays.closed is None
        again = await stack.enter_async_context(websocket_edge(rig.client("a")))
        await again.register("a")
        assert (await again.wait_closed())[0] == 1008


async def test_what_an_edge_that_is_gone_was_called_is_forgotten() -> None:
    async with hub("a", "b") as rig, AsyncExitStack() as stack:
        await registered(stack, rig, "a")
        gone = await registered(stack, rig, "b")
        rig.acceptor.update(knowing(rig.config, a=("token-of-a",)), None)
        await gone.wait_closed()
        await until(lambda: rig.upstreams.keys() == {"a"})
        assert "edge:b" not in rig.health.statuses


async def test_what_an_edge_was_called_is_kept_if_others_may_know_it() -> None:
    async with hub("a", "b", jwt=JWT) as rig, AsyncExitStack() as stack:
        edge = await registered(stack, rig, "b")
        rig.acceptor.update(knowing(rig.config, a=("token-of-a",)), None)
        await edge.wait_closed()
        await rig.down("b")
        rig.acceptor.update(knowing(rig.config, a=("token-of-a",)), None)
        assert rig.upstreams.keys() == {"b"}


async def test_certificates_of_the_hub_that_cannot_be_read_are_named_as_the_hubs(tmp_path: Path) -> None:
    tls = ServerTlsConfig(cert=str(tmp_path / "none.pem"), key=str(tmp_path / "none.key"))
    with pytest.raises(ConfigError) as caught:
        HubRig(hub_config("a", tls=tls))
    assert [problem.place for problem in caught.value.problems] == ["hub.tls"]


async def test_limits_change_for_links_that_are_there() -> None:
    async with hub("a", "b", max_links=2) as rig, AsyncExitStack() as stack:
        await registered(stack, rig, "a")
        await registered(stack, rig, "b")
        rig.acceptor.update(replace(rig.config, max_links=1, max_calls_per_link=3, call_timeout_s=7), None)
        assert rig.upstreams["a"].config.limits.concurrency == 3
        assert rig.upstreams["a"].config.call_timeout_s == 7
        assert await rig.call("a", n=1) == {"n": 1}
        assert await rig.call("b", n=1) == {"n": 1}


async def test_a_jwt_whose_secret_is_another_now_ends_its_link_and_a_longer_leeway_does_not() -> None:
    token = jwt.encode({"sub": "c", "exp": 4_000_000_000}, JWT.secret.reveal(), algorithm="HS256")
    async with hub("a", jwt=JWT) as rig, AsyncExitStack() as stack:
        by_hash, by_jwt = (
            await registered(stack, rig, "a"),
            await registered(stack, rig, "c", HubClient(rig.address, token)),
        )
        rig.acceptor.update(replace(rig.config, jwt=replace(JWT, leeway_s=60)), None)
        assert await rig.call("c", n=1) == {"n": 1}
        rig.acceptor.update(replace(rig.config, jwt=replace(JWT, secret=Secret("t" * 32))), None)
        assert (await by_jwt.wait_closed())[0] == 1000
        assert await rig.call("a", n=1) == {"n": 1}
        assert by_hash.closed is None


async def test_what_becomes_of_the_webhook_is_nothing_to_a_link_that_a_jwt_let_in() -> None:
    token = jwt.encode({"sub": "c", "exp": 4_000_000_000}, JWT.secret.reveal(), algorithm="HS256")
    async with hub("a", jwt=JWT, webhook=WEBHOOK) as rig, AsyncExitStack() as stack:
        by_jwt = await registered(stack, rig, "c", HubClient(rig.address, token))
        rig.acceptor.update(replace(rig.config, webhook=replace(WEBHOOK, url="https://other")), None)
        rig.acceptor.update(replace(rig.config, webhook=None), None)
        assert await rig.call("c", n=1) == {"n": 1}
        assert by_jwt.closed is None


async def test_a_dialect_that_the_hub_accepts_no_longer_ends_links_that_a_jwt_let_in() -> None:
    token = jwt.encode({"sub": "c", "exp": 4_000_000_000}, JWT.secret.reveal(), algorithm="HS256")
    async with hub("a", jwt=JWT) as rig, AsyncExitStack() as stack:
        by_jwt = await registered(stack, rig, "c", HubClient(rig.address, token))
        rig.acceptor.update(replace(rig.config, dialects=("contextforge",)), None)
        assert await rig.call("c", n=1) == {"n": 1}
        rig.acceptor.update(replace(rig.config, dialects=("long-poll",)), None)
        assert (await by_jwt.wait_closed()) == (1000, "it may no longer connect")


@pytest.mark.parametrize(
    ("old", "new", "over"),
    [
        ({}, {"jwt": JWT, "webhook": WEBHOOK}, set()),
        ({"jwt": JWT}, {"jwt": JWT, "webhook": WEBHOOK}, set()),
        ({"jwt": JWT}, {}, {"jwt"}),
        ({"jwt": JWT}, {"jwt": replace(JWT, issuer="x")}, {"jwt"}),
        ({"webhook": WEBHOOK}, {}, {"webhook"}),
        ({"webhook": WEBHOOK}, {"webhook": replace(WEBHOOK, timeout_s=1, ca_file="/ca")}, set()),
        ({"webhook": WEBHOOK}, {"webhook": replace(WEBHOOK, url="https://other")}, {"webhook"}),
        ({"webhook": WEBHOOK}, {"webhook": replace(WEBHOOK, bearer=None)}, set()),
        ({"jwt": JWT, "webhook": WEBHOOK}, {}, {"jwt", "webhook"}),
    ],
)
def test_who_was_let_in_by_others_stays_unless_those_are_others(
    old: dict[str, Any], new: dict[str, Any], over: set[WayIn]
) -> None:
    base = HubConfig(listen=("127.0.0.1:1",), edges={"a": HubEdge(name="a", token_sha256=("1" * 64,))})
    assert withdrawn(replace(base, **old), replace(base, **new)) == over


# -- the other end


async def test_an_uplink_keeps_the_links_that_stay_and_makes_and_leaves_the_others() -> None:
    with trio.fail_after(20):
        servers = {"a": ToolServer(), "b": ToolServer(), "c": ToolServer()}
        async with (
            gateway(servers) as rig,
            scripted_hub() as there,
            uplink(rig, f"ws://127.0.0.1:{there.port}", servers=("a", "b")) as up,
        ):
            stays, leaves = await there.session(name="box-a"), await there.session(name="box-b")
            up.uplink.update({"box-a": "a", "box-c": "c"}, 5)
            await there.session(name="box-c")
            await leaves.until_closed()
            assert leaves.closed == 1000
            assert stays.closed is None
            assert "result" in await stays.call(1, "echo")
            assert [link.name for link in up.uplink.links] == ["box-a", "box-c"]
            assert len(there.sessions) == 3
            await up.stop()


async def test_a_link_that_leaves_answers_its_calls_and_the_next_of_its_name_waits_for_that() -> None:
    release = trio.Event()

    async def hold(asked: Asked) -> str:
        await release.wait()
        return '{"content":[]}'

    with trio.fail_after(20):
        async with (
            gateway({"a": ToolServer(echo=hold), "b": ToolServer()}) as rig,
            scripted_hub() as there,
            uplink(rig, f"ws://127.0.0.1:{there.port}") as up,
        ):
            leaving = await there.session(name="box-a")
            await leaving.ask(7, "tools/call", name="echo", arguments={})
            await eventually(lambda: up.metrics.servers["a"].inflight == 1)
            up.uplink.update({"box-b": "b"}, 15)
            up.uplink.update({"box-a": "a", "box-b": "b"}, 15)
            await trio.testing.wait_all_tasks_blocked(0.2)
            assert sum(session.name == "box-a" for session in there.sessions) == 1
            release.set()
            assert "result" in await leaving.answer(7)
            await leaving.until_closed()
            again = await there.session(2, name="box-a")
            await again.ask(8, "tools/list")
            assert "result" in await again.answer(8)
            await up.stop()


async def test_a_link_that_takes_too_long_to_leave_is_cut_off() -> None:
    async def hold(asked: Asked) -> str:
        await trio.sleep_forever()
        raise AssertionError

    with trio.fail_after(20):
        async with (
            gateway({"a": ToolServer(echo=hold)}) as rig,
            scripted_hub() as there,
            uplink(rig, f"ws://127.0.0.1:{there.port}") as up,
        ):
            leaving = await there.session(name="box-a")
            await leaving.ask(7, "tools/call", name="echo", arguments={})
            await eventually(lambda: up.metrics.servers["a"].inflight == 1)
            up.uplink.update({}, 0.1)
            await leaving.until_closed()
            await eventually(lambda: up.metrics.servers["a"].inflight == 0)
            await up.stop()


async def test_an_update_before_the_first_run_is_what_it_starts_with() -> None:
    with trio.fail_after(20):
        async with gateway({"a": ToolServer(), "b": ToolServer()}) as rig, scripted_hub() as there:
            async with uplink(rig, f"ws://127.0.0.1:{there.port}", servers=("a",)) as up:
                await there.session(name="box-a")
                await up.stop()
                up.uplink.update({"box-b": "b"}, 5)
                async with trio.open_nursery() as nursery:
                    await nursery.start(up.uplink.run)
                    await there.session(name="box-b")
                    nursery.cancel_scope.cancel()
            assert [session.name for session in there.sessions] == ["box-a", "box-b"]
