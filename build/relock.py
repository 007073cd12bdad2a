"""Writes the lock files anew: `python3 build lock`. The only build script that chooses versions.

Each lock names every package of one environment with its version and the digests of all its files, and no
index: where packages come from is the machine's business. They are resolved with the oldest Python we
support; no package of ours needs more on a newer one (a marker such as `python_version >= "3.13"` would be
lost here, and shows as an import error in the tests on that version).
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from places import DEV_LOCK, PEER_LOCKS, ROOT, RUNTIME_LOCK
from say import Stop, progress, run_quietly

PIP_TOOLS = "pip-tools==7.6.2"
PIP_LOCKS = {
    RUNTIME_LOCK: Path("pyproject.toml"),
    DEV_LOCK: Path("build/lock/dev.in"),
    **{
        PEER_LOCKS / f"{name}.txt": Path(f"tests/peers/{name}.in")
        for name in ("mcp1", "mcp2", "servers", "contextforge", "mcp-proxy")
    },
}
COMPILE = (
    "--quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host"
    " --allow-unsafe --upgrade --annotation-style=line"
)


def make_all() -> None:
    if sys.version_info[:2] != (3, 11):
        raise Stop("locks are made with Python 3.11, the oldest that we support: python3.11 build lock")
    # Only the default index: a machine's own one may hold other files under the same name.
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")
    }
    env |= {"PIP_CONFIG_FILE": os.devnull, "CUSTOM_COMPILE_COMMAND": "python3 build lock"}
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder) / "venv" / "bin"
        with progress("fetching pip-tools"):
            run_quietly([sys.executable, "-m", "venv", tools.parent])
            run_quietly([tools / "pip", "install", "-q", PIP_TOOLS], env=env)
        for target, source in PIP_LOCKS.items():
            with progress(f"locking {source}"):
                # Relative names, since pip-compile writes them into the lock as they are.
                command = [
                    tools / "pip-compile",
                    *COMPILE.split(),
                    "--output-file",
                    target.relative_to(ROOT),
                    source,
                ]
                run_quietly(command, cwd=ROOT, env=env)
    for name in ("node", "node-bench"):
        with progress(f"locking tests/peers/{name}/package.json"):
            lock_node(PEER_LOCKS / name, env)


def lock_node(folder: Path, env: Mapping[str, str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Stop("npm is needed to lock the npm packages (Debian: apt install npm)")
    (folder / "package-lock.json").unlink(missing_ok=True)
    flags = ["--package-lock-only", "--ignore-scripts", "--omit-lockfile-registry-resolved=true"]
    run_quietly([npm, "install", *flags], cwd=folder, env=env)
