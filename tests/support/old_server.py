"""An MCP server of 2024-11-05, HTTP+SSE: each stream is a session, and names a place of its own to post to."""

import itertools
from typing import Any

from tests.support.http_server_toys import Answer, Got, ToyServer, response

RESULTS: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2024-11-05",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "old", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "work", "inputSchema": {"type": "object"}}]},
    "tools/call": {"content": []},
    "ping": {},
}


class OldServer(ToyServer):
    """At `path`. A POST there is refused, as such servers do it."""

    def __init__(self, path: str) -> None:
        super().__init__(self._answer)
        self._path = path
        self._numbers = itertools.count()
        self._streams: dict[str, Answer] = {}

    @property
    def sessions(self) -> set[str]:
        """Of the streams that are open."""
        return set(self._streams)

    async def _answer(self, got: Got, answer: Answer) -> None:
        if got.method == "GET":
            place = f"{self._path}/messages/{next(self._numbers)}"
            self._streams[place] = answer
            try:
                await answer.start_events()
                await answer.chunk(f"event: endpoint\ndata: {place}\n\n".encode())
                await answer.wait_client_gone()
            finally:
                del self._streams[place]
        elif got.target not in self._streams:
            await answer.send(405 if got.target == self._path else 404)
        else:
            await answer.send(202)
            message = got.message
            if "id" in message and got.target in self._streams:
                result = RESULTS[message["method"]]
                await self._streams[got.target].event(response(message["id"], result))
