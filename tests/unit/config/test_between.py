"""Rules between tables, as a config file meets them: uplinks, the hub, and their neighbours."""

from hashlib import sha256

import pytest

from edge.config.load import load
from edge.config.model import (
    BackoffConfig,
    EdgeConfig,
    HubConfig,
    HubEdge,
    HubJwt,
    HubWebhook,
    Secret,
    SecretRef,
    ServerTlsConfig,
    UplinkConfig,
    UplinkTls,
)
from edge.errors import ConfigError

LONG = "x" * 32
ENV = {"TOKEN": "hunter2", "LONG": LONG}
ONE, TWO = (sha256(text).hexdigest() for text in (b"one", b"two"))
GIT = 'servers.git.command = "x"\n'
EDGES = f'[hub]\nlisten = "127.0.0.1:8443"\n[hub.edges.plant-7]\ntoken_sha256 = "{ONE}"\n'


def loaded(text: str) -> EdgeConfig:
    return load(text, env=ENV, read_secret=lambda path: "from-file\n", source="c.toml")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_whole_uplink_is_read() -> None:
    config = loaded("""
        servers.git.command = "x"
        [uplinks.hq]
        dialect = "mcp-reverse"
        url = "https://hub/${TOKEN}"
        token_file = "/t"
        servers = ["git"]
        publish = "all"
        link_name = "box"
        headers = { X-Api-Key = "${TOKEN}" }
        query = { site = "north" }
        heartbeat_s = 5
        reconnect = { first_s = 2 }
        tls = { ca_file = "ca" }
        proxy = "http://u:${TOKEN}@p:3128"
        resume = false
    """)
    assert config.uplinks == {
        "hq": UplinkConfig(
            name="hq",
            dialect="mcp-reverse",
            url="https://hub/hunter2",
            token=Secret("from-file"),
            token_ref=SecretRef("file", "/t"),
            servers=("git",),
            publish="all",
            link_name="box",
            headers={"X-Api-Key": "hunter2"},
            query={"site": "north"},
            heartbeat_s=5.0,
            reconnect=BackoffConfig(first_s=2.0, limit_s=30.0),
            tls=UplinkTls(ca_file="ca"),
            proxy="http://u:hunter2@p:3128",
            resume=False,
        )
    }
    assert "hunter2" not in repr(config)
    assert config.uplinks["hq"].shown_url == "https://hub/${TOKEN}"


def test_a_whole_hub_is_read() -> None:
    config = loaded(f"""
        [hub]
        listen = "0.0.0.0:8443"
        tls = {{ cert = "c", key = "k" }}
        dialects = ["long-poll", "contextforge"]
        operator_token_sha256 = "{TWO}"
        [hub.edges.b]
        token_sha256 = ["{ONE}", "{TWO[::-1]}"]
        dialects = ["long-poll"]
        [hub.edges.a]
        token_sha256 = "{ONE[::-1]}"
        [hub.jwt]
        secret_env = "LONG"
        issuer = "us"
        [hub.webhook]
        url = "https://auth"
        bearer_env = "TOKEN"
    """)
    assert config.hub == HubConfig(
        listen=("0.0.0.0:8443",),
        tls=ServerTlsConfig(cert="c", key="k"),
        dialects=("long-poll", "contextforge"),
        operator_token_sha256=(TWO,),
        edges={
            "a": HubEdge(name="a", token_sha256=(ONE[::-1],)),
            "b": HubEdge(name="b", token_sha256=(ONE, TWO[::-1]), dialects=("long-poll",)),
        },
        jwt=HubJwt(secret=Secret(LONG), issuer="us"),
        webhook=HubWebhook(url="https://auth", bearer=Secret("hunter2")),
    )
    assert list(config.hub.edges) == ["a", "b"]


