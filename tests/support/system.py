"""A Debian that runs for a test, whatever it runs in: commands in it, its files, its units."""

import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "",
    "DEBIAN_FRONTEND": "noninteractive",
}


class System(ABC):
    """A running one. Paths are those inside of it."""

    @abstractmethod
    def attempt(
        self, command: tuple[str, ...], text: str, limit_s: float
    ) -> subprocess.CompletedProcess[str]:
        """A command inside, as root, whatever comes of it; `text` is what it reads."""

    @abstractmethod
    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """In one step, as an editor does. Folders that are missing are made."""

    @abstractmethod
    def copy(self, file: Path, inside: str) -> None: ...

    def run(
        self, *command: str | Path, text: str | None = None, check: bool = True, limit_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """A command inside, as root. With `check` it must succeed."""
        done = self.attempt(tuple(map(str, command)), text or "", limit_s)
        if check:
            assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def out(self, *command: str | Path) -> str:
        """What a command prints, without its last line end."""
        return self.run(*command).stdout.rstrip("\n")

    def property(self, unit: str, name: str) -> str:
        return self.out("systemctl", "show", "--property", name, "--value", unit)

    def journal(self, unit: str) -> str:
        """The messages of a unit, and what systemd says about it."""
        return self.out("journalctl", "--no-pager", "--output=cat", "--unit", unit)

    def state(self, unit: str) -> str:
        """All that may explain why a unit is not where it should be."""
        shown = self.run("systemctl", "status", "--no-pager", "--full", unit, check=False).stdout
        jobs = self.run("systemctl", "list-jobs", check=False).stdout
        everything = self.run(
            "journalctl", "--no-pager", "--lines=100", "--output=short-monotonic", check=False
        )
        return f"{shown}\n{jobs}\n{self.out('ps', '-eo', 'pid,ppid,stat,wchan:20,args')}\n{everything.stdout}"

    def processes(self, name: str) -> list[str]:
        """Command lines inside in which `name` is to be found, this question's own left out."""
        lines = self.out("ps", "-eo", "pid,stat,args").splitlines()
        return [line for line in lines if name in line]
