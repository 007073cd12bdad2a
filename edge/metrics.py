"""Every metric, on its own registry.

The places where things happen touch plain attributes (an int, a list slot); one collector reads
them when somebody scrapes. prometheus-client is imported by the first scrape, not at start.
Label values come from the config, from closed sets listed here, or from catalogues, never from
what a client sends; the series of closed sets exist from the start, so that "none yet" is 0.
"""

import os
import platform
import re
import resource
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import trio

from edge import __version__

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SESSION_SECONDS = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 21600.0)

NOT_METHODS = ("listen", "terminate", "invalid", "unknown")  # GET, DELETE, no method, any other method
RESULTS = ("success", "error")
SESSION_ENDS = ("client_delete", "idle_timeout", "init_failed", "gateway_shutdown", "limit")
RESET_REASONS = ("unknown_session", "expired", "terminated")
REFUSED_STATUSES = (
    "400", "401", "403", "404", "405", "406", "408", "409", "413", "415", "417", "421", "429", "431",
    "500", "501", "503", "505", "other",
)  # fmt: skip
TOOL_ERRORS = (
    "upstream_disconnected", "upstream_returned_error", "upstream_timeout", "upstream_auth_failed",
    "upstream_protocol_error", "cancelled", "internal",
)  # fmt: skip
LISTENERS = ("gateway", "admin")
UNKNOWN_TOOL = "_unknown"  # what a caller passes for a tool that is in no catalogue
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


class Timed:
    """Things that take time and end one way or another: requests of one method, calls of one tool."""

    __slots__ = ("duration", "ends")

    def __init__(self, ends: Iterable[str]) -> None:
        self.duration = Histogram()
        self.ends = Counts(ends)


