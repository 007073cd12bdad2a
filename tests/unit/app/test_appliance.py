"""What the composition root decides itself: required servers, their time, and what counts as a secret."""

import logging
from base64 import b64encode
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edge.app.appliance import App
from edge.app.loaded import Loaded
from edge.app.required import Required, RequiredServerDown, start_limit_s
from edge.app.secret_values import secrets_of
from edge.backoff import Backoff
from edge.config.load import load
from edge.config.model import EdgeConfig, HttpServerConfig, StdioServerConfig
from edge.errors import leaves
from edge.health import Status
from edge.metrics_servers import ServerMetrics
from edge.net.proxy import read_proxy
from edge.parts.channel import Ended
from edge.parts.upstream import Upstream
from edge.redaction import Redactor
from tests.support.checkpoints import cancel_at_every_step
from tests.support.memory_channel import ScriptedServer, Witness, initialized

Clock = MockClock
EXITED = Ended("git", "exited with status 1", "fatal: no such repository")


def required(server: ScriptedServer, *, limit_s: float = 30) -> Required:
    upstream = Upstream(
        StdioServerConfig(name="git", command=("git-server",), required=True),
        server.connect,
        events=Witness(),
        status=Status("server:git", required=True),
        metrics=ServerMetrics(),
        backoff=Backoff(first_s=4, limit_s=4, jitter=0),
        log=logging.getLogger("edge.server"),
    )
    return Required(upstream, limit_s=limit_s)


async def test_a_required_server_has_started_once_it_has_answered(autojump_clock: Clock) -> None:
    async def slow(params: str | None) -> str:
        await trio.sleep(7)
        return initialized(tools={})

    server = ScriptedServer()
    server.answers["initialize"] = slow
    async with trio.open_nursery() as nursery:
        intake: trio.CancelScope = await nursery.start(required(server).run)
        assert trio.current_time() == 7
        intake.cancel()
    assert server.ends == [7]


