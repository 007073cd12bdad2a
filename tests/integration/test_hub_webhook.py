"""A hub that asks a webhook whose token it is."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from edge.config.hub import HubEdge, HubJwt, HubWebhook
from edge.config.secrets import Secret
from edge.parts.edge_webhook import AT_ONCE
from tests.support.hub_rig import HubRig, hashed, hub, hub_config
from tests.support.scripted_edge import HubClient, PollingEdge, Refused, Script, event_edge, websocket_edge

NAMES = {"t-ship": "ship", "t-barge": "barge", "t-odd": "not a name"}


async def at_once() -> None:
    """The webhook does not wait."""


@asynccontextmanager
async def asking_hub(
    before: Callable[[], Awaitable[None]] = at_once, ca_file: str | None = None
) -> AsyncIterator[HubRig]:
    """Its webhook waits for `before` with each answer."""

    async def answer(stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data or not data.endswith(b"}"):
            data += await stream.receive_some()
        await before()
        token = json.loads(data.partition(b"\r\n\r\n")[2])["token"]
        status = "200 OK" if token in NAMES else "401 Unauthorized" if token != "t-broken" else "500 Oops"
        body = json.dumps({"edge": NAMES.get(token), "dialects": ["contextforge", "long-poll"]}).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        await stream.send_all(head.encode() + body)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        async with hub(webhook=HubWebhook(url=f"http://127.0.0.1:{port}/who", ca_file=ca_file)) as rig:
            yield rig
        nursery.cancel_scope.cancel()


async def test_an_edge_that_the_webhook_names_gets_in() -> None:
    async with asking_hub() as rig, websocket_edge(HubClient(rig.address, "t-ship")) as edge:
        await edge.register("ship")
        await rig.ready("ship")
        assert await rig.call("ship", n=1) == {"n": 1}


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_neither_sees_a_token_nor_lets_anybody_in(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = b""

    async def says_yes(stream: trio.SocketStream) -> None:
        nonlocal seen
        seen += await stream.receive_some()
        body = b'{"edge": "ship"}'
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with trio.open_nursery() as nursery:
        (proxy,) = await nursery.start(partial(trio.serve_tcp, says_yes, 0, host="127.0.0.1"))
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.socket.getsockname()[1]}")
        async with asking_hub() as rig:
            with pytest.raises(Refused) as caught:
                async with websocket_edge(HubClient(rig.address, "t-unknown")):
                    pass
            assert caught.value.status == 401
        nursery.cancel_scope.cancel()
    assert seen == b""


@pytest.mark.parametrize(("token", "status"), [("t-unknown", 401), ("t-odd", 403), ("t-broken", 503)])
async def test_who_the_webhook_does_not_name_stays_out(token: str, status: int) -> None:
    async with asking_hub() as rig:
        client = HubClient(rig.address, token)
        with pytest.raises(Refused) as caught:
            async with websocket_edge(client):
                pass
        assert caught.value.status == status
        assert (await PollingEdge(client, Script()).register()).status == status
        assert (await client.ask("GET", "/poll?session_id=0123456789abcdef")).status == status


async def test_a_dialect_that_the_webhook_does_not_name_is_refused() -> None:
    async with asking_hub() as rig, event_edge(HubClient(rig.address, "t-ship"), "ship") as edge:
        assert edge.status == 403


async def test_an_unknown_session_is_taken_up_if_the_webhook_knows_its_token() -> None:
    async with asking_hub() as rig, trio.open_nursery() as nursery:
        edge = PollingEdge(HubClient(rig.address, "t-barge"), Script())
        edge.session = "0123456789abcdef"
        nursery.start_soon(edge.run)
        await rig.ready("barge")
        assert await rig.call("barge", n=1) == {"n": 1}
        nursery.cancel_scope.cancel()


async def test_no_body_is_read_before_the_webhook_has_judged_its_token() -> None:
    async with asking_hub() as rig:
        client = HubClient(rig.address, "t-unknown")
        for more in ({"Content-Length": "16777216"}, {"Transfer-Encoding": "chunked"}):
            async with await trio.open_tcp_stream(client.host, client.port) as stream:
                await stream.send_all(client.head("GET", "/poll?session_id=0123456789abcdef", more))
                assert b" 413 " in await stream.receive_some()  # though not a byte of it was sent


async def test_a_link_that_the_webhook_let_in_stays_but_for_another_webhook() -> None:
    async with asking_hub() as rig, websocket_edge(HubClient(rig.address, "t-ship")) as edge:
        await edge.register("ship")
        await rig.ready("ship")
        webhook = rig.config.webhook
        assert webhook is not None
        rotated = replace(rig.config, webhook=replace(webhook, bearer=Secret("another")))
        rig.acceptor.update(rotated, None)
        with_jwt = replace(rotated, jwt=HubJwt(secret=Secret("s" * 32)))
        rig.acceptor.update(with_jwt, None)
        rig.acceptor.update(rotated, None)
        assert await rig.call("ship", n=1) == {"n": 1}
        rig.acceptor.update(replace(rotated, webhook=replace(webhook, url="http://127.0.0.1:1/other")), None)
        assert (await edge.wait_closed()) == (1000, "it may no longer connect")


async def test_an_answer_that_comes_after_a_reload_took_the_webhook_away_lets_nobody_in() -> None:
    is_asked, may_answer = trio.Event(), trio.Event()

    async def waits() -> None:
        is_asked.set()
        await may_answer.wait()

    async with asking_hub(waits) as rig, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def connect() -> None:
            with pytest.raises(Refused) as caught:
                async with websocket_edge(HubClient(rig.address, "t-ship")):
                    pass
            assert caught.value.status == 401

        await is_asked.wait()
        rig.acceptor.update(replace(rig.config, webhook=None, edges=hub_config("a").edges), None)
        may_answer.set()


async def test_what_the_webhook_says_is_judged_by_the_edges_of_the_reload_before() -> None:
    async with asking_hub() as rig:
        client = HubClient(rig.address, "t-ship")
        async with websocket_edge(client) as edge:
            await edge.register("ship")
            await rig.ready("ship")
        ship = HubEdge(name="ship", token_sha256=(hashed("another"),), dialects=("long-poll",))
        rig.acceptor.update(replace(rig.config, edges={"ship": ship}), None)
        with pytest.raises(Refused) as caught:
            async with websocket_edge(client):
                pass
        assert caught.value.status == 403


async def test_authorities_for_the_webhook_are_read_again_for_a_reload(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authorities))
    async with asking_hub(ca_file=str(authorities)) as rig:
        client = HubClient(rig.address, "t-ship")
        async with websocket_edge(client):
            pass
        authorities.write_text("renewed, and by mistake no certificate")
        rig.acceptor.update(rig.config, None)
        with pytest.raises(Refused) as caught:
            async with websocket_edge(client):
                pass
        assert caught.value.status == 503


async def test_connections_to_a_webhook_that_is_out_of_force_are_closed() -> None:
    is_closed = trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        """All questions of a connection, until the hub closes it."""
        while data := await stream.receive_some():
            if data.endswith(b"}"):
                await stream.send_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        is_closed.set()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/who"
        async with hub("a", webhook=HubWebhook(url=url, timeout_s=0.2)) as rig:
            with pytest.raises(Refused):
                async with websocket_edge(HubClient(rig.address, "t-unknown")):
                    pass
            assert not is_closed.is_set()
            rig.acceptor.update(replace(rig.config, webhook=None), None)
            await is_closed.wait()
        nursery.cancel_scope.cancel()


async def test_who_waits_in_line_for_a_webhook_is_told_by_the_judges_of_the_reload_that_takes_it_away() -> (
    None
):
    n_asked, all_asked, may_answer = 0, trio.Event(), trio.Event()

    async def waits() -> None:
        nonlocal n_asked
        n_asked += 1
        if n_asked == AT_ONCE:
            all_asked.set()
        await may_answer.wait()

    statuses: list[int] = []

    async def connect(client: HubClient) -> None:
        with pytest.raises(Refused) as caught:
            async with websocket_edge(client):
                pass
        statuses.append(caught.value.status)

    async with asking_hub(waits) as rig, trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(connect, HubClient(rig.address, "t-ship"))
        await all_asked.wait()
        for _ in range(4):
            nursery.start_soon(connect, HubClient(rig.address, "t-ship"))
        await trio.testing.wait_all_tasks_blocked(0.1)
        rig.acceptor.update(replace(rig.config, webhook=None, edges=hub_config("a").edges), None)
        may_answer.set()
    assert statuses == [401] * (AT_ONCE + 4)
    assert n_asked == AT_ONCE
