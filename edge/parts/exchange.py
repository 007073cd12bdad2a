"""One POST's answer on its way to the client: plain JSON, or an event stream once there is more to say.

The headers are held back until the first of: the answer (plain JSON), a notification (event stream), or
`Exchange.PATIENCE_S` (event stream with keep-alives, so that no proxy in between loses patience). Events of a
session carry ids and are kept for a while, so that a client whose connection broke can fetch the rest with
GET and Last-Event-ID (MCP 2025-11-25, Transports, resumability). A client that leaves does not cancel.

A short answer to a single call goes out in the very step that received it from the server (`answer_at_once`): the
call's task would send the same a turn of the scheduler later, which is a tenth of what a lone call takes.
"""

from edge.net.http_server import Reply
from edge.parts.sessions import LiveSession
from edge.proto.mcp import PRIMING_SINCE
from edge.proto.sse import KEEPALIVE, encode_event

__all__ = ["Exchange"]


AT_ONCE_CHARS = 16_384
"""Longer answers wait for their call's own task, so that sending them holds up nobody else."""


class Exchange:
    """The answer to one POST. `notify` and `finish` run in the call's task, `tick` in the sessions' ticker.

    Whether it streams is decided synchronously before anything is awaited, and `Reply` lets one writer in at
    a time, first come first served; so what the two tasks write cannot interleave.
    """

    __slots__ = (
        "_accepts_json",
        "_accepts_sse",
        "_headers",
        "_is_primed",
        "_reply",
        "_session",
        "_stream",
        "done",
        "is_single",
        "streaming",
    )

    PATIENCE_S: float = 10.0
    KEEPALIVE_S: float = 15.0

    def __init__(
        self,
        reply: Reply,
        session: LiveSession | None,
        *,
        accepts_sse: bool,
        accepts_json: bool,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._reply = reply
        self._session = session
        self._accepts_sse = accepts_sse
        self._accepts_json = accepts_json
        self._headers = headers
        self._stream: str | None = None
        self._is_primed = False
        self.streaming = False
        self.done = False
        self.is_single = True

    @property
    def takes_events(self) -> bool:
        """Whether anything can be said before the response."""
        return self._accepts_sse

    async def notify(self, text: str) -> None:
        """Send one message before the response; dropped for a client that takes plain JSON only, and after the end.

        Never raises for a client that left.
        """
        if not self._accepts_sse or self.done:
            return
        if not self.streaming:
            await self._start()
        await self._event(text)

    async def finish_batch(self, answers: list[str]) -> None:
        """The answers of a batch that have not been sent yet: one array, or the last events of the stream."""
        if self.streaming:
            for answer in answers:
                await self._event(answer)
            await self.finish(None)
        elif answers:
            await self.finish(f"[{','.join(answers)}]")
        else:
            self.done = True
            await self._reply.send(202, headers=self._headers)

    def answer_at_once(self, text: str) -> None:
        """Send the response from whatever task has it, if that needs no waiting; `finish` completes it then."""
        if self.is_single and self._accepts_json and not self.streaming and not self.done:
            self.done = self._reply.try_send(200, text.encode(), headers=self._headers)

    async def finish(self, text: str | None) -> None:
        """The response, and the end. None ends without one: the client cancelled and expects none."""
        if self.done:
            await self._reply.flush()
            return
        if text is not None and not self.streaming and not self._accepts_json:
            await self._start()
        if self.streaming:
            if text is not None:
                await self._event(text)
            self.done = True
            self._close_stream()
            await self._reply.finish()
            return
        self.done = True
        if text is not None:
            sending = self._reply.send(200, text.encode(), headers=self._headers)
            text = None  # a client may be slow to take a big answer: the bytes do
            await sending
        elif self._accepts_sse:
            await self._reply.start_stream(self._headers)
            await self._reply.finish()
        else:
            await self._reply.send(202, headers=self._headers)

    async def tick(self) -> None:
        """The client has heard nothing for a while: make sure that it, and every proxy on the way, sees life."""
        if self.done or not self._accepts_sse:
            return
        if self.streaming:
            await self._reply.write(KEEPALIVE)
        else:
            await self._start()
            await self._reply.write(self._priming() or KEEPALIVE)

    async def _start(self) -> None:
        self.streaming = True
        if self._session is not None:
            self._stream = self._session.open_stream()
        await self._reply.start_stream(self._headers)

    async def _event(self, text: str) -> None:
        event_id = None
        if self._session is not None and self._stream is not None:
            event_id = self._session.record(self._stream, text)
        await self._reply.write(self._priming() + encode_event(text, event="message", id=event_id))

    def _priming(self) -> bytes:
        """What goes before the first event: an id with empty data, with which a client can come back.

        Given out once, to whoever writes first: an id must not come after a later one.
        """
        session = self._session
        if self._is_primed or session is None or self._stream is None:
            return b""
        self._is_primed = True
        if session.state.version < PRIMING_SINCE:
            return b""  # older clients choke on empty data
        return encode_event("", id=session.ring.start_id(self._stream))

    def _close_stream(self) -> None:
        if self._session is not None and self._stream is not None:
            self._session.close_stream(self._stream)
