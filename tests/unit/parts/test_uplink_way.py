"""What an attempt is made with: target, headers and token as config and environment have them at that moment."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.config.secrets import Secret, SecretRef
from edge.config.uplinks import UplinkConfig, UplinkTls
from edge.errors import EdgeError
from edge.net.file_reader import FileReader
from edge.parts.http_carrier import HttpCarrier
from edge.parts.link_store import LinkStore
from edge.parts.uplink_way import Way
from edge.parts.ws_carrier import WsCarrier
from edge.proto.dialect import HttpCall, OpenStream, OpenWebSocket, Start
from edge.proto.dialects.mcp_reverse.connector import McpReverseConnector
from tests.support.hanging_files import HangingSecret, hanging_pipe


class WayRig:
    def __init__(
        self, tmp_path: Path | None = None, read: Callable[[str], str] | None = None, **settings: Any
    ) -> None:
        self.env: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self.learned: list[str] = []
        self.store = LinkStore(tmp_path)
        config = UplinkConfig(
            **{"name": "hq", "dialect": "contextforge", "url": "https://hub.example.com", **settings}
        )
        self.way = Way(
            config,
            "box-git",
            "server git behind box",
            env=self.env,
            read_secret=read or self.files.__getitem__,
            learn=self.learned.append,
            files=FileReader(),
            store=self.store,
            new_id=lambda: "0" * 32,
            rng=lambda: 0.5,
        )

    async def first(self) -> OpenWebSocket | OpenStream | HttpCall:
        """What the next attempt begins with."""
        dialect, _ = await self.way()
        command = dialect.handle(Start(), now=trio.current_time())[0]
        assert isinstance(command, OpenWebSocket | OpenStream | HttpCall)
        return command

    async def headers(self) -> Mapping[str, str]:
        return {name.lower(): value for name, value in (await self.first()).headers.items()}


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("wss://hub.example.com", "/v1/reverse-proxy/ws"),
        ("https://hub.example.com/sub/", "/sub/v1/reverse-proxy/ws"),
        ("ws://hub.example.com/a/ws?x=1", "/a/ws?x=1&tenant=t"),
    ],
)
async def test_path_and_query_of_the_url_are_kept(url: str, target: str) -> None:
    query = {"tenant": "t"} if "?" in url else {}
    assert (await WayRig(url=url, query=query).first()).target == target


async def test_the_token_is_read_again_for_each_attempt_and_hidden_from_the_log() -> None:
    rig = WayRig(token=Secret("old"), token_ref=SecretRef("file", "/token"))
    for token in ("one", "two"):
        rig.files["/token"] = f"{token}\n"
        assert (await rig.headers())["authorization"] == f"Bearer {token}"
    assert rig.learned == ["one", "two"]


async def failure(rig: WayRig, clock: MockClock, after_s: float) -> str:
    """Of an attempt whose files hang, while all else goes on."""
    found: list[str] = []

    async def attempt() -> None:
        try:
            await rig.way()
        except EdgeError as exc:
            found.append(str(exc))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt)
        await wait_all_tasks_blocked()
        assert found == []
        clock.jump(after_s)
    return found[0]


async def test_a_token_whose_file_hangs_fails_the_attempt_and_costs_one_thread(mock_clock: MockClock) -> None:
    secret = HangingSecret()
    rig = WayRig(read=secret.read, token_ref=SecretRef("file", "/token"), connect_timeout_s=7)
    try:
        for _ in range(2):
            assert await failure(rig, mock_clock, 7) == "its files could not be read within 7 s"
        await trio.to_thread.run_sync(secret.has_begun.wait)
        assert (secret.n_reads, rig.learned) == (1, [])
    finally:
        secret.is_back.set()


async def test_certificates_that_hang_fail_the_attempt(tmp_path: Path, mock_clock: MockClock) -> None:
    with hanging_pipe(tmp_path / "ca.pem") as path:
        rig = WayRig(tls=UplinkTls(ca_file=path), connect_timeout_s=7)
        assert await failure(rig, mock_clock, 7) == "its files could not be read within 7 s"


async def test_a_token_without_a_place_is_used_as_it_is() -> None:
    assert (await WayRig(token=Secret("plain")).headers())["authorization"] == "Bearer plain"
    assert "authorization" not in await WayRig().headers()


async def test_headers_of_the_config_come_along() -> None:
    headers = await WayRig(headers={"X-Tenant": "t", "User-Agent": "mine"}).headers()
    assert (headers["x-tenant"], headers["user-agent"]) == ("t", "mine")


async def test_a_token_that_cannot_be_used_is_said_without_it() -> None:
    rig = WayRig(token_ref=SecretRef("env", "HQ"))
    with pytest.raises(EdgeError, match="environment variable HQ is not set"):
        await rig.way()
    rig.env["HQ"] = "with blank"
    with pytest.raises(EdgeError) as caught:
        await rig.way()
    assert "blank" not in str(caught.value).replace("blanks", "")


async def test_a_proxy_or_a_certificate_that_cannot_be_used_is_said() -> None:
    rig = WayRig()
    rig.env["HTTPS_PROXY"] = "socks5://user:pw@proxy:1080"
    with pytest.raises(EdgeError, match="proxy") as caught:
        await rig.way()
    assert "pw" not in str(caught.value)
    with pytest.raises(EdgeError, match="/none"):
        await WayRig(tls=UplinkTls(ca_file="/none")).way()


async def test_each_dialect_has_its_carrier() -> None:
    _, carrier = await WayRig().way()
    assert isinstance(carrier, WsCarrier)
    rig = WayRig(dialect="mcp-reverse", url="http://hub.example.com/mcp-reverse")
    assert isinstance((await rig.way())[1], HttpCarrier)
    stream = await rig.first()
    assert isinstance(stream, OpenStream)
    assert stream.target == "/mcp-reverse/sse?server_name=box-git"


async def test_a_polling_link_goes_on_with_the_session_it_remembers(tmp_path: Path) -> None:
    rig = WayRig(tmp_path, dialect="long-poll", url="http://hub.example.com")
    register = await rig.first()
    assert isinstance(register, HttpCall)
    assert register.body is not None
    assert json.loads(register.body)["type"] == "mcp_server"
    rig.way.remember("0123456789abcdef")
    assert (await rig.first()).target == "/poll?session_id=0123456789abcdef"
    rig.way.remember(None)
    assert (await rig.first()).target == "/register"


async def test_what_a_carrier_learned_of_an_sse_gateway_is_given_to_the_next() -> None:
    rig = WayRig(dialect="mcp-reverse")
    first, _ = await rig.way()
    assert isinstance(first, McpReverseConnector)
    first.quirks = replace(first.quirks, forgets_by_age=True)
    second, _ = await rig.way()
    assert isinstance(second, McpReverseConnector)
    assert second is not first
    assert second.quirks.forgets_by_age
