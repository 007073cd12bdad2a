"""Edges by name: how links come, are replaced, interrupted and lost."""

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edge.errors import Gone, RpcError, Unavailable
from tests.support.edges_rig import EdgesRig, edges_rig

Errors = list[Exception]


async def call(rig: EdgesRig, errors: Errors | None = None, name: str = "a") -> Any:
    try:
        return (await rig.upstreams[name].request("tools/call", '{"name":"echo"}', timeout_s=0)).text
    except (Gone, Unavailable) as exc:
        if errors is None:
            raise
        errors.append(exc)


async def test_a_link_makes_an_upstream_that_is_ready(autojump_clock: MockClock) -> None:
    async with edges_rig() as rig:
        await rig.arrive(rig.link("a"))
        assert rig.upstreams["a"].is_ready
        assert [tool.key for tool in rig.upstreams["a"].catalog.tools] == ["echo"]
        assert rig.health.statuses["edge:a"].is_good
        assert rig.metrics.edges["a"].connected
        assert await call(rig) == "{}"
        assert "a" in rig.changes
        assert rig.edges.connected() == ["a"]


async def test_a_newer_link_takes_the_place_and_calls_of_the_older_fail_once(
    autojump_clock: MockClock,
) -> None:
    errors: Errors = []
    async with edges_rig() as rig, trio.open_nursery() as nursery:
        older = await rig.arrive(rig.link("a"))
        older.is_mute = True
        nursery.start_soon(call, rig, errors)
        await rig.quiet()
        newer = await rig.arrive(rig.link("a"))
        assert older.left is not None
        assert older.left.startswith("replaced by a newer connection")
        assert [type(exc) for exc in errors] == [Gone]
        assert "outcome unknown" in str(errors[0])
        assert rig.upstreams["a"].is_ready
        assert await call(rig) == "{}"
        assert newer.seen.count("initialize") == 1
        assert (rig.metrics.hub.replaced, rig.metrics.hub.lost["replaced"]) == (1, 1)
        assert rig.metrics.hub.links["contextforge"] == 1
        assert len(rig.edges) == rig.edges.count_of("a") == 1


async def test_a_foreign_link_ends_with_its_carrier(autojump_clock: MockClock) -> None:
    async with edges_rig() as rig:
        await rig.come_and_go("a")
        assert rig.edges.link("a") is None
        status = rig.health.statuses["edge:a"]
        assert (status.state, status.reason) == ("degraded", "not connected")
        with pytest.raises(Unavailable, match="not connected"):
            await call(rig)


async def test_calls_wait_while_a_link_of_ours_is_interrupted(autojump_clock: MockClock) -> None:
    async with edges_rig() as rig, trio.open_nursery() as nursery:
        link = rig.link("a", own=True)
        carrier = await rig.arrive(link)
        carrier.is_mute = True
        answers: list[str] = []

        async def keep() -> None:
            answers.append(await call(rig))

        nursery.start_soon(keep)
        await rig.quiet()
        carrier.cut()
        rig.edges.settle(link)
        await trio.sleep(60)
        assert answers == []
        again = await rig.carry(link)
        again.say({"jsonrpc": "2.0", "id": 3, "result": {}})
        await rig.quiet()
        assert answers == ["{}"]
        assert rig.edges.link("a") is link


async def test_a_new_call_waits_three_seconds_for_an_interrupted_link(autojump_clock: MockClock) -> None:
    errors: Errors = []
    async with edges_rig() as rig:
        link = rig.link("a", own=True)
        carrier = await rig.arrive(link)
        carrier.cut()
        started = trio.current_time()
        await call(rig, errors)
        assert trio.current_time() - started == 3
        assert isinstance(errors[0], Unavailable)
        assert "nothing was sent" in str(errors[0])
        assert rig.edges.link("a") is link


async def test_a_link_that_goes_on_is_good_again_in_that_very_step(autojump_clock: MockClock) -> None:
    async with edges_rig() as rig:
        link = rig.link("a", own=True)
        (await rig.arrive(link)).cut()
        rig.edges.interrupted(link, "cut")
        assert not rig.health.statuses["edge:a"].is_good
        rig.edges.resumed(link)  # its next carrier is attached after that
        assert rig.health.statuses["edge:a"].is_good


async def test_an_interrupted_link_is_not_given_up_for_its_silence(autojump_clock: MockClock) -> None:
    async with edges_rig(resume_grace_s=1000) as rig:
        link = rig.link("a", own=True)
        carrier = await rig.arrive(link)
        carrier.cut()
        await trio.sleep(900)
        assert rig.edges.link("a") is link
        assert link.link.ended is None
        await rig.carry(link)
        assert await call(rig) == "{}"


