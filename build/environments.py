"""Virtual environments made from lock files, and made again only when something about them has changed."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import machine
from say import Stop, progress, run_quietly

STAMP = "made-from.json"  # in the environment's folder: what it was made from


def digest(*files: Path) -> str:
    whole = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.hexdigest()


def this_python() -> str:
    """The interpreter that an environment belongs to; the same from inside of it and from outside."""
    return f"{sys.version.split()[0]} in {sys.base_prefix}"


def stamp_of(folder: Path) -> dict[str, str]:
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and (folder / "bin" / "python").exists() else {}


def write_stamp(folder: Path, **facts: str) -> None:
    (folder / STAMP).write_text(json.dumps(facts, indent=1) + "\n")


def with_pip(folder: Path) -> Path:
    """An environment that has pip at least; gives its interpreter."""
    if stamp_of(folder).get("python") != this_python():
        create(folder)
        write_stamp(folder, python=this_python(), lock="")
    return folder / "bin" / "python"


def from_lock(folder: Path, lock: Path) -> Path:
    """An environment that has exactly what the lock file says; gives its interpreter."""
    python = folder / "bin" / "python"
    wanted = {"python": this_python(), "lock": digest(lock)}
    found = stamp_of(folder)
    if found == wanted:
        return python
    # One that has only pip is as good as new; anything else might keep packages that the lock no longer has.
    if found != {"python": this_python(), "lock": ""}:
        create(folder)
    with progress(f"installing {lock.name} into {folder.name}"):
        (folder / STAMP).unlink()
        pip(python, "install", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", lock)
    write_stamp(folder, **wanted)
    return python


def create(folder: Path) -> None:
    machine.require_venv_module()
    if is_inside(folder):
        raise Stop(
            f"{folder} has to be made anew, and this Python runs from it: use the python3 outside of it"
        )
    with progress(f"making {folder.name} with Python {sys.version.split()[0]}"):
        if folder.exists():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        run_quietly([sys.executable, "-I", "-m", "venv", folder])
        write_stamp(folder, python="")


def is_inside(folder: Path) -> bool:
    return Path(sys.prefix).resolve() == folder.resolve()


def pip(python: Path, *words: str | Path) -> None:
    """Runs pip without any caching of what it thinks of the network, and without questions."""
    flags = ["--disable-pip-version-check", "--no-input", "--quiet", "--progress-bar=off"]
    command, *rest = words
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    run_quietly([python, "-I", "-m", "pip", command, *flags, *rest], env=env)