def test_all_problems_of_links_are_reported_in_the_order_of_the_file() -> None:
    assert problems("""\
[servers.git]
command = "x"
[uplinks.hq]
dialect = "long-poll"
url = "wss://hub"
servers = ["gti", "git"]
[uplinks.lab]
dialect = "context-forge"
url = "https://hub?token=hunter2"
token_env = "NOPE"
as = "x"
proxy = "http://u:hunter2@p:1"
query = { api_key = "hunter2" }
tls = { verify = "no" }
[uplinks.far]
dialect = "contextforge"
url = "https://far"
servers = ["gti", "git"]
[hub]
listen = "0.0.0.0:8443"
[hub.edges.plant-7]
token_sha256 = "hunter2"
[hub.edges.plant-8]
name = "x"
[hub.jwt]
""") == [
        "c.toml:5: uplinks.hq.url: ws:// and wss:// are for contextforge: this dialect is plain HTTP",
        "c.toml:6: uplinks.hq.servers[0]: there is no [servers] table of this name; did you mean git?",
        "c.toml:8: uplinks.lab.dialect: must be one of contextforge, mcp-reverse, long-poll;"
        " did you mean contextforge?",
        "c.toml:9: uplinks.lab.url: a secret is not written in the config file: use ${NAME} for an environment"
        " variable (or, to try things out, insecure_plain_secrets = true at the top)",
        "c.toml:10: uplinks.lab.token_env: environment variable NOPE is not set",
        "c.toml:11: uplinks.lab.as: unknown key; the name that a link goes by is link_name",
        "c.toml:12: uplinks.lab.proxy: a secret is not written in the config file: use ${NAME} for an environment"
        " variable (or, to try things out, insecure_plain_secrets = true at the top)",
        "c.toml:13: uplinks.lab.query.api_key: a secret is not written in the config file: use ${NAME} for an"
        " environment variable (or, to try things out, insecure_plain_secrets = true at the top)",
        "c.toml:14: uplinks.lab.tls.verify: must be true or false, not a string",
        "c.toml:18: uplinks.far.servers[0]: there is no [servers] table of this name; did you mean git?",
        "c.toml:20: hub.listen: is not a loopback address, and without tls tokens and calls can be read on the way."
        " Give [hub] tls, or set insecure_plain = true if something before it speaks TLS",
        "c.toml:22: hub.edges.plant-7.token_sha256: must be the 64 hex digits of the token's SHA-256, and looks like"
        " the token itself: make it by printf %s TOKEN | sha256sum",
        "c.toml:23: hub.edges.plant-8.token_sha256: is missing",
        "c.toml:24: hub.edges.plant-8.name: the name is the table's own, as in [hub.edges.NAME]",
        "c.toml:25: hub.jwt.secret: is missing: secret_env or secret_file or secret_credential",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gateway.enabled = false\n" + GIT, "gateway.enabled: is false, and there is no [uplinks.NAME]"),
        ("uplinks = 5", "uplinks: must be tables [uplinks.NAME], not an integer"),
        ("uplinks.hq = 5", "uplinks.hq: must be a table, not an integer"),
        ("hub = 5", "hub: must be a table, not an integer"),
        (
            "hub = { listen = 'unix:/x', jwt.secret_env = 'LONG', edges = [] }",
            "hub.edges: must be tables [hub.edges.NAME], not a list",
        ),
        ("hub = { listen = 'unix:/x' }", "hub: has no way to tell edges apart"),
        (
            EDGES + 'dialects = ["contextforge", "contextforge"]',
            "hub.edges.plant-7.dialects[1]: is listed twice",
        ),
        (EDGES + 'dialects = ["x"]', "hub.edges.plant-7.dialects[0]: must be one of contextforge"),
        (EDGES + 'dialects = "x"', "hub.edges.plant-7.dialects: must be a list of strings, not a string"),
        (EDGES + "servers.plant-7.url = 'http://x'", "unknown key"),
        (EDGES + '[servers.plant-7]\ncommand = "x"', "hub.edges.plant-7: there is a server of this name"),
        (EDGES + '[gateway]\nseparator = "-"', "hub.edges.plant-7: the name must not hold or run into"),
        (EDGES + '[gateway]\nlisten = "127.0.0.1:8443"', "hub.listen: is the address of the gateway, too"),
        (EDGES + '[admin]\nlisten = "127.0.0.1:8443"', "admin.listen: is the address of the hub, too"),
        ("uplinks.hq = { dialect = 'long-poll', url = 'http://x' }", "uplinks.hq: has nothing to publish"),
        (
            "uplinks.hq = { dialect = 'long-poll', url = 'http://x', publish = 'all' }",
            "uplinks.hq: has nothing to publish",
        ),
        (
            "name = 'Plant 7'\n" + GIT + "uplinks.hq = { dialect = 'long-poll', url = 'http://x' }",
            "uplinks.hq.link_name: is needed, as the box's name cannot be a link's",
        ),
        (
            f"name = '{'x' * 61}'\n" + GIT + "uplinks.hq = { dialect = 'long-poll', url = 'http://x' }",
            "has 65 characters, of 64",
        ),
        (
            GIT + "uplinks.hq = { dialect = 'long-poll', url = 'http://localhost:8766/x' }",
            "uplinks.hq.url: is our own address",
        ),
        (
            "servers.git.command = 'x'\nuplinks.hq = { dialect = 'contextforge', url = 'ws://[::1]:8443' }\n"
            + EDGES.replace("127.0.0.1", "[::1]"),
            "uplinks.hq.url: is our own address",
        ),
        ("hub = { listen = 'unix:/x', jwt = { secret = 'x' } }", "hub.jwt.secret: a secret is not written"),
    ],
)
def test_a_problem_has_a_place_and_one_sentence(text: str, problem: str) -> None:
    (found,) = problems(text)
    assert problem in found
    assert found.startswith("c.toml:")


