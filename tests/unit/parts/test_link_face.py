"""What comes over a link is served as from any client: one session, cancellation, limits, news."""

import json

import pytest
import trio
import trio.testing

from edge.parts.channel import PromptCaller
from edge.proto.jsontext import parse
from tests.support.gateway_rig import Asked, ToolServer, gateway, hang
from tests.support.link_rig import FarEnd, linked
from tests.support.memory_channel import tools


async def test_a_call_over_a_link_is_answered_by_its_server(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as rig, linked(rig) as far:
        await far.initialize()
        far.ask(1, "tools/call", name="a__echo", arguments={"x": 1})
        answer = await far.read()
        assert answer["id"] == 1
        assert answer["result"]["got"] == {"name": "echo", "arguments": {"x": 1}}


async def test_the_view_of_one_server_has_its_own_names(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as rig, linked(rig, "a") as far:
        far.ask(1, "tools/list")
        assert [tool["name"] for tool in (await far.read())["result"]["tools"]] == ["echo"]
        far.call("x")
        assert (await far.read())["id"] == "x"


async def test_an_id_keeps_its_letters(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as rig, linked(rig, "a") as far:
        far.send('{"jsonrpc":"2.0","id":7.0,"method":"ping"}')
        (line,) = await far.link.outbox.take()
        assert line == b'{"jsonrpc":"2.0","id":7.0,"result":{}}'


async def test_initialize_makes_a_session_that_the_end_of_the_link_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway() as rig:
        async with linked(rig) as far:
            answer = await far.initialize("2025-06-18")
            assert answer["result"]["protocolVersion"] == "2025-06-18"
            assert len(rig.sessions) == 1
        assert len(rig.sessions) == 0


async def test_the_session_of_a_quiet_link_does_not_expire(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway(session_idle_s=60) as rig, linked(rig) as far:
        await far.initialize()
        await trio.sleep(600)
        assert len(rig.sessions) == 1
        far.ask(1, "logging/setLevel", level="error")
        assert (await far.read())["result"] == {}


async def test_without_a_session_what_needs_one_is_refused_and_the_rest_is_served(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway() as rig, linked(rig) as far:
        far.ask(1, "logging/setLevel", level="info")
        assert (await far.read())["error"]["code"] == -32600
        far.ask(2, "ping")
        assert (await far.read())["result"] == {}


async def test_a_second_initialize_replaces_the_session_and_lets_calls_go_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(asked: Asked) -> str:
        await trio.sleep(5)
        return '{"content":[]}'

    async with gateway(ToolServer(slow=slow)) as rig, linked(rig, "a") as far:
        await far.initialize()
        far.call(1, "slow")
        await trio.sleep(1)
        assert "result" in await far.initialize()
        assert len(rig.sessions) == 1
        assert (await far.read())["id"] == 1


async def test_a_cancelled_call_is_not_answered_and_its_server_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = ToolServer(hang=hang)
    async with gateway(server) as rig, linked(rig, "a") as far:
        await far.initialize()
        far.call("7", "hang")
        far.call(7, "hang")
        await trio.testing.wait_all_tasks_blocked()
        far.tell("notifications/cancelled", requestId=7)
        assert await far.quiet() == []
        assert server.cancelled == ["tools/call"]
        assert far.face.inflight == 1
        far.tell("notifications/cancelled", requestId="7")
        far.tell("notifications/cancelled", requestId="unknown")
        assert await far.quiet() == []
        assert server.cancelled == ["tools/call"] * 2


async def test_initialize_cannot_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as rig, linked(rig) as far:
        far.ask(1, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "x"})
        far.tell("notifications/cancelled", requestId=1)
        assert "result" in await far.read()


async def test_a_link_that_is_lost_cancels_its_calls_at_their_servers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = ToolServer(hang=hang)
    async with gateway(server) as rig:
        async with linked(rig, "a") as far:
            await far.initialize()
            far.call(1, "hang")
            far.call(2, "hang")
            await trio.testing.wait_all_tasks_blocked()
        assert server.cancelled == ["tools/call"] * 2
        assert far.face.inflight == 0
        assert rig.sessions.count_waiting() == 0


async def test_calls_over_the_limit_are_refused_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway(ToolServer(hang=hang)) as rig, linked(rig, "a", max_calls=2) as far:
        for request_id in (1, 2, 3):
            far.call(request_id, "hang")
        answer = await far.read()
        assert answer["id"] == 3
        assert answer["error"]["data"] == {"reason": "busy"}


async def test_an_id_in_flight_cannot_be_used_again_and_an_answered_one_can(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway(ToolServer(hang=hang)) as rig, linked(rig, "a") as far:
        far.call(1, "hang")
        far.ask(1, "ping")
        assert (await far.read())["error"]["code"] == -32600
        far.ask(2, "ping")
        await far.read()
        far.ask(2, "ping")
        assert (await far.read())["result"] == {}


async def test_a_server_error_comes_back_under_the_calls_id(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as rig, linked(rig, "a") as far:
        far.call(1, "nothing")
        assert (await far.read())["error"]["message"] == "unknown tool 'nothing'"
        far.ask(2, "initialize", protocolVersion=3)
        assert (await far.read())["error"]["code"] == -32602


async def test_a_fault_in_one_request_does_not_end_the_link(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(asked: Asked) -> str:
        raise KeyError("a bug")

    async with gateway(ToolServer(broken=broken)) as rig, linked(rig, "a") as far:
        far.call(3, "broken")
        assert (await far.read())["error"] == {"code": -32603, "message": "internal error"}
        assert "request failed" in caplog.messages
        far.ask(4, "ping")
        assert (await far.read())["result"] == {}


async def test_a_call_to_a_server_that_is_not_served_is_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway() as rig, linked(rig, "nowhere") as far:
        far.ask(1, "tools/list")
        assert (await far.read())["error"]["code"] == -32010


async def test_batches_are_refused_and_garbage_is_answered_only_where_it_can_be(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway() as rig, linked(rig) as far:
        far.send('[{"jsonrpc":"2.0","id":1,"method":"ping"}]')
        assert (await far.read())["id"] is None
        far.send('{"jsonrpc":"2.0","id":4,"method":5}')
        assert (await far.read())["id"] == 4
        far.send("garbage")
        far.send('{"jsonrpc":"2.0","id":1,"result":{}}')
        far.send('{"jsonrpc":"2.0","id":1,"result":{},"error":{}}')
        assert await far.quiet() == []


async def test_progress_reaches_the_other_end_before_the_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def steps(asked: Asked) -> str:
        await asked.progress("1")
        await asked.progress("2")
        return '{"content":[]}'

    async with gateway(ToolServer(steps=steps)) as rig, linked(rig, "a") as far:
        far.ask(1, "tools/call", name="steps", _meta={"progressToken": "mine"})
        told = [await far.read() for _ in range(3)]
        assert [m["params"]["progress"] for m in told[:2]] == [1, 2]
        assert {m["params"]["progressToken"] for m in told[:2]} == {"mine"}
        assert told[2]["id"] == 1


async def test_list_changes_are_told_once_initialized(autojump_clock: trio.testing.MockClock) -> None:
    server = ToolServer()
    async with gateway(server) as rig, linked(rig, "a") as far:
        far.ask(0, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "x"})
        await far.read()
        server.answers["tools/list"] = tools("echo", "more")
        server.tell("notifications/tools/list_changed")
        await trio.sleep(5)
        assert await far.quiet() == []
        far.tell("notifications/initialized")
        assert await far.read() == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        server.answers["tools/list"] = tools("echo")
        server.tell("notifications/tools/list_changed")
        assert (await far.read())["method"] == "notifications/tools/list_changed"


async def test_a_peer_that_does_not_read_holds_its_calls_and_floods_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def big(asked: Asked) -> str:
        return json.dumps({"content": [], "text": "x" * 600})

    async with gateway(ToolServer(big=big)) as rig, linked(rig, "a", max_calls=4, limit_bytes=1000) as far:
        for request_id in range(50):
            far.call(request_id, "big")
        await trio.testing.wait_all_tasks_blocked()
        assert far.link.outbox.is_full
        answered = 0
        while answers := await far.quiet():
            answered += len(answers)
        assert 4 <= answered < 50  # the flood got refusals, up to a limit
        assert far.face.inflight == 0


async def test_draining_lets_calls_end_and_takes_no_more(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(asked: Asked) -> str:
        await trio.sleep(5)
        return '{"content":[]}'

    async with gateway(ToolServer(slow=slow)) as rig, linked(rig, "a") as far:
        far.call(1, "slow")
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.face.drain)
            await trio.testing.wait_all_tasks_blocked()
            far.call(2, "slow")
            assert (await far.read())["error"]["data"] == {"reason": "stopping"}
        assert trio.current_time() == 5
        assert (await far.read())["result"] == {"content": []}


async def test_sessions_that_stop_wait_for_calls_over_links(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(asked: Asked) -> str:
        await trio.sleep(5)
        return '{"content":[]}'

    async with gateway(ToolServer(slow=slow)) as rig, linked(rig, "a") as far:
        await far.initialize()
        far.call(1, "slow")
        await trio.sleep(1)
        await rig.drain()
        assert "result" in await far.read()


async def test_calls_that_are_given_up_while_stopping_are_told_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway(ToolServer(hang=hang)) as rig, linked(rig, "a") as far:
        far.call(1, "hang")
        await far.quiet()
        rig.sessions.give_up_calls()
        assert (await far.read())["error"]["data"] == {"reason": "stopping"}


async def test_what_came_before_the_face_ran_is_served(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as rig, trio.open_nursery() as nursery:
        far = FarEnd(rig, "a", max_calls=4, limit_bytes=1000)
        far.ask(1, "ping")
        nursery.start_soon(far.face.run)
        assert (await far.read())["id"] == 1
        nursery.cancel_scope.cancel()
    far.ask(2, "ping")
    assert "error" in json.loads(far.link.outbox.take_some()[0])


class Prompt:
    """A tool whose result is known to the reader before its own task goes on, as on a real pipe."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.goes_on = trio.Event()

    async def __call__(self, asked: Asked) -> str:
        assert isinstance(asked._notify, PromptCaller)
        asked._notify.answered(parse(self.text))
        await self.goes_on.wait()
        return self.text


async def test_an_answer_goes_out_in_the_step_that_has_it_and_only_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    prompt = Prompt('{"content":\n[]}')
    async with gateway(ToolServer(prompt=prompt)) as rig, linked(rig, "a") as far:
        far.call(1, "prompt")
        await trio.testing.wait_all_tasks_blocked()
        (line,) = far.link.outbox.take_some()
        assert line == b'{"jsonrpc":"2.0","id":1,"result":{"content": []}}'
        assert far.face.inflight == 0
        far.ask(1, "ping")  # the id is free again, though the first task is still there
        assert (await far.read())["result"] == {}
        prompt.goes_on.set()
        assert await far.quiet() == []


async def test_an_answer_for_a_peer_that_does_not_read_waits_for_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    prompt = Prompt('{"content":[]}')
    async with gateway(ToolServer(prompt=prompt)) as rig, linked(rig, "a", limit_bytes=10) as far:
        far.ask(1, "ping")
        await trio.testing.wait_all_tasks_blocked()
        far.call(2, "prompt")
        prompt.goes_on.set()
        assert [answer["id"] for answer in await far.quiet()] == [1]
        assert [answer["id"] for answer in await far.quiet()] == [2]
        assert await far.quiet() == []


async def test_no_session_begins_while_the_gateway_stops(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as rig, linked(rig) as far:
        await rig.drain()
        answer = await far.initialize()
        assert answer["error"]["message"] == "the gateway is shutting down"
        assert len(rig.sessions) == 0


async def test_what_cancels_or_tells_nothing_is_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway(ToolServer(hang=hang)) as rig, linked(rig, "a") as far:
        far.tell("notifications/initialized")  # of a session that is not there
        far.call(1, "hang")
        await far.quiet()
        far.send('{"jsonrpc":"2.0","method":"notifications/cancelled"}')
        far.send(
            '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"requestId":2}}'
        )
        far.tell("notifications/progress", progressToken=1, progress=1)
        assert await far.quiet() == []
        assert far.face.inflight == 1
