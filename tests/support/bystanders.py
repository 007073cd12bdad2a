"""A hub from the .pyz with a good edge on it, whose three links are called all the time while a bad one does its worst.

    with stage() as found, found.beside("edge refused") as bad:
        assert bad.peer().ask("GET", "/poll?session_id=x").status == 404

Leaving `beside` shows: every call of the good edge was answered right and soon, over the links that it had; the hub
logged this one line as a warning or higher, or none, and nothing else from `info` up but what was to be noted; no
part of it failed; its memory stayed within bounds.
"""

import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.appliance import Appliance, running
from tests.support.bad_peer import BadPeer, RawEvents, RawPolls, RawWebSocket
from tests.support.faulty_neighbour import Client
from tests.support.links import (
    DIALECTS,
    JSON_LOG,
    OPERATOR,
    Site,
    edges,
    links,
    site,
    toy_server,
    until_edge,
    until_linked,
)
from tests.support.processes import eventually, memory_bytes

MAX_MESSAGE_BYTES = 262_144
DEAD_AFTER_S = 5
BADS = 120
SETTINGS: dict[str, Any] = {
    "max_message_bytes": MAX_MESSAGE_BYTES,
    "handshake_timeout_s": 2,
    "heartbeat_s": 1,
    "dead_after_s": DEAD_AFTER_S,
    "resume_grace_s": 5,
}
MOST_MORE_BYTES = 32 * 1024 * 1024
SOON_S = 10.0  # for the call of a bystander; a machine that is busy with tests needs some
PAUSE_S = 0.01
ROUTINE = (
    "edge connected",
    "server ready",
    "link to an edge interrupted, waiting for its return",
    "some names are published differently",
)


class Bystander(threading.Thread):
    """Calls the tools in turn until it is told to stop."""

    def __init__(self, client: Client, tools: list[str]) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.tools = tools
        self.calls = 0
        self.longest_s = 0.0
        self.problem: BaseException | None = None
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not (self._stop_asked.wait(PAUSE_S) and self.calls >= len(self.tools)):
            tool = self.tools[self.calls % len(self.tools)]
            begun = time.monotonic()
            try:
                assert self.client.text(tool, text=f"{self.calls}") == f"{self.calls}"
            except (AssertionError, OSError) as exc:
                self.problem = exc
                return
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
            self.calls += 1

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(60)


class Bad:
    """Who misbehaves in one test. `name` is an edge's that nobody else uses.

    What is opened with `open` stays open until the log has been looked at: to leave is told, too.
    """

    def __init__(self, stage: "Stage", name: str, stack: ExitStack) -> None:
        self.stage = stage
        self.name = name
        self.open = stack.enter_context
        self.marks = {name}

    def peer(self, edge: str = "", **token: str | None) -> BadPeer:
        found = BadPeer(self.stage.place, self.stage.hub, edge or self.name, **token)
        self.marks.add(found.host)
        return found

    def lines(self, message: str) -> list[dict[str, Any]]:
        """What the hub has said about it in these words, once it has."""

        def found() -> list[dict[str, Any]]:
            records = [
                json.loads(line) for line in list(self.stage.hub.log) if re.search(rf"{self.name}\b", line)
            ]
            return [record for record in records if record["msg"] == message]

        eventually(found, self.stage.hub.said)
        return found()

    def another(self) -> BadPeer:
        """Of another edge."""
        name = self.stage.next_name()
        self.marks.add(name)
        return self.peer(name)

    def works(self, link: RawWebSocket | RawEvents | RawPolls, name: str = "") -> None:
        """A call by way of the hub's endpoint is answered over this link."""
        name = name or self.name
        link.serve(lambda: edges(self.stage.hub).get(name, {}).get("state") == "ready")
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(self.stage.client.text, f"{name}__echo", text="here")
            link.serve(call.done)
            assert call.result() == "here"