async def test_a_link_that_is_not_resumed_in_time_ends(autojump_clock: MockClock) -> None:
    errors: Errors = []
    async with edges_rig(resume_grace_s=120) as rig, trio.open_nursery() as nursery:
        link = rig.link("a", own=True)
        carrier = await rig.arrive(link)
        carrier.is_mute = True
        nursery.start_soon(call, rig, errors)
        await rig.quiet()
        carrier.cut()
        rig.edges.settle(link)
        await trio.sleep(119)
        assert errors == []
        await trio.sleep(2)
        assert [type(exc) for exc in errors] == [Gone]
        assert link.link.ended == "not resumed within 120 s"
        assert rig.edges.by_id("id-of-a") is None
        assert rig.metrics.hub.lost["dead"] == 1


async def test_a_call_that_was_not_sent_yet_is_said_to_be_so(autojump_clock: MockClock) -> None:
    errors: Errors = []
    async with edges_rig() as rig, trio.open_nursery() as nursery:
        link = rig.link("a", own=True)
        carrier = await rig.arrive(link)
        carrier.is_mute = True
        carrier.cut()  # but nobody has noticed: as if it went between the look and the write
        link.link.suspended_since = None

        async def waiting_call() -> None:
            await call(rig, errors)

        nursery.start_soon(waiting_call)
        await rig.quiet()
        rig.edges.end(link, "over", "broken")
        await rig.quiet()
        assert [type(exc) for exc in errors] == [Unavailable]


async def test_a_server_that_is_no_good_ends_its_link(autojump_clock: MockClock) -> None:
    async with edges_rig() as rig:
        link = rig.link("a")
        carrier = await rig.arrive(link, refuses=True)
        assert carrier.left is not None
        assert "broken" in carrier.left
        assert rig.edges.link("a") is None
        assert rig.metrics.hub.lost["protocol"] == 1


Lines = list[tuple[str, str, str]]


