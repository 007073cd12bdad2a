"""The built-in MCP server `host`: read-only facts of this machine over stdin and stdout.

One thread, one request at a time: each takes milliseconds, the slowest (systemctl, the CPU sample)
is bounded. So it needs no event loop, and stays small. It keeps no state but the negotiated
version, which changes nothing in its answers.
Source: MCP 2025-11-25 (Lifecycle, Tools, Resources, Prompts, Transports: stdio) and its
predecessors back to 2024-11-05; batches are answered because 2025-03-26 has them.
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge import __version__
from edge.errors import BadMessage, RpcError
from edge.host.facts import NotHere
from edge.host.tools import TOOLS, BadArguments, Tool
from edge.proto.framing import LineDecoder, Oversized
from edge.proto.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Message,
    Request,
    decode,
    decode_batch,
    encode_error,
    encode_result,
)
from edge.proto.jsontext import dumps, is_array
from edge.proto.mcp import RESOURCE_NOT_FOUND, negotiate

READ_BYTES = 65536
MAX_LINE_BYTES = 1024 * 1024  # no request to this server is anywhere near

INSTRUCTIONS = (
    "Read-only facts of the machine this server runs on. Start with `overview`; `failed_units`, `disks` and "
    "`memory` show most troubles. Nothing here changes the machine."
)
OVERVIEW = {
    "uri": "host://overview",
    "name": "overview",
    "title": "This machine at a glance",
    "description": "Overview, memory, disks and failed units as text.",
    "mimeType": "text/plain",
}
AT_A_GLANCE = ("overview", "memory", "disks", "failed_units")
CHECK = {
    "name": "check-host",
    "title": "Check this machine",
    "description": "Look at the machine's health and say what needs attention.",
    "arguments": [
        {
            "name": "concern",
            "description": "what to look at most closely, such as: it is slow",
            "required": False,
        }
    ],
}
CHECK_TEXT = (
    "Check the health of this machine with the tools of its `host` server: overview, memory, disks, failed_units, "
    "network, and processes if something is busy. Say first whether anything needs attention now, then the facts "
    "that show it, with numbers. Do not guess at what the tools did not show."
)

Params = Mapping[str, Any]


class HostServer:
    """Answers one message after another; does no input or output of its own."""

    def __init__(self, root: Path = Path("/"), tools: Mapping[str, Tool] = TOOLS) -> None:
        self._root = root
        self._tools = tools
        self._methods: dict[str, Callable[[Params], dict[str, Any]]] = {
            "initialize": self._initialize,
            "ping": lambda params: {},
            "tools/list": lambda params: {"tools": [tool.listed() for tool in tools.values()]},
            "tools/call": self._call_tool,
            "resources/list": lambda params: {"resources": [OVERVIEW]},
            "resources/templates/list": lambda params: {"resourceTemplates": []},
            "resources/read": self._read_resource,
            "prompts/list": lambda params: {"prompts": [CHECK]},
            "prompts/get": self._get_prompt,
        }

    def answer(self, line: bytes | Oversized) -> str | None:
        """The text to send back, None if there is nothing to say to it."""
        if isinstance(line, Oversized):
            return encode_error(None, -32600, f"a message of {line.n_bytes} bytes is too long")
        try:
            text = line.decode()
            if not is_array(text):
                return self._answer_one(decode(text))
            answers = [self._answer_one(message) for message in decode_batch(text) or ()]
        except UnicodeDecodeError:
            return encode_error(None, -32700, "not UTF-8")
        except BadMessage as exc:
            return encode_error(exc.id, exc.code, str(exc))
        said = [answer for answer in answers if answer is not None]
        return f"[{','.join(said)}]" if said else None

    def _answer_one(self, message: Message | BadMessage) -> str | None:
        if isinstance(message, BadMessage):
            return encode_error(message.id, message.code, str(message))
        if not isinstance(message, Request):
            return None
        method = self._methods.get(message.method)
        try:
            if method is None:
                raise RpcError(METHOD_NOT_FOUND, f"there is no method {message.method}")
            return encode_result(message.id, dumps(method(message.params.value if message.params else {})))
        except RpcError as exc:
            return encode_error(message.id, exc.code, exc.message)
        except Exception:  # a bug must not take the server down; the gateway keeps what stderr says
            traceback.print_exc()
            return encode_error(message.id, INTERNAL_ERROR, "internal error")

    def _initialize(self, params: Params) -> dict[str, Any]:
        requested = params.get("protocolVersion")
        return {
            "protocolVersion": negotiate(requested if isinstance(requested, str) else ""),
            "capabilities": {"tools": {}, "resources": {}, "prompts": {}},
            "serverInfo": {"name": "host", "title": "This machine", "version": __version__},
            "instructions": INSTRUCTIONS,
        }

    def _call_tool(self, params: Params) -> dict[str, Any]:
        name, arguments = params.get("name"), params.get("arguments", {})
        tool = self._tools.get(name) if isinstance(name, str) else None
        if tool is None:
            raise RpcError(INVALID_PARAMS, f"there is no tool {name}; there is: {', '.join(self._tools)}")
        if not isinstance(arguments, dict):
            raise RpcError(INVALID_PARAMS, "arguments must be an object")
        try:
            facts = tool.call(self._root, arguments)
        except (BadArguments, NotHere) as exc:  # for the model to read, so a result and no error
            return {"content": [{"type": "text", "text": str(exc)}], "isError": True}
        text = tool.text(facts)
        return {"content": [{"type": "text", "text": text}], "structuredContent": facts, "isError": False}

    def _read_resource(self, params: Params) -> dict[str, Any]:
        if params.get("uri") != OVERVIEW["uri"]:
            raise RpcError(
                RESOURCE_NOT_FOUND, f"there is no resource {params.get('uri')}; there is: {OVERVIEW['uri']}"
            )
        blocks = []
        for name in AT_A_GLANCE:
            tool = self._tools[name]
            try:
                text = tool.text(tool.call(self._root, {}))
            except NotHere as exc:
                text = str(exc)
            blocks.append(f"# {tool.title}\n{text}\n")
        content = {"uri": OVERVIEW["uri"], "mimeType": OVERVIEW["mimeType"], "text": "\n".join(blocks)}
        return {"contents": [content]}

    def _get_prompt(self, params: Params) -> dict[str, Any]:
        if params.get("name") != CHECK["name"]:
            raise RpcError(
                INVALID_PARAMS, f"there is no prompt {params.get('name')}; there is: {CHECK['name']}"
            )
        arguments = params.get("arguments")
        concern = arguments.get("concern") if isinstance(arguments, dict) else None
        text = f"{CHECK_TEXT} Look most closely at this: {concern}" if concern else CHECK_TEXT
        return {
            "description": CHECK["description"],
            "messages": [{"role": "user", "content": {"type": "text", "text": text}}],
        }


def serve(read_fd: int = 0, write_fd: int = 1) -> None:
    """Until stdin ends or nobody reads stdout any more."""
    server = HostServer()
    decoder = LineDecoder(MAX_LINE_BYTES)
    try:
        while chunk := os.read(read_fd, READ_BYTES):
            for line in decoder.feed(chunk):
                answer = server.answer(line)
                if answer is not None:
                    write_all(write_fd, f"{answer}\n".encode())
    except BrokenPipeError:
        return
    except KeyboardInterrupt:  # somebody tries it by hand
        sys.exit(130)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
