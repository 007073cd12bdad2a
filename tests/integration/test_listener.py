"""The listener over real sockets: TCP, Unix, TLS; clients that misbehave as only sockets let them."""

import logging
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from edge.errors import ConfigError, EdgeError
from edge.health import Status
from edge.metrics import Metrics
from edge.net.http_server import HttpLimits, HttpRequest, Reply
from edge.net.listen import open_listeners
from edge.net.tls import client_context, server_context
from edge.parts.listener import Listener
from tests.support.memory_http import GET, RawClient, ScriptedHandler, post
from tests.support.ports import has_ipv6

LIMITS = HttpLimits(max_body_bytes=1_000_000)


@asynccontextmanager
async def listening(
    *addresses: str,
    handler: ScriptedHandler | None = None,
    limits: HttpLimits = LIMITS,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Listener]:
    listener = Listener(
        "gateway",
        addresses or ("127.0.0.1:0",),
        tls,
        handler or ScriptedHandler(),
        limits,
        max_connections=100,
        status=Status("listener:gateway"),
        metrics=Metrics(),
    )
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            intake: trio.CancelScope = await nursery.start(listener.run)
            yield listener
            intake.cancel()


async def connect(address: str) -> trio.SocketStream:
    if address.startswith("unix:"):
        return await trio.open_unix_socket(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await trio.open_tcp_stream(host.strip("[]"), int(port))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  the product has no event for what only a test waits for
        await trio.sleep(0.01)


async def read_to_end(stream: trio.abc.Stream) -> None:
    while await stream.receive_some():
        pass


async def send_and_receive(stream: trio.abc.Stream) -> None:
    """In TLS 1.3 the client's side is done before the server has judged it: either step may fail."""
    await stream.send_all(GET)
    await stream.receive_some()


async def close_in_time(stream: trio.abc.Stream) -> None:
    with trio.move_on_after(1):
        await stream.aclose()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:0",
        "localhost:0",
        pytest.param("[::1]:0", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")),
    ],
)
async def test_tcp_is_served_on_the_port_it_says(address: str) -> None:
    async with listening(address) as listener:
        for bound in listener.bound:
            assert not bound.endswith(":0")
            async with await connect(bound) as stream:
                client = RawClient(stream)
                for body in (b"one", b"x" * 900_000):
                    assert (await client.ask(post(body))).body == body


async def test_a_handler_sees_where_its_client_is() -> None:
    handler = ScriptedHandler()
    async with listening(handler=handler) as listener, await connect(listener.bound[0]) as stream:
        await RawClient(stream).ask(GET)
        host, port = stream.socket.getsockname()
    assert handler.seen[0].peer == f"{host}:{port}"


async def test_a_unix_socket_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "mcp.sock"
    handler = ScriptedHandler()
    async with listening(f"unix:{path}", handler=handler) as listener:
        assert listener.bound == (f"unix:{path}",)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with await connect(listener.bound[0]) as stream:
            assert (await RawClient(stream).ask(post(b"x"))).body == b"x"
    assert handler.seen[0].peer == "unix"
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "mcp.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    assert path.exists()
    async with listening(f"unix:{path}") as listener:
        with pytest.raises(EdgeError, match="in use"):
            await open_listeners(f"unix:{path}")
        async with await connect(listener.bound[0]) as stream:
            assert (await RawClient(stream).ask(post(b"x"))).body == b"x"


async def test_a_unix_socket_that_is_somebody_elses_by_now_stays(tmp_path: Path) -> None:
    path = tmp_path / "mcp.sock"
    async with listening(f"unix:{path}"):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"
    with pytest.raises(EdgeError, match="no socket"):
        await open_listeners(f"unix:{path}")
    with pytest.raises(EdgeError, match="directory"):
        await open_listeners(f"unix:{tmp_path}/none/mcp.sock")


async def test_an_address_in_use_is_named_with_what_to_do() -> None:
    async with listening() as listener:
        address = listener.bound[0]
        with pytest.raises(EdgeError, match=rf"cannot listen on {address}: .*in use.*another port"):
            await open_listeners(address)


@pytest.mark.parametrize(
    ("address", "words"), [("192.0.2.1:0", "does not have"), ("no-such-host.invalid:1", "name")]
)
async def test_an_address_that_is_not_ours_is_named(address: str, words: str) -> None:
    with pytest.raises(EdgeError, match=words):
        await open_listeners(address)


