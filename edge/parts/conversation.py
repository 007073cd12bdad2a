"""One conversation with a server that is up: handshake, lost sessions, fresh lists, signs of life.

`Upstream` makes one for each channel that its `Connect` gives. `begin` initializes and reads the lists,
`keep` holds it until it is no good any more and then raises why, and `ask` is the way of every request.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from edge import __version__
from edge.config.model import StdioServerConfig, UpstreamConfig
from edge.errors import EdgeError, Gone, RemoteProtocolError, RpcError, SessionLost, TimedOut, Unavailable
from edge.health import Status
from edge.metrics_servers import ServerMetrics
from edge.parts.catalog_loader import CatalogLoader
from edge.parts.channel import Channel, Ended, Notify
from edge.parts.desired import Desired
from edge.parts.flag import Flag
from edge.printable import cut
from edge.proto.jsonrpc import METHOD_NOT_FOUND
from edge.proto.jsontext import Raw
from edge.proto.listing import KINDS, Kind
from edge.proto.mcp import InitializeResult, initialize_params

DEBOUNCE_S = 0.2
REFRESH_SHARE = 5.0  # reading lists again and again takes no more than one part in so many of the time ...
LONGEST_DEBOUNCE_S = 5.0  # ... unless that would be longer
RETRY_LISTS_S = 10.0  # before lists are read again, all of them, if that failed; longer each time
MAX_SAID_CHARS = 500  # of a refusal's words
START_TIMEOUT_S = 30.0  # of servers that we do not start ourselves; also for one page of a list
PING_TIMEOUT_S = 10.0
BUSY_SILENCE_S = 600.0  # a server with calls to do may be silent this long, or twice the calls' own limit

T = TypeVar("T")

REPEATABLE = frozenset(
    (
        "ping",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "prompts/get",
        "resources/read",
        "completion/complete",
    )
)
"""Methods that change nothing: asked once more if the answer was lost, while the conversation goes on."""


class Conversation:
    """State of one channel's life. Any number of tasks may `ask` at once."""

    def __init__(
        self,
        config: UpstreamConfig,
        channel: Channel,
        desired: Desired,
        status: Status,
        metrics: ServerMetrics,
        log: logging.Logger,
        call_limit_s: Callable[[], float],
    ) -> None:
        self.level: str | None = None  # what the server has been told, if anything
        self._config = config
        self._channel = channel
        self._desired = desired
        self._status = status
        self._metrics = metrics
        self._log = log
        self._call_limit_s = call_limit_s
        self._last_heard = self._last_success = self._probed_at = trio.current_time()
        self._probe_method = "ping"
        self._sessions = 0  # how many times a lost session was replaced
        self._renewing: trio.Lock | None = None  # made when it is needed, which is never for most
        self._lost: SessionLost | None = None  # while there is no session: it is being replaced, or will be
        self._stale: tuple[Kind, ...] = ()  # of KINDS, in that order
        self._debounce_s = DEBOUNCE_S
        self._retry_s = RETRY_LISTS_S
        self._refresh_at = math.inf  # before `keep`
        self._has_wishes = False  # that the server has not been told
        self._is_doubted = False
        self._news = Flag()  # there may be something to do earlier than `keep` thinks
        self._broken: EdgeError | None = None
        self._init: InitializeResult | None = None
        self._loader: CatalogLoader | None = None

    @property
    def init(self) -> InitializeResult:
        if self._init is None:
            raise AssertionError("not initialized yet")
        return self._init

    @property
    def loader(self) -> CatalogLoader:
        if self._loader is None:
            raise AssertionError("not initialized yet")
        return self._loader

    @property
    def problem(self) -> str | None:
        """What is wrong with it although it can be called: a list that could not be read."""
        return self.loader.problem

    @property
    def _busy_silence_s(self) -> float:
        return max(BUSY_SILENCE_S, 2 * self._call_limit_s())

    @property
    def is_suspended(self) -> bool:
        return self._channel.is_suspended

    # -- requests

    async def ask(
        self, method: str, params: str | None, *, notify: Notify | None = None, progress: bool = False
    ) -> Raw:
        """One request; a lost session is replaced once, for all that wait, and the request sent once more, unless
        it may have run."""
        if self._lost is not None:
            await self._renew(self._sessions, self._lost)  # nothing sent now would find a session
        session = self._sessions
        try:
            result = await self._channel.request(method, params, notify=notify, progress=progress)
        except RpcError:
            self._last_heard = trio.current_time()
            raise
        except SessionLost as lost:
            if lost.answer is not None and method not in REPEATABLE:
                raise lost.answer from None  # it may have run, so it is not written again
            await self._renew(session, lost)
            result = await self._channel.request(method, params, notify=notify, progress=progress)
        except (Gone, Unavailable) as exc:
            self.doubted()
            if method not in REPEATABLE or isinstance(exc, Unavailable):
                raise
            try:
                result = await self._channel.request(method, params, notify=notify, progress=progress)
            except Unavailable:
                raise exc from None  # it is all over: what happened to the first try is the news
        self._heard()
        return result

    def _heard(self) -> None:
        """An exchange succeeded, be it a call, a list or a probe."""
        self._last_heard = self._last_success = self._metrics.last_success = trio.current_time()
        self._status.succeeded()

    # -- from begin to end

    async def begin(self) -> None:
        """Initialize, say again what is desired, read all lists. Raises EdgeError if it is no use."""
        self._status.trying("no answer to initialize yet")
        await self._handshake()
        self._status.trying("it has not answered for all of its lists yet")
        self._loader = CatalogLoader(self._config.name, self.init, self._log)
        await self._tell_desired()
        await self.refresh(KINDS)

    async def keep(self, refreshed: Callable[[], None]) -> None:
        """Ping and refresh until cancelled. Raises EdgeError, possibly in a group, when the server is no good.

        One task while there is nothing to do: a hub has thousands of these.
        """
        self._refresh_at = min(self._refresh_at, trio.current_time() + self._list_wait_s())
        while True:
            await self._probe(is_reading=False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(self._probe, is_reading=True))
                await self._read_again(refreshed)
                nursery.cancel_scope.cancel()

    def doubted(self) -> None:
        """Ping at once, rather than after a silence."""
        self._is_doubted = True
        self._news.set()

    def mark_stale(self, *kinds: Kind) -> None:
        """These lists are said to have changed: read again, a moment later, as changes come in bursts."""
        if not self._stale:
            self._refresh_at = min(self._refresh_at, trio.current_time() + self._debounce_s)
            self._news.set()
        self._stale = tuple(kind for kind in KINDS if kind in self._stale or kind in kinds)

    def update(self, config: UpstreamConfig) -> None:
        """Go by these settings from now on; waits begin anew with them."""
        self._config = config
        self._refresh_at = min(self._refresh_at, trio.current_time() + config.list_refresh_s)
        self._news.set()

    def desire_anew(self) -> None:
        """There are wishes that were made elsewhere: tell the server all of them."""
        if self._desired.uris or self._desired.level is not None:
            self._has_wishes = True
            self.mark_stale(*KINDS)

    async def refresh(self, kinds: tuple[Kind, ...]) -> None:
        began = trio.current_time()
        is_good = False
        try:
            is_good = await self.loader.load(kinds, self._ask_for_list)
        finally:
            self._metrics.refresh("success" if is_good else "error", trio.current_time() - began)

    async def _handshake(self) -> None:
        began = trio.current_time()
        result = "error"
        try:
            channel = self._channel
            params = initialize_params(
                "mcp-edge", __version__, channel.first_version, can_ask=channel.can_ask
            )
            self._init = InitializeResult.read(await self._request_in_time("initialize", params))
            self._channel.negotiated(self._init.version)
            await self._in_time(self._channel.notify("notifications/initialized", None))
            result = "success"
        except RpcError as exc:
            said = cut(exc.message, MAX_SAID_CHARS)
            raise Ended(self._config.name, "refused initialize", f"{said} ({exc.code})") from exc
        except RemoteProtocolError as exc:
            raise Ended(self._config.name, "answered initialize wrongly", str(exc)) from exc
        finally:
            self._metrics.initialize(result, trio.current_time() - began)
        self._last_heard = self._last_success = trio.current_time()

    async def _tell_desired(self) -> None:
        self.level = self._desired.level
        await self._desired.replay(self.init.capabilities, self._request_in_time)

    async def _renew(self, session: int, lost: SessionLost) -> None:
        """A new session, unless another task was quicker. Raises SessionLost if there is none to be had.

        Whoever is cancelled over it leaves it to the next one that asks, be it the probe.
        """
        if self._renewing is None:
            self._renewing = trio.Lock()
        async with self._renewing:
            if self._sessions != session:
                return
            if self._broken is not None:  # tried once for all that wait: the conversation is about to end
                raise SessionLost(self._config.name, lost.reason) from self._broken
            if self._lost is None:
                self._lost = lost
                self._metrics.session_resets.add(lost.reason)
                self._log.info(
                    "session lost, initializing again",
                    extra={"server": self._config.name, "reason": lost.reason},
                )
            try:
                await self._handshake()
                await self._tell_desired()
            except EdgeError as exc:
                self._broken = exc
                self.doubted()
                raise SessionLost(self._config.name, lost.reason) from exc
            self._sessions += 1
            self._lost = None
        if self._loader is not None:
            self._loader.renewed(self.init)
            self.mark_stale(*KINDS)  # mostly it was restarted, and may be another version

    async def _request_in_time(self, method: str, params: str | None) -> Raw:
        """Past the lock of `ask`, for those that hold it."""
        return await self._in_time(self._channel.request(method, params))

    async def _ask_for_list(self, method: str, params: str | None) -> Raw:
        """Where no answer comes it is asked whether anybody is there: if not, that is the news, and raises Ended."""
        try:
            return await self._in_time(self.ask(method, params))
        except TimedOut as exc:
            try:
                await self._ping()
            except Ended as ended:
                reason = f"no answer to {method} in {exc.waited_s:g} s, nor to ping in {PING_TIMEOUT_S:g} s"
                raise Ended(self._config.name, reason) from ended
            raise

    async def _in_time(self, exchange: Awaitable[T]) -> T:
        config = self._config
        limit_s = config.start_timeout_s if isinstance(config, StdioServerConfig) else START_TIMEOUT_S
        with trio.move_on_after(limit_s):
            return await exchange
        raise TimedOut(config.name, limit_s)

    async def _read_again(self, refreshed: Callable[[], None]) -> None:
        """The lists that are stale, or all of them."""
        kinds = self._take_stale() or KINDS
        wait_s = self._config.list_refresh_s
        began = trio.current_time()
        try:
            if self._has_wishes:
                self._has_wishes = False
                await self._tell_desired()
            await self.refresh(kinds)
        except (Gone, Unavailable, SessionLost) as exc:
            self._log.debug("lists stay as they are", extra={"server": self._config.name, "reason": str(exc)})
            wait_s = min(wait_s, RETRY_LISTS_S)  # the probe, which such an error wakes, decides what it means
        else:
            wait_s = self._list_wait_s()
            refreshed()
            took_s = trio.current_time() - began
            self._debounce_s = min(max(DEBOUNCE_S, REFRESH_SHARE * took_s), LONGEST_DEBOUNCE_S)
        self._refresh_at = trio.current_time() + (self._debounce_s if self._stale else wait_s)

    def _list_wait_s(self) -> float:
        """Until all lists are read again: sooner where one could not be, and each time twice as long."""
        usual_s = self._config.list_refresh_s
        if self.problem is None:
            self._retry_s = RETRY_LISTS_S
            return usual_s
        wait_s, self._retry_s = min(usual_s, self._retry_s), min(2 * self._retry_s, usual_s)
        return wait_s

    def _take_stale(self) -> tuple[Kind, ...]:
        stale, self._stale = self._stale, ()
        return stale

    async def _probe(self, *, is_reading: bool) -> None:
        """Ping after silence, or at once in doubt, until lists are due that are not being read already.

        Raises EdgeError if the server is no good any more.
        """
        while True:
            if self._broken is not None:
                raise self._broken
            ping_at = self._ping_due()
            if self._is_doubted or trio.current_time() >= ping_at:
                self._is_doubted = False
                try:
                    await self._ping()
                except trio.Cancelled:
                    self._is_doubted = True
                    raise
                continue
            if trio.current_time() >= self._refresh_at and not is_reading:
                return
            with trio.CancelScope(deadline=ping_at if is_reading else min(ping_at, self._refresh_at)):
                await self._news.wait()
            self._news.clear()

    def _ping_due(self) -> float:
        """When a ping is due: so long after the last good answer, or the last ping.

        A server that works on calls may not come to answer one. It is asked all the same, as its health rests on it,
        and judged by that only after a long silence. A time and not what is left of it, which may be too little to add.
        """
        due_at = max(self._last_success, self._probed_at) + self._config.probe_s
        if self._metrics.inflight:
            due_at = min(due_at, self._last_heard + self._busy_silence_s)
        return due_at

    async def _ping(self) -> None:
        asked_at = self._probed_at = trio.current_time()
        try:
            with trio.move_on_after(PING_TIMEOUT_S):
                await self.ask(self._probe_method, None)
                self._metrics.health_check("success")
                return
        except RpcError as exc:
            self._metrics.health_check("success")  # refusing is a sign of life
            if exc.code == METHOD_NOT_FOUND:
                self._has_no_ping()
            return
        except EdgeError:
            self._metrics.health_check("failure")
            raise
        self._metrics.health_check("failure")
        was_heard = self._last_heard > asked_at
        has_excuse = self._metrics.inflight > 0 and asked_at - self._last_heard < self._busy_silence_s
        if not (was_heard or has_excuse or self._channel.is_suspended):
            raise Ended(self._config.name, f"no answer to {self._probe_method} in {PING_TIMEOUT_S:g} s")

    def _has_no_ping(self) -> None:
        """A list is as good; without one, that it refused is all that there is to have."""
        lists = (kind.list_method for kind in KINDS if kind.capability in self.init.capabilities)
        method = next(lists, None) if self._probe_method == "ping" else None
        if method is None:
            self._heard()
        else:
            self._probe_method = method
            self.doubted()
