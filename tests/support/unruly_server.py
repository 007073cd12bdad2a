"""A stdio server with tools that take more than they should. Standard library only: it runs in virtual machines, too.

`eat` takes MIB of memory, `multiply` forks until the kernel refuses, in all descendants, `escape` leaves a daemon
behind that nothing but its cgroup ties to us (a session of its own, no parent, no environment, no descriptors), `work`
keeps a processor busy for SECONDS.
"""

import json
import os
import sys
import time
from typing import Any

DAEMON = ("/bin/sleep", "987654")
hoard: list[bytearray] = []


def eat(mib: int) -> str:
    hoard.append(bytearray(b"x") * (mib << 20))
    return "eaten"


def multiply() -> str:
    """Children do the same for ever, and never come back; it waits until one of them has been refused."""
    refused, told = os.pipe()
    try:
        while True:
            if os.fork() == 0:
                bomb(told)
    except OSError as exc:
        os.write(told, b"!")
        why = exc.strerror
    os.read(refused, 1)
    return f"refused: {why}"


def bomb(told: int) -> None:
    while True:
        try:
            os.fork()
        except OSError:
            os.write(told, b"!")
            time.sleep(1)


def escape() -> str:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.closerange(0, 1024)
        os.execve(DAEMON[0], DAEMON, {})
    os.waitpid(pid, 0)
    return "escaped"


def work(seconds: float) -> str:
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass
    return "done"


TOOLS = {"eat": eat, "multiply": multiply, "escape": escape, "work": work}


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    match asked["method"]:
        case "initialize":
            info = {"name": "unruly", "version": "1"}
            return {
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info
            }  # fmt: skip
        case "tools/list":
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
        case "tools/call":
            params = asked["params"]
            text = TOOLS[params["name"]](**params.get("arguments", {}))  # type: ignore[operator]  # as they are
            return {"content": [{"type": "text", "text": text}]}
        case _:
            return {}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answer(asked)}), flush=True)


if __name__ == "__main__":
    main()
