"""WebSockets over real sockets and TLS, through our HTTP server; trio-websocket as it comes is the foreign peer."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio_websocket
import trustme

from edge.health import Status
from edge.metrics import Metrics
from edge.net.dial import Proxy, open_stream
from edge.net.http_client import Origin
from edge.net.http_server import HttpLimits, HttpRequest, Reply
from edge.net.tls import client_context, server_context
from edge.net.websocket import (
    HandshakeRefused,
    WebSocket,
    WebSocketClosed,
    accept_websocket,
    open_websocket,
)
from edge.parts.listener import Listener
from tests.support.connect_proxy import connect_proxy
from tests.support.memory_http import GET, RawClient, ScriptedHandler
from tests.support.raw_websocket import KEY, TEXT, frame

LIMIT_S = 10.0
MOST = 1_000_000
HANDSHAKE = (
    "GET /link HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and server.pem with its key."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


class Echo:
    """Gives every message back; `ends`: why its WebSockets ended."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.has_ended = trio.Event()

    async def __call__(self, request: HttpRequest, reply: Reply) -> None:
        if request.path != "/link":
            await reply.send(200, b"plain")
            return
        headers = {"X-Session-ID": "s1"}
        try:
            async with await accept_websocket(
                reply.take_over(), request, headers=headers, max_message_bytes=MOST
            ) as websocket:
                while True:
                    message = await websocket.receive()
                    await websocket.send(message if isinstance(message, str) else message.hex())
        except WebSocketClosed as exc:
            self.ends.append(exc.code)
        finally:
            self.has_ended.set()


