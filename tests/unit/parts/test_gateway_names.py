"""Names: what several servers' things are called here, and whose they are when somebody asks for them."""

import json

import pytest
from trio.testing import MockClock

from tests.support.gateway_rig import Asked, Rig, ToolServer, echo, gateway

Clock = MockClock


# -- names


async def names_of(rig: Rig) -> list[str]:
    found = await (await rig.client()).result("tools/list")
    return [tool["name"] for tool in found["tools"]]


def two_servers() -> dict[str, ToolServer]:
    return {"a": ToolServer(both=echo, one=echo), "b": ToolServer(both=echo, two=echo)}


@pytest.mark.parametrize(
    ("prefix", "names", "routes"),
    [
        (
            "always",
            ["a__both", "a__one", "b__both", "b__two"],
            {"a__both": "a", "b__both": "b", "b__two": "b"},
        ),
        ("on-collision", ["a__both", "one", "b__both", "two"], {"a__both": "a", "b__both": "b", "two": "b"}),
        ("never", ["both", "one", "two"], {"both": "a", "one": "a", "two": "b"}),
    ],
)
async def test_names_are_prefixed_as_configured_and_lead_back(
    autojump_clock: Clock, prefix: str, names: list[str], routes: dict[str, str]
) -> None:
    servers = two_servers()
    async with gateway(servers, prefix=prefix) as rig:
        assert await names_of(rig) == names
        client = await rig.client()
        for name, server in routes.items():
            before = servers[server].count("tools/call")
            assert (await client.call(name))["result"]["got"]["name"] == name.rpartition("__")[2]
            assert servers[server].count("tools/call") == before + 1


async def test_one_server_alone_has_its_names_as_they_are(autojump_clock: Clock) -> None:
    async with gateway(two_servers()) as rig:
        client = await rig.client(path="/servers/b/mcp")
        found = await client.result("tools/list")
        assert [tool["name"] for tool in found["tools"]] == ["both", "two"]
        params = '{"name":"both","arguments":{"n":1.0}}'
        answer = await client.ask("tools/call", params)
        assert answer.text == f'{{"jsonrpc":"2.0","id":1,"result":{{"content":[],"got":{params}}}}}'
        assert (await client.ask("tools/call", {"name": "b__both"})).error["code"] == -32602


async def test_a_name_that_is_too_long_is_shortened_and_leads_back(autojump_clock: Clock) -> None:
    long = "x" * 80
    async with gateway(ToolServer(**{long: echo})) as rig:
        [name] = await names_of(rig)
        assert len(name) == 64
        assert (await (await rig.client()).call(name))["result"]["got"]["name"] == long


async def test_methods_we_do_not_know_go_to_a_server_that_is_served_alone(autojump_clock: Clock) -> None:
    server = ToolServer()
    server.answers["vendor/thing"] = '{"n":1.0}'
    async with gateway(server) as rig:
        alone, all_of_them = await rig.client(path="/servers/a/mcp"), await rig.client()
        answer = await alone.ask("vendor/thing", '{"big":9223372036854775808}')
        assert answer.text == '{"jsonrpc":"2.0","id":1,"result":{"n":1.0}}'
        assert (await alone.ask("vendor/thing")).status == 200
        assert server.asked[-2:] == [
            ("vendor/thing", '{"big":9223372036854775808}'),
            ("vendor/thing", None),
        ]
        assert (await all_of_them.ask("vendor/thing", {})).error["code"] == -32601
        assert rig.metrics.methods["unknown"].ends == {"success": 2, "error": 1}


async def test_lists_come_in_pages_with_our_own_cursors(autojump_clock: Clock) -> None:
    servers = {"a": ToolServer(**{f"t{n}": echo for n in range(5)}), "b": ToolServer(x=echo)}
    async with gateway(servers, page_size=2) as rig:
        client, pages, cursor = await rig.client(), [], None
        while True:
            page = await client.result("tools/list", {"cursor": cursor} if cursor else None)
            pages.append([tool["name"] for tool in page["tools"]])
            cursor = page.get("nextCursor")
            if cursor is None:
                break
            foreign = await client.ask("prompts/list", {"cursor": cursor})
            assert foreign.error["code"] == -32602
        assert pages == [["a__t0", "a__t1"], ["a__t2", "a__t3"], ["a__t4", "b__x"]]


