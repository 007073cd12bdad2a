"""Any junk gives a config or a ConfigError, and no secret is ever seen in what is shown."""

from typing import Any

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from edge.config.load import load, load_table
from edge.config.model import EdgeConfig
from edge.config.places import Places
from edge.errors import ConfigError

SECRET = "s3cr3t-0f-th3-b0x"
ENV = {"TOKEN": SECRET, "BROKEN": f"{SECRET}\r\n", "CREDENTIALS_DIRECTORY": "/run/credentials"}

KEYS = st.sampled_from(
    [
        *(
            "name",
            "gateway",
            "admin",
            "servers",
            "log",
            "insecure_plain_secrets",
            "listen",
            "path",
            "prefix",
            "tls",
        ),
        *(
            "separator",
            "max_name_chars",
            "allowed_origins",
            "allowed_hosts",
            "drain_s",
            "cert",
            "key",
            "level",
        ),
        *(
            "command",
            "env",
            "cwd",
            "url",
            "headers",
            "bearer",
            "bearer_env",
            "bearer_file",
            "bearer_credential",
        ),
        *(
            "restart",
            "reconnect",
            "limits",
            "first_s",
            "limit_s",
            "transport",
            "required",
            "git",
            "a__b",
            "X-Key",
        ),
        *(
            "uplinks",
            "hub",
            "edges",
            "jwt",
            "webhook",
            "dialect",
            "dialects",
            "token_env",
            "token_file",
            "publish",
        ),
        *("link_name", "query", "proxy", "token_sha256", "secret_env", "enabled", "operator_token_sha256"),
    ]
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["TOKEN", "BROKEN", "${TOKEN}", "x${BROKEN}", "http://x/${TOKEN}", "http://${TOKEN}@x:y/", "a 'b"]
    ),
    st.sampled_from(
        ["127.0.0.1:1", "[::1]:0", "unix:/x", "0.0.0.0:1", "always", "http://x", "/x", "\0", "debug"]
    ),
)
LEAVES = st.one_of(
    TEXTS, st.booleans(), st.integers(), st.integers(10**400, 10**401), st.floats(), st.dates()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(KEYS, TEXTS), inner, max_size=5)
    ),
    max_leaves=15,
)
SERVER = st.dictionaries(KEYS, VALUES, max_size=8)
HTTP_SERVER = st.fixed_dictionaries(
    {"url": TEXTS},
    optional={
        "headers": st.dictionaries(st.sampled_from(["X", "Authorization", "a b"]), TEXTS, max_size=3),
        "bearer_env": st.sampled_from(["TOKEN", "BROKEN"]),
        "bearer_file": TEXTS,
        "junk": VALUES,
    },
)
STDIO_SERVER = st.fixed_dictionaries({"command": TEXTS, "env": st.dictionaries(TEXTS, TEXTS, max_size=3)})
UPLINK = st.fixed_dictionaries(
    {"dialect": st.sampled_from(["contextforge", "long-poll", "x"]), "url": TEXTS},
    optional={
        "token_env": st.sampled_from(["TOKEN", "BROKEN"]),
        "proxy": TEXTS,
        "query": st.dictionaries(st.sampled_from(["x", "token", ""]), TEXTS, max_size=2),
        "servers": st.lists(TEXTS, max_size=2),
        "link_name": TEXTS,
        "junk": VALUES,
    },
)
HUB = st.fixed_dictionaries(
    {"listen": TEXTS},
    optional={
        "edges": st.dictionaries(
            TEXTS, st.fixed_dictionaries({"token_sha256": st.just(SECRET) | st.just("ab" * 32)}), max_size=2
        ),
        "jwt": st.fixed_dictionaries({"secret_env": st.just("TOKEN")}, optional={"junk": VALUES}),
        "webhook": st.fixed_dictionaries({"url": TEXTS}, optional={"bearer_env": st.just("TOKEN")}),
        "insecure_plain": st.booleans(),
        "junk": VALUES,
    },
)
CONFIGS = st.one_of(
    st.dictionaries(st.one_of(KEYS, TEXTS), VALUES, max_size=8),
    st.fixed_dictionaries(
        {"servers": st.dictionaries(TEXTS, st.one_of(SERVER, HTTP_SERVER, STDIO_SERVER), max_size=4)},
        optional={
            "gateway": st.dictionaries(KEYS, VALUES, max_size=8),
            "insecure_plain_secrets": st.booleans(),
            "uplinks": st.dictionaries(TEXTS, UPLINK, max_size=3),
            "hub": HUB,
        },
    ),
)


def read_secret(path: str) -> str:
    if "\0" in path:
        raise ValueError("embedded null byte")
    if len(path) % 3 == 0:
        raise FileNotFoundError(2, "No such file or directory")
    return f"{SECRET}\nsecond line" if len(path) % 3 == 1 else f"{SECRET}\n"


def shown(config: EdgeConfig) -> str:
    urls = [getattr(one, "shown_url", "") for one in (*config.servers.values(), *config.uplinks.values())]
    return f"{config!r} {config} {urls}"


def judge(outcome: EdgeConfig | ConfigError) -> None:
    text = shown(outcome) if isinstance(outcome, EdgeConfig) else f"{outcome} {outcome!r}"
    assert SECRET not in text
    if isinstance(outcome, ConfigError):
        assert outcome.problems
        for problem in outcome.problems:
            assert problem.text
            assert "\n" not in problem.place


@given(CONFIGS)
def test_any_table_gives_a_config_or_its_problems_and_shows_no_secret(table: dict[str, Any]) -> None:
    try:
        judge(load_table(table, env=ENV, read_secret=read_secret, source="c.toml"))
    except ConfigError as exc:
        judge(exc)


@given(CONFIGS)
def test_any_toml_gives_a_config_or_its_problems_with_lines(table: dict[str, Any]) -> None:
    text = tomli_w.dumps(table)
    try:
        judge(load(text, env=ENV, read_secret=read_secret, source="c.toml"))
    except ConfigError as exc:
        judge(exc)


@given(st.text())
def test_any_text_gives_a_config_or_its_problems(text: str) -> None:
    try:
        load(text, env=ENV, read_secret=read_secret, source="c.toml")
    except ConfigError as exc:
        judge(exc)
    Places(text, "c.toml")


BARE_OR_QUOTED = st.text(
    st.characters(codec="ascii", min_codepoint=32, exclude_characters='\\"\x7f'), min_size=1
)


@given(st.dictionaries(BARE_OR_QUOTED, LEAVES, min_size=1))
def test_every_key_of_a_flat_file_has_its_own_line(table: dict[str, Any]) -> None:
    text = tomli_w.dumps(table)
    places = Places(text, "c.toml")
    lines = text.split("\n")
    for key in table:
        assert key in lines[places.line_of((key,)) - 1].partition(" = ")[0]
