"""A client made with the official Python SDK 1.x that answers what servers ask.

Arguments: URL, and calls as JSON, `[[tool, arguments], ...]`. Prints as JSON what it was asked, by method, and the
text that each call was answered with.
"""

import asyncio
import json
import sys

from mcp import ClientSession, types
from mcp.client.streamable_http import streamablehttp_client

asked = {}


async def sample(context, params):
    asked["sampling/createMessage"] = params.messages[0].content.text
    content = types.TextContent(type="text", text="warm")
    return types.CreateMessageResult(role="assistant", content=content, model="tests", stopReason="endTurn")


async def elicit(context, params):
    asked["elicitation/create"] = params.message
    return types.ElicitResult(action="accept", content={"valve": "V7"})


async def list_roots(context):
    asked["roots/list"] = ""
    return types.ListRootsResult(roots=[types.Root(uri="file:///plant", name="plant")])


async def main(url: str, calls: str) -> None:
    answered = []
    async with (
        streamablehttp_client(url) as (read, write, _),
        ClientSession(
            read, write, sampling_callback=sample, elicitation_callback=elicit, list_roots_callback=list_roots
        ) as session,
    ):
        await session.initialize()
        for tool, arguments in json.loads(calls):
            result = await session.call_tool(tool, arguments)
            assert not result.isError, result
            answered.append("\n".join(block.text for block in result.content))
    print(json.dumps({"asked": asked, "answered": answered}))


asyncio.run(main(*sys.argv[1:]))
