"""Real children: how they are started, and that the ladder ends them and all they leave behind."""

import json
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio

from edge.net import reaper
from edge.net.child import Child, Pipe, running
from edge.net.command import NotStarted

SH = "/bin/sh"


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    left = list(reaper.children_of(os.getpid()))
    for dead in [
        proc for proc in left if proc.state == "Z"
    ]:  # whose parent died right after it: adopted too late
        os.waitpid(dead.pid, 0)
        left.remove(dead)
    assert left == []
    assert reaper.leaders == set()


class Stderr:
    def __init__(self) -> None:
        self.text = ""

    def feed(self, chunk: bytes) -> None:
        self.text += chunk.decode()


def sh(script: str) -> Sequence[str]:
    return (SH, "-c", script)


async def read_line(child: Child) -> str:
    data = b""
    while not data.endswith(b"\n"):
        chunk = await child.stdout.read_some()
        assert chunk, "the child ended"
        data += chunk
    return data.decode().strip()


def is_alive(pid: int) -> bool:
    found = reaper.look_up(pid)
    return found is not None and found.is_alive


async def test_it_talks_and_its_end_is_seen() -> None:
    stderr = Stderr()
    with trio.fail_after(10):
        async with running(
            sh("read x; echo got $x; echo complaint >&2; exit 3"),
            env={},
            cwd=None,
            stop_grace_s=5,
            on_stderr=stderr.feed,
        ) as child:
            await child.stdin.write_all(b"word\n")
            assert await read_line(child) == "got word"
            assert await child.wait() == "exited with status 3"
    assert stderr.text == "complaint\n"


async def test_it_has_a_clean_environment_its_own_session_and_no_descriptors_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "s3cret")
    script = (
        "import os,json;"
        "print(json.dumps([dict(os.environ), os.getsid(0), os.getpgrp(), os.getpid(), os.getcwd(),"
        " sorted(map(int, os.listdir('/proc/self/fd')))]))"
    )
    with (tmp_path / "open file").open("w") as ours, trio.fail_after(10):
        os.set_inheritable(ours.fileno(), True)
        async with running(
            (sys.executable, "-c", script),
            env={"KEY": "value"},
            cwd=str(tmp_path),
            stop_grace_s=5,
            on_stderr=Stderr().feed,
        ) as child:
            env, session, group, pid, cwd, fds = json.loads(await read_line(child))
    assert "GATEWAY_SECRET" not in env
    assert (env["KEY"], env["PATH"]) == ("value", os.environ["PATH"])
    assert session == group == pid
    assert cwd == str(tmp_path)
    assert set(fds) <= {0, 1, 2, 3}  # 3 is the directory it is listing


async def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    script = tmp_path / "serve"
    script.write_text("#!/not/there/python\n")
    script.chmod(0o755)
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"\0\0\0")
    nonsense.chmod(0o755)
    wrong = {
        "no-such-server": "the command no-such-server was not found, or is not executable, in PATH ",
        str(script): "interpreter named in its first line",
        str(nonsense): "neither a program",
    }
    for command, words in wrong.items():
        with trio.fail_after(10), pytest.raises(NotStarted, match=words):
            async with running((command,), env={}, cwd=None, stop_grace_s=5, on_stderr=Stderr().feed):
                raise AssertionError("it started")


async def test_the_end_of_its_stdin_is_enough_for_a_polite_child() -> None:
    stderr = Stderr()
    script = "trap 'echo terminated >&2' TERM; cat >/dev/null; echo bye >&2"
    with trio.fail_after(10):
        async with running(sh(script), env={}, cwd=None, stop_grace_s=9, on_stderr=stderr.feed):
            await trio.lowlevel.checkpoint()
    assert stderr.text == "bye\n"


async def test_one_that_ignores_the_end_of_stdin_is_terminated() -> None:
    stderr = Stderr()
    script = "trap 'echo terminated >&2; exit' TERM; echo up; while :; do sleep 0.05; done"
    with trio.fail_after(10):
        async with running(sh(script), env={}, cwd=None, stop_grace_s=0.2, on_stderr=stderr.feed) as child:
            await read_line(child)
    assert "terminated\n" in stderr.text  # the shell may add words about its sleep


