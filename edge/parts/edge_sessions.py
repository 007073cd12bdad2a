"""The carriers of a hub's edges, from their opening to their end: who may open one, and what it carries.

A session is one carrier: one WebSocket, one event stream with its POSTs, one polling session. Whatever its dialect, it
is opened, judged and closed here; `hub_carriers.py` moves its bytes. A session belongs to the token that it was opened
with: nobody else's requests get to it, whatever id they name.
"""

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import trio

from edge.config.hub import HubConfig
from edge.gate.edge_auth import Denied, Edge, TokenAuth, withdrawn
from edge.metrics import HubMetrics
from edge.parts.edge_session import EdgeSession, Opening, Visitor
from edge.parts.edges import Edges
from edge.parts.hub_link import HubLink
from edge.parts.known_edge import RESTART
from edge.parts.link import Link
from edge.parts.pump import Carrier, Pump
from edge.parts.refusals import Refusals
from edge.proto.dialect import (
    Closed,
    Dialect,
    Event,
    Garbled,
    Lost,
    Ready,
    Received,
    Registering,
    Requested,
    Stop,
)
from edge.proto.jsonrpc import Request, decode
from edge.proto.jsontext import one_line, replace_members
from edge.proto.numbered import LinkAnswer, LinkOffer, Numbered

MAX_UNACKED = 4096
MAX_RETIRED = 4096  # ids of sessions that were replaced
RETIRED_S = 600.0
ABNORMAL, POLICY, TRY_LATER = 1006, 1008, 1013  # RFC 6455 section 7.4.1, and its registry
ORDERLY = frozenset({None, 1000, 1001, 1005})  # done, going away, no word

log = logging.getLogger("edge.hub")


