"""The start of a child: its program is found, forked and executed in a thread of its own, as each of these may hang.

Theory of operation. A file system that does not answer, say a network mount whose server has gone, holds up whoever
looks at a file there, for as long as it likes and maybe past any signal. So all of a start is done in a thread that
whoever waits for it can give up: what it has forked is killed then, and whatever it still comes to, it clears away by
itself. The thread can only be left to its wait; a server has one at a time (the `limiter` of `begin`), all together
MAX_GIVEN_UP, and none keeps the process from ending.

Only the moment of the fork is for one start at a time (`forking`): the child is moved into its cgroup while it is still
a copy of us, and it must not be born with the pipe by which another start hears of its own child's execution, as it
may hang with that. That is why it is forked, and not vforked: after vfork(2) this thread would stop until the program
has been executed, which is what may hang. The price is a copy of our page tables: some milliseconds a start.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import trio

from edge.config.common import StdioLimits
from edge.net import reaper
from edge.net.cgroup import Delegated, Room
from edge.net.command import NotStarted, environment, find_program, why_not
from edge.scopes import goodbye

START_LIMIT_S = 30.0  # until its program has been executed
MAX_GIVEN_UP = 64  # starts that hang, and that nobody waits for any more
KILL_WAIT_S = 2.0  # how long even SIGKILL may take: a process in the kernel's hands
POLL_S = 0.02  # how often it is looked whether a family has gone

subprocess._USE_VFORK = False  # type: ignore[misc]  # the switch that its documentation has for this

forking = threading.Lock()

given_up: set["Start"] = set()
"""Those that hang. Their threads take themselves out."""


class Started(NamedTuple):
    """A running child; nobody has ended it or closed `pipes`, our ends of its stdin, stdout and stderr."""

    process: subprocess.Popen[bytes]
    path: str
    room: Room | None
    pipes: tuple[int, int, int]
    marker: str


class Start:
    """One start. `run` is for a thread, `give_up` for whoever waits for that.

    `marker` is what tells its processes from others' (reaper.py). With `cgroups`, it gets a room there, by the `name`
    of the server, that limits it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        marker: str,
        name: str,
        limits: StdioLimits,
        cgroups: Delegated | None,
    ) -> None:
        self.command = command
        self.on_over: Callable[[], None] = lambda: None  # called from the thread
        self._environ = {**environment(os.environ, env), reaper.MARKER: marker}
        self._cwd = cwd
        self._marker = marker
        self._name = name
        self._limits = limits
        self._cgroups = cgroups
        self._lock = threading.Lock()  # of all below; held for moments only, the fork among them
        self._is_running = False
        self._is_given_up = False
        self._pidfd: int | None = None  # while it runs, from the fork on
        self._started: Started | None = None

    def run(self) -> Started:
        """May take for ever. Raises: NotStarted, also if it has been given up."""
        with self._lock:
            self._go_on()
            self._is_running = True
        try:
            path = find_program(self.command[0], self._environ.get("PATH", os.defpath), self._cwd)
            with ExitStack() as undo:
                started = self._execute(path, undo)
                with self._lock:
                    if not self._is_given_up:
                        self._started = started
                        undo.pop_all()
                        return started
                end_at_once(started)
                self._go_on()
            raise AssertionError("it was given up")
        finally:
            with self._lock:
                self._is_running = False
                given_up.discard(self)
                if self._pidfd is not None:
                    os.close(self._pidfd)
                    self._pidfd = None
            self.on_over()

    def give_up(self) -> tuple[Started | None, bool]:
        """What has been started and was not handed over; and whether a process may be left that is being killed.

        Does not wait for anything.
        """
        with self._lock:
            self._is_given_up = True
            if self._is_running:
                given_up.add(self)
            if self._pidfd is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            return self._started, self._pidfd is not None

    def has_like(self) -> bool:
        """Whether an earlier start of the same server, and from the same place, has been given up and still runs."""
        return any(each.what == self.what for each in tuple(given_up))

    @property
    def what(self) -> tuple[str, str, str | None]:
        return self._name, self.command[0], self._cwd

    def _go_on(self) -> None:
        if self._is_given_up:
            raise NotStarted(f"cannot run {self.command[0]}: the start was given up")

    def _execute(self, path: str, undo: ExitStack) -> Started:
        """Returns when `path` is being executed. Raises: NotStarted. `undo` lets go of everything but the process."""
        room = self._make_room(path)
        if room is not None:
            undo.callback(room.remove)
        try:
            with ExitStack() as theirs:
                stdin, ours_in = pipe(theirs, undo)
                ours_out, stdout = pipe(undo, theirs)
                ours_err, stderr = pipe(undo, theirs)
                process = self._fork(path, room, (stdin, stdout, stderr))
        except OSError as exc:
            raise NotStarted(f"cannot run {path}: {why_not(exc, path)}") from exc
        return Started(process, path, room, (ours_in, ours_out, ours_err), self._marker)

    def _make_room(self, path: str) -> Room | None:
        if self._cgroups is None:
            return None
        try:
            room = self._cgroups.room(self._name)
        except OSError as exc:
            raise NotStarted(f"cannot make a cgroup for {path}: {exc.strerror}") from exc
        room.limit(self._limits.memory_bytes, self._limits.processes)
        return room

    def _fork(self, path: str, room: Room | None, pipes: tuple[int, int, int]) -> subprocess.Popen[bytes]:
        """Raises: OSError, if it cannot be executed; NotStarted."""
        stdin, stdout, stderr = pipes
        forked: list[int] = []
        with ExitStack() as turn:
            turn.enter_context(forking)
            turn.enter_context(self._lock)
            self._go_on()

            def on_fork(pid: int) -> None:
                forked.append(pid)
                reaper.leaders.add(pid)
                if room is not None:
                    room.admit()
                with suppress(OSError):  # no descriptor left: then it is killed when it has been executed
                    self._pidfd = os.pidfd_open(pid)

            try:
                return Forked(
                    on_fork,
                    turn.close,  # before the execution
                    self.command,
                    executable=path,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env=self._environ,
                    cwd=self._cwd,
                    start_new_session=True,
                )
            except OSError:  # it has been reaped
                reaper.leaders.difference_update(forked)
                raise