def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Message, level and reason of all that was said from `info` up, but for "server ready"."""
    return [
        (record.message, record.levelname, vars(record)["reason"])
        for record in caplog.records
        if record.levelno >= logging.INFO and record.message != "server ready"
    ]


@pytest.mark.parametrize(
    ("lost_as", "level"),
    [
        ("closed", "INFO"),
        ("operator", "INFO"),
        ("shutdown", None),
        ("broken", "WARNING"),
        ("dead", "WARNING"),
        ("protocol", "WARNING"),
    ],
)
@pytest.mark.parametrize("own", [False, True])
async def test_the_end_of_a_link_is_one_line_and_a_warning_if_it_is_a_failure(
    own: bool,
    lost_as: str,
    level: str | None,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with edges_rig() as rig:
        link = rig.link("a", own=own)
        await rig.arrive(link)
        rig.edges.end(link, "so it is", lost_as)
        await rig.quiet()
        assert lines(caplog) == ([] if level is None else [("edge disconnected", level, "so it is")])


async def test_a_carrier_that_is_lost_before_it_is_settled_is_one_line(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with edges_rig() as rig:
        link = rig.link("a")
        carrier = await rig.arrive(link)
        carrier.cut("reset")
        await trio.sleep(60)  # a probe finds nobody there
        link.lost_as = "broken"
        rig.edges.settle(link)
        await rig.quiet()
        assert lines(caplog) == [("edge disconnected", "WARNING", "reset")]
        await rig.arrive(rig.link("a"))
        assert rig.upstreams["a"].is_ready


async def test_what_a_remark_has_told_of_is_no_second_warning(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with edges_rig() as rig:
        link = rig.link("a")
        await rig.arrive(link)
        link.tell_as = logging.INFO
        rig.edges.end(link, "too many invalid frames", "protocol")
        await rig.quiet()
        assert lines(caplog) == [("edge disconnected", "INFO", "too many invalid frames")]


@pytest.mark.parametrize("own", [False, True])
async def test_a_server_that_refuses_is_said_by_its_upstream_alone(
    own: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with edges_rig() as rig:
        for _ in range(3):  # it comes again and again
            await rig.arrive(rig.link("a", own=own), refuses=True)
        assert lines(caplog) == [("server down", "WARNING", "refused initialize: broken (-32603)")]


async def test_a_link_that_never_gets_ready_is_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with edges_rig() as rig:
        for _ in range(3):
            await rig.break_one("a", is_mute=True)
        assert lines(caplog) == [("edge disconnected", "WARNING", "reset")]


async def test_a_link_that_was_ready_is_said_each_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with edges_rig() as rig:
        for _ in range(2):
            await rig.break_one("a")
        assert lines(caplog) == [("edge disconnected", "WARNING", "reset")] * 2


async def test_a_list_that_the_end_of_the_link_cut_off_is_no_complaint_of_its_own(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with edges_rig() as rig:
        link = rig.link("a")
        carrier = await rig.arrive(link, mute_from="tools/list")
        asked = carrier.asked[-1]
        away = {"code": -32010, "message": "not sent: the edge is away"}  # as the dialect answers for an edge
        carrier.say({"jsonrpc": "2.0", "id": asked["id"], "error": away})
        carrier.cut("the edge is away")
        link.lost_as = "dead"
        rig.edges.settle(link)
        await rig.quiet()
        assert lines(caplog) == [("edge disconnected", "WARNING", "the edge is away")]


async def test_a_malformed_answer_to_initialize_is_said_by_the_upstream_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with edges_rig() as rig:
        carrier = await rig.arrive(rig.link("a"), is_mute=True)
        [asked] = carrier.asked
        carrier.say({"jsonrpc": "2.0", "id": asked["id"], "result": 1, "error": 2})
        await rig.quiet()
        reason = "refused initialize: the server's answer is not valid: both result and error (-32603)"
        assert lines(caplog) == [("server down", "WARNING", reason)]


async def test_a_malformed_first_list_is_said_by_whoever_reads_it_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with edges_rig() as rig:
        carrier = await rig.arrive(rig.link("a"), deaf_to="tools/list")
        carrier.say({"jsonrpc": "2.0", "id": carrier.asked[-1]["id"], "result": 1, "error": 2})
        await rig.quiet()
        [(message, level, reason)] = lines(caplog)
        assert (message, level) == ("list could not be read", "WARNING")
        assert "both result and error" in reason


async def test_an_edge_that_goes_silent_with_its_first_list_is_one_line(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with edges_rig() as rig:
        carrier = await rig.arrive(rig.link("a"), mute_from="tools/list")
        await trio.sleep(60)
        reason = "no answer to tools/list in 30 s, nor to ping in 10 s"
        assert carrier.left == reason
        assert lines(caplog) == [("server down", "WARNING", reason)]


async def test_a_list_that_never_comes_is_said_and_the_link_is_used_without(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with edges_rig() as rig:
        carrier = await rig.arrive(rig.link("a"), deaf_to="tools/list")
        await trio.sleep(60)
        assert lines(caplog) == [("list could not be read", "WARNING", "no answer in 30 s")]
        assert carrier.seen.count("ping") > 0
        assert await call(rig) == "{}"


async def test_a_server_that_answers_no_ping_any_more_ends_its_link(autojump_clock: MockClock) -> None:
    async with edges_rig() as rig:
        carrier = await rig.arrive(rig.link("a"))
        carrier.is_mute = True
        await trio.sleep(45)
        assert carrier.left is not None
        assert "ping" in carrier.left
        assert rig.metrics.hub.lost["dead"] == 1


async def test_at_the_end_calls_end_before_their_links(autojump_clock: MockClock) -> None:
    answers: list[str] = []
    async with edges_rig() as rig, trio.open_nursery() as nursery:
        carrier = await rig.arrive(rig.link("a"))
        idle = await rig.arrive(rig.link("b"))
        carrier.is_mute = True

        async def keep() -> None:
            answers.append(await call(rig))

        nursery.start_soon(keep)
        await rig.quiet()
        rig.intake.cancel()
        await rig.quiet()
        assert [idle.left, carrier.left] == ["the hub is restarting", None]
        carrier.say({"jsonrpc": "2.0", "id": 3, "result": {}})
        await rig.has_ended.wait()
        assert answers == ["{}"]
        assert carrier.left == "the hub is restarting"
        assert rig.metrics.hub.lost["shutdown"] == 2


async def test_what_servers_tell_goes_to_the_gateway(autojump_clock: MockClock) -> None:
    async with edges_rig() as rig:
        carrier = await rig.arrive(rig.link("a"))
        for method in ("resources/updated", "message"):
            carrier.say({"jsonrpc": "2.0", "method": f"notifications/{method}", "params": {"uri": method}})
        assert rig.changes[-2:] == ['a {"uri": "resources/updated"}', 'a {"uri": "message"}']


async def test_the_details_of_a_link_are_shown(autojump_clock: MockClock) -> None:
    async with edges_rig() as rig:
        link = rig.link("a", owner="box", own=True)
        carrier = await rig.arrive(link)
        rig.edges.refresh()
        detail = rig.health.statuses["edge:a"].detail
        assert (detail["dialect"], detail["kind"], detail["is_suspended"]) == ("contextforge", "own", False)
        assert detail["connections"] == 1
        assert "id-of-a" not in str(detail)
        carrier.cut()
        rig.edges.end(link, "over", "broken")
        rig.edges.refresh()
        assert rig.health.statuses["edge:a"].detail == {"edge": "box"}
        assert rig.edges.pending_bytes() == 0


async def test_what_is_no_message_is_said_once_and_fails_the_call_it_answers(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[RpcError] = []
    async with edges_rig() as rig, trio.open_nursery() as nursery:
        carrier = await rig.arrive(rig.link("a"))
        carrier.is_mute = True

        async def fail() -> None:
            try:
                await call(rig)
            except RpcError as exc:
                errors.append(exc)

        nursery.start_soon(fail)
        await rig.quiet()
        for text in ("rubbish", "[]", '{"jsonrpc":"2.0","id":3,"result":1,"error":2}'):
            carrier.link.link.take_in(text)
        await rig.quiet()
        assert "not valid" in str(errors[0])
        assert rig.edges.link("a") is not None
    assert sum("no JSON-RPC message" in record.message for record in caplog.records) == 1
