"""The file that `init` writes, and that every key is documented wherever a user looks for it."""

import re
from dataclasses import MISSING, fields, is_dataclass
from importlib.resources import files
from typing import Any

import pytest

from edge.config.load import load
from edge.config.model import (
    AdminConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    HubConfig,
    HubEdge,
    HubJwt,
    HubWebhook,
    LogConfig,
    Secret,
    SecretRef,
    ServerTlsConfig,
    StdioServerConfig,
    UplinkConfig,
    UplinkTls,
)
from edge.config.template import COMMENTS, key_lines, template, toml_value

TEXT = template(
    name="plant-7", host_command=("/bin/mcp-edge", "host-server"), git_command=("/bin/uvx", "mcp-server-git")
)
EVERYTHING = re.sub(r"(?m)^#(?![ \n])", "", TEXT)

# Heading in help/config.md → the tables it documents.
HEADINGS: dict[str, tuple[Any, ...]] = {
    "## Top level": (EdgeConfig,),
    "## [gateway]": (GatewayConfig,),
    "In `tls`": (ServerTlsConfig,),
    "## [admin]": (AdminConfig,),
    "## [log]": (LogConfig,),
    "## [servers.NAME]": (StdioServerConfig, HttpServerConfig),
    "### Stdio": (StdioServerConfig,),
    "### HTTP": (HttpServerConfig,),
    "## [uplinks.NAME]": (UplinkConfig,),
    "In an uplink's `tls`": (UplinkTls,),
    "## [hub]": (HubConfig,),
    "## [hub.edges.NAME]": (HubEdge,),
    "## [hub.jwt]": (HubJwt,),
    "## [hub.webhook]": (HubWebhook,),
}
TABLES_OF_THEIR_OWN = {"gateway", "admin", "servers", "log", "uplinks", "hub", "edges", "jwt", "webhook"}
SECRET = "hunter2" * 8


def loaded(text: str) -> EdgeConfig:
    return load(text, env={"PLC_KEY": "k"}, read_secret=lambda path: SECRET, source="c.toml")


def default_text(field: Any) -> str:
    """A default as config.md shows it."""
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    if default is MISSING:
        return "required"
    if default is None:
        return "none"
    if field.name == "listen" and isinstance(default, tuple):
        (default,) = default
    return f"`{toml_value(default)}`".replace("{  }", "{}")


def documented() -> dict[str, dict[str, str]]:
    """Heading → key → default, as help/config.md has them."""
    tables: dict[str, dict[str, str]] = {heading: {} for heading in HEADINGS}
    heading = ""
    for line in files("edge").joinpath("help/config.md").read_text("utf-8").splitlines():
        heading = next((known for known in HEADINGS if line.startswith(known)), heading)
        if match := re.fullmatch(r"\| `(\w+)` \| (.+?) \| (.+) \|", line):
            tables[heading][match[1]] = match[2]
    return tables


def test_the_template_loads_as_it_is_and_serves_the_built_in_server() -> None:
    config = loaded(TEXT)
    host = StdioServerConfig(name="host", command=("/bin/mcp-edge", "host-server"))
    assert config == EdgeConfig(name="plant-7", servers={"host": host})


def test_the_template_loads_with_every_key_taken_out_of_its_comment() -> None:
    config = loaded(EVERYTHING)
    git, plc = config.servers["git"], config.servers["plc"]
    assert isinstance(git, StdioServerConfig)
    assert isinstance(plc, HttpServerConfig)
    assert git.command == ("/bin/uvx", "mcp-server-git")
    assert plc.bearer == Secret(SECRET)
    uplink, hub = config.uplinks["hq"], config.hub
    assert (uplink.token, uplink.token_ref) == (Secret(SECRET), SecretRef("file", "/etc/mcp-edge/hq.token"))
    assert hub is not None
    assert hub.jwt is not None
    assert hub.webhook is not None
    edge = hub.edges["plant-8"]
    tables = (
        config,
        config.gateway,
        config.admin,
        config.log,
        git,
        plc,
        uplink,
        hub,
        edge,
        hub.jwt,
        hub.webhook,
    )
    for table in tables:
        assert is_dataclass(table)
        for field in fields(table):
            is_example = field.name in (
                *(
                    "name",
                    "command",
                    "url",
                    "env",
                    "cwd",
                    "headers",
                    "bearer",
                    "ca_file",
                    "tls",
                    "query",
                    "token",
                ),
                *("reload_token", "token_ref", "dialect", "token_sha256", "secret"),
            ) or (table is hub and field.name == "listen")
            if not is_example and field.name not in TABLES_OF_THEIR_OWN:
                default = field.default_factory() if field.default_factory is not MISSING else field.default
                assert getattr(table, field.name) == default, field.name


