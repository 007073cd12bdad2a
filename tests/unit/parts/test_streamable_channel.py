"""Streamable HTTP over memory streams: what comes of every kind of answer a server may give."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.config.model import Secret
from edge.errors import Gone, RpcError, SessionLost, Unavailable, UpstreamError
from edge.net.http_client import BadAnswer
from edge.parts.server_http import (
    AuthFailed,
    HttpRefused,
    code_and_message,
    host_of,
    is_sure_loss,
    loss_reason,
    loss_reason_of,
)
from edge.proto.jsonrpc import ErrorObject
from tests.support.http_server_toys import (
    EVENTS,
    JSON,
    VERSION,
    Answer,
    Got,
    error,
    head,
    note,
    response,
)
from tests.support.streamable_talk import TOOL, Talk


@pytest.fixture
async def talk(nursery: trio.Nursery) -> Talk:
    made = Talk(nursery)
    await made.begin()
    return made


async def test_the_session_id_and_version_are_named_in_every_later_request(talk: Talk) -> None:
    await talk.call()
    first, second, third = talk.toy.server.requests
    assert "mcp-session-id" not in first.fields
    assert "mcp-protocol-version" not in first.fields
    for got in (second, third):
        assert got.fields["mcp-session-id"] == "session-1"
        assert got.fields["mcp-protocol-version"] == VERSION
    assert third.fields["accept"] == "application/json, text/event-stream"
    assert third.fields["content-type"] == "application/json"
    assert third.fields["host"] == "toy"
    assert third.fields["user-agent"].startswith("mcp-edge/")


async def test_configured_fields_and_the_bearer_are_sent(nursery: trio.Nursery) -> None:
    talk = Talk(nursery, headers={"User-Agent": "mine", "X-A": "b"}, bearer=Secret("s3cret"))
    await talk.begin()
    fields = talk.toy.server.requests[0].fields
    assert (fields["user-agent"], fields["x-a"], fields["authorization"]) == ("mine", "b", "Bearer s3cret")


async def test_a_json_result_is_kept_letter_for_letter(talk: Talk) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        text = '{"jsonrpc":"2.0","id":ID,"result":{"b": 1.0, "a":9223372036854775808}}'
        text = text.replace("ID", str(got.message["id"]))
        await answer.send(200, JSON, text.encode())

    talk.toy.on_call = answer
    raw = await talk.channel.request("tools/call", TOOL)
    assert raw.text == '{"b": 1.0, "a":9223372036854775808}'
    assert talk.http.metrics.bytes_sent > 0
    assert talk.http.metrics.bytes_received > len(raw.text)


async def test_an_error_of_the_server_keeps_code_message_and_data(talk: Talk) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await answer.json(error(got.message["id"], -32602, "no such tool", data={"a": 1}))

    talk.toy.on_call = answer
    with pytest.raises(RpcError) as caught:
        await talk.call()
    assert (caught.value.code, caught.value.message, caught.value.data) == (
        -32602,
        "no such tool",
        '{"a": 1}',
    )


async def test_an_error_of_the_server_under_another_status_is_its_answer_too(talk: Talk) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await answer.json(error(got.message["id"], -32601, "no such method"), status=404)

    talk.toy.on_call = answer
    with pytest.raises(RpcError, match="no such method"):
        await talk.call()


async def test_an_error_without_id_answers_the_request(talk: Talk) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await answer.json(error(None, -32700, "cannot read that"))

    talk.toy.on_call = answer
    with pytest.raises(RpcError, match="cannot read that"):
        await talk.call()


async def test_progress_and_log_messages_before_the_result_go_to_the_caller(talk: Talk) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        token = got.message["params"]["_meta"]["progressToken"]
        await answer.start_events()
        await answer.chunk(b": comment\n\nevent: ping\ndata: x\n\nevent: message\ndata:\n\ndata: [DONE]\n\n")
        await answer.event(note("notifications/progress", progressToken=token, progress=1))
        await answer.event(note("notifications/message", level="info", data="x"))
        await answer.event(note("notifications/tools/list_changed"))
        await answer.event(response(got.message["id"], {"ok": True}), lines="")
        await answer.end()

    talk.toy.on_call = answer
    assert await talk.call(notify=talk.notify, progress=True) == {"ok": True}
    assert [x.method for x in talk.notes] == ["notifications/progress", "notifications/message"]
    assert [x.method for x in talk.inbound.heard] == ["notifications/tools/list_changed"]


async def test_the_response_ends_the_call_though_the_stream_stays_open(talk: Talk) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.event(response(got.message["id"], 1))
        await answer.wait_client_gone()

    talk.toy.on_call = answer
    assert await talk.call() == 1


@pytest.mark.parametrize(("method", "expected"), [("ping", "result"), ("roots/list", "error")])
async def test_a_request_of_the_server_within_a_call_is_answered_by_post(
    talk: Talk, method: str, expected: str
) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await answer.start_events()
        await answer.event({"jsonrpc": "2.0", "id": "q-1", "method": method})
        await answer.event(response(got.message["id"], 1))
        await answer.end()

    talk.toy.on_call = answer
    assert await talk.call() == 1
    posted = talk.toy.server.requests[-1]
    assert posted.message["id"] == "q-1"
    assert expected in posted.message
    assert posted.fields["mcp-session-id"] == "session-1"


async def sends(answer: Answer, fields: dict[str, str], body: str) -> None:
    await answer.send(200, fields, body.encode())


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({}, 'data: {"jsonrpc":"2.0","id":ID,"result":1}\n\n'),
        ({}, ' \nevent: message\ndata: {"jsonrpc":"2.0","id":ID,"result":1}'),
        ({"Content-Type": "text/plain"}, '{"jsonrpc":"2.0","id":ID,"result":1}'),
        (JSON, 'data: {"jsonrpc":"2.0","id":ID,"result":1}\n\n'),
        (JSON, ' [{"jsonrpc":"2.0","id":ID,"result":1}]'),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, '\n{"jsonrpc":"2.0","id":ID,"result":1}'),
        ({"Content-Type": "text/event-stream;charset=utf-8"}, 'data: {"jsonrpc":"2.0","id":ID,"result":1}'),
        (EVENTS, 'event: custom\ndata: {"jsonrpc":"2.0","id":ID,"result":1}\n\n'),
        (
            EVENTS,
            'data: {"jsonrpc":"2.0","id":99,"result":2}\n\ndata: {"jsonrpc":"2.0","id":ID,"result":1}\n\n',
        ),
        (EVENTS, 'data: {"jsonrpc":"1.0","id":7}\n\ndata: {"jsonrpc":"2.0","id":ID,"result":1}\n\n'),
    ],
)
async def test_an_answer_is_found_however_it_is_dressed(
    talk: Talk, fields: dict[str, str], body: str
) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await sends(answer, fields, body.replace("ID", str(got.message["id"])))

    talk.toy.on_call = answer
    assert await talk.call() == 1


@pytest.mark.parametrize(
    ("fields", "body", "reason"),
    [
        (JSON, "", "the answer is empty"),
        (JSON, "<html>", "no JSON-RPC message"),
        (JSON, '{"jsonrpc":"2.0","id":"ID","result":1}', "another id"),
        (JSON, '{"jsonrpc":"2.0","id":99,"result":1}', "another id"),
        (JSON, "[{}]", "no JSON-RPC message"),
        (JSON, "\udcff", "cannot be read"),
        (EVENTS, "event: error\ndata: it hurts\n\n", "reports an error: it hurts"),
        (EVENTS, "event: message\ndata: nonsense\n\n", "no JSON-RPC message"),
        (EVENTS, "data: \udcff\n\n", "not UTF-8"),
        (EVENTS, "event: message\ndata: " + "x" * 200_000, "more than 100000 bytes"),
    ],
)
async def test_an_answer_that_is_none_fails_the_call(
    talk: Talk, fields: dict[str, str], body: str, reason: str
) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        data = body.replace("ID", str(got.message["id"])).encode(errors="surrogateescape")
        await answer.send(200, fields, data)

    talk.toy.on_call = answer
    with pytest.raises(BadAnswer, match=reason):
        await talk.call()


async def test_a_stream_that_ends_without_the_response_is_gone(talk: Talk) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await sends(answer, EVENTS, "event: ping\ndata: x\n\n")

    talk.toy.on_call = answer
    with pytest.raises(Gone, match="ended before the response"):
        await talk.call()


# -- refusals and lost sessions


@pytest.mark.parametrize(
    ("status", "fields", "body", "kind", "text"),
    [
        (500, {}, b"boom\n  at  line", HttpRefused, "HTTP 500: boom at line"),
        (401, {}, b"", AuthFailed, "HTTP 401"),
        (403, {}, b"no", AuthFailed, "HTTP 403: no"),
        (307, {"Location": "https://u:p@other.example/x?y"}, b"", HttpRefused, "redirect to other.example;"),
        (302, {"Location": "/x"}, b"", HttpRefused, "redirect to the same host;"),
        (502, {}, b"x" * 70_000, HttpRefused, "HTTP 502"),
    ],
)
async def test_a_refusal_says_its_status_and_what_the_server_says(
    talk: Talk, status: int, fields: dict[str, str], body: bytes, kind: type[HttpRefused], text: str
) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await answer.send(status, fields, body)

    talk.toy.on_call = answer
    with pytest.raises(HttpRefused) as caught:
        await talk.call()
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert text in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, '{"code":-32001,"message":"x"}', "unknown_session"),
        (
            404,
            '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Session not found"}}',
            "unknown_session",
        ),
        (401, '{"error":{"code":1,"message":"Session EXPIRED"}}', "expired"),
        (403, "the session terminated a while ago", "terminated"),
        (410, "Unknown MCP session", "unknown_session"),
        (404, "", "unknown_session"),
        (404, '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}', None),
        (410, "gone", None),
        (401, '{"error":"invalid_token"}', None),
        (500, "session expired", None),
        (400, "[1]", None),
    ],
)
def test_a_refusal_means_a_lost_session_or_not(status: int, body: str, expected: str | None) -> None:
    assert loss_reason(status, body) == expected


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (-32001, "Session not found", "unknown_session"),
        (-32001, "Request timed out", None),
        (-32000, "session expired", "expired"),
        (-32000, "Server error", None),
    ],
)
def test_an_error_answer_means_a_lost_session_or_not(code: int, message: str, expected: str | None) -> None:
    assert loss_reason_of(ErrorObject(code, message, None)) == expected


def test_odd_errors_are_read_as_text() -> None:
    assert code_and_message('{"error":{"code":"x","message":3}}') == (
        None,
        '{"error":{"code":"x","message":3}}',
    )
    assert host_of("https://a.example/x") == "a.example"
    assert host_of("//") == "the same host"


async def test_a_lost_session_is_told_as_such_and_initialize_begins_another(talk: Talk) -> None:
    talk.toy.sessions.clear()
    with pytest.raises(SessionLost) as caught:
        await talk.call()
    assert caught.value.reason == "unknown_session"
    await talk.begin()
    assert "mcp-session-id" not in talk.toy.server.requests[-2].fields
    await talk.call()
    assert talk.toy.server.requests[-1].fields["mcp-session-id"] == "session-2"


async def test_a_lost_session_in_a_good_answer_is_told_as_such(talk: Talk) -> None:
    async def answer(got: Got, answer: Answer) -> None:
        await answer.json(error(got.message["id"], -32001, "Session not found"))

    talk.toy.on_call = answer
    with pytest.raises(SessionLost):
        await talk.call()


async def test_without_a_session_nothing_can_be_lost(nursery: trio.Nursery) -> None:
    talk = Talk(nursery)
    with pytest.raises(HttpRefused, match="HTTP 404"):
        await talk.call()


async def test_a_late_answer_of_the_old_session_does_not_bring_it_back(
    talk: Talk, nursery: trio.Nursery
) -> None:
    may_answer = trio.Event()

    async def answer(got: Got, answer: Answer) -> None:
        await may_answer.wait()
        await answer.result(got, 1, {"Mcp-Session-Id": got.fields["mcp-session-id"]})

    talk.toy.on_call = answer
    async with trio.open_nursery() as late:
        late.start_soon(talk.call)
        await wait_all_tasks_blocked()
        await talk.begin()
        may_answer.set()
    await talk.call()
    assert talk.toy.server.requests[-1].fields["mcp-session-id"] == "session-2"


async def test_a_refused_notification_is_an_error(talk: Talk) -> None:
    talk.toy.sessions.clear()
    with pytest.raises(SessionLost):
        await talk.channel.notify("notifications/roots/list_changed", None)


# -- the end


async def test_the_session_is_deleted_at_the_end(talk: Talk) -> None:
    await talk.channel.end()
    assert talk.toy.deleted == ["session-1"]


async def test_nothing_is_deleted_where_there_is_no_session(nursery: trio.Nursery) -> None:
    talk = Talk(nursery)
    await talk.channel.end()
    assert talk.toy.server.requests == []


async def test_a_server_that_is_gone_at_the_end_does_no_harm(talk: Talk) -> None:
    async def drop(got: Got, answer: Answer) -> None:
        await answer.drop()

    talk.toy.server.script = drop
    await talk.channel.end()
    assert talk.toy.deleted == []


async def test_too_many_open_requests_are_unavailable(talk: Talk, autojump_clock: MockClock) -> None:
    async def stuck(got: Got, answer: Answer) -> None:
        await answer.wait_client_gone()

    talk.toy.on_call = stuck
    failed: list[UpstreamError] = []

    async def call() -> None:
        try:
            await talk.call()
        except Unavailable as exc:
            failed.append(exc)

    with trio.move_on_after(1):
        async with trio.open_nursery() as many:
            for _ in range(9):
                many.start_soon(call)
    assert len(failed) == 1


async def test_a_stream_that_breaks_off_is_gone(talk: Talk) -> None:
    async def cut(got: Got, answer: Answer) -> None:
        await answer.raw(head(200, EVENTS | {"Transfer-Encoding": "chunked"}) + b"ff\r\ndata: ")
        await answer.drop()

    talk.toy.on_call = cut
    with pytest.raises(Gone):
        await talk.call()


@pytest.mark.parametrize(
    ("code", "message", "is_sure"),
    [
        (-32001, "Session not found", True),
        (-32001, "Bad Request: Unknown MCP session", True),
        (-32001, "no such row", False),
        (-32000, "session expired", False),
    ],
)
def test_only_the_code_that_is_there_for_it_makes_a_loss_sure(code: int, message: str, is_sure: bool) -> None:
    assert is_sure_loss(ErrorObject(code, message, None)) is is_sure


@pytest.mark.parametrize("before", [170, 195, 480, 505])
async def test_no_part_of_a_secret_shows_where_a_servers_words_are_cut(talk: Talk, before: int) -> None:
    secret = "tok-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
    talk.http.redactor.redact([secret])

    async def refuse(got: Got, answer: Answer) -> None:
        await answer.send(400, {}, ("z" * before + secret + " is not allowed").encode())

    talk.toy.on_call = refuse
    with pytest.raises(UpstreamError) as caught:
        await talk.call()
    assert "tok" not in str(caught.value)

    async def complain(got: Got, answer: Answer) -> None:
        await answer.send(200, EVENTS, ("event: error\ndata: " + "z" * before + secret + "\n\n").encode())

    talk.toy.on_call = complain
    with pytest.raises(UpstreamError) as caught:
        await talk.call()
    assert "tok" not in str(caught.value)
