"""Text and environment to a config, or all of its problems with their places."""

from collections.abc import Mapping

import pytest

from edge.config.load import STAND_INS, load, load_table
from edge.config.model import (
    BackoffConfig,
    EdgeConfig,
    GatewayConfig,
    HttpServerConfig,
    LogConfig,
    Secret,
    ServerTlsConfig,
    StdioLimits,
    StdioServerConfig,
)
from edge.errors import ConfigError

ENV = {"TOKEN": "hunter2", "HOME": "/root", "EMPTY": ""}
FILES = {"/token": "from-file\n", "/empty": "\n"}


def read_secret(path: str) -> str:
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[path]


def loaded(text: str, env: Mapping[str, str] = ENV) -> EdgeConfig:
    return load(text, env=env, read_secret=read_secret, source="c.toml")


def problems(text: str, env: Mapping[str, str] = ENV) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text, env)
    return [str(problem) for problem in caught.value.problems]


def test_an_empty_file_is_all_defaults() -> None:
    assert loaded("") == EdgeConfig()


def test_a_whole_config_is_read() -> None:
    config = loaded("""
        name = "plant-7"
        [gateway]
        listen = ["[::1]:1", "unix:/run/x"]
        prefix = "on-collision"
        allowed_hosts = ["a.example.com"]
        tls = { cert = "c", key = "k" }
        session_idle_s = 5
        drain_s = 2.5
        [servers.plc]
        url = "http://plc/${TOKEN}"
        headers = { X-API-Key = "${TOKEN}", Plain = "$$5" }
        bearer_file = "/token"
        transport = "sse"
        verify = false
        reconnect = { first_s = 2 }
        [servers.git]
        command = ["git server", "--x"]
        env = { A = "${HOME}/x" }
        cwd = "/srv"
        required = true
        limits = { concurrency = 3, memory_bytes = 536_870_912, processes = 64 }
        [servers.time]
        command = "uvx 'a b' --c=\\"d e\\""
        [log]
        level = "debug"
    """)
    assert config == EdgeConfig(
        name="plant-7",
        gateway=GatewayConfig(
            listen=("[::1]:1", "unix:/run/x"),
            prefix="on-collision",
            allowed_hosts=("a.example.com",),
            tls=ServerTlsConfig(cert="c", key="k"),
            session_idle_s=5.0,
            drain_s=2.5,
        ),
        servers={
            "git": StdioServerConfig(
                name="git",
                command=("git server", "--x"),
                env={"A": "/root/x"},
                cwd="/srv",
                required=True,
                limits=StdioLimits(concurrency=3, memory_bytes=536_870_912, processes=64),
            ),
            "plc": HttpServerConfig(
                name="plc",
                url="http://plc/hunter2",
                headers={"X-API-Key": "hunter2", "Plain": "$5"},
                bearer=Secret("from-file"),
                transport="sse",
                verify=False,
                reconnect=BackoffConfig(first_s=2.0, limit_s=30.0),
            ),
            "time": StdioServerConfig(name="time", command=("uvx", "a b", "--c=d e")),
        },
        log=LogConfig(level="debug"),
    )
    assert list(config.servers) == ["git", "plc", "time"]
    assert isinstance(config.gateway.session_idle_s, float)
    assert "hunter2" not in repr(config)


def test_what_is_not_started_here_has_no_limit_of_memory() -> None:
    with pytest.raises(ConfigError, match=r"servers\.plc\.limits\.memory_bytes: unknown key"):
        loaded('[servers.plc]\nurl = "http://plc/mcp"\nlimits = { memory_bytes = 536_870_912 }\n')


def test_one_listen_address_may_be_a_plain_string() -> None:
    assert loaded('gateway.listen = "127.0.0.1:0"').gateway.listen == ("127.0.0.1:0",)


def test_all_problems_are_reported_in_the_order_of_the_file() -> None:
    text = """\
nam = "x"
[servers.git]
comand = ["x"]
[gateway]
path = "mcp"
session_idle_s = "5"
[servers.plc]
url = "http://plc"
bearer_env = "NOPE"
volume = 5
"""
    assert problems(text) == [
        "c.toml:1: nam: unknown key; did you mean name?",
        "c.toml:2: servers.git: needs command (a server to start) or url (a server to call), and has neither",
        "c.toml:3: servers.git.comand: unknown key; did you mean command?",
        "c.toml:5: gateway.path: must be a path that starts with / and does not end with it, as in /mcp",
        "c.toml:6: gateway.session_idle_s: must be a number, not a string",
        "c.toml:9: servers.plc.bearer_env: environment variable NOPE is not set",
        "c.toml:10: servers.plc.volume: unknown key",
    ]


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ("env = { PORT = 80 }", "env.PORT: must be a string, not an integer"),
        ("stop_grace_s = -1", "stop_grace_s: must be 0 or more and at most 31536000 seconds"),
        ('bearer_env = "NOPE"', "bearer_env: environment variable NOPE is not set"),
        ('uri = "http://x"', "uri: unknown key; did you mean url?"),
    ],
)
def test_a_server_that_is_of_neither_kind_is_told_the_rest_of_its_problems_as_well(
    keys: str, found: str
) -> None:
    assert problems(f"[servers.x]\n{keys}\n") == [
        "c.toml:1: servers.x: needs command (a server to start) or url (a server to call), and has neither",
        f"c.toml:2: servers.x.{found}",
    ]


