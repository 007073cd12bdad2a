"""Children in cgroups of their own, in the kernel's real tree: who is inside, and that nobody leaves it alive."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from edge.config.common import STDIO_LIMITS, StdioLimits
from edge.net import reaper
from edge.net.cgroup import MAIN, PREFIX, Delegated, NotDelegated, Room, claim
from edge.net.child import Child, running
from tests.support import cgroups
from tests.support.processes import Process, eventually, process

pytestmark = pytest.mark.skipif(cgroups.why_not() is not None, reason=str(cgroups.why_not()))
# It leaves a process behind that nothing ties to it: another session, no environment, and its parent has ended.
LEAVES_A_DAEMON = "env -i /bin/sh -c 'setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!'; cat"


@pytest.fixture
def place() -> Iterator[Delegated]:
    with cgroups.delegated() as path:
        here = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].partition("\n")[0]
        root = cgroups.hierarchy()
        assert root is not None
        yield Delegated(path, frozenset(), root / here, frozenset({os.getpid()}))


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    assert list(reaper.children_of(os.getpid())) == []
    assert reaper.leaders == set()


async def read_line(child: Child) -> str:
    data = b""
    while not data.endswith(b"\n"):
        chunk = await child.stdout.read_some()
        assert chunk, "the child ended"
        data += chunk
    return data.decode().strip()


def start(
    script: str, place: Delegated | None, limits: StdioLimits = STDIO_LIMITS
) -> AbstractAsyncContextManager[Child]:
    return running(
        ("/bin/sh", "-c", script),
        env={},
        cwd=None,
        stop_grace_s=0.2,
        on_stderr=lambda chunk: None,
        cgroups=place,
        name="git",
        limits=limits,
    )


async def test_a_child_and_all_that_it_starts_are_inside_from_the_first_moment(place: Delegated) -> None:
    forks = "for i in 1 2 3 4 5 6 7 8; do sleep 300 & done; setsid sleep 300 & echo up; cat"
    with trio.fail_after(20):
        async with start(forks, place) as child:
            await read_line(child)
            found = {proc.pid for proc in reaper.descendants(os.getpid())}
            assert child.pid in found
            assert len(found) >= 10
            (room,) = place.path.glob(f"{PREFIX}git.*")
            assert set(Room(room).pids()) == found
    assert cgroups.rooms(place.path) == []


async def test_a_daemon_that_has_left_everything_behind_ends_with_its_server(place: Delegated) -> None:
    found: list[Process] = []
    with trio.fail_after(20):
        async with start(LEAVES_A_DAEMON, place) as child:
            found.append(process(int(await read_line(child))))
            assert [each for each in found if each.is_alive] == found
    assert [each for each in found if each.is_alive] == []
    assert cgroups.rooms(place.path) == []


async def test_two_of_one_name_live_side_by_side(place: Delegated) -> None:
    with trio.fail_after(20):
        async with start("echo; cat", place) as one:
            async with start("echo; cat", place) as two:
                await read_line(one)
                await read_line(two)
                assert len(cgroups.rooms(place.path)) == 2
            assert len(cgroups.rooms(place.path)) == 1
    assert cgroups.rooms(place.path) == []


async def test_what_it_has_used_is_known_after_its_end(place: Delegated) -> None:
    burn = f"{sys.executable} -I -S -c 'import time\nwhile time.process_time() < 0.2: pass'; echo done; cat"
    with trio.fail_after(30):
        async with start(burn, place) as child:
            await read_line(child)
            assert child.usage().processes >= 1
            assert child.usage().memory_bytes > 0
    used = child.usage()
    assert used.cpu_s >= 0.15
    assert set(used.stalled_s) <= {"cpu", "memory", "io"}


def test_what_a_predecessor_left_is_ended_and_removed(place: Delegated) -> None:
    room = place.room("git")
    below = room.path / "made-by-the-server"
    below.mkdir()
    pid = os.spawnv(os.P_NOWAIT, "/bin/sleep", ["sleep", "300"])
    (below / "cgroup.procs").write_text(str(pid))
    assert room.pids() == [pid]
    assert place.clear() == 1
    assert os.waitpid(pid, 0)[1] == 9
    assert cgroups.rooms(place.path) == []


def test_our_own_cgroup_is_claimed_on_evidence_only(place: Delegated, tmp_path: Path) -> None:
    pid = os.spawnv(os.P_NOWAIT, "/bin/sleep", ["sleep", "300"])
    try:
        (place.path / "cgroup.procs").write_text(str(pid))
        proc = Path(f"/proc/{pid}")
        with pytest.raises(NotDelegated, match="others are in"):
            claim(cgroups.EVIDENCE, frozenset({1}), proc=proc)
        with pytest.raises(NotDelegated, match="another unit's"):
            claim({"INVOCATION_ID": "f" * 32}, frozenset({pid}), proc=proc)
        found = claim(cgroups.EVIDENCE, frozenset({pid}), proc=proc)
        assert found.path == place.path
        assert cgroups.pids_in(place.path / MAIN) == {pid}
        assert (
            claim(cgroups.EVIDENCE, frozenset({pid}), proc=proc).path == place.path
        )  # from the leaf, as a subgroup
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        eventually(lambda: not cgroups.pids_in(place.path))


# -- limits without controllers for them


EATS = "echo up; exec {python} -I -S -c 'import time; kept = bytearray({mib} << 20); time.sleep(300)'"


@pytest.mark.parametrize("has_room", [True, False])
async def test_a_child_over_its_memory_limit_is_ended_and_the_reason_said(
    place: Delegated, has_room: bool
) -> None:
    if "memory" in place.controllers:
        pytest.skip("the kernel enforces it here")
    script = EATS.format(python=sys.executable, mib=96)
    limits = StdioLimits(memory_bytes=64 << 20)
    with trio.fail_after(30):
        async with (
            start(script, place if has_room else None, limits) as child,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(child.keep_within_limits)
            assert await child.wait() == "killed by SIGKILL: over its memory limit of 64 MiB"
            nursery.cancel_scope.cancel()
    assert child.usage().oom_kills == 1


async def test_a_child_with_too_many_processes_is_ended_and_the_reason_said() -> None:
    with trio.fail_after(30):
        async with (
            start("for i in 1 2 3 4 5 6; do sleep 300 & done; cat", None, StdioLimits(processes=5)) as child,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(child.keep_within_limits)
            assert await child.wait() == "killed by SIGKILL: over its limit of 5 processes"
            nursery.cancel_scope.cancel()
