"""A child process in its own session and process group: clean start, fast pipes, and the stop ladder.

The ladder: close its stdin and wait; SIGTERM to the group and wait; SIGKILL; reap. It ends what the child
left behind too, in its group, orphaned to us (reaper.py) or in its cgroup, where it has one (cgroup.py). The
leader stays unreaped until its group has been ended, because until then its pid, and so the group's number,
cannot belong to anybody else.

There is no parent-death signal: the kernel ties it to the *thread* that forked, and that is a worker thread
that ends when it is idle. If we are killed outright, children see the end of their stdin, which is how a
stdio server is told to exit (MCP 2025-11-25, Lifecycle, Shutdown); those that do not heed it are ended by our
guard (cli/guard.py), or by systemd with the rest of the unit.
"""

import fcntl
import os
import select
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count

import trio

from edge.config.common import STDIO_LIMITS, StdioLimits
from edge.metrics_servers import Usage
from edge.net import reaper
from edge.net.cgroup import Delegated
from edge.net.command import NotStarted
from edge.net.start import KILL_WAIT_S, POLL_S, START_LIMIT_S, Start, Started, begin, clear_away
from edge.net.usage import SAMPLE_S, Consumption, cap_data, members_of
from edge.scopes import goodbye

PIPE_BYTES = (
    256 * 1024
)  # a user may have 64 MiB in unprivileged pipes; beyond, each new one gets a page or two
READ_BYTES = 64 * 1024
LAST_WORDS_S = 0.2  # for what is still in the pipe of stderr
SWEEP_S = 10.0  # how often orphans that died while the server runs are reaped

numbers = count(1)


