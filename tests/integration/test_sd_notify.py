"""What systemd hears, on a real notify socket; time is the mock clock's."""

import itertools
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from edge.supervise.sd_notify import SdNotify

Clock = MockClock


class Manager:
    """Hears datagrams as systemd does."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def heard(self) -> list[dict[str, str]]:
        """All since the last look, each as its fields."""
        found: list[dict[str, str]] = []
        while True:
            try:
                text = self.sock.recv(4096).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in text.split("\n")))


@contextmanager
def manager(address: str) -> Iterator[Manager]:
    it = Manager(address)
    with it.sock:
        yield it


async def test_each_state_is_told_with_what_belongs_to_it(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as systemd:
        notify = SdNotify(address)
        notify.ready("3 servers")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notify.reloading()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notify.ready("4 servers")
        notify.stopping("within 10 s")
        ready, reloading, again, stopping = systemd.heard()
    assert ready == {"READY": "1", "STATUS": "3 servers"}
    assert before <= int(reloading.pop("MONOTONIC_USEC")) <= after
    assert reloading == {"RELOADING": "1", "STATUS": "reloading the config"}
    assert again == {"READY": "1", "STATUS": "4 servers"}
    assert stopping == {"STOPPING": "1", "STATUS": "within 10 s"}


async def test_the_watchdog_hears_of_us_twice_in_its_time(tmp_path: Path, autojump_clock: Clock) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as systemd:
        notify = SdNotify(address, watchdog_s=6)
        beats = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notify.run, lambda: "")
            await trio.sleep(0.25)  # looks never fall together with beats
            for _ in range(60):
                beats += [trio.current_time() for told in systemd.heard() if "WATCHDOG" in told]
                await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
    assert len(beats) >= 9
    assert all(later - earlier == 3 for earlier, later in itertools.pairwise(beats))


async def test_without_a_watchdog_only_news_are_told(tmp_path: Path, autojump_clock: Clock) -> None:
    address = str(tmp_path / "notify")
    sentence = "1 of 2 servers good"
    with manager(address) as systemd:
        notify = SdNotify(address)
        notify.ready(sentence)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notify.run, lambda: sentence)
            await trio.sleep(60)
            assert systemd.heard() == [{"READY": "1", "STATUS": "1 of 2 servers good"}]
            sentence = "2 of 2 servers good"
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        assert systemd.heard() == [{"STATUS": "2 of 2 servers good"}]


async def test_an_abstract_address_is_reached() -> None:
    address = f"@mcp-edge-test-{os.getpid()}"
    with manager(address) as systemd:
        SdNotify(address).ready("up")
        assert systemd.heard() == [{"READY": "1", "STATUS": "up"}]


async def test_a_manager_that_does_not_read_holds_nobody_up_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: Clock
) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as systemd:
        notify = SdNotify(address, watchdog_s=2)
        with trio.fail_after(100_000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(notify.run, lambda: str(trio.current_time()))
                await trio.sleep(2000)
                nursery.cancel_scope.cancel()
        assert systemd.heard() != []
    said = [record for record in caplog.records if record.getMessage() == "systemd cannot be told"]
    assert [record.levelno for record in said] == [logging.WARNING]


async def test_nobody_to_tell_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    notify = SdNotify()
    notify.ready("up")
    notify.reloading()
    notify.stopping("down")
    await notify.run(lambda: "never asked")
    assert caplog.records == []


async def test_what_systemd_sets_for_another_process_is_not_for_us(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify")
    env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "7"}
    for pid, beats in ((7, 5), (8, 0)):
        with manager(address) as systemd:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(SdNotify.from_env(env, pid).run, lambda: "")
                await trio.sleep(9)
                nursery.cancel_scope.cancel()
            assert sum("WATCHDOG" in told for told in systemd.heard()) == beats
        os.unlink(address)


async def test_a_watchdog_time_that_is_no_number_is_none(tmp_path: Path, autojump_clock: Clock) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as systemd:
        notify = SdNotify.from_env({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "soon"}, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notify.run, lambda: "")
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        assert systemd.heard() == []
