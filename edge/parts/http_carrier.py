"""A carrier of plain HTTP requests: one event stream and its posts, or the requests of one polling session."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from edge.errors import Gone, LocalProtocolError, RemoteProtocolError, Unavailable, UpstreamError
from edge.net.http_client import BadAnswer, Exchange, HttpPool
from edge.proto.dialect import (
    Alive,
    CallFailed,
    CloseCarrier,
    Closed,
    Command,
    Event,
    HttpCall,
    Opened,
    OpenStream,
    Received,
    Refused,
    Replied,
)
from edge.proto.sse import SseDecoder

MAX_REFUSAL_BYTES = 4096
MESSAGE_EVENTS = frozenset({"message", ""})
Feed = Callable[[Event], None]
Serve = Callable[[Any, Feed], Awaitable[None]]


class HttpCarrier:
    """Implements `Carrier` (parts/pump.py) for a connector. It owns `pool` and closes it at the end.

    `flush` waits while `max_posts()` POSTs are open. Limits: `max_event_bytes` of the stream; `max_body_bytes` of
    an answer. `open_timeout_s` is for the head of the stream's answer; an open stream may last.
    """

    def __init__(
        self,
        pool: HttpPool,
        *,
        max_event_bytes: int,
        max_body_bytes: int,
        open_timeout_s: float,
        max_posts: Callable[[], int],
    ) -> None:
        self._pool = pool
        self._max_event_bytes = max_event_bytes
        self._max_body_bytes = max_body_bytes
        self._open_timeout_s = open_timeout_s
        self._max_posts = max_posts
        self._n_posts = 0
        self._posts_changed = trio.Event()
        self._waiting: list[OpenStream | HttpCall] = []
        self._start: Callable[[OpenStream | HttpCall], None] | None = None
        self._ending = trio.Event()
        self._is_over = False

    # -- for the pump

    def perform(self, command: Command) -> None:
        match command:
            case OpenStream() | HttpCall():
                if self._ending.is_set() or self._is_over:
                    return
                if isinstance(command, HttpCall) and command.method == "POST":
                    self._n_posts += 1
                if self._start is not None:
                    self._start(command)
                else:
                    self._waiting.append(command)
            case CloseCarrier():
                self._ending.set()
            case _:
                raise AssertionError(f"{type(command).__name__} is not for plain HTTP")

    async def flush(self) -> None:
        while self._n_posts >= self._max_posts() and not self._is_over:
            await self._posts_changed.wait()

    # -- its life

    async def run(self, feed: Feed) -> None:
        """Until the dialect closes it; posts that are open then are waited for, streams and polls are not."""
        try:
            async with trio.open_nursery() as nursery:
                lasting: set[trio.CancelScope] = set()

                def start(command: OpenStream | HttpCall) -> None:
                    if isinstance(command, HttpCall) and command.method == "POST":
                        nursery.start_soon(self._post, command, feed)
                    else:
                        scope = trio.CancelScope()
                        lasting.add(scope)
                        serve = self._stream if isinstance(command, OpenStream) else self._get
                        nursery.start_soon(until_done, serve, command, scope)

                async def until_done(serve: Serve, command: Any, scope: trio.CancelScope) -> None:
                    with scope:
                        await serve(command, feed)
                    lasting.discard(scope)

                nursery.start_soon(self._pool.keep_tidy)
                self._start = start
                for command in self._waiting:
                    start(command)
                self._waiting.clear()
                try:
                    await self._ending.wait()
                except trio.Cancelled:  # others on their way out may still have something to say
                    self._is_over = True
                    raise
                for scope in lasting:
                    scope.cancel()
                while self._n_posts:
                    await self._posts_changed.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._is_over = True
            self._posts_changed.set()
            self._pool.close()
        feed(Closed("closed"))

    async def _stream(self, command: OpenStream, feed: Feed) -> None:
        with self._pool.exchange() as exchange:
            try:
                end: Event = Closed(f"no answer within {self._open_timeout_s:g} s")
                with trio.move_on_after(self._open_timeout_s) as opening:
                    await exchange.send("GET", command.target, dict(command.headers))
                    if not 200 <= exchange.status < 300:
                        end = Refused(exchange.status, await refusal_of(exchange), exchange.fields)
                if not opening.cancelled_caught and not isinstance(end, Refused):
                    feed(Opened(exchange.fields))
                    await self._read(exchange, feed)
                    end = Closed("the event stream ended")
            except UpstreamError as exc:
                end = Closed(exc.text)
            except (LocalProtocolError, RemoteProtocolError) as exc:
                end = Closed(str(exc))
        feed(end)

    async def _read(self, exchange: Exchange, feed: Feed) -> None:
        decoder = SseDecoder(self._max_event_bytes)
        while chunk := await exchange.read():
            found = decoder.feed(chunk)
            for event in found:
                feed(Received(event.data) if event.event in MESSAGE_EVENTS else Alive())
            if not found:
                feed(Alive())  # a comment, or a part of something

    async def _get(self, command: HttpCall, feed: Feed) -> None:
        feed(await self._ask(command))

    async def _post(self, command: HttpCall, feed: Feed) -> None:
        try:
            event = await self._ask(command)
        finally:
            self._n_posts -= 1
            self._posts_changed.set()
            self._posts_changed = trio.Event()
        feed(event)

    async def _ask(self, command: HttpCall) -> Event:
        """The connection is given back before anybody hears of the answer: what follows may use it again."""
        body = b"" if command.body is None else command.body.encode()
        with self._pool.exchange() as exchange:
            try:
                with trio.move_on_after(command.timeout_s) as limit:
                    # A poll takes messages away: one that got no answer may have got some.
                    await exchange.send(
                        command.method, command.target, dict(command.headers), body, may_repeat=False
                    )
                    answer = await exchange.read_all(self._max_body_bytes)
                    return Replied(
                        command.tag, exchange.status, answer.decode(errors="replace"), exchange.fields
                    )
                assert limit.cancelled_caught
                return CallFailed(
                    command.tag, f"no answer within {command.timeout_s:g} s", exchange.is_written
                )
            except Unavailable as exc:
                return CallFailed(command.tag, exc.text, may_have_arrived=False)
            except Gone as exc:
                return CallFailed(command.tag, exc.text, may_have_arrived=True)
            except LocalProtocolError as exc:
                return CallFailed(command.tag, str(exc), may_have_arrived=False)


async def refusal_of(exchange: Exchange) -> str:
    """What a refusal says for itself, as far as it is short."""
    try:
        return (await exchange.read_all(MAX_REFUSAL_BYTES)).decode(errors="replace")
    except (BadAnswer, Gone):
        return ""
