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
from edge.proto.jsonrpc import METHOD_NOT_FOUND
from edge.proto.jsontext import Raw
from edge.proto.listing import KINDS, Kind
from edge.proto.mcp import InitializeResult, initialize_params

DEBOUNCE_S = 0.2
REFRESH_SHARE = 5.0  # reading lists again and again takes no more than one part in so many of the time ...
LONGEST_DEBOUNCE_S = 5.0  # ... unless that would be longer
RETRY_LISTS_S = 10.0  # before lists are read again, all of them, if that failed; longer each time
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
        self._last_heard = self._last_success = self._probed_at = trio.current_time()
        self._probe_method = "ping"
        self._sessions = 0  # how many times a lost session was replaced
        self._renewing = trio.Lock()
        self._lost: SessionLost | None = None  # while there is no session: it is being replaced, or will be
        self._stale: set[Kind] = set()
        self._has_stale = trio.Event()
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

    @property
    def problem(self) -> str | None:
        """What is wrong with it although it can be called: a list that could not be read."""
        return self.loader.problem

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
            raise Ended(self._config.name, "refused initialize", f"{exc.message} ({exc.code})") from exc
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

    async def _ask_for_list(self, method: str, params: str | None) -> Raw:
        """Raises Ended if there is no answer, and none to a ping either; for the others it may be well."""
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
        with trio.move_on_after(self._start_timeout_s):
            return await exchange
        raise TimedOut(self._config.name, self._start_timeout_s)

    async def _refresh_when_stale(self, refreshed: Callable[[], None]) -> None:
        retry_s = RETRY_LISTS_S
        wait_s = self._config.list_refresh_s
        debounce_s = DEBOUNCE_S
        while True:
            if self.problem is None:
                retry_s = RETRY_LISTS_S
            else:
                wait_s = min(wait_s, retry_s)
                retry_s = min(2 * retry_s, self._config.list_refresh_s)
            with trio.move_on_after(wait_s):
                await self._has_stale.wait()
                await trio.sleep(debounce_s)  # changes come in bursts
            kinds = tuple(kind for kind in KINDS if kind in self._stale) or KINDS
            self._stale.clear()
            self._has_stale = trio.Event()
            wait_s = self._config.list_refresh_s
            began = trio.current_time()
            try:
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
            if self._doubt.is_set() or self._silence_left() <= 0:
                self._doubt = trio.Event()
                await self._ping()

    def _silence_left(self) -> float:
        """Seconds until a ping is due: so long after the last good answer, or the last ping.

        A server that works on calls may not come to answer one. It is asked all the same, as its health rests on it,
        and judged by that only after a long silence.
        """
        now = trio.current_time()
        left = max(self._last_success, self._probed_at) + self._config.probe_s - now
        if self._metrics.inflight:
            left = min(left, self._last_heard + self._busy_silence_s - now)
        return max(0.0, left)

    async def _ping(self) -> None:
        asked_at = self._probed_at = trio.current_time()
        result = "failure"
        try:
            with trio.move_on_after(PING_TIMEOUT_S):
                await self.ask(self._probe_method, None)
                result = "success"
            was_heard = self._last_heard > asked_at
            has_excuse = self._metrics.inflight > 0 and asked_at - self._last_heard < self._busy_silence_s
            is_judged = not (was_heard or has_excuse or self._channel.is_suspended)
            if result == "failure" and is_judged:
                raise Ended(self._config.name, f"no answer to {self._probe_method} in {PING_TIMEOUT_S:g} s")
        except RpcError as exc:
            result = "success"  # refusing is a sign of life
            if exc.code == METHOD_NOT_FOUND:
                self._has_no_ping()
        finally:
            self._metrics.health_check(result)

    def _has_no_ping(self) -> None:
        """A list is as good; without one, that it refused is all that there is to have."""
        lists = (kind.list_method for kind in KINDS if kind.capability in self.init.capabilities)
        method = next(lists, None) if self._probe_method == "ping" else None
        if method is None:
            self._heard()
        else:
            self._probe_method = method
            self._doubt.set()
