"""`TlsStream` keeps Trio's contract for streams, understands other ends of TLS, and sends without waiting."""

import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import pytest
import trio
import trio.testing
import trustme

from edge.errors import LocalProtocolError
from edge.net.socket_stream import SocketStream
from edge.net.tls import client_context, server_context
from edge.net.tls_stream import PIECE_BYTES, TlsStream

LIMIT_S = 20.0
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is the peer")

Foreign = trio.SSLStream[trio.SocketStream]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and server.pem with its key."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def contexts(files: Path, request: pytest.FixtureRequest) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    server = server_context(str(files / "server.pem"), str(files / "server.pem"))
    client = client_context(str(files / "ca.pem"))
    server.maximum_version = client.maximum_version = request.param
    return server, client


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def both_ends(contexts: Contexts, *, https_compatible: bool = False) -> tuple[TlsStream, TlsStream]:
    left, right = socket.socketpair()
    return (
        TlsStream(SocketStream(left), contexts[0], server_side=True, https_compatible=https_compatible),
        TlsStream(
            SocketStream(right),
            contexts[1],
            server_hostname="localhost",
            https_compatible=https_compatible,
        ),
    )


async def shake(*streams: TlsStream | Foreign) -> None:
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(stream.do_handshake)


async def pair(contexts: Contexts, *, https_compatible: bool = False) -> tuple[TlsStream, TlsStream]:
    ends = both_ends(contexts, https_compatible=https_compatible)
    await shake(*ends)
    return ends


@asynccontextmanager
async def opened(
    contexts: Contexts, *, https_compatible: bool = False
) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    with trio.fail_after(LIMIT_S):
        server, client = await pair(contexts, https_compatible=https_compatible)
        try:
            yield server, client
        finally:
            server.close()
            client.close()


@asynccontextmanager
async def with_foreign(
    contexts: Contexts, *, we_serve: bool, https_compatible: bool = False
) -> AsyncIterator[tuple[TlsStream, Foreign]]:
    """Ours, and Trio's own as the peer."""
    left, right = socket.socketpair()
    name = None if we_serve else "localhost"
    ours = TlsStream(
        SocketStream(left),
        contexts[0 if we_serve else 1],
        server_side=we_serve,
        server_hostname=name,
        https_compatible=https_compatible,
    )
    right.setblocking(False)
    theirs = trio.SSLStream(
        trio.SocketStream(trio.socket.from_stdlib_socket(right)),
        contexts[1 if we_serve else 0],
        server_side=not we_serve,
        server_hostname="localhost" if we_serve else None,
    )
    with trio.fail_after(LIMIT_S):
        await shake(ours, theirs)
        try:
            yield ours, theirs
        finally:
            ours.close()
            theirs.transport_stream.socket.close()


def clog(stream: TlsStream) -> int:
    """Send until the kernel takes no more; how many bytes were taken."""
    taken = 0
    while n_bytes := stream.try_send(b"x" * PIECE_BYTES):
        taken += n_bytes
    return taken


async def read_exactly(stream: trio.abc.Stream, n_bytes: int) -> bytes:
    got = b""
    while len(got) < n_bytes:
        data = await stream.receive_some(n_bytes - len(got))
        assert data, "the end came too early"
        got += data
    return got


async def test_it_keeps_the_contract_of_streams(contexts: Contexts) -> None:
    async def clogged_pair() -> tuple[TlsStream, TlsStream]:
        ends = await pair(contexts)
        for stream in ends:
            clog(stream)
        return ends

    with trio.fail_after(2 * LIMIT_S):
        await trio.testing.check_two_way_stream(lambda: pair(contexts), clogged_pair)