async def test_one_that_ignores_sigterm_is_killed() -> None:
    with trio.fail_after(10):
        async with running(
            sh("trap '' TERM; echo up; while :; do sleep 0.05; done"),
            env={},
            cwd=None,
            stop_grace_s=0.1,
            on_stderr=Stderr().feed,
        ) as child:
            await read_line(child)


async def test_one_that_is_busy_writing_still_sees_the_end_of_its_stdin() -> None:
    script = (
        "import sys; sys.stdout.write('x' * 5_000_000 + '\\n'); sys.stdin.read(); sys.stderr.write('bye')"
    )
    stderr = Stderr()
    with trio.fail_after(10):
        async with running(
            (sys.executable, "-c", script), env={}, cwd=None, stop_grace_s=9, on_stderr=stderr.feed
        ):
            await trio.lowlevel.checkpoint()
    assert stderr.text == "bye"


@pytest.mark.parametrize("how", ["", "setsid "], ids=["in its group", "in a session of its own"])
@pytest.mark.parametrize("ending", ["exit 0", "read x", "kill -9 $$"])
async def test_grandchildren_are_ended_too(how: str, ending: str) -> None:
    with trio.fail_after(10):
        async with running(
            sh(f"{how}sleep 300 </dev/null >/dev/null 2>&1 & echo $!; {ending}"),
            env={},
            cwd=None,
            stop_grace_s=0.5,
            on_stderr=Stderr().feed,
        ) as child:
            pid = int(await read_line(child))
            assert is_alive(pid)
            if ending != "read x":
                await child.wait()
    assert not is_alive(pid)


async def test_a_stubborn_grandchild_in_its_own_session_without_our_marker_is_ended() -> None:
    script = "setsid env -i /bin/sh -c 'trap \"\" TERM; echo $$; sleep 300 & wait' & read x"
    with trio.fail_after(10):
        async with running(sh(script), env={}, cwd=None, stop_grace_s=0.2, on_stderr=Stderr().feed) as child:
            pid = int(await read_line(child))
    assert not is_alive(pid)


async def test_children_of_others_are_left_alone() -> None:
    with trio.fail_after(10):
        process = await trio.lowlevel.open_process(("sleep", "300"), start_new_session=True)
        try:
            async with (
                running(sh("read x"), env={}, cwd=None, stop_grace_s=5, on_stderr=Stderr().feed) as one,
            ):
                async with running(sh("read x"), env={}, cwd=None, stop_grace_s=5, on_stderr=Stderr().feed):
                    await trio.lowlevel.checkpoint()
                assert one.exit_text() is None
            assert process.returncode is None
        finally:
            process.kill()
            await process.wait()
    assert process.returncode == -signal.SIGKILL


async def test_orphans_that_die_while_the_child_lives_are_reaped(autojump_clock: object) -> None:
    """The clock jumps only when all tasks wait, so the sweep is due as soon as nothing else is."""
    del autojump_clock
    async with running(
        sh("(sleep 0.01 & exec true) </dev/null; sleep 0.3; echo up; read x"),
        env={},
        cwd=None,
        stop_grace_s=600,
        on_stderr=Stderr().feed,
        start_limit_s=float("inf"),
    ) as child:
        await read_line(child)
        assert any(not proc.is_alive for proc in reaper.children_of(os.getpid()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.sweep)
            await trio.sleep(15)
            nursery.cancel_scope.cancel()
        assert [proc.pid for proc in reaper.children_of(os.getpid())] == [child.pid]


async def test_cancelled_while_it_starts_or_runs_nothing_is_left() -> None:
    for delay in (0, 0.001, 0.003, 0.01, 0.05):
        with trio.fail_after(10), trio.move_on_after(delay):
            async with running(
                sh("sleep 300 & read x"), env={}, cwd=None, stop_grace_s=0.2, on_stderr=Stderr().feed
            ):
                await trio.sleep_forever()
        assert list(reaper.children_of(os.getpid())) == []


async def test_a_pipe_takes_a_short_message_whole_or_not_at_all() -> None:
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(writing) as stream:
        pipe = Pipe(stream)
        assert not pipe.try_write(b"x" * (select.PIPE_BUF + 1))
        written = 0
        while pipe.try_write(b"x" * 1000):
            written += 1000
        received = b""
        while len(received) < written:
            received += os.read(reading, 65536)
        assert len(received) == written
        os.close(reading)
        assert not pipe.try_write(b"x")
