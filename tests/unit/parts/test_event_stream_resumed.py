"""A client that comes back for more than is kept: it gets what is left, the answer above all."""

from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.gateway_client import as_bytes, request
from tests.support.gateway_rig import Asked, ToolServer, gateway


async def test_an_answer_is_fetched_though_the_progress_before_it_is_gone(autojump_clock: MockClock) -> None:
    async def count(asked: Asked) -> str:  # more steps than a session keeps events
        for step in range(600):
            await asked.progress(str(step))
        return '{"content":[]}'

    async with gateway(ToolServer(count=count)) as rig:
        client = await rig.client()
        await client.send(
            "POST", as_bytes(request("tools/call", '{"name":"a__count","_meta":{"progressToken":1}}'))
        )
        first = await (await client.stream()).event()
        await client.leave()
        await wait_all_tasks_blocked()

        rest = await (await rig.again(client).listen(first.id)).rest()

    assert rest[-1] == {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
