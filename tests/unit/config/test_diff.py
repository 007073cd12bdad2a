"""Which parts a config asks for, and which edits touch which part."""

from dataclasses import replace

from edge.config.diff import UplinkSpec, parts_of
from edge.config.model import (
    AdminConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    HubConfig,
    HubEdge,
    LogConfig,
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
    assert parts["acceptor", "main"] == HUB
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
