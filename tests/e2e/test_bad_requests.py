"""Bad requests over real sockets: each gets its status and body, and the next call works."""

import json
import socket
import sys
from collections.abc import Iterator

import pytest

from tests.support.appliance import Appliance, running, toml_list
from tests.support.peers import ROOT, requires
from tests.support.raw_http import Raw, address_of, head, next_answer, post, talk_to

pytestmark = requires("pyz")
TOY = ROOT / "tests" / "support" / "toy_server.py"
MAX_BODY = 65536
PING = '{"jsonrpc":"2.0","id":7,"method":"ping"}'
BAD, NOT_JSON, INTERNAL = -32600, -32700, -32603


@pytest.fixture(scope="module")
def appliance() -> Iterator[Appliance]:
    command = toml_list([sys.executable, TOY])
    config = f'[gateway]\nlisten = "127.0.0.1:0"\nmax_message_bytes = {MAX_BODY}\n[servers.toy]\ncommand = {command}\n'
    with running(config) as appliance:
        yield appliance
        # A refusal is answered, not stumbled over.
        assert not [line for line in appliance.log if "request failed" in line or "Traceback" in line]


@pytest.fixture
def session(appliance: Appliance) -> Iterator[str]:
    """A session of the newest version. After each test a normal call still works in it."""
    session = initialize(appliance, "2025-11-25")
    yield session
    call = {"name": "toy__echo", "arguments": {"text": "still here"}}
    answer = talk(appliance, post(request("tools/call", call), session))
    assert answer.status == 200
    assert json.loads(answer.body)["result"]["content"][0]["text"] == "still here"


def talk(appliance: Appliance, data: bytes, *, has_body: bool = True) -> Raw:
    return talk_to(address_of(appliance.endpoint), data, has_body=has_body)


def request(method: str, params: object = None, request_id: object = 7) -> str:
    message = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return json.dumps(message if params is None else message | {"params": params})


def initialize(appliance: Appliance, version: str) -> str:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    answer = talk(appliance, post(request("initialize", params)))
    assert answer.status == 200
    return answer.headers["mcp-session-id"]


# -- HTTP itself


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /mcp\r\n\r\n",
        b"POST /mcp HTTP/1.1\nHost: localhost\n\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /mcp#fragment HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_a_malformed_head_is_400_and_the_end(appliance: Appliance, session: str, data: bytes) -> None:
    answer = talk(appliance, data)
    assert (answer.status, answer.error["code"], answer.id, answer.is_closed) == (400, BAD, None, True)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /mcp HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
    ],
)
def test_http_that_is_not_spoken_here(appliance: Appliance, session: str, data: bytes, status: int) -> None:
    answer = talk(appliance, data)
    assert (answer.status, answer.error["code"], answer.is_closed) == (status, INTERNAL, True)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /mcp HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /mcp HTTP/1.1\r\n" + b"X" * 100_000,
    ],
)
def test_an_oversized_head_is_431(appliance: Appliance, session: str, data: bytes) -> None:
    answer = talk(appliance, data)
    assert (answer.status, answer.error["code"], answer.is_closed) == (431, BAD, True)


def test_an_oversized_body_is_413(appliance: Appliance, session: str) -> None:
    filling = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"x": "x" * MAX_BODY}})
    whole = post(filling, session)
    announced = head("POST", 10**12, session)
    chunked = head("POST", 0, session, content_length=None, transfer_encoding="chunked")
    chunked += b"".join(b"8000\r\n%b\r\n" % (b" " * 0x8000) for _ in range(3)) + b"0\r\n\r\n"
    for data in (whole, announced, chunked):
        answer = talk(appliance, data)
        assert (answer.status, answer.error["code"], answer.is_closed) == (413, BAD, True)
    padding = " " * (MAX_BODY - len(PING))
    assert talk(appliance, post(PING + padding, session)).status == 200


