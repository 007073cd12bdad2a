"""Configs of every kind of part, to be reloaded: what is in them, what may fail, and what has to happen then."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from edge.app.loaded import Loaded
from edge.config.common import BackoffConfig, ServerTlsConfig
from edge.config.diff import ControlSpec, PartKey
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
from edge.supervise.reload import Verdict
from tests.support.certificates import Certificates
from tests.support.hub_rig import hub_config
from tests.support.memory_site import NOBODY_URL, SERVER_URL, hub_url, token_of

QUICK = BackoffConfig(first_s=0.5, limit_s=2.0)


class Disk:
    """The files that TLS is made from: `a1` and `a2` are the same files with another content."""

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates(folder)
        issued = {name: self.certificates.issue(name) for name in CERTIFICATES}
        self._contents = {
            name: (Path(tls.cert).read_bytes(), Path(tls.key).read_bytes()) for name, tls in issued.items()
        }
        self._folder = folder

    def tls(self, name: str) -> ServerTlsConfig | None:
        if not name:
            return None
        return ServerTlsConfig(
            cert=str(self._folder / f"{name[0]}.cert"), key=str(self._folder / f"{name[0]}.key")
        )

    def digests(self, name: str) -> dict[str, str]:
        tls = self.tls(name)
        return {} if tls is None else {tls.cert: name, tls.key: name}

    def put(self, name: str) -> None:
        """This content is there from now on."""
        tls = self.tls(name)
        if tls is not None:
            for path, content in zip((tls.cert, tls.key), self._contents[name], strict=True):
                Path(path).write_bytes(content)


@dataclass(frozen=True)
class Table:
    """A part as a file has it: `made_of` makes another one of it, `settings` it can take while it runs."""

    made_of: Any
    settings: Any


@dataclass(frozen=True)
class File:
    servers: dict[str, Table]  # made of: `stdio`, `http` or `nobody`, and a word; settings: probe_s
    uplinks: dict[
        str, Table
    ]  # made of: dialect, publish, what its link is called, edge of the token; settings: none
    hub: Table | None  # made of: an address, whether with TLS; settings: its edges, its certificate
    gateway: Table | None  # made of: addresses; settings: path
    admin: Table | None  # made of: an address; settings: reload token
    control: Table | None  # made of: an address; settings: none
    page_size: int

    def tables(self) -> dict[str, Table]:
        """By what the verdict calls them. An uplink also takes note of which servers there are."""
        servers = tuple(sorted(self.servers))
        single = {"hub": self.hub, "gateway": self.gateway, "admin": self.admin, "control": self.control}
        return (
            {f"server {name}": table for name, table in self.servers.items()}
            | {f"uplink {name}": Table(table.made_of, servers) for name, table in self.published().items()}
            | {name: table for name, table in single.items() if table is not None}
        )

    def published(self) -> dict[str, Table]:
        """Without a server there is nothing to publish; of one name there is one link."""
        names = {table.made_of[2]: name for name, table in self.uplinks.items()}
        return {name: self.uplinks[name] for name in names.values()} if self.servers else {}

    @property
    def certificate(self) -> str:
        """Of the hub; empty: it speaks no TLS."""
        return "" if self.hub is None else str(self.hub.settings[1])

    def loaded(self, disk: Disk) -> Loaded:
        control = None
        if self.control is not None:
            control = ControlSpec(asked_for=self.control.made_of)
        return Loaded(config=self.config(disk), control=control, digests=disk.digests(self.certificate))

    def config(self, disk: Disk) -> EdgeConfig:
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
            (address, _), (edges, certificate) = self.hub.made_of, self.hub.settings
            hub = hub_config(*edges, listen=(address,), tls=disk.tls(certificate))
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
    dialect, publish, link, edge = table.made_of
    return UplinkConfig(
        name=name, dialect=dialect, url=hub_url(dialect), token=token_of(edge), proxy="none",
        publish=publish, link_name=link, reconnect=QUICK, heartbeat_s=10,
    )  # fmt: skip


def tables(made_of: st.SearchStrategy[Any], settings: st.SearchStrategy[Any]) -> st.SearchStrategy[Table]:
    return st.builds(Table, made_of, settings)


def hub_of(address: str, edges: tuple[str, ...], certificate: str) -> Table:
    return Table((address, certificate != ""), (edges, certificate))


GATEWAYS, ADMINS, HUBS = (
    [f"127.0.0.1:{port}" for port in ports] for ports in ((8766, 8767), (9766, 9767), (8444, 8445))
)
CONTROLS = ["unix:/run/mcp-edge/one.sock", "unix:/run/mcp-edge/two.sock"]
UNKNOWN = "unknown"  # the hub knows no such edge
CERTIFICATES = ["a1", "a2", "b1"]
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
            st.tuples(
                dialects,
                st.sampled_from(["each", "all"]),
                st.sampled_from(["box-1", "box-2"]),
                st.sampled_from(["box", "box", UNKNOWN]),
            ),
            st.none(),
        ),
    ),
    hub=st.none()
    | st.builds(
        hub_of,
        st.sampled_from(HUBS),
        st.sampled_from([("plant",), ("plant", "mill")]),
        st.sampled_from(["", *CERTIFICATES]),
    ),
    gateway=st.none()
    | tables(
        st.lists(st.sampled_from(GATEWAYS), min_size=1, max_size=2, unique=True).map(tuple),
        st.sampled_from(["/mcp", "/other"]),
    ),
    admin=st.none() | tables(st.sampled_from(ADMINS), st.sampled_from(["one", "two"])),
    control=st.none() | tables(st.sampled_from(CONTROLS), st.none()),
    page_size=st.sampled_from([100, 200]),
)


@dataclass(frozen=True)
class Fault:
    """`bind`: the address cannot be listened on. `build`: a part of the kind cannot be made. `tls`: that listener's
    certificate is none. `required`: a server that has to be there is not. `cancel`: cut off at that step."""

    kind: str
    what: Any = None


faults = st.one_of(
    st.none(),
    st.none(),
    st.builds(Fault, st.just("bind"), st.sampled_from([*GATEWAYS, *ADMINS, *HUBS, *CONTROLS])),
    st.builds(
        Fault,
        st.just("build"),
        st.sampled_from(["upstream", "uplink", "acceptor", "listener", "admin", "control"]),
    ),
    st.builds(Fault, st.just("tls"), st.sampled_from(["gateway", "hub"])),
    st.just(Fault("required")),
    st.builds(Fault, st.just("cancel"), st.integers(1, 60)),
)
EMPTY = File({}, {}, None, None, None, None, 100)


def broken(file: File, fault: Fault | None, disk: Disk) -> Loaded:
    """What is loaded then."""
    loaded = file.loaded(disk)
    config = loaded.config
    if fault is not None and fault.kind == "tls":
        tls = ServerTlsConfig(cert="/nowhere/cert.pem", key="/nowhere/key.pem")
        if fault.what == "gateway":
            config = replace(config, gateway=replace(config.gateway, enabled=True, tls=tls))
        else:
            config = replace(config, hub=replace(config.hub or hub_config("plant", listen=HUBS[:1]), tls=tls))
    if fault is not None and fault.kind == "required":
        down = HttpServerConfig(name="down", url=NOBODY_URL, required=True, reconnect=QUICK)
        config = replace(config, servers={**config.servers, "down": down})
    return replace(loaded, config=config)


def part_name(key: PartKey) -> str:
    return {
        "upstream": f"server {key[1]}",
        "uplink": f"uplink {key[1]}",
        "acceptor": "hub",
        "listener": "gateway",
    }.get(key[0], key[0])


def words_of(verdict: Verdict) -> dict[str, set[str]]:
    names = ("added", "removed", "restarted", "updated", "unchanged")
    return {name: set(getattr(verdict, name)) for name in names}


def changes(old: File, new: File) -> dict[str, set[str]]:
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
    return set() if file.hub is None else {f"edge {name}" for name in file.hub.settings[0]}


def is_kept(old: File, new: File) -> set[str]:
    """The names of parts that are the same objects after a reload."""
    older, newer = old.tables(), new.tables()
    return {name for name in newer if name in older and older[name].made_of == newer[name].made_of}


def with_files_of(old: File, new: File) -> File:
    """The old one, as it is after it was put back: where both name the same files, these are the new ones."""
    if not old.certificate or old.certificate[:1] != new.certificate[:1]:
        return old
    assert old.hub is not None
    return replace(old, hub=hub_of(old.hub.made_of[0], old.hub.settings[0], new.certificate))


def lost_uplinks(good: set[str], new: File) -> set[str]:
    """Those of the links in `good` (by their statuses' names) that cannot be good with `new`."""
    links = {
        name if table.made_of[1] == "all" else f"{name}/{server}"
        for name, table in new.published().items()
        if table.made_of[3] == UNKNOWN
        for server in sorted(new.servers)
    }
    return links & good


def owns(uplink: Table, link: str) -> bool:
    return bool(link.startswith(uplink.made_of[2]))
