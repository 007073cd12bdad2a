"""Every metric, as numbers that the places where things happen write.

They are plain attributes (an int, a list slot); `metrics_exposition.py` reads them when somebody scrapes.
Label values come from the config, from closed sets listed here, or from catalogues, never from
what a client sends; the series of closed sets exist from the start, so that "none yet" is 0.
"""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from edge import __version__
from edge.metrics_counts import RESULTS, Counts, Histogram, Timed
from edge.metrics_exposition import encoded, registry_of
from edge.metrics_servers import EdgeMetrics, ServerMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SESSION_SECONDS = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 21600.0)

NOT_METHODS = ("listen", "terminate", "invalid", "unknown")  # GET, DELETE, no method, any other method
SESSION_ENDS = ("client_delete", "idle_timeout", "init_failed", "gateway_shutdown", "limit", "link_ended")
REFUSED_STATUSES = (
    "400", "401", "403", "404", "405", "406", "408", "409", "413", "415", "417", "421", "429", "431",
    "500", "501", "503", "505", "other",
)  # fmt: skip
LISTENERS = ("gateway", "admin", "hub", "control")
DIALECTS = ("contextforge", "mcp-reverse", "long-poll")
ATTEMPT_RESULTS = ("ready", "refused", "failed")
LINK_REFUSALS = (
    "missing", "unknown_token", "expired", "wrong_name", "dialect", "webhook_refused", "webhook_failed",
    "limit", "protocol", "timeout",
)  # fmt: skip
LINK_LOSSES = ("closed", "dead", "broken", "replaced", "protocol", "operator", "shutdown", "revoked")


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
        self.tls_handshakes_waiting = (
            0  # clients whose TLS handshake has not been begun, as many others' have
        )
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