class ServerMetrics:
    """What happens at one MCP server. Attributes are for the upstream to write."""

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self.connected = False
        self.tools_count = 0
        self.reconnects = 0  # cycles that failed
        self.restarts = 0  # times it was brought up again
        self.last_success: float | None = None  # monotonic
        self.in_backoff: bool | None = None  # None until the first failure
        self.backoff_s: float | None = None  # the present wait, 0 when there is none; None as above
        self.backoff_total = 0.0  # waits that are over, seconds
        self.session_resets = Counts(RESET_REASONS)
        self.last_refresh_ts: float | None = None  # Unix time of the last good list
        self.bytes_sent = self.bytes_received = 0
        self.tls_unverified: bool | None = None  # None: it is not reached over TLS
        self.noise_lines = 0  # lines on stdout that are no JSON-RPC
        self.oversized_lines = 0
        self.dropped_items = 0  # invalid tools, prompts, resources left out of the catalogue
        self.notes_dropped = 0  # notifications that no waiting call had room for
        self.queue_waiting = 0  # calls waiting for a free place
        self.inflight = 0
        self.outbox_bytes = 0  # written by us, not yet taken by the server
        self.initializes = Counts(RESULTS)
        self.initialize_duration = Histogram()
        self.health_checks = Counts(("success", "failure"))
        self.reconnect_attempts = Counts(RESULTS)
        self.refreshes = Counts(RESULTS)
        self.refresh_duration = Histogram()
        self.tools: dict[str, Timed] = {}

    @property
    def bytes_by_direction(self) -> dict[str, int]:
        return {"received": self.bytes_received, "sent": self.bytes_sent}

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
        metrics = self.tools.get(tool)
        if metrics is None:
            if len(self.tools) >= MAX_TOOLS:
                tool = UNKNOWN_TOOL
            metrics = self.tools.setdefault(tool, Timed(TOOL_ERRORS))
        metrics.duration.observe(seconds)
        if reason is not None:
            metrics.ends[reason if reason in metrics.ends else "internal"] += 1


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
        self.methods = {label: Timed(RESULTS) for label in (*methods, *NOT_METHODS)}
        self._unknown_method = self.methods["unknown"]

        self.sessions_active: int | Callable[[], int] = 0
        self.sessions_total = 0  # also those that failed to initialize
        self.session_ends = Counts(SESSION_ENDS)
        self.session_duration = Histogram(SESSION_SECONDS)

        self.http_refused = Counts(REFUSED_STATUSES)  # by status, as text
        self.denials = Counts(("host", "origin"))
        self.connections = Counts(LISTENERS)  # open now, by listener
        self.connections_accepted = Counts(LISTENERS)
        self.connections_rejected = Counts(LISTENERS)  # over the limit
        self.write_timeouts = 0  # clients cut off because they had stopped reading
        self.notes_dropped = 0  # notifications a client was too slow for
        self.part_crashes = Counts(("admin", "listener", "sessions", "upstream"))
        self.auth_attempts = Counts(("success", "failure"))
        self.auth_failures = Counts(("internal", "missing_header", "bad_format", "wrong_token"))
        self.config_reloads = Counts(RESULTS)
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
            metrics = self.servers[name] = ServerMetrics(wall=self.wall)
        return metrics

    def drop_server(self, name: str) -> None:
        """The server is no longer in the config: its series go with it."""
        self.servers.pop(name, None)

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
            from prometheus_client import CollectorRegistry

            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(Exposition(self))
        return self._registry

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type: Prometheus text, or OpenMetrics if `accept` prefers it."""
        from prometheus_client import exposition
        from prometheus_client.openmetrics import exposition as openmetrics

        if prefers_openmetrics(accept):
            encode: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
            return encode(self.registry), openmetrics.CONTENT_TYPE_LATEST
        return exposition.generate_latest(self.registry), exposition.CONTENT_TYPE_PLAIN_0_0_4


# One row a family: name (those of servers without `upstream_`), help, attribute. None means no series.
SERVER_GAUGES = (
    ("connected", "1 while the server answers, 0 otherwise.", "connected"),
    ("tools_count", "Tools in the server's catalogue.", "tools_count"),
    ("in_backoff", "1 while waiting before the next attempt.", "in_backoff"),
    ("current_backoff_seconds", "Length of the present wait.", "backoff_s"),
    ("tools_last_refresh_timestamp_seconds", "Unix time of the last good lists.", "last_refresh_ts"),
    ("calls_waiting", "Calls waiting for a free place at the server.", "queue_waiting"),
    ("calls_in_flight", "Requests the server has not answered yet.", "inflight"),
    ("dropped_items", "Invalid items left out of the catalogue.", "dropped_items"),
    ("tls_unverified", "1 if any certificate will do (verify = false).", "tls_unverified"),
    ("outbox_bytes", "Bytes not yet taken by the server.", "outbox_bytes"),
)
SERVER_COUNTERS = (
    ("reconnects_total", "Attempts to bring the server up or keep it up that failed.", "reconnects"),
    ("restarts_total", "Times the server was brought up again.", "restarts"),
    ("backoff_seconds_total", "Time spent in waits that are over.", "backoff_total"),
    ("noise_lines_total", "Lines from the server that were no JSON-RPC.", "noise_lines"),
    ("oversized_lines_total", "Messages from the server over the size limit.", "oversized_lines"),
    ("notes_dropped_total", "Notifications that found a queue full.", "notes_dropped"),
)
SERVER_LABELLED = (
    ("initialize_total", "Handshakes with the server.", "initializes", "result"),
    ("health_checks_total", "Probes of the server.", "health_checks", "result"),
    ("reconnect_attempts_total", "Failures, and the success after one.", "reconnect_attempts", "result"),
    ("session_resets_total", "Sessions that the server had lost.", "session_resets", "reason"),
    ("tools_refresh_total", "Times the lists were read.", "refreshes", "result"),
    ("bytes_total", "Bytes of messages exchanged with the server.", "bytes_by_direction", "direction"),
)
SERVER_HISTOGRAMS = (
    ("initialize_duration_seconds", "Duration of handshakes.", "initialize_duration"),
    ("tools_refresh_duration_seconds", "Duration of reading the lists.", "refresh_duration"),
)
LABELLED = (
    ("downstream_session_terminations_total", "Client sessions that ended.", "session_ends", "reason"),
    ("http_refused_total", "HTTP requests answered with an error status.", "http_refused", "status"),
    ("denied_total", "Requests refused before they were looked at.", "denials", "reason"),
    ("connections_accepted_total", "Client connections accepted.", "connections_accepted", "listener"),
    ("connections_rejected_total", "Client connections over the limit.", "connections_rejected", "listener"),
    ("part_crashes_total", "Parts of this program that failed.", "part_crashes", "kind"),
    ("mcp_auth_attempts_total", "Clients that presented themselves.", "auth_attempts", "result"),
    ("mcp_auth_failures_total", "Clients that were not let in.", "auth_failures", "reason"),
    ("config_reloads_total", "Attempts to reload the config.", "config_reloads", "result"),
)
TOTALS = (
    ("downstream_sessions_total", "Client sessions begun.", "sessions_total"),
    ("write_timeouts_total", "Connections cut because the client had stopped reading.", "write_timeouts"),
    ("notes_dropped_total", "Notifications that a client was too slow for.", "notes_dropped"),
)


class Exposition:
    """Reads `Metrics` when the registry is scraped; each family once, with all of its series."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> "Iterator[Metric]":
        yield from self._of_the_process()
        yield from self._of_clients()
        yield from self._of_servers(dict(sorted(self._metrics.servers.items())))

    def _of_the_process(self) -> "Iterator[Metric]":
        m = self._metrics
        running = {(m.version, platform.python_version()): 1}
        yield gauge("build_info", "1; the labels say what is running.", running, "version", "python_version")
        yield gauge("start_time_seconds", "When the process started, Unix time.", {(): m.start_time})
        yield gauge("uptime_seconds", "Time since the process started.", {(): m.uptime_s})
        for family, name, help_text, value in process_values():
            yield family(name, help_text, {(): value})

    def _of_clients(self) -> "Iterator[Metric]":
        m = self._metrics
        active = m.sessions_active() if callable(m.sessions_active) else m.sessions_active
        queues = {(name,): length() for name, length in sorted(m.queues.items())}
        requests = {(name, at): n for name, of in m.methods.items() for at, n in of.ends.items()}
        durations = {(name,): of.duration for name, of in m.methods.items()}
        ages = {(): m.session_duration}
        yield gauge("downstream_sessions_active", "Client sessions.", {(): active})
        yield gauge("connections", "Open client connections.", keyed(m.connections), "listener")
        yield gauge("queue_length", "Entries in a bounded queue.", queues, "queue")
        for name, help_text, attribute in TOTALS:
            yield counter(name, help_text, {(): getattr(m, attribute)})
        for name, help_text, attribute, label in LABELLED:
            yield counter(name, help_text, keyed(getattr(m, attribute)), label)
        yield histogram("downstream_session_duration_seconds", "Age of client sessions at their end.", ages)
        yield counter("mcp_requests_total", "Messages by outcome.", requests, "method", "result")
        yield histogram("mcp_request_duration_seconds", "Time to answer a message.", durations, "method")
        reload = {(): m.config_last_reload_ts}
        yield gauge("config_last_reload_timestamp_seconds", "Unix time of the last good reload.", reload)

    def _of_servers(self, servers: dict[str, ServerMetrics]) -> "Iterator[Metric]":
        now = self._metrics.now()

        def of_each(attribute: str) -> dict[tuple[str], Any]:
            return {(name,): getattr(server, attribute) for name, server in servers.items()}

        seen = {key: -1 if last is None else now - last for key, last in of_each("last_success").items()}
        yield gauge("upstream_last_seen_seconds", "Time since it last answered, or -1.", seen, "server")
        for rows, family in (
            (SERVER_GAUGES, gauge),
            (SERVER_COUNTERS, counter),
            (SERVER_HISTOGRAMS, histogram),
        ):
            for name, help_text, attribute in rows:
                yield family("upstream_" + name, help_text, of_each(attribute), "server")
        for name, help_text, attribute, label in SERVER_LABELLED:
            counts = {(*key, at): n for key, of in of_each(attribute).items() for at, n in of.items()}
            yield counter("upstream_" + name, help_text, counts, "server", label)
        tools = {(name, tool): of for name, server in servers.items() for tool, of in server.tools.items()}
        durations = {key: of.duration for key, of in tools.items()}
        calls = {key: sum(of.counts) for key, of in durations.items()}
        errors = {(*key, reason): n for key, of in tools.items() for reason, n in of.ends.items()}
        yield counter("tool_calls_total", "Tool calls, also those that failed.", calls, "server", "tool")
        yield counter("tool_call_errors_total", "Tool calls that failed.", errors, "server", "tool", "reason")
        yield histogram("tool_call_duration_seconds", "Duration of tool calls.", durations, "server", "tool")


