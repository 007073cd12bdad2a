"""What clients see, and how names lead back: one view of all servers, and one of each alone.

A view has two catalogues. `listed` is what clients are shown: servers that are up, and those that went down
less than GRACE_S ago, so that a restart does not make every client read its lists twice. `routes` also knows
what servers that are down had last: a call there is told that the server is down, not that there is no such tool.
"""

import secrets
from collections.abc import Mapping
from typing import Any

import trio

from edge import __version__
from edge.config.model import GatewayConfig
from edge.parts.upstream import Upstream
from edge.proto.catalog import LIST_CAPABILITIES, Merged, ServerCatalog, Target, alone, merge
from edge.proto.jsontext import dumps

GRACE_S = 10.0


class View:
    """One endpoint's catalogue; replaced piece by piece by `Views`, never edited by anybody else."""

    __slots__ = ("expected", "listed", "name", "routes")

    def __init__(self, name: str | None, listed: Merged, routes: Merged) -> None:
        self.name = name
        self.listed = listed
        self.routes = routes
        self.expected: tuple[str, ...] = ()

    # A name means what the list says. Without one server's names another's may be shown differently (they no longer
    # collide), so `listed` comes first; and what a client read before that is still known to `routes`.

    def tool(self, name: str) -> Target | None:
        return self.listed.tool(name) or self.routes.tool(name)

    def prompt(self, name: str) -> Target | None:
        return self.listed.prompt(name) or self.routes.prompt(name)

    def resource(self, uri: str) -> Target | None:
        return self.listed.resource(uri) or self.routes.resource(uri)

    def completion(self, ref: Mapping[str, Any]) -> tuple[Target, dict[str, str | None]] | None:
        return self.listed.completion(ref) or self.routes.completion(ref)

    def introduction(self, version: str) -> str:
        """The result of `initialize` as JSON text."""
        instructions = self.routes.instructions()
        text = (
            f'{{"protocolVersion":{dumps(version)},"capabilities":{self.routes.capabilities(expected=self.expected)},'
            f'"serverInfo":{{"name":"mcp-edge","version":{dumps(__version__)}}}'
        )
        return text + (f',"instructions":{dumps(instructions)}}}' if instructions is not None else "}")


class Views:
    """All views, rebuilt as a whole whenever a server's catalogue changes."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._cursor_key = secrets.token_bytes(32)  # cursors need not outlive the process
        self._known: dict[str, ServerCatalog] = {}
        self._down_since: dict[str, float] = {}
        self._in_grace: set[str] = set()  # down, and listed by the views as they are
        self._views: dict[str | None, View] = {None: View(None, self._merge([]), self._merge([]))}

    def get(self, name: str | None) -> View | None:
        return self._views.get(name)

    @property
    def is_outdated(self) -> bool:
        """Whether a server is still listed whose grace is over: `rebuild` is due."""
        now = trio.current_time()
        return any(now - self._down_since[name] > GRACE_S for name in self._in_grace)

    def rebuild(self, upstreams: Mapping[str, Upstream]) -> dict[str | None, list[str]]:
        """Take the servers' catalogues as they are now; what changed for the clients of which view.

        No checkpoint: a request sees all of the old views or all of the new ones.
        """
        now = trio.current_time()
        self._known = {name: catalog for name, catalog in self._known.items() if name in upstreams}
        self._down_since = {name: since for name, since in self._down_since.items() if name in upstreams}
        for name, upstream in upstreams.items():
            if upstream.is_ready:
                self._known[name] = upstream.catalog
                self._down_since.pop(name, None)
            elif name in self._known:
                self._down_since.setdefault(name, now)
        self._in_grace = {name for name, since in self._down_since.items() if now - since <= GRACE_S}
        listed = [
            catalog
            for name, catalog in self._known.items()
            if name not in self._down_since or name in self._in_grace
        ]
        routes = self._merge(list(self._known.values()))
        fresh: dict[str | None, View] = {None: View(None, routes, routes)}
        if len(listed) < len(self._known):
            fresh[None] = View(None, self._merge(listed), routes)
        shown = {catalog.server for catalog in listed}
        for name in upstreams:
            known = alone(self._known.get(name, ServerCatalog(server=name)), cursor_key=self._cursor_key)
            hidden = alone(ServerCatalog(server=name), cursor_key=self._cursor_key)
            fresh[name] = View(name, known if name in shown else hidden, known)
        return self._replace(fresh, unknown=[name for name in upstreams if name not in self._known])

    def _replace(self, fresh: dict[str | None, View], unknown: list[str]) -> dict[str | None, list[str]]:
        changed: dict[str | None, list[str]] = {}
        for name, view in fresh.items():
            if name in unknown or (name is None and unknown):
                # Never seen yet: it may have any list, and clients ask for capabilities only once.
                view.expected = LIST_CAPABILITIES
            older = self._views.get(name)
            kinds = view.listed.changed_since(older.listed) if older is not None else []
            if kinds:
                changed[name] = kinds
        self._views = fresh
        return changed

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be published as the servers have it."""
        return self._views[None].routes.problems

    def _merge(self, catalogs: list[ServerCatalog]) -> Merged:
        config = self._config
        return merge(
            catalogs,
            cursor_key=self._cursor_key,
            prefix=config.prefix,
            separator=config.separator,
            max_name_chars=config.max_name_chars,
        )
