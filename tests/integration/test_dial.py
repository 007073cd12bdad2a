"""The way out over real sockets: straight, over TLS, through a proxy, and what is said when it fails."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from edge.errors import Unavailable
from edge.net.dial import Proxy, open_stream, open_wire
from edge.net.http_client import Origin
from edge.net.tls import client_context, server_context
from tests.support.connect_proxy import connect_proxy

LIMIT_S = 10.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, server.pem and client.pem, each with its key, and client.crt, client.key."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    client = ca.issue_cert("edge@example.org")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    client.cert_chain_pems[0].write_to_path(folder / "client.crt")
    client.private_key_pem.write_to_path(folder / "client.key")
    return folder


@asynccontextmanager
async def echo_server(tls: ssl.SSLContext | None = None, answer: bytes | None = None) -> AsyncIterator[int]:
    """Gives its port. `answer` is what it says to everything instead."""

    async def serve(stream: trio.SocketStream) -> None:
        conversation = stream if tls is None else trio.SSLStream(stream, tls, server_side=True)
        try:
            while data := await conversation.receive_some():
                await conversation.send_all(data if answer is None else answer)
        except trio.BrokenResourceError:
            pass  # some clients here are refused on purpose
        await trio.aclose_forcefully(conversation)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(2 * LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            yield listener.socket.getsockname()[1]
            nursery.cancel_scope.cancel()


def at(port: int, host: str = "localhost") -> Origin:
    return Origin(host, port, False, host)


async def says_hello(stream: trio.abc.Stream) -> bool:
    """False if the server ends the connection: what it has against us may come after TLS 1.3's handshake."""
    async with stream:
        try:
            await stream.send_all(b"hello")
            return await stream.receive_some() == b"hello"
        except trio.BrokenResourceError:
            return False


def server_tls(files: Path, client_ca: str | None = None) -> ssl.SSLContext:
    return server_context(str(files / "server.pem"), str(files / "server.pem"), client_ca)


async def test_a_plain_stream_and_a_tls_stream_lead_to_the_server(files: Path) -> None:
    trusts = client_context(str(files / "ca.pem"))
    async with echo_server() as plain, echo_server(server_tls(files)) as secure:
        assert await says_hello(await open_stream(at(plain), tls=None, timeout_s=LIMIT_S))
        assert await says_hello(await open_stream(at(secure), tls=trusts, timeout_s=LIMIT_S))
        for port, tls in ((plain, None), (secure, trusts)):
            wire = await open_wire(at(port), tls=tls, timeout_s=LIMIT_S)
            assert await wire.send(b"x")
            assert await wire.receive() == b"x"
            wire.close()


@pytest.mark.parametrize("pair", [("client.pem", None), ("client.crt", "client.key")])
async def test_a_client_certificate_is_shown_to_who_asks(files: Path, pair: tuple[str, str | None]) -> None:
    cert, key = pair
    known = client_context(
        str(files / "ca.pem"), cert=str(files / cert), key=str(files / key) if key else None
    )
    async with echo_server(server_tls(files, str(files / "ca.pem"))) as port:
        assert await says_hello(await open_stream(at(port), tls=known, timeout_s=LIMIT_S))
        stranger = await open_stream(at(port), tls=client_context(str(files / "ca.pem")), timeout_s=LIMIT_S)
        assert not await says_hello(stranger)


async def test_a_proxy_gives_a_tunnel_for_tls_and_for_plain_bytes(files: Path) -> None:
    trusts = client_context(str(files / "ca.pem"))
    async with (
        echo_server() as plain,
        echo_server(server_tls(files)) as secure,
        connect_proxy(authorization="Basic bWU6aHVzaA==") as asked,
    ):
        proxy = Proxy("127.0.0.1", asked.port, "Basic bWU6aHVzaA==")
        assert await says_hello(await open_stream(at(plain), tls=None, proxy=proxy, timeout_s=LIMIT_S))
        assert await says_hello(await open_stream(at(secure), tls=trusts, proxy=proxy, timeout_s=LIMIT_S))
        assert asked.tunnels == 2
        assert asked.seen[0].startswith(f"CONNECT localhost:{plain} HTTP/1.1\r\n")


async def test_what_a_proxy_says_no_to_is_said(files: Path) -> None:
    async with connect_proxy(authorization="Basic eA==") as asked:
        proxy = Proxy("127.0.0.1", asked.port)
        with pytest.raises(Unavailable) as caught:
            await open_stream(at(1, "hub.invalid"), tls=None, proxy=proxy, server="eu", timeout_s=LIMIT_S)
        text = f"proxy 127.0.0.1:{asked.port} answered 407: it wants a user and a password"
        assert (caught.value.server, caught.value.text) == ("eu", text)


async def test_a_proxy_that_says_nothing_is_given_up() -> None:
    async with connect_proxy(is_silent=True) as asked:
        proxy = Proxy("127.0.0.1", asked.port)
        with pytest.raises(Unavailable, match=r"no tunnel to hub.invalid:443 through proxy .* within 0.2 s"):
            await open_stream(at(443, "hub.invalid"), tls=None, proxy=proxy, timeout_s=0.2)


async def test_a_proxy_that_hangs_up_is_said() -> None:
    async with connect_proxy(answer=b"\r\n") as asked:
        proxy = Proxy("127.0.0.1", asked.port)
        with pytest.raises(Unavailable, match="gave no answer that can be read"):
            await open_stream(at(443, "hub.invalid"), tls=None, proxy=proxy, timeout_s=LIMIT_S)


async def test_nobody_listening_is_said_of_whom() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        with pytest.raises(
            Unavailable, match=f"server 127.0.0.1: cannot connect to 127.0.0.1:{port}: .*refused"
        ):
            await open_stream(at(port, "127.0.0.1"), tls=None, timeout_s=LIMIT_S)
        proxy = Proxy("127.0.0.1", port)
        with pytest.raises(Unavailable, match=f"cannot connect to proxy 127.0.0.1:{port}: .*refused"):
            await open_stream(at(443, "hub.invalid"), tls=None, proxy=proxy, timeout_s=LIMIT_S)


async def test_a_certificate_nobody_vouches_for_and_a_server_without_tls_are_told_apart(files: Path) -> None:
    async with echo_server(server_tls(files)) as secure, echo_server() as plain:
        with pytest.raises(
            Unavailable, match=r"its certificate is not trusted \(.*\) \(.* by ca_file, --ca-file"
        ):
            await open_stream(at(secure), tls=client_context(), timeout_s=LIMIT_S)
        with pytest.raises(Unavailable, match=r"TLS handshake with localhost:\d+ failed"):
            await open_stream(at(plain), tls=client_context(), timeout_s=LIMIT_S)


async def test_a_port_that_answers_tls_in_plain_http_is_known_by_that() -> None:
    async with echo_server(answer=b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        with pytest.raises(Unavailable, match=r"TLS handshake with .* failed: .* plain HTTP: use http://"):
            await open_stream(at(port), tls=client_context(), timeout_s=LIMIT_S)


async def test_a_tls_handshake_that_never_ends_is_given_up() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")  # connects, and nobody ever accepts
    port = listener.socket.getsockname()[1]
    with pytest.raises(Unavailable, match=f"no TLS handshake with 127.0.0.1:{port} within 0.2 s"):
        await open_stream(at(port, "127.0.0.1"), tls=client_context(), timeout_s=0.2)
    await listener.aclose()