def test_a_server_that_is_of_both_kinds_is_told_the_rest_of_its_problems_as_well() -> None:
    text = '[servers.x]\ncommand = "x"\nurl = "http://x"\nheaders = { A = "${NOPE}" }\nverify = 5\n'
    assert problems(text) == [
        "c.toml:1: servers.x: needs command (a server to start) or url (a server to call), and has both",
        "c.toml:4: servers.x.headers.A: environment variable NOPE is not set",
        "c.toml:5: servers.x.verify: must be true or false, not an integer",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = 5", "c.toml:1: name: must be a string, not an integer"),
        ("name = 5.5", "c.toml:1: name: must be a string, not a number"),
        ("name = true", "c.toml:1: name: must be a string, not true or false"),
        ("name = {}", "c.toml:1: name: must be a string, not a table"),
        ("name = 2020-01-01", "c.toml:1: name: must be a string, not a date"),
        ('insecure_plain_secrets = "yes"', "must be true or false, not a string"),
        ("insecure_plain_secrets = 1", "must be true or false, not an integer"),
        ("gateway = 1", "c.toml:1: gateway: must be a table, not an integer"),
        ("gateway.page_size = true", "gateway.page_size: must be an integer, not true or false"),
        ("gateway.page_size = 5.0", "gateway.page_size: must be an integer, not a number"),
        ("gateway.drain_s = true", "gateway.drain_s: must be a number, not true or false"),
        (f"gateway.drain_s = 1{'0' * 400}", "gateway.drain_s: is too large"),
        ("gateway.drain_s = nan", "gateway.drain_s: must be 0 or more"),
        ("gateway.listen = 5", "gateway.listen: must be a string or a list of strings, not an integer"),
        ('gateway.listen = ["[::1]:1", 5]', "gateway.listen[1]: must be a string, not an integer"),
        ('gateway.allowed_hosts = "a"', "gateway.allowed_hosts: must be a list of strings, not a string"),
        ('gateway.prefix = "allways"', "must be one of always, on-collision, never; did you mean always?"),
        ('gateway.prefix = "x"', "gateway.prefix: must be one of always, on-collision, never"),
        ("gateway.prefix = 5", "gateway.prefix: must be a string, not an integer"),
        ('gateway.tls = { cert = "c" }', "gateway.tls.key: is missing"),
        ('gateway.tls = { cert = 5, key = "k" }', "gateway.tls.cert: must be a string, not an integer"),
        ('path = "/x"', "c.toml:1: path: unknown key here; belongs into [gateway]"),
        ("enabled = true", "c.toml:1: enabled: unknown key here; belongs into [gateway] or [admin]"),
        ('level = "debug"', "c.toml:1: level: unknown key here; belongs into [log]"),
        ('listen = "[::1]:1"', "c.toml:1: listen: unknown key here; belongs into [gateway] or [admin]"),
        (
            'servers.a = { command = "x", env = 5 }',
            "servers.a.env: must be a table of strings, not an integer",
        ),
        ("servers = 5", "servers: must be tables [servers.NAME], not an integer"),
        ("servers.a = 5", "servers.a: must be a table, not an integer"),
        ('servers.a = { command = "x", url = "http://x" }', "and has both"),
        (
            'servers.a = { command = "x", headers = {} }',
            "belongs to an HTTP server, and this is a stdio server",
        ),
        (
            'servers.a = { url = "http://x", cwd = "/" }',
            "belongs to a stdio server, and this is an HTTP server",
        ),
        ('servers.a = { url = "http://x", name = "b" }', "the name is the table's own, as in [servers.NAME]"),
        ('servers.a = { command = "x", args = [] }', "unknown key; arguments belong into command, as a list"),
        (
            "servers.a = { command = 5 }",
            "servers.a.command: must be a string or a list of strings, not an integer",
        ),
        ('servers.a = { command = "a \'b" }', "cannot be split into words: no closing quotation"),
        ('servers.a = { command = " " }', "servers.a.command: must start with the program to run"),
        (
            'servers.a = { command = "x", env = { A = 5 } }',
            "servers.a.env.A: must be a string, not an integer",
        ),
        (
            'servers.a = { command = "x", env = { A = "${NO}" } }',
            "servers.a.env.A: environment variable NO is not set",
        ),
        ('servers.a = { command = "x", env = { A = "${EMPTY}" } }', "environment variable EMPTY is empty"),
        ('servers.a = { url = "http://${NO}" }', "servers.a.url: environment variable NO is not set"),
        (
            'servers.a = { url = "http://x", headers = { X = "${NO}" } }',
            "servers.a.headers.X: environment variable NO",
        ),
        ("servers.a = { url = 5 }", "servers.a.url: must be a string, not an integer"),
        (
            'servers.a = { url = "http://x", bearer = "y" }',
            "use bearer_env or bearer_file or bearer_credential",
        ),
        (
            'servers.a = { url = "http://x", bearer_env = 5 }',
            "servers.a.bearer_env: must be a string, not an integer",
        ),
        (
            'servers.a = { url = "http://x", bearer_file = "/no" }',
            "cannot read /no: No such file or directory",
        ),
        ('servers.a = { url = "http://x", bearer_file = "/empty" }', "/empty is empty"),
        ('servers.a = { url = "http://x", bearer_credential = "a/b" }', "without a slash"),
        (
            'servers.a = { url = "http://x", bearer_env = "TOKEN", bearer_file = "/token" }',
            "only one of bearer_env, bearer_file",
        ),
        (
            'servers.a = { url = "http://x", headers = { Authorization = "x" } }',
            "a secret is not written in the config",
        ),
        (
            'servers.a = { url = "http://x", headers = { x-api-key = "x" } }',
            "a secret is not written in the config",
        ),
        (
            'servers.a_ = { command = "x" }',
            "servers.a_: a server's name must not start or end with an underscore",
        ),
        (
            'gateway.separator = "."\nservers."a.b" = { command = "x" }',
            'servers."a.b": the name must not hold or run into',
        ),
        (
            'gateway.separator = "-"\nservers.a- = { command = "x" }',
            "servers.a-: the name must not hold or run into",
        ),
        ('admin.listen = "127.0.0.1:8766"', "admin.listen: is the address of the gateway, too"),
        ("admin.listen = []", "admin.listen: must be a string, not a list"),
    ],
)
def test_a_problem_has_a_place_and_one_sentence(text: str, problem: str) -> None:
    (found,) = problems(text)
    assert problem in found
    assert found.startswith("c.toml:")


