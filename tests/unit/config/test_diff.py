"""Which parts a config asks for, and which edits touch which part."""

from dataclasses import replace
from typing import Any

import pytest

from edge.config.diff import (
    Changes,
    ControlSpec,
    EdgeChanges,
    HubSpec,
    PartKey,
    PartSpec,
    UplinkSpec,
    addresses_of,
    changes_between,
    goes_on,
    lives_twice,
    parts_of,
    settings_between,
    shown,
)
from edge.config.model import (
    AdminConfig,
    BackoffConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    HubConfig,
    HubEdge,
    HubWebhook,
    LogConfig,
    Secret,
    ServerLimits,
    ServerTlsConfig,
    StdioLimits,
    StdioServerConfig,
    UplinkConfig,
)

GIT = StdioServerConfig(name="git", command=("git-server",))
PLC = HttpServerConfig(name="plc", url="http://plc/mcp")
HQ = UplinkConfig(name="hq", dialect="long-poll", url="https://hub")
HUB = HubConfig(listen=("[::1]:1",), edges={"a": HubEdge(name="a", token_sha256=("1" * 64,))})
CONFIG = EdgeConfig(servers={"plc": PLC, "git": GIT})


def changed(after: EdgeConfig) -> set[tuple[str, str]]:
    old, new = parts_of(CONFIG), parts_of(after)
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def test_parts_come_in_start_order() -> None:
    assert list(parts_of(CONFIG)) == [
        ("admin", "main"),
        ("sessions", "main"),
        ("upstream", "git"),
        ("upstream", "plc"),
        ("listener", "main"),
    ]


def test_an_admin_listener_that_is_off_is_no_part() -> None:
    assert changed(replace(CONFIG, admin=AdminConfig(enabled=False))) == {("admin", "main")}


def test_an_equal_config_changes_nothing() -> None:
    assert changed(EdgeConfig(servers={"git": GIT, "plc": replace(PLC)})) == set()


def test_an_edit_touches_only_the_parts_that_are_built_from_it() -> None:
    assert changed(replace(CONFIG, log=LogConfig(level="debug"))) == set()
    assert changed(replace(CONFIG, gateway=GatewayConfig(prefix="never", call_timeout_s=5.0))) == set()
    assert changed(replace(CONFIG, gateway=GatewayConfig(listen=("[::1]:1",)))) == {("listener", "main")}
    assert changed(replace(CONFIG, gateway=GatewayConfig(max_sessions=5))) == {("sessions", "main")}
    assert changed(replace(CONFIG, servers={"git": replace(GIT, cwd="/srv")})) == {
        ("upstream", "git"),
        ("upstream", "plc"),
    }


def test_the_hub_comes_before_the_clients_and_uplinks_last_and_only_where_they_are_asked_for() -> None:
    lab = replace(HQ, name="lab", servers=("plc",))
    config = replace(CONFIG, name="plant-7", uplinks={"lab": lab, "hq": HQ}, hub=HUB)
    parts = parts_of(config)
    assert list(parts)[-4:] == [
        ("acceptor", "main"),
        ("listener", "main"),
        ("uplink", "hq"),
        ("uplink", "lab"),
    ]
    assert parts["acceptor", "main"] == HubSpec(hub=HUB, tls_files=())
    specs = {name: parts["uplink", name] for name in ("hq", "lab")}
    assert specs["hq"] == UplinkSpec(uplink=HQ, box="plant-7", servers=("git", "plc"))
    assert isinstance(specs["lab"], UplinkSpec)
    assert specs["lab"].links == {"plant-7-plc": "plc"}


def test_a_gateway_that_is_off_has_no_listener() -> None:
    off = replace(CONFIG, gateway=GatewayConfig(enabled=False), uplinks={"hq": HQ})
    assert changed(off) == {("listener", "main"), ("uplink", "hq")}


