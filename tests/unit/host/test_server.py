import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edge.host.facts import Facts
from edge.host.processes import processes
from edge.host.server import HostServer
from edge.host.tools import TOOLS
from edge.proto.framing import Oversized
from tests.support.fake_root import add_process, make_root

WITHOUT_PAUSE = {
    **TOOLS, "processes": replace(TOOLS["processes"], facts=partial(processes, pause=lambda seconds: None)),
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_root(tmp_path)
    add_process(root, 10, "init", rss_pages=10, ticks=1)
    (root / "run/systemd/system/.keep").unlink()
    (root / "run/systemd/system").rmdir()
    return root


@pytest.fixture
def server(root: Path) -> HostServer:
    return HostServer(root, WITHOUT_PAUSE)


def ask(server: HostServer, method: str, params: Any = None) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": 7, "method": method} | ({} if params is None else {"params": params})
    text = server.answer(json.dumps(message).encode())
    assert text is not None
    assert "\n" not in text, "one line"
    answer: dict[str, Any] = json.loads(text)
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    return answer


def result(server: HostServer, method: str, params: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = ask(server, method, params)["result"]
    return found


@pytest.mark.parametrize(
    ("requested", "answered"),
    [
        *((version, version) for version in ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")),
        ("1999-01-01", "2025-11-25"),
        (None, "2025-11-25"),
    ],
)
def test_initialize_negotiates_the_version(server: HostServer, requested: str | None, answered: str) -> None:
    found = result(server, "initialize", {"protocolVersion": requested, "capabilities": {}, "clientInfo": {}})
    assert found["protocolVersion"] == answered
    assert set(found["capabilities"]) == {"tools", "resources", "prompts"}
    assert found["serverInfo"]["name"] == "host"


def test_ping_is_answered(server: HostServer) -> None:
    assert result(server, "ping") == {}


def test_every_tool_is_read_only_and_has_valid_schemas(server: HostServer) -> None:
    tools = result(server, "tools/list")["tools"]
    assert [tool["name"] for tool in tools] == [
        "overview",
        "memory",
        "disks",
        "network",
        "failed_units",
        "processes",
    ]
    for tool in tools:
        assert tool["annotations"]["readOnlyHint"] is True
        assert tool["description"]
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            assert schema["type"] == "object"
            Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("place", ["fake", "real"])
def test_every_answer_fits_its_own_schema(root: Path, name: str, place: str) -> None:
    server = HostServer(root if place == "fake" else Path("/"), WITHOUT_PAUSE)
    found = result(server, "tools/call", {"name": name})
    if found["isError"]:
        pytest.skip(f"not on this system: {found['content'][0]['text']}")
    Draft202012Validator(TOOLS[name].output).validate(found["structuredContent"])
    assert found["content"][0]["text"]


def test_a_tool_that_does_not_work_here_says_so_as_a_result(tmp_path: Path) -> None:
    found = result(HostServer(tmp_path), "tools/call", {"name": "memory", "arguments": {}})
    assert found == {
        "content": [{"type": "text", "text": "this system has no /proc/meminfo that can be read"}], "isError": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"limit": 0}, "limit must be a whole number from 1 to 50"),
        ({"limit": 51}, "limit must be a whole number"),
        ({"limit": True}, "limit must be a whole number"),
        ({"limit": "5"}, "limit must be a whole number"),
        ({"sort": "size"}, "sort must be one of memory, cpu"),
        ({"sort": ["memory"]}, "sort must be one of"),
        ({"pause": 1}, "there is no argument pause; there is: sort, limit"),
    ],
)
def test_arguments_outside_the_schema_are_told_to_the_model(
    server: HostServer, arguments: dict[str, Any], words: str
) -> None:
    found = result(server, "tools/call", {"name": "processes", "arguments": arguments})
    assert found["isError"]
    assert found["content"][0]["text"].startswith(words)
    schema = TOOLS["processes"].listed()["inputSchema"]
    assert not Draft202012Validator(schema).is_valid(arguments), "the published schema refuses it as well"