async def test_a_required_server_may_fail_and_come_up_in_its_time(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [EXITED, EXITED]
    async with trio.open_nursery() as nursery:
        await nursery.start(required(server).run)
        assert trio.current_time() == 8
        nursery.cancel_scope.cancel()


async def test_a_required_server_that_does_not_come_up_says_why(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    server.start_errors = [EXITED] * 100
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(required(server, limit_s=10).run)
    [cause] = leaves(caught.value)
    assert isinstance(cause, RequiredServerDown)
    assert str(cause) == "server git: exited with status 1: fatal: no such repository"
    assert trio.current_time() == 10


async def test_a_required_server_that_says_nothing_is_named_too(autojump_clock: Clock) -> None:
    async def mute(params: str | None) -> str:
        await trio.sleep_forever()
        raise AssertionError

    server = ScriptedServer()
    server.answers["initialize"] = mute
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(required(server, limit_s=10).run)
    assert [str(cause) for cause in leaves(caught.value)] == ["server git: no answer to initialize yet"]
    assert server.ends == [10]


async def test_a_required_server_that_was_up_may_go_down_like_any_other(autojump_clock: Clock) -> None:
    server = ScriptedServer()
    part = required(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(part.run)
        server.start_errors = [EXITED]
        server.die(EXITED)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    # Built again by its slot after a fault: it does not hold up anything any more.
    server.start_errors = [EXITED]
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        await nursery.start(part.run)
        assert trio.current_time() == began
        nursery.cancel_scope.cancel()


async def test_cancelled_at_any_step_a_required_server_leaves_nothing_behind(autojump_clock: Clock) -> None:
    servers: list[ScriptedServer] = []

    async def scenario() -> None:
        server = ScriptedServer()
        servers.append(server)
        server.start_errors = [EXITED]
        async with trio.open_nursery() as nursery:
            intake: trio.CancelScope = await nursery.start(required(server).run)
            intake.cancel()

    assert await cancel_at_every_step(scenario) > 10
    begun = [len(server.starts) - (1 if server.starts else 0) for server in servers]
    assert [len(server.ends) for server in servers] == begun


def test_a_server_that_we_start_has_its_own_time_and_another_one_half_a_minute() -> None:
    assert start_limit_s(StdioServerConfig(name="a", command=("a",), start_timeout_s=7)) == 7
    assert start_limit_s(HttpServerConfig(name="a", url="http://localhost/mcp")) == 30


CONFIG = """
[servers.plc]
url = "http://localhost:3000/mcp/${PLC_PATH}"
headers = { X-API-Key = "${PLC_KEY}", X-Plain = "not a secret" }
bearer_env = "PLC_TOKEN"
[servers.git]
command = "git-server"
env = { GIT_TOKEN = "${GIT_TOKEN}", LANG = "C", PLAIN_TOKEN = "stands in the file" }
"""


def test_what_comes_from_the_environment_is_a_secret() -> None:
    env = {
        "PLC_PATH": "path-secret",
        "PLC_KEY": "key-secret",
        "PLC_TOKEN": "token-secret",
        "GIT_TOKEN": "git-secret",
    }
    config = load(CONFIG, env=env, read_secret=lambda path: path, source="test.toml")
    found = set(secrets_of(config, {}))
    assert {*env.values(), "stands in the file"} <= found
    assert not {"not a secret", "C", "git-server"} & found


def hidden_of_env(**env: str) -> set[str]:
    """Of variables that get their values by reference."""
    table = ", ".join(f'{name} = "${{{name}}}"' for name in env)
    text = f'[servers.a]\ncommand = ["x"]\nenv = {{ {table} }}\n'
    return set(secrets_of(load(text, env=env, read_secret=lambda path: path, source="test.toml"), {}))


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI", "wJalrXUtnFEMI"),
        ("GITHUB_PAT", "pat-123456", "pat-123456"),
        ("BASIC_AUTH", "admin:hunter2", "admin:hunter2"),
        ("DATABASE_URL", "postgres://u:pw12345@h/d", "pw12345"),
        ("CONNECTION_STRING", "Server=db;User ID=sa;Password=hunter2", "hunter2"),
        ("DSN_OF_DB", "host=h user=u password=hunter2", "hunter2"),
        ("SETTINGS", '{"db": [{"password": "hunter2"}]}', "hunter2"),
        ("ENDPOINT", "https://h/x?api_key=hunter2#top", "hunter2"),
        ("ANYTHING", "ghp_0123456789abcdef", "ghp_0123456789abcdef"),
        ("AUTH_HEADER", "Bearer hunter2", "hunter2"),
    ],
)
def test_what_a_child_gets_is_a_secret_if_its_name_or_its_form_says_so(
    name: str, value: str, secret: str
) -> None:
    assert secret in hidden_of_env(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("USE_TOKEN", "true"),
        ("PROXY_AUTH", "basic"),
        ("MAX_TOKENS", "4096"),
        ("KEY_FILE", "/srv/key"),
        ("PROJECT", "/srv/projects/of/mine"),
        ("HOMEPAGE", "https://h/x?page=hunter2"),
        ("WAY_IN", "basic auth"),
    ],
)
def test_what_would_only_blur_the_log_is_no_secret(name: str, value: str) -> None:
    assert hidden_of_env(**{name: value}) == set()


def test_a_token_is_found_behind_its_scheme_where_a_name_ends_in_header() -> None:
    """As mcp-remote has it: its own `--header Authorization:${AUTH_HEADER}` names the variable."""
    text = '[servers.a]\ncommand = ["x"]\nenv = { AUTH_HEADER = "Bearer ${TOKEN}" }\n'
    config = load(text, env={"TOKEN": "hunter2"}, read_secret=lambda path: path, source="test.toml")
    assert set(secrets_of(config, {})) == {"hunter2"}


def test_a_plain_word_in_the_file_is_no_secret_and_by_reference_it_is() -> None:
    """Hidden, they would blur what every line of the log has."""
    words = {"TOKEN_BUDGET": "4096", "SORT_KEY": "server", "PASS_THROUGH": "http", "API_KEY": "hunter2"}
    table = ", ".join(f'{name} = "{value}"' for name, value in words.items())
    text = f'[servers.a]\ncommand = ["x"]\nenv = {{ {table} }}\n'
    config = load(text, env={}, read_secret=lambda path: path, source="test.toml")
    assert set(secrets_of(config, {})) == {"hunter2"}
    assert hidden_of_env(SORT_KEY="server") == {"server"}


