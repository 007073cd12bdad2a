"""What a server may ask of its client, and whether that client has said that it answers such things.

Source: MCP 2025-11-25, Sampling, Elicitation, Roots, and Lifecycle (capability negotiation).
"""

from typing import Any, Final

from edge.errors import RpcError
from edge.proto.jsonrpc import METHOD_NOT_FOUND, Request

CAPABILITY_OF: Final = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}
"""The requests that are passed on to a client, and what it declares to get them."""

OFFERED: Final[dict[str, dict[str, object]]] = {"sampling": {}, "elicitation": {}, "roots": {}}
"""What servers are told: clients come and go, so some of them may be able to answer.

Only what all revisions and all such clients have in common: forms without URLs, sampling without tools or context,
roots of which nobody says that they changed.
"""


def declared_in(params: dict[str, Any]) -> frozenset[str]:
    """What a client's `initialize` says that it can be asked, by the capabilities' names."""
    capabilities = params.get("capabilities")
    if not isinstance(capabilities, dict):
        return frozenset()
    return frozenset(name for name in OFFERED if isinstance(capabilities.get(name), dict))


def check_declared(declared: frozenset[str], request: Request) -> None:
    """Raises RpcError if a client that declared this much is not to get `request`."""
    capability = CAPABILITY_OF[request.method]
    if capability not in declared:
        raise RpcError(METHOD_NOT_FOUND, f"the client has not declared the capability {capability}")
