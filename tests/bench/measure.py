"""One contender measured once: started, asked, loaded at 1 and at 32 calls at once, and ended."""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.caller import Caller, HttpCaller, PipeCaller, Way, call_until_answered
from tests.bench.contenders import ROOT, Contender, Place, echo_over_http, echo_over_stdio
from tests.bench.load import Order, Outcome
from tests.bench.processes import (
    Memory,
    descendants,
    free_port,
    memory,
    of_the_program,
    running,
    seconds_until_listening,
)

AT_ONCE = (1, 32)
START_LIMIT_S = 30.0
SETTLE_S = 0.3
PATH = "/mcp"


@dataclass(frozen=True, slots=True)
class Times:
    """How long the loads take."""

    warm_up_s: float
    measure_s: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What one contender showed in one round. `listening_s` is None where nothing listens."""

    listening_s: float | None
    first_call_s: float
    idle: Memory
    loaded: Memory
    outcomes: dict[int, Outcome]  # by calls at once


def measure(contender: Contender, times: Times) -> Reading:
    """Raises: RuntimeError, BadAnswer or OSError, if the contender does not do what it is there for."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = [free_port() for _ in range(3)]
        place = Place(port=ports[0], admin_port=ports[1], server_port=ports[2], folder=folder)
        server: subprocess.Popen[bytes] | None = None
        started = time.perf_counter()
        if contender.kind == "http":
            server = stack.enter_context(running(echo_over_http(place.server_port), folder))
            seconds_until_listening(place.server_port, server, started, START_LIMIT_S)

        listening_s: float | None = None
        caller: Caller
        over_pipes = contender.is_asked_over_pipes or (contender.command is None and server is None)
        if contender.command is None and server is not None:
            process, port = server, place.server_port
        else:
            command = echo_over_stdio() if contender.command is None else contender.command(place)
            started = time.perf_counter()
            process = stack.enter_context(running(command, folder, is_piped=over_pipes))
            port = 0 if over_pipes else place.port
        if over_pipes:
            assert process.stdin is not None
            assert process.stdout is not None
            caller = PipeCaller(process.stdin.fileno(), process.stdout.fileno())
        else:
            listening_s = seconds_until_listening(port, process, started, START_LIMIT_S)
            caller = HttpCaller(port, PATH)
        stack.callback(caller.close)
        call_until_answered(caller, contender.tool, START_LIMIT_S)
        first_call_s = time.perf_counter() - started

        watched = (
            [process.pid, *descendants(process.pid)]
            if contender.counts_children
            else of_the_program(process.pid)
        )
        time.sleep(SETTLE_S)
        idle = memory(watched)
        outcomes = {lanes: load(caller.way, contender.tool, lanes, watched, times) for lanes in AT_ONCE}
        time.sleep(SETTLE_S)
        return Reading(listening_s, first_call_s, idle, memory(watched), outcomes)


def load(way: Way, tool: str, lanes: int, watched: list[int], times: Times) -> Outcome:
    """The outcome of one load, made by a process of its own."""
    order = Order(
        way=way,
        tool=tool,
        lanes=lanes,
        warm_up_s=times.warm_up_s,
        measure_s=times.measure_s,
        watch=tuple(watched),
    )
    generator = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", json.dumps(asdict(order))],
        cwd=ROOT,
        capture_output=True,
        pass_fds=(order.way.to_process, order.way.from_process) if order.way.port == 0 else (),
        text=True,
    )
    if generator.returncode:
        last = generator.stderr.strip().splitlines()[-1:] or ["nothing said"]
        raise RuntimeError(f"the load generator ended with status {generator.returncode}: {last[0]}")
    return Outcome(**json.loads(generator.stdout))
