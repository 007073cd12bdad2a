"""A Debian with a kernel of its own, for what only a kernel can show: limits of memory, cgroups of version 2 alone.

    with virtual_machine() as machine:
        machine.run("systemctl", "start", "some.service")

Not an emulator of a computer, which without help from the processor takes minutes to boot, but User-Mode Linux: Linux
as a program, whose processes are processes here that it traces. Debian packages it, and it boots in seconds. It has
one processor and loopback only. It has no pressure stall information (CONFIG_PSI); the containers have.

The root file system is that of the containers (build/roots.py), copied to an image; a program inside, `vm_agent.py`,
runs what it is told by a serial line. Files come in by a folder that both see.
"""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.support import calling, vm_agent
from tests.support.calling import Calls
from tests.support.peers import PEERS, missing
from tests.support.service import eventually
from tests.support.system import ENVIRONMENT, System

KERNEL = "linux.uml"
SUITE = "trixie"
MEMORY = "mem=768M"
IMAGE_SIZE = "1500M"
BOOT_LIMIT_S = 180.0
GRACE_S = 20.0  # for an orderly end
SHARED = "/mnt"
AGENT = f"""[Unit]
Description=what the test wants done
[Service]
ExecStartPre=/bin/mount -t hostfs none {SHARED}
ExecStart=/usr/bin/python3 -I -S {SHARED}/{Path(vm_agent.__file__).name} /dev/ttyS0
[Install]
WantedBy=multi-user.target
"""
# There are no modules to load; what is rebuilt after updates is as it was; the journal is for us.
KERNEL_OPTIONS = (
    "root=/dev/ubda",
    "rw",
    "quiet",
    "systemd.show_status=0",
    "systemd.condition_needs_update=0",
    "systemd.mask=systemd-modules-load.service",
    "systemd.mask=modprobe@.service",
    "systemd.mask=cron.service",
)


@functools.cache
def why_not() -> str | None:
    """None if it can be had here."""
    if os.geteuid() != 0:
        return "the root file system for a kernel of its own can be read by root only"
    if (reason := missing(KERNEL, "mkfs.ext4", f"systemd-{SUITE}")) is not None:
        return reason
    with tempfile.TemporaryDirectory(prefix="mcp-edge-vm-") as folder:
        probe = subprocess.run(
            [KERNEL, "mem=64M", f"uml_dir={folder}", "con=null", "con0=null,fd:1", "ssl=null"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=60,
        )
    said = probe.stdout.decode(errors="replace")
    if "Unable to mount root" in said:  # so far it gets without any
        return None
    return f"User-Mode Linux does not run here: {(said.strip().splitlines() or ['it says nothing'])[-1]}"


class VirtualMachine(System):
    def __init__(self, folder: Path, asks: IO[bytes], answers: IO[bytes]) -> None:
        self.folder = folder  # SHARED inside
        self._asks, self._answers = asks, answers
        self._rest = b""
        self._copied = 0

    def attempt(
        self, command: tuple[str, ...], text: str, limit_s: float
    ) -> subprocess.CompletedProcess[str]:
        asked = {"command": command, "text": text, "limit_s": limit_s, "env": ENVIRONMENT}
        self._asks.write(json.dumps(asked).encode() + b"\n")
        self._asks.flush()
        answer = json.loads(self.line(limit_s + GRACE_S))
        return subprocess.CompletedProcess(command, answer["status"], answer["stdout"], answer["stderr"])

    def line(self, limit_s: float) -> bytes:
        """The next that the agent says."""
        give_up = time.monotonic() + limit_s
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, give_up - time.monotonic()))
            chunk = os.read(self._answers.fileno(), 65536) if ready else b""
            assert chunk, f"the machine says nothing within {limit_s:g} s:\n{console(self.folder)}"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        script = 'mkdir -p "${1%/*}" && cat > "$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1"'
        self.run("sh", "-c", script, "sh", inside, f"{mode:o}", text=text)

    def copy(self, file: Path, inside: str) -> None:
        self._copied += 1  # by another name each time: what is seen through the folder may be remembered
        shutil.copyfile(file, self.folder / f"copied-{self._copied}")
        self.run("cp", f"{SHARED}/copied-{self._copied}", inside)

    def call(self, tool: str, **arguments: object) -> dict[str, object]:
        """As `calling.call`."""
        return dict(json.loads(self._calling("call", tool, json.dumps(arguments))))

    def get(self, path: str) -> tuple[int, str]:
        status, body = json.loads(self._calling("get", path))
        return status, body

    @contextlib.contextmanager
    def calling_without_pause(self, tool: str = "host__memory") -> Iterator[Calls]:
        """Calls over connections of their own until the block ends, at least one; what came of them is known then."""
        calls, folder = Calls(), self.out("mktemp", "--directory")
        program = f"exec /usr/bin/python3 -I -S {SHARED}/calling.py calls {tool} {folder} > {folder}/result"
        self.run("systemd-run", "--quiet", "--unit=calling", "--collect", "sh", "-c", program)
        eventually(lambda: self.has(f"{folder}/begun"), lambda: self.journal("calling"))
        try:
            yield calls
        finally:
            self.run("touch", f"{folder}/stop")
            eventually(lambda: bool(self.out("cat", f"{folder}/result")), lambda: self.journal("calling"))
            found = json.loads(self.out("cat", f"{folder}/result"))
            calls.good, calls.failed = found["good"], found["failed"]

    def has(self, path: str) -> bool:
        return self.run("test", "-e", path, check=False).returncode == 0

    def _calling(self, *args: str) -> str:
        return self.out("/usr/bin/python3", "-I", "-S", f"{SHARED}/calling.py", *args)


