"""What clients want of a server beyond single calls: subscriptions and a log level, kept over restarts."""

import logging
from collections.abc import Mapping
from typing import Any

from edge.errors import RpcError, TimedOut
from edge.net.http_client import BadAnswer
from edge.parts.catalog_loader import Ask
from edge.parts.server_http import HttpRefused
from edge.proto.jsontext import dumps

MAX_URIS = 10_000


class Desired:
    """The wishes; `replay` tells them to a server that has just been initialized."""

    def __init__(self, server: str, log: logging.Logger) -> None:
        self._server = server
        self._log = log
        self.uris: dict[str, None] = {}
        self.level: str | None = None

    async def replay(self, capabilities: Mapping[str, Any], ask: Ask) -> None:
        """A wish that is refused is logged, and kept for the next time. Raises if the server is not there.

        After one that is not answered in time, the server is not told the rest.
        """
        wishes: list[tuple[str, str]] = []
        if self.level is not None and "logging" in capabilities:
            wishes.append(("logging/setLevel", level_params(self.level)))
        if can_subscribe(capabilities):
            wishes += [("resources/subscribe", uri_params(uri)) for uri in self.uris]
        for method, params in wishes:
            if not await self._tell(ask, method, params):
                return  # thousands of wishes, each for its whole time limit, would keep the server down

    async def _tell(self, ask: Ask, method: str, params: str) -> bool:
        """False if there was no answer in time."""
        try:
            await ask(method, params)
        except (RpcError, TimedOut, HttpRefused, BadAnswer) as exc:
            extra = {"server": self._server, "method": method, "reason": str(exc)}
            self._log.info("server refused what the last one had accepted", extra=extra)
            return not isinstance(exc, TimedOut)
        return True


def can_subscribe(capabilities: Mapping[str, Any]) -> bool:
    resources = capabilities.get("resources")
    return isinstance(resources, dict) and resources.get("subscribe") is True


def uri_params(uri: str) -> str:
    return dumps({"uri": uri})


def level_params(level: str) -> str:
    return dumps({"level": level})