@pytest.mark.parametrize("we_serve", [True, False])
async def test_another_implementation_is_understood(contexts: Contexts, we_serve: bool) -> None:
    async with with_foreign(contexts, we_serve=we_serve) as (ours, theirs):
        assert ours.selected_alpn_protocol() == "http/1.1"
        for size in (1, 500, PIECE_BYTES, 1_000_000):
            data = bytes(range(250)) * (size // 250 + 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.send_all, data)
                assert await read_exactly(theirs, len(data)) == data
            async with trio.open_nursery() as nursery:
                nursery.start_soon(theirs.send_all, data)
                assert await read_exactly(ours, len(data)) == data
        await ours.aclose()
        assert await theirs.receive_some() == b""  # a farewell, or this would raise


async def test_what_fits_is_sent_in_the_callers_own_step(contexts: Contexts) -> None:
    async with opened(contexts) as (server, client):
        for sender, receiver in ((server, client), (client, server)):
            with trio.testing.assert_no_checkpoints():
                assert sender.try_send(b"hello") == 5
                assert sender.try_send(b"") == 0
            assert not sender.has_unsent
            assert await receiver.receive_some() == b"hello"


async def test_what_was_taken_but_not_sent_goes_first(contexts: Contexts) -> None:
    async with opened(contexts) as (server, client), trio.open_nursery() as nursery:
        taken = clog(server)
        assert server.has_unsent
        assert server.try_send(b"no") == 0
        nursery.start_soon(server.send_all, b"then this")
        assert await read_exactly(client, taken + 9) == b"x" * taken + b"then this"
        assert not server.has_unsent


async def test_sending_nothing_flushes(contexts: Contexts) -> None:
    async with opened(contexts) as (server, client), trio.open_nursery() as nursery:
        taken = clog(server)
        nursery.start_soon(server.send_all, b"")
        await read_exactly(client, taken)
        assert not server.has_unsent


async def test_a_send_that_was_given_up_leaves_what_follows_readable(contexts: Contexts) -> None:
    async with opened(contexts) as (server, client):
        taken = clog(server)
        with trio.move_on_after(0.01) as scope:
            await server.send_all(b"y" * 100)
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"z")
            assert await read_exactly(client, taken + 1) == b"x" * taken + b"z"


async def test_records_that_came_together_are_read_together(contexts: Contexts) -> None:
    async with opened(contexts) as (server, client):
        for _ in range(10):
            server.try_send(b"a" * 10)
        assert await client.receive_some(95) == b"a" * 95
        assert await client.receive_some(95) == b"a" * 5


async def test_data_is_given_before_the_end_that_came_with_it(contexts: Contexts) -> None:
    async with opened(contexts) as (server, client):
        server.try_send(b"bye")
        await server.aclose()
        assert [await client.receive_some() for _ in range(3)] == [b"bye", b"", b""]


async def test_an_end_without_a_farewell_is_a_fault_unless_http_is_spoken(contexts: Contexts) -> None:
    for https_compatible in (False, True):
        async with opened(contexts, https_compatible=https_compatible) as (server, client):
            server.try_send(b"x")
            server.close()
            assert await client.receive_some() == b"x"
            if https_compatible:
                assert [await client.receive_some() for _ in range(2)] == [b"", b""]
                continue
            for _ in range(2):
                with pytest.raises(trio.BrokenResourceError):
                    await client.receive_some()
            with pytest.raises(trio.BrokenResourceError):
                client.try_send(b"x")


async def test_no_farewell_is_said_where_http_is_spoken(contexts: Contexts) -> None:
    async with with_foreign(contexts, we_serve=False, https_compatible=True) as (ours, theirs):
        await ours.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await theirs.receive_some()


async def test_garbage_in_place_of_a_record_breaks_it_after_what_came_before(contexts: Contexts) -> None:
    async with opened(contexts) as (server, client):
        server.try_send(b"good")
        server.transport.try_send(b"\x17\x03\x03\x00\x20" + b"garbage " * 4)
        assert await client.receive_some() == b"good"
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.receive_some()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        with pytest.raises(trio.BrokenResourceError) as told:
            await server.receive_some()  # an alert says why
        assert "alert" in str(told.value.__cause__).lower()


async def test_a_certificate_that_is_not_trusted_is_named_and_the_peer_is_told(contexts: Contexts) -> None:
    stranger = client_context()
    server, client = both_ends((contexts[0], stranger))
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:

            async def refused() -> None:
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await client.do_handshake()
                assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
                client.close()

            async def served() -> None:
                await server.do_handshake()
                await server.receive_some()  # with TLS 1.3 it is told only here

            nursery.start_soon(refused)
            with pytest.raises(trio.BrokenResourceError) as told:
                await served()
        server.close()
    assert "unknown ca" in str(told.value.__cause__).lower()


async def test_a_peer_that_leaves_within_the_handshake_is_a_fault(contexts: Contexts) -> None:
    with trio.fail_after(LIMIT_S):
        for https_compatible in (False, True):
            server, client = both_ends(contexts, https_compatible=https_compatible)
            client.close()
            with pytest.raises(trio.BrokenResourceError):
                await server.do_handshake()
            server.close()


async def test_nothing_is_said_before_the_handshake(contexts: Contexts) -> None:
    server, client = both_ends(contexts)
    with pytest.raises(LocalProtocolError):
        client.try_send(b"secret")
    with pytest.raises(LocalProtocolError):
        await client.receive_some()
    with trio.fail_after(LIMIT_S):
        await client.aclose()
        assert await server.transport.receive_some() == b""
    server.close()


