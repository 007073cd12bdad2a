"""`POST /-/reload`: who may ask, what is understood, and what is answered."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from edge.config.secrets import Secret
from edge.errors import EdgeError
from edge.net.http_server import HttpLimits, serve_connection
from edge.parts.reload_face import ControlFace, ReloadDesk
from edge.supervise.reload import TooManyReloads

TOKEN = "the-token"
BEARER = f"Bearer {TOKEN}"


class Desk:
    """A control face over memory streams; `asked` is what it was asked for."""

    def __init__(self, token: str | None = TOKEN, peer: str = "127.0.0.1:1") -> None:
        self.asked: list[tuple[bool, float]] = []
        self.failure: EdgeError | None = None
        self.desk = ReloadDesk(self._reload, None if token is None else Secret(token))
        self._peer = peer

    async def _reload(self, plan: bool, confirm_s: float) -> tuple[int, Mapping[str, Any]]:
        if self.failure is not None:
            raise self.failure
        self.asked.append((plan, confirm_s))
        return 409, {"result": "rolled back", "problems": []}

    async def ask(
        self, target: str = "/-/reload", method: str = "POST", token: str | None = BEARER
    ) -> tuple[int, str]:
        ours, theirs = memory_stream_pair()
        fields = "Host: x\r\nConnection: close\r\nContent-Length: 0\r\n"
        fields += f"Authorization: {token}\r\n" if token is not None else ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, theirs)
            await ours.send_all(f"{method} {target} HTTP/1.1\r\n{fields}\r\n".encode())
            answer = b""
            while chunk := await ours.receive_some():
                answer += chunk
            await ours.aclose()
        head, _, body = answer.decode().partition("\r\n\r\n")
        assert "no-store" in head
        return int(head.split()[1]), body

    async def _serve(self, stream: trio.abc.Stream) -> None:
        await serve_connection(
            stream, ControlFace(self.desk), HttpLimits(max_body_bytes=1000), peer=self._peer
        )


async def test_the_verdict_and_its_status_are_passed_on() -> None:
    desk = Desk()
    status, body = await desk.ask()
    assert (status, json.loads(body)) == (409, {"result": "rolled back", "problems": []})
    assert desk.asked == [(False, 0.0)]


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("plan", (True, 0.0)),
        ("plan=1", (True, 0.0)),
        ("plan=true", (True, 0.0)),
        ("plan=0", (False, 0.0)),
        ("confirm_s=30", (False, 30.0)),
        ("confirm_s=0.5&plan", (True, 0.5)),
        ("confirm_s=3600", (False, 3600.0)),
    ],
)
async def test_options_are_understood(query: str, options: tuple[bool, float]) -> None:
    desk = Desk()
    await desk.ask(f"/-/reload?{query}")
    assert desk.asked == [options]


@pytest.mark.parametrize(
    "query",
    [
        "confirm_s=x",
        "confirm_s=-1",
        "confirm_s=nan",
        "confirm_s=inf",
        "confirm_s=3601",
        "pl=1",
        "&".join("a=1" for _ in range(9)),
    ],
)
async def test_options_that_are_not_understood_are_refused_and_nothing_is_reloaded(query: str) -> None:
    desk = Desk()
    status, body = await desk.ask(f"/-/reload?{query}")
    assert (status, json.loads(body)["result"], desk.asked) == (400, "refused", [])


@pytest.mark.parametrize(
    "token", [None, "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ümlaut"]
)
async def test_without_the_token_nobody_reloads_over_tcp(token: str | None) -> None:
    desk = Desk()
    assert (await desk.ask(token=token))[0] in (400, 401)
    assert desk.asked == []


async def test_with_no_token_in_the_config_nobody_has_it() -> None:
    desk = Desk(token=None)
    status, body = await desk.ask(token="Bearer ")
    assert status == 403
    assert "admin.reload_token_file" in body
    assert desk.asked == []


async def test_over_a_unix_socket_no_token_is_asked_for() -> None:
    desk = Desk(token=None, peer="unix")
    assert (await desk.ask(token=None))[0] == 409
    assert desk.asked == [(False, 0.0)]


async def test_another_token_holds_from_the_next_request_on() -> None:
    desk = Desk()
    desk.desk.token = Secret("another")
    assert (await desk.ask())[0] == 401
    assert (await desk.ask(token="Bearer another"))[0] == 409


@pytest.mark.parametrize(
    ("target", "method", "status"), [("/-/reload", "GET", 405), ("/metrics", "GET", 404)]
)
async def test_there_is_nothing_else(target: str, method: str, status: int) -> None:
    desk = Desk(peer="unix")
    assert (await desk.ask(target, method))[0] == status
    assert desk.asked == []


async def test_what_cannot_even_be_tried_is_told_as_unavailable() -> None:
    desk = Desk()
    desk.failure = TooManyReloads()
    status, body = await desk.ask()
    assert status == 503
    assert json.loads(body)["problems"][0]["text"].startswith("too many reloads")
