"""A client made with the official Python SDK 1.x: URL, tool and arguments as JSON; prints the answer's text."""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main(url: str, tool: str, arguments: str) -> None:
    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        listed = {tool.name for tool in (await session.list_tools()).tools}
        assert tool in listed, listed
        result = await session.call_tool(tool, json.loads(arguments))
        assert not result.isError, result
        print(result.content[0].text, end="")


asyncio.run(main(*sys.argv[1:]))
