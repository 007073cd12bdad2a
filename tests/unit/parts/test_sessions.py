"""The table of sessions: how long they live, how many there may be, what they cost, and how the part ends."""

import gc
import tracemalloc

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.metrics import Metrics
from edge.parts.sessions import InFlight, LiveSession, Sessions, TooManySessions, news
from tests.support.checkpoints import cancel_at_every_step
from tests.support.gateway_client import request
from tests.support.gateway_rig import Asked, ToolServer, gateway, hang

Clock = MockClock


async def nothing_to_tidy() -> None:
    await trio.lowlevel.checkpoint()


def table(*, idle_s: float = 60, most: int = 100) -> tuple[Sessions, Metrics, list[LiveSession]]:
    metrics, ended = Metrics(), list[LiveSession]()
    sessions = Sessions(
        idle_s=idle_s, max_sessions=most, metrics=metrics, on_end=ended.append, tidy=nothing_to_tidy
    )
    return sessions, metrics, ended


def new(sessions: Sessions, view: str | None = None) -> LiveSession:
    return sessions.create(version="2025-11-25", view=view)


# -- idleness


async def test_an_idle_session_ends_when_its_time_is_over_and_not_before(autojump_clock: Clock) -> None:
    async with gateway(session_idle_s=60.0) as rig:
        await rig.client()
        await trio.sleep(60.5)
        assert len(rig.sessions) == 1
        await trio.sleep(1)
        assert len(rig.sessions) == 0
        assert rig.metrics.session_ends["idle_timeout"] == 1
        assert rig.metrics.session_duration.sum == 61


async def test_use_keeps_a_session(autojump_clock: Clock) -> None:
    async with gateway(session_idle_s=60.0) as rig:
        client = await rig.client()
        for _ in range(5):
            await trio.sleep(50)
            await client.result("ping")
            await trio.sleep(50)
            await client.tell("notifications/initialized")
        await trio.sleep(60.5)
        assert (await client.ask("ping")).status == 200


async def test_a_session_that_expired_is_404(autojump_clock: Clock) -> None:
    async with gateway(session_idle_s=60.0) as rig:
        client = await rig.client()
        await trio.sleep(62)
        assert (await client.ask("ping")).status == 404


async def test_a_session_with_a_call_in_flight_is_not_idle_until_after_it(autojump_clock: Clock) -> None:
    async def long(asked: Asked) -> str:
        await trio.sleep(150)
        return "{}"

    async with gateway(ToolServer(long=long), session_idle_s=60.0) as rig:
        client = await rig.client()
        assert "result" in await client.call("a__long")
        await trio.sleep(59)
        assert len(rig.sessions) == 1
        await trio.sleep(3)
        assert len(rig.sessions) == 0


async def test_a_session_with_an_open_stream_is_not_idle_until_after_it(autojump_clock: Clock) -> None:
    async with gateway(session_idle_s=60.0) as rig:
        client = await rig.client()
        await client.listen()
        await trio.sleep(179)
        await client.leave()
        await trio.sleep(59)
        assert len(rig.sessions) == 1
        await trio.sleep(3)
        assert len(rig.sessions) == 0


async def test_a_busy_session_does_not_shield_the_idle_ones_behind_it(autojump_clock: Clock) -> None:
    async with gateway(ToolServer(hang=hang), session_idle_s=60.0) as rig:
        busy = await rig.client()
        await busy.send("POST", request("tools/call", {"name": "a__hang"}).encode())
        await trio.sleep(1)
        for _ in range(3):
            await rig.client()
        await trio.sleep(63)
        assert [session.state.id for session in rig.sessions] == [busy.session]


# -- the limit


async def test_over_the_limit_the_session_that_was_idle_longest_makes_room(autojump_clock: Clock) -> None:
    sessions, metrics, ended = table(most=3)
    first, second, third = (new(sessions) for _ in range(3))
    assert sessions.get(first.state.id, None) is first
    new(sessions)
    assert ended == [second]
    assert len(sessions) == 3
    assert metrics.session_ends["limit"] == 1
    assert sessions.get(second.state.id, None) is None
    assert sessions.get(third.state.id, None) is third


