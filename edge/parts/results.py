"""The little that the gateway reads in results: resource links, and contents under a URI it renamed."""

from collections import OrderedDict
from typing import Any

from edge.proto.jsontext import Raw, dumps, elements, members, replace_members

MAX_LINKS = 4096
MAX_URI_CHARS = 4096  # of one that is remembered


class Links:
    """Which server handed out a resource link, for resources that no list names. Least recently learnt goes first."""

    def __init__(self) -> None:
        self._server: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._server)

    def learn(self, server: str, result: Any) -> None:
        content = result.get("content") if isinstance(result, dict) else None
        if not isinstance(content, list):
            return
        for block in content:
            if (
                isinstance(block, dict)
                and block.get("type") == "resource_link"
                and isinstance(block.get("uri"), str)
                and len(block["uri"]) <= MAX_URI_CHARS
            ):
                self._server[block["uri"]] = server
                self._server.move_to_end(block["uri"])
                if len(self._server) > MAX_LINKS:
                    self._server.popitem(last=False)

    def server_of(self, uri: str) -> str | None:
        return self._server.get(uri)


def with_published_uris(result: Raw, uri: str, published: str) -> str:
    """The text of a resources/read result with `uri` called `published` in its contents."""
    if not isinstance(result.value, dict) or not isinstance(result.value.get("contents"), list):
        return result.text
    span = members(result.text)["contents"]
    contents = [
        replace_members(item.text, {"uri": dumps(published)})
        if isinstance(item.value, dict) and item.value.get("uri") == uri
        else item.text
        for item in elements(result.text[span.start : span.end])
    ]
    return replace_members(result.text, {"contents": f"[{','.join(contents)}]"})
