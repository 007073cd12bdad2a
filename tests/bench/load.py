"""The load generator: `python -m tests.bench.load '{...}'`, a process of its own that prints its outcome as JSON.

It must cost far less than what it measures, so that all it does for a usual answer is: read, compare with the
shape of earlier answers, note the time, write the next request with a new id in it. Each lane has one call on
its way: over HTTP a lane is a keep-alive connection, over pipes an id. It reads the CPU time of the watched
processes itself, right before the first call and right after the last one.
"""

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.answers import AnswerScanner, BadAnswer, Shape, shape_of
from tests.bench.caller import BODY_BYTES, FIRST_ID, Way, call_pieces, http_head
from tests.bench.processes import cpu_seconds

CHUNK = 65536
ID_BYTES = len(str(FIRST_ID))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to load, and how."""

    way: Way
    tool: str
    lanes: int
    warm_up_s: float
    measure_s: float
    watch: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the measured calls. `cpu_us` is that of the watched processes, `own_cpu_us` that of the generator;
    `cpu_us_each` has the watched processes one by one."""

    calls: int
    calls_per_s: float
    p50_us: float
    p99_us: float
    cpu_us: float
    own_cpu_us: float
    cpu_us_each: tuple[float, ...] = ()


class Lane:
    """One connection with one call on its way."""

    __slots__ = ("at", "length", "scanner", "seen", "sent", "tail", "token")

    def __init__(self) -> None:
        self.token = b""
        self.sent = 0.0
        self.length, self.at, self.tail = Shape(-1, 0, b"")
        self.scanner = AnswerScanner()
        self.seen = b""

    def take(self, chunk: bytes) -> tuple[bool, bool]:
        """The thorough way. Whether the call has been answered with this chunk, and whether the next may begin."""
        scanner = self.scanner
        was_answered = scanner.message is not None
        scanner.feed(chunk)
        self.seen += chunk
        if scanner.has_ended:
            judge(scanner.message, self.token)
            try:
                self.length, self.at, self.tail = shape_of(self.seen, self.token)
            except BadAnswer:
                self.length = -1
            self.seen = b""
        is_answered, has_ended = scanner.message is not None, scanner.has_ended
        if has_ended:
            scanner.begin()
        return is_answered and not was_answered, has_ended


def judge(message: dict[str, Any] | None, token: bytes) -> None:
    result = None if message is None else message.get("result")
    is_good = isinstance(result, dict) and not result.get("isError")
    if message is None or not is_good or str(message.get("id")).encode() != token:
        raise BadAnswer(f"call {token.decode()} got {json.dumps(message)[:300]}")


class HttpLoad:
    """Keep-alive connections of one session, each with its call."""

    def __init__(self, order: Order) -> None:
        before, after = call_pieces(order.tool)
        self._before = http_head(order.way, BODY_BYTES) + before
        self._after = after
        self._next_id = FIRST_ID
        self._sockets = [socket.create_connection(("127.0.0.1", order.way.port)) for _ in range(order.lanes)]
        self._lanes = {each.fileno(): Lane() for each in self._sockets}
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _ready(self) -> Callable[[], list[tuple[int, int]]]:
        """What gives the connections to read from. A single one needs no asking: its `read` blocks."""
        if len(self._sockets) == 1:
            only = [(self._sockets[0].fileno(), select.EPOLLIN)]
            return lambda: only
        poll = select.epoll()
        for each in self._sockets:
            poll.register(each, select.EPOLLIN)
        return poll.poll

    def run(self, seconds: float) -> list[float]:
        """The latencies of the calls begun within `seconds`, all of them answered."""
        clock, read, write = time.perf_counter, os.read, os.write
        before, after, call_id = self._before, self._after, self._next_id
        lanes, ready = self._lanes, self._ready()
        latencies: list[float] = []
        stop = clock() + seconds
        for fd, lane in lanes.items():
            call_id += 1
            lane.token = b"%d" % call_id
            lane.sent = clock()
            write(fd, before + lane.token + after)
        busy = len(lanes)
        while busy:
            for fd, _ in ready():
                lane = lanes[fd]
                chunk = read(fd, CHUNK)
                now = clock()
                if (
                    len(chunk) == lane.length
                    and chunk.startswith(lane.token, lane.at)
                    and chunk.endswith(lane.tail)
                ):
                    latencies.append(now - lane.sent)
                else:
                    is_answered, has_ended = lane.take(chunk)
                    if is_answered:
                        latencies.append(now - lane.sent)
                    if not has_ended:
                        continue
                if now > stop:
                    busy -= 1
                    continue
                call_id += 1
                lane.token = token = b"%d" % call_id
                lane.sent = now
                write(fd, before + token + after)
        self._next_id = call_id
        return latencies


class PipeLoad:
    """The pipes of one process; up to `lanes` calls are on their way at once."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._before, after = call_pieces(order.tool)
        self._after = after + b"\n"
        self._next_id = FIRST_ID

    def run(self, seconds: float) -> list[float]:
        clock, read, write = time.perf_counter, os.read, os.write
        before, after, call_id = self._before, self._after, self._next_id
        to_process, from_process = self._order.way.to_process, self._order.way.from_process
        latencies: list[float] = []
        sent: dict[bytes, float] = {}
        requests: list[bytes] = []
        for _ in range(self._order.lanes):
            call_id += 1
            token = b"%d" % call_id
            sent[token] = clock()
            requests.append(before + token + after)
        stop = clock() + seconds
        rest = b""
        while sent:
            if requests:
                write(to_process, b"".join(requests))
                requests.clear()
            chunk = read(from_process, CHUNK)
            if not chunk:
                raise BadAnswer("the process closed its stdout")
            now = clock()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                at = line.find(b'"id":') + 5
                begun = sent.pop(line[at : at + ID_BYTES], None)
                if begun is None or b'"result"' not in line or b'"isError":true' in line:
                    raise BadAnswer(f"got {line[:300]!r}")
                latencies.append(now - begun)
                if now < stop:
                    call_id += 1
                    token = b"%d" % call_id
                    sent[token] = now
                    requests.append(before + token + after)
        self._next_id = call_id
        return latencies


def outcome(order: Order) -> Outcome:
    load = HttpLoad(order) if order.way.port else PipeLoad(order)
    load.run(order.warm_up_s)
    before, own = [cpu_seconds([pid]) for pid in order.watch], time.process_time()
    begun = time.perf_counter()
    latencies = load.run(order.measure_s)
    took_s = time.perf_counter() - begun
    own = time.process_time() - own
    each = [cpu_seconds([pid]) - was for pid, was in zip(order.watch, before, strict=True)]
    latencies.sort()
    n = len(latencies)
    return Outcome(
        calls=n,
        calls_per_s=n / took_s,
        p50_us=latencies[n // 2] * 1e6,
        p99_us=latencies[min(n - 1, n * 99 // 100)] * 1e6,
        cpu_us=sum(each) / n * 1e6,
        own_cpu_us=own / n * 1e6,
        cpu_us_each=tuple(seconds / n * 1e6 for seconds in each),
    )


if __name__ == "__main__":
    fields = json.loads(sys.argv[1])
    told = Order(**{**fields, "way": Way(**fields["way"])})
    signal.alarm(int(told.warm_up_s + told.measure_s + 30))  # a gateway that does not answer must not hold us
    print(json.dumps(asdict(outcome(told))))
