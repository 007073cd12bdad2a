"""Links measured: a call through hub and edge beside the same call to a gateway alone, and what idle links cost.

Hub and edge are two processes of the same .pyz, joined over loopback as they would be over the internet, with TLS;
one row goes without. Idle links are those of one more edge process, which has a thousand uplinks.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import trustme

from tests.bench.answers import BadAnswer
from tests.bench.caller import HttpCaller, Way, call_until_answered
from tests.bench.contenders import PYZ, bare_python, echo_over_stdio
from tests.bench.load import Outcome
from tests.bench.measure import AT_ONCE, PATH, SETTLE_S, START_LIMIT_S, Times, load
from tests.bench.processes import (
    cpu_seconds,
    free_port,
    listener,
    memory,
    running,
    seconds_until_listening,
)

DIRECT = "direct"
PLAIN = "contextforge, no TLS"
DIALECTS = ("contextforge", "mcp-reverse", "long-poll")
WAYS = (DIRECT, PLAIN, *DIALECTS)
PATHS = {"mcp-reverse": "/mcp-reverse"}
TOKEN = "token-of-the-benchmark"
FEW = 10  # links of the process that the one with many is compared with
LINK_LIMIT_S = 180.0
QUIET_S = 3.0
SLICE_S, SLICE_WARM_UP_S = 0.5, 0.2


@dataclass(frozen=True, slots=True)
class LinkReading:
    """One way to the echo server in one round. `edge_rss` is 0 where there is no edge."""

    outcomes: dict[int, Outcome]  # by calls at once; CPU of hub and edge apart in `cpu_us_each`
    hub_rss: float
    edge_rss: float


@dataclass(frozen=True, slots=True)
class IdleReading:
    """`count` idle links: what each adds to the memory of both ends, and what they cost while nothing is called."""

    count: int
    up_s: float
    hub_kib: float
    edge_kib: float
    watched_s: float
    hub_cpu: float  # of one core
    edge_cpu: float


class Pair:
    """A hub and its edges, as processes; `folder` has their configs."""

    def __init__(self, stack: ExitStack, folder: Path, *, has_tls: bool = True) -> None:
        self._stack = stack
        self._folder = folder
        self.port, self.hub_port = free_port(), free_port()
        self._scheme = "https" if has_tls else "http"
        self._certificates = certificates(folder) if has_tls else None
        self._n_edges = 0
        tls = ""
        if self._certificates is not None:
            _, cert, key = self._certificates
            tls = f'tls = {{ cert = "{cert}", key = "{key}" }}\n'
        self.hub = self._start(
            f'[hub]\nlisten = "127.0.0.1:{self.hub_port}"\nmax_links_per_edge = 2000\n{tls}'
            f'[hub.edges.box]\ntoken_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\n',
            self.port,
        )

    def edge(self, names: Sequence[str], dialect: str) -> int:
        """The pid of an edge that has a link of each name."""
        token = self._folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        lines = ['name = "box"', "[servers.bench]", f"command = {words(echo_over_stdio())}"]
        url = f"{self._scheme}://127.0.0.1:{self.hub_port}{PATHS.get(dialect, '')}"
        for n, name in enumerate(names):
            lines += [f"[uplinks.u{n}]", f'dialect = "{dialect}"', f'url = "{url}"', f'link_name = "{name}"']
            lines += [f'token_file = "{token}"', 'publish = "all"', 'proxy = "none"']
            if self._certificates is not None:
                lines.append(f'tls = {{ ca_file = "{self._certificates[0]}" }}')
        return self._start("\n".join(lines) + "\n", free_port())

    def call(self, tool: str) -> Way:
        """The way to a session of the hub's endpoint, in which the tool has answered."""
        caller = HttpCaller(self.port, PATH)
        self._stack.callback(caller.close)
        call_until_answered(caller, tool, START_LIMIT_S)
        return caller.way

    def _start(self, config: str, port: int) -> int:
        self._n_edges += 1
        return start(self._stack, self._folder, f"{self._n_edges}.toml", config, port)


def start(stack: ExitStack, folder: Path, name: str, config: str, port: int) -> int:
    """The pid of a mcp-edge that listens for clients on `port`."""
    path = folder / name
    listen = f'[gateway]\nlisten = "127.0.0.1:{port}"\n[admin]\nlisten = "127.0.0.1:{free_port()}"\n'
    path.write_text(f"{config}{listen}")
    started = time.perf_counter()
    process = stack.enter_context(running([bare_python(), "-I", "-S", PYZ, "run", "--config", path], folder))
    seconds_until_listening(port, process, started, START_LIMIT_S)
    return listener(process.pid, port)  # without its guard, which costs the same whatever the links


@dataclass(frozen=True, slots=True)
class Stand:
    """One way that is up: a session in which the tool has answered, and the processes whose cost it is."""

    session: Way
    tool: str
    watched: list[int]


