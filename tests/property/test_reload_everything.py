"""Configs of every kind of part, one after the other, in a network of memory, with a failure at any step.

In force is the last good one, and only that: what is seen is what an appliance that started with it shows. What did
not change is the same object with the same link; what was refused, or cut off, has changed nothing.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.app.reloading import Reloading
from edge.config.common import BackoffConfig, ServerTlsConfig
from edge.config.diff import PartKey
from edge.config.model import (
    AdminConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    ServerConfig,
    StdioServerConfig,
)
from edge.config.secrets import Secret
from edge.config.uplinks import DIALECTS, DialectName, UplinkConfig
from edge.errors import EdgeError
from edge.redaction import Redactor
from edge.supervise.reload import ReloadOptions, Verdict
from tests.support.checkpoints import CancelAtStep
from tests.support.hub_rig import hub_config
from tests.support.memory_channel import ScriptedServer
from tests.support.memory_net import MemoryAddresses, MemoryNet
from tests.support.memory_site import NOBODY_URL, SERVER_URL, Site, hub_url, site, token_of
from tests.support.memory_workshop import MemoryWorkshop

SETTLE_S = 100.0
OF_PREDECESSORS = "mcp_edge_upstream_tools_last_refresh_timestamp_seconds"
"""When the lists of a server of this name were last read; one that never was up has this of the one before it."""

QUICK = BackoffConfig(first_s=0.5, limit_s=2.0)


pytestmark = pytest.mark.usefixtures("quiet")


@dataclass(frozen=True)
class Table:
    """A part as a file has it: `made_of` makes another one of it, `settings` it can take while it runs."""

    made_of: Any
    settings: Any


@dataclass(frozen=True)
class File:
    servers: dict[str, Table]  # made of: `stdio`, `http` or `nobody`, and a word; settings: probe_s
    uplinks: dict[str, Table]  # made of: dialect, publish, what its link is called; settings: none
    hub: Table | None  # made of: an address; settings: its edges
    gateway: Table | None  # made of: addresses; settings: path
    admin: Table | None  # made of: an address; settings: reload token
    page_size: int

    def tables(self) -> dict[str, Table]:
        """By what the verdict calls them. An uplink also takes note of which servers there are."""
        servers = tuple(sorted(self.servers))
        single = {"hub": self.hub, "gateway": self.gateway, "admin": self.admin}
        return (
            {f"server {name}": table for name, table in self.servers.items()}
            | {f"uplink {name}": Table(table.made_of, servers) for name, table in self.published().items()}
            | {name: table for name, table in single.items() if table is not None}
        )

    def published(self) -> dict[str, Table]:
        """Without a server there is nothing to publish; of one name there is one link."""
        names = {table.made_of[2]: name for name, table in self.uplinks.items()}
        return {name: self.uplinks[name] for name in names.values()} if self.servers else {}

    def config(self) -> EdgeConfig:
        gateway = GatewayConfig(enabled=False, page_size=self.page_size)
        if self.gateway is not None:
            gateway = GatewayConfig(
                listen=self.gateway.made_of, path=self.gateway.settings, page_size=self.page_size
            )
        admin = AdminConfig(enabled=False)
        if self.admin is not None:
            admin = AdminConfig(listen=self.admin.made_of, reload_token=Secret(self.admin.settings))
        hub = None
        if self.hub is not None:
            hub = hub_config(*self.hub.settings, listen=(self.hub.made_of,))
        return EdgeConfig(
            name="box",
            gateway=gateway,
            admin=admin,
            hub=hub,
            servers={name: server_of(name, self.servers[name]) for name in sorted(self.servers)},
            uplinks={name: uplink_of(name, table) for name, table in sorted(self.published().items())},
        )


def server_of(name: str, table: Table) -> ServerConfig:
    kind, word = table.made_of
    if kind == "stdio":
        return StdioServerConfig(name=name, command=(word,), probe_s=table.settings, restart=QUICK)
    url = f"{NOBODY_URL if kind == 'nobody' else SERVER_URL}?{word}"
    return HttpServerConfig(name=name, url=url, probe_s=table.settings, reconnect=QUICK)


def uplink_of(name: str, table: Table) -> UplinkConfig:
    dialect, publish, link = table.made_of
    return UplinkConfig(
        name=name, dialect=dialect, url=hub_url(dialect), token=token_of("box"), proxy="none",
        publish=publish, link_name=link, reconnect=QUICK, heartbeat_s=10,
    )  # fmt: skip


def tables(made_of: st.SearchStrategy[Any], settings: st.SearchStrategy[Any]) -> st.SearchStrategy[Table]:
    return st.builds(Table, made_of, settings)


GATEWAYS, ADMINS, HUBS = (
    [f"127.0.0.1:{port}" for port in ports] for ports in ((8766, 8767), (9766, 9767), (8444, 8445))
)
dialects: st.SearchStrategy[DialectName] = st.sampled_from(DIALECTS)
files = st.builds(
    File,
    servers=st.dictionaries(
        st.sampled_from("ab"),
        tables(
            st.tuples(st.sampled_from(["stdio", "stdio", "http", "nobody"]), st.sampled_from(["x", "y"])),
            st.sampled_from([30.0, 60.0]),
        ),
    ),
    uplinks=st.dictionaries(
        st.sampled_from("pq"),
        tables(
            st.tuples(dialects, st.sampled_from(["each", "all"]), st.sampled_from(["box-1", "box-2"])),
            st.none(),
        ),
    ),
    hub=st.none() | tables(st.sampled_from(HUBS), st.sampled_from([("plant",), ("plant", "mill")])),
    gateway=st.none()
    | tables(
        st.lists(st.sampled_from(GATEWAYS), min_size=1, max_size=2, unique=True).map(tuple),
        st.sampled_from(["/mcp", "/other"]),
    ),
    admin=st.none() | tables(st.sampled_from(ADMINS), st.sampled_from(["one", "two"])),
    page_size=st.sampled_from([100, 200]),
)


@dataclass(frozen=True)
class Fault:
    """`bind`: the address cannot be listened on. `build`: a part of the kind cannot be made. `tls`: the gateway's
    certificate is none. `required`: a server that has to be there is not. `cancel`: cut off at that step."""

    kind: str
    what: Any = None


faults = st.one_of(
    st.none(),
    st.none(),
    st.builds(Fault, st.just("bind"), st.sampled_from([*GATEWAYS, *ADMINS, *HUBS])),
    st.builds(
        Fault, st.just("build"), st.sampled_from(["upstream", "uplink", "acceptor", "listener", "admin"])
    ),
    st.just(Fault("tls")),
    st.just(Fault("required")),
    st.builds(Fault, st.just("cancel"), st.integers(1, 60)),
)
EMPTY = File({}, {}, None, None, None, 100)
Reload = tuple[File, Fault | None]


class FaultyWorkshop(MemoryWorkshop):
    """Parts of the kind `fails` cannot be made."""

    fails: str | None = None

    def build(self, key: PartKey, *args: Any, **more: Any) -> Any:
        built = super().build(key, *args, **more)
        if key[0] == self.fails:
            raise EdgeError("cannot be made")
        return built


class Box:
    """The appliance in its surroundings; `load` finds `config`."""

    def __init__(self, place: Site, first: File) -> None:
        self.place = place
        self.net = place.net
        self.config = first.config()
        self.is_loading = False
        self.app = App(
            Loaded(config=self.config),
            redactor=Redactor(),
            load=self.load,
            addresses=MemoryAddresses(place.net),
            load_limit_s=float("inf"),
        )
        self.workshop = self.app.workshop = FaultyWorkshop(self.app, lambda spec: ScriptedServer())

    def load(self) -> Loaded:
        self.is_loading = False
        return Loaded(config=self.config)

    async def hold_time(self) -> None:
        """The clock must not jump because a thread reads the file."""
        while self.is_loading:
            await trio.lowlevel.checkpoint()

    async def reload(self, config: EdgeConfig, cancel_at: int | None) -> Verdict | None:
        """None: it was cut off."""
        self.config = config
        self.is_loading = True
        verdict: Verdict | None = None

        async def apply() -> None:
            nonlocal verdict
            with trio.CancelScope() as scope:
                at_step = CancelAtStep(cancel_at or 1_000_000, scope, trio.lowlevel.current_task())
                trio.lowlevel.add_instrument(at_step)
                try:
                    reloading = Reloading(self.app, self.load, load_limit_s=float("inf"))
                    verdict = await reloading.apply(ReloadOptions())
                finally:
                    trio.lowlevel.remove_instrument(at_step)
                    self.is_loading = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.hold_time)
            nursery.start_soon(apply)
        return verdict

    def parts(self) -> dict[PartKey, object]:
        return {key: built.subject for key, built in self.app.built.items()}

    def seen(self) -> dict[str, object]:
        """All that others see of it."""
        app = self.app
        text = app.metrics.exposition("")[0].decode()
        return {
            "config": app.loaded.config,
            "parts": {key: built.spec for key, built in app.built.items()},
            "addresses": (app.endpoints, app.admin_urls, app.hub_urls, set(self.net.listening)),
            "links": set(self.place.links),
            "health": {key: (one.state, one.required) for key, one in app.health.statuses.items()},
            "series": {
                line.rsplit(" ", 1)[0]
                for line in text.splitlines()
                if line[0] != "#" and not line.startswith(OF_PREDECESSORS)
            },
            "callable": {name: len(one.catalog.tools) for name, one in app.upstreams.items()},
        }


async def run_through(first: File, sequence: Sequence[Reload]) -> tuple[File, dict[str, object]]:
    """What is in force in the end, and what is seen of it."""
    net = MemoryNet()
    with net.calling():
        async with site(net, "box") as place:
            box = Box(place, first)
            app = box.app
            in_force = first
            is_up = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(app.run, lambda app: is_up.set())
                await is_up.wait()
                for file, fault in sequence:
                    in_force = await one_reload(box, in_force, file, fault)
                # Both have seen a reload then, and one by an equal config does nothing.
                in_force = await one_reload(box, in_force, in_force, None)
                await trio.sleep(SETTLE_S)
                assert app.supervisor.draining == 0
                seen = box.seen()
                signal.raise_signal(signal.SIGTERM)
    assert (net.open, net.listening) == (0, {})
    return in_force, seen


async def one_reload(box: Box, in_force: File, file: File, fault: Fault | None) -> File:
    """What is in force after it."""
    config = broken(file, fault)
    before, links, listening = box.parts(), box.place.links, box.net.listening
    loaded_before = box.app.loaded
    box.workshop.fails = fault.what if fault is not None and fault.kind == "build" else None
    box.net.refused = {fault.what} if fault is not None and fault.kind == "bind" else set()
    verdict = await box.reload(config, fault.what if fault is not None and fault.kind == "cancel" else None)
    box.workshop.fails, box.net.refused = None, set()
    is_good = box.app.loaded is not loaded_before
    if verdict is not None:
        assert is_good == (verdict.result == "reloaded"), verdict
        if verdict.result == "refused":
            assert fault is not None, verdict
        else:
            assert words_of(verdict) == changes(in_force, file, config)
    if not is_good:
        assert box.parts() == before
        await trio.sleep(20)  # what was begun for nothing has gone
        assert box.net.listening == listening
        after = box.place.links
        assert {name: after.get(name) for name in links} == links
        return in_force
    older, newer = in_force.tables(), file.tables()
    kept = {name for name in newer if name in older and older[name].made_of == newer[name].made_of}
    for key, part in before.items():
        if word(key) in kept or key[0] == "sessions":
            assert box.parts()[key] is part, key
    await trio.sleep(1)
    after = box.place.links
    for name, link in links.items():
        if any(owns(newer[uplink], name) for uplink in kept if uplink.startswith("uplink")) and name in after:
            assert after[name] is link, f"{name} has another link"
    return file


def owns(uplink: Table, link: str) -> bool:
    return link.startswith(uplink.made_of[2])


def word(key: PartKey) -> str:
    return {
        "upstream": f"server {key[1]}",
        "uplink": f"uplink {key[1]}",
        "acceptor": "hub",
        "listener": "gateway",
    }.get(key[0], key[0])


def broken(file: File, fault: Fault | None) -> EdgeConfig:
    config = file.config()
    if fault is not None and fault.kind == "tls":
        tls = ServerTlsConfig(cert="/nowhere/cert.pem", key="/nowhere/key.pem")
        return replace(config, gateway=replace(config.gateway, enabled=True, tls=tls))
    if fault is not None and fault.kind == "required":
        down = HttpServerConfig(name="down", url=NOBODY_URL, required=True, reconnect=QUICK)
        return replace(config, servers={**config.servers, "down": down})
    return config


def words_of(verdict: Verdict) -> dict[str, set[str]]:
    names = ("added", "removed", "restarted", "updated", "unchanged")
    return {name: set(getattr(verdict, name)) for name in names}


def changes(old: File, new: File, config: EdgeConfig) -> dict[str, set[str]]:
    """What the verdict has to say, by the files alone."""
    older, newer = old.tables(), new.tables()
    both = older.keys() & newer.keys()
    restarted = {name for name in both if older[name].made_of != newer[name].made_of}
    updated = {name for name in both - restarted if older[name] != newer[name]}
    if old.page_size != new.page_size:
        updated.add("gateway")
    edges_before, edges = (edges_of(file) for file in ((old, new) if "hub" in both else (EMPTY, EMPTY)))
    return {
        "added": (set(newer) - set(older)) | (edges - edges_before),
        "removed": (set(older) - set(newer)) | (edges_before - edges),
        "restarted": restarted,
        "updated": updated,
        "unchanged": (both | {"sessions"}) - restarted - updated,
    }


def edges_of(file: File) -> set[str]:
    return set() if file.hub is None else {f"edge {name}" for name in file.hub.settings}


STDIO = Table(("stdio", "x"), 30.0)
HQ = Table(("contextforge", "all", "box-1"), None)
RENAMED: list[Reload] = [
    (replace(EMPTY, servers={"a": STDIO}, uplinks={"p": HQ}), None),
    (replace(EMPTY, servers={"a": STDIO}, uplinks={"q": HQ}), None),
]


@settings(max_examples=20)
@example(RENAMED)
@given(st.lists(st.tuples(files, faults), min_size=1, max_size=5))
def test_whatever_comes_and_fails_the_last_good_config_is_in_force_as_if_it_had_been_the_first(
    sequence: list[Reload],
) -> None:
    clock = MockClock(autojump_threshold=0)
    in_force, seen = trio.run(run_through, EMPTY, sequence, clock=clock)
    _, fresh = trio.run(run_through, in_force, [], clock=MockClock(autojump_threshold=0))
    for what in fresh:
        assert seen[what] == fresh[what], what