@pytest.mark.parametrize(
    "text",
    [
        "gateway.enabled = false\n" + GIT + "uplinks.hq = { dialect = 'long-poll', url = 'http://x' }",
        "name = 'Plant 7'\n"
        + GIT
        + "uplinks.hq = { dialect = 'long-poll', url = 'http://x', link_name = 'x' }",
        EDGES + "[uplinks.hq]\ndialect = 'long-poll'\nurl = 'http://x'\npublish = 'all'",
        "gateway.enabled = false\nadmin.listen = '127.0.0.1:8766'\n"
        + GIT
        + "uplinks.hq = { dialect = 'long-poll', url = 'http://127.0.0.1:8766' }",
        GIT + "uplinks.hq = { dialect = 'long-poll', url = 'http://x?token=${TOKEN}' }",
        "insecure_plain_secrets = true\n"
        + GIT
        + "uplinks.hq = { dialect = 'long-poll', url = 'http://x?token=a', token = 'b', proxy = 'http://a:b@c' }",
    ],
)
def test_what_only_looks_like_a_problem_is_taken(text: str) -> None:
    loaded(text)


def test_a_plain_token_has_no_reference_to_read_it_again() -> None:
    config = loaded(
        "insecure_plain_secrets = true\n"
        + GIT
        + "uplinks.hq = { dialect = 'long-poll', url = 'http://x', token = 'b' }"
    )
    assert (config.uplinks["hq"].token, config.uplinks["hq"].token_ref) == (Secret("b"), None)


TWO_UPLINKS = """\
[servers.git]
command = "x"
[uplinks.a]
dialect = "contextforge"
url = "{0}"
{1}
[uplinks.b]
dialect = "contextforge"
url = "{2}"
{3}
"""


@pytest.mark.parametrize(
    ("first", "more", "second", "also"),
    [
        ("https://hub", "", "https://hub/", ""),
        ("https://hub", "", "wss://HUB:443", ""),
        ("https://hub/x?k=1", "link_name = 'x'", "https://hub/x/?k=1", "link_name = 'x'\nservers = ['git']"),
        ("https://hub", "publish = 'all'\nlink_name = 'x-git'", "https://hub", "link_name = 'x'"),
    ],
)
def test_two_links_of_one_name_to_one_place_are_refused(
    first: str, more: str, second: str, also: str
) -> None:
    (found,) = problems(TWO_UPLINKS.format(first, more, second, also))
    assert found.startswith("c.toml:")
    assert "uplinks.b: keeps up the link " in found
    assert "to the same url as uplinks.a: give one a link_name" in found


@pytest.mark.parametrize(
    ("first", "more", "second", "also"),
    [
        ("https://hub", "", "https://hub:444", ""),
        ("https://hub", "", "https://hub/x", ""),
        ("https://hub", "", "https://hub?tenant=2", ""),
        ("https://hub", "", "https://hub", "query = { tenant = '2' }"),
        ("https://hub", "link_name = 'x'", "https://hub", ""),
        ("https://hub", "publish = 'all'", "https://hub", ""),
    ],
)
def test_two_links_to_different_places_or_of_different_names_are_taken(
    first: str, more: str, second: str, also: str
) -> None:
    loaded(TWO_UPLINKS.format(first, more, second, also))


def test_urls_that_could_not_be_read_are_not_taken_for_the_same_place() -> None:
    found = problems(TWO_UPLINKS.format("${NOPE}", "", "${NOPE}", ""))
    assert [text.partition(": ")[2] for text in found] == [
        "uplinks.a.url: environment variable NOPE is not set",
        "uplinks.b.url: environment variable NOPE is not set",
    ]


def test_a_broken_table_of_authentication_does_not_make_the_hub_say_that_there_is_none() -> None:
    for table in (
        "jwt = { secret_env = 'TOKEN' }",
        "webhook = { url = 'ftp://auth' }",
        "edges = { a = { token_sha256 = 5 } }",
    ):
        (found,) = problems(f"hub = {{ listen = 'unix:/x', {table} }}")
        assert "no way" not in found


def test_broken_edges_are_not_told_to_share_a_token() -> None:
    found = problems("hub = { listen = 'unix:/x', edges = { a = {}, b = {}, c__d = {} } }")
    assert [text.partition(": ")[2] for text in found] == [
        "hub.edges.a.token_sha256: is missing",
        "hub.edges.b.token_sha256: is missing",
        "hub.edges.c__d.token_sha256: is missing",
        "hub.edges.c__d: an edge's name must not start or end with an underscore, nor have two in a row",
    ]


def test_a_broken_server_is_not_told_to_be_missing() -> None:
    (found,) = problems(
        "servers.git = { command = 5 }\nuplinks.a = { dialect = 'long-poll', url = 'http://x', servers = ['git'] }"
    )
    assert "servers.git.command" in found
