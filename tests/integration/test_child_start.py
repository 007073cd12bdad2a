"""Starts that hang in the kernel: they hold up nobody, can be given up, and leave nothing behind."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from edge.config.common import STDIO_LIMITS
from edge.net import reaper, start
from edge.net.cgroup import PREFIX, Delegated
from edge.net.child import Child, running
from edge.net.command import NotStarted
from edge.net.start import Start, clear_away
from tests.support import cgroups
from tests.support.hanging import dead_mount, leased, why_no_dead_mount
from tests.support.processes import eventually

needs_mount = pytest.mark.skipif(why_no_dead_mount() is not None, reason=str(why_no_dead_mount()))
CAT = shutil.which("cat") or "/bin/cat"


@pytest.fixture(params=["without a cgroup", "in a cgroup"])
def place(request: pytest.FixtureRequest) -> Iterator[Delegated | None]:
    if request.param == "without a cgroup":
        yield None
        return
    if (why_not := cgroups.why_not()) is not None:
        pytest.skip(why_not)
    with delegated_to_us() as given:
        yield given


@contextmanager
def delegated_to_us() -> Iterator[Delegated]:
    with cgroups.delegated() as path:
        here = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].partition("\n")[0]
        root = cgroups.hierarchy()
        assert root is not None
        ours = {os.getpid(), *(proc.pid for proc in reaper.children_of(os.getpid()))}  # whoever has a lease
        yield Delegated(path, frozenset(), root / here, frozenset(ours))
        assert cgroups.rooms(path) == []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    fds = len(os.listdir("/proc/self/fd"))
    yield
    assert list(reaper.children_of(os.getpid())) == []
    assert reaper.leaders == set()
    assert start.given_up == set()
    assert len(os.listdir("/proc/self/fd")) <= fds + 1  # what the first thread's token may have opened


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[str]:
    """A program whose execution hangs."""
    program = tmp_path / "serve"
    shutil.copy(CAT, program)
    with leased(program):
        yield str(program)


def child(
    program: str, place: Delegated | None = None, **options: float
) -> AbstractAsyncContextManager[Child]:
    return running(
        (program,),
        env={},
        cwd=None,
        stop_grace_s=0.2,
        on_stderr=lambda chunk: None,
        on_left=lambda: pytest.fail("something is left"),
        cgroups=place,
        name="git",
        start_limit_s=options.get("start_limit_s", float("inf")),
    )


async def until_forked() -> reaper.Proc:
    """Our one child, when there is one."""
    while True:
        # A copy of us, until it has executed its program.
        for proc in reaper.children_of(os.getpid()):
            if Path(f"/proc/{proc.pid}/wchan").read_text().startswith("__break_lease"):  # noqa: ASYNC240  in memory
                return proc
        await trio.sleep(0.01)


async def until_nothing_hangs() -> None:
    """What hung in a mount comes to an end when that has gone."""
    await trio.to_thread.run_sync(eventually, lambda: not start.given_up)


async def start_and_stop(program: str, place: Delegated | None) -> None:
    async with child(program, place) as other:
        await other.stdin.write_all(b"hello\n")
        assert await other.stdout.read_some() == b"hello\n"


async def hang(program: str, place: Delegated | None) -> None:
    async with child(program, place):
        raise AssertionError("it started")


async def test_one_that_hangs_in_its_execution_holds_up_nobody_and_ends_when_it_is_cancelled(
    hanging: str, place: Delegated | None
) -> None:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang, hanging, place)
            hung = await until_forked()
            for _ in range(3):
                await start_and_stop(CAT, place)
            assert reaper.look_up(hung.pid) is not None
            nursery.cancel_scope.cancel()
        assert reaper.look_up(hung.pid) is None


async def test_one_that_hangs_does_so_in_its_own_cgroup(hanging: str) -> None:
    if (why_not := cgroups.why_not()) is not None:
        pytest.skip(why_not)
    with delegated_to_us() as place, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang, hanging, place)
            hung = await until_forked()
            [room] = place.path.glob(f"{PREFIX}git.*")
            await trio.to_thread.run_sync(eventually, lambda: cgroups.pids_in(room) == {hung.pid})
            nursery.cancel_scope.cancel()


async def test_one_that_hangs_is_given_up_after_a_while_and_that_is_said(
    hanging: str, place: Delegated | None
) -> None:
    with (
        trio.fail_after(20),
        pytest.raises(NotStarted, match=r"has not been started within 0\.2 s; is a mount"),
    ):
        async with child(hanging, place, start_limit_s=0.2):
            raise AssertionError("it started")


@needs_mount
async def test_a_mount_that_does_not_answer_holds_up_nobody(tmp_path: Path, place: Delegated | None) -> None:
    with dead_mount(tmp_path / "dead"), trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang, str(tmp_path / "dead" / "serve"), place)
            nursery.start_soon(hang, str(tmp_path / "dead" / "other"), place)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(3):
                await start_and_stop(CAT, place)
            nursery.cancel_scope.cancel()
        assert len(start.given_up) == 2
    await until_nothing_hangs()


@needs_mount
async def test_a_server_has_one_start_at_a_time(tmp_path: Path) -> None:
    limiter = trio.CapacityLimiter(1)
    program = str(tmp_path / "dead" / "serve")
    with dead_mount(tmp_path / "dead"), trio.fail_after(20):
        for _ in range(3):
            with pytest.raises(NotStarted):
                async with running(
                    (program,),
                    env={},
                    cwd=None,
                    stop_grace_s=0.2,
                    on_stderr=lambda chunk: None,
                    limiter=limiter,
                    start_limit_s=0.1,
                ):
                    raise AssertionError("it started")
        assert len(start.given_up) == 1
    await until_nothing_hangs()


@needs_mount
async def test_too_many_that_hang_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "MAX_GIVEN_UP", 2)
    with dead_mount(tmp_path / "dead"), trio.fail_after(20):
        for n, words in enumerate(("has not been started", "has not been started", "2 earlier starts still")):
            with pytest.raises(NotStarted, match=words):
                async with child(str(tmp_path / "dead" / f"serve-{n}"), start_limit_s=0.1):
                    raise AssertionError("it started")
    await until_nothing_hangs()


@needs_mount
async def test_one_that_hangs_still_is_not_begun_again_but_another_program_of_the_server_is(
    tmp_path: Path,
) -> None:
    """Also when a reload has made the server anew: else each would leave a thread behind."""
    with dead_mount(tmp_path / "dead"), trio.fail_after(20):
        for words in ("has not been started", "an earlier start of it still hangs"):
            with pytest.raises(NotStarted, match=words):
                async with child(str(tmp_path / "dead" / "serve"), start_limit_s=0.1):
                    raise AssertionError("it started")
        assert len(start.given_up) == 1
        async with child(CAT) as cat:
            assert cat.pid
    await until_nothing_hangs()


def a_start(command: str, place: Delegated | None) -> Start:
    return Start(
        (command,), env={}, cwd=None, marker="test.1", name="git", limits=STDIO_LIMITS, cgroups=place
    )


def test_one_that_is_given_up_before_it_begins_starts_nothing(place: Delegated | None) -> None:
    it = a_start(CAT, place)
    assert it.give_up() == (None, False)
    with pytest.raises(NotStarted, match="was given up"):
        it.run()


async def test_one_that_is_given_up_when_it_has_just_started_is_cleared_away(place: Delegated | None) -> None:
    it = a_start(CAT, place)
    begun = await trio.to_thread.run_sync(it.run)
    assert it.give_up() == (begun, False)
    await clear_away(begun, lambda: pytest.fail("something is left"))


def test_one_that_comes_to_its_execution_when_it_has_been_given_up_clears_away_what_it_started(
    hanging: str, place: Delegated | None
) -> None:
    """Killed while it hangs, it looks to its thread as if it had executed its program."""
    it = a_start(hanging, place)
    said: list[str] = []

    def run() -> None:
        with pytest.raises(NotStarted) as caught:
            it.run()
        said.append(str(caught.value))

    thread = threading.Thread(target=run)
    thread.start()
    while not list(reaper.children_of(os.getpid())):
        thread.join(0.01)
    it.give_up()
    thread.join(20)
    assert said == [f"cannot run {hanging}: the start was given up"]
