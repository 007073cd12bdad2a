"""What clients see, and how names lead back: one view of all servers, one of each alone, one for each group.

A view's key is None (all servers), a server's name, or `@GROUP` for the servers that an uplink publishes as one.
A view has two catalogues. `listed` is what clients are shown: servers that are up, and those that went down
less than GRACE_S ago, so that a restart does not make every client read its lists twice. `routes` also knows
what servers that are down had last: a call there is told that the server is down, not that there is no such tool.
"""

import secrets
from collections.abc import Iterable, Mapping
from operator import is_
from types import MappingProxyType
from typing import Any, NamedTuple

import trio

from edge import __version__
from edge.config.model import GatewayConfig
from edge.parts.upstream import Upstream
from edge.proto.catalog import LIST_CAPABILITIES, Merged, ServerCatalog, Target, alone, merge
from edge.proto.jsontext import dumps

GRACE_S = 10.0
NOBODY: frozenset[str] = frozenset()
EMPTY = ServerCatalog(server="")  # of a server that was never seen


class Sources(NamedTuple):
    """What a view was made from."""

    routes: tuple[ServerCatalog, ...]
    listed: tuple[ServerCatalog, ...]
    is_incomplete: bool

    def is_of(
        self, routes: tuple[ServerCatalog, ...], listed: tuple[ServerCatalog, ...], is_incomplete: bool
    ) -> bool:
        return (
            self.is_incomplete == is_incomplete
            and len(self.routes) == len(routes)
            and len(self.listed) == len(listed)
            and all(map(is_, self.routes, routes))
            and all(map(is_, self.listed, listed))
        )


GROUP_MARK = "@"  # no server's name has it


def group_key(group: str) -> str:
    """The key of the view that the uplink of this name publishes."""
    return GROUP_MARK + group


class View:
    """One endpoint's catalogue; replaced piece by piece by `Views`, never edited by anybody else.

    `server` is the one server's name if it is the view of one.
    """

    __slots__ = ("expected", "key", "listed", "routes")

    def __init__(self, key: str | None, listed: Merged, routes: Merged) -> None:
        self.key = key
        self.listed = listed
        self.routes = routes
        self.expected: tuple[str, ...] = ()

    @property
    def server(self) -> str | None:
        return self.key if self.key is not None and not self.key.startswith(GROUP_MARK) else None

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


def naming(config: GatewayConfig) -> tuple[object, ...]:
    """What names are made by."""
    return config.prefix, config.separator, config.max_name_chars


class Views:
    """All views, rebuilt whenever a server's catalogue changes. `groups` are the servers of each group, by name; None:
    all there are, edges of a hub included.

    A view whose servers' catalogues are the same objects as before is kept as it is: on a hub there are thousands.
    """

    def __init__(
        self, config: GatewayConfig, groups: Mapping[str, frozenset[str] | None] = MappingProxyType({})
    ) -> None:
        self._config = config
        self._groups = {group_key(name): servers for name, servers in groups.items()}
        self._cursor_key = secrets.token_bytes(32)  # cursors need not outlive the process
        self._known: dict[str, ServerCatalog] = {}
        self._down_since: dict[str, float] = {}
        self._in_grace: set[str] = set()  # down, and listed by the views as they are
        empty = self._merge([])
        self._views: dict[str | None, View] = {key: View(key, empty, empty) for key in (None, *self._groups)}
        self._made_from: dict[str | None, Sources] = {}

    def configure(
        self, config: GatewayConfig, groups: Mapping[str, frozenset[str] | None] = MappingProxyType({})
    ) -> None:
        """Go by these from now on: the next `rebuild` makes all views anew where that makes a difference."""
        keyed = {group_key(name): servers for name, servers in groups.items()}
        if keyed == self._groups and naming(config) == naming(self._config):
            self._config = config
            return
        self._config = config
        self._groups = keyed
        self._made_from.clear()
        empty = self._merge([])
        self._views = {
            key: view
            for key, view in self._views.items()
            if key is None or not key.startswith(GROUP_MARK) or key in keyed
        }
        for key in keyed.keys() - self._views.keys():
            self._views[key] = View(key, empty, empty)

    def get(self, key: str | None) -> View | None:
        view = self._views.get(key)
        if view is None and key in self._made_from:
            # Of one server alone: made when it is first asked for, as on a hub there are thousands.
            view = self._views[key] = self._view(key, self._made_from[key])
        return view

    def covers(self, key: str | None, server: str) -> bool:
        """Whether the view of that key shows what this server has."""
        if key is None or key == server:
            return True
        group = self._groups.get(key, NOBODY)
        return group is None or server in group

    def servers_of(self, key: str | None, servers: Iterable[str]) -> list[str]:
        """Those of `servers` that the view of that key covers."""
        return [server for server in servers if self.covers(key, server)]

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
        hidden = self._down_since.keys() - self._in_grace
        fresh: dict[str | None, View] = {}
        changed: dict[str | None, list[str]] = {}
        unseen = [name for name in upstreams if name not in self._known]
        for name in upstreams:
            known = self._known.get(name) or EMPTY
            self._renew(
                name, (known,), () if name in hidden else (known,), name not in self._known, fresh, changed
            )
        for key in (None, *self._groups):
            routes = tuple(c for name, c in self._known.items() if self.covers(key, name))
            listed = tuple(catalog for catalog in routes if catalog.server not in hidden)
            self._renew(key, routes, listed, any(self.covers(key, name) for name in unseen), fresh, changed)
        self._views = fresh
        for gone in self._made_from.keys() - {None, *self._groups, *upstreams}:
            del self._made_from[gone]
        return changed

    def _renew(
        self,
        key: str | None,
        routes: tuple[ServerCatalog, ...],
        listed: tuple[ServerCatalog, ...],
        is_incomplete: bool,
        fresh: dict[str | None, View],
        changed: dict[str | None, list[str]],
    ) -> None:
        """Put the view of `key` into `fresh`, and into `changed` what its clients have to be told."""
        older = self._views.get(key)
        before = self._made_from.get(key)
        # Compared by identity: comparing catalogues would cost as much as merging them.
        is_same = before is not None and before.is_of(routes, listed, is_incomplete)
        if not is_same:
            self._made_from[key] = Sources(routes, listed, is_incomplete)
        if older is None and key is not None and key not in self._groups:
            return
        if older is not None and is_same:
            fresh[key] = older
            return
        view = fresh[key] = self._view(key, self._made_from[key])
        kinds = view.listed.changed_since(older.listed) if older is not None else []
        if kinds:
            changed[key] = kinds

    def _view(self, key: str | None, sources: Sources) -> View:
        routes, listed, is_incomplete = sources
        if key is None or key in self._groups:
            whole = self._merge(list(routes))
            view = View(key, whole if len(listed) == len(routes) else self._merge(list(listed)), whole)
        else:
            empty = ServerCatalog(server=key)
            known = alone(routes[0] if routes[0] is not EMPTY else empty, cursor_key=self._cursor_key)
            view = View(key, known if listed else alone(empty, cursor_key=self._cursor_key), known)
        if is_incomplete:
            # Never seen yet: it may have any list, and clients ask for capabilities only once.
            view.expected = LIST_CAPABILITIES
        return view

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