Series = Mapping[Any, Any]  # label values -> a number, a Histogram, or None for no series
Family = Callable[..., "Metric"]


def keyed(counts: dict[str, int]) -> Series:
    return {(key,): n for key, n in counts.items()}


def gauge(name: str, help_text: str, series: Series, *labels: str) -> "Metric":
    from prometheus_client.metrics_core import GaugeMetricFamily

    return filled(GaugeMetricFamily("mcp_edge_" + name, help_text, labels=labels), series)


def counter(name: str, help_text: str, series: Series, *labels: str) -> "Metric":
    from prometheus_client.metrics_core import CounterMetricFamily

    return filled(CounterMetricFamily("mcp_edge_" + name, help_text, labels=labels), series)


def filled(family: "GaugeMetricFamily | CounterMetricFamily", series: Series) -> "Metric":
    for key, value in series.items():
        if value is not None:
            family.add_metric(key, float(value))
    return family


def histogram(name: str, help_text: str, series: Series, *labels: str) -> "Metric":
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily("mcp_edge_" + name, help_text, labels=labels)
    for key, of in series.items():
        ends = [*map(str, of.bounds), "+Inf"]
        family.add_metric(key, list(zip(ends, accumulate(of.counts), strict=True)), of.sum)
    return family


SERVER_FAMILIES = {gauge: SERVER_GAUGES, counter: SERVER_COUNTERS, histogram: SERVER_HISTOGRAMS}