@contextlib.contextmanager
def virtual_machine() -> Iterator[VirtualMachine]:
    """One that has come up. It is powered off at the end."""
    with tempfile.TemporaryDirectory(prefix="mcp-edge-vm-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        shared = folder / "shared"
        shared.mkdir()
        for program in (calling, vm_agent):
            shutil.copy(str(program.__file__), shared)
        make_image(folder / "root.ext4", folder)
        asked, asks = os.pipe()
        answers, answered = os.pipe()
        log = stack.enter_context(open(shared / "console", "wb"))
        process = subprocess.Popen(
            [
                KERNEL,
                MEMORY,
                f"uml_dir={folder}",
                f"ubd0={folder / 'root.ext4'}",
                f"hostfs={shared}",
                *("con=null", "con0=null,fd:1", "ssl=null", f"ssl0=fd:{asked},fd:{answered}"),
                *KERNEL_OPTIONS,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(asked, answered),
            start_new_session=True,
        )
        try:
            os.close(asked)
            os.close(answered)
            machine = VirtualMachine(
                shared,
                stack.enter_context(os.fdopen(asks, "wb")),
                stack.enter_context(os.fdopen(answers, "rb")),
            )
            assert machine.line(BOOT_LIMIT_S) == vm_agent.UP
            machine.run("systemctl", "is-system-running", "--wait", check=False)
            yield machine
        finally:
            end(process)


def make_image(image: Path, folder: Path) -> None:
    """The root file system of the containers, with our agent as a service."""
    subprocess.run(["truncate", f"--size={IMAGE_SIZE}", image], check=True)
    root = PEERS.resolve() / f"systemd-{SUITE}"
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-d", f"{root}/", image],
        check=True,
        capture_output=True,
    )
    unit = folder / "agent.service"
    unit.write_text(AGENT)
    units = "etc/systemd/system"
    changes = (
        f"write {unit} {units}/agent.service\n"
        f"symlink {units}/multi-user.target.wants/agent.service ../agent.service\n"
    )
    subprocess.run(
        ["debugfs", "-w", "-f", "-", image], input=changes, text=True, check=True, capture_output=True
    )


def console(shared: Path) -> str:
    return (shared / "console").read_text(errors="replace")


def end(process: subprocess.Popen[bytes]) -> None:
    """Nothing in it is worth an orderly end. All that it traces is of its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(GRACE_S)
