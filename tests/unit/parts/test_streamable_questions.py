"""What a Streamable HTTP server asks: on a call's own stream that very call's client, else the one there is."""

import json
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.parts.questions import Askable, Question, Unanswered
from edge.proto.jsonrpc import Notification, decode
from edge.proto.jsonrpc import Response as Said
from edge.proto.jsontext import Raw
from tests.support.http_server_toys import Answer, Got, note, response
from tests.support.streamable_talk import Talk

CANCELLED = "notifications/cancelled"


class Someone(Askable):
    """A client, for one call."""

    def __init__(self, client: object = None, *, may_be_asked: bool = True) -> None:
        self.unanswered = Unanswered()
        self.asked: list[str] = []
        self.told: list[str] = []
        self.over: list[str] = []
        self._client = client or self
        self._may_be_asked = may_be_asked

    async def __call__(self, note: Notification) -> None:
        self.told.append(note.params.text if note.params is not None else note.method)

    def answered(self, result: Raw) -> None:
        raise AssertionError("only by pipes")

    @property
    def client(self) -> object:
        return self._client

    @property
    def may_be_asked(self) -> bool:
        return self._may_be_asked

    def open(self, question: Question) -> None:
        self.unanswered.add(question)

    async def ask(self, question: Question) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(question.text)

    def dropped(self, question: Question, reason: str) -> None:
        self.over.append(question.id)

    def answer(self, text: str) -> None:
        said = decode(text)
        assert isinstance(said, Said)
        self.unanswered.answered(said)


class Server:
    """Its calls are streams that the test writes to; so is its GET stream."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.calls: list[tuple[int, Answer]] = []
        self.get: Answer | None = None
        talk.toy.on_call, talk.toy.on_get = self._call, self._listen

    async def _call(self, got: Got, answer: Answer) -> None:
        await answer.start_events()
        self.calls.append((got.message["id"], answer))
        await answer.wait_client_gone()

    async def _listen(self, got: Got, answer: Answer) -> None:
        await answer.start_events()
        self.get = answer
        await answer.wait_client_gone()

    async def finish(self, number: int = -1) -> None:
        call, answer = self.calls[number]
        await answer.event(response(call, "done"))

    @property
    def posted(self) -> list[str]:
        """Answers that it got."""
        bodies = [got.body.decode() for got in self.talk.toy.server.requests if got.method == "POST"]
        return [body for body in bodies if "method" not in json.loads(body)]


QUESTION = {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "?"}}


async def talking(nursery: trio.Nursery) -> tuple[Talk, Server]:
    talk = Talk(nursery)
    server = Server(talk)
    await talk.begin()
    nursery.start_soon(talk.channel.listen)
    await wait_all_tasks_blocked()
    return talk, server


def calling(talk: Talk, nursery: trio.Nursery) -> Callable[[Someone], None]:
    def call(someone: Someone) -> None:
        async def run() -> None:
            await talk.call(notify=someone)

        nursery.start_soon(run)

    return call


async def test_on_a_calls_own_stream_it_is_for_that_call_however_many_there_are(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    talk, server = await talking(nursery)
    first, second = Someone(), Someone()
    call = calling(talk, nursery)
    call(first)
    await wait_all_tasks_blocked()
    call(second)
    await wait_all_tasks_blocked()
    await server.calls[0][1].event(QUESTION)
    await wait_all_tasks_blocked()
    assert (len(first.asked), second.asked) == (1, [])
    first.answer('{"jsonrpc":"2.0","id":"ask-1","result":{"n": 1.0}}')
    await wait_all_tasks_blocked()
    assert server.posted == ['{"jsonrpc":"2.0","id":"q","result":{"n": 1.0}}']
    await server.finish(0)
    await server.finish(1)
    await wait_all_tasks_blocked()
    assert (first.over, second.over) == ([], [])


async def test_on_the_get_stream_it_is_for_the_one_client(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    talk, server = await talking(nursery)
    someone = Someone()
    call = calling(talk, nursery)
    call(someone)
    await wait_all_tasks_blocked()
    assert server.get is not None
    await server.get.event(QUESTION)
    await wait_all_tasks_blocked()
    assert len(someone.asked) == 1
    someone.answer('{"jsonrpc":"2.0","id":"ask-1","error":{"code":-1,"message":"no"}}')
    await wait_all_tasks_blocked()
    assert server.posted == ['{"jsonrpc":"2.0","id":"q","error":{"code":-1,"message":"no"}}']
    call(Someone())
    await wait_all_tasks_blocked()
    await server.get.event(QUESTION)
    await wait_all_tasks_blocked()
    assert "several clients" in json.loads(server.posted[-1])["error"]["message"]
    await server.finish(0)
    await server.finish(1)


async def test_it_goes_on_with_another_call_of_the_client_unless_it_came_on_the_calls_own_stream(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    talk, server = await talking(nursery)
    one = Someone()
    other = Someone(one)
    call = calling(talk, nursery)
    call(other)
    await wait_all_tasks_blocked()
    call(one)
    await wait_all_tasks_blocked()
    assert server.get is not None
    await server.get.event(QUESTION)
    await server.calls[1][1].event({**QUESTION, "id": "own"})
    await wait_all_tasks_blocked()
    await server.finish(1)
    await wait_all_tasks_blocked()
    assert one.over == ['"ask-2"']
    assert [json.loads(text)["id"] for text in server.posted] == ["own"]
    one.answer('{"jsonrpc":"2.0","id":"ask-1","result":{}}')
    await wait_all_tasks_blocked()
    assert [json.loads(text)["id"] for text in server.posted] == ["own", "q"]
    await server.finish(0)


@pytest.mark.parametrize("is_own_stream", [True, False])
async def test_what_it_takes_back_is_told(
    is_own_stream: bool, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    talk, server = await talking(nursery)
    someone = Someone()
    calling(talk, nursery)(someone)
    await wait_all_tasks_blocked()
    stream = server.calls[0][1] if is_own_stream else server.get
    assert stream is not None
    await stream.event(QUESTION)
    await stream.event(note(CANCELLED, requestId="q"))
    await stream.event(note(CANCELLED, requestId="another"))
    await wait_all_tasks_blocked()
    assert [json.loads(text) for text in someone.told] == [{"requestId": "ask-1"}]
    assert [heard.method for heard in talk.inbound.heard] == [CANCELLED]
    await server.finish()
    await wait_all_tasks_blocked()
    assert (server.posted, someone.over) == ([], [])


async def test_a_call_that_is_cancelled_says_so_first_and_then_refuses_its_questions(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    talk, server = await talking(nursery)
    someone = Someone()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as calls:
            calling(talk, calls)(someone)
            await wait_all_tasks_blocked()
            await server.calls[0][1].event(QUESTION)
            await wait_all_tasks_blocked()
            scope.cancel()
    last = [got.message for got in talk.toy.server.requests[-2:]]
    assert last[0]["method"] == CANCELLED
    assert (last[1]["id"], last[1]["error"]["code"]) == ("q", -32603)
    assert someone.over == ['"ask-1"']


async def test_what_a_list_is_answered_with_asks_nobody(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    talk, server = await talking(nursery)

    async def list_tools() -> None:
        await talk.channel.request("tools/list", None)

    nursery.start_soon(list_tools)
    await wait_all_tasks_blocked()
    await server.calls[0][1].event(QUESTION)
    await wait_all_tasks_blocked()
    assert json.loads(server.posted[0])["error"]["code"] == -32601
    await server.finish()
