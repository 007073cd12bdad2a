"""What SIGHUP means to whom: a hang-up, or a reload."""

import signal

import pytest
import trio
from trio.testing import MockClock

from edge.app.loaded import Loaded
from edge.app.terminal import Terminal
from tests.support.memory_workshop import memory_app, quiet_config
from tests.support.uplink_rig import eventually

Clock = MockClock


class Tty:
    """One that a test closes."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open

    def __call__(self) -> bool:
        return self.is_open


async def hung_up(tty: Tty, *, after_s: float) -> bool:
    """Whether a SIGHUP so long after the terminal has gone was its last word."""
    terminal = Terminal(tty)
    async with trio.open_nursery() as nursery:
        await nursery.start(terminal.watch)
        await trio.sleep(100)
        assert not terminal.has_hung_up
        tty.is_open = False
        await trio.sleep(after_s)
        nursery.cancel_scope.cancel()
    return terminal.has_hung_up


@pytest.mark.parametrize(
    ("had_terminal", "after_s", "is_hang_up"),
    [(True, 0, True), (True, 9, True), (True, 13, False), (False, 0, False)],
)
async def test_only_at_once_is_it_a_hang_up(
    autojump_clock: Clock, had_terminal: bool, after_s: float, is_hang_up: bool
) -> None:
    assert await hung_up(Tty(is_open=had_terminal), after_s=after_s) is is_hang_up


async def test_who_has_outlived_its_terminal_reloads_by_sighup_and_goes_on(autojump_clock: Clock) -> None:
    tty, loads = Tty(is_open=True), list[str]()

    def load() -> Loaded:
        loads.append("test.toml")
        return Loaded(config=quiet_config(), source="test.toml")

    is_up, has_ended = trio.Event(), trio.Event()
    app = memory_app(quiet_config(), load, lambda spec: pytest.fail("no server"), terminal=Terminal(tty))

    async def run() -> None:
        await app.run(lambda app: is_up.set())
        has_ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await is_up.wait()
        tty.is_open = False
        await trio.sleep(60)
        signal.raise_signal(signal.SIGHUP)
        with trio.fail_after(1000):
            await eventually(lambda: bool(loads))
        assert not has_ended.is_set()
        signal.raise_signal(signal.SIGTERM)


async def test_the_hang_up_of_its_terminal_ends_it(autojump_clock: Clock) -> None:
    tty, is_up = Tty(is_open=True), trio.Event()
    app = memory_app(
        quiet_config(),
        lambda: pytest.fail("it does not reload"),
        lambda spec: pytest.fail("no server"),
        terminal=Terminal(tty),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.run, lambda app: is_up.set())
        await is_up.wait()
        await trio.sleep(60)
        tty.is_open = False
        signal.raise_signal(signal.SIGHUP)
