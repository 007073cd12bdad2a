"""HTTP+SSE, telling the transports apart, and TLS, over real sockets."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trustme

from edge.config.model import Secret
from edge.errors import EdgeError, Gone, Unavailable, leaves
from edge.parts.channel import Ended
from edge.parts.server_http import HttpRefused
from tests.support.http_server_toys import (
    Answer,
    Got,
    Listener,
    McpToy,
    ToyServer,
    response,
)
from tests.support.http_talks import INITIALIZE, LIMIT_S, begin, call, connect_to


@pytest.fixture(autouse=True)
async def time_limit() -> AsyncIterator[None]:
    with trio.fail_after(LIMIT_S):
        yield


# -- the 2024-11-05 transport, and telling the two apart


class OldToy:
    """HTTP+SSE at /mcp; `refusal` is its answer to a POST there."""

    def __init__(self, refusal: int = 405, endpoint: str = "/messages") -> None:
        self.server = ToyServer(self.script)
        self.refusal = refusal
        self.endpoint = endpoint
        self.stream: Answer | None = None

    async def script(self, got: Got, answer: Answer) -> None:
        if got.method == "GET":
            await answer.start_events()
            await answer.chunk(f"event: endpoint\ndata: {self.endpoint}\n\n".encode())
            self.stream = answer
            await answer.wait_client_gone()
        elif got.target == "/mcp":
            await answer.send(self.refusal)
        else:
            await answer.send(202)
            message = got.message
            assert self.stream is not None
            if message["method"] == "die":
                await self.stream.stream.aclose()
            elif "id" in message:
                result = {"protocolVersion": "2024-11-05", "capabilities": {}, "method": message["method"]}
                await self.stream.event(response(message["id"], result))


@pytest.mark.parametrize("refusal", [400, 404, 405, 406, 415, 422])
async def test_auto_falls_back_to_the_old_transport_and_remembers_it(refusal: int) -> None:
    toy = OldToy(refusal)
    async with toy.server.listening() as port:
        connect = connect_to(port)
        for _ in range(2):
            async with connect(Listener()) as channel:
                await begin(channel)
                assert (await call(channel))["method"] == "tools/call"
    asked = [f"{got.method} {got.target}" for got in toy.server.requests]
    assert asked[:3] == ["POST /mcp", "GET /mcp", "POST /messages"]
    assert asked.count("POST /mcp") == 1
    assert asked.count("GET /mcp") == 2


async def test_auto_reports_both_ways_if_neither_works() -> None:
    async def nothing(got: Got, answer: Answer) -> None:
        await answer.send(404)

    async with ToyServer(nothing).listening() as port:
        with pytest.raises(ExceptionGroup) as caught:
            async with connect_to(port)(Listener()) as channel:
                await channel.request("initialize", INITIALIZE)
    texts = [str(exc) for exc in leaves(caught.value)]
    assert "server toy: HTTP 404; as HTTP+SSE: HTTP 404" in texts


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_other_refusals_say_nothing_about_the_transport(status: int) -> None:
    toy = OldToy(status)
    async with toy.server.listening() as port, connect_to(port)(Listener()) as channel:
        with pytest.raises(HttpRefused):
            await channel.request("initialize", INITIALIZE)
    assert [got.method for got in toy.server.requests] == ["POST"]


async def test_a_transport_that_is_configured_is_the_only_one_tried() -> None:
    old, new = OldToy(), McpToy()
    async with old.server.listening() as port:
        async with connect_to(port, transport="sse")(Listener()) as channel:
            await begin(channel)
        async with connect_to(port, transport="streamable")(Listener()) as channel:
            with pytest.raises(HttpRefused, match="HTTP 405"):
                await channel.request("initialize", INITIALIZE)
    assert [got.method for got in old.server.requests].count("GET") == 1
    async with new.server.listening() as port:
        with pytest.raises(ExceptionGroup):
            async with connect_to(port, transport="sse")(Listener()) as channel:
                await begin(channel)
    assert new.server.methods() == ["GET"]


async def test_an_endpoint_on_another_origin_is_never_posted_to() -> None:
    elsewhere = OldToy().server
    async with elsewhere.listening() as other_port:
        toy = OldToy(endpoint=f"http://127.0.0.1:{other_port}/messages")
        async with toy.server.listening() as port:
            with pytest.raises(ExceptionGroup) as caught:
                async with connect_to(port, transport="sse", bearer=Secret("s3cret"))(Listener()) as channel:
                    await begin(channel)
    assert any("of another origin" in str(exc) for exc in leaves(caught.value))
    assert elsewhere.connections == 0


async def test_the_end_of_the_old_transports_stream_ends_the_call_and_the_conversation() -> None:
    toy = OldToy()
    failed: list[EdgeError] = []
    async with toy.server.listening() as port:

        async def talk() -> None:
            async with connect_to(port, transport="sse")(Listener()) as channel:
                await begin(channel)
                try:
                    await channel.request("die", None)
                except Gone as exc:
                    failed.append(exc)
                await trio.sleep_forever()

        with pytest.raises(ExceptionGroup) as caught:
            await talk()
    assert len(failed) == 1
    assert [type(exc) for exc in leaves(caught.value)] == [Ended]


# -- TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_added_ca_is_trusted(
    authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path, is_stream: bool
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    toy = McpToy()

    async def events(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.event(response(got.message["id"], "x" * 50_000))
        await answer.end()

    if is_stream:
        toy.on_call = events
    async with (
        toy.server.listening(tls) as port,
        connect_to(port, scheme="https", ca_file=str(ca_file))(Listener()) as channel,
    ):
        await begin(channel)
        for _ in range(5):
            await call(channel)
    assert toy.server.connections <= 2


async def test_an_unknown_ca_is_refused_and_verification_can_be_switched_off(tls: ssl.SSLContext) -> None:
    toy = McpToy()
    async with toy.server.listening(tls) as port:
        async with connect_to(port, scheme="https")(Listener()) as channel:
            with pytest.raises(Unavailable, match="certificate is not trusted"):
                await channel.request("initialize", INITIALIZE)
        async with connect_to(port, scheme="https", verify=False)(Listener()) as channel:
            await begin(channel)


async def test_tls_with_a_server_that_speaks_none_says_so() -> None:
    async with (
        McpToy().server.listening() as port,
        connect_to(port, scheme="https", connect_timeout_s=1.0)(Listener()) as channel,
    ):
        with pytest.raises(Unavailable, match="TLS handshake with"):
            await channel.request("initialize", INITIALIZE)


async def test_a_ca_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(Ended, match=r"missing\.pem cannot be read"):
        async with connect_to(1, scheme="https", ca_file=str(tmp_path / "missing.pem"))(Listener()):
            pass
