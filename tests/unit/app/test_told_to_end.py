"""What a second signal means for the calls that are let finish, by when it comes."""

import signal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge.config.diff import PartSpec
from edge.config.model import StdioServerConfig
from tests.support.memory_channel import ScriptedServer
from tests.support.memory_workshop import memory_app, quiet_config
from tests.support.upstream_rig import after

CALL_S = 5.0
SERVER = StdioServerConfig(name="a", command=("a",))


def slow(spec: PartSpec) -> ScriptedServer:
    found = ScriptedServer()
    found.answers["tools/call"] = after(CALL_S)
    return found


@pytest.mark.parametrize(
    ("second", "later_s", "call_ends"),
    [
        (signal.SIGTERM, 0, True),
        (signal.SIGTERM, 0.9, True),
        (signal.SIGINT, 0.9, True),
        (signal.SIGTERM, 1, False),
        (signal.SIGINT, 1, False),
    ],
)
async def test_a_second_signal_cuts_calls_off_unless_it_comes_at_once(
    autojump_clock: MockClock, second: signal.Signals, later_s: float, call_ends: bool
) -> None:
    app = memory_app(quiet_config(SERVER), lambda: pytest.fail("it does not reload"), slow)
    is_up, has_answer = trio.Event(), trio.Event()

    async def call() -> None:
        await app.upstreams["a"].request("tools/call", None, timeout_s=CALL_S * 2)
        has_answer.set()

    async with trio.open_nursery() as callers:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app.run, lambda app: is_up.set())
            await is_up.wait()
            callers.start_soon(call)
            await wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)
            await wait_all_tasks_blocked()
            await trio.sleep(later_s)
            signal.raise_signal(second)
        callers.cancel_scope.cancel()

    assert has_answer.is_set() is call_ends
