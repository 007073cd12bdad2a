"""Which parts a config asks for, and which edits touch which part."""

from dataclasses import replace

from edge.config.diff import parts_of
from edge.config.model import (
    AdminConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    LogConfig,
    StdioServerConfig,
)

GIT = StdioServerConfig(name="git", command=("git-server",))
PLC = HttpServerConfig(name="plc", url="http://plc/mcp")
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
