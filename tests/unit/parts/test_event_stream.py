"""The GET stream of a session: what it tells, once, to whom, and how it ends."""

import json

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.net.http_reply import Reply
from edge.net.http_wire import Connections, Wire
from edge.parts.event_stream import stream_events
from edge.parts.sessions import OUTBOX_LIMIT, news
from edge.proto.sse import KEEPALIVE
from tests.support.gateway_client import Client, EventStream, request
from tests.support.gateway_rig import Asked, Rig, ToolServer, echo, gateway
from tests.support.memory_http import RawClient

Clock = MockClock
LIST_CHANGED = "notifications/tools/list_changed"


async def change(server: ToolServer, *names: str) -> None:
    """The server has other tools now, and says so."""
    server.list_tools(*names)
    server.tell(LIST_CHANGED)
    await trio.sleep(1)


async def methods(stream: EventStream, seconds: float = 5) -> list[str]:
    """What the stream tells within some time."""
    found = []
    with trio.move_on_after(seconds):
        while True:
            found.append((await stream.message())["method"])
    return found


async def opened(client: Client, **headers: str) -> EventStream:
    """A stream that stands, past its priming event."""
    stream = await client.listen(**headers)
    assert (await stream.event()).data == ""
    return stream


# -- one stream a session


async def test_a_stream_begins_with_an_id_and_is_kept_alive(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client()
        stream = await client.listen()
        assert await stream.piece() == b"id: 1-0\ndata: \n\n"
        for due in (15, 30, 45):
            assert await stream.piece() == KEEPALIVE
            assert trio.current_time() == due


async def test_an_older_client_gets_no_event_without_data(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client("2025-06-18")
        stream = await client.listen()
        assert await stream.piece() == KEEPALIVE


async def test_a_second_stream_is_409(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        client = await rig.client()
        stream = await opened(client)
        second = rig.again(client)
        for _ in range(2):
            assert (await second.request("GET")).status == 409
        await change(server, "new")
        assert await methods(stream) == [LIST_CHANGED]  # the first one is as it was
        assert rig.metrics.http_refused["409"] == 2


async def test_a_stream_may_be_opened_again_after_it_was_left(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client()
        for number in (1, 2, 3):
            other = rig.again(client)
            stream = await other.listen()
            assert (await stream.event()).id == f"{number}-0"
            await other.leave()
            await wait_all_tasks_blocked()


async def test_a_client_that_names_its_last_event_takes_the_stream_over(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        client, other = await rig.client(), None
        first = await client.listen()
        last = (await first.event()).id
        await change(server, "one")
        other = rig.again(client)
        second = await other.listen(last)
        assert (await second.event()).id == "1-1"  # told on the first stream already, and again on request
        assert await first.rest() == [{"jsonrpc": "2.0", "method": LIST_CHANGED}]  # it ends
        await change(server, "two")
        assert (await second.event()).id == "1-2"


async def test_only_the_events_that_were_missed_are_told_again(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        client = await rig.client()
        stream = await opened(client)
        for name in ("one", "two", "three"):
            await change(server, name)
        assert [(await stream.event()).id for _ in range(3)] == ["1-1", "1-2", "1-3"]
        await client.leave()
        await wait_all_tasks_blocked()
        again = await rig.again(client).listen("1-1")
        assert [(await again.event()).id for _ in range(2)] == ["1-2", "1-3"]
        await change(server, "four")
        assert (await again.event()).id == "1-4"


@pytest.mark.parametrize("last", ["9-9", "1-99", "", "nonsense", "1-0; drop"])
async def test_an_id_that_means_nothing_opens_a_new_stream_if_there_is_none(
    autojump_clock: Clock, last: str
) -> None:
    async with gateway() as rig:
        client = await rig.client()
        await opened(client)
        second = rig.again(client)
        assert (await second.request("GET", headers={"Last-Event-ID": last})).status == 409
        await client.leave()
        await wait_all_tasks_blocked()
        stream = await second.listen(last)
        assert (await stream.event()).id == "2-0"


async def test_what_a_broken_stream_had_to_tell_can_be_fetched_after_a_new_one_was_opened(
    autojump_clock: Clock,
) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        client = await rig.client()
        await client.listen()
        await client.leave()
        await change(server, "one")  # nobody hears it
        stream = await opened(rig.again(client))
        assert await methods(stream) == [LIST_CHANGED]


# -- lists that changed


async def test_a_list_that_changes_is_told_once_per_kind(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        stream = await opened(await rig.client())
        server.list_tools("x")
        server.list_resources("x://1")
        for kind in ("tools", "resources", "tools", "resources"):
            server.tell(f"notifications/{kind}/list_changed")
        assert sorted(await methods(stream)) == ["notifications/resources/list_changed", LIST_CHANGED]


async def test_a_change_from_before_the_stream_was_opened_is_told_once(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        client = await rig.client()
        for name in ("one", "two", "three"):
            await change(server, name)
        assert await methods(await opened(client)) == [LIST_CHANGED]


async def test_a_list_that_is_read_again_and_has_not_changed_is_not_told(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        stream = await opened(await rig.client())
        await change(server, "echo")
        assert await methods(stream) == []


async def test_only_sessions_that_see_the_list_are_told(autojump_clock: Clock) -> None:
    servers = {"a": ToolServer(), "b": ToolServer()}
    async with gateway(servers) as rig:
        paths = ("/mcp", "/servers/a/mcp", "/servers/b/mcp")
        streams = [await opened(await rig.client(path=path)) for path in paths]
        await change(servers["a"], "new")
        assert [await methods(stream) for stream in streams] == [[LIST_CHANGED], [LIST_CHANGED], []]


# -- resources


async def updates(stream: EventStream) -> list[str]:
    found = []
    with trio.move_on_after(1):
        while True:
            message = await stream.message()
            assert message["method"] == "notifications/resources/updated"
            found.append(message["params"]["uri"])
    return found


async def subscribed(rig: Rig, *uris: str) -> EventStream:
    client = await rig.client()
    for uri in uris:
        assert await client.result("resources/subscribe", {"uri": uri}) == {}
    return await opened(client)


async def test_updates_go_to_subscribers_of_the_resource_and_of_its_parents(autojump_clock: Clock) -> None:
    server = ToolServer()
    server.list_resources("x://h/d", "x://h/d/", "x://h/d/f", "x://h/de", "x://h")
    async with gateway(server) as rig:
        wishes: tuple[list[str], ...] = (
            ["x://h/d"],
            ["x://h/d/"],
            ["x://h/d/f"],
            ["x://h"],
            ["x://h/d", "x://h/d/f"],
            ["x://h/de"],
            [],
        )
        streams = [await subscribed(rig, *uris) for uris in wishes]
        server.tell("notifications/resources/updated", '{"uri":"x://h/d/f","title":"t"}')
        heard = ["x://h/d/f"]
        assert [await updates(stream) for stream in streams] == [heard, heard, heard, heard, heard, [], []]
        server.tell("notifications/resources/updated", '{"uri":"x://h/d"}')
        heard = ["x://h/d"]
        assert [await updates(stream) for stream in streams] == [heard, [], [], heard, heard, [], []]


async def test_an_update_names_the_resource_as_the_client_knows_it(autojump_clock: Clock) -> None:
    servers = {"a": ToolServer(), "b": ToolServer()}
    for server in servers.values():
        server.list_resources("x://same")
    async with gateway(servers) as rig:
        stream = await subscribed(rig, "mcp-edge://b/x%3A%2F%2Fsame")
        assert servers["b"].asked_for("resources/subscribe") == [{"uri": "x://same"}]
        for server in servers.values():
            server.tell("notifications/resources/updated", '{"uri":"x://same"}')
        assert await updates(stream) == ["mcp-edge://b/x%3A%2F%2Fsame"]


async def test_who_unsubscribed_hears_no_more(autojump_clock: Clock) -> None:
    server = ToolServer()
    server.list_resources("x://1")
    async with gateway(server) as rig:
        client = await rig.client()
        await client.result("resources/subscribe", {"uri": "x://1"})
        assert await client.result("resources/unsubscribe", {"uri": "x://1"}) == {}
        stream = await opened(client)
        server.tell("notifications/resources/updated", '{"uri":"x://1"}')
        server.tell("notifications/resources/updated", "{}")
        assert await updates(stream) == []


# -- log messages


async def logs(stream: EventStream) -> list[object]:
    found: list[object] = []
    with trio.move_on_after(1):
        while True:
            found.append((await stream.message())["params"]["data"])
    return found


async def test_log_messages_outside_of_calls_go_to_sessions_that_see_the_server(
    autojump_clock: Clock,
) -> None:
    servers = {"a": ToolServer(), "b": ToolServer()}
    async with gateway(servers) as rig:
        quiet = await rig.client()
        await quiet.result("logging/setLevel", {"level": "error"})
        clients = [await rig.client(), await rig.client(path="/servers/b/mcp"), quiet]
        streams = [await opened(client) for client in clients]
        servers["a"].tell("notifications/message", '{"level":"info","data":"hello"}')
        servers["a"].tell("notifications/message", '{"level":"debug","data":"nobody wants this"}')
        servers["a"].tell("notifications/message", '{"data":"no level"}')
        assert [await logs(stream) for stream in streams] == [["hello"], [], []]


async def test_log_messages_go_to_the_sessions_that_have_a_call_there(autojump_clock: Clock) -> None:
    async def works(asked: Asked) -> str:
        await trio.sleep(9)
        return "{}"

    server = ToolServer(works=works)
    async with gateway(server) as rig:
        busy, idle = await rig.client(), await rig.client()
        streams = [await opened(rig.again(client)) for client in (busy, idle)]
        await busy.send("POST", request("tools/call", {"name": "a__works"}).encode())
        await wait_all_tasks_blocked()
        server.tell("notifications/message", '{"level":"info","data":"working"}')
        assert [await logs(stream) for stream in streams] == [["working"], []]


async def test_news_that_nobody_fetches_is_bounded_and_counted(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        client = await rig.client()
        for number in range(OUTBOX_LIMIT + 3):
            server.tell("notifications/message", json.dumps({"level": "info", "data": number}))
        assert rig.metrics.notes_dropped == 3
        stream = await opened(client)
        assert await logs(stream) == list(range(3, OUTBOX_LIMIT + 3))


async def test_news_that_nobody_fetches_is_kept_for_a_minute(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        client = await rig.client()
        server.tell("notifications/message", json.dumps({"level": "info", "data": "old"}))
        await trio.sleep(30.5)
        server.tell("notifications/message", json.dumps({"level": "info", "data": "young"}))
        await trio.sleep(31)
        assert rig.metrics.notes_dropped == 1
        assert rig.sessions.count_queued() == 1
        assert await logs(await opened(client)) == ["young"]


async def test_news_is_kept_when_the_connection_breaks_while_it_is_told(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        client = rig.again(await rig.client(), lockstep=True)
        stream = await client.listen()
        last = (await stream.event()).id
        for text in ("one", "two", "three"):
            server.tell("notifications/message", json.dumps({"level": "info", "data": text}))
        await wait_all_tasks_blocked()
        await client.leave()
        await wait_all_tasks_blocked()
        again = await rig.again(client).listen(last)
        assert await logs(again) == ["one", "two", "three"]


def connected() -> tuple[Reply, RawClient]:
    """A reply, and who reads it."""
    ours, theirs = trio.testing.memory_stream_pair()
    connections = Connections()
    wire = Wire(theirs, 30, connections)
    return Reply(wire, connections, is_head=False, is_http10=False, closes=False), RawClient(ours)


async def test_news_of_the_moment_of_a_takeover_is_told_by_the_new_stream(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        await rig.client()
        [session] = rig.sessions
        (old, _), (new, reader) = connected(), connected()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream_events, session, old, None)
            await wait_all_tasks_blocked()
            session.tell(news("notifications/message", '{"data":"now"}'))
            # The old listener is awake and has not looked yet when the new one takes over.
            with trio.move_on_after(1):
                await stream_events(session, new, "1-0")
            nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            await reader.until(b'{"data":"now"}')


# -- its end


async def test_a_stream_ends_when_its_session_is_deleted(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        client = await rig.client()
        stream, other = await opened(client), rig.again(client)
        assert (await other.request("DELETE")).status == 204
        assert await stream.rest() == []
        assert (await other.request("GET")).status == 404


async def test_streams_end_when_the_gateway_drains(autojump_clock: Clock) -> None:
    async with gateway() as rig:
        stream = await opened(await rig.client())
        await rig.drain()
        assert await stream.rest() == []
        with trio.fail_after(0.1):
            await rig.is_over.wait()


async def test_a_client_that_leaves_frees_the_stream_and_its_connection(autojump_clock: Clock) -> None:
    async with gateway(ToolServer(echo=echo)) as rig:
        client = await rig.client()
        await opened(client)
        await client.leave()
        await wait_all_tasks_blocked()
        assert rig.connections.open == 0
        assert rig.metrics.methods["listen"].ends["success"] == 1