class Stage:
    """The hub, and the edge `good` with a link of each dialect."""

    def __init__(self, place: Site, hub: Appliance, good: Appliance) -> None:
        self.place = place
        self.hub = hub
        self.good = good
        self.client = Client(hub, hub.endpoint)
        self._operator = BadPeer(place, hub, "good", OPERATOR)
        self._n_bads = 0

    def next_name(self) -> str:
        self._n_bads += 1
        assert self._n_bads <= BADS
        return f"bad{self._n_bads}"

    @contextmanager
    def beside(
        self, said: str | None = None, *, noted: Sequence[str] = (), more_bytes: int = MOST_MORE_BYTES
    ) -> Iterator[Bad]:
        """`said` is the one warning that there must be about the bad ones, None: none; `noted` are the lines at `info`,
        beside those of links that come up."""
        with ExitStack() as stack:
            bad = Bad(self, self.next_name(), stack)
            begin = self.log_ends()
            before = self.of_good()
            self.forget_peak()
            rss = memory_bytes(self.hub.pid)
            bystander = Bystander(self.client, [f"good-{dialect}__toy__echo" for dialect in DIALECTS])
            bystander.start()
            try:
                yield bad
            finally:
                bystander.stop()
            assert bystander.problem is None, f"{bystander.problem!r}\n{self.hub.said()[-5000:]}"
            assert bystander.longest_s < SOON_S
            assert self.of_good() == before, "the good edge had to connect again"
            told = self.told(begin, self.log_ends(), bad.marks)
            warnings = [record["msg"] for record in told if record["level"] != "info"]
            infos = [record["msg"] for record in told if record["level"] == "info"]
            assert warnings == ([] if said is None else [said]), "\n".join(self.hub.log[begin:])
            assert [text for text in infos if text not in ROUTINE] == list(noted), "\n".join(
                self.hub.log[begin:]
            )
            grown = memory_bytes(self.hub.pid, "VmHWM") - rss
            assert grown < more_bytes, f"{grown / 1024 / 1024:.0f} MiB more"
            self.nothing_failed()
        self.disconnect(bad.marks)

    def sessions(self) -> list[dict[str, Any]]:
        """What operators are shown."""
        found: list[dict[str, Any]] = self._operator.ask("GET", "/reverse-proxy/sessions").json()["sessions"]
        return found

    def disconnect(self, edges: set[str]) -> None:
        for session in self.sessions():
            if session["user"] in edges:
                self._operator.ask("DELETE", f"/reverse-proxy/sessions/{session['session_id']}")

    def of_good(self) -> list[Any]:
        """What changes if a link of the good edge is not the one that it was."""
        return [(link["name"], link["since"], link["connections"]) for link in links(self.good)]

    def log_ends(self) -> int:
        """The log's length, with everything in it that the hub has said until now: it is made to say something."""
        mark = BadPeer(self.place, self.hub, "good", "not a token")
        assert mark.ask("GET", "/mcp-reverse/sse").status == 401
        eventually(lambda: any(mark.host in line for line in list(self.hub.log)), self.hub.said)
        return next(n for n, line in enumerate(self.hub.log) if mark.host in line) + 1

    def told(self, begin: int, end: int, marks: set[str]) -> list[dict[str, Any]]:
        """Records from `info` up, but for those about the bad ones of earlier tests."""
        found = []
        for line in self.hub.log[begin : end - 1]:
            record = json.loads(line)
            about = set(re.findall(r"bad\d+|127\.66\.\d+\.\d+", line))
            if record["level"] != "debug" and (not about or about & marks):
                found.append(record)
        return found

    def forget_peak(self) -> None:
        """From here on, VmHWM is the most memory that the hub has had since now."""
        Path(f"/proc/{self.hub.pid}/clear_refs").write_text("5")

    def nothing_failed(self) -> None:
        text = self.hub.request("GET", f"{self.hub.admin}/metrics").body.decode()
        crashes = re.findall(r"^mcp_edge_part_crashes_total\{.*\} (\S+)$", text, re.MULTILINE)
        assert len(crashes) > 0
        assert set(crashes) == {"0.0"}
        assert not [line for line in self.hub.log if "Traceback" in line or '"exc"' in line]

    def metric(self, sample: str) -> float:
        return self.hub.metric(sample)


@contextmanager
def stage(**settings: Any) -> Iterator[Stage]:
    """A hub with `settings` (TOML text) beyond SETTINGS, and its good edge."""
    with site() as place:
        names = ["good", *(f"bad{n}" for n in range(1, BADS + 1))]
        with place.hub(*names, **{**SETTINGS, **settings}) as hub:
            uplinks = [
                place.uplink(
                    "good", hub.hub, dialect, dialect, link_name=f'"good-{dialect}"', heartbeat_s=0.5
                )
                for dialect in DIALECTS
            ]
            config = f'name = "good"\n{JSON_LOG}{toy_server()}{"".join(uplinks)}'
            with running(config) as good:
                until_linked(good)
                for dialect in DIALECTS:
                    until_edge(hub, f"good-{dialect}")
                eventually(
                    lambda: all(link["connections"] == 1 for link in links(good))
                )  # shown a second later
                found = Stage(place, hub, good)
                open_fds = open_descriptors(hub)
                yield found
                found.disconnect({f"bad{n}" for n in range(1, BADS + 1)})
                eventually(lambda: open_descriptors(hub) <= open_fds + 8, lambda: open_descriptors(hub))
            assert hub.stop() == 0, hub.said()[-5000:]


def open_descriptors(hub: Appliance) -> int:
    return len(list(Path(f"/proc/{hub.pid}/fd").iterdir()))
