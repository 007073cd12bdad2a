"""Every metric, as numbers that the places where things happen write.

They are plain attributes (an int, a list slot); `metrics_exposition.py` reads them when somebody scrapes.
Label values come from the config, from closed sets listed here, or from catalogues, never from
what a client sends; the series of closed sets exist from the start, so that "none yet" is 0.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import trio

from edge import __version__
from edge.metrics_exposition import encoded, registry_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SESSION_SECONDS = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 21600.0)

NOT_METHODS = ("listen", "terminate", "invalid", "unknown")  # GET, DELETE, no method, any other method
RESULTS = ("success", "error")
SESSION_ENDS = ("client_delete", "idle_timeout", "init_failed", "gateway_shutdown", "limit", "link_ended")
RESET_REASONS = ("unknown_session", "expired", "terminated")
REFUSED_STATUSES = (
    "400", "401", "403", "404", "405", "406", "408", "409", "413", "415", "417", "421", "429", "431",
    "500", "501", "503", "505", "other",
)  # fmt: skip
TOOL_ERRORS = (
    "upstream_disconnected", "upstream_returned_error", "upstream_timeout", "upstream_auth_failed",
    "upstream_protocol_error", "cancelled", "internal",
)  # fmt: skip
LISTENERS = ("gateway", "admin", "hub", "control")
DIALECTS = ("contextforge", "mcp-reverse", "long-poll")
ATTEMPT_RESULTS = ("ready", "refused", "failed")
LINK_REFUSALS = (
    "missing", "unknown_token", "expired", "wrong_name", "dialect", "webhook_refused", "webhook_failed",
    "limit", "protocol", "timeout",
)  # fmt: skip
LINK_LOSSES = ("closed", "dead", "broken", "replaced", "protocol", "operator", "shutdown", "revoked")
UNKNOWN_TOOL = "_unknown"  # what a caller passes for a tool that is in no catalogue
PRESSURES = ("cpu", "memory", "io")
MAX_TOOLS = 2000  # series kept per server; tools beyond share `_unknown`


class Histogram:
    """Observations counted into buckets; `bounds` are the inclusive upper ends, `+Inf` is implied."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def take_over(self, other: "Histogram") -> None:
        """Add what another one of the same bounds has observed."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class Counts(dict[str, int]):
    """A counter per label value, over a closed set; counts of anything else go to `other`.

    `other` need not be in the set: it appears when it is first needed.
    """

    def __init__(self, values: Iterable[str]) -> None:
        super().__init__(dict.fromkeys(values, 0))

    def add(self, value: str, n: int = 1) -> None:
        if value in self:
            self[value] += n
        else:
            self["other"] = self.get("other", 0) + n

    def take_over(self, other: "Counts") -> None:
        """Add what another one of the same values has counted."""
        for value, n in other.items():
            self[value] = self.get(value, 0) + n


class Timed:
    """Things that take time and end one way or another: requests of one method, calls of one tool."""

    __slots__ = ("duration", "ends")

    def __init__(self, ends: Iterable[str]) -> None:
        self.duration = Histogram()
        self.ends = Counts(ends)


class Usage(NamedTuple):
    """What a server's processes take now, and what they have taken since they were started."""

    memory_bytes: int = 0
    processes: int = 0  # and their threads
    cpu_s: float = 0.0
    stalled_s: Mapping[str, float] = MappingProxyType(
        {}
    )  # by PRESSURES; empty where the kernel does not tell
    oom_kills: int = 0  # processes ended because there was not enough memory for them


class ServerProcesses:
    """The processes of a server that is started here, over all of its starts; limits of 0 are none."""

    def __init__(self) -> None:
        self.memory_limit_bytes = self.processes_limit = 0
        self._running: list[Callable[[], Usage]] = []
        self._over = Usage()

    def begun(self, usage: Callable[[], Usage]) -> None:
        """It has been started; `usage` tells what it takes, until `ended` gets the same."""
        self._running.append(usage)

    def ended(self, usage: Callable[[], Usage]) -> None:
        self._running.remove(usage)
        last = usage()
        self._over = added([self._over, last._replace(memory_bytes=0, processes=0)])

    def now(self) -> Usage:
        """At present, with the sums of all starts. Two of them run at once only while one replaces the other."""
        return added([self._over, *(usage() for usage in self._running)])


def added(usages: Iterable[Usage]) -> Usage:
    memory_bytes = processes = oom_kills = 0
    cpu_s, stalled_s = 0.0, dict[str, float]()
    for each in usages:
        memory_bytes += each.memory_bytes
        processes += each.processes
        cpu_s += each.cpu_s
        oom_kills += each.oom_kills
        for resource, seconds in each.stalled_s.items():
            stalled_s[resource] = stalled_s.get(resource, 0.0) + seconds
    return Usage(memory_bytes, processes, cpu_s, stalled_s, oom_kills)