@pytest.mark.parametrize(
    ("heading", "cls"),
    [
        ("[gateway]", GatewayConfig),
        ("[admin]", AdminConfig),
        ("[log]", LogConfig),
        ("#[servers.git]", StdioServerConfig),
        ("#[servers.plc]", HttpServerConfig),
        ("#[uplinks.hq]", UplinkConfig),
        ("#[hub]", HubConfig),
        ("#[hub.edges.plant-8]", HubEdge),
        ("#[hub.jwt]", HubJwt),
        ("#[hub.webhook]", HubWebhook),
    ],
)
def test_every_key_of_the_model_is_in_the_template_under_its_heading(heading: str, cls: Any) -> None:
    part = TEXT[TEXT.index(f"\n{heading}") :].partition("\n\n")[0]
    keys = set(re.findall(r"(?m)^#?(\w+) = ", part))
    for field in fields(cls):
        if field.name not in TABLES_OF_THEIR_OWN | {"name", "token_ref"}:
            is_secret = field.name in ("bearer", "token", "secret", "reload_token")
            assert (f"{field.name}_file" if is_secret else field.name) in keys, field.name


def test_no_comment_of_the_template_is_about_a_key_that_is_gone() -> None:
    prefixes = {
        "gateway.": GatewayConfig,
        "admin.": AdminConfig,
        "log.": LogConfig,
        "uplinks.": UplinkConfig,
        "hub.": HubConfig,
        "edges.": HubEdge,
        "jwt.": HubJwt,
        "webhook.": HubWebhook,
    }
    named = {f"{prefix}{field.name}" for prefix, cls in prefixes.items() for field in fields(cls)}
    for cls in (EdgeConfig, StdioServerConfig, HttpServerConfig):
        named |= {field.name for field in fields(cls)}
    assert COMMENTS.keys() <= named


def test_every_line_of_the_template_has_a_comment_that_says_what_it_is() -> None:
    for line in key_lines(GatewayConfig, "gateway."):
        assert re.fullmatch(r"#\w+ = .+  # .+", line)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.0, "5"),
        (2.5, "2.5"),
        (True, "true"),
        ('a"b\\\n', '"a\\"b\\\\\\n"'),
        ((), "[]"),
        (("a", "b"), '["a", "b"]'),
        ({"a b": 1, "c": "d"}, '{ "a b" = 1, c = "d" }'),
    ],
)
def test_a_value_is_written_on_one_line(value: object, text: str) -> None:
    assert toml_value(value) == text


def test_a_host_name_is_quoted_as_toml_needs_it() -> None:
    text = template(name='a"b', host_command=("x",), git_command=("y",))
    assert loaded(text).name == 'a"b'


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_manual_has_every_key_with_its_right_default(heading: str) -> None:
    tables = documented()
    wanted = {field.name for cls in HEADINGS[heading] for field in fields(cls)}
    if heading in ("## Top level", "## [hub]"):
        wanted -= TABLES_OF_THEIR_OWN
    elif "uplink" in heading or "hub" in heading:
        wanted -= {"name", "token_ref"}
    elif "server" in heading.lower() or heading.startswith("###"):
        stdio = {field.name for field in fields(StdioServerConfig)}
        http = {field.name for field in fields(HttpServerConfig)}
        wanted = (stdio & http) - {"name"} if heading == "## [servers.NAME]" else wanted & (stdio ^ http)
    expected = {
        field.name: default_text(field)
        for cls in HEADINGS[heading]
        for field in fields(cls)
        if field.name in wanted
    }
    assert tables[heading] == expected
