"""Which proxy leads where, and what is made of its answer to CONNECT."""

import pytest
import trio
import trio.testing

from edge.errors import EdgeError, RemoteProtocolError
from edge.net.proxy import Proxy, ProxyRefused, open_tunnel, proxy_for

BOX = Proxy("proxy.test", 3128)
ENV = {"HTTPS_PROXY": "http://proxy.test:3128"}


def test_none_means_none() -> None:
    assert proxy_for("none", "https", "hub.test", 443, ENV) is None


def test_a_url_is_used_as_it_is_written_whatever_the_environment_says() -> None:
    env = {"NO_PROXY": "*", "HTTPS_PROXY": "http://other.test:1"}
    proxy = proxy_for("http://me%40home:p%3Aw@proxy.test:3128", "https", "hub.test", 443, env)
    assert proxy == Proxy("proxy.test", 3128, "Basic bWVAaG9tZTpwOnc=")  # me@home:p:w


@pytest.mark.parametrize(
    ("scheme", "env", "port"),
    [
        ("https", {"HTTPS_PROXY": "http://p:1"}, 1),
        ("wss", {"HTTPS_PROXY": "http://p:1"}, 1),
        ("https", {"HTTPS_PROXY": "http://p:1", "https_proxy": "p:2"}, 2),
        ("https", {"HTTPS_PROXY": " ", "ALL_PROXY": "p:3"}, 3),
        ("https", {"HTTPS_PROXY": "http://p"}, 80),
        ("http", {"HTTP_PROXY": "http://p:4", "HTTPS_PROXY": "http://p:1"}, 4),
        ("ws", {"http_proxy": "http://p:5", "all_proxy": "http://p:6"}, 5),
        ("http", {"all_proxy": "http://p:6"}, 6),
    ],
)
def test_the_environment_names_a_proxy_by_scheme(scheme: str, env: dict[str, str], port: int) -> None:
    assert proxy_for("env", scheme, "hub.test", 443, env) == Proxy("p", port)


def test_an_environment_that_names_none_means_none() -> None:
    assert proxy_for("env", "https", "hub.test", 443, {"HTTP_PROXY": "http://p:4"}) is None


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_is_never_reached_through_the_environments_proxy(host: str) -> None:
    assert proxy_for("env", "https", host, 443, ENV) is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_exempt"),
    [
        ("*", "hub.test", True),
        ("hub.test", "hub.test", True),
        ("HUB.test", "hub.TEST.", True),
        (".test", "hub.test", True),
        ("*.test", "hub.test", True),
        ("test", "eu.hub.test", True),
        ("ub.test", "hub.test", False),
        ("other.test, hub.test", "hub.test", True),
        ("other.test hub.test", "hub.test", True),
        ("hub.test:443", "hub.test", True),
        ("hub.test:8443", "hub.test", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("10.1.2.3:80", "10.1.2.3", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "hub.test", False),
        ("fd00::/8", "fd00::7", True),
        ("[fd00::7]:443", "fd00::7", True),
        ("[fd00::7]", "fd00::7", True),
        ("fd00::8", "fd00::7", False),
        ("2.3", "10.1.2.3", False),
        (".", "hub.test", False),
        (" , ", "hub.test", False),
    ],
)
def test_no_proxy_lists_what_is_reached_directly(no_proxy: str, host: str, is_exempt: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        proxy = proxy_for("env", "https", host, 443, {**ENV, name: no_proxy})
        assert proxy == (None if is_exempt else BOX)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("socks5://me:hush@proxy.test:1080", "http://"),
        ("https://me:hush@proxy.test:1080", "http://"),
        ("http://me:hush@proxy.test:high", "port"),
        ("http://me:hush@:80", "names no host"),
        ("http://me:hush@[bad", "not a URL"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_said_without_its_password(url: str, words: str) -> None:
    for setting, env in ((url, {}), ("env", {"ALL_PROXY": url})):
        with pytest.raises(EdgeError) as caught:
            proxy_for(setting, "https", "hub.test", 443, env)
        assert words in str(caught.value)
        assert "hush" not in str(caught.value)
        assert ("ALL_PROXY" in str(caught.value)) == (setting == "env")


def test_a_proxy_does_not_show_its_password() -> None:
    assert "Basic" not in repr(proxy_for("http://me:hush@p:1", "https", "hub.test", 443, {}))


async def tunnel(answer: bytes, proxy: Proxy = BOX, host: str = "hub.test") -> str:
    """What `open_tunnel` sent before the proxy gave `answer` byte by byte, and closed."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def give() -> None:
        await trio.testing.wait_all_tasks_blocked()
        for at in range(len(answer)):
            await theirs.send_all(answer[at : at + 1])
        await theirs.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give)
        try:
            await open_tunnel(ours, proxy, host, 443)
        except EdgeError as exc:
            nursery.cancel_scope.cancel()
            caught: EdgeError | None = exc
        else:
            caught = None
    if caught is not None:
        raise caught
    return (await theirs.receive_some(9999)).decode()


async def test_a_tunnel_is_asked_for_by_connect() -> None:
    sent = await tunnel(b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n")
    assert sent == "CONNECT hub.test:443 HTTP/1.1\r\nHost: hub.test:443\r\n\r\n"
    sent = await tunnel(b"HTTP/1.1 200\r\n\r\n", Proxy("p", 1, "Basic eA=="), "fd00::7")
    assert sent.startswith("CONNECT [fd00::7]:443 HTTP/1.1\r\nHost: [fd00::7]:443\r\n")
    assert "\r\nProxy-Authorization: Basic eA==\r\n\r\n" in sent


@pytest.mark.parametrize(
    ("authorization", "answer", "words"),
    [
        (None, b"HTTP/1.1 407 Auth\r\n\r\n", "proxy.test:3128 answered 407: it wants a user and a password"),
        ("Basic eA==", b"HTTP/1.1 407 Auth\r\n\r\n", "answered 407: it wants another user or password"),
        (None, b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\n", "proxy proxy.test:3128 answered 503"),
    ],
)
async def test_a_refusal_is_said_with_its_status(
    authorization: str | None, answer: bytes, words: str
) -> None:
    with pytest.raises(ProxyRefused, match=words):
        await tunnel(answer, Proxy("proxy.test", 3128, authorization))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "no answer"),
        (b"HTTP/1.1 200 OK\r\n", "no answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 6000, "no answer"),
        (b"SSH-2.0-x\r\n\r\n", "not answer in HTTP"),
    ],
)
async def test_an_answer_that_is_none_is_said(answer: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        await tunnel(answer)


async def test_bytes_that_come_before_we_have_spoken_are_not_lost_unseen() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"HTTP/1.1 200 OK\r\n\r\nearly")
    with pytest.raises(RemoteProtocolError, match="more than its answer"):
        await open_tunnel(ours, BOX, "hub.test", 443)
