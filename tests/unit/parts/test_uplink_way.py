"""What an attempt is made with: target, headers and token as config and environment have them at that moment."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from edge.config.secrets import Secret, SecretRef
from edge.config.uplinks import UplinkConfig, UplinkTls
from edge.errors import EdgeError
from edge.parts.http_carrier import HttpCarrier
from edge.parts.link_store import LinkStore
from edge.parts.uplink_way import Way
from edge.parts.ws_carrier import WsCarrier
from edge.proto.dialect import HttpCall, OpenStream, OpenWebSocket, Start
from edge.proto.dialects.mcp_reverse.connector import McpReverseConnector


class WayRig:
    def __init__(self, tmp_path: Path | None = None, **settings: Any) -> None:
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
            read_secret=self.files.__getitem__,
            learn=self.learned.append,
            store=self.store,
            new_id=lambda: "0" * 32,
            rng=lambda: 0.5,
        )

    async def first(self) -> OpenWebSocket | OpenStream | HttpCall:
        """What the next attempt begins with."""
        dialect, _ = self.way()
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


async def test_a_token_without_a_place_is_used_as_it_is() -> None:
    assert (await WayRig(token=Secret("plain")).headers())["authorization"] == "Bearer plain"
    assert "authorization" not in await WayRig().headers()


async def test_headers_of_the_config_come_along() -> None:
    headers = await WayRig(headers={"X-Tenant": "t", "User-Agent": "mine"}).headers()
    assert (headers["x-tenant"], headers["user-agent"]) == ("t", "mine")


async def test_a_token_that_cannot_be_used_is_said_without_it() -> None:
    rig = WayRig(token_ref=SecretRef("env", "HQ"))
    with pytest.raises(EdgeError, match="environment variable HQ is not set"):
        rig.way()
    rig.env["HQ"] = "with blank"
    with pytest.raises(EdgeError) as caught:
        rig.way()
    assert "blank" not in str(caught.value).replace("blanks", "")


async def test_a_proxy_or_a_certificate_that_cannot_be_used_is_said() -> None:
    rig = WayRig()
    rig.env["HTTPS_PROXY"] = "socks5://user:pw@proxy:1080"
    with pytest.raises(EdgeError, match="proxy") as caught:
        rig.way()
    assert "pw" not in str(caught.value)
    with pytest.raises(EdgeError, match="/none"):
        WayRig(tls=UplinkTls(ca_file="/none")).way()


async def test_each_dialect_has_its_carrier() -> None:
    _, carrier = WayRig().way()
    assert isinstance(carrier, WsCarrier)
    rig = WayRig(dialect="mcp-reverse", url="http://hub.example.com/mcp-reverse")
    assert isinstance(rig.way()[1], HttpCarrier)
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
    first, _ = rig.way()
    assert isinstance(first, McpReverseConnector)
    first.quirks = replace(first.quirks, forgets_by_age=True)
    second, _ = rig.way()
    assert isinstance(second, McpReverseConnector)
    assert second is not first
    assert second.quirks.forgets_by_age