class Forked(subprocess.Popen[bytes]):
    """Calls `on_fork` as soon as there is a process, and `on_alone` once no other child can be born with what is the
    two's; its constructor returns when the program has been executed.

    Should a Python not have the step in which it calls `on_alone`, its caller does without.
    """

    def __init__(
        self,
        on_fork: Callable[[int], None],
        on_alone: Callable[[], None],
        command: Sequence[str],
        **options: Any,
    ) -> None:
        self._on_fork = on_fork
        self._on_alone = on_alone
        super().__init__(command, **options)

    def _close_pipe_fds(self, *ends: int) -> None:
        """The first that it does after its own end of the pipe that tells of the execution is closed."""
        self._on_alone()
        super()._close_pipe_fds(*ends)  # type: ignore[misc]  # not in its stubs

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "pid" and isinstance(value, int):
            self._on_fork(value)


def pipe(read_end: ExitStack, write_end: ExitStack) -> tuple[int, int]:
    """The two ends, each to be closed by its stack. Raises: OSError."""
    ends = os.pipe()
    read_end.callback(os.close, ends[0])
    write_end.callback(os.close, ends[1])
    return ends


def end_at_once(started: Started) -> bool:
    """SIGKILL to all that has come of it, without a word before; reap. False if something is left after a while.

    For a thread: it polls.
    """
    process, room = started.process, started.room
    family = reaper.Family(process.pid, started.marker, room.pids if room is not None else tuple)
    give_up_at = time.monotonic() + KILL_WAIT_S
    while True:
        family.members()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its unreaped leader holds the number
        family.send(signal.SIGKILL)
        if room is not None:
            room.kill()
        is_dead = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        is_gone = is_dead and family.reap() == 0
        if is_gone or time.monotonic() > give_up_at:
            break
        time.sleep(POLL_S)
    process.poll()
    reaper.leaders.discard(process.pid)
    return is_gone


async def begin(
    start: Start, limiter: trio.CapacityLimiter, limit_s: float, on_left: Callable[[], None]
) -> Started:
    """What has been started, when its program is being executed. `on_left` as in `child.running`.

    Cancelling it gives it up, and takes KILL_WAIT_S and a second at most. Raises: NotStarted, also after `limit_s`.
    """
    name = start.command[0]
    with trio.move_on_after(KILL_WAIT_S):
        while start.has_like():  # noqa: ASYNC110  a thread, and maybe of a server that a reload has made anew
            await trio.sleep(POLL_S)
    if start.has_like():
        raise NotStarted(f"cannot run {name}: an earlier start of it still hangs; is a mount not answering?")
    if len(given_up) >= MAX_GIVEN_UP:
        raise NotStarted(f"cannot run {name}: {len(given_up)} earlier starts still hang")
    over, token = trio.Event(), trio.lowlevel.current_trio_token()

    def say_over() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(over.set)

    start.on_over = say_over
    with trio.move_on_after(limit_s):
        try:
            return await trio.to_thread.run_sync(start.run, abandon_on_cancel=True, limiter=limiter)
        except trio.Cancelled:
            started, is_killed = start.give_up()
            if started is not None:
                await clear_away(started, on_left)
            elif is_killed:
                with goodbye(KILL_WAIT_S + 1.0):
                    await over.wait()
                if not over.is_set():
                    on_left()
            raise
    raise NotStarted(
        f"cannot run {name}: it has not been started within {limit_s:g} s; is a mount not answering?"
    )


async def clear_away(started: Started, on_left: Callable[[], None]) -> None:
    """End what was started and that nobody can have."""
    is_gone = False
    with goodbye(KILL_WAIT_S + 1.0):
        is_gone = await trio.to_thread.run_sync(
            end_at_once, started, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
        )
    for fd in started.pipes:
        os.close(fd)
    if started.room is not None:
        started.room.remove()
    if not is_gone:
        on_left()