async def test_a_busy_session_is_not_made_to_go(autojump_clock: Clock) -> None:
    sessions, _, ended = table(most=2)
    busy, idle = new(sessions), new(sessions)
    busy.calls["1"] = InFlight(trio.CancelScope())
    new(sessions)
    assert ended == [idle]


async def test_if_every_session_is_busy_a_new_one_is_refused(autojump_clock: Clock) -> None:
    sessions, _, ended = table(most=2)
    for _ in range(2):
        new(sessions).listener = trio.CancelScope()
    with pytest.raises(TooManySessions, match="2 sessions are in use"):
        new(sessions)
    assert ended == []


async def test_a_client_that_finds_no_room_is_told_503(autojump_clock: Clock) -> None:
    async with gateway(max_sessions=1) as rig:
        client = await rig.client()
        await client.listen()
        answer = await rig.connect().ask("initialize", {"protocolVersion": "2025-11-25"})
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert "max_sessions" in answer.error["message"]


async def test_ten_thousand_sessions_are_cheap_and_go_by_themselves(autojump_clock: Clock) -> None:
    sessions, metrics, ended = table(idle_s=3600, most=5000)
    async with trio.open_nursery() as nursery:
        await nursery.start(sessions.run)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(10_000):
                new(sessions)
                ended.clear()  # the table alone is measured
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / 5000
        finally:
            tracemalloc.stop()
        assert each < 3000
        assert len(sessions) == 5000
        assert metrics.session_ends["limit"] == 5000
        await trio.sleep(3602)
        assert len(sessions) == 0
        assert metrics.session_ends["idle_timeout"] == 5000
        nursery.cancel_scope.cancel()


async def test_news_is_bounded_in_letters_too_and_the_newest_is_always_kept(autojump_clock: Clock) -> None:
    sessions, metrics, _ = table()
    session = new(sessions)
    for _ in range(5):
        session.tell(news("notifications/message", f'"{"x" * 400_000}"'))
    assert (session.queued, metrics.notes_dropped) == (2, 3)
    session.tell(news("notifications/message", f'"{"x" * 2_000_000}"'))
    assert (session.queued, metrics.notes_dropped) == (1, 5)


async def test_a_log_message_for_many_sessions_is_in_memory_once(autojump_clock: Clock) -> None:
    server = ToolServer()
    async with gateway(server) as rig:
        for _ in range(3):
            await rig.client()
        server.tell("notifications/message", '{"level":"info","data":"hello"}')
        await wait_all_tasks_blocked()
        [first], *others = [session.take_news() for session in rig.sessions]
        assert len(others) == 2
        assert all(text is first for [text] in others)


async def test_news_that_no_stream_fetches_is_let_go_after_a_minute(autojump_clock: Clock) -> None:
    sessions, metrics, _ = table(idle_s=3600)
    async with trio.open_nursery() as nursery:
        await nursery.start(sessions.run)
        absent, listening = new(sessions), new(sessions)
        listening.listener = trio.CancelScope()
        for session in (absent, listening):
            session.tell(news("notifications/message", "{}"))
            session.list_changed("tools")
        await trio.sleep(30.5)
        absent.tell(news("notifications/message", "{}"))
        await trio.sleep(30)
        assert (absent.queued, listening.queued, metrics.notes_dropped) == (2, 1, 0)
        await trio.sleep(1)
        assert (absent.queued, listening.queued, metrics.notes_dropped) == (1, 1, 1)
        await trio.sleep(60)
        assert (absent.queued, listening.queued, metrics.notes_dropped) == (0, 1, 2)
        assert len(absent.take_news()) == 1  # that a list changed is never forgotten
        nursery.cancel_scope.cancel()


# -- single sessions


async def test_ids_are_long_and_different(autojump_clock: Clock) -> None:
    sessions, _, _ = table()
    ids = {new(sessions).state.id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in ids)