@asynccontextmanager
async def hub(echo: Echo | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    handler = ScriptedHandler(echo or Echo(), refuse={"/closed": 403})
    limits = HttpLimits(max_body_bytes=1000, head_timeout_s=0.5)
    listener = Listener(
        "hub",
        ("127.0.0.1:0",),
        tls,
        handler,
        limits,
        max_connections=50,
        status=Status("listener:hub"),
        metrics=Metrics(),
    )
    with trio.fail_after(2 * LIMIT_S):
        async with trio.open_nursery() as nursery:
            intake: trio.CancelScope = await nursery.start(listener.run)
            port = int(listener.bound[0].rpartition(":")[2])
            yield Origin("localhost" if tls else "127.0.0.1", port, tls is not None, "hub.test")
            intake.cancel()


@asynccontextmanager
async def link(
    origin: Origin, tls: ssl.SSLContext | None = None, target: str = "/link", proxy: Proxy | None = None
) -> AsyncIterator[WebSocket]:
    stream = await open_stream(origin, tls=tls, proxy=proxy, timeout_s=LIMIT_S)
    async with open_websocket(
        stream, host=origin.authority, target=target, headers={}, max_message_bytes=MOST, timeout_s=LIMIT_S
    ) as websocket:
        yield websocket


async def converse(websocket: WebSocket) -> None:
    for text in ("x" * 500, "grüße", "", "y" * (MOST - 1)):
        await websocket.send(text)
        assert await websocket.receive() == text


async def ping(websocket: WebSocket) -> float | None:
    signs: list[float | None] = []
    websocket.on_alive = signs.append
    await websocket.ping()
    await websocket.send("x")
    await websocket.receive()
    return signs[0]


async def test_a_link_over_tcp() -> None:
    echo = Echo()
    async with hub(echo) as origin:
        async with link(origin) as websocket:
            assert websocket.headers["x-session-id"] == "s1"
            await converse(websocket)
            assert await ping(websocket) is not None
        await echo.has_ended.wait()
    assert echo.ends == [1000]


async def test_a_link_over_tls_through_a_proxy(files: Path) -> None:
    echo = Echo()
    tls = server_context(str(files / "server.pem"), str(files / "server.pem"))
    trusts = client_context(str(files / "ca.pem"))
    async with hub(echo, tls) as origin, connect_proxy(authorization="Basic eA==") as asked:
        proxy = Proxy("127.0.0.1", asked.port, "Basic eA==")
        async with link(origin, trusts, proxy=proxy) as websocket:
            await converse(websocket)
            assert await ping(websocket) is not None
        await echo.has_ended.wait()
        assert asked.tunnels == 1
    assert echo.ends == [1000]


async def test_a_refused_link_is_told_status_and_body() -> None:
    async with hub() as origin:
        with pytest.raises(HandshakeRefused) as caught:
            async with link(origin, target="/closed"):
                raise AssertionError("it opened")
    assert (caught.value.status, caught.value.body) == (403, "refused")


async def test_an_address_without_websockets_is_told_apart() -> None:
    async with hub() as origin:
        with pytest.raises(HandshakeRefused) as caught:
            async with link(origin, target="/other"):
                raise AssertionError("it opened")
    assert caught.value.status == 200


@pytest.mark.parametrize("is_tls", [False, True])
async def test_trio_websocket_as_it_comes_is_a_client_we_understand(files: Path, is_tls: bool) -> None:
    echo = Echo()
    tls = server_context(str(files / "server.pem"), str(files / "server.pem")) if is_tls else None
    trusts = client_context(str(files / "ca.pem")) if is_tls else None
    async with hub(echo, tls) as origin:
        stream = await open_stream(origin, tls=trusts, timeout_s=LIMIT_S)
        async with stream, trio.open_nursery() as nursery:  # its own end leaves the socket open
            websocket = await trio_websocket.wrap_client_stream(
                nursery,
                stream,  # type: ignore[arg-type]  # any stream will do
                "hub.test",
                "/link",
                max_message_size=MOST,
            )
            for text in ("x" * 500, "grüße", "y" * (MOST - 1)):
                await websocket.send_message(text)
                assert await websocket.get_message() == text
            await websocket.send_message(b"\x01\xff")
            assert await websocket.get_message() == "01ff"
            await websocket.ping()
            await websocket.send_message("x" * (MOST + 1))
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await websocket.get_message()
            assert caught.value.reason is not None
            assert caught.value.reason.code == 1009
        await echo.has_ended.wait()
    assert echo.ends == [1009]


async def test_trio_websocket_as_it_comes_is_a_server_we_understand() -> None:
    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        websocket = await request.accept(extra_headers=[(b"X-Session-ID", b"s7")])
        try:
            while (text := await websocket.get_message()) != "bye":
                await websocket.ping()
                await websocket.send_message(text)
        except trio_websocket.ConnectionClosed:
            return
        await websocket.aclose(1012, "restart")

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            server: trio_websocket.WebSocketServer = await nursery.start(
                trio_websocket.serve_websocket, serve, "127.0.0.1", 0, None
            )
            origin = Origin("127.0.0.1", server.port, False, "hub.test")
            async with link(origin) as websocket, trio.open_nursery() as reading:
                assert websocket.headers["x-session-id"] == "s7"
                reading.start_soon(websocket.send, "x" * 500)
                assert await websocket.receive() == "x" * 500
                await websocket.send("bye")
                with pytest.raises(WebSocketClosed) as caught:
                    await websocket.receive()
            nursery.cancel_scope.cancel()
    assert (caught.value.code, caught.value.reason) == (1012, "restart")


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 50])
async def test_a_client_that_vanishes_within_a_frame_is_an_end(cut: int) -> None:
    echo = Echo()
    async with hub(echo) as origin:
        stream = await trio.open_tcp_stream(origin.host, origin.port)
        await stream.send_all(HANDSHAKE + frame(TEXT, b"x" * 100)[:cut])
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
        await stream.aclose()
        await echo.has_ended.wait()
    assert echo.ends == [1006]


async def test_a_client_that_sends_its_end_may_still_be_answered() -> None:
    echo = Echo()
    async with hub(echo) as origin:
        stream = await trio.open_tcp_stream(origin.host, origin.port)
        await stream.send_all(HANDSHAKE + frame(TEXT, b"hello"))
        await stream.send_eof()
        received = await RawClient(stream).to_end()
        await stream.aclose()
    assert received.partition(b"\r\n\r\n")[2].startswith(frame(TEXT, b"hello", masked=False))
    assert echo.ends == [1006]


async def test_a_handshake_that_comes_too_slowly_is_refused() -> None:
    async with hub() as origin:
        stream = await trio.open_tcp_stream(origin.host, origin.port)
        await stream.send_all(HANDSHAKE[:30])
        assert (await RawClient(stream).response()).status == 408
        await stream.aclose()


async def test_a_request_that_is_no_handshake_is_refused_by_the_websocket() -> None:
    echo = Echo()
    async with hub(echo) as origin:
        stream = await trio.open_tcp_stream(origin.host, origin.port)
        client = RawClient(stream)
        assert (await client.ask(GET)).status == 200
        answer = await client.ask(HANDSHAKE.replace(b"Version: 13", b"Version: 7"))
        assert answer.status == 426
        assert await client.to_end() == b""
        await stream.aclose()