async def test_after_the_end_it_is_closed(contexts: Contexts) -> None:
    async with opened(contexts) as (server, client):
        await server.aclose()
        await server.aclose()
        client.abort()
        for stream in (server, client):
            with pytest.raises(trio.ClosedResourceError):
                stream.try_send(b"x")
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()


async def test_a_farewell_waits_for_room_but_not_when_cancelled(contexts: Contexts) -> None:
    async with opened(contexts) as (server, client):
        taken = clog(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose)
            await read_exactly(client, taken)
        assert await client.receive_some() == b""
    async with opened(contexts) as (server, client):
        clog(server)
        await trio.aclose_forcefully(server)
        assert server.transport.is_closed


@asynccontextmanager
async def openssl_client(files: Path, version: str) -> AsyncIterator[tuple[TlsStream, trio.Process]]:
    """Ours as the server of an `openssl s_client`. A line `K` makes it ask for new keys, `R` for a renegotiation."""
    context = server_context(str(files / "server.pem"), str(files / "server.pem"))
    listener = socket.create_server(("127.0.0.1", 0))
    where = f"127.0.0.1:{listener.getsockname()[1]}"
    command = ["openssl", "s_client", "-connect", where, version, "-CAfile", str(files / "ca.pem")]

    async def run(task_status: trio.TaskStatus[trio.Process]) -> None:
        await trio.run_process(
            command, stdin=PIPE, stdout=PIPE, stderr=PIPE, check=False, task_status=task_status
        )

    with trio.fail_after(LIMIT_S), listener:
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(run)
            sock, _ = await trio.to_thread.run_sync(listener.accept)
            stream = TlsStream(SocketStream(sock), context, server_side=True)
            await stream.do_handshake()
            try:
                yield stream, process
            finally:
                stream.close()
                nursery.cancel_scope.cancel()


async def type_into(process: trio.Process, line: bytes, stream: TlsStream) -> None:
    """Returns when something of it arrives: what is typed together is not taken for a command."""
    assert process.stdin is not None
    await process.stdin.send_all(line)
    await trio.lowlevel.wait_readable(stream.transport.fileno())


@needs_openssl
async def test_a_conversation_goes_on_with_the_new_keys_that_a_peer_asks_for(files: Path) -> None:
    async with openssl_client(files, "-tls1_3") as (stream, process):
        assert process.stdin is not None
        assert process.stdout is not None
        await type_into(process, b"K\n", stream)
        await process.stdin.send_all(b"hello\n")
        assert await stream.receive_some() == b"hello\n"
        assert stream.try_send(b"welcome\n") == 8
        heard = b""
        while b"welcome" not in heard:
            heard += await process.stdout.receive_some()


@needs_openssl
async def test_a_peer_cannot_fill_our_memory_with_what_tls_has_to_answer(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with openssl_client(files, "-tls1_2") as (stream, process):
        monkeypatch.setattr("edge.net.tls_stream.MAX_ANSWER_BYTES", 10)
        await type_into(process, b"R\n", stream)
        with pytest.raises(trio.BrokenResourceError, match="busy"):
            await stream.receive_some()


@needs_openssl
async def test_a_server_may_ask_for_a_certificate_while_we_wait_for_its_answer(files: Path) -> None:
    """A line `R` makes `openssl s_server` renegotiate and ask for one."""
    pem = str(files / "server.pem")
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2", "-cert", pem, "-key", pem]

    async def run(task_status: trio.TaskStatus[trio.Process]) -> None:
        await trio.run_process(
            command, stdin=PIPE, stdout=PIPE, stderr=PIPE, check=False, task_status=task_status
        )

    context = client_context(str(files / "ca.pem"), cert=pem)
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(run)
            said = Said(process)
            port = (await said.until(r"ACCEPT [^\n]*:(\d+)\n"))[1]
            sock = socket.create_connection(("127.0.0.1", int(port)))
            stream = TlsStream(SocketStream(sock), context, server_hostname="localhost")
            await stream.do_handshake()
            assert process.stdin is not None
            await said.until("END SSL SESSION")

            async def speak() -> None:
                assert process.stdin is not None
                await process.stdin.send_all(b"R\n")
                await said.until("SSL_do_handshake -> 1\n")  # it has begun; openssl sends nothing else within
                await process.stdin.send_all(b"hello\n")

            nursery.start_soon(speak)
            assert await stream.receive_some() == b"hello\n"
            stream.close()
            nursery.cancel_scope.cancel()


class Said:
    """What a process writes on its standard output."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        self._stdout = process.stdout
        self._text = ""

    async def until(self, pattern: str) -> re.Match[str]:
        while (found := re.search(pattern, self._text)) is None:
            data = await self._stdout.receive_some()
            assert data, f"ended after: {self._text}"
            self._text += data.decode()
        self._text = self._text[found.end() :]
        return found
