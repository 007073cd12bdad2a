"""A stdio server that is a real process, cut off at each of its steps: no process, descriptor or task is left."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.config.diff import PartKey
from edge.config.model import EdgeConfig, StdioServerConfig
from edge.redaction import Redactor
from tests.support.cut_off import cut_off_at_every_step, live_as_part
from tests.support.processes import stat_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

MARK = "MCP_EDGE_CUT_OFF"
"""A variable that all which the server starts inherits: by it they are found, whoever is their parent by then."""

SERVER = """
say() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\\n' "$id" "$1"; }
while read -r line; do
  id=${line#*\\"id\\":}; id=${id%%[,\\}]*}
  case $line in
    *'"method":"initialize"'*) say '{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'\\
'"serverInfo":{"name":"sh","version":"1"}}' ;;
    *'"method":"tools/list"'*) say '{"tools":[{"name":"work","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"tools/call"'*) echo working >&2; WORK; say '{"content":[]}' ;;
  esac
done
"""
SLEEP = "sleep 1000 <&- >&- 2>&-"
SERVERS = {
    "that goes by itself": SERVER.replace("WORK", ":"),
    "that leaves an orphan": SERVER.replace("WORK", f"(setsid {SLEEP} &)"),
    "that heeds nothing": "trap '' TERM\n" + SERVER.replace("WORK", f"{{ {SLEEP} & }}") + SLEEP,
}
LOOK_S = 0.01


def marked(mark: str) -> set[int]:
    """All living processes with this value of the variable in their environment, and the dead whom we did not bury."""
    found = set()
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except OSError:
            continue  # another user's, or it has gone
    return found | {pid for pid in ours() if is_dead(pid)}


def ours() -> Iterable[int]:
    for task in Path("/proc/self/task").glob("*/children"):
        yield from map(int, task.read_text().split())


def is_dead(pid: int) -> bool:
    stat = stat_of(pid)
    return stat is not None and stat[0] == "Z"


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_server(kind: str, tmp_path: Path) -> None:
    """It is called, and may start something then. Ends take real time, so every third has a successor."""
    mark = str(tmp_path)
    config = StdioServerConfig(
        name="s", command=("/bin/sh", "-c", SERVERS[kind]), env={MARK: mark}, stop_grace_s=0.03
    )

    def make() -> Any:
        app = App(Loaded(config=EdgeConfig(servers={"s": config})), redactor=Redactor())
        key: PartKey = ("upstream", "s")
        return app.workshop.build(key, app.loaded.parts[key], app.loaded, "box").subject

    async def live(upstream: Any) -> None:
        async def use() -> None:
            await upstream.wait_ready()
            await upstream.request("tools/call", '{"name":"work"}', timeout_s=20)
            assert marked(mark)

        await live_as_part(upstream, use)

    def left() -> object:
        return marked(mark), len(os.listdir("/dev/fd"))

    steps = await cut_off_at_every_step(make, live, left=left, again_every=3, patience_s=2, look_s=LOOK_S)
    assert steps > 30