@pytest.mark.parametrize(
    "text",
    [
        'gateway = { separator = ".", prefix = "never" }\nservers."a.b" = { command = "x" }',
        'admin = { listen = "127.0.0.1:8766", enabled = false }',
        'admin.listen = "127.0.0.1:0"\ngateway.listen = "127.0.0.1:0"',
        'servers.a = { url = "http://x", headers = { Authorization = "Bearer ${TOKEN}" } }',
        'insecure_plain_secrets = true\nservers.a = { url = "http://x", headers = { Authorization = "x" } }',
    ],
)
def test_what_only_looks_like_a_problem_is_taken(text: str) -> None:
    loaded(text)


def test_a_bad_value_does_not_hide_the_rules_of_its_neighbours() -> None:
    assert problems(
        "[servers.a]\ncommand = 5\ncwd = 'x'\nrestart = { first_s = true, max_attempts = -1 }"
    ) == [
        "c.toml:2: servers.a.command: must be a string or a list of strings, not an integer",
        "c.toml:3: servers.a.cwd: must be an absolute path",
        "c.toml:4: servers.a.restart.first_s: must be a number, not true or false",
        "c.toml:4: servers.a.restart.max_attempts: must be from 0 to 1000000",
    ]


def test_every_required_key_has_a_stand_in_that_breaks_no_rule() -> None:
    StdioServerConfig(name="x", command=STAND_INS["command"])
    HttpServerConfig(name="x", url=STAND_INS["url"])
    ServerTlsConfig(cert=STAND_INS["cert"], key=STAND_INS["key"])


def test_a_table_that_leaves_keys_out_keeps_the_defaults_of_its_place() -> None:
    config = loaded('servers.a = { url = "http://x", reconnect = { max_attempts = 3 } }')
    server = config.servers["a"]
    assert isinstance(server, HttpServerConfig)
    assert server.reconnect == BackoffConfig(first_s=1.0, limit_s=30.0, max_attempts=3)


def test_a_plain_secret_is_taken_where_that_is_allowed() -> None:
    config = loaded('insecure_plain_secrets = true\nservers.a = { url = "http://x", bearer = "y" }')
    server = config.servers["a"]
    assert isinstance(server, HttpServerConfig)
    assert server.bearer == Secret("y")