def test_what_a_command_shows_to_be_a_secret_is_one() -> None:
    text = '[servers.a]\ncommand = ["env", "API_KEY=hunter2", "x", "https://u:pw12345@h/d", "--depth=3"]\n'
    config = load(text, env={}, read_secret=lambda path: path, source="test.toml")
    assert set(secrets_of(config, {})) == {"hunter2", "pw12345"}


PLAIN = """
insecure_plain_secrets = true
[servers.plc]
url = "http://localhost:3000/mcp?api_key=key-in-url&page=page-in-url"
headers = { Authorization = "Basic dXNlcjpwdw==", X-Plain = "not a secret" }
[servers.scada]
url = "http://localhost:3001/mcp"
bearer = "plain-bearer"
[uplinks.hq]
dialect = "long-poll"
url = "https://hq.example.com/?token=token-in-url"
token = "plain-token"
proxy = "http://user:proxy-password@proxy:3128"
query = { access_token = "token-in-query", box = "box-in-query" }
headers = { X-Auth-Token = "token-in-header" }
"""


def test_what_stands_plainly_in_the_file_is_a_secret_if_its_name_says_so() -> None:
    config = load(PLAIN, env={}, read_secret=lambda path: path, source="test.toml")
    assert {found for found in secrets_of(config, {}) if found} == {
        "key-in-url", "Basic dXNlcjpwdw==", "dXNlcjpwdw==", "pw", "plain-bearer",
        "token-in-url", "plain-token", "proxy-password", "dXNlcjpwcm94eS1wYXNzd29yZA==", "token-in-query",
        "token-in-header",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
)
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_password_of_a_proxy_in_the_environment_is_a_secret_in_each_of_its_forms(
    name: str, scheme: str
) -> None:
    redactor = Redactor()
    redactor.redact(secrets_of(EdgeConfig(), {name: f"{scheme}us%65r:p%40ss-word@proxy:3128"}))
    sent = b64encode(b"user:p@ss-word").decode()
    for text in ("p%40ss-word", "p@ss-word", sent):
        assert redactor.clean(f"<{text}>") == "<***>"
    assert read_proxy(f"{scheme}us%65r:p%40ss-word@proxy:3128", "it").authorization == f"Basic {sent}"


def test_a_proxys_password_that_breaks_its_url_is_a_secret_too() -> None:
    found = set(secrets_of(EdgeConfig(), {"HTTPS_PROXY": "http://user:pa/ss?w#o@rd@proxy:3128"}))
    assert "pa/ss?w#o@rd" in found


@pytest.mark.parametrize(
    "value", ["", "http://proxy:3128", "proxy:3128", "http://user@proxy", "*", "@", ":@"]
)
def test_of_a_proxy_without_a_password_nothing_is_hidden(value: str) -> None:
    assert set(secrets_of(EdgeConfig(), {"HTTPS_PROXY": value, "NO_PROXY": value})) == set()


def test_a_password_that_is_put_into_proxy_is_a_secret_as_it_is_sent() -> None:
    text = '[servers.a]\ncommand = "x"\n[uplinks.hq]\ndialect = "long-poll"\nurl = "https://hq"\n'
    text += 'proxy = "http://u:${PW}@proxy"\n'
    config = load(text, env={"PW": "x-y%2Fz"}, read_secret=str, source="test.toml")
    sent = b64encode(b"u:x-y/z").decode()
    assert {"x-y%2Fz", "x-y/z", sent} <= set(secrets_of(config, {}))


async def test_an_app_that_has_not_run_listens_nowhere(autojump_clock: Clock) -> None:
    app = App(Loaded(config=EdgeConfig(name="box")), redactor=Redactor())
    assert (app.name, app.endpoints, app.admin_urls) == ("box", [], [])
    text = app.metrics.exposition("")[0].decode()
    samples: dict[str, Any] = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert samples["mcp_edge_downstream_sessions_active"] == "0.0"
    assert samples["mcp_edge_ready"] == "0.0"
    assert {key: value for key, value in samples.items() if "queue_length" in key}.keys() == {
        f'mcp_edge_queue_length{{queue="{name}"}}'
        for name in (
            "answers_in_progress",
            "draining_parts",
            "reloads",
            "resource_links",
            "session_notifications",
            "subscriptions",
            "tls_handshakes",
        )
    }


async def test_without_a_name_the_box_is_called_as_the_host_is(autojump_clock: Clock) -> None:
    assert App(Loaded(config=EdgeConfig()), redactor=Redactor()).name != ""
