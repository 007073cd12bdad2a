"""The channel over a pipe of messages: answers, notes, cancellation, loss, and the bounded outbox."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.errors import BadMessage, Gone, RpcError, Unavailable
from edge.metrics_servers import ServerMetrics
from edge.parts.channel import Notify
from edge.parts.peer_channel import Outbox, PeerChannel
from edge.parts.questions import MAX_NOTE_CHARS, MAX_NOTES
from edge.proto.jsonrpc import Notification, Request, decode


class Ears:
    """An `Inbound` that remembers; it answers `ping` and refuses the rest."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.doubts = 0

    def told(self, notification: Notification) -> None:
        self.heard.append(notification.method)

    def waiting(self, reason: str) -> None:
        raise AssertionError("only links wait")

    def doubted(self) -> None:
        self.doubts += 1

    def asked(self, request: Request) -> str:
        if request.method == "ping":
            return "{}"
        raise RpcError(-32601, "not here", '"why"')


class Pipe:
    """A channel, and the other end in the test's hands."""

    def __init__(self, limit_bytes: int = 1000) -> None:
        self.ears = Ears()
        self.outbox = Outbox(limit_bytes)
        self.metrics = ServerMetrics()
        self.channel = PeerChannel("git", self.outbox, self.ears, self.metrics)

    async def sent(self) -> list[str]:
        return [line.decode() for line in await self.outbox.take()]

    def receive(self, *lines: str) -> None:
        for line in lines:
            self.channel.receive(decode(line))


class Caller:
    """One request in a task of its own, and how it ended."""

    def __init__(self) -> None:
        self.result: str | None = None
        self.error: Exception | None = None
        self.notes: list[str] = []
        self.scope = trio.CancelScope()

    async def note(self, notification: Notification) -> None:
        self.notes.append(notification.params.text if notification.params else "")

    async def ask(
        self,
        pipe: Pipe,
        method: str = "tools/call",
        params: str | None = "{}",
        *,
        notify: Notify | None = None,
        progress: bool = False,
    ) -> None:
        with self.scope:
            try:
                raw = await pipe.channel.request(method, params, notify=notify, progress=progress)
                self.result = raw.text
            except (RpcError, Gone, Unavailable) as exc:
                self.error = exc


async def test_an_answer_goes_to_its_caller_letter_for_letter() -> None:
    pipe, one, two = Pipe(), Caller(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.ask, pipe)
        await wait_all_tasks_blocked()
        nursery.start_soon(two.ask, pipe, "prompts/get", '{"name":1.0}')
        await wait_all_tasks_blocked()
        assert await pipe.sent() == [
            '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}',
            '{"jsonrpc":"2.0","id":2,"method":"prompts/get","params":{"name":1.0}}',
        ]
        pipe.receive('{"jsonrpc":"2.0","id":2,"result":{"n":1e400, "a":1.0}}')
        pipe.receive('{"jsonrpc":"2.0","id":1,"error":{"code":-5,"message":"no","data":{"x":1.0}}}')
    assert two.result == '{"n":1e400, "a":1.0}'
    assert isinstance(one.error, RpcError)
    assert (one.error.code, one.error.message, one.error.data) == (-5, "no", '{"x":1.0}')


async def test_a_message_is_one_line_whatever_its_white_space() -> None:
    pipe, caller = Pipe(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.ask, pipe, "tools/call", '{\n "a":\r\n 1}')
        await pipe.channel.notify("notifications/x", "{\n}")
        await wait_all_tasks_blocked()
        assert all("\n" not in line and "\r" not in line for line in await pipe.sent())
        caller.scope.cancel()


async def test_progress_reaches_the_caller_before_its_answer() -> None:
    pipe, caller = Pipe(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: caller.ask(pipe, notify=caller.note, progress=True))
        await wait_all_tasks_blocked()
        assert await pipe.sent() == [
            '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":"p1"}}}'
        ]
        pipe.receive(
            '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p1","progress":1.0}}',
            '{"jsonrpc":"2.0","id":1,"result":{}}',
        )
    assert caller.notes == ['{"progressToken":"p1","progress":1.0}']
    assert caller.result == "{}"


async def test_progress_is_asked_for_only_if_somebody_listens() -> None:
    pipe, caller = Pipe(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: caller.ask(pipe, progress=True))
        await wait_all_tasks_blocked()
        assert await pipe.sent() == ['{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}']
        caller.scope.cancel()