def test_an_empty_plain_secret_is_refused() -> None:
    (found,) = problems('insecure_plain_secrets = true\nservers.a = { url = "http://x", bearer = "" }')
    assert found == "c.toml:2: servers.a.bearer: must not be empty"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = \n", "c.toml:1:5: not TOML: invalid value"),
        ("\n[a", "c.toml: not TOML: expected ']' at the end of a table declaration at the end"),
        ("a = 1\na = 2\n", "c.toml:2:6: not TOML: cannot overwrite a value"),
        ("[gateway]\n[gateway]\n", "c.toml:2:9: [gateway] is there twice; its keys belong under one heading"),
        (
            '[servers."a b"]\n[servers."a b"]',
            'c.toml:2:15: [servers."a b"] is there twice; its keys belong under one heading',
        ),
        (
            '\n { "mcpServers": {} }',
            "c.toml: the config is TOML, and this looks like JSON; servers are written [servers.NAME]",
        ),
        ("a = " + "9" * 5000, "c.toml: holds a number with too many digits"),
        ("a = " + "[" * 100_000, "c.toml: is nested too deeply"),
    ],
)
def test_what_is_not_toml_is_one_problem_with_line_and_column(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_a_table_from_elsewhere_is_read_in_the_same_way() -> None:
    config = load_table({"name": "x"}, env={}, read_secret=read_secret, source="import")
    assert config == EdgeConfig(name="x")
    with pytest.raises(ConfigError) as caught:
        load_table({"nam": "x", 5: "x"}, env={}, read_secret=read_secret, source="import")  # type: ignore[dict-item]  # junk is what it is about
    assert str(caught.value) == "import: nam: unknown key; did you mean name?"


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8766", "http://127.0.0.1:8766/mcp"),
        ("127.0.0.1:8766", "http://localhost:8766/servers/a/mcp"),
        ("[::1]:8766", "http://[0:0::1]:8766/"),
        ("localhost:8766", "http://0.0.0.0:8766"),
        ("127.0.0.1:8766", "http://[::ffff:127.0.0.1]:8766/"),
        ("box.localhost:80", "http://LOCALHOST./${HOME}"),
        ("127.0.0.1:443", "https://localhost/"),
    ],
)
def test_a_server_that_is_this_gateway_itself_is_refused(listen: str, url: str) -> None:
    (found,) = problems(f'gateway.listen = ["unix:/x", "{listen}"]\nservers.a.url = "{url}"')
    assert found.startswith("c.toml:2: servers.a.url: is this gateway's own address")


def test_the_same_host_by_name_or_number_is_this_gateway_too() -> None:
    for host in ("Box.example.com", "192.0.2.1"):
        (found,) = problems(
            f'gateway = {{ listen = "{host}:1", insecure_public = true }}\nservers.a.url = "http://{host.lower()}:1/"'
        )
        assert "own address" in found


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8766", "http://127.0.0.1:8767/mcp"),
        ("127.0.0.1:8766", "http://plc:8766/mcp"),
        ("127.0.0.1:0", "http://127.0.0.1/mcp"),
        ("unix:/x", "http://127.0.0.1:8766/mcp"),
    ],
)
def test_a_server_elsewhere_is_taken(listen: str, url: str) -> None:
    loaded(f'gateway.listen = "{listen}"\nservers.a.url = "{url}"')


def test_each_bad_entry_of_a_mapping_is_told() -> None:
    text = 'servers.a = { command = "x", env = { A = 1, B = "${NOPE}", "C=" = "${NOPE}", D = "d" } }'
    assert problems(text) == [
        "c.toml:1: servers.a.env.A: must be a string, not an integer",
        "c.toml:1: servers.a.env.B: environment variable NOPE is not set",
        'c.toml:1: servers.a.env."C=": environment variable NOPE is not set',
        'c.toml:1: servers.a.env."C=": is not a name that an environment variable can have',
    ]


@pytest.mark.parametrize(
    ("url", "others"),
    [
        ("http://u:p@h/mcp?key=${NOPE}", ["must not hold a user or password"]),
        ("http://u:${NOPE}@h/mcp", ["must not hold a user or password"]),
        ("http://h/${NOPE}#x", ["must not have a fragment"]),
        ("http://localhost:8766/${NOPE}", ["is this gateway's own address"]),
        ("${NOPE}", []),
        ("${NOPE}://h", []),
        ("http://h:${NOPE}/", []),
        ("http://[${NOPE}]/", []),
    ],
)
def test_a_missing_variable_does_not_hide_what_else_is_wrong_with_a_url(url: str, others: list[str]) -> None:
    missing, *rest = problems(f'servers.a.url = "{url}"')
    assert missing == "c.toml:1: servers.a.url: environment variable NOPE is not set"
    assert len(rest) == len(others)
    assert all(words in found for words, found in zip(others, rest, strict=True))