def test_a_chunked_body_is_as_good_as_any_and_a_broken_one_is_400(appliance: Appliance, session: str) -> None:
    start = head("POST", 0, session, content_length=None, transfer_encoding="chunked")
    good = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PING), PING.encode())
    assert json.loads(talk(appliance, start + good).body) == {"jsonrpc": "2.0", "id": 7, "result": {}}
    answer = talk(appliance, start + b"zz\r\n")
    assert (answer.status, answer.error["code"], answer.is_closed) == (400, BAD, True)


def test_an_http10_client_is_served_and_its_connection_closed(appliance: Appliance, session: str) -> None:
    data = post(PING, session).replace(b"HTTP/1.1", b"HTTP/1.0")
    answer = talk(appliance, data)
    assert (answer.status, json.loads(answer.body)["result"], answer.is_closed) == (200, {}, True)
    without_host = b"POST /mcp HTTP/1.0\r\nContent-Length: 0\r\n\r\n"
    assert (talk(appliance, without_host).status, talk(appliance, without_host).error["code"]) == (421, BAD)


@pytest.mark.parametrize("method", ["TRACE", "PUT", "PATCH", "OPTIONS", "BREW"])
def test_other_methods_are_405(appliance: Appliance, session: str, method: str) -> None:
    answer = talk(appliance, head(method, None, session))
    assert (answer.status, answer.error["code"]) == (405, BAD)
    assert answer.headers["allow"] == "GET, POST, DELETE"


def test_head_is_answered_as_get_without_a_body(appliance: Appliance, session: str) -> None:
    for sent, status in ((None, 405), ("0" * 32, 404)):
        plain = talk(appliance, head("GET", None, sent))
        bare = talk(appliance, head("HEAD", None, sent), has_body=False)
        assert (plain.status, bare.status, bare.body) == (status, status, b"")
        assert bare.headers["content-length"] == str(len(plain.body))
    of_a_stream = talk(appliance, head("HEAD", None, session), has_body=False)
    assert (of_a_stream.status, of_a_stream.headers["content-type"]) == (200, "text/event-stream")
    # and it does not take the place of the one stream that a session may have
    assert talk(appliance, head("HEAD", None, session), has_body=False).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/mcp/", "/mcp/x", "/sse", "/servers/toy", "/servers/nobody/mcp", "/../mcp"]
)
def test_paths_where_nothing_is_are_404(appliance: Appliance, session: str, path: str) -> None:
    for data in (post(PING, session, path=path), head("GET", None, session, path=path)):
        answer = talk(appliance, data)
        assert (answer.status, answer.error["code"]) == (404, BAD)


# -- what the request is about


@pytest.mark.parametrize(
    "host", ["evil.example.com", "evil.example.com:8766", "localhost.evil.example.com", "a b", ""]
)
def test_a_foreign_host_is_421(appliance: Appliance, session: str, host: str) -> None:
    for data in (post(PING, session, host=host), head("GET", None, session, host=host)):
        answer = talk(appliance, data)
        assert (answer.status, answer.error["code"]) in {(421, BAD), (400, BAD)}


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "file://", "http://localhost.evil.com"]
)
def test_a_foreign_origin_is_403(appliance: Appliance, session: str, origin: str) -> None:
    for data in (
        post(PING, session, origin=origin),
        head("GET", None, session, origin=origin),
        head("DELETE", None, session, origin=origin),
        head("OPTIONS", None, None, origin=origin, access_control_request_method="POST"),
    ):
        answer = talk(appliance, data)
        assert (answer.status, answer.error["code"]) == (403, BAD)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_a_wrong_content_type_is_415(appliance: Appliance, session: str, content_type: str | None) -> None:
    answer = talk(appliance, post(PING, session, content_type=content_type))
    assert (answer.status, answer.error["code"], answer.id) == (415, BAD, None)


@pytest.mark.parametrize("accept", [None, "", "text/html", "application/json;q=0, text/event-stream;q=0.0"])
def test_no_usable_accept_is_406(appliance: Appliance, session: str, accept: str | None) -> None:
    for data in (post(PING, session, accept=accept), head("GET", None, session, accept=accept)):
        answer = talk(appliance, data)
        assert (answer.status, answer.error["code"], answer.id) == (406, BAD, None)
    assert talk(appliance, head("GET", None, session, accept="application/json")).status == 406


