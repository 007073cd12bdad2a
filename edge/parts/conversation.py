"""One conversation with a server that is up: handshake, lost sessions, fresh lists, signs of life.

`Upstream` makes one for each channel that its `Connect` gives. `begin` initializes and reads the lists,
`keep` holds it until it is no good any more and then raises why, and `ask` is the way of every request.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from edge import __version__
from edge.config.model import StdioServerConfig, UpstreamConfig
from edge.errors import EdgeError, Gone, RemoteProtocolError, RpcError, SessionLost, TimedOut, Unavailable
from edge.health import Status
from edge.metrics import ServerMetrics
from edge.parts.catalog_loader import CatalogLoader
from edge.parts.channel import Channel, Ended, Notify
from edge.parts.desired import Desired
from edge.proto.jsontext import Raw
from edge.proto.listing import KINDS, Kind
from edge.proto.mcp import InitializeResult, initialize_params

DEBOUNCE_S = 0.2
REFRESH_SHARE = 5.0  # reading lists again and again takes no more than one part in so many of the time ...
LONGEST_DEBOUNCE_S = 5.0  # ... unless that would be longer
RETRY_LISTS_S = 10.0  # before lists are read again, all of them, if that failed
START_TIMEOUT_S = 30.0  # of servers that we do not start ourselves; also for one page of a list
PING_TIMEOUT_S = 10.0
ROUNDING_S = 1e-6  # a moment that was computed as a float and has come may be a little ahead
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
    ) -> None:
        self.level: str | None = None  # what the server has been told, if anything
        self._config = config
        self._channel = channel
        self._desired = desired
        self._status = status
        self._metrics = metrics
        self._log = log
        self._start_timeout_s = (
            config.start_timeout_s if isinstance(config, StdioServerConfig) else START_TIMEOUT_S
        )
        self._busy_silence_s = max(BUSY_SILENCE_S, 2 * config.call_timeout_s)
        self._last_heard = trio.current_time()
        self._sessions = 0  # how many times a lost session was replaced
        self._renewing = trio.Lock()
        self._lost: SessionLost | None = None  # while there is no session: it is being replaced, or will be
        self._stale: set[Kind] = set()
        self._has_stale = trio.Event()
        self._has_wishes = False  # that the server has not been told
        self._doubt = trio.Event()
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
            self._doubt.set()
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
        self._last_heard = self._metrics.last_success = trio.current_time()
        self._status.succeeded()

    # -- from begin to end

    async def begin(self) -> None:
        """Initialize, say again what is desired, read all lists. Raises EdgeError if it is no use."""
        await self._handshake()
        self._loader = CatalogLoader(self._config.name, self.init, self._log)
        await self._tell_desired()
        await self.refresh(KINDS)

    async def keep(self, refreshed: Callable[[], None]) -> None:
        """Ping and refresh until cancelled. Raises EdgeError, in a group, when the server is no good."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh_when_stale, refreshed)
            nursery.start_soon(self._probe)

    def doubted(self) -> None:
        """Ping at once, rather than after a silence."""
        self._doubt.set()

    def mark_stale(self, *kinds: Kind) -> None:
        """These lists are said to have changed: read again, a moment later."""
        self._stale.update(kinds)
        self._has_stale.set()

    def update(self, config: UpstreamConfig) -> None:
        """Go by these settings from now on; waits begin anew with them."""
        if config.list_refresh_s != self._config.list_refresh_s:
            self._has_stale.set()  # by none in particular: all lists are read, and then the wait is the new one
        self._config = config
        self._busy_silence_s = max(BUSY_SILENCE_S, 2 * config.call_timeout_s)
        self._doubt.set()

    def desire_anew(self) -> None:
        """There are wishes that were made elsewhere: tell the server all of them."""
        if self._desired.uris or self._desired.level is not None:
            self._has_wishes = True
            self._has_stale.set()

    async def refresh(self, kinds: tuple[Kind, ...]) -> None:
        began = trio.current_time()
        is_good = False
        try:
            is_good = await self.loader.load(kinds, self._ask_in_time)
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
            raise Ended(self._config.name, "refused initialize", f"{exc.message} ({exc.code})") from exc
        except RemoteProtocolError as exc:
            raise Ended(self._config.name, "answered initialize wrongly", str(exc)) from exc
        finally:
            self._metrics.initialize(result, trio.current_time() - began)
        self._last_heard = trio.current_time()

    async def _tell_desired(self) -> None:
        self.level = self._desired.level
        await self._desired.replay(self.init.capabilities, self._request_in_time)

    async def _renew(self, session: int, lost: SessionLost) -> None:
        """A new session, unless another task was quicker. Raises SessionLost if there is none to be had.

        Whoever is cancelled over it leaves it to the next one that asks, be it the probe.
        """
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
                self._doubt.set()
                raise SessionLost(self._config.name, lost.reason) from exc
            self._sessions += 1
            self._lost = None
        if self._loader is not None:
            self._loader.renewed(self.init)
            self.mark_stale(*KINDS)  # mostly it was restarted, and may be another version

    async def _request_in_time(self, method: str, params: str | None) -> Raw:
        """Past the lock of `ask`, for those that hold it."""
        return await self._in_time(self._channel.request(method, params))

    async def _ask_in_time(self, method: str, params: str | None) -> Raw:
        return await self._in_time(self.ask(method, params))

    async def _in_time(self, exchange: Awaitable[T]) -> T:
        with trio.move_on_after(self._start_timeout_s):
            return await exchange
        raise TimedOut(self._config.name, self._start_timeout_s)

    async def _refresh_when_stale(self, refreshed: Callable[[], None]) -> None:
        wait_s = self._config.list_refresh_s
        debounce_s = DEBOUNCE_S
        while True:
            with trio.move_on_after(wait_s):
                await self._has_stale.wait()
                await trio.sleep(debounce_s)  # changes come in bursts
            kinds = tuple(kind for kind in KINDS if kind in self._stale) or KINDS
            self._stale.clear()
            self._has_stale = trio.Event()
            wait_s = self._config.list_refresh_s
            began = trio.current_time()
            try:
                if self._has_wishes:
                    self._has_wishes = False
                    await self._tell_desired()
                await self.refresh(kinds)
            except (Gone, Unavailable, SessionLost) as exc:
                self._log.debug(
                    "lists stay as they are", extra={"server": self._config.name, "reason": str(exc)}
                )
                wait_s = min(wait_s, RETRY_LISTS_S)
                continue  # the probe, which such an error wakes, decides what it means
            refreshed()
            took_s = trio.current_time() - began
            debounce_s = min(max(DEBOUNCE_S, REFRESH_SHARE * took_s), LONGEST_DEBOUNCE_S)

    async def _probe(self) -> None:
        """Ping after silence, or at once in doubt; raises if the server is no good any more."""
        while True:
            with trio.move_on_after(self._silence_left()):
                await self._doubt.wait()
            if self._broken is not None:
                raise self._broken
            if self._doubt.is_set() or self._silence_left() < ROUNDING_S:
                self._doubt = trio.Event()
                await self._ping()

    def _silence_left(self) -> float:
        """Seconds until a ping is due. A server that works on calls may not come to answer one."""
        silence = trio.current_time() - self._last_heard
        if self._metrics.inflight == 0:
            return max(0.0, self._config.probe_s - silence)
        return max(0.0, min(self._config.probe_s, self._busy_silence_s - silence))

    async def _ping(self) -> None:
        asked_at = trio.current_time()
        result = "failure"
        try:
            with trio.move_on_after(PING_TIMEOUT_S):
                await self.ask("ping", None)
                result = "success"
            was_heard = self._last_heard > asked_at
            has_excuse = self._metrics.inflight > 0 and asked_at - self._last_heard < self._busy_silence_s
            is_judged = not (was_heard or has_excuse or self._channel.is_suspended)
            if result == "failure" and is_judged:
                raise Ended(self._config.name, f"no answer to ping in {PING_TIMEOUT_S:g} s")
        except RpcError:
            result = "success"  # refusing is a sign of life
        finally:
            self._metrics.health_check(result)
