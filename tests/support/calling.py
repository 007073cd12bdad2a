"""Calls of a gateway on this machine's loopback, with the standard library alone.

It is a program too, for where nothing else of ours is to be had, as in a virtual machine:

    python3 calling.py call TOOL ARGUMENTS    prints the result of one call; the arguments are JSON
    python3 calling.py get PATH               prints what the admin listener answers
    python3 calling.py calls TOOL FOLDER      calls until FOLDER/stop is there, then prints what came of it
"""

import contextlib
import http.client
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

GATEWAY, ADMIN = 8766, 9766
PAUSE_S = 0.05  # after a call that failed


@dataclass
class Calls:
    """What came of calls that were made one after the other."""

    good: int = 0
    failed: list[str] = field(default_factory=list)


def call(
    tool: str = "host__memory",
    arguments: dict[str, Any] | None = None,
    *,
    port: int = GATEWAY,
    limit_s: float = 20,
) -> dict[str, Any]:
    """The result of one call over a connection of its own.

    Raises: OSError if there is no connection; AssertionError if there is another answer than a result.
    """
    params = {"name": tool} | ({"arguments": arguments} if arguments else {})
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit_s)
    with contextlib.closing(connection):
        connection.request("POST", "/mcp", json.dumps(asked), headers)
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status == 200, (answer.status, body)
    result = json.loads(body).get("result")
    assert result is not None, body
    return dict(result)


def get(path: str, *, port: int = ADMIN) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def try_call(tool: str, calls: Calls) -> bool:
    """One more of them; whether it was good."""
    try:
        assert call(tool)["isError"] is False
    except (OSError, http.client.HTTPException, AssertionError) as exc:
        calls.failed.append(f"{type(exc).__name__}: {exc}")
        return False
    calls.good += 1
    return True


def call_until_stopped(tool: str, folder: Path) -> Calls:
    """FOLDER/begun is there once the first call has ended."""
    calls = Calls()
    while not (folder / "stop").exists():
        if not try_call(tool, calls):
            time.sleep(PAUSE_S)
        (folder / "begun").touch()
    return calls


def main(args: list[str]) -> int:
    match args:
        case ["call", tool, arguments]:
            found: object = call(tool, json.loads(arguments))
        case ["get", path]:
            found = get(path)
        case ["calls", tool, folder]:
            found = asdict(call_until_stopped(tool, Path(folder)))
        case _:
            return 64
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