def test_what_an_uplink_publishes_changes_it() -> None:
    before, after = (
        replace(CONFIG, uplinks={"hq": HQ}, servers=servers) for servers in ({"git": GIT}, {"plc": PLC})
    )
    assert parts_of(before)["uplink", "hq"] != parts_of(after)["uplink", "hq"]


TLS = ServerTlsConfig(cert="/c.pem", key="/k.pem")


def test_another_content_of_a_file_that_the_hub_is_made_from_is_a_change_of_the_hub() -> None:
    tls = replace(TLS, client_ca="/ca.pem")
    hub = replace(HUB, tls=tls, webhook=HubWebhook(url="https://judge", ca_file="/judge.pem"))

    def spec(**changed: str) -> PartSpec:
        digests = dict.fromkeys(("/c.pem", "/k.pem", "/ca.pem", "/judge.pem"), "as it was")
        return parts_of(replace(CONFIG, hub=hub), digests=digests | changed)["acceptor", "main"]

    for path in ("/c.pem", "/k.pem", "/ca.pem", "/judge.pem"):
        assert spec(**{path: "renewed"}) != spec()
    assert spec(**{"/other.pem": "renewed"}) == spec()


def listener(gateway: GatewayConfig, **digests: str) -> PartSpec:
    return parts_of(EdgeConfig(gateway=gateway), digests=digests)["listener", "main"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (GIT, replace(GIT, required=True, call_timeout_s=1, probe_s=1, list_refresh_s=1, start_timeout_s=1)),
        (
            GIT,
            replace(GIT, restart=BackoffConfig(first_s=2), overlap=True, limits=StdioLimits(concurrency=1)),
        ),
        (PLC, replace(PLC, reconnect=BackoffConfig(first_s=2), call_timeout_s=1, required=True)),
        (AdminConfig(), AdminConfig(reload_token=Secret("token"))),
        (listener(GatewayConfig()), listener(GatewayConfig(path="/other", max_connections=1))),
        (listener(GatewayConfig()), listener(GatewayConfig(allowed_hosts=("edge.example.com",)))),
        (HubSpec(hub=HUB, tls_files=()), HubSpec(hub=replace(HUB, max_links=1), tls_files=())),
        (
            UplinkSpec(uplink=HQ, box="box", servers=("git",)),
            UplinkSpec(uplink=HQ, box="box", servers=("git", "plc")),
        ),
    ],
)
def test_a_part_goes_on_with_settings_that_are_read_when_they_are_needed(
    old: PartSpec, new: PartSpec
) -> None:
    assert goes_on(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (GIT, replace(GIT, command=("other",))),
        (GIT, replace(GIT, env={"A": "b"})),
        (GIT, replace(GIT, limits=StdioLimits(max_line_bytes=2048))),
        (GIT, replace(PLC, name="git")),
        (PLC, replace(PLC, bearer=Secret("other"))),
        (PLC, replace(PLC, limits=ServerLimits(concurrency=1))),
        (AdminConfig(), AdminConfig(listen="127.0.0.1:1")),
        (listener(GatewayConfig()), listener(GatewayConfig(tls=TLS))),
        (listener(GatewayConfig()), listener(GatewayConfig(listen=("[::1]:1",)))),
        (HubSpec(hub=HUB, tls_files=()), HubSpec(hub=replace(HUB, listen=("[::1]:2",)), tls_files=())),
        (
            ControlSpec(asked_for="unix:/a", usual="unix:/usual"),
            ControlSpec(asked_for="unix:/b", usual="unix:/usual"),
        ),
        (
            UplinkSpec(uplink=HQ, box="box", servers=()),
            UplinkSpec(uplink=replace(HQ, heartbeat_s=1), box="box", servers=()),
        ),
        (
            UplinkSpec(uplink=HQ, box="box", servers=()),
            UplinkSpec(uplink=HQ, box="other", servers=()),
        ),
    ],
)
def test_a_part_is_made_anew_for_what_it_is_built_from(old: PartSpec, new: PartSpec) -> None:
    assert not goes_on(old, new)