@pytest.mark.parametrize("address", ["", "nonsense", ":80", "127.0.0.1:99999", "unix:relative"])
async def test_what_is_no_address_is_a_config_error(address: str) -> None:
    with pytest.raises(ConfigError):
        await open_listeners(address)


async def test_a_port_can_be_listened_on_again_at_once() -> None:
    async with listening() as listener:
        address = listener.bound[0]
        async with await connect(address) as stream:
            await RawClient(stream).ask(post(b"x", "Connection: close"))
    async with listening(address) as listener:
        assert listener.bound == (address,)


async def test_413_reaches_a_client_that_is_still_sending() -> None:
    async with listening() as listener:

        def ask() -> bytes:
            """As a blocking client does: all of the request first, then the answer."""
            host, _, port = listener.bound[0].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as sock:
                sock.sendall(post(b"x" * 10_000_000))
                answer = b""
                while data := sock.recv(65536):
                    answer += data
                return answer

        answer = await trio.to_thread.run_sync(ask)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"over 1000000 bytes" in answer


async def test_a_client_that_stops_reading_is_reset_and_holds_little() -> None:
    written = 0

    async def endless(request: HttpRequest, reply: Reply) -> None:
        nonlocal written
        await reply.start_stream()
        while not reply.gone:
            await reply.write(b"x" * 100_000)
            written += 100_000

    limits = HttpLimits(max_body_bytes=10, write_timeout_s=0.2)
    async with listening(handler=ScriptedHandler(endless), limits=limits) as listener:
        async with await connect(listener.bound[0]) as stream:
            await stream.send_all(GET)
            await until(lambda: listener.connections.metrics.write_timeouts == 1)
            with pytest.raises(trio.BrokenResourceError):
                await read_to_end(stream)
        assert written < 50_000_000


async def test_a_large_answer_that_is_not_read_ends_with_the_write_time() -> None:
    ended = trio.Event()

    async def large(request: HttpRequest, reply: Reply) -> None:
        await reply.send(200, b"x" * 50_000_000)
        assert reply.gone
        ended.set()

    limits = HttpLimits(max_body_bytes=10, write_timeout_s=0.2)
    async with (
        listening(handler=ScriptedHandler(large), limits=limits) as listener,
        await connect(listener.bound[0]) as stream,
    ):
        await stream.send_all(GET)
        await ended.wait()


async def test_a_large_answer_that_is_read_arrives_whole() -> None:
    async def large(request: HttpRequest, reply: Reply) -> None:
        await reply.send(200, b"0123456789" * 1_000_000)

    async with (
        listening(handler=ScriptedHandler(large)) as listener,
        await connect(listener.bound[0]) as stream,
    ):
        assert (await RawClient(stream).ask(GET)).body == b"0123456789" * 1_000_000


async def test_a_reset_by_the_client_wakes_a_stream_that_only_waits() -> None:
    ended = trio.Event()

    async def stream_until_gone(request: HttpRequest, reply: Reply) -> None:
        await reply.start_stream()
        await reply.wait_gone()
        assert reply.gone
        ended.set()

    async with listening(handler=ScriptedHandler(stream_until_gone)) as listener:
        stream = await connect(listener.bound[0])
        await stream.send_all(GET)
        await RawClient(stream).until(b"\r\n\r\n")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()
        await ended.wait()


async def test_no_descriptor_is_left_open() -> None:
    async def once() -> None:
        async with listening() as listener:
            for wire in (GET, b"bad\r\n\r\n", GET[:10]):
                async with await connect(listener.bound[0]) as stream:
                    await stream.send_all(wire)
                    await stream.send_eof()
                    await RawClient(stream).to_end()

    await once()
    before = len(os.listdir("/proc/self/fd"))
    await once()
    assert len(os.listdir("/proc/self/fd")) == before


# -- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    cert = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    cert.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    cert.private_key_pem.write_to_path(folder / "key.pem")
    return folder


