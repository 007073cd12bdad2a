"""Reads one server's lists, all pages, within bounds, and keeps what was read last.

Source: MCP 2025-11-25, Pagination. The bounds are against a server whose cursors never end.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable

from edge.errors import EdgeError, RemoteProtocolError, RpcError, TimedOut, UpstreamError
from edge.net.http_client import BadAnswer
from edge.parts.server_http import HttpRefused
from edge.printable import cut
from edge.proto.jsonrpc import METHOD_NOT_FOUND
from edge.proto.jsontext import Raw
from edge.proto.listing import KINDS, Item, Kind, ServerCatalog, read_page
from edge.proto.mcp import InitializeResult

PAGE_CAP = 100
MAX_SAID_CHARS = 500  # of a refusal's words
ITEM_CAP = 10_000
LIST_CHARS = 8_388_608  # of its items, and of what is read to get them but for one page more
PROBLEMS_KEPT = 100

Ask = Callable[[str, str | None], Awaitable[Raw]]
"""Method and params to result; raises EdgeError."""


class CatalogLoader:
    """Lists by kind, and the catalogue made of them."""

    def __init__(self, server: str, init: InitializeResult, log: logging.Logger) -> None:
        self._server = server
        self._init = init
        self._log = log
        self._items: dict[Kind, tuple[Item, ...]] = {}
        self._problems: dict[Kind, tuple[str, ...]] = {}
        self._unread: dict[Kind, str] = {}  # why not, of those whose last reading failed
        self._said: dict[Kind, str] = {}  # what the log has of failures that are not over

    @property
    def problem(self) -> str | None:
        """Why a list could not be read the last time, None if all could. A list that the server does not have, though
        its capabilities say so, is no trouble."""
        return next((f"{kind.list_method}: {reason}" for kind, reason in self._unread.items()), None)

    def renewed(self, init: InitializeResult) -> None:
        """A new session: its capabilities count from now on."""
        self._init = init

    def catalog(self) -> ServerCatalog:
        return ServerCatalog(
            server=self._server,
            capabilities=self._init.capabilities,
            server_info=self._init.server_info,
            instructions=self._init.instructions,
            tools=self._items.get(Kind.TOOLS, ()),
            prompts=self._items.get(Kind.PROMPTS, ()),
            resources=self._items.get(Kind.RESOURCES, ()),
            templates=self._items.get(Kind.TEMPLATES, ()),
            dropped=tuple(problem for kind in KINDS for problem in self._problems.get(kind, ())),
        )

    async def load(self, kinds: Iterable[Kind], ask: Ask) -> bool:
        """Read these lists again. A list that fails keeps what it had and makes the answer False.

        Raises what says that the server is not there: Gone (but for a BadAnswer), Unavailable, SessionLost.
        """
        is_good = True
        for kind in kinds:
            if not isinstance(self._init.capabilities.get(kind.capability), dict):
                self._items.pop(kind, None)
                self._problems.pop(kind, None)
                self._unread.pop(kind, None)
                continue
            try:
                await self._load_one(kind, ask)
            except (RpcError, TimedOut, RemoteProtocolError, HttpRefused, BadAnswer) as exc:
                if kind is Kind.TEMPLATES and isinstance(exc, RpcError) and exc.code == METHOD_NOT_FOUND:
                    continue  # no word in the capabilities tells templates from resources
                is_good = False
                self._note_failure(kind, exc)
            else:
                self._unread.pop(kind, None)
                self._said.pop(kind, None)
        return is_good

    def _note_failure(self, kind: Kind, exc: EdgeError) -> None:
        """Said only when it is news: it is tried again and again."""
        reason = exc.text if isinstance(exc, UpstreamError) else cut(str(exc), MAX_SAID_CHARS)
        if isinstance(exc, RpcError) and exc.code == METHOD_NOT_FOUND:
            self._unread.pop(kind, None)
        else:
            self._unread[kind] = reason
        extra = {"server": self._server, "list": kind.value, "reason": reason}
        if self._said.get(kind) != reason:
            self._log.warning("list could not be read", extra=extra)
        self._said[kind] = reason

    async def _load_one(self, kind: Kind, ask: Ask) -> None:
        items: dict[str, Item] = {}  # by key: the first of equal ones stays
        problems: list[str] = []
        cursors: set[str] = set()
        cursor: str | None = None
        chars_read = chars_kept = 0
        for _ in range(PAGE_CAP):
            params = None if cursor is None else f'{{"cursor":{cursor}}}'
            answer = await ask(kind.list_method, params)
            chars_read += len(answer.text)
            page = read_page(kind, answer)
            problems += page.problems[:PROBLEMS_KEPT]
            for item in page.items:
                chars_kept += len(item.text)
                if chars_kept > LIST_CHARS:
                    break
                if items.setdefault(item.key, item) is not item:
                    problems.append(f"{kind.noun} {cut(item.key, 80)!r}: listed twice; the first one counts")
            if chars_kept > LIST_CHARS or (chars_read > LIST_CHARS and page.next_cursor is not None):
                problems.append(
                    f"{kind.list_method}: more than {LIST_CHARS} characters; the rest is left out"
                )
                break
            cursor = page.next_cursor
            if cursor is None:
                break
            if len(items) >= ITEM_CAP:
                problems.append(f"{kind.list_method}: more than {ITEM_CAP} items; the rest is left out")
                break
            if cursor in cursors:
                problems.append(f"{kind.list_method}: a cursor came again; taken as the end of the list")
                break
            cursors.add(cursor)
        else:
            problems.append(f"{kind.list_method}: more than {PAGE_CAP} pages; the rest is left out")
        found, kept = tuple(items.values())[:ITEM_CAP], tuple(problems[:PROBLEMS_KEPT])
        if kept != self._problems.get(kind, ()):
            for problem in kept:
                self._log.warning(
                    "part of a list left out", extra={"server": self._server, "reason": problem}
                )
        self._items[kind], self._problems[kind] = found, kept