# -- what is in it


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"hello",
        b"{",
        PING.encode() + b"}",
        PING.encode() * 2,
        b"{'jsonrpc':'2.0'}",
        b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":NaN}}',
        b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":"a\nb"}}',
        b'{"jsonrpc":"2.0","id":7,"method":"pi\xffng"}',
        b"\xef\xbb\xbf" + PING.encode(),
        PING.encode("utf-16"),
        b"[" * 60_000,
        b'{"jsonrpc":"2.0","id":7,"method":"ping","params":' + b'{"x":' * 9_000 + b"1" + b"}" * 9_001,
    ],
)
def test_what_is_not_json_is_400(appliance: Appliance, session: str, body: bytes) -> None:
    answer = talk(appliance, post(body, session))
    assert (answer.status, answer.error["code"], answer.id) == (400, NOT_JSON, None)


@pytest.mark.parametrize(
    ("body", "request_id"),
    [
        ("7", None),
        ('"ping"', None),
        ("null", None),
        ("{}", None),
        ('{"id":7,"method":"ping"}', 7),
        ('{"jsonrpc":"1.0","id":7,"method":"ping"}', 7),
        ('{"jsonrpc":"2.0","id":null,"method":"ping"}', None),
        ('{"jsonrpc":"2.0","id":1.5,"method":"ping"}', None),
        ('{"jsonrpc":"2.0","id":{},"method":"ping"}', None),
        ('{"jsonrpc":"2.0","id":7,"method":5}', 7),
        ('{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}', 7),
        ('{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/list"}', None),
        ('{"jsonrpc":"2.0","id":7}', 7),
    ],
)
def test_what_is_json_and_no_message_is_400(
    appliance: Appliance, session: str, body: str, request_id: object
) -> None:
    answer = talk(appliance, post(body, session))
    assert (answer.status, answer.error["code"], answer.id) == (400, BAD, request_id)


def test_duplicate_keys_in_params_are_refused_where_they_would_be_rewritten(
    appliance: Appliance, session: str
) -> None:
    params = '{"name":"toy__echo","name":"toy__exit","arguments":{}}'
    answer = talk(
        appliance, post(f'{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}', session)
    )
    assert (answer.status, answer.error["code"], answer.id) == (200, BAD, 7)
    cancel = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"requestId":2}}'
    assert talk(appliance, post(cancel, session)).status == 202


def test_a_batch_is_400_but_in_a_session_of_2025_03_26(appliance: Appliance, session: str) -> None:
    older = initialize(appliance, "2025-03-26")
    handshake = request("initialize", {"protocolVersion": "2025-03-26"})
    for body, sent in (
        (f"[{PING}]", session),
        (f"[{PING}]", initialize(appliance, "2025-06-18")),
        (f"[{PING}]", None),
        (f"[{handshake}]", None),
        (f"[{handshake}]", older),
        ("[]", older),
        ("[]", None),
    ):
        answer = talk(appliance, post(body, sent))
        assert (answer.status, answer.error["code"], answer.id) == (400, BAD, None)
    assert json.loads(talk(appliance, post(f"[{PING},5]", older)).body)[-1]["result"] == {}
    assert talk(appliance, post(f"[{PING}]", "0" * 32)).status == 404


# -- sessions


def test_an_unknown_session_is_404(appliance: Appliance, session: str) -> None:
    for unknown in ("0" * 32, session[:-1], "x", "../../etc/passwd"):
        for data in (
            post(PING, unknown),
            post('{"jsonrpc":"2.0","method":"notifications/initialized"}', unknown),
            head("GET", None, unknown),
            head("DELETE", None, unknown),
            post(PING, unknown, path="/servers/toy/mcp"),
            post(PING, session, path="/servers/toy/mcp"),
        ):
            answer = talk(appliance, data)
            assert (answer.status, answer.error["code"]) == (404, BAD)
    assert talk(appliance, post(PING, "0" * 32)).id == 7


