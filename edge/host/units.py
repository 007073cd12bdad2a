"""systemd units that have failed, asked of systemctl with a time limit."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.host.facts import Facts, NotHere

COMMAND = ("systemctl", "list-units", "--failed", "--no-legend", "--plain", "--full", "--no-pager")
ANSWER_S = 4.0

Run = Callable[[Sequence[str]], str]


def failed_units(root: Path, *, run: Run | None = None) -> Facts:
    if not (root / "run/systemd/system").is_dir():
        return {
            "systemd": False,
            "units": [],
            "note": "this system was not started by systemd, so it has no units",
        }
    return {"systemd": True, "units": parse_units((run or systemctl)(COMMAND))}


def failed_units_text(found: Facts) -> str:
    if not found["systemd"]:
        return str(found["note"])
    lines = [f"{unit['unit']}: {unit['description']} ({unit['sub']})" for unit in found["units"]]
    return "\n".join(lines) or "no unit has failed"


def parse_units(table: str) -> list[dict[str, str]]:
    """Lines of UNIT LOAD ACTIVE SUB DESCRIPTION."""
    found = []
    for line in table.splitlines():
        fields = line.split(maxsplit=4)
        if len(fields) >= 4:
            unit, load, active, sub = fields[:4]
            description = fields[4] if len(fields) == 5 else ""
            found.append(
                {"unit": unit, "load": load, "active": active, "sub": sub, "description": description}
            )
    return found


def systemctl(command: Sequence[str], *, answer_s: float = ANSWER_S) -> str:
    """Raises: NotHere, with what to tell the user."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=answer_s, env=env, check=False
        )
    except FileNotFoundError:
        raise NotHere("systemctl is not installed") from None
    except subprocess.TimeoutExpired:
        raise NotHere(f"systemctl gave no answer in {answer_s:g} s") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise NotHere(f"systemctl failed: {said or f'status {done.returncode}'}")
    return done.stdout.decode(errors="replace")
