"""No key of the config is ignored by a reload: whichever is changed, something is to be done."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from edge.config.diff import ControlSpec, changes_between, parts_of, settings_between
from edge.config.model import (
    BackoffConfig,
    EdgeConfig,
    HttpServerConfig,
    HubConfig,
    HubEdge,
    HubJwt,
    HubWebhook,
    Secret,
    ServerLimits,
    ServerTlsConfig,
    StdioServerConfig,
    UplinkConfig,
    UplinkTls,
)
from edge.config.secrets import SecretRef

TLS = ServerTlsConfig(cert="/c.pem", key="/k.pem", client_ca="/ca.pem")
HASHES = ("1" * 64, "2" * 64)
CONFIG = EdgeConfig(
    name="box",
    gateway=dataclasses.replace(EdgeConfig().gateway, tls=TLS),
    admin=dataclasses.replace(EdgeConfig().admin, reload_token=Secret("token")),
    servers={
        "git": StdioServerConfig(name="git", command=("git-server",), env={"A": "b"}, cwd="/srv"),
        "plc": HttpServerConfig(
            name="plc", url="https://plc/mcp", headers={"X": "y"}, bearer=Secret("token"), ca_file="/ca.pem"
        ),
    },
    uplinks={
        "hq": UplinkConfig(
            name="hq",
            dialect="long-poll",
            url="https://hub",
            token=Secret("token"),
            token_ref=SecretRef("file", "/token"),
            servers=("git",),
            link_name="box-1",
            headers={"X": "y"},
            query={"a": "b"},
            tls=UplinkTls(ca_file="/ca.pem", cert="/c.pem", key="/k.pem"),
        )
    },
    hub=HubConfig(
        listen=("127.0.0.1:1",),
        tls=TLS,
        edges={"a": HubEdge(name="a", token_sha256=HASHES[:1])},
        jwt=HubJwt(secret=Secret("s" * 64), issuer="issuer", audience="audience"),
        webhook=HubWebhook(url="https://judge", bearer=Secret("token"), ca_file="/ca.pem"),
        operator_token_sha256=HASHES[1:],
    ),
)
"""Every table, and in each every key that has no default."""

OTHER: dict[str, Any] = {
    "listen": ("127.0.0.1:7",),
    "admin.listen": "127.0.0.1:7",
    "admin.control": "unix:/other.sock",
    "gateway.path": "/other",
    "gateway.prefix": "never",
    "gateway.separator": "--",
    "gateway.allowed_origins": ("https://app.example.com",),
    "gateway.allowed_hosts": ("edge.example.com",),
    "log.level": "debug",
    "log.format": "json",
    "transport": "sse",
    "dialect": "mcp-reverse",
    "dialects": ("long-poll",),
    "publish": "all",
    "proxy": "none",
    "servers": ("plc",),
    "url": "https://other/mcp",
    "cwd": "/other",
    "memory_bytes": 2_000_000,
    "token_sha256": ("3" * 64,),
    "operator_token_sha256": ("3" * 64,),
    "limit_s": 77.0,
    "token_ref": SecretRef("file", "/other"),
}
"""Where the type alone does not say which other value is good: by key, or by table and key."""

WITHOUT_EFFECT = {
    "insecure_plain_secrets": "is judged as the file is loaded, and nothing is built from it",
}
"""Keys that a reload may pass over, and why."""


def test_the_config_that_is_changed_here_has_every_table_and_every_key_that_may_be_missing() -> None:
    missing = [".".join(path) for path, value in keys_of(CONFIG) if value is None]
    assert missing == []
    classes = {type(table) for table in tables_of(CONFIG)}
    model = {
        BackoffConfig,
        EdgeConfig,
        HttpServerConfig,
        HubConfig,
        HubEdge,
        HubJwt,
        HubWebhook,
        ServerLimits,
    }
    assert classes >= model | {ServerTlsConfig, StdioServerConfig, UplinkConfig, UplinkTls}


def tables_of(table: Any) -> Iterator[Any]:
    yield table
    for value in values_of(table).values():
        if dataclasses.is_dataclass(value) and not isinstance(value, Secret | SecretRef):
            yield from tables_of(value)
        elif isinstance(value, Mapping):
            for one in value.values():
                if dataclasses.is_dataclass(one):
                    yield from tables_of(one)


def values_of(table: Any) -> dict[str, Any]:
    return {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}


def keys_of(table: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key with its value; tables are gone through."""
    for name, value in values_of(table).items():
        if name == "name" and path:
            continue  # the table's own
        here = (*path, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, Secret | SecretRef):
            yield from keys_of(value, here)
        elif isinstance(value, Mapping) and value and all(map(dataclasses.is_dataclass, value.values())):
            for key, one in value.items():
                yield from keys_of(one, (*here, key))
        else:
            yield here, value


def changed(table: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy with this one key changed."""
    if not path:
        return value
    if isinstance(table, Mapping):
        return {**table, path[0]: changed(table[path[0]], path[1:], value)}
    return dataclasses.replace(table, **{path[0]: changed(getattr(table, path[0]), path[1:], value)})


def other_than(path: tuple[str, ...], value: Any) -> Any:
    for known in (".".join(path[-2:]), path[-1]):
        if known in OTHER:
            return OTHER[known]
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case Secret():
            return Secret(value.reveal() + "x")
        case str():
            return f"{value}x"
        case tuple():
            return (*value, "more")
        case Mapping():
            return {**value, "More": "z"}
    raise AssertionError(f"say in OTHER what else {'.'.join(path)} can be")


def control_of(config: EdgeConfig) -> ControlSpec | None:
    return ControlSpec(asked_for=config.admin.control, usual="unix:/usual")


@pytest.mark.parametrize("path", [path for path, _ in keys_of(CONFIG)], ids=".".join)
def test_a_change_of_any_key_is_a_change(path: tuple[str, ...]) -> None:
    value: Any = CONFIG
    for name in path:
        value = value[name] if isinstance(value, Mapping) else getattr(value, name)
    after = changed(CONFIG, path, other_than(path, value))
    assert after != CONFIG
    changes = changes_between(
        parts_of(CONFIG, control=control_of(CONFIG)),
        parts_of(after, control=control_of(after)),
        settings_between(CONFIG, after),
    )
    assert changes.is_empty == (path[-1] in WITHOUT_EFFECT)


@pytest.mark.parametrize(
    "table", ["hub", "gateway.tls", "admin.reload_token", "hub.jwt", "hub.webhook", "hub.tls"]
)
def test_a_table_that_goes_is_a_change(table: str) -> None:
    path = tuple(table.split("."))
    without = changed(CONFIG, path, None)
    assert not changes_between(
        parts_of(CONFIG), parts_of(without), settings_between(CONFIG, without)
    ).is_empty


@pytest.mark.parametrize("table", ["servers", "uplinks"])
def test_a_named_table_that_goes_is_a_change(table: str) -> None:
    without = changed(CONFIG, (table,), {})
    assert changes_between(parts_of(CONFIG), parts_of(without)).removed != ()
