"""The guard: the process that the operator started stays behind as the appliance's parent, and sees to the promise
that no process outlives us, however we end.

`stand()` forks at the very start of `run` and `connect`, before anything large is imported. The child becomes the
appliance; the parent, the guard, does nothing but wait and pass on signals.

* **The appliance is killed** (SIGKILL, the OOM killer, a crash of the interpreter): what it had started comes to the
  guard, which is a child subreaper. It ends all of that by SIGKILL, again and again until nothing is left, and then
  ends as the appliance did: with the same exit code, or by the same signal.
* **The guard is killed:** it holds one end of a pipe that nobody else has. The appliance sees the other end close
  (`serving.py`), ends its servers at once, and itself.

Why the guard is above and not a helper below: orphans only ever come to an *ancestor* that is a subreaper, so
whatever is to catch the ones that went to the background has to be above all servers, and a helper below us would
have to start them and to tell us of their ends. Why the lifeline is a pipe and no parent-death signal: what is to
happen then is more than to die.

The appliance has a process group of its own. So every signal for the pair comes to the guard alone, be it from a
terminal (Ctrl-C), `kill PID`, `kill -- -GROUP` or a supervisor, and is passed on exactly once: a second one may mean
"do not drain" (`edge.app.appliance`). Ctrl-Z stops both, `fg` and `bg` let both go on. SIGSTOP cannot be caught: it
stops the guard only, and the appliance serves on.

There is no guard where systemd has started us as a service, as it ends the whole cgroup itself; nor where the system
knows no subreapers (macOS). It cannot help if both are killed at the same instant: then servers see the end of
their stdin, and only those that heed it end. As process 1 of a container it is the init, and reaps.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Container, Mapping
from contextlib import suppress

from edge.cli.output import say
from edge.net import reaper

PASSED_ON = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT,
)  # fmt: skip
HEARD = frozenset({*PASSED_ON, signal.SIGTSTP, signal.SIGCHLD})
END_ALL_S = 5.0  # how long the ending of what was left may take: a process in the kernel's hands
PAUSE_S = 0.01

lifeline: int | None = None
"""In the appliance, the descriptor that is at its end when the guard has gone; None if there is no guard."""


def stand() -> int | None:
    """Fork, if a guard is needed: None in the appliance, its exit code in the guard, once the appliance has ended.

    Does not return in the guard if a signal ended the appliance: the same ends the guard.
    """
    global lifeline
    if is_run_by_systemd(os.environ, os.getpid(), os.getppid(), own_cgroups()) or not reaper.adopt_orphans():
        return None
    earlier = {
        (proc.pid, proc.start) for proc in reaper.descendants(os.getpid())
    }  # of a shell that became us
    ours, appliances = os.pipe()[::-1]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, there would be nothing to wait for
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # nothing may come between fork and wait
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        lifeline = appliances
        os.setpgid(0, 0)
        # What was meant for the one process is meant for the appliance.
        for name in ("LISTEN_PID", "WATCHDOG_PID"):
            if os.environ.get(name) == str(os.getppid()):
                os.environ[name] = str(os.getpid())
        # Its group is never a terminal's foreground: writing there is allowed, even after `stty tostop`.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    os.close(appliances)
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "").isdecimal():
        first = 3  # sd_listen_fds(3): an address is free again when the appliance has let it go
        for number in range(first, first + int(os.environ["LISTEN_FDS"])):
            if number != ours:  # where fewer came than were promised
                with suppress(OSError):
                    os.close(number)
    with suppress(OSError):  # it has done so itself, or is gone
        os.setpgid(pid, pid)
    reaper.name_process("mcp-edge-guard")
    status = wait_for(pid)
    n_ended = end_all(earlier)
    while reap_any() is not None:  # an init that is slow to do so would show them as defunct
        pass
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    say(f"mcp-edge: killed by {reaper.signal_name(number)}{told_of(n_ended)}", err=True)
    die_of(number)
    return 128 + number  # we are process 1, which no signal of its own ends


def is_run_by_systemd(env: Mapping[str, str], pid: int, ppid: int, cgroups: str) -> bool:
    """We are the main process of a service, not just something below one: a terminal's shell has these variables too.

    Source: systemd.exec(5), $INVOCATION_ID and $SYSTEMD_EXEC_PID (since systemd 248; before it, the parent tells).
    """
    if "INVOCATION_ID" not in env or ".service" not in cgroups:
        return False
    main = env.get("SYSTEMD_EXEC_PID")
    return ppid == 1 if main is None else main == str(pid)


def own_cgroups() -> str:
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def wait_for(pid: int) -> int:
    """Pass signals on until `pid` has ended; its wait status. Everything else that ends is reaped."""
    while True:
        number = signal.sigwait(HEARD)
        if number == signal.SIGCHLD:
            while (found := reap_any()) is not None:
                if found[0] == pid:
                    return found[1]
        elif number != signal.SIGTSTP:
            os.kill(pid, number)  # unreaped, so it is still this one
        elif has_somebody_to_resume_it():
            os.kill(pid, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)  # this returns when somebody has said SIGCONT
            os.kill(pid, signal.SIGCONT)


def has_somebody_to_resume_it() -> bool:
    """The rule by which the kernel itself heeds or drops Ctrl-Z (POSIX, "orphaned process group")."""
    try:
        parent = os.getppid()
        return os.getsid(parent) == os.getsid(0) and os.getpgid(parent) != os.getpgrp()
    except OSError:
        return False  # the parent is outside of our container


def reap_any() -> tuple[int, int] | None:
    """Pid and status of a child that has ended, if there is one."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def end_all(spared: Container[tuple[int, int]] = ()) -> int:
    """SIGKILL to all descendants until none lives, END_ALL_S at most; how many there were. Nothing is reaped.

    `spared` (pid and start) are left alone, with what is below them.
    """
    ended: set[int] = set()
    give_up = time.monotonic() + END_ALL_S
    while left := [proc for proc in reaper.descendants(os.getpid(), spared) if proc.is_alive]:
        for proc in left:
            ended.add(proc.pid)
            reaper.send_to(proc, signal.SIGKILL)
        if time.monotonic() > give_up:
            break
        time.sleep(PAUSE_S)
    return len(ended)


def told_of(n_ended: int) -> str:
    """The rest of the sentence about its end."""
    if not n_ended:
        return ""
    whose = "process of its servers has" if n_ended == 1 else "processes of its servers have"
    return f"; {n_ended} {whose} been ended"


def die_of(number: int) -> None:
    """End by this signal, as the appliance did: whoever waits for us is to see the same."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # there is one core file already, if any
    with suppress(OSError, ValueError):  # SIGKILL cannot be set
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
