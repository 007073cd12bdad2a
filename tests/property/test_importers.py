"""Whatever a foreign file holds: it is refused with places, or becomes a config that loads and shows no secret."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge.config.importers.formats import FORMATS, import_text
from edge.config.importers.jsonc import read_json
from edge.config.importers.yaml_text import read_yaml
from edge.config.load import load
from edge.errors import ConfigError

SECRET = "Zx9planted7Secret3Value"
texts = st.text(st.characters(codec="utf-8"), max_size=12)
words = st.sampled_from(
    ["npx", "-y", "--token", "--api-key=x", "$HOME", "${X}", "${X:-y}", "a$$b", "it's", "", "~/x", "a b"]
)
names = st.one_of(texts, st.sampled_from(["git", "a__b", "_x_", "x" * 80, "git-2", "servers", "größe", "."]))
urls = st.sampled_from(
    [
        "http://h/mcp",
        f"https://h/{SECRET}/mcp",
        "https://u:p@h:1/",
        f"http://h/?token={SECRET}&a=1",
        "ws://h",
        "h",
        "http://${X}/",
    ]
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**9), st.floats(allow_nan=False, allow_infinity=False), texts
)
anything = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3))
)
values = st.one_of(words, scalars, st.sampled_from([f"Bearer {SECRET}", SECRET, f"${{X}}{SECRET}"]))
variables = st.sampled_from(["API_KEY", "PORT", "HOME", "X", "TOKEN", "größe"])
pairs = st.dictionaries(st.one_of(variables, variables, texts), values, max_size=3)
header_names = st.sampled_from(["Authorization", "X-Site", "X-Token", "Accept", "api-key", "Cookie"])
header_values = st.sampled_from(
    [f"Bearer {SECRET}", "Bearer ${X}", "north", SECRET, f"${{X}}{SECRET}", "a$b", "true", "", "/etc/x.y"]
)
headers = st.dictionaries(header_names, header_values, max_size=3)


def tables(
    needed: dict[str, st.SearchStrategy[Any]], **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """As it should be; seldom with something in it that should not."""
    good = st.fixed_dictionaries(needed, optional=fields)
    bad = st.fixed_dictionaries(
        {}, optional={name: field | anything for name, field in (needed | fields).items()}
    )
    return st.integers(0, 11).flatmap(lambda dice: bad if dice == 0 else good)


good_urls = urls.filter(lambda url: url.startswith("http"))
flags = st.booleans()
started = tables(
    {"command": words.filter(bool)}, args=st.lists(words, max_size=3), env=pairs, cwd=texts, disabled=flags,
    type=st.just("stdio"), timeout=st.integers(1, 10**7), envFile=texts, autoApprove=anything, alwaysAllow=anything,
)  # fmt: skip
called = tables(
    {"url": good_urls}, headers=headers, disabled=flags, type=st.sampled_from(["http", "sse", "ws"]), tools=anything,
)  # fmt: skip
links = tables(
    {"local_stdio": st.sampled_from(["uvx git", f"x --token {SECRET}"]), "gateway": st.sampled_from(["g", "wss://g/x"])},
    name=names, token=st.sampled_from(["t", SECRET, "${T}"]), env=pairs, reconnect_delay=st.floats(0.1, 100),
    max_retries=st.integers(0, 9), keepalive=st.integers(1, 99), log_level=texts,
)  # fmt: skip
stead_servers = tables(
    {"name": names.filter(bool), "url": good_urls}, protocol=st.sampled_from(["sse", "auto", "streamable"]),
    headers=headers, required=flags, tls_skip_verify=flags,
    auth=st.sampled_from(["none", {"type": "bearer", "token_env": "T"}, {"type": "bearer", "token": SECRET}]),
    reconnect=tables({}, max_attempts=st.integers(0, 3), backoff_base_ms=st.integers(1, 9999)),
    tools=tables({}, ttl_seconds=st.integers(0, 999)),
)  # fmt: skip
gateway_upstreams = tables(
    {"name": names.filter(bool), "url": good_urls}, timeoutMs=st.integers(0, 10**6),
    auth=st.just({"type": "apiKey", "apiKey": {"header": "X-K", "value": SECRET}}),
)  # fmt: skip
clients = st.dictionaries(names, st.one_of(started, called), max_size=3)
files = st.one_of(
    st.tuples(st.just("mcp-servers"), st.fixed_dictionaries({"mcpServers": clients})),
    st.tuples(st.just("contextforge"), links),
    st.tuples(
        st.just("contextforge"), st.fixed_dictionaries({"servers": st.lists(links, min_size=1, max_size=2)})
    ),
    st.tuples(
        st.just("mcpstead"),
        st.fixed_dictionaries(
            {"servers": st.lists(stead_servers, max_size=3)},
            optional={
                "port": st.integers(0, 65535),
                "host": st.sampled_from(["0.0.0.0", "::1", "localhost", "a b"]),
            },
        ),
    ),
    st.tuples(
        st.just("mcp-gateway"),
        st.fixed_dictionaries({"upstreams": st.lists(gateway_upstreams, min_size=1, max_size=3)}),
    ),
    st.tuples(st.sampled_from(sorted(FORMATS)), st.dictionaries(texts, anything, max_size=3)),
)


def no_file(name: str) -> str:
    raise OSError(name)


@given(files)
def test_what_comes_of_a_file_loads_and_shows_no_secret(case: tuple[str, dict[str, Any]]) -> None:
    name, value = case
    try:
        result = import_text(json.dumps(value), source="x.json", name=name)
    except ConfigError as exc:
        refused = exc
    else:
        env = dict.fromkeys(result.variables, "1") | {"HOME": "/", "USER": "x", "PATH": "/"}
        load(result.text, env=env, read_secret=no_file, source="c.toml")
        assert SECRET not in result.text
        assert SECRET not in repr(result.notes)
        return
    assert all(problem.place.startswith("x.json") for problem in refused.problems)
    assert SECRET not in str(refused)


@given(anything)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    document = read_json(json.dumps(value, indent=2), "x.json")
    assert repr(document.value) == repr(json.loads(json.dumps(value)))


@given(st.text(max_size=60))
def test_any_text_is_read_as_yaml_or_refused(text: str) -> None:
    try:
        read_yaml(text, "x.yaml")
    except ConfigError as exc:
        places = [problem.place for problem in exc.problems]
    else:
        places = []
    assert all(place.startswith("x.yaml") for place in places)


@given(
    st.dictionaries(
        texts.filter(str.isalnum), st.one_of(st.booleans(), st.integers(), st.none(), texts), max_size=4
    )
)
def test_json_is_yaml_too(value: dict[str, Any]) -> None:
    assert read_yaml(json.dumps(value), "x").value == value
