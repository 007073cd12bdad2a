"""What a scrape gives: every metric family with its name, help text and labels, read from `Metrics`.

`metrics.py` holds the numbers, for the places where things happen; this is the only file that knows how
they are called outside. prometheus-client is imported by the first scrape, not at start.
"""

import os
import platform
import re
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

    from edge.metrics import LinkMetrics, Metrics
    from edge.metrics_servers import EdgeMetrics, ServerMetrics, ServerProcesses

# One row a family: name (those of servers without `upstream_`), help, attribute. None means no series.
SERVER_GAUGES = (
    ("connected", "1 while the server answers, 0 otherwise.", "connected"),
    ("required", "1 if nothing is ready without the server.", "is_required"),
    ("tools_count", "Tools in the server's catalogue.", "tools_count"),
    ("in_backoff", "1 while waiting before the next attempt.", "in_backoff"),
    ("current_backoff_seconds", "Length of the present wait.", "backoff_s"),
    ("backoff_limit_seconds", "No wait is longer.", "backoff_limit_s"),
    ("tools_last_refresh_timestamp_seconds", "Unix time of the last good lists.", "last_refresh_ts"),
    ("calls_waiting", "Calls waiting for a free place at the server.", "queue_waiting"),
    ("calls_waiting_limit", "Most calls that may wait; any more are refused.", "queue_limit"),
    ("calls_in_flight", "Requests the server has not answered yet.", "inflight"),
    ("calls_in_flight_limit", "Most requests at once; any more wait.", "inflight_limit"),
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
LINK_GAUGES = (
    ("rtt_seconds", "Last round trip to the hub that was measured.", "rtt_s"),
    ("calls_in_flight", "Calls that came over the link and are not answered yet.", "inflight"),
)
LINK_COUNTERS = (
    ("reconnects_total", "Times the link was ready again after it had been lost.", "reconnects"),
    ("resumed_total", "Times the link went on over another connection, with nothing lost.", "resumed"),
)
LINK_LABELLED = (
    ("attempts_total", "Attempts to bring the link up.", "attempts", "result"),
    ("bytes_total", "Bytes of messages over the link.", "bytes_by_direction", "direction"),
    ("messages_total", "Messages over the link.", "messages_by_direction", "direction"),
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

    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics

    def collect(self) -> "Iterator[Metric]":
        yield from self._of_the_process()
        yield from self._of_clients()
        yield from self._of_servers(dict(sorted(self._metrics.servers.items())))
        yield from self._of_links(dict(sorted(self._metrics.links.items())))
        yield from self._of_the_hub()
        yield from self._of_edges(dict(sorted(self._metrics.edges.items())))

    def _of_the_process(self) -> "Iterator[Metric]":
        m = self._metrics
        running = {(m.version, platform.python_version()): 1}
        yield gauge("build_info", "1; the labels say what is running.", running, "version", "python_version")
        yield gauge("start_time_seconds", "When the process started, Unix time.", {(): m.start_time})
        yield gauge("uptime_seconds", "Time since the process started.", {(): m.uptime_s})
        is_ready = None if m.is_ready is None else m.is_ready()
        yield gauge("ready", "1 if all that is required is ready, as /readyz says.", {(): is_ready})
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
        yield gauge("downstream_sessions_limit", "Most client sessions at once.", {(): m.sessions_limit})
        yield gauge("connections", "Open client connections.", keyed(m.connections), "listener")
        limits = keyed(m.connections_limits)
        yield gauge("connections_limit", "Most client connections at once.", limits, "listener")
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
        was_good = {(): m.config_last_reload_ok}
        yield gauge("config_last_reload_successful", "Whether the last reload was good.", was_good)

    def _of_servers(self, servers: "dict[str, ServerMetrics]") -> "Iterator[Metric]":
        now = self._metrics.now()

        def of_each(attribute: str) -> dict[tuple[str], Any]:
            return {(name,): getattr(server, attribute) for name, server in servers.items()}

        seen = {key: -1 if last is None else now - last for key, last in of_each("last_success").items()}
        yield gauge("upstream_last_seen_seconds", "Time since it last answered, or -1.", seen, "server")
        ready = {(name,): server.is_ready() for name, server in servers.items()}
        yield gauge("upstream_ready", "1 while health has it as ready, 0 otherwise.", ready, "server")
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
        yield from self._of_processes({(name,): of.processes for name, of in servers.items() if of.processes})

    def _of_processes(self, servers: "dict[tuple[str], ServerProcesses]") -> "Iterator[Metric]":
        used = {key: processes.now() for key, processes in servers.items()}
        memory_limits = {key: processes.memory_limit_bytes or None for key, processes in servers.items()}
        processes_limits = {key: processes.processes_limit or None for key, processes in servers.items()}
        stalled = {(*key, what): s for key, usage in used.items() for what, s in usage.stalled_s.items()}
        for name, help_text, attribute, family in PROCESSES:
            series = {key: getattr(usage, attribute) for key, usage in used.items()}
            yield family(name, help_text, series, "server")
        yield gauge("server_memory_limit_bytes", "The most it may take.", memory_limits, "server")
        yield gauge("server_processes_limit", "The most it may have.", processes_limits, "server")
        help_text = "Time in which something of the server waited for a resource."
        yield counter("server_pressure_stalled_seconds_total", help_text, stalled, "server", "resource")

    def _of_links(self, links: "dict[tuple[str, str, str], LinkMetrics]") -> "Iterator[Metric]":
        up = {key: link.up for key, link in links.items()}
        yield gauge("link_up", "1 while the link carries calls, 0 otherwise.", up, *LINK, "dialect")

        def of_each(attribute: str) -> dict[tuple[str, str], Any]:
            return {key[:2]: getattr(link, attribute) for key, link in links.items()}

        for rows, family in ((LINK_GAUGES, gauge), (LINK_COUNTERS, counter)):
            for name, help_text, attribute in rows:
                yield family("link_" + name, help_text, of_each(attribute), *LINK)
        for name, help_text, attribute, label in LINK_LABELLED:
            counts = {(*key, at): n for key, of in of_each(attribute).items() for at, n in of.items()}
            yield counter("link_" + name, help_text, counts, *LINK, label)

    def _of_the_hub(self) -> "Iterator[Metric]":
        hub = self._metrics.hub
        traffic = hub.traffic
        pending = hub.pending_bytes() if callable(hub.pending_bytes) else hub.pending_bytes
        sent = keyed(traffic.bytes_by_direction)
        yield gauge("hub_links", "Links from edges.", keyed(hub.links), "dialect")
        yield counter("hub_refused_total", "Links that were not accepted.", keyed(hub.refused), "reason")
        yield counter("hub_links_replaced_total", "Links replaced by a newer one.", {(): hub.replaced})
        yield counter("hub_resumed_total", "Times a link went on, nothing lost.", {(): traffic.resumed})
        yield counter("hub_lost_total", "Links that ended.", keyed(hub.lost), "reason")
        yield counter("hub_bytes_total", "Bytes of messages over all links.", sent, "direction")
        yield gauge("hub_pending_bytes", "Bytes that edges have not taken yet.", {(): pending})

    def _of_edges(self, edges: "dict[str, EdgeMetrics]") -> "Iterator[Metric]":
        now = self._metrics.now()
        up = {(name,): edge.connected for name, edge in edges.items()}
        calls = {(name, at): n for name, edge in edges.items() for at, n in edge.calls.items()}
        inflight = {(name,): edge.inflight for name, edge in edges.items()}
        seen = {
            (name,): -1 if edge.last_success is None else now - edge.last_success
            for name, edge in edges.items()
        }
        yield gauge("hub_link_up", "1 while the edge answers, 0 otherwise.", up, "edge")
        yield counter("hub_calls_total", "Tool calls by outcome.", calls, "edge", "result")
        yield gauge("hub_calls_in_flight", "Requests the edge has not answered yet.", inflight, "edge")
        yield gauge("hub_last_seen_seconds", "Time since it last answered, or -1.", seen, "edge")


LINK = ("uplink", "server")
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


PROCESSES: tuple[tuple[str, str, str, Family], ...] = (
    ("server_memory_bytes", "Memory of the server's processes.", "memory_bytes", gauge),
    ("server_processes", "Processes and threads of the server.", "processes", gauge),
    ("server_cpu_seconds_total", "CPU time of the server's processes.", "cpu_s", counter),
    ("server_oom_kills_total", "Processes killed for want of memory.", "oom_kills", counter),
)


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


def registry_of(metrics: "Metrics") -> "CollectorRegistry":
    """A registry that reads these metrics, and no others."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exposition(metrics))
    return registry


def encoded(registry: "CollectorRegistry", accept: str) -> tuple[bytes, str]:
    """Body and content type: Prometheus text, or OpenMetrics if `accept` prefers it."""
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics

    if prefers_openmetrics(accept):
        encode: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
        return encode(registry), openmetrics.CONTENT_TYPE_LATEST
    return exposition.generate_latest(registry), exposition.CONTENT_TYPE_PLAIN_0_0_4


def prefers_openmetrics(accept: str) -> bool:
    """True if an Accept header names OpenMetrics, and no plain text with a higher weight."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for choice in accept.lower().replace(" ", "").split(","):
        name, *parameters = choice.split(";")
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if name in weights and re.fullmatch(r"[01](\.\d{0,3})?", weight):
            weights[name] = max(weights[name], float(weight))
    return 0 < weights["application/openmetrics-text"] >= weights["text/plain"]