def test_a_renewed_certificate_is_a_change_that_a_listener_takes_while_it_runs() -> None:
    gateway = GatewayConfig(tls=TLS)
    old, new = listener(gateway, **{"/c.pem": "1", "/k.pem": "2"}), listener(gateway, **{"/c.pem": "3"})
    assert old != new
    assert goes_on(old, new)


def test_changes_name_every_part_once() -> None:
    before = replace(CONFIG, uplinks={"hq": HQ})
    after = EdgeConfig(
        gateway=GatewayConfig(max_connections=7),
        servers={"git": replace(GIT, cwd="/srv"), "new": replace(GIT, name="new")},
        log=LogConfig(level="debug"),
    )
    changes = changes_between(parts_of(before), parts_of(after), settings_between(before, after))
    assert changes == Changes(
        added=(("upstream", "new"),),
        removed=(("uplink", "hq"), ("upstream", "plc")),
        restarted=(("upstream", "git"),),
        updated=(("listener", "main"),),
        unchanged=(("admin", "main"), ("sessions", "main")),
        settings=("log",),
    )
    assert not changes.is_empty
    assert changes_between(parts_of(after), parts_of(after), settings_between(after, after)).is_empty


def test_edges_of_a_hub_that_is_there_before_and_after_are_named() -> None:
    def parts(*edges: HubEdge, **values: Any) -> dict[PartKey, PartSpec]:
        hub = replace(HUB, edges={edge.name: edge for edge in edges}, **values)
        return {("acceptor", "main"): HubSpec(hub=hub, tls_files=())}

    one, other = (
        HubEdge(name="one", token_sha256=("1" * 64,)),
        HubEdge(name="other", token_sha256=("2" * 64,)),
    )
    rotated = replace(one, token_sha256=("3" * 64,))
    assert changes_between(parts(one), parts(rotated, other)).edges == EdgeChanges(
        added=("other",), updated=("one",)
    )
    moved = changes_between(parts(one, other), parts(other, listen=("[::1]:2",)))
    assert (moved.restarted, moved.edges) == ((("acceptor", "main"),), EdgeChanges(removed=("one",)))
    assert changes_between(parts(one), {}).edges == changes_between({}, parts(one)).edges == EdgeChanges()


def test_each_listener_is_known_by_its_name_with_its_addresses() -> None:
    control = ControlSpec(asked_for="unix:/srv/c.sock", usual="unix:/run/control.sock")
    parts = parts_of(EdgeConfig(hub=HUB), control=control)
    assert addresses_of(parts) == {
        "admin": ("127.0.0.1:9766",),
        "control": ("unix:/srv/c.sock", "unix:/run/control.sock"),
        "hub": ("[::1]:1",),
        "gateway": ("127.0.0.1:8766",),
    }


def test_settings_that_no_part_is_built_from_are_named() -> None:
    after = EdgeConfig(name="box", gateway=GatewayConfig(prefix="never"), log=LogConfig(level="debug"))
    assert settings_between(EdgeConfig(), after) == ("gateway", "log", "name")


def test_parts_are_called_as_operators_call_them() -> None:
    keys = [
        ("upstream", "git"),
        ("uplink", "main"),
        ("acceptor", "main"),
        ("listener", "main"),
        ("admin", "main"),
    ]
    assert [shown(key) for key in keys] == ["server git", "uplink main", "hub", "gateway", "admin"]  # type: ignore[arg-type]  # their kinds are literals


def test_what_has_a_lock_or_a_name_elsewhere_does_not_live_twice() -> None:
    assert not lives_twice(GIT)
    assert lives_twice(replace(GIT, overlap=True))
    assert lives_twice(PLC)
    assert not lives_twice(UplinkSpec(uplink=HQ, box="box", servers=()))
    assert lives_twice(listener(GatewayConfig()))
