"""What this machine has: its Pythons, its tools, its package manager; and how to get what it lacks."""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from say import Stop, line, progress, run_quietly

POLICY = Path("/usr/sbin/policy-rc.d")  # asked whether a service may be started; 101 is no
MINORS = range(11, 15)  # the Python 3 minors that the .pyz is compiled for, where the machine has them


class Interpreter(NamedTuple):
    """A CPython; `version` is like '3.11.7', `magic` the hex magic number of its compiled files."""

    path: Path
    version: str
    tag: str
    magic: str


def is_debian() -> bool:
    """Debian itself or a system made from it."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return False
    return bool(re.search(r'^ID(_LIKE)?="?[^"\n]*\b(debian|ubuntu)\b', text, re.MULTILINE)) and bool(
        shutil.which("apt-get")
    )


def may_install() -> bool:
    """As root in continuous integration we help ourselves; otherwise the machine is its owner's."""
    return os.environ.get("CI") == "true" and os.geteuid() == 0 and is_debian()


def install(packages: Sequence[str]) -> bool:
    """Installs Debian packages if we may; False if we may not or it did not work."""
    if not may_install():
        return False
    names = " ".join(packages)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        with progress(f"CI=true and root: apt-get install {names}"):
            run_quietly(["apt-get", "-qq", "update"], env=env)
            with no_services():
                run_quietly(
                    ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages], env=env
                )
    except Stop as exc:
        line(str(exc))
        return False
    return True


@contextmanager
def no_services(policy: Path = POLICY) -> Iterator[None]:
    """What is installed meanwhile does not start its services: we want the programs only.

    A machine that has an answer to that question already keeps it. Source: Debian's invoke-rc.d(8), policy-rc.d.
    """
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def how_to_get(what: str, packages: Sequence[str], elsewhere: str) -> str:
    """One sentence for a person: what is missing, and the command that brings it."""
    if is_debian():
        sudo = "" if os.geteuid() == 0 else "sudo "
        return f"{what} is missing: {sudo}apt-get install {' '.join(packages)}"
    return f"{what} is missing: {elsewhere}"


def require_venv_module() -> None:
    """Makes sure that this Python can make virtual environments with pip in them.

    Debian's Python comes without `ensurepip`; it is in a package of its own.
    """
    if can_make_venvs():
        return
    package = (
        f"python3.{sys.version_info.minor}-venv"
        if sys.version_info[:2] != debian_python()
        else "python3-venv"
    )
    if install([package]) and can_make_venvs():
        return
    raise Stop(
        how_to_get(
            f"ensurepip (for {sys.executable})",
            [package],
            "install Python's venv and ensurepip modules, or use a Python from python.org",
        )
    )


def can_make_venvs() -> bool:
    # In a process of its own: what has just been installed is not seen by this one.
    question = [sys.executable, "-I", "-c", "import venv, ensurepip; ensurepip.version()"]
    return subprocess.run(question, capture_output=True).returncode == 0


def debian_python() -> tuple[int, int] | None:
    """The version that Debian's `python3` package stands for here."""
    link = Path("/usr/bin/python3")
    found = re.fullmatch(r"python(\d+)\.(\d+)", link.resolve().name) if link.exists() else None
    return (int(found[1]), int(found[2])) if found else None


def missing_command(command: str, package: str) -> str | None:
    """None, or why tests that need this command cannot run."""
    if shutil.which(command) or (install([package]) and shutil.which(command)):
        return None
    return how_to_get(command, [package], f"install {package}")


def missing_node() -> str | None:
    """None, or why tests that need Node.js cannot run."""
    if not (shutil.which("node") and shutil.which("npm")):
        install(["nodejs", "npm"])
    node = shutil.which("node")
    if not (node and shutil.which("npm")):
        return how_to_get(
            "Node.js 18 or newer with npm", ["nodejs", "npm"], "install it from your system's packages"
        )
    try:
        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    except OSError as exc:
        return f"{node} does not start: {exc.strerror}"
    major = re.match(r"v(\d+)\.", version)
    if major is None or int(major[1]) < 18:
        return f"Node.js 18 or newer is missing: {node} is {version or 'not working'}"
    return None


def interpreters() -> list[Interpreter]:
    """One CPython per minor that we compile for, oldest first; the one that runs us stands for its own."""
    found: dict[str, Interpreter] = {}
    for path in candidates():
        if (known := ask(path)) and known.tag not in found and known.tag in {f"cpython-3{n}" for n in MINORS}:
            found[known.tag] = known
    return sorted(found.values(), key=lambda each: each.tag)


def candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    for minor in MINORS:
        for folder in os.get_exec_path():
            # pyenv's shims are scripts that look for the real one; those are found below.
            if Path(folder).name != "shims" and (path := Path(folder) / f"python3.{minor}").exists():
                yield path
        home = Path.home()
        yield from sorted(home.glob(f".pyenv/versions/3.{minor}.*/bin/python3"))
        yield from sorted(home.glob(f".local/share/uv/python/cpython-3.{minor}*/bin/python3"))


@functools.cache
def ask(path: Path) -> Interpreter | None:
    """What `path` says of itself; None if it is no working release of CPython."""
    question = (
        "import sys, _frozen_importlib_external as e; i = sys.implementation\n"
        "print('.'.join(map(str, i.version[:3])), i.cache_tag, e.MAGIC_NUMBER.hex(), i.version[3])"
    )
    try:
        done = subprocess.run([path, "-I", "-S", "-c", question], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    if done.returncode != 0 or len(words) != 4 or words[3] != "final":
        return None
    return Interpreter(path, words[0], words[1], words[2])
