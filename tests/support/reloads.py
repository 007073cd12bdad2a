"""What end-to-end tests of reloads do: another file, the command, and who has which process."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.support.appliance import Appliance
from tests.support.peers import PYZ


def edit(appliance: Appliance, text: str) -> None:
    """Another config, with the addresses as they are."""
    kept = appliance.config.read_text().split("[gateway]", 1)[1]
    appliance.config.write_text(f"{text}\n[gateway]{kept}")


def rewrite(appliance: Appliance, *changes: tuple[str, str]) -> None:
    """The config with texts replaced, each of which has to be there."""
    text = appliance.config.read_text()
    for old, new in changes:
        assert old in text, (old, text)
        text = text.replace(old, new)
    appliance.config.write_text(text)


def reload(appliance: Appliance, *options: str) -> tuple[int, Any]:
    """Exit code, and the verdict."""
    done = command(appliance, "reload", "-c", str(appliance.config), "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def command(
    appliance: Appliance, *words: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The program, by the same user as the running one."""
    folder = str(appliance.folder)
    return subprocess.run(
        [sys.executable, "-I", "-S", str(PYZ), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": folder, "XDG_RUNTIME_DIR": folder, **(env or {})},
    )
