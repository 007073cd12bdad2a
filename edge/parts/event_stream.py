"""A session's GET stream: what servers tell outside of any call, and the rest of an answer that broke off.

One standing stream a session; a second one is refused, unless it names an event of the first: then the client
says that the first has broken, which we may not have noticed yet (MCP 2025-11-25, Transports, resumability). Any
other id says nothing about it: the rest of an answer, come for too late, must not end the standing stream.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from edge.errors import EdgeError
from edge.net.http_reply import Fields
from edge.net.http_server import Reply
from edge.parts.sessions import LiveSession
from edge.proto.mcp import PRIMING_SINCE
from edge.proto.replay import Replay
from edge.proto.sse import KEEPALIVE, encode_event

KEEPALIVE_S = 15.0


class Occupied(EdgeError):
    """The session has a standing stream already."""


async def stream_events(
    session: LiveSession, reply: Reply, last_event_id: str | None, headers: Fields = ()
) -> None:
    """Serve one GET until the client leaves, the session ends, or a resumed answer is complete.

    Raises: Occupied, before anything was sent.
    """
    missed: Replay | None = None
    if last_event_id is not None:
        missed = session.ring.after(last_event_id, now=trio.current_time())
        if missed is not None and missed.stream != session.standing_stream:
            async with _connection(reply, headers):
                await _resume(reply, session, last_event_id)
            return
    if session.listener is not None:
        if missed is None:
            raise Occupied
        session.listener.cancel()
    with trio.CancelScope() as scope:
        session.listener = scope
        try:
            async with _connection(reply, headers):
                await _stand(reply, session, scope, last_event_id if missed else None)
        finally:
            if session.listener is scope:
                session.listener = None


@asynccontextmanager
async def _connection(reply: Reply, headers: Fields) -> AsyncIterator[None]:
    """An event stream for the body to write to; the body is cancelled when the client leaves."""
    async with trio.open_nursery() as nursery:

        async def until_gone() -> None:
            await reply.wait_gone()
            nursery.cancel_scope.cancel()

        nursery.start_soon(until_gone)
        await reply.start_stream(headers)
        yield
        nursery.cancel_scope.cancel()


async def _stand(reply: Reply, session: LiveSession, scope: trio.CancelScope, after: str | None) -> None:
    """What belongs to no answer, as the session's listener, until another one takes over (`scope` is cancelled)."""
    stream = session.standing_stream
    if after is None or stream is None:
        stream = session.stand()
        if session.state.version >= PRIMING_SINCE:
            await reply.write(encode_event("", id=session.ring.start_id(stream)))
    else:
        missed = session.ring.after(after, now=trio.current_time())
        for event in missed.events if missed is not None else ():
            await reply.write(encode_event(event.data, event="message", id=event.id))
    # Looked at synchronously before anything is taken: news belongs to whoever listens now.
    while not (session.ended or reply.gone or scope.cancel_called):
        # All of it is recorded before the first is written: if the connection breaks here, none is lost.
        news = [(text, session.record(stream, text)) for text in session.take_news()]
        for text, event_id in news:
            await reply.write(encode_event(text, event="message", id=event_id))
        if not news:
            await _changed_or_keepalive(session, reply)


async def _resume(reply: Reply, session: LiveSession, after: str) -> None:
    """The rest of an answer, up to its end."""
    while not session.ended and not reply.gone:
        found = session.ring.after(after, now=trio.current_time())
        if found is None:
            return
        for event in found.events:
            await reply.write(encode_event(event.data, event="message", id=event.id))
            after = event.id
        if not found.events:
            if found.is_finished:
                return
            await _changed_or_keepalive(session, reply)


async def _changed_or_keepalive(session: LiveSession, reply: Reply) -> None:
    with trio.move_on_after(KEEPALIVE_S) as quiet:
        await session.wait_changed()
    if quiet.cancelled_caught:
        await reply.write(KEEPALIVE)