def measure_round(times: Times) -> dict[str, LinkReading]:
    """All ways, side by side: each load is made of slices, in which they take turns. So a machine that becomes slower
    or faster for some seconds does so to all of them, and their ratios hold.

    Raises: RuntimeError, BadAnswer or OSError, if a call does not get through.
    """
    n_slices = max(1, round(times.measure_s / SLICE_S))
    slice_times = Times(min(times.warm_up_s, SLICE_WARM_UP_S), min(times.measure_s, SLICE_S))
    slices: dict[str, dict[int, list[Outcome]]] = {way: {lanes: [] for lanes in AT_ONCE} for way in WAYS}
    with ExitStack() as stack:
        stands = {way: stand(stack, way) for way in WAYS}
        time.sleep(SETTLE_S)
        for lanes in AT_ONCE:
            for n in range(n_slices):
                for way in WAYS if n % 2 == 0 else reversed(WAYS):
                    of = stands[way]
                    slices[way][lanes].append(load(of.session, of.tool, lanes, of.watched, slice_times))
        time.sleep(SETTLE_S)
        return {
            way: LinkReading(
                {lanes: joined(outcomes) for lanes, outcomes in slices[way].items()},
                memory(of.watched[:1]).rss,
                memory(of.watched[1:]).rss if len(of.watched) > 1 else 0,
            )
            for way, of in stands.items()
        }


def stand(stack: ExitStack, way: str) -> Stand:
    inner, folder = stack.enter_context(place())
    if way == DIRECT:
        port, tool = free_port(), "bench__echo"
        config = f"[servers.bench]\ncommand = {words(echo_over_stdio())}\n"
        watched = [start(inner, folder, "direct.toml", config, port)]
        caller = HttpCaller(port, PATH)
        inner.callback(caller.close)
        call_until_answered(caller, tool, START_LIMIT_S)
        return Stand(caller.way, tool, watched)
    pair, tool = Pair(inner, folder, has_tls=way != PLAIN), "box__bench__echo"
    watched = [pair.hub, pair.edge(["box"], "contextforge" if way == PLAIN else way)]
    return Stand(pair.call(tool), tool, watched)


def joined(slices: Sequence[Outcome]) -> Outcome:
    """One outcome of several: latencies are medians of theirs."""
    calls = sum(each.calls for each in slices)

    def per_call(figure: Callable[[Outcome], float]) -> float:
        return sum(figure(each) * each.calls for each in slices) / calls

    return Outcome(
        calls=calls,
        calls_per_s=calls / sum(each.calls / each.calls_per_s for each in slices),
        p50_us=median(each.p50_us for each in slices),
        p99_us=median(each.p99_us for each in slices),
        cpu_us=per_call(lambda each: each.cpu_us),
        own_cpu_us=per_call(lambda each: each.own_cpu_us),
        cpu_us_each=tuple(
            per_call(lambda each, at=at: each.cpu_us_each[at])  # type: ignore[misc]  # the default binds it
            for at in range(len(slices[0].cpu_us_each))
        ),
    )


def measure_idle(count: int, watch_s: float) -> IdleReading:
    """Raises: RuntimeError, BadAnswer or OSError, if not all links come up."""
    with place() as (stack, folder):
        pair = Pair(stack, folder)
        few = [f"box-few-{n}" for n in range(FEW)]
        small = pair.edge(few, "contextforge")
        for name in few:
            pair.call(f"{name}__bench__echo")
        hub_before, edge_before = settled_rss(pair.hub), settled_rss(small)
        begun = time.perf_counter()
        many = pair.edge([f"box-{n}" for n in range(count)], "contextforge")
        until_callable(pair, [f"box-{n}__bench__echo" for n in range(count)])
        up_s = time.perf_counter() - begun
        hub_after, edge_after = settled_rss(pair.hub), settled_rss(many)
        cpu, since = [cpu_seconds([pid]) for pid in (pair.hub, many)], time.perf_counter()
        time.sleep(watch_s)
        watched_s = time.perf_counter() - since
        hub_s, edge_s = (cpu_seconds([pid]) - was for pid, was in zip((pair.hub, many), cpu, strict=True))
        return IdleReading(
            count=count,
            up_s=up_s,
            hub_kib=(hub_after - hub_before) * 1024 / count,
            edge_kib=(edge_after - edge_before) * 1024 / (count - FEW),
            watched_s=watched_s,
            hub_cpu=hub_s / watched_s,
            edge_cpu=edge_s / watched_s,
        )


def until_callable(pair: Pair, tools: Sequence[str]) -> None:
    """Every tool has answered once, over one connection."""
    caller = HttpCaller(pair.port, PATH)
    give_up = time.perf_counter() + LINK_LIMIT_S
    caller.initialize()
    try:
        waiting = list(tools)
        while waiting:
            waiting = [tool for tool in waiting if not answers(caller, tool)]
            if time.perf_counter() > give_up:
                raise BadAnswer(f"{len(waiting)} links are not there after {LINK_LIMIT_S:g} s")
            time.sleep(0.1)
    finally:
        caller.close()


def answers(caller: HttpCaller, tool: str) -> bool:
    result = caller.call(tool).get("result")
    return isinstance(result, dict) and not result.get("isError")


def settled_rss(pid: int) -> float:
    """RSS in MiB once it has stopped moving."""
    last = memory([pid]).rss
    give_up = time.perf_counter() + 5 * QUIET_S
    while time.perf_counter() < give_up:
        time.sleep(QUIET_S)
        now = memory([pid]).rss
        if abs(now - last) < 0.5:
            return now
        last = now
    return last


@contextmanager
def place() -> Iterator[tuple[ExitStack, Path]]:
    """A folder, and a stack whose processes end before it does."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        yield stack, Path(folder)


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Of an authority, and of a hub with its key."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    ca, cert, key = (folder / name for name in ("ca.pem", "hub.pem", "hub.key"))
    authority.cert_pem.write_to_path(str(ca))
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return ca, cert, key


def words(command: Sequence[str | Path]) -> str:
    return json.dumps([str(word) for word in command])
