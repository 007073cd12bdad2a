"""Who wants to hear about which resource: clients' subscriptions, counted, and one per server behind them.

The first subscriber of a resource subscribes us at its server, the last one to leave unsubscribes us; a server
that restarts is subscribed again by its `Upstream`. Deliveries go to sessions that subscribed to the URI itself
or to a parent of it by path (MCP 2025-11-25, Resources: an update may name a sub-resource).
"""

from collections.abc import Container, Iterator

from edge.errors import RpcError
from edge.parts.sessions import LiveSession
from edge.parts.upstream import Upstream
from edge.proto.mcp import INVALID_PARAMS

MAX_URI_CHARS = 4096

Interest = tuple[str, str]
"""Server name and the URI as that server knows it."""


class Subscriptions:
    """Counts interests. Tables are bounded by sessions times subscriptions a session (proto/session.py)."""

    def __init__(self) -> None:
        self._sessions: dict[Interest, dict[LiveSession, str]] = {}
        self._of: dict[LiveSession, set[Interest]] = {}
        self._unwanted: dict[str, set[str]] = {}  # by server: URIs that it has yet to be told about

    def __len__(self) -> int:
        return len(self._sessions)

    async def add(self, session: LiveSession, upstream: Upstream, uri: str, published: str) -> None:
        """Subscribe; raises what the server answers, and then nothing is remembered that was not before."""
        if len(uri) > MAX_URI_CHARS:
            raise RpcError(INVALID_PARAMS, f"params.uri may have {MAX_URI_CHARS} characters")
        interest = (upstream.name, uri)
        known = session in self._sessions.get(interest, {})
        # Entered before the server is asked: an update may come before its answer does.
        self._enter(session, interest, published)
        accepted = known
        try:
            await upstream.subscribe(uri)
            accepted = True
        finally:
            if not accepted:
                self._leave(session, interest)

    def known_as(self, session: LiveSession, published: str) -> list[Interest]:
        """What this session subscribed to under that URI."""
        return [one for one in self._of.get(session, ()) if self._sessions[one].get(session) == published]

    async def remove(self, session: LiveSession, interest: Interest, upstream: Upstream | None) -> None:
        """Unsubscribe; `upstream` is the server's, None if it has none now."""
        self._leave(session, interest)
        if upstream is not None and interest not in self._sessions:
            server, uri = interest
            self._unwanted.get(server, set()).discard(uri)
            await upstream.unsubscribe(uri)

    def wanted(self, servers: Container[str]) -> Iterator[Interest]:
        """What anybody wants of these servers, also what they have not answered yet."""
        return (interest for interest in self._sessions if interest[0] in servers)

    def drop(self, session: LiveSession) -> None:
        """The session ended: forget its interests; `pop_unwanted` has those that nobody shares."""
        for interest in list(self._of.get(session, ())):
            self._leave(session, interest)

    def servers_to_tell(self) -> list[str]:
        """The servers for which `pop_unwanted` has something."""
        return list(self._unwanted)

    def pop_unwanted(self, server: str) -> str | None:
        """One more URI that nobody wants to hear about any more and the server has not been told so."""
        unwanted = self._unwanted.get(server, set())
        while unwanted:
            uri = unwanted.pop()
            if (server, uri) not in self._sessions:
                return uri
        self._unwanted.pop(server, None)
        return None

    def interested(self, server: str, uri: str) -> Iterator[tuple[LiveSession, str]]:
        """Sessions to tell about `uri`, each once, with the URI in that session's own naming."""
        told: set[LiveSession] = set()
        for candidate in _self_and_parents(uri):
            for session, published in list(self._sessions.get((server, candidate), {}).items()):
                if session not in told:
                    told.add(session)
                    yield session, published + uri[len(candidate) :]

    def _enter(self, session: LiveSession, interest: Interest, published: str) -> None:
        self._sessions.setdefault(interest, {})[session] = published
        self._of.setdefault(session, set()).add(interest)

    def _leave(self, session: LiveSession, interest: Interest) -> None:
        sessions = self._sessions.get(interest)
        if sessions is None or sessions.pop(session, None) is None:
            return
        mine = self._of[session]
        mine.discard(interest)
        if not mine:
            del self._of[session]
        if not sessions:
            del self._sessions[interest]
            self._unwanted.setdefault(interest[0], set()).add(interest[1])


def _self_and_parents(uri: str) -> Iterator[str]:
    yield uri
    if len(uri) > MAX_URI_CHARS:
        return  # nobody can have subscribed to one of its longer parents, and there may be very many
    end = len(uri)
    floor = uri.find("://") + 3
    while (end := uri.rfind("/", floor, end)) > floor:
        yield uri[:end]
        if end + 1 < len(uri):
            yield uri[: end + 1]