def test_arguments_are_heeded(server: HostServer) -> None:
    found = result(server, "tools/call", {"name": "processes", "arguments": {"sort": "cpu", "limit": 1}})
    assert found["structuredContent"]["sorted_by"] == "cpu"
    assert len(found["structuredContent"]["processes"]) == 1


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("tools/call", {"name": "rm"}, -32602),
        ("tools/call", {"name": 5}, -32602),
        ("tools/call", None, -32602),
        ("tools/call", {"name": "memory", "arguments": [1]}, -32602),
        ("resources/read", {"uri": "file:///etc/shadow"}, -32002),
        ("prompts/get", {"name": "other"}, -32602),
        ("tools/destroy", None, -32601),
    ],
)
def test_what_is_not_there_is_an_error(server: HostServer, method: str, params: Any, code: int) -> None:
    assert ask(server, method, params)["error"]["code"] == code


def test_the_resource_that_is_listed_can_be_read(server: HostServer) -> None:
    (listed,) = result(server, "resources/list")["resources"]
    (content,) = result(server, "resources/read", {"uri": listed["uri"]})["contents"]
    assert (content["uri"], content["mimeType"]) == (listed["uri"], listed["mimeType"])
    assert "# Memory\n2.9 GiB of 3.8 GiB in use" in content["text"]
    assert result(server, "resources/templates/list") == {"resourceTemplates": []}


def test_the_resource_says_which_part_is_not_there(tmp_path: Path) -> None:
    (content,) = result(HostServer(tmp_path), "resources/read", {"uri": "host://overview"})["contents"]
    assert "# Memory\nthis system has no /proc/meminfo" in content["text"]


def test_the_prompt_that_is_listed_can_be_had_with_and_without_its_argument(server: HostServer) -> None:
    (listed,) = result(server, "prompts/list")["prompts"]
    plain = result(server, "prompts/get", {"name": listed["name"]})["messages"][0]
    assert plain["role"] == "user"
    asked = {"name": listed["name"], "arguments": {"concern": "it is slow"}}
    text = result(server, "prompts/get", asked)["messages"][0]["content"]["text"]
    assert text == f"{plain['content']['text']} Look most closely at this: it is slow"


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'[{"jsonrpc":"2.0","method":"notifications/initialized"}]',
    ],
)
def test_what_wants_no_answer_gets_none(server: HostServer, line: bytes) -> None:
    assert server.answer(line) is None


def test_a_batch_is_answered_as_one(server: HostServer) -> None:
    ping, note, other = ({"id": 1, "method": "ping"}, {"method": "x"}, {"id": 2, "method": "y"})
    batch = [{"jsonrpc": "2.0", **ping}, {"jsonrpc": "2.0", **note}, 5, {"jsonrpc": "2.0", **other}]
    answers = json.loads(server.answer(json.dumps(batch).encode()) or "")
    assert [(answer["id"], answer.get("error", {}).get("code")) for answer in answers] == [
        (1, None), (None, -32600), (2, -32601),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"hello", -32700),
        (b"\xff\xfe", -32700),
        (b"[]", -32600),
        (b'{"id":1}', -32600),
        (Oversized(9), -32600),
    ],
)
def test_what_is_no_message_gets_an_error_and_the_server_goes_on(
    server: HostServer, line: bytes | Oversized, code: int
) -> None:
    assert json.loads(server.answer(line) or "")["error"]["code"] == code
    assert result(server, "ping") == {}


def test_a_bug_in_a_tool_is_one_internal_error_without_details(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(facts: Facts) -> str:
        raise ZeroDivisionError("secret detail")

    server = HostServer(root, {"memory": replace(TOOLS["memory"], text=broken)})
    assert ask(server, "tools/call", {"name": "memory"})["error"] == {
        "code": -32603,
        "message": "internal error",
    }
    captured = capsys.readouterr()
    assert "secret detail" in captured.err
    assert captured.out == "", "stdout belongs to the protocol"