async def tls_client(address: str, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    return trio.SSLStream(await connect(address), context, server_hostname="127.0.0.1")


async def test_tls_is_served_and_ends_with_a_goodbye(files: Path) -> None:
    tls = server_context(str(files / "cert.pem"), str(files / "key.pem"))
    async with listening(tls=tls) as listener:
        stream = await tls_client(listener.bound[0], client_context(str(files / "ca.pem")))
        client = RawClient(stream)
        for body in (b"one", b"x" * 900_000):
            assert (await client.ask(post(body))).body == body
        assert stream.selected_alpn_protocol() == "http/1.1"
        response = await client.ask(post(b"x", "Connection: close"))
        assert response.headers["connection"] == "close"
        assert await stream.receive_some() == b""  # close_notify, not just the end of the connection
        await close_in_time(stream)


async def test_a_client_that_stops_reading_tls_is_cut_off(files: Path) -> None:
    async def large(request: HttpRequest, reply: Reply) -> None:
        await reply.send(200, b"x" * 50_000_000)

    tls = server_context(str(files / "cert.pem"), str(files / "key.pem"))
    limits = HttpLimits(max_body_bytes=10, write_timeout_s=0.2)
    async with listening(tls=tls, limits=limits, handler=ScriptedHandler(large)) as listener:
        stream = await tls_client(listener.bound[0], client_context(str(files / "ca.pem")))
        await stream.send_all(GET)
        await until(lambda: listener.connections.metrics.write_timeouts == 1)
        await trio.aclose_forcefully(stream)


async def test_a_client_ca_keeps_strangers_out(files: Path, authority: trustme.CA) -> None:
    tls = server_context(str(files / "cert.pem"), str(files / "key.pem"), str(files / "ca.pem"))
    known = client_context(str(files / "ca.pem"), verify=False)
    authority.issue_cert("client@example.org").configure_cert(known)
    handler = ScriptedHandler()
    async with listening(tls=tls, handler=handler) as listener:
        stranger = await tls_client(listener.bound[0], client_context(str(files / "ca.pem")))
        with pytest.raises(trio.BrokenResourceError):
            await send_and_receive(stranger)
        await trio.aclose_forcefully(stranger)
        assert listener.connections.tls_failures == 1
        assert handler.seen == []
        friend = await tls_client(listener.bound[0], known)
        assert (await RawClient(friend).ask(GET)).status == 200
        await close_in_time(friend)


async def test_a_handshake_that_never_ends_is_let_go(files: Path) -> None:
    tls = server_context(str(files / "cert.pem"), str(files / "key.pem"))
    limits = HttpLimits(max_body_bytes=10, head_timeout_s=0.1)
    async with listening(tls=tls, limits=limits) as listener, await connect(listener.bound[0]) as stream:
        await stream.send_all(b"\x16\x03\x01")
        assert b"HTTP" not in await RawClient(stream).to_end()


@pytest.mark.parametrize("wire", [GET, post(b"x"), GET[:9]])
async def test_plain_http_on_a_port_with_tls_is_told_so_and_logged_once(
    files: Path, caplog: pytest.LogCaptureFixture, wire: bytes
) -> None:
    caplog.set_level(logging.INFO, "edge.http")
    tls = server_context(str(files / "cert.pem"), str(files / "key.pem"))
    async with listening(tls=tls) as listener:
        for _ in range(2):
            async with await connect(listener.bound[0]) as stream:
                await stream.send_all(wire)
                await stream.send_eof()
                answer = await RawClient(stream).to_end()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"this port speaks TLS: use https://" in answer
        assert listener.connections.tls_failures == 2
        async with await connect(listener.bound[0]) as stream:  # the next one is served as ever
            client = trio.SSLStream(
                stream, client_context(str(files / "ca.pem")), server_hostname="127.0.0.1"
            )
            assert (await RawClient(client).ask(GET)).status == 200
            await close_in_time(client)
    told = [record.message for record in caplog.records if record.name == "edge.http"]
    assert told == ["a client speaks plain HTTP on a port with TLS"]


async def test_tls_on_a_port_without_it_is_told_so_and_logged_once(
    files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edge.http")
    async with listening() as listener:
        for _ in range(2):
            stream = await tls_client(listener.bound[0], client_context(str(files / "ca.pem")))
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()
            await trio.aclose_forcefully(stream)
    told = [record.message for record in caplog.records if record.name == "edge.http"]
    assert told == ["a client speaks TLS on a port without it"]


async def test_intake_off_does_not_wait_for_a_handshake(files: Path) -> None:
    tls = server_context(str(files / "cert.pem"), str(files / "key.pem"))
    async with listening(tls=tls) as listener:
        stream = await connect(listener.bound[0])
        await stream.send_all(b"\x16\x03\x01")
        await until(lambda: listener.connections.open == 1)
    await stream.aclose()
