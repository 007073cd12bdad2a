"""MCP's words: versions, labels, levels, faults and the `initialize` exchange."""

import json

import pytest

from edge.errors import (
    BadMessage,
    ConfigError,
    EdgeError,
    Gone,
    LocalProtocolError,
    RemoteProtocolError,
    RpcError,
    SessionLost,
    TimedOut,
    Unavailable,
    UpstreamError,
)
from edge.proto.jsontext import parse
from edge.proto.mcp import (
    LEGACY_VERSIONS,
    LEVELS,
    METHODS,
    NEWEST_LEGACY,
    Fault,
    InitializeResult,
    cancelled_id,
    fault_of,
    initialize_params,
    label_of,
    negotiate,
    passes,
)

ANSWER = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "git", "version": "1"},
    "instructions": "Be kind.",
}


def without(member: str) -> dict[str, object]:
    return {key: value for key, value in ANSWER.items() if key != member}


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_a_version_that_is_spoken_here_is_agreed_to(version: str) -> None:
    assert negotiate(version) == version


@pytest.mark.parametrize("version", ["2026-07-28", "2024-10-07", "1.0", ""])
async def test_any_other_version_is_answered_with_our_newest(version: str) -> None:
    assert negotiate(version) == "2025-11-25" == NEWEST_LEGACY


async def test_versions_are_listed_newest_first() -> None:
    assert list(LEGACY_VERSIONS) == sorted(LEGACY_VERSIONS, reverse=True)


async def test_a_metric_label_is_a_method_we_know_and_never_a_clients_own_word() -> None:
    assert all(label_of(method) == method for method in METHODS)
    assert label_of("server/discover") == label_of("x" * 1000) == "unknown"


async def test_a_log_message_passes_at_its_level_and_above() -> None:
    for rank, level in enumerate(LEVELS):
        assert [passes(level, threshold) for threshold in LEVELS] == [
            rank >= other for other in range(len(LEVELS))
        ]


async def test_a_log_level_that_mcp_does_not_have_passes_everywhere() -> None:
    assert passes("catastrophe", "emergency")


@pytest.mark.parametrize(
    ("exc", "fault"),
    [
        (RpcError(-1, "no", "[1.0]"), Fault(200, -1, "no", "[1.0]")),
        (BadMessage(-32700, "not JSON"), Fault(400, -32700, "not JSON")),
        (BadMessage(-32600, "not an object", id="7"), Fault(400, -32600, "not an object")),
        (
            Unavailable("git", "cannot start /opt/secret/git: not on PATH"),
            Fault(200, -32010, "server git is not available", '{"server":"git","reason":"unavailable"}'),
        ),
        (
            TimedOut("git", 2.5),
            Fault(200, -32011, "server git gave no answer in 2.5 s", '{"server":"git","reason":"timeout"}'),
        ),
        (
            Gone("git", "exited with status 1"),
            Fault(
                200,
                -32012,
                "server git was lost while it had the request: outcome unknown",
                '{"server":"git","reason":"gone"}',
            ),
        ),
        (
            SessionLost("git", "expired"),
            Fault(200, -32010, "server git lost our session", '{"server":"git","reason":"session_lost"}'),
        ),
        (
            UpstreamError("git", "/opt"),
            Fault(200, -32603, "server git failed", '{"server":"git","reason":"failed"}'),
        ),
        (RemoteProtocolError("/opt"), Fault(200, -32603, "internal error")),
        (LocalProtocolError("/opt"), Fault(200, -32603, "internal error")),
        (ConfigError([]), Fault(200, -32603, "internal error")),
        (EdgeError("/opt"), Fault(200, -32603, "internal error")),
        (KeyError("/opt"), Fault(200, -32603, "internal error")),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_every_error_becomes_one_fault(exc: Exception, fault: Fault) -> None:
    assert fault_of(exc) == fault


async def test_what_we_offer_servers_is_our_newest_version_and_what_clients_may_be_asked() -> None:
    assert json.loads(initialize_params('the "edge"', "1.2")) == {
        "protocolVersion": "2025-11-25",
        "capabilities": {"sampling": {}, "elicitation": {}, "roots": {}},
        "clientInfo": {"name": 'the "edge"', "version": "1.2"},
    }


async def test_a_server_whose_requests_would_not_arrive_is_told_of_no_capabilities() -> None:
    assert json.loads(initialize_params("x", "1", can_ask=False))["capabilities"] == {}


@pytest.mark.parametrize(
    ("params", "letters"),
    [
        ('{"requestId":"1"}', '"1"'),
        ('{"requestId":1.0}', "1.0"),
        ("{}", None),
        ('{"requestId":1,"requestId":2}', None),
    ],
)
async def test_the_cancelled_request_is_named_by_the_letters_of_its_id(
    params: str, letters: str | None
) -> None:
    assert cancelled_id(params) == letters


async def test_an_answer_to_initialize_is_read_and_server_info_keeps_its_letters() -> None:
    text = json.dumps(ANSWER).replace('"1"', '"1", "x": 1.0')
    result = InitializeResult.read(parse(text))
    assert result.version == "2025-06-18"
    assert result.capabilities == {"tools": {}}
    assert result.server_info.text == '{"name": "git", "version": "1", "x": 1.0}'
    assert result.server_info.value["x"] == 1.0
    assert result.instructions == "Be kind."


@pytest.mark.parametrize("answer", [without("instructions"), {**ANSWER, "instructions": 5}])
async def test_instructions_that_are_no_text_are_none(answer: dict[str, object]) -> None:
    assert InitializeResult.read(parse(json.dumps(answer))).instructions is None


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([], "the answer to initialize is not an object"),
        (without("protocolVersion"), "the answer to initialize has no protocolVersion"),
        ({**ANSWER, "protocolVersion": 1}, "the answer to initialize has no protocolVersion"),
        (
            {**ANSWER, "protocolVersion": "2026-07-28"},
            "the server wants protocol version '2026-07-28';"
            " spoken here: 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05",
        ),
        (without("capabilities"), "the answer to initialize has no capabilities object"),
        ({**ANSWER, "capabilities": []}, "the answer to initialize has no capabilities object"),
        (without("serverInfo"), "the answer to initialize has no serverInfo with a name"),
        ({**ANSWER, "serverInfo": "git"}, "the answer to initialize has no serverInfo with a name"),
        ({**ANSWER, "serverInfo": {"name": 1}}, "the answer to initialize has no serverInfo with a name"),
    ],
)
async def test_a_bad_answer_to_initialize_is_refused_in_a_sentence(answer: object, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        InitializeResult.read(parse(json.dumps(answer)))
    assert str(caught.value) == sentence
