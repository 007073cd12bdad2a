"""What happens at each MCP server, at the processes of those that are started here, and behind links of edges."""

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from edge.metrics_counts import RESULTS, Counts, Histogram, Timed

RESET_REASONS = ("unknown_session", "expired", "terminated")
TOOL_ERRORS = (
    "upstream_disconnected", "upstream_returned_error", "upstream_timeout", "upstream_auth_failed",
    "upstream_protocol_error", "cancelled", "internal",
)  # fmt: skip
UNKNOWN_TOOL = "_unknown"  # what a caller passes for a tool that is in no catalogue
PRESSURES = ("cpu", "memory", "io")
MAX_TOOLS = 2000  # series kept per server; tools beyond share `_unknown`


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