async def test_a_slow_taker_loses_the_oldest_notes_and_holds_up_nobody() -> None:
    pipe, caller, other = Pipe(), Caller(), Caller()
    gate = trio.Event()

    async def slow(notification: Notification) -> None:
        await gate.wait()
        await caller.note(notification)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: caller.ask(pipe, notify=slow, progress=True))
        await wait_all_tasks_blocked()
        nursery.start_soon(other.ask, pipe)
        await wait_all_tasks_blocked()
        for step in range(MAX_NOTES + 10):
            params = f'{{"progressToken":"p1","progress":{step}}}'
            pipe.receive(f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}')
            if step == 0:
                await wait_all_tasks_blocked()  # the first one is being delivered
        pipe.receive('{"jsonrpc":"2.0","id":2,"result":{}}')
        await wait_all_tasks_blocked()
        assert other.result == "{}"
        gate.set()
        pipe.receive('{"jsonrpc":"2.0","id":1,"result":{}}')
    assert pipe.metrics.notes_dropped == 9
    assert len(caller.notes) == MAX_NOTES + 1
    assert caller.notes[-1] == f'{{"progressToken":"p1","progress":{MAX_NOTES + 9}}}'


async def test_what_a_slow_caller_is_told_is_bounded_in_letters_too() -> None:
    pipe, caller = Pipe(), Caller()
    gate = trio.Event()

    async def slow(notification: Notification) -> None:
        await gate.wait()
        await caller.note(notification)

    long = "x" * (MAX_NOTE_CHARS // 4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: caller.ask(pipe, notify=slow, progress=True))
        await wait_all_tasks_blocked()
        for step in range(10):
            params = f'{{"progressToken":"p1","progress":{step},"message":"{long}"}}'
            pipe.receive(f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}')
            if step == 0:
                await wait_all_tasks_blocked()  # the first one is being delivered
        gate.set()
        pipe.receive('{"jsonrpc":"2.0","id":1,"result":{}}')
    assert [f'"progress":{step},' in note for step, note in zip((0, 7, 8, 9), caller.notes, strict=True)] == [
        True
    ] * 4
    assert pipe.metrics.notes_dropped == 6


LOG = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'


async def test_a_log_message_goes_to_the_only_call_there_is() -> None:
    pipe, caller, deaf = Pipe(), Caller(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: caller.ask(pipe, notify=caller.note))
        nursery.start_soon(deaf.ask, pipe)
        await wait_all_tasks_blocked()
        pipe.receive(LOG)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (len(caller.notes), pipe.ears.heard) == (1, [])


@pytest.mark.parametrize("callers", [0, 2])
async def test_a_log_message_that_could_be_anybodys_goes_inbound(callers: int) -> None:
    pipe, all_of_them = Pipe(), [Caller() for _ in range(callers)]
    async with trio.open_nursery() as nursery:
        for caller in all_of_them:
            nursery.start_soon(partial(caller.ask, pipe, notify=caller.note))
        await wait_all_tasks_blocked()
        pipe.receive(LOG)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert pipe.ears.heard == ["notifications/message"]
    assert [caller.notes for caller in all_of_them] == [[]] * callers


async def test_other_notifications_go_inbound_even_during_a_call() -> None:
    pipe, caller = Pipe(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: caller.ask(pipe, notify=caller.note))
        await wait_all_tasks_blocked()
        pipe.receive('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        nursery.cancel_scope.cancel()
    assert pipe.ears.heard == ["notifications/tools/list_changed"]


async def test_cancelling_a_caller_tells_the_server_and_a_late_answer_is_nobodys() -> None:
    pipe, caller = Pipe(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.ask, pipe)
        await wait_all_tasks_blocked()
        caller.scope.cancel()
    lines = await pipe.sent()
    assert lines[1].startswith('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,')
    pipe.receive('{"jsonrpc":"2.0","id":1,"result":{}}')
    assert (caller.result, pipe.outbox.put_count) == (None, 2)


async def test_initialize_is_not_cancelled_on_the_wire() -> None:
    pipe, caller = Pipe(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.ask, pipe, "initialize")
        await wait_all_tasks_blocked()
        caller.scope.cancel()
    assert len(await pipe.sent()) == 1


async def test_a_notify_that_fails_ends_its_call_and_tells_the_server() -> None:
    pipe = Pipe()

    async def broken(notification: Notification) -> None:
        raise ZeroDivisionError

    async def call() -> None:
        with pytest.raises(ZeroDivisionError):
            await pipe.channel.request("tools/call", None, notify=broken, progress=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        pipe.receive(
            '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p1","progress":1}}'
        )
    assert "notifications/cancelled" in (await pipe.sent())[1]


async def test_when_the_pipe_is_gone_what_was_written_is_gone_and_the_rest_was_never_sent() -> None:
    pipe, written, unwritten, late = Pipe(), Caller(), Caller(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(written.ask, pipe)
        await wait_all_tasks_blocked()
        await pipe.sent()
        nursery.start_soon(unwritten.ask, pipe)
        await wait_all_tasks_blocked()
        pipe.channel.lost("killed by SIGKILL")
        pipe.channel.lost("stopped")
        await late.ask(pipe)
        with pytest.raises(Unavailable):
            await pipe.channel.notify("notifications/x", None)
    assert isinstance(written.error, Gone)
    assert isinstance(unwritten.error, Unavailable)
    assert isinstance(late.error, Unavailable)
    assert str(written.error) == str(unwritten.error) == str(late.error) == "server git: killed by SIGKILL"


async def test_the_server_is_answered() -> None:
    pipe = Pipe()
    pipe.receive(
        '{"jsonrpc":"2.0","id":"a","method":"ping"}', '{"jsonrpc":"2.0","id":1.0,"method":"tasks/list"}'
    )
    assert await pipe.sent() == [
        '{"jsonrpc":"2.0","id":"a","result":{}}',
        '{"jsonrpc":"2.0","id":1.0,"error":{"code":-32601,"message":"not here","data":"why"}}',
    ]


async def test_answers_to_a_server_that_does_not_read_them_are_bounded() -> None:
    pipe = Pipe(limit_bytes=100)
    for _ in range(1000):
        pipe.receive('{"jsonrpc":"2.0","id":1,"method":"ping"}')
    assert len(await pipe.sent()) < 10


async def test_with_the_outbox_full_callers_wait_for_room(autojump_clock: MockClock) -> None:
    pipe, callers = Pipe(limit_bytes=100), [Caller() for _ in range(4)]
    async with trio.open_nursery() as nursery:
        for caller in callers:
            nursery.start_soon(caller.ask, pipe)
        await wait_all_tasks_blocked()
        assert len(await pipe.sent()) == 2
        await wait_all_tasks_blocked()
        assert len(await pipe.sent()) == 2
        nursery.cancel_scope.cancel()


async def test_those_who_wait_for_room_hear_of_the_end() -> None:
    pipe, callers = Pipe(limit_bytes=10), [Caller(), Caller()]
    async with trio.open_nursery() as nursery:
        for caller in callers:
            nursery.start_soon(caller.ask, pipe)
        await wait_all_tasks_blocked()
        pipe.channel.lost("exited with status 0")
    assert [type(caller.error) for caller in callers] == [Unavailable, Unavailable]


async def test_a_cancellation_goes_out_even_if_the_outbox_is_full() -> None:
    pipe, caller = Pipe(limit_bytes=10), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.ask, pipe)
        await wait_all_tasks_blocked()
        caller.scope.cancel()
    assert len(await pipe.sent()) == 2


async def test_stray_messages_change_nothing() -> None:
    pipe = Pipe()
    pipe.receive(
        '{"jsonrpc":"2.0","id":99,"result":{}}',
        '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p9","progress":1}}',
    )
    assert (pipe.ears.heard, pipe.outbox.put_count) == ([], 0)


@pytest.mark.parametrize(
    "line",
    [
        '{"jsonrpc":"2.0","id":1,"method":"roots/list","params":[]}',  # a request of the server's own
        '{"level":"info","id":1,"text":"starting"}',  # a log line
    ],
)
async def test_what_only_shares_its_id_with_a_call_is_not_its_answer(line: str) -> None:
    pipe, caller = Pipe(), Caller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.ask, pipe)
        await pipe.sent()
        with pytest.raises(BadMessage) as caught:
            decode(line)
        pipe.channel.garbled(line.encode(), caught.value)
        pipe.receive('{"jsonrpc":"2.0","id":1,"result":"good"}')
    assert caller.result == '"good"'


async def test_an_answer_that_is_not_valid_fails_its_call() -> None:
    pipe, caller = Pipe(), Caller()
    line = '{"jsonrpc":"2.0","id":1,"error":"no"}'
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.ask, pipe)
        await pipe.sent()
        with pytest.raises(BadMessage) as caught:
            decode(line)
        pipe.channel.garbled(line, caught.value)
    assert isinstance(caller.error, RpcError)
    assert "not valid" in caller.error.message


class Shortcut:
    """Takes messages of up to ten bytes at once."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def __call__(self, line: bytes) -> bool:
        if len(line) > 10:
            return False
        self.taken.append(line)
        return True


async def test_a_message_that_is_alone_is_written_at_once_while_the_writer_sleeps() -> None:
    outbox, shortcut, batches = Outbox(), Shortcut(), list[list[bytes]]()
    outbox.try_write = shortcut
    assert (outbox.put(b"early", alone=True), shortcut.taken) == (1, [])

    async def write() -> None:
        while True:
            batches.append(await outbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        assert (outbox.put(b"alone", alone=True), outbox.taken_count) == (2, 2)
        outbox.put(b"long and alone", alone=True)
        outbox.put(b"second", alone=True)  # the writer is about to write: what comes later must not overtake
        outbox.put(b"third")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert shortcut.taken == [b"alone"]
    assert batches == [[b"early"], [b"long and alone", b"second", b"third"]]
    assert outbox.put(b"late", alone=True) == 6
    assert (shortcut.taken, outbox.taken_count) == ([b"alone"], 5)


async def test_with_other_calls_open_messages_go_in_batches() -> None:
    pipe, shortcut = Pipe(), Shortcut()
    pipe.outbox.try_write = shortcut
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(pipe.channel.request, "a", None)
        lines = await pipe.sent()
        await wait_all_tasks_blocked()
        assert len(lines) == 2
        nursery.cancel_scope.cancel()
    assert shortcut.taken == []
