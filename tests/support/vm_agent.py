"""Runs commands in a virtual machine, one after the other, as a serial line says: a JSON object a line, both ways.

It is told `command`, `text` for its input, `env` and `limit_s`, and answers with `status`, `stdout` and `stderr`.
Standard library only: nothing else of ours is there.
"""

import json
import os
import subprocess
import sys
import tty
from typing import Any

UP = b"up"


def main(line: str) -> None:
    fd = os.open(line, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    with os.fdopen(os.dup(fd), "rb") as asked, os.fdopen(fd, "wb") as answers:
        answers.write(UP + b"\n")
        answers.flush()
        for each in asked:
            answers.write(json.dumps(run(json.loads(each))).encode() + b"\n")
            answers.flush()


def run(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        done = subprocess.run(
            asked["command"],
            input=asked["text"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=asked["env"],
            timeout=asked["limit_s"],
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return {"status": 127, "stdout": "", "stderr": str(exc)}
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


if __name__ == "__main__":
    main(sys.argv[1])