async def test_a_session_belongs_to_its_view(autojump_clock: Clock) -> None:
    sessions, _, _ = table()
    session = new(sessions, "git")
    assert sessions.get(session.state.id, "git") is session
    assert sessions.get(session.state.id, None) is None
    assert sessions.get(session.state.id, "other") is None


async def test_ending_a_session_twice_changes_nothing(autojump_clock: Clock) -> None:
    sessions, metrics, ended = table()
    session = new(sessions)
    sessions.end(session, "client_delete")
    sessions.end(session, "limit")
    sessions.used(session)
    assert (len(sessions), ended) == (0, [session])
    assert (metrics.session_ends["client_delete"], metrics.session_ends["limit"]) == (1, 0)


async def test_a_call_is_late_only_if_nobody_ended_it_before(autojump_clock: Clock) -> None:
    for cancels, is_late in ((False, True), (True, False)):
        with trio.CancelScope() as scope:
            flight = InFlight(scope)
            flight.ask("a", 5)
            assert not flight.is_late
            if cancels:
                flight.cancel()
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert flight.is_late is is_late


# -- the part


async def test_what_is_left_over_is_tidied_now_and_then_and_never_for_long(autojump_clock: Clock) -> None:
    tidied: list[float] = []

    async def tidy() -> None:
        tidied.append(trio.current_time())
        if len(tidied) == 2:
            await trio.sleep_forever()

    sessions = Sessions(idle_s=60, max_sessions=9, metrics=Metrics(), on_end=lambda _: None, tidy=tidy)
    async with trio.open_nursery() as nursery:
        await nursery.start(sessions.run)
        await trio.sleep(31)
        nursery.cancel_scope.cancel()
    assert tidied == [5, 10, 25, 30]


async def test_draining_waits_for_calls_and_then_ends_all_sessions(autojump_clock: Clock) -> None:
    async def slow(asked: Asked) -> str:
        await trio.sleep(3)
        return "{}"

    async with gateway(ToolServer(slow=slow)) as rig:
        client = await rig.client()
        await rig.client()
        await client.send("POST", request("tools/call", {"name": "a__slow"}).encode())
        await wait_all_tasks_blocked()
        await rig.drain()
        assert not rig.is_over.is_set()
        assert (await client.answer()).json["result"] == {}
        assert trio.current_time() == 3
        await rig.is_over.wait()
        assert trio.current_time() == 3
        assert rig.metrics.session_ends["gateway_shutdown"] == 2
        assert len(rig.sessions) == 0


async def test_calls_that_are_given_up_end_with_an_error_and_the_part_is_over(autojump_clock: Clock) -> None:
    server = ToolServer(hang=hang)
    async with gateway(server) as rig:
        clients = [await rig.client(), rig.connect()]  # with a session, and without one
        for client in clients:
            await client.send("POST", request("tools/call", {"name": "a__hang"}).encode())
        await wait_all_tasks_blocked()
        await rig.drain()
        await trio.sleep(9)
        rig.sessions.give_up_calls()
        for client in clients:
            answer = await client.answer()
            assert (answer.status, answer.error["code"]) == (200, -32012)
            assert answer.error["data"] == {"reason": "stopping"}
        await rig.is_over.wait()
        assert trio.current_time() == 9
        assert server.cancelled == ["tools/call"] * 2


async def test_draining_with_nothing_to_do_is_over_at_once(autojump_clock: Clock) -> None:
    sessions, _, _ = table()
    async with trio.open_nursery() as nursery:
        intake: trio.CancelScope = await nursery.start(sessions.run)
        intake.cancel()
    assert sessions.draining
    assert trio.current_time() == 0


async def test_cancelled_at_any_step_the_part_leaves_nothing_behind(autojump_clock: Clock) -> None:
    async def scenario() -> None:
        async with gateway(ToolServer(hang=hang)) as rig:
            client = await rig.client()
            other = rig.again(client)
            stream = await other.listen()
            await client.send("POST", request("tools/call", {"name": "a__hang"}).encode())
            await trio.sleep(11)
            await stream.event()
            await rig.drain()
            with trio.move_on_after(5):
                await rig.is_over.wait()

    assert await cancel_at_every_step(scenario) > 50
