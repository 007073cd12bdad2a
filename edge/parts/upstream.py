"""Keeps one MCP server up and answers calls with it, whatever carries the conversation.

`run` connects, initializes, reads the lists, and starts again with backoff when the conversation ends. Calls
do not wait for that: while the server is down they fail at once, with the reason. A call that was written is
never written again, except by `Conversation.ask` for methods that change nothing. A call's time limit counts
from the moment it is made, waiting for a free place included; progress does not extend it.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import trio

from edge.backoff import Backoff
from edge.config.model import UpstreamConfig
from edge.errors import EdgeError, RpcError, TimedOut, Unavailable, leaves
from edge.health import Status
from edge.metrics_servers import ServerMetrics
from edge.parts.channel import Connect, Ended, Notify
from edge.parts.conversation import PING_TIMEOUT_S, Conversation
from edge.parts.desired import MAX_URIS, Desired, can_subscribe, level_params, uri_params
from edge.parts.flag import Flag
from edge.parts.places import Places
from edge.parts.retry import Retry, retry_of
from edge.printable import cut
from edge.proto.jsonrpc import METHOD_NOT_FOUND, Notification, Request
from edge.proto.jsontext import Raw
from edge.proto.listing import KINDS, Kind, ServerCatalog

WAITING_PER_PLACE = 4  # calls that may wait for a free place, for each place there is
CONTROL_TIMEOUT_S = 30.0  # for subscribe, unsubscribe and setLevel
STALE_SLACK_S = 5.0  # a probe that is due is not late yet

LIST_CHANGED = {
    "notifications/tools/list_changed": (Kind.TOOLS,),
    "notifications/prompts/list_changed": (Kind.PROMPTS,),
    "notifications/resources/list_changed": (Kind.RESOURCES, Kind.TEMPLATES),
}


class UpstreamEvents(Protocol):
    """Who wants to know. Synchronous and quick."""

    def catalog_changed(self, upstream: "Upstream") -> None: ...

    def resource_updated(self, upstream: "Upstream", params: Raw) -> None: ...

    def logged(self, upstream: "Upstream", params: Raw) -> None: ...


class Upstream:
    """A part. `catalog` is what the server offers now: nothing while it is down."""

    def __init__(
        self,
        config: UpstreamConfig,
        connect: Connect,
        *,
        events: UpstreamEvents,
        status: Status,
        metrics: ServerMetrics,
        backoff: Backoff,
        log: logging.Logger,
    ) -> None:
        self.name = config.name
        self.config = config
        self.metrics = metrics
        self.status = status
        self.catalog = ServerCatalog(server=config.name)
        self.usual_call_s = 0.0  # a call's time limit where the config has none; the gateway's to write
        self._connect = connect
        self._events = events
        self._log = log
        self._retry = Retry(config, backoff, status=status, metrics=metrics, log=log)
        self._desired = Desired(config.name, log)
        self._places = Places(config.limits.concurrency)
        status.stale_after_s = stale_after_s(config)
        self._conversation: Conversation | None = None  # from connected to ended
        self._live: Conversation | None = None  # the same, while it is ready for calls
        self._when_idle: Callable[[], None] | None = None  # since `retire`
        self._is_up = Flag()
        self._is_settled = Flag()
        metrics.is_ready = lambda: status.is_good
        self._tell_limits()

    @property
    def is_ready(self) -> bool:
        return self._live is not None

    def call_limit_s(self) -> float:
        """How long a call may take."""
        return self.config.call_timeout_s or self.usual_call_s

    @property
    def is_settled(self) -> bool:
        """It has been up, has failed, or is waited for: there is no use in waiting for its first start."""
        return self._is_settled.is_set()

    # -- its life

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.keep_up)
            with trio.CancelScope() as intake:
                task_status.started(intake)
                await trio.sleep_forever()
            self.retire(nursery.cancel_scope.cancel)  # draining; bounded by the slot

    async def keep_up(self) -> None:
        """All of `run` but its intake, in one task: for owners of thousands. Until cancelled; `retire` comes first."""
        self._when_idle = None
        try:
            while True:
                cause: EdgeError | None = None
                try:
                    await self._serve_once()
                except* EdgeError as group:
                    cause = cause_of(group)
                if cause is not None:
                    self._retry.fail(cause)
                    if self._retry.is_given_up:
                        self._is_up.set()
                    self._is_settled.set()
                    await self._retry.wait()
        finally:
            self.status.stopped()

    def retire(self, idle: Callable[[], None]) -> None:
        """Take no more calls; `idle` is called once the last one has ended, which may be at once."""
        self._when_idle = idle
        self._note_idle()

    # -- reload: no checkpoint in any of these

    def update(self, config: UpstreamConfig, backoff: Backoff) -> None:
        """Go on with other settings: those that are read when they are needed. Calls in flight keep their places."""
        if self._retry.update(self.config, config, backoff):
            self._is_up.clear()  # so calls wait for it from now on
        if config.limits.concurrency != self.config.limits.concurrency:
            self._places = Places(config.limits.concurrency)
        self.config = config
        self.status.required = config.required
        self.status.stale_after_s = stale_after_s(config)
        self._tell_limits()
        if self._conversation is not None:
            self._conversation.update(config)

    def succeed(self, older: "Upstream") -> None:
        """Take over from one of the same name, which is out of force from now on: what clients subscribed to, and
        the counters. `older` may go on with its last calls."""
        self._desired.uris.update(older._desired.uris)
        self._desired.level = self._desired.level or older._desired.level
        self.metrics.take_over(older.metrics)
        if self._live is not None:
            self._live.desire_anew()

    def desire(self, uri: str) -> None:
        """Clients subscribed to this at an earlier one of the same name: the server is told, now or once it is up."""
        if uri in self._desired.uris or len(self._desired.uris) >= MAX_URIS:
            return
        self._desired.uris[uri] = None
        if self._live is not None:
            self._live.desire_anew()

    def _tell_limits(self) -> None:
        metrics, config = self.metrics, self.config
        metrics.is_required = config.required
        metrics.inflight_limit = config.limits.concurrency
        metrics.queue_limit = WAITING_PER_PLACE * config.limits.concurrency
        metrics.backoff_limit_s = retry_of(config).limit_s

    async def _serve_once(self) -> None:
        """One conversation, from start to end; it only returns by an error or by cancellation."""
        self._retry.begin()
        self.status.trying("connecting")
        began = trio.current_time()
        async with self._connect(self) as channel:
            self._conversation = Conversation(
                self.config, channel, self._desired, self.status, self.metrics, self._log, self.call_limit_s
            )
            try:
                await self._conversation.begin()
                self._go_up(self._conversation, began)
                await self._conversation.keep(self._publish)
            finally:
                self._go_down()  # before the channel is closed, which may take its time

    def _go_up(self, conversation: Conversation, began: float) -> None:
        now = trio.current_time()
        self._retry.succeed()
        metrics = self.metrics
        if metrics.in_backoff is not None:
            metrics.reconnect_attempt("success")
            metrics.restarts += 1
            self.status.restarts += 1
        metrics.connected = True
        metrics.last_success = now
        self._live = conversation
        self.report()
        init = conversation.init
        took_s = round(now - began, 3)
        self._log.info("server ready", extra={"server": self.name, "version": init.version, "took_s": took_s})
        self._publish()
        self._is_up.set()
        self._is_settled.set()

    def _go_down(self) -> None:
        was_up, self._live, self._conversation = self._live is not None, None, None
        self.metrics.connected = False
        self.metrics.tools_count = 0
        self.catalog = ServerCatalog(server=self.name)
        if was_up:
            self._is_up.clear()
            self._retry.down = "its last conversation has just ended"
            self.status.starting(self._retry.down)
            self._events.catalog_changed(self)

    def _publish(self) -> None:
        if self._live is None:
            return
        catalog = self._live.loader.catalog()
        self.metrics.tools_count = len(catalog.tools)
        self.metrics.dropped_items = len(catalog.dropped)
        self.report()
        if catalog != self.catalog:
            self.catalog = catalog
            self._events.catalog_changed(self)

    def resumed(self) -> None:
        """What carries it was interrupted and is back: lists whose answers were lost in between are read again now."""
        if self._live is not None and self._live.problem is not None:
            self._live.mark_stale(*KINDS)
        self.report(is_back=True)

    def report(self, *, is_back: bool = False) -> None:
        """Say how it is while it can be called: ready if all of its lists could be read the last time.

        `is_back`: what carries it goes on in this very step.
        """
        live = self._live
        if live is None or (live.is_suspended and not is_back):  # whoever waits for its return says so
            return
        if live.problem is not None:
            self.status.degraded(live.problem)
        elif self.status.state not in ("ready", "stale"):
            self.status.ready()

    # -- calls

    async def wait_ready(self) -> None:
        """Return once calls are possible; Unavailable if it has been given up."""
        while self._live is None:
            if self._retry.is_given_up:
                raise self._unavailable()
            await self._is_up.wait()

    async def wait_settled(self) -> None:
        """Return once it has been up, or has failed, for the first time."""
        await self._is_settled.wait()

    async def request(
        self,
        method: str,
        params: str | None,
        *,
        notify: Notify | None = None,
        progress: bool = False,
        timeout_s: float,
    ) -> Raw:
        """The server's answer. `timeout_s` 0: the caller has a limit of its own.

        Raises: RpcError, Unavailable (down, or too many wait), TimedOut, Gone, SessionLost.
        """
        if timeout_s:
            with trio.move_on_after(timeout_s):
                return await self._request(method, params, notify, progress)
            raise TimedOut(self.name, timeout_s)
        return await self._request(method, params, notify, progress)

    async def subscribe(self, uri: str) -> None:
        """Have the server tell when the resource changes, also after a restart. Raises as `request`."""
        if self._live is None:
            raise self._unavailable()
        if not can_subscribe(self._live.init.capabilities):
            raise RpcError(METHOD_NOT_FOUND, "the server does not support resource subscriptions")
        if uri in self._desired.uris:
            return
        if len(self._desired.uris) >= MAX_URIS:
            raise Unavailable(self.name, "too many subscriptions")
        await self.request("resources/subscribe", uri_params(uri), timeout_s=CONTROL_TIMEOUT_S)
        self._desired.uris[uri] = None

    async def unsubscribe(self, uri: str) -> None:
        """Forget it; a server that is down needs not be told."""
        if uri not in self._desired.uris:
            return
        del self._desired.uris[uri]
        if self._live is not None:
            await self.request("resources/unsubscribe", uri_params(uri), timeout_s=CONTROL_TIMEOUT_S)

    async def set_level(self, level: str) -> None:
        """Have the server log from `level` on, also after a restart, if it logs at all."""
        self._desired.level = level
        live = self._live
        if live is None or live.level == level or "logging" not in live.init.capabilities:
            return
        live.level = level
        await self.request("logging/setLevel", level_params(level), timeout_s=CONTROL_TIMEOUT_S)

    async def _request(self, method: str, params: str | None, notify: Notify | None, progress: bool) -> Raw:
        if self._live is None or self._when_idle is not None:
            raise self._unavailable()
        metrics, places = self.metrics, self._places
        if not places.take():
            await self._wait_for_place(places)
        metrics.inflight += 1
        try:
            live = self._live
            if live is None:  # it went down while this call waited
                raise self._unavailable()
            return await live.ask(method, params, notify=notify, progress=progress)
        finally:
            metrics.inflight -= 1
            places.give_back()
            self._note_idle()

    async def _wait_for_place(self, places: Places) -> None:
        metrics = self.metrics
        if metrics.queue_waiting >= WAITING_PER_PLACE * self.config.limits.concurrency:
            raise Unavailable(
                self.name, f"busy: {metrics.inflight} calls run and {metrics.queue_waiting} wait"
            )
        metrics.queue_waiting += 1
        try:
            await places.wait()
        finally:
            metrics.queue_waiting -= 1

    def _note_idle(self) -> None:
        if self._when_idle is not None and not self.metrics.inflight + self.metrics.queue_waiting:
            self._when_idle()

    def _unavailable(self) -> Unavailable:
        if self._when_idle is not None:
            return Unavailable(self.name, "stopping")
        return self._retry.unavailable()

    # -- what the server says by itself (Inbound)

    def told(self, notification: Notification) -> None:
        params = notification.params
        match notification.method:
            case method if method in LIST_CHANGED:
                if self._conversation is not None:
                    self._conversation.mark_stale(*LIST_CHANGED[method])
            case "notifications/resources/updated" if params is not None:
                self._events.resource_updated(self, params)
            case "notifications/message" if params is not None:
                self._events.logged(self, params)
            case method:
                self._log.debug(
                    "notification for nobody", extra={"server": self.name, "method": cut(method, 64)}
                )

    def waiting(self, reason: str) -> None:
        self._retry.down = reason
        self.status.degraded(reason)
        self._is_settled.set()

    def doubted(self) -> None:
        if self._conversation is not None:
            self._conversation.doubted()

    def asked(self, request: Request) -> str:
        """What concerns no client: whether we live, and nothing else."""
        if request.method == "ping":
            return "{}"
        raise RpcError(METHOD_NOT_FOUND, f"{cut(request.method, 64)} is not supported by this client")


def stale_after_s(config: UpstreamConfig) -> float:
    """How long an exchange that succeeded counts: until the next one, which a silence brings about, is overdue."""
    return config.probe_s + PING_TIMEOUT_S + STALE_SLACK_S


def cause_of(group: BaseExceptionGroup[EdgeError]) -> EdgeError:
    """The most telling of what was raised together: how the server ended, rather than who lost what by it."""
    found = [exc for exc in leaves(group) if isinstance(exc, EdgeError)]
    return next((exc for exc in found if isinstance(exc, Ended)), found[0])
