import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.host.facts import NotHere
from edge.host.network import kernel_addresses
from edge.host.units import systemctl

SERVE = "from edge.cli.cmd_host import host_server; raise SystemExit(host_server(None))"
ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("trio", "httpx", "h11", "ssl", "asyncio", "cattrs", "prometheus_client", "edge.app", "edge.parts")


def converse(*messages: dict[str, Any], code: str = SERVE) -> tuple[int, list[Any], str]:
    """Status, answers and stderr of a server that is told this and then sees the end of stdin."""
    told = "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages)
    done = subprocess.run(
        [sys.executable, "-c", code], input=told.encode(), capture_output=True, timeout=10, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_a_conversation_from_initialize_to_the_end_of_stdin() -> None:
    status, answers, stderr = converse(
        {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}},
        {"method": "notifications/initialized"},
        {"id": "two", "method": "tools/list"},
        *(
            {"id": name, "method": "tools/call", "params": {"name": name}}
            for name in ("overview", "network", "disks")
        ),
    )
    assert (status, stderr) == (0, "")
    assert [answer["id"] for answer in answers] == [1, "two", "overview", "network", "disks"]
    assert answers[0]["result"]["protocolVersion"] == "2025-06-18"
    assert answers[2]["result"]["structuredContent"]["kernel"]


def test_it_stays_small_because_it_imports_nothing_of_the_gateway() -> None:
    code = SERVE.replace("raise SystemExit(host_server(None))", "host_server(None)") + (
        f"; import sys; found = [m for m in {HEAVY!r} if m in sys.modules]; sys.exit(' '.join(found) or 0)"
    )
    status, answers, stderr = converse({"id": 1, "method": "ping"}, code=code)
    assert (status, stderr, len(answers)) == (0, "", 1)


def test_a_reader_that_has_left_ends_it_quietly() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.close()
    child.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n')
    child.stdin.flush()
    _, stderr = child.communicate(timeout=10)
    assert (child.returncode, stderr) == (0, b"")


def test_the_kernel_tells_its_addresses() -> None:
    if sys.platform != "linux":
        pytest.skip("netlink is Linux")
    assert any(address.startswith("127.0.0.1/") for _, address in kernel_addresses())


def test_systemctl_that_is_missing_slow_or_fails_is_named_plainly() -> None:
    with pytest.raises(NotHere, match="not installed"):
        systemctl(["/nowhere/systemctl"])
    with pytest.raises(NotHere, match="failed: no bus"):
        systemctl(["/bin/sh", "-c", "echo no bus >&2; exit 1"])
    with pytest.raises(NotHere, match="status 3"):
        systemctl(["/bin/sh", "-c", "exit 3"])
    with pytest.raises(NotHere, match="gave no answer in"):
        systemctl(["/bin/sleep", "9"], answer_s=0.05)
    assert (
        systemctl(["/bin/echo", "a.service loaded failed failed A"]) == "a.service loaded failed failed A\n"
    )
