"""`POST /-/reload`: who may ask for a reload, how it is asked for, and the verdict as JSON.

`?plan` only says what would happen; `?confirm_s=N` takes it back if what was good is not good again in time. Over TCP
a token is asked for, and without one in the config nobody has it; over a Unix socket the file's mode says who may.
"""

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from edge.config.secrets import Secret
from edge.errors import EdgeError
from edge.gate.edge_auth import bearer_of
from edge.net.http_server import HttpRequest, Refusal, Reply
from edge.printable import cut

PATH = "/-/reload"
MAX_CONFIRM_S = 3600.0
NO_STORE = ("Cache-Control", "no-store")

Reload = Callable[[bool, float], Awaitable[tuple[int, Mapping[str, Any]]]]
"""Plan only, and seconds to confirm in; gives status and verdict. Raises EdgeError if it cannot even be tried."""


class ReloadDesk:
    """`token` None: callers over TCP are refused."""

    def __init__(self, reload: Reload, token: Secret | None) -> None:
        self._reload = reload
        self.token = token

    def admit(self, head: HttpRequest) -> tuple[int, str] | None:
        """Status and reason if this request is refused."""
        if head.method != "POST":
            return 405, "a reload is asked for with POST"
        if head.peer == "unix":
            return None
        if self.token is None:
            return (
                403,
                "set admin.reload_token_file to reload over TCP; on this machine there is `mcp-edge reload`",
            )
        offered = bearer_of(head.headers.get("authorization")) or ""
        if not hmac.compare_digest(offered.encode(), self.token.reveal().encode()):
            return 401, "the reload token is needed: Authorization: Bearer TOKEN"
        return None

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        try:
            plan, confirm_s = options_of(request.query)
            status, verdict = await self._reload(plan, confirm_s)
        except ValueError as exc:
            status, verdict = 400, {"result": "refused", "problems": [{"place": "query", "text": str(exc)}]}
        except EdgeError as exc:
            status, verdict = 503, {"result": "refused", "problems": [{"place": "", "text": str(exc)}]}
        body = json.dumps(verdict, ensure_ascii=False, indent=2) + "\n"
        await reply.send(status, body.encode(), "application/json", headers=(NO_STORE,))


def options_of(query: str) -> tuple[bool, float]:
    """`plan` and `confirm_s`. Raises: ValueError."""
    found = parse_qs(query, keep_blank_values=True, max_num_fields=8)
    if unknown := sorted(found.keys() - {"plan", "confirm_s"}):
        raise ValueError(f"there is no {cut(unknown[0], 40)!r}; there are plan and confirm_s=SECONDS")
    plan = found.get("plan", ["0"])[-1] in ("", "1", "true")
    text = found.get("confirm_s", ["0"])[-1]
    try:
        confirm_s = float(text)
    except ValueError:
        confirm_s = -1.0
    if not 0 <= confirm_s <= MAX_CONFIRM_S:
        raise ValueError(f"confirm_s must be from 0 to {MAX_CONFIRM_S:g} seconds")
    return plan, confirm_s


class ControlFace:
    """Handler of the control socket: `POST /-/reload`, and nothing else."""

    def __init__(self, desk: ReloadDesk) -> None:
        self._desk = desk

    def admit(self, head: HttpRequest) -> Refusal | None:
        if head.path != PATH:
            return self.refusal(404, f"there is: {PATH}")
        refused = self._desk.admit(head)
        return None if refused is None else self.refusal(*refused)

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        await self._desk.handle(request, reply)

    def refusal(self, status: int, text: str) -> Refusal:
        return Refusal(status, f"{text}\n".encode(), "text/plain; charset=utf-8", headers=(NO_STORE,))