class ServerMetrics:
    """What happens at one MCP server. Attributes are for the upstream to write."""

    __slots__ = (
        "_wall", "backoff_limit_s", "backoff_s", "backoff_total", "bytes_received", "bytes_sent", "connected",
        "dropped_items", "health_checks", "in_backoff", "inflight", "inflight_limit", "initialize_duration",
        "initializes", "is_ready", "is_required", "last_refresh_ts", "last_success", "noise_lines",
        "notes_dropped", "outbox_bytes", "oversized_lines", "processes", "queue_limit", "queue_waiting",
        "reconnect_attempts", "reconnects", "refresh_duration", "refreshes", "restarts", "session_resets",
        "tls_unverified", "tools", "tools_count",
    )  # fmt: skip

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self.connected = False
        self.is_ready: Callable[[], bool] = lambda: self.connected  # as health has it
        self.is_required = False
        self.tools_count = 0
        self.reconnects = 0  # cycles that failed
        self.restarts = 0  # times it was brought up again
        self.last_success: float | None = None  # monotonic
        self.in_backoff: bool | None = None  # None until the first failure
        self.backoff_s: float | None = None  # the present wait, 0 when there is none; None as above
        self.backoff_total = 0.0  # waits that are over, seconds
        self.last_refresh_ts: float | None = None  # Unix time of the last good list
        self.bytes_sent = self.bytes_received = 0
        self.tls_unverified: bool | None = None  # None: it is not reached over TLS
        self.noise_lines = 0  # lines on stdout that are no JSON-RPC
        self.oversized_lines = 0
        self.dropped_items = 0  # invalid tools, prompts, resources left out of the catalogue
        self.notes_dropped = 0  # notifications that no waiting call had room for
        self.queue_waiting = 0  # calls waiting for a free place
        self.inflight = 0
        self.inflight_limit = self.queue_limit = 0  # the most there may be of these two
        self.backoff_limit_s = 0.0  # no wait is longer
        self.outbox_bytes = 0  # written by us, not yet taken by the server
        self._count_in_detail()

    def _count_in_detail(self) -> None:
        self.session_resets = Counts(RESET_REASONS)
        self.initializes = Counts(RESULTS)
        self.initialize_duration = Histogram()
        self.health_checks = Counts(("success", "failure"))
        self.reconnect_attempts = Counts(RESULTS)
        self.refreshes = Counts(RESULTS)
        self.refresh_duration = Histogram()
        self.tools: dict[str, Timed] = {}
        self.processes: ServerProcesses | None = None  # None: it is not started here

    @property
    def bytes_by_direction(self) -> dict[str, int]:
        return {"received": self.bytes_received, "sent": self.bytes_sent}

    def take_over(self, other: "ServerMetrics") -> None:
        """Go on with the sums of the server that this one is in place of: a counter never goes back."""
        for name in ("reconnects", "restarts", "backoff_total", "bytes_sent", "bytes_received", "noise_lines",
                     "oversized_lines", "notes_dropped"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("session_resets", "initializes", "health_checks", "reconnect_attempts", "refreshes"):
            getattr(self, name).take_over(getattr(other, name))
        self.initialize_duration.take_over(other.initialize_duration)
        self.refresh_duration.take_over(other.refresh_duration)
        for tool, timed in other.tools.items():
            ours = self._of_tool(tool)
            ours.duration.take_over(timed.duration)
            ours.ends.take_over(timed.ends)
        if self.last_refresh_ts is None:
            self.last_refresh_ts = other.last_refresh_ts

    def initialize(self, result: str, seconds: float) -> None:
        self.initializes.add(result)
        self.initialize_duration.observe(seconds)

    def health_check(self, result: str) -> None:
        """`success` or `failure`."""
        self.health_checks.add(result)

    def reconnect_attempt(self, result: str) -> None:
        """`error` at each failure, `success` only after one."""
        self.reconnect_attempts.add(result)

    def refresh(self, result: str, seconds: float) -> None:
        """The lists were read again, or could not be."""
        self.refreshes.add(result)
        self.refresh_duration.observe(seconds)
        if result == "success":
            self.last_refresh_ts = self._wall()

    def tool_call(self, tool: str, seconds: float, reason: str | None) -> None:
        """A call ended: `reason` is None or one of TOOL_ERRORS, `tool` is in the catalogue or `_unknown`."""
        metrics = self._of_tool(tool)
        metrics.duration.observe(seconds)
        if reason is not None:
            metrics.ends[reason if reason in metrics.ends else "internal"] += 1

    def _of_tool(self, tool: str) -> Timed:
        metrics = self.tools.get(tool)
        if metrics is None:
            if len(self.tools) >= MAX_TOOLS:
                tool = UNKNOWN_TOOL
            metrics = self.tools.setdefault(tool, Timed(TOOL_ERRORS))
        return metrics


class EdgeMetrics(ServerMetrics):
    """A server that is reached over an accepted link: one of many, so little is kept and less is shown."""

    __slots__ = ("_bad_calls", "_good_calls")

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        super().__init__(wall=wall)
        self._good_calls = self._bad_calls = 0

    def _count_in_detail(self) -> None:
        """Nobody is shown it: all edges count in one place."""
        self.session_resets = OF_ALL_EDGES.session_resets
        self.initializes = OF_ALL_EDGES.initializes
        self.initialize_duration = OF_ALL_EDGES.initialize_duration
        self.health_checks = OF_ALL_EDGES.health_checks
        self.reconnect_attempts = OF_ALL_EDGES.reconnect_attempts
        self.refreshes = OF_ALL_EDGES.refreshes
        self.refresh_duration = OF_ALL_EDGES.refresh_duration
        self.tools = OF_ALL_EDGES.tools

    @property
    def calls(self) -> dict[str, int]:
        return {"success": self._good_calls, "error": self._bad_calls}

    def tool_call(self, tool: str, seconds: float, reason: str | None) -> None:
        """As of a server, but counted for all tools together."""
        if reason is None:
            self._good_calls += 1
        else:
            self._bad_calls += 1


OF_ALL_EDGES = ServerMetrics()


class LinkCounts:
    """What went over one link, and how it is doing."""

    __slots__ = ("bytes_in", "bytes_out", "carriers", "messages_in", "messages_out", "resumed", "rtt_s")

    def __init__(self) -> None:
        self.messages_in = self.messages_out = 0
        self.bytes_in = self.bytes_out = 0
        self.rtt_s: float | None = None  # of the last round trip that was measured
        self.carriers = 0  # connections that carried it, one after the other
        self.resumed = 0  # times it went on over another connection

    @property
    def bytes_by_direction(self) -> dict[str, int]:
        return {"received": self.bytes_in, "sent": self.bytes_out}

    @property
    def messages_by_direction(self) -> dict[str, int]:
        return {"received": self.messages_in, "sent": self.messages_out}

    def take_over(self, other: "LinkCounts") -> None:
        """Add the sums of a link that is over."""
        self.messages_in += other.messages_in
        self.messages_out += other.messages_out
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.carriers += other.carriers
        self.resumed += other.resumed


class LinkMetrics(LinkCounts):
    """What happens on one link out: it lives as long as the uplink, over all of its connections."""

    __slots__ = ("attempts", "inflight", "reconnects", "up")

    def __init__(self) -> None:
        super().__init__()
        self.up = False
        self.attempts = Counts(ATTEMPT_RESULTS)
        self.reconnects = 0  # times it was ready again after it had been lost
        self.inflight = 0  # calls that came over it and are not answered yet


class HubMetrics:
    """What happens at the listener for edges, over all links."""

    def __init__(self) -> None:
        self.links = Counts(DIALECTS)  # live now
        self.refused = Counts(LINK_REFUSALS)
        self.replaced = 0  # links that a newer one of the same name took the place of
        self.lost = Counts(LINK_LOSSES)
        self.pending_bytes: int | Callable[[], int] = (
            0  # waiting to be sent to edges, or for their acknowledgement
        )
        self._live: set[LinkCounts] = set()
        self._over = LinkCounts()

    def opened(self, dialect: str) -> LinkCounts:
        """A link begins; what it counts is for its owner to write."""
        counts = LinkCounts()
        self._live.add(counts)
        self.links.add(dialect)
        return counts

    def closed(self, dialect: str, counts: LinkCounts, reason: str) -> None:
        """A link has ended for good; `reason` is one of LINK_LOSSES. Only the first time counts."""
        if counts not in self._live:
            return
        self._live.remove(counts)
        self._over.take_over(counts)
        self.links.add(dialect, -1)
        self.lost.add(reason)

    @property
    def traffic(self) -> LinkCounts:
        """The sums of all links, also of those that are over."""
        total = LinkCounts()
        for counts in (self._over, *self._live):
            total.take_over(counts)
        return total


class Metrics:
    """All of them. `now` is the clock that `last_success` is measured with, `wall` Unix time.

    `methods` are the labels that `request` knows; any other label counts as `unknown`.
    """

    def __init__(
        self,
        *,
        version: str = __version__,
        methods: Iterable[str] = (),
        now: Callable[[], float] = trio.current_time,
        wall: Callable[[], float] = time.time,
        uptime_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.version = version
        self.now, self.wall = now, wall
        self._uptime_clock = uptime_clock
        self._started = uptime_clock()
        self.start_time = wall()
        self.servers: dict[str, ServerMetrics] = {}
        self.links: dict[tuple[str, str, str], LinkMetrics] = {}  # by uplink, server, dialect
        self.edges: dict[str, EdgeMetrics] = {}
        self.hub = HubMetrics()
        self.methods = {label: Timed(RESULTS) for label in (*methods, *NOT_METHODS)}
        self._unknown_method = self.methods["unknown"]

        self.is_ready: Callable[[], bool] | None = None  # what /readyz says
        self.sessions_active: int | Callable[[], int] = 0
        self.sessions_limit: int | None = None
        self.sessions_total = 0  # also those that failed to initialize
        self.session_ends = Counts(SESSION_ENDS)
        self.session_duration = Histogram(SESSION_SECONDS)

        self.http_refused = Counts(REFUSED_STATUSES)  # by status, as text
        self.denials = Counts(("host", "origin"))
        self.connections = Counts(LISTENERS)  # open now, by listener
        self.connections_limits: dict[str, int] = {}  # of the listeners that there are
        self.connections_accepted = Counts(LISTENERS)
        self.connections_rejected = Counts(LISTENERS)  # over the limit
        self.write_timeouts = 0  # clients cut off because they had stopped reading
        self.notes_dropped = 0  # notifications a client was too slow for
        self.part_crashes = Counts(
            ("acceptor", "admin", "control", "listener", "sessions", "uplink", "upstream")
        )
        self.auth_attempts = Counts(("success", "failure"))
        self.auth_failures = Counts(("internal", "missing_header", "bad_format", "wrong_token"))
        self.config_reloads = Counts(RESULTS)
        self.config_last_reload_ok: bool | None = None  # None: there was none yet
        self.config_last_reload_ts: float | None = None
        self.queues: dict[str, Callable[[], int]] = {}  # any other bounded queue: name -> how much is in it
        self._registry: CollectorRegistry | None = None

    @property
    def uptime_s(self) -> float:
        return self._uptime_clock() - self._started

    def server(self, name: str) -> ServerMetrics:
        """The server's metrics, made on first use."""
        metrics = self.servers.get(name)
        if metrics is None:
            metrics = self.servers[name] = self.new_server()
        return metrics

    def new_server(self) -> ServerMetrics:
        """Metrics of a server that is not in force yet: whoever puts it in force puts them into `servers`."""
        return ServerMetrics(wall=self.wall)

    def drop_server(self, name: str) -> None:
        """The server is no longer in the config: its series go with it."""
        self.servers.pop(name, None)

    def link(self, uplink: str, server: str, dialect: str) -> LinkMetrics:
        """One link out, made on first use; `server` is empty where it carries all of them."""
        return self.links.setdefault((uplink, server, dialect), LinkMetrics())

    def keep_links(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """The links out that there are: the series of all others go."""
        wanted = set(keys)
        self.links = {key: link for key, link in self.links.items() if key in wanted}

    def edge(self, name: str) -> EdgeMetrics:
        """The metrics of the server behind an accepted link's name, made on first use."""
        metrics = self.edges.get(name)
        if metrics is None:
            metrics = self.edges[name] = EdgeMetrics(wall=self.wall)
        return metrics

    def drop_edge(self, name: str) -> None:
        """The name has been forgotten: its series go with it."""
        self.edges.pop(name, None)

    def request(self, method_label: str, result: str, seconds: float) -> None:
        """A message was handled; `result` is `success` or `error`."""
        metrics = self.methods.get(method_label, self._unknown_method)
        metrics.ends["success" if result == "success" else "error"] += 1
        metrics.duration.observe(seconds)

    def denied(self, reason: str) -> None:
        """`host` or `origin` was not one of ours."""
        self.denials.add(reason)

    def refused(self, status: int) -> None:
        """A request was answered with an HTTP error status."""
        self.http_refused.add(str(status))

    def session_created(self) -> None:
        self.sessions_total += 1

    def session_ended(self, reason: str, age_s: float) -> None:
        self.session_ends.add(reason)
        self.session_duration.observe(age_s)

    @property
    def registry(self) -> "CollectorRegistry":
        if self._registry is None:
            self._registry = registry_of(self)
        return self._registry

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type: Prometheus text, or OpenMetrics if `accept` prefers it."""
        return encoded(self.registry, accept)
