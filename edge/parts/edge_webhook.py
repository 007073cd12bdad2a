"""Asks a service of the operator's whose token it is that an edge shows.

POST with a JSON object: `token`, `name` (what the edge wants to be called; null if it says that later), `dialect`,
`peer`. 200 with `{"edge": NAME}`, or `{"edge": NAME, "dialects": [...]}`, is a yes; 401 and 403 are a no; anything
else means that it cannot be told, and the edge is asked to come again. Nothing is remembered: who is let in keeps
the link, and a token that is withdrawn is refused at the next connection.
"""

import json
import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import trio

from edge.config.hub import HubWebhook
from edge.errors import EdgeError
from edge.gate.edge_auth import Denied, Edge, TokenAuth
from edge.net.file_reader import FileReader
from edge.net.http_client import USER_AGENT
from edge.net.tls import client_context

AT_ONCE = 16
MAX_WAITING = 256  # beside those
MAX_ANSWER_BYTES = 65_536

REFUSED = Denied("webhook_refused", "this token is not known here")
FAILED = Denied("webhook_failed", "whether this token is good cannot be told at the moment")

log = logging.getLogger("edge.hub")


class EdgeWebhook:
    """One service. `auth` says what a name may be, and do."""

    def __init__(
        self,
        config: HubWebhook,
        auth: TokenAuth,
        *,
        transport: Callable[[], httpx.AsyncBaseTransport | None] = lambda: None,
    ) -> None:
        self._config = config
        self._auth = auth
        self._transport = transport
        self._places = trio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._client: httpx.AsyncClient | None = None
        self._files = FileReader()
        self._last_problem = ""
        self._is_retired = False

    def update(self, auth: TokenAuth) -> None:
        """Names are judged by this from now on."""
        self._auth = auth

    def retire(self) -> None:
        """It is out of force: what waits in line is not asked any more, and what is open ends within `timeout_s`."""
        self._is_retired = True

    async def judge(self, token: str, name: str | None, dialect: str, peer: str) -> Edge | Denied:
        """Whose token it is. Bounded: at most AT_ONCE questions are open, each for `timeout_s`."""
        if self._waiting >= AT_ONCE + MAX_WAITING:
            return self._failed("too many questions wait")
        self._waiting += 1
        try:
            async with self._places:
                if self._is_retired:
                    return FAILED
                return await self._ask({"token": token, "name": name, "dialect": dialect, "peer": peer})
        finally:
            self._waiting -= 1

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _ask(self, question: dict[str, Any]) -> Edge | Denied:
        try:
            with trio.move_on_after(self._config.timeout_s) as limit:
                status, body = await self._exchange(question)
        except (httpx.HTTPError, EdgeError) as exc:  # EdgeError: `ca_file` can no longer be read
            return self._failed(f"{type(exc).__name__}: {exc}")
        if limit.cancelled_caught:
            return self._failed(f"no answer in {self._config.timeout_s:g} s")
        if status in (401, 403):
            return REFUSED
        if status != 200:
            return self._failed(f"HTTP {status}")
        verdict = self._read(body)
        if verdict is None:
            return self._failed("its answer is no JSON object with a name in edge")
        self._last_problem = ""
        return verdict

    async def _exchange(self, question: dict[str, Any]) -> tuple[int, bytes]:
        if self._client is None:
            context = await self._trust()
            if self._client is None:  # another question may have been faster
                self._client = self._new_client(context)
        asked = json.dumps(question).encode()  # in ASCII: an edge's words may hold what UTF-8 cannot
        async with self._client.stream("POST", self._config.url, content=asked) as response:
            body = b""
            async for chunk in response.aiter_bytes():  # to its end, which `timeout_s` bounds
                if len(body) <= MAX_ANSWER_BYTES:
                    body += chunk
            return (502, b"") if len(body) > MAX_ANSWER_BYTES else (response.status_code, body)

    async def _trust(self) -> ssl.SSLContext:
        if self._config.ca_file is None:
            return client_context()
        return await self._files.read(partial(client_context, self._config.ca_file), self._config.timeout_s)

    def _new_client(self, context: ssl.SSLContext) -> httpx.AsyncClient:
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        if self._config.bearer is not None:
            headers["Authorization"] = f"Bearer {self._config.bearer.reveal()}"
        return httpx.AsyncClient(
            timeout=self._config.timeout_s,
            verify=context,
            transport=self._transport(),
            headers=headers,
            follow_redirects=False,
            trust_env=False,  # a proxy on the way would see edges' tokens, and could let anybody in
        )

    def _read(self, body: bytes) -> Edge | Denied | None:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(answer, dict) or not isinstance(answer.get("edge"), str):
            return None
        dialects = answer.get("dialects")
        if dialects is None:
            return self._auth.named(answer["edge"])
        if not isinstance(dialects, list) or not all(isinstance(dialect, str) for dialect in dialects):
            return None
        return self._auth.named(answer["edge"], frozenset(dialects))

    def _failed(self, problem: str) -> Denied:
        """Said when it is news: while the service is down every edge asks."""
        level = logging.WARNING if problem != self._last_problem else logging.DEBUG
        self._last_problem = problem
        log.log(level, "webhook failed", extra={"url": self._config.shown_url, "reason": problem})
        return FAILED