class Pipe:
    """One end of a pipe, without the checkpoints that the hot path can spare. One task a time uses it."""

    def __init__(self, stream: trio.lowlevel.FdStream) -> None:
        self._stream = stream
        self._fd = stream.fileno()

    def widen(self) -> None:
        """Fewer, larger reads and writes. Over the user's quota the kernel's 64 KiB do."""
        with suppress(OSError):
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    async def read_some(self) -> bytes:
        """What there is, at least a byte; empty at the end. Always lets other tasks run."""
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                return os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                continue

    def try_write(self, data: bytes) -> bool:
        """Write all of `data` or nothing, now: for a pipe that holds up to PIPE_BUF bytes (pipe(7))."""
        if len(data) > select.PIPE_BUF:
            return False
        try:
            return os.write(self._fd, data) == len(data)
        except OSError:
            return False  # full; or closed at its other end, as the next `write_all` will say

    async def write_all(self, data: bytes) -> None:
        """Raises trio.BrokenResourceError if the other end is closed. No checkpoint if it fits at once."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._fd)
            except BrokenPipeError as exc:
                raise trio.BrokenResourceError("the pipe is closed at its other end") from exc

    def close(self) -> None:
        """Whoever waits in `read_some` or `write_all` gets trio.ClosedResourceError. Again is harmless."""
        self._stream.close()


class Child:
    """A running child and its pipes. Made by `running`, which also ends it."""

    def __init__(
        self,
        started: Started,
        marker: str,
        on_stderr: Callable[[bytes], None],
        limits: StdioLimits,
    ) -> None:
        self._process, room = started.process, started.room
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self.stdin, self.stdout, self._stderr = (Pipe(trio.lowlevel.FdStream(fd)) for fd in started.pipes)
        self.stdin.widen()
        self.stdout.widen()
        self._on_stderr = on_stderr
        self._room = room
        self._family = reaper.Family(self.pid, marker, room.pids if room is not None else tuple)
        self._consumption = Consumption(
            lambda: members_of(self.pid, self._family.members()),
            room,
            memory_bytes=limits.memory_bytes,
            processes=limits.processes,
        )
        self._limits = limits
        self._excess: str | None = None

    def confine(self) -> None:
        """Below its memory limit, where no cgroup sees to that; to be called once, before anything is awaited."""
        room = self._room
        if self._limits.memory_bytes and (room is None or "memory" not in room.controllers):
            cap_data(self.pid, self._limits.memory_bytes)

    def exit_text(self) -> str | None:
        """`exited with status 1`, `killed by SIGKILL: over its memory limit of 512 MiB`; None while it runs.

        It is not reaped by looking.
        """
        try:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return "exited with a status that nobody knows"  # we were started with SIGCHLD ignored
        if found is None:
            return None
        if found.si_code == os.CLD_EXITED:
            return f"exited with status {found.si_status}"
        text = f"killed by {reaper.signal_name(found.si_status)}"
        why = self._excess or self._consumption.why_killed() if found.si_status == signal.SIGKILL else None
        return f"{text}: {why}" if why else text

    async def wait(self) -> str:
        """Its `exit_text`, when it has exited. One task at a time."""
        while (text := self.exit_text()) is None:
            await trio.lowlevel.wait_readable(self._pidfd)
        return text

    async def pump_stderr(self) -> None:
        """Hand what it writes to stderr to `on_stderr`, to its end. One task at a time."""
        while chunk := await self._stderr.read_some():
            self._on_stderr(chunk)

    async def sweep(self) -> None:
        """Reap, for ever, what the running server has orphaned and what has died since."""
        while True:
            await trio.sleep(SWEEP_S)
            self._family.reap()

    def usage(self) -> Usage:
        """What it takes, with all that it has started; what it took last, once it has ended."""
        return self._consumption.usage()

    async def keep_within_limits(self) -> None:
        """End it, for ever, whenever it is seen to be over a limit that no cgroup enforces."""
        if not self._consumption.is_to_be_watched:
            return
        while True:
            await trio.sleep(SAMPLE_S)
            if self.exit_text() is None and (excess := self._consumption.excess()) is not None:
                self._excess = excess
                self.kill_now()

    async def end(self, grace_s: float) -> bool:
        """The ladder. False if something is left that even SIGKILL has not ended in time.

        Bounded, and safe to run under any cancellation: `running` does so in a `goodbye`.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pump_stderr)
            nursery.start_soon(self._discard_stdout)  # or it could hang in a write and not see its stdin end
            self._family.members()  # while the child lives it is plain who descends from it
            self.stdin.close()
            with trio.move_on_after(grace_s):
                await self.wait()
            gone = await self._end_family(signal.SIGTERM, grace_s) or await self._end_family(
                signal.SIGKILL, KILL_WAIT_S
            )
            nursery.cancel_scope.cancel()
        with trio.move_on_after(LAST_WORDS_S):
            await self.pump_stderr()
        return gone

    def close(self) -> None:
        """Reap the leader if it is dead, and let go of everything; nothing is awaited."""
        self._consumption.over()
        self._process.poll()
        if self._room is not None and not self._room.remove():
            self._room.kill()  # the next start of ours removes it, if not systemd
        reaper.leaders.discard(self.pid)
        os.close(self._pidfd)
        for pipe in (self.stdin, self.stdout, self._stderr):
            pipe.close()

    def kill_now(self) -> None:
        """SIGKILL to all of it at once, for when there is no time left."""
        self._signal(signal.SIGKILL)

    async def _end_family(self, number: signal.Signals, wait_s: float) -> bool:
        """Signal the leader, its group and what escaped from it; True when none lives."""
        if not self._is_gone():
            self._signal(number)
        with trio.move_on_after(wait_s):
            while not self._is_gone():
                await trio.sleep(POLL_S)
                if number == signal.SIGKILL:
                    self._signal(number)  # those that forked in between
        return self._is_gone()

    def _is_gone(self) -> bool:
        is_empty = self._room is None or not self._room.is_populated()
        return self.exit_text() is not None and self._family.reap() == 0 and is_empty

    def _signal(self, number: signal.Signals) -> None:
        self._family.members()  # and again: these may become orphans now
        with suppress(ProcessLookupError, PermissionError):  # nobody left in it, or all are set-uid programs
            os.killpg(self.pid, number)  # the unreaped leader holds the number: nobody else can have it
        self._family.send(number)
        if number == signal.SIGKILL and self._room is not None:
            self._room.kill()

    async def _discard_stdout(self) -> None:
        while await self.stdout.read_some():
            pass


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None,
    stop_grace_s: float,
    on_stderr: Callable[[bytes], None],
    on_left: Callable[[], None] = lambda: None,
    limits: StdioLimits = STDIO_LIMITS,
    cgroups: Delegated | None = None,
    name: str = "",
    limiter: trio.CapacityLimiter | None = None,
    start_limit_s: float = START_LIMIT_S,
) -> AsyncIterator[Child]:
    """Start `command`; leaving the block walks down the ladder, whatever ended it. Raises NotStarted.

    `limits.memory_bytes` and `limits.processes` are enforced by a cgroup, one of `cgroups` with this `name` in its own,
    that is removed in the end; without one, by `keep_within_limits`. `on_left` is called if something could not be
    ended. The block takes at most twice `stop_grace_s` and some seconds to leave, also under cancellation. `limiter` is
    for the threads in which this server is started, and `start_limit_s` what a start may take (start.py).
    """
    reaper.adopt_orphans()
    marker = f"{os.getpid()}.{next(numbers)}"
    start = Start(command, env=env, cwd=cwd, marker=marker, name=name, limits=limits, cgroups=cgroups)
    started = await begin(start, limiter or trio.CapacityLimiter(1), start_limit_s, on_left)
    try:  # no checkpoint since it was started
        child = Child(started, marker, on_stderr, limits)
    except OSError as exc:
        await clear_away(started, on_left)
        raise NotStarted(f"cannot watch {started.path}: {exc.strerror}") from exc
    child.confine()
    try:
        yield child
    finally:
        gone = False
        try:
            with goodbye(2 * stop_grace_s + KILL_WAIT_S + 1.0):
                gone = await child.end(stop_grace_s)
        finally:
            if not gone:
                child.kill_now()
                on_left()
            child.close()