class EdgeSessions:
    """All that are open. `is_closing`: no more are opened, as the hub ends."""

    def __init__(
        self,
        config: HubConfig,
        auth: TokenAuth,
        edges: Edges,
        metrics: HubMetrics,
        refusals: Refusals,
        *,
        taken: frozenset[str] = frozenset(),
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.is_closing = False
        self._config = config
        self._auth = auth
        self._edges = edges
        self._metrics = metrics
        self._refusals = refusals
        self._taken = taken
        self._wall = wall
        self._open: dict[str, EdgeSession] = {}
        self._open_of: dict[str, int] = {}
        self._retired: OrderedDict[str, float] = OrderedDict()
        self._requests = 0
        self._emptied = trio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def avoid(self, taken: frozenset[str]) -> None:
        """These names are the hub's own from now on; no checkpoint."""
        if taken != self._taken:
            self._taken = taken
            self.update(self._config, self._auth)

    def update(self, config: HubConfig, auth: TokenAuth) -> None:
        """Go by these from now on. Sessions and links that would not be let in any more end; no checkpoint."""
        over = withdrawn(self._config, config)
        known_before = self._auth
        self._config, self._auth = config, auth
        for session in list(self._open.values()):
            visitor = session.opening.visitor
            edge = auth.edge_of(visitor.digest)
            if edge is None and known_before.edge_of(visitor.digest) is None and visitor.way not in over:
                # A JWT's, or the webhook's: as good as it was, for what an edge may be now.
                was = visitor.edge
                named = auth.named(was.name, was.dialects)
                edge = None if isinstance(named, Denied) else named
            name = None if session.link is None else session.link.name
            if edge is None or self._is_unfit(edge, session.opening.dialect, name):
                log.info("edge may no longer connect", extra={"edge": visitor.edge.name})
                self._end(session, "it may no longer connect", "revoked")
        for link in self._edges.suspended():
            # Whoever resumes it shows a token; but its calls wait, and its name is not free.
            is_gone = config.jwt is None and config.webhook is None and link.owner not in config.edges
            owner = auth.named(link.owner)
            if is_gone or isinstance(owner, Denied) or self._is_unfit(owner, link.dialect, link.name):
                log.info("edge may no longer connect", extra={"edge": link.owner})
                self._edges.end(link, "it may no longer connect", "revoked")
        self._edges.forget(self._is_lost)

    def _is_lost(self, name: str, owner: str) -> bool:
        """Whether what had this name may not have it any more: it is free for whose it is now."""
        edge = self._auth.named(owner)
        return isinstance(edge, Denied) or self._auth.may_be_called(edge, name) is not None

    def _is_unfit(self, edge: Edge, dialect: str, name: str | None) -> bool:
        """Whether this edge could not have a link in this dialect and of this name, if it has one, now."""
        if not edge.may_speak(dialect):
            return True
        return name is not None and (name in self._taken or self._auth.may_be_called(edge, name) is not None)

    # -- opening

    def prepare(
        self,
        visitor: Visitor,
        dialect: str,
        offer: LinkOffer | None,
        *,
        session: str,
        name: str | None = None,
        description: str | None = None,
    ) -> Opening | Denied:
        """Judge what can be judged before there is a carrier. A link that is to be resumed loses its old carrier now,
        so that what the edge is told of it stays true."""
        denied = self._judge_room(visitor)
        if denied is None and name is not None:
            denied = self.judge_name(visitor.edge, name)
        if denied is not None:
            return denied
        answer = link_id = None
        limit = self._config.max_message_bytes
        resumes = self._resumable(visitor, dialect, offer, name)
        if resumes is not None and resumes.link.numbered is not None:
            self._take_carrier_from(resumes)
            link_id = resumes.id
            answer = LinkAnswer(resumes.id or "", resumes.link.numbered.received, limit).encode()
        elif offer is not None:
            link_id = secrets.token_urlsafe(24)
            answer = LinkAnswer(link_id, 0, limit).encode()
        received = offer.received if offer is not None and resumes is not None else 0
        theirs = None if offer is None else offer.max_bytes
        return Opening(
            visitor, dialect, session, name, description, answer, link_id, received, theirs, resumes
        )

    def open(self, opening: Opening, carrier: Carrier, dialect: Dialect) -> EdgeSession:
        """A carrier for what was prepared. Whoever opens it runs its pump, and then calls `close`."""
        session = EdgeSession(opening, carrier, self._wall())
        owner = opening.visitor.edge.name
        extra = {"edge": opening.name or owner, "dialect": opening.dialect, "peer": opening.visitor.peer}
        session.pump = Pump(
            dialect,
            carrier,
            on_ready=lambda ready: self._ready(session, ready),
            on_registering=lambda asked: self._registering(session, asked),
            complain=session.complain,
            log_extra=extra,
        )
        self._open[session.id] = session
        self._open_of[owner] = self._open_of.get(owner, 0) + 1
        return session

    def close(self, session: EdgeSession, lost: Lost | None) -> None:
        """Its carrier is over."""
        if self._open.pop(session.id, None) is None:
            return
        owner = session.opening.visitor.edge.name
        self._open_of[owner] -= 1
        if not self._open_of[owner]:
            del self._open_of[owner]
        reason = "stopped" if lost is None else lost.reason
        link = session.link
        if link is None:
            self._not_ready(session, reason)
        elif link.pump is session.pump:
            ending = session.ending or "dead"
            if lost is not None and lost.is_said and not link.complaints:
                link.tell_as = logging.INFO
            if link.link.ended is None and (session.is_final or self.is_closing):
                self._edges.end(link, reason, ending)
            elif link.link.ended is None and ending != "replaced":
                extra = {"edge": link.name, "reason": reason}
                log.info("link to an edge interrupted, waiting for its return", extra=extra)
                self._edges.interrupted(link, reason)
            elif link.link.ended is not None:
                link.lost_as = link.lost_as or ending
            self._edges.settle(link)
            if link.lost_as == "replaced":
                self._retire(session.id)
        if not self._open:
            self._emptied.set()

    def _judge_room(self, visitor: Visitor) -> Denied | None:
        """Connections that are not links yet, or no longer, are allowed for: twice as many, and some more."""
        if self.is_closing:
            return Denied("limit", "the hub is restarting")
        if len(self._open) >= 2 * self._config.max_links + 64:
            return Denied("limit", "too many connections")
        if self._open_of.get(visitor.edge.name, 0) >= 2 * self._config.max_links_per_edge + 8:
            return Denied("limit", "too many connections of this edge")
        return None

    def judge_name(self, edge: Edge, name: str) -> Denied | None:
        """Whether a link of this edge may have this name, as things are."""
        denied = self._auth.may_be_called(edge, name)
        if denied is not None:
            return denied
        if name in self._taken:
            return Denied("wrong_name", "this name is a server's of the hub")
        if self._edges.owner_of(name) not in (None, edge.name):
            return Denied("wrong_name", "this name is another edge's")
        if self._edges.link(name) is not None:
            return None  # it will take that one's place
        problem = self._edges.no_room_for(name, edge.name)
        return None if problem is None else Denied("limit", problem)

    def _resumable(
        self, visitor: Visitor, dialect: str, offer: LinkOffer | None, name: str | None
    ) -> HubLink | None:
        link = None if offer is None or offer.link is None else self._edges.by_id(offer.link)
        if offer is None or link is None or link.link.ended is not None or link.link.numbered is None:
            return None
        is_theirs = link.owner == visitor.edge.name and link.dialect == dialect and name in (None, link.name)
        return link if is_theirs and link.link.numbered.can_resume(offer.received) else None

    def _take_carrier_from(self, link: HubLink) -> None:
        session = self._open.get(link.session)
        if session is not None and session.ending is None:
            session.ending = "replaced"
            session.pump.leave("replaced by a newer connection")

    # -- what its dialect finds out

    def _registering(self, session: EdgeSession, asked: Registering) -> None:
        denied = self.judge_name(session.opening.visitor.edge, asked.name)
        if denied is None and self.is_closing:
            denied = Denied("limit", "the hub is restarting")
        if denied is not None:
            session.name = asked.name
            self._refuse(session, denied)

    def _refuse(self, session: EdgeSession, denied: Denied) -> None:
        session.refused = denied.text
        visitor = session.opening.visitor
        self._refusals.denied(
            denied, session.opening.dialect, visitor.peer, edge=visitor.edge.name, name=session.name
        )
        session.pump.feed(Stop(denied.text, TRY_LATER if denied.reason == "limit" else POLICY))

    def _ready(self, session: EdgeSession, ready: Ready) -> tuple[Link, int] | None:
        if session.refused is not None:
            return None
        opening = session.opening
        name = opening.name or ready.name or opening.visitor.edge.name
        resumes = opening.resumes
        if resumes is not None and (resumes.link.ended is not None or resumes.name != name):
            session.refused = "the link that was to be resumed is over"
            session.pump.feed(Stop(session.refused))
            return None
        if (denied := self.judge_name(opening.visitor.edge, name)) is not None:
            self._refuse(session, denied)
            return None
        session.name = name
        link = resumes or self._new_link(session, name)
        link.pump, link.session = session.pump, session.id
        link.peer, link.kind = opening.visitor.peer, ready.kind
        session.link = link
        session.messages_before = link.counts.messages_in
        session.bytes_before = link.counts.bytes_in + link.counts.bytes_out
        if resumes is None:
            self._edges.arrive(link, ready.mcp_version)
        else:
            self._edges.resumed(link)
        extra = {"edge": name, "dialect": opening.dialect, "kind": ready.kind, "peer": link.peer}
        log.info("edge connected", extra={**extra, "is_resumed": resumes is not None})
        return link.link, opening.peer_received

    def _new_link(self, session: EdgeSession, name: str) -> HubLink:
        opening = session.opening
        numbered = None
        limit_bytes = self._config.max_pending_bytes
        if opening.link_id is not None:
            numbered = Numbered(max_unacked_bytes=limit_bytes, max_unacked=MAX_UNACKED)
        counts = self._metrics.opened(opening.dialect)
        link = Link(
            name,
            nobody,
            numbered=numbered,
            limit_bytes=limit_bytes,
            counts=counts,
            max_message_bytes=min(
                self._config.max_message_bytes, opening.peer_max_bytes or self._config.max_message_bytes
            ),
        )
        return HubLink(name, opening.visitor.edge.name, opening.dialect, link, opening.link_id, counts)

    def _not_ready(self, session: EdgeSession, reason: str) -> None:
        """It never became a link. A refusal has been told already."""
        if session.refused is not None or session.ending == "shutdown":
            return
        opening = session.opening
        label = "timeout" if session.ending is None else "protocol"
        extra = {"edge": opening.visitor.edge.name, "dialect": opening.dialect}
        peer, has_left = opening.visitor.peer, session.is_final and session.ending == "closed"
        level = logging.INFO if has_left else logging.WARNING
        self._refusals.note(label, "edge gone before it was ready", peer, reason, extra, level)

    def heard(self, session: EdgeSession, event: Event) -> None:
        """Something came over its carrier: feed it, and note what it is that ends the session, if it does."""
        pump = session.pump
        was_lost = pump.lost is not None
        session.last_activity = self._wall()
        if isinstance(event, Closed):
            closed = "broken" if event.code == ABNORMAL else "closed" if event.code in ORDERLY else "protocol"
            session.ending = session.ending or closed
        pump.feed(event)
        if was_lost or pump.lost is None:
            return
        if isinstance(event, Received | Garbled | Requested):
            session.is_final = True
            # Some dialects have a word for it; and a request ends a session only if it says goodbye.
            has_left = isinstance(event, Requested) or getattr(pump.dialect, "has_left", False) is True
            session.ending = session.ending or ("closed" if has_left else "protocol")
        session.ending = session.ending or "broken"

    # -- requests that come for one, and operators

    def get(self, session_id: str, digest: bytes) -> EdgeSession | None:
        """The session of this id if it was opened with this token, and is not over."""
        session = self._open.get(session_id)
        if session is None or session.opening.visitor.digest != digest or session.pump.lost is not None:
            return None
        return session

    def is_open(self, session_id: str) -> bool:
        session = self._open.get(session_id)
        return session is not None and session.pump.lost is None

    def may_adopt(self, session_id: str, name: str | None) -> bool:
        """Whether an edge may go on with a session that is not known here: not with somebody else's, and not with
        one that had to make room, as long as the link is there that it made room for. `name` None: not known yet."""
        now = trio.current_time()
        while self._retired and next(iter(self._retired.values())) <= now:
            self._retired.popitem(last=False)
        if session_id in self._open:
            return False
        return name is None or session_id not in self._retired or self._edges.link(name) is None

    def listing(self) -> list[dict[str, Any]]:
        """What `GET /reverse-proxy/sessions` shows."""
        return [session.shown() for session in self._open.values()]

    def disconnect(self, session_id: str) -> bool:
        """As an operator wishes; False if there is no such session."""
        session = self._open.get(session_id)
        if session is None:
            return False
        self._end(session, "disconnected by an operator", "operator")
        return True

    def _end(self, session: EdgeSession, reason: str, lost_as: str) -> None:
        session.ending = lost_as
        if session.link is not None:
            self._edges.end(session.link, reason, lost_as)
        session.pump.leave(reason)

    def send(self, session_id: str, text: str) -> str | None:
        """Put an operator's request or notification in line; its answer goes nowhere. None: done, else why not.

        Raises: BadMessage.
        """
        message = decode(text)
        session = self._open.get(session_id)
        if session is None or session.link is None:
            return "Session not registered"
        outbox = session.link.link.outbox
        if outbox.is_full:
            return "the edge does not take what is sent to it"
        if isinstance(message, Request):
            self._requests += 1
            text = replace_members(text, {"id": f'"operator-{self._requests}"'})  # our own ids are numbers
        outbox.put(one_line(text).encode())
        return None

    def stop_all(self) -> None:
        """The hub ends: every edge is told."""
        for session in list(self._open.values()):
            session.ending = session.ending or "shutdown"
            session.pump.feed(Stop("the hub is restarting", RESTART))

    async def wait_empty(self) -> None:
        while self._open:
            self._emptied = trio.Event()
            await self._emptied.wait()

    def _retire(self, session_id: str) -> None:
        if len(self._retired) >= MAX_RETIRED:
            self._retired.popitem(last=False)
        self._retired[session_id] = trio.current_time() + RETIRED_S


def nobody(text: str) -> None:
    raise AssertionError("a message before the link had a channel")