def process_values() -> Iterator[tuple[Family, str, str, float]]:
    """What the kernel knows about this process; what it does not tell is left out."""
    yield counter, "process_cpu_seconds_total", "User and system CPU time.", time.process_time()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most != resource.RLIM_INFINITY:
        yield gauge, "process_max_fds", "Most file descriptors that may be open.", most
    try:
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()  # after the name, which may hold anything
        fds = len(os.listdir("/proc/self/fd")) - 1  # the listing itself has one open
    except OSError:  # not Linux, or /proc is hidden from us
        return
    yield gauge, "process_threads", "Threads.", int(fields[17])
    yield gauge, "process_virtual_memory_bytes", "Virtual memory.", int(fields[20])
    yield gauge, "process_resident_memory_bytes", "Resident memory.", int(fields[21]) * resource.getpagesize()
    yield gauge, "process_open_fds", "Open file descriptors.", fds


def prefers_openmetrics(accept: str) -> bool:
    """True if an Accept header names OpenMetrics, and no plain text with a higher weight."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for choice in accept.lower().replace(" ", "").split(","):
        name, *parameters = choice.split(";")
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if name in weights and re.fullmatch(r"[01](\.\d{0,3})?", weight):
            weights[name] = max(weights[name], float(weight))
    return 0 < weights["application/openmetrics-text"] >= weights["text/plain"]
