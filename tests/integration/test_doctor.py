"""`mcp-edge doctor` with real things that are wrong: each is found, and what to do is said."""

import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trustme

from edge.config.load import load
from edge.doctor.commands import command_checks
from edge.doctor.finding import Check, Finding, examine
from edge.doctor.ports import port_checks
from edge.doctor.servers import server_checks
from edge.doctor.uplinks import uplink_checks
from edge.net.tls import server_context
from edge.redaction import Redactor
from tests.support.appliance import toml_list
from tests.support.connect_proxy import connect_proxy
from tests.support.faulty_neighbour import TOY

LIMIT_S = 30.0


def no_file(name: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", name)


def checks(text: str, env: Mapping[str, str]) -> list[Check]:
    config = load(text, env=env, read_secret=no_file, source="c.toml")
    links = uplink_checks(config, "box", env=env, read_secret=no_file, learn=lambda secret: None)
    servers = [*command_checks(config, env), *server_checks(config, env, Redactor(), offline=False)]
    return [*port_checks(config), *servers, *links]


async def found(
    text: str, subject: str, env: Mapping[str, str] | None = None, limit_s: float = LIMIT_S
) -> list[Finding]:
    """What is found about one thing of a config."""
    chosen = [check for check in checks(text, env or {}) if check.subject == subject]
    with trio.fail_after(2 * LIMIT_S):
        return await examine(chosen, timeout_s=limit_s)


async def problem(text: str, subject: str, env: Mapping[str, str] | None = None) -> tuple[str, str]:
    """The one problem that there is, and what to do."""
    (each,) = [each for each in await found(text, subject, env) if each.level != "ok"]
    assert each.level == "problem"
    return each.text, each.advice


def toy(*switches: str, extra: str = "") -> str:
    return f"[servers.toy]\ncommand = {toml_list([sys.executable, '-I', '-S', TOY, *switches])}\n{extra}"


# -- servers that are started


async def test_a_good_server_is_started_asked_and_ended() -> None:
    command, each = await found(toy(), "servers.toy")
    assert (command.section, each.section) == ("commands", "servers")
    assert (each.level, each.text) == ("ok", "MCP 2025-11-25: 15 tools, 1 prompt, 1 resource")
    assert each.took_s is not None


async def test_a_server_that_exits_is_told_with_its_last_words() -> None:
    text, advice = await problem(toy("exit=3"), "servers.toy")
    assert text == "exited with status 3: cannot find my configuration"
    assert advice.startswith("run it by hand")


async def test_a_server_that_never_answers_is_told_with_what_it_printed() -> None:
    text, advice = await problem(toy("mute", "stderr=waiting", extra="start_timeout_s = 0.5"), "servers.toy")
    assert text == "no answer in 0.5 s; on its stderr: waiting"
    assert "start_timeout_s" in advice


async def test_the_time_for_a_check_ends_a_server_as_well() -> None:
    _, each = await found(toy("mute"), "servers.toy", limit_s=0.5)
    assert (each.level, each.text) == ("problem", "no result within 0.5 s")


async def test_a_command_that_is_missing_is_told_once() -> None:
    text, advice = await problem('[servers.x]\ncommand = ["nothere"]\n', "servers.x")
    assert text.startswith("the command nothere was not found")
    assert advice == "install it, or write its whole path"


async def test_a_command_that_is_there_and_cannot_be_run_is_told_once(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"\0\0\0")
    nonsense.chmod(0o755)
    text, advice = await problem(f'[servers.x]\ncommand = ["{nonsense}"]\n', "servers.x")
    assert text.startswith(f"could not be started: cannot run {nonsense}")
    assert advice == "install it, or write the whole path of the command"


async def test_a_server_that_refuses_initialize_is_told() -> None:
    text, _ = await problem(toy("refuse"), "servers.toy")
    assert text.startswith("refused initialize: ")


async def test_invalid_tools_and_no_offer_are_warnings() -> None:
    dropped = await found(toy("invalid"), "servers.toy")
    assert [each.level for each in dropped] == ["ok", "ok", "warning"]
    assert dropped[2].text.startswith("part of a list left out: ")
    _, nothing = await found(toy("no-lists"), "servers.toy")
    assert (nothing.level, nothing.text) == ("warning", "answers (MCP 2025-11-25), and offers nothing")


# -- the way to others


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@asynccontextmanager
async def answering(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Gives each request the same answer, whatever it is; the port."""

    async def serve(stream: trio.SocketStream) -> None:
        conversation = stream if tls is None else trio.SSLStream(stream, tls, server_side=True)
        try:
            if await conversation.receive_some():
                await conversation.send_all(answer)
        except trio.BrokenResourceError:
            pass  # some are refused on purpose
        await trio.aclose_forcefully(conversation)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@contextmanager
def closed_port() -> Iterator[int]:
    """Bound, so that nobody else gets it, and not listened on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def certificate(authority: trustme.CA, folder: Path, *names: str, ends_in_days: int = 90) -> ssl.SSLContext:
    now = datetime.now(UTC)
    issued = authority.issue_cert(
        *names, not_before=now - timedelta(days=99), not_after=now + timedelta(days=ends_in_days)
    )
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return server_context(str(folder / "server.pem"), str(folder / "server.pem"))


def http(url: str, extra: str = "") -> str:
    return f'[servers.plc]\nurl = "{url}"\nconnect_timeout_s = 5\n{extra}'


def uplink(url: str, extra: str = "", dialect: str = "contextforge") -> str:
    return toy() + f'[uplinks.hq]\ndialect = "{dialect}"\nurl = "{url}"\n{extra}'


async def test_a_closed_port_is_told() -> None:
    with closed_port() as port:
        text, advice = await problem(http(f"http://127.0.0.1:{port}/mcp"), "servers.plc")
    assert text == f"cannot connect to 127.0.0.1:{port}: connection refused"
    assert advice == "nothing listens there: is it running, and is the port right?"


async def test_a_name_that_does_not_exist_is_told() -> None:
    text, advice = await problem(uplink("https://nowhere.invalid", 'proxy = "none"'), "uplinks.hq")
    assert text.startswith("nowhere.invalid: the host name is not known")
    assert "/etc/resolv.conf" in advice


async def test_an_authority_that_is_not_known_is_told(authority: trustme.CA, tmp_path: Path) -> None:
    async with answering(b"", certificate(authority, tmp_path, "localhost")) as port:
        text, advice = await problem(http(f"https://localhost:{port}/mcp"), "servers.plc")
    assert f"TLS handshake with localhost:{port} failed: its certificate is not trusted" in text
    assert "ca_file" not in text
    assert "ca_file" in advice


async def test_a_certificate_that_has_expired_is_told(
    authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    async with answering(b"", certificate(authority, tmp_path, "localhost", ends_in_days=-1)) as port:
        config = http(f"https://localhost:{port}/mcp", f'ca_file = "{ca_file}"')
        text, advice = await problem(config, "servers.plc")
    assert "certificate has expired" in text
    assert advice.startswith("its certificate has expired: whoever runs it renews it")


async def test_a_certificate_that_will_expire_soon_is_a_warning(
    authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    async with answering(
        refusal("404 Not Found"), certificate(authority, tmp_path, "localhost", ends_in_days=5)
    ) as port:
        every = await found(http(f"https://localhost:{port}/mcp", f'ca_file = "{ca_file}"'), "servers.plc")
    (warning,) = [each for each in every if each.level == "warning"]
    assert warning.text == "its certificate expires in 5 days"


async def test_a_certificate_for_another_host_is_told(
    authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    async with answering(b"", certificate(authority, tmp_path, "other.example")) as port:
        config = http(f"https://localhost:{port}/mcp", f'ca_file = "{ca_file}"')
        text, advice = await problem(config, "servers.plc")
    assert "Hostname mismatch" in text
    assert advice == "the certificate is for another host: use the name that is in it, in url"


async def test_a_port_without_tls_is_told() -> None:
    async with answering(refusal("400 Bad Request")) as port:
        _, advice = await problem(http(f"https://127.0.0.1:{port}/mcp"), "servers.plc")
    assert advice == "does it speak TLS there? else http:// (or ws://), or another port"


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("401 Unauthorized", "its token is missing, wrong or expired: bearer_file, bearer_env or headers"),
        ("404 Not Found", "the url is not its MCP endpoint: mostly it ends in /mcp or /sse"),
        (
            "500 Internal Server Error",
            "see what the server's own log says about it; is the url its MCP endpoint?",
        ),
    ],
)
async def test_an_http_server_that_refuses_is_told(status: str, advice: str) -> None:
    async with answering(refusal(status)) as port:
        text, said = await problem(http(f"http://127.0.0.1:{port}/mcp"), "servers.plc")
    assert status[:3] in text
    assert said == advice


# -- proxies


async def test_a_proxy_that_wants_a_password_is_told() -> None:
    async with connect_proxy(authorization="Basic eDp5") as proxy, answering(b"") as port:
        config = uplink(f"http://127.0.0.1:{port}", f'proxy = "http://127.0.0.1:{proxy.port}"')
        text, advice = await problem(config, "uplinks.hq")
    assert text == f"proxy 127.0.0.1:{proxy.port} answered 407: it wants a user and a password"
    assert advice == "set them in the proxy's URL: http://USER:${PASSWORD}@HOST:PORT"


async def test_a_proxy_that_refuses_is_told() -> None:
    async with connect_proxy(answer=refusal("403 Forbidden")) as proxy:
        config = uplink("http://hub.example.com", f'proxy = "http://127.0.0.1:{proxy.port}"')
        text, advice = await problem(config, "uplinks.hq")
    assert text == f"proxy 127.0.0.1:{proxy.port} answered 403"
    assert advice.startswith("ask who runs the proxy")


async def test_a_proxy_that_is_not_there_is_told() -> None:
    with closed_port() as port:
        env = {"HTTPS_PROXY": f"http://127.0.0.1:{port}"}
        text, _ = await problem(uplink("https://hub.example.com"), "uplinks.hq", env)
    assert text == f"cannot connect to 127.0.0.1:{port}: connection refused"


async def test_a_good_proxy_is_told_with_the_tunnel() -> None:
    async with connect_proxy() as proxy, answering(refusal("404 Not Found")) as port:
        config = uplink(f"http://127.0.0.1:{port}", f'proxy = "http://127.0.0.1:{proxy.port}"')
        every = await found(config, "uplinks.hq")
    assert [each.text for each in every if each.level == "ok"] == [
        f"proxy 127.0.0.1:{proxy.port} answers",
        f"the tunnel through proxy 127.0.0.1:{proxy.port}: good",
    ]


# -- what a gateway says


@pytest.mark.parametrize(
    ("dialect", "status", "text", "advice"),
    [
        ("contextforge", "401 Unauthorized", "answered 401", "token"),
        ("contextforge", "404 Not Found", "answered 404", "path"),
        ("mcp-reverse", "401 Unauthorized", "answered 401", "token"),
        ("long-poll", "401 Unauthorized", "answered 401", "token"),
    ],
)
async def test_a_refusal_is_told_with_the_dialects_own_advice(
    dialect: str, status: str, text: str, advice: str
) -> None:
    async with answering(refusal(status)) as port:
        said, told = await problem(uplink(f"http://127.0.0.1:{port}", dialect=dialect), "uplinks.hq")
    assert text in said
    assert advice in told


# -- ports


async def test_a_port_in_use_is_told_with_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        config = f'[gateway]\nlisten = "127.0.0.1:{port}"\n[admin]\nenabled = false\n'
        text, advice = await problem(config, "gateway.listen")
    assert text.startswith(f"127.0.0.1:{port} is in use by process ")
    assert advice == "stop it, or take another port"


async def test_an_address_that_is_not_ours_is_told() -> None:
    config = '[gateway]\nlisten = "192.0.2.1:8766"\ninsecure_public = true\n'
    text, advice = await problem(config, "gateway.listen")
    assert text == "cannot listen on 192.0.2.1:8766: this machine does not have that address"
    assert advice == "listen on another address"


async def test_a_unix_socket_that_somebody_has_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        text, _ = await problem(
            f'[gateway]\nlisten = "unix:{path}"\n[admin]\nenabled = false\n', "gateway.listen"
        )
    assert text == f"unix:{path} is in use"


async def test_a_free_port_is_good_and_free_afterwards() -> None:
    config = '[gateway]\nlisten = "127.0.0.1:0"\n'
    (each,) = await found(config, "gateway.listen")
    assert (each.level, each.text) == ("ok", "127.0.0.1:0 is free")