# -- prompts, resources, completion


async def test_prompts_are_named_as_tools_are(autojump_clock: Clock) -> None:
    server = ToolServer()
    server.answers["prompts/list"] = '{"prompts":[{"name":"hello"}]}'
    server.by_method["prompts/get"] = echo
    async with gateway(server) as rig:
        client = await rig.client()
        assert (await client.result("prompts/list"))["prompts"] == [{"name": "a__hello"}]
        got = await client.result("prompts/get", {"name": "a__hello", "arguments": {"x": "1"}})
        assert got["got"] == {"name": "hello", "arguments": {"x": "1"}}


async def test_resources_with_one_uri_at_two_servers_are_both_there(autojump_clock: Clock) -> None:
    async def read(asked: Asked) -> str:
        uri = asked.params.value["uri"]
        contents = [{"uri": uri, "text": "x"}, {"uri": "y://other", "text": "z"}]
        return json.dumps({"contents": contents})

    servers = {"a": ToolServer(), "b": ToolServer()}
    for server in servers.values():
        server.list_resources("x://same")
        server.by_method["resources/read"] = read
    async with gateway(servers) as rig:
        client = await rig.client()
        uris = [item["uri"] for item in (await client.result("resources/list"))["resources"]]
        assert uris == ["x://same", "mcp-edge://b/x%3A%2F%2Fsame"]
        for uri, server in zip(uris, servers.values(), strict=True):
            contents = (await client.result("resources/read", {"uri": uri}))["contents"]
            assert [item["uri"] for item in contents] == [uri, "y://other"]
            assert server.asked_for("resources/read") == [{"uri": "x://same"}]


async def test_a_template_leads_to_its_server(autojump_clock: Clock) -> None:
    server = ToolServer()
    server.answers["resources/templates/list"] = (
        '{"resourceTemplates":[{"uriTemplate":"x://{id}","name":"x"}]}'
    )
    server.by_method["resources/read"] = echo
    async with gateway(server) as rig:
        assert (await (await rig.client()).result("resources/read", {"uri": "x://7"}))["got"] == {
            "uri": "x://7"
        }


async def test_a_link_that_a_tool_handed_out_can_be_read(autojump_clock: Clock) -> None:
    async def links(asked: Asked) -> str:
        return '{"content":[{"type":"resource_link","uri":"y://linked","name":"y"}]}'

    servers = {"a": ToolServer(), "b": ToolServer(links=links)}
    servers["b"].by_method["resources/read"] = echo
    async with gateway(servers) as rig:
        client = await rig.client()
        assert (await client.ask("resources/read", {"uri": "y://linked"})).error["code"] == -32002
        await client.call("b__links")
        assert (await client.result("resources/read", {"uri": "y://linked"}))["got"] == {"uri": "y://linked"}


async def test_completion_is_routed_by_what_it_refers_to(autojump_clock: Clock) -> None:
    servers = {"a": ToolServer(), "b": ToolServer()}
    servers["a"].answers["prompts/list"] = '{"prompts":[{"name":"hello"}]}'
    servers["b"].answers["resources/templates/list"] = (
        '{"resourceTemplates":[{"uriTemplate":"x://{id}","name":"x"}]}'
    )
    for server in servers.values():
        server.by_method["completion/complete"] = echo
    async with gateway(servers) as rig:
        client = await rig.client()
        of_prompt = {
            "ref": {"type": "ref/prompt", "name": "a__hello"},
            "argument": {"name": "x", "value": ""},
        }
        got = (await client.result("completion/complete", of_prompt))["got"]
        assert got == of_prompt | {"ref": {"type": "ref/prompt", "name": "hello"}}
        of_template = {"ref": {"type": "ref/resource", "uri": "x://{id}"}, "argument": {}}
        assert (await client.result("completion/complete", of_template))["got"] == of_template
        assert servers["b"].count("completion/complete") == 1
