"""Drives a gateway with the official Python SDK 1.x and prints what it saw as one JSON object.

usage: python1.py URL SERVER   (SERVER: the name under which server-everything is published)
"""

import asyncio
import json
import sys
from typing import Any

from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamablehttp_client
from pydantic import AnyUrl


async def main(url: str, server: str) -> dict[str, Any]:
    seen: dict[str, Any] = {"logs": 0, "updated": [], "list_changed": 0}
    heard = asyncio.Condition()

    async def on_log(params: types.LoggingMessageNotificationParams) -> None:
        async with heard:
            seen["logs"] += 1
            heard.notify_all()

    async def on_message(message: Any) -> None:
        if not isinstance(message, types.ServerNotification):
            return
        async with heard:
            match message.root:
                case types.ResourceUpdatedNotification():
                    seen["updated"].append(str(message.root.params.uri))
                case types.ToolListChangedNotification():
                    seen["list_changed"] += 1
            heard.notify_all()

    async def until(ready: Any) -> None:
        async with heard:
            await asyncio.wait_for(heard.wait_for(ready), 30)

    async with (
        streamablehttp_client(url) as (reading, writing, _),
        ClientSession(reading, writing, logging_callback=on_log, message_handler=on_message) as session,
    ):
        hello = await session.initialize()
        seen["version"], seen["name"] = hello.protocolVersion, hello.serverInfo.name
        seen["tools"] = [tool.name for tool in (await session.list_tools()).tools]
        seen["resources"] = [str(one.uri) for one in (await session.list_resources()).resources]
        templates = (await session.list_resource_templates()).resourceTemplates
        seen["templates"] = [one.uriTemplate for one in templates]
        seen["prompts"] = [prompt.name for prompt in (await session.list_prompts()).prompts]

        said = await session.call_tool(f"{server}__echo", {"message": "hello"})
        seen["echo"] = said.content[0].text
        structured = await session.call_tool(f"{server}__get-structured-content", {"location": "New York"})
        seen["structured"] = structured.structuredContent
        dynamic = await session.read_resource(AnyUrl(filled_in(seen["templates"], server)))
        seen["read"] = dynamic.contents[0].text
        prompt = await session.get_prompt(f"{server}__args-prompt", {"city": "Paris"})
        seen["prompt"] = prompt.messages[0].content.text
        reference = types.PromptReference(type="ref/prompt", name=f"{server}__completable-prompt")
        completion = await session.complete(reference, {"name": "department", "value": "E"})
        seen["completion"] = completion.completion.values

        steps: list[float] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            steps.append(progress)

        await session.call_tool(
            f"{server}__trigger-long-running-operation",
            {"duration": 0.2, "steps": 4},
            progress_callback=on_progress,
        )
        seen["progress"] = steps

        await session.set_logging_level("debug")
        await session.call_tool(f"{server}__toggle-simulated-logging", {})
        await until(lambda: seen["logs"] > 0)
        await session.call_tool(f"{server}__toggle-simulated-logging", {})

        static = seen["subscribed"] = first_of(seen["resources"], server)
        await session.subscribe_resource(AnyUrl(static))
        await session.call_tool(f"{server}__toggle-subscriber-updates", {})
        await until(lambda: seen["updated"])
        await session.call_tool(f"{server}__toggle-subscriber-updates", {})
        await session.unsubscribe_resource(AnyUrl(static))

        await session.call_tool("toy__change", {})
        await until(lambda: seen["list_changed"] > 0)
        seen["tools_after"] = [tool.name for tool in (await session.list_tools()).tools]

        # The SDK 1.x leaves cancellation to its caller, who has to know the request's id. The server tells its
        # progress when it has the call: only then is there something to cancel.
        begun = asyncio.Event()

        async def on_begun(progress: float, total: float | None, message: str | None) -> None:
            begun.set()

        sleeping = asyncio.create_task(session.call_tool("toy__sleep", {"s": 60}, progress_callback=on_begun))
        await asyncio.wait_for(begun.wait(), 30)
        params = types.CancelledNotificationParams(requestId=session._request_id - 1, reason="test")
        cancelled = types.CancelledNotification(params=params)
        await session.send_notification(types.ClientNotification(cancelled))
        while not (told := json.loads((await session.call_tool("toy__cancelled", {})).content[0].text)):
            pass
        seen["cancelled_at_server"] = len(told)
        sleeping.cancel()

        many = await asyncio.gather(*(session.call_tool("toy__echo", {"text": str(n)}) for n in range(50)))
        seen["fifty"] = [one.content[0].text for one in many] == [str(n) for n in range(50)]
        big = await session.call_tool("toy__big", {"bytes": 4_000_000})
        seen["big"] = len(big.content[0].text)
        try:
            await session.call_tool("no__such", {})
        except McpError as exc:
            seen["unknown_tool"] = exc.error.code
        moment = await session.call_tool("time__get_current_time", {"timezone": "UTC"})
        seen["time"] = json.loads(moment.content[0].text)["timezone"]
        await session.send_ping()
    return seen


def first_of(uris: list[str], server: str) -> str:
    """The first resource of that server: where several have the same URI, only one server keeps it."""
    renamed = [uri for uri in uris if uri.startswith(f"mcp-edge://{server}/")]
    return renamed[0] if renamed else next(uri for uri in uris if uri.startswith("demo:"))


def filled_in(templates: list[str], server: str) -> str:
    """A resource made by the server's text template."""
    base = f"mcp-edge://{server}/="
    prefix = base if any(template.startswith(base) for template in templates) else ""
    return f"{prefix}demo://resource/dynamic/text/1"


print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
