"""The webhook that says whose token it is: its answers, its silence, and how much is asked at once."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.config.hub import HubConfig, HubWebhook
from edge.config.secrets import Secret
from edge.gate.edge_auth import Denied, Edge, TokenAuth
from edge.parts.edge_webhook import AT_ONCE, MAX_WAITING, EdgeWebhook
from tests.support.hanging_files import hanging_pipe

Answer = Callable[[httpx.Request], httpx.Response]


class Service(httpx.AsyncBaseTransport):
    """Answers as told; `open` is how many questions it is working on, `most` the highest that was."""

    def __init__(self, answer: Answer, takes_s: float = 0) -> None:
        self.answer = answer
        self.takes_s = takes_s
        self.asked: list[httpx.Request] = []
        self.open = self.most = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked.append(request)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await trio.sleep(self.takes_s)
        finally:
            self.open -= 1
        return self.answer(request)


def webhook(service: Service) -> EdgeWebhook:
    config = HubWebhook(url="http://127.0.0.1:1/who?key=k", bearer=Secret("our-own"), timeout_s=5)
    auth = TokenAuth(HubConfig(listen=("127.0.0.1:0",), webhook=config))
    return EdgeWebhook(config, auth, transport=lambda: service)


def says(status: int, value: Any = None) -> Answer:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda request: httpx.Response(status, content=body)


async def judge(service: Service) -> Edge | Denied:
    asker = webhook(service)
    try:
        return await asker.judge("t0ken", "plant-7", "contextforge", "10.0.0.1:5")
    finally:
        await asker.aclose()


async def test_a_yes_names_the_edge(autojump_clock: MockClock) -> None:
    service = Service(says(200, {"edge": "plant-7", "more": 1}))
    verdict = await judge(service)
    assert isinstance(verdict, Edge)
    assert verdict.name == "plant-7"
    assert verdict.may_speak("long-poll")
    (asked,) = service.asked
    assert asked.method == "POST"
    assert asked.headers["authorization"] == "Bearer our-own"
    assert json.loads(asked.content) == {
        "token": "t0ken",
        "name": "plant-7",
        "dialect": "contextforge",
        "peer": "10.0.0.1:5",
    }


async def test_a_yes_may_be_for_some_dialects(autojump_clock: MockClock) -> None:
    verdict = await judge(Service(says(200, {"edge": "plant-7", "dialects": ["long-poll", "other"]})))
    assert verdict == Edge("plant-7", frozenset({"long-poll"}))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says(401), "webhook_refused"),
        (says(403, {"edge": "plant-7"}), "webhook_refused"),
        (says(200, {"edge": "no name"}), "wrong_name"),
        (says(200, {"edge": 7}), "webhook_failed"),
        (says(200, {"edge": "plant-7", "dialects": "all"}), "webhook_failed"),
        (says(200, ["plant-7"]), "webhook_failed"),
        (says(200, b"{"), "webhook_failed"),
        (says(200, b"x" * 70_000), "webhook_failed"),
        (says(500, {"edge": "plant-7"}), "webhook_failed"),
        (says(302), "webhook_failed"),
    ],
)
async def test_anything_else_is_no_yes(answer: Answer, reason: str, autojump_clock: MockClock) -> None:
    verdict = await judge(Service(answer))
    assert isinstance(verdict, Denied)
    assert verdict.reason == reason


async def test_a_service_that_cannot_be_reached_is_said_once_and_without_secrets(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    asker = webhook(Service(refuse))
    caplog.set_level(logging.INFO)
    for _ in range(3):
        verdict = await asker.judge("t0ken", None, "long-poll", "10.0.0.1:5")
        assert isinstance(verdict, Denied)
        assert verdict.status == 503
    await asker.aclose()
    (line,) = [record for record in caplog.records if record.message == "webhook failed"]
    assert line.__dict__["url"] == "http://127.0.0.1:1/who"
    assert "t0ken" not in caplog.text


async def test_a_service_that_does_not_answer_is_not_waited_for(autojump_clock: MockClock) -> None:
    verdict = await judge(Service(says(200, {"edge": "plant-7"}), takes_s=100))
    assert isinstance(verdict, Denied)
    assert verdict.reason == "webhook_failed"
    assert trio.current_time() < 6


async def test_a_flood_of_tokens_does_not_flood_the_service(autojump_clock: MockClock) -> None:
    service = Service(says(401), takes_s=1)
    asker = webhook(service)
    verdicts: list[str] = []

    async def one() -> None:
        verdict = await asker.judge("x", None, "long-poll", "10.0.0.1:5")
        assert isinstance(verdict, Denied)
        verdicts.append(verdict.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE + MAX_WAITING + 10):
            nursery.start_soon(one)
    await asker.aclose()
    assert service.most == AT_ONCE
    assert verdicts.count("webhook_failed") == 10
    assert verdicts.count("webhook_refused") == AT_ONCE + MAX_WAITING


async def test_what_waits_in_line_of_one_that_is_out_of_force_is_asked_no_more(
    autojump_clock: MockClock,
) -> None:
    service = Service(says(401), takes_s=1)
    asker = webhook(service)
    verdicts: list[str] = []

    async def one() -> None:
        verdict = await asker.judge("x", None, "long-poll", "10.0.0.1:5")
        assert isinstance(verdict, Denied)
        verdicts.append(verdict.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(3 * AT_ONCE):
            nursery.start_soon(one)
        await wait_all_tasks_blocked()
        asker.retire()
    assert trio.current_time() == 1
    await asker.aclose()
    assert len(service.asked) == AT_ONCE
    assert verdicts.count("webhook_failed") == 2 * AT_ONCE


async def test_a_name_that_utf8_cannot_hold_is_asked_about_all_the_same(autojump_clock: MockClock) -> None:
    service = Service(says(401))
    asker = webhook(service)
    verdict = await asker.judge("t0ken", "\ud800", "long-poll", "10.0.0.1:5")
    await asker.aclose()
    assert isinstance(verdict, Denied)
    assert verdict.reason == "webhook_refused"
    (request,) = service.asked
    assert json.loads(request.content)["name"] == "\ud800"
    assert request.headers["content-type"] == "application/json"


async def test_certificates_that_cannot_be_read_are_a_failure_of_the_webhook(tmp_path: Path) -> None:
    config = HubWebhook(url="https://127.0.0.1:1/who", ca_file=str(tmp_path / "gone.pem"))
    asker = EdgeWebhook(config, TokenAuth(HubConfig(listen=("127.0.0.1:0",), webhook=config)))
    verdict = await asker.judge("t0ken", None, "long-poll", "10.0.0.1:5")
    assert isinstance(verdict, Denied)
    assert verdict.reason == "webhook_failed"


async def test_certificates_that_hang_are_a_failure_of_the_webhook_and_hold_up_nothing(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    with hanging_pipe(tmp_path / "ca.pem") as path:
        config = HubWebhook(url="https://127.0.0.1:1/who", ca_file=path, timeout_s=5)
        asker = EdgeWebhook(config, TokenAuth(HubConfig(listen=("127.0.0.1:0",), webhook=config)))
        verdicts: list[Edge | Denied] = []

        async def ask() -> None:
            verdicts.append(await asker.judge("t0ken", None, "long-poll", "10.0.0.1:5"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            assert verdicts == []
            mock_clock.jump(5)
        (verdict,) = verdicts
        assert isinstance(verdict, Denied)
        assert verdict.reason == "webhook_failed"