def test_a_session_is_gone_after_delete(appliance: Appliance, session: str) -> None:
    other = initialize(appliance, "2025-11-25")
    assert talk(appliance, head("DELETE", None, other)).status == 204
    for data in (head("DELETE", None, other), head("GET", None, other), post(PING, other)):
        assert talk(appliance, data).status == 404


def test_get_and_delete_without_a_session_are_405(appliance: Appliance, session: str) -> None:
    for method in ("GET", "DELETE"):
        answer = talk(appliance, head(method, None, None))
        assert (answer.status, answer.error["code"], answer.headers["allow"]) == (405, BAD, "POST")


def test_a_version_that_is_not_spoken_is_400(appliance: Appliance, session: str) -> None:
    for version in ("2099-01-01", "2026-07-28", "latest"):
        for sent in (session, None):
            answer = talk(appliance, post(PING, sent, mcp_protocol_version=version))
            assert (answer.status, answer.error["code"], answer.id) == (400, BAD, 7)
            assert "2025-11-25" in answer.error["data"]["supported"]


def test_a_modern_client_is_refused_so_that_it_falls_back(appliance: Appliance, session: str) -> None:
    params = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
    body = request("server/discover", params)
    answer = talk(appliance, post(body, mcp_protocol_version="2026-07-28"))
    assert (answer.status, answer.error["code"]) == (400, BAD)


# -- MCP


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nothing/such", {}, -32601),
        ("sampling/createMessage", {}, -32601),
        ("tools/call", {"name": "toy__nothing"}, -32602),
        ("tools/call", {"name": "echo"}, -32602),
        ("tools/call", {"name": "other__echo"}, -32602),
        ("tools/call", {"arguments": {}}, -32602),
        ("tools/call", None, -32602),
        ("tools/list", {"cursor": "x"}, -32602),
        ("prompts/get", {"name": "toy__nothing"}, -32602),
        ("resources/read", {"uri": "other://nothing"}, -32002),
        ("logging/setLevel", {"level": "loud"}, -32602),
    ],
)
def test_unknown_methods_tools_and_resources_are_errors_in_a_good_answer(
    appliance: Appliance, session: str, method: str, params: object, code: int
) -> None:
    answer = talk(appliance, post(request(method, params), session))
    assert (answer.status, answer.error["code"], answer.id) == (200, code, 7)


def test_initialize_without_a_version_is_an_error_and_no_session(appliance: Appliance, session: str) -> None:
    answer = talk(appliance, post(request("initialize", {})))
    assert (answer.status, answer.error["code"]) == (200, -32602)
    assert "mcp-session-id" not in answer.headers


def test_a_posted_response_is_202_in_a_session_and_400_without(appliance: Appliance, session: str) -> None:
    for response in (
        '{"jsonrpc":"2.0","id":1,"result":{}}',
        '{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":""}}',
    ):
        answer = talk(appliance, post(response, session))
        assert (answer.status, answer.body) == (202, b"")
        assert talk(appliance, post(response)).error["code"] == BAD


def test_a_ping_is_answered_with_and_without_a_session(appliance: Appliance, session: str) -> None:
    for sent in (session, None):
        assert json.loads(talk(appliance, post(PING, sent)).body) == {"jsonrpc": "2.0", "id": 7, "result": {}}


# -- many in a row


def test_refusals_that_keep_the_connection_do_keep_it(appliance: Appliance, session: str) -> None:
    with socket.create_connection(address_of(appliance.endpoint), timeout=20) as connection:
        statuses, received = [], b""
        for data in (
            post("{", session),
            post(PING, session, content_type="text/plain"),
            post(PING, "0" * 32),
            head("GET", None, None),
            head("PUT", None, session),
            post(PING, session),
        ):
            connection.sendall(data)
            answer, received = next_answer(connection, received)
            statuses.append(answer.status)
        assert statuses == [400, 415, 404, 405, 405, 200]
