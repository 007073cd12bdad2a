"""Listening sockets that are shared during a reload, and those that systemd opened before us."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from edge.errors import EdgeError
from edge.net.addresses import Addresses, Lent
from edge.net.listen import ListeningSocket, inherited_from

LOOPBACK = "127.0.0.1:0"


def where(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def connects(address: str) -> bool:
    """Whether somebody listens there."""
    unix = address.removeprefix("unix:")
    family = socket.AF_INET if unix == address else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        try:
            client.connect(where(address) if family == socket.AF_INET else unix)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


def close_all(lent: Sequence[Lent]) -> None:
    for each in lent:
        each.close()


async def test_an_address_is_open_from_the_first_who_asks_to_the_last_who_gives_it_back() -> None:
    open_address = Addresses().of("gateway")
    older = await open_address(LOOPBACK)
    newer = await open_address(LOOPBACK)
    address = older[0].address
    assert [each.address for each in newer] == [each.address for each in older]
    close_all(older)
    assert connects(address)
    close_all(newer)
    assert not connects(address)


async def test_both_who_share_an_address_get_connections_and_none_is_lost() -> None:
    open_address = Addresses().of("gateway")
    older, newer = await open_address(LOOPBACK), await open_address(LOOPBACK)
    host, port = where(older[0].address)
    with trio.fail_after(10):
        for one in (older, newer):
            stream = await trio.open_tcp_stream(host, port)
            accepted, _ = await one[0].accept()
            await accepted.aclose()
            await stream.aclose()
        waiting = await trio.open_tcp_stream(host, port)
        close_all(older)  # while a connection is there that nobody has accepted
        accepted, _ = await newer[0].accept()
        await accepted.aclose()
        await waiting.aclose()
    close_all(newer)


async def test_giving_back_twice_counts_once() -> None:
    open_address = Addresses().of("gateway")
    older, newer = await open_address(LOOPBACK), await open_address(LOOPBACK)
    close_all(older)
    close_all(older)
    assert connects(newer[0].address)
    close_all(newer)


async def test_listeners_of_another_name_do_not_share() -> None:
    addresses = Addresses()
    gateway = await addresses.of("gateway")(LOOPBACK)
    admin = await addresses.of("admin")(LOOPBACK)
    assert gateway[0].address != admin[0].address
    with pytest.raises(EdgeError, match="our own gateway listens on"):
        await addresses.of("admin")(gateway[0].address)
    close_all([*gateway, *admin])


async def test_two_who_ask_at_once_share() -> None:
    open_address = Addresses().of("gateway")
    got: list[Lent] = []

    async def ask() -> None:
        got.extend(await open_address(LOOPBACK))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert len({each.address for each in got}) == 1
    close_all(got)
    assert not connects(got[0].address)


async def test_a_unix_sockets_file_goes_with_the_last_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    open_address = Addresses().of("gateway")
    older, newer = await open_address(f"unix:{path}"), await open_address(f"unix:{path}")
    close_all(older)
    assert connects(f"unix:{path}")
    close_all(newer)
    assert not path.exists()


async def test_a_lack_of_descriptors_is_an_error_of_the_address_and_leaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_address = Addresses().of("gateway")
    held = await open_address(LOOPBACK)

    def none_left(self: ListeningSocket) -> ListeningSocket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(ListeningSocket, "lent", none_left)
        with pytest.raises(EdgeError, match="Too many open files"):
            await open_address(LOOPBACK)
    assert connects(held[0].address)
    close_all(held)
    assert not connects(held[0].address)


async def test_with_no_descriptor_for_the_first_who_asks_the_address_is_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*probe.getsockname())

    def none_left(self: ListeningSocket) -> ListeningSocket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    open_address = Addresses().of("gateway")
    with monkeypatch.context() as patch:
        patch.setattr(ListeningSocket, "lent", none_left)
        with pytest.raises(EdgeError):
            await open_address(address)
    assert not connects(address)
    close_all(await open_address(address))


# -- sockets that listen already


def listening_tcp() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


def text_of(sock: socket.socket) -> str:
    return "{}:{}".format(*sock.getsockname())


async def test_an_inherited_socket_is_used_and_stays_open_when_it_is_given_back() -> None:
    with listening_tcp() as ours:
        addresses = Addresses([ours])
        open_address = addresses.of("gateway")
        for _ in range(2):
            lent = await open_address(text_of(ours))
            assert [each.address for each in lent] == [text_of(ours)]
            assert addresses.unused() == []
            with trio.fail_after(10):
                stream = await trio.open_tcp_stream(*where(text_of(ours)))
                accepted, _ = await lent[0].accept()
                await accepted.aclose()
                await stream.aclose()
            close_all(lent)
            assert connects(text_of(ours))
            assert addresses.unused() == [text_of(ours)]


async def test_an_inherited_unix_socket_keeps_its_file(tmp_path: Path) -> None:
    path = tmp_path / "systemd.sock"
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(path))
        ours.listen()
        addresses = Addresses([ours])
        lent = await addresses.of("admin")(f"unix:{path}")
        assert lent[0].address == f"unix:{path}"
        close_all(lent)
        assert connects(f"unix:{path}")
        assert addresses.unused() == [f"unix:{path}"]


async def test_an_address_that_was_not_inherited_is_opened_beside() -> None:
    with listening_tcp() as ours:
        addresses = Addresses([ours])
        lent = await addresses.of("gateway")(LOOPBACK)
        assert lent[0].address != text_of(ours)
        assert addresses.unused() == [text_of(ours)]
        close_all(lent)


INHERITS = """
import os, sys
from edge.net.listen import inherited_from, place_text
before = sys.argv[1]
found = inherited_from(os.environ, os.getpid())
print([place_text(sock) for sock in found], [os.get_inheritable(sock.fileno()) for sock in found])
"""
BECOMES = (
    "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.executable, sys.argv[1:])"
)


def started_with(*socks: socket.socket, env: dict[str, str] | None = None) -> str:
    """What a process prints that was started with these sockets from 3 up, as systemd does."""
    fds = [sock.fileno() for sock in socks]
    shift = (
        "import os, sys\n"
        + "".join(f"os.dup2({fd}, {900 + n}); " for n, fd in enumerate(fds))
        + "".join(f"os.dup2({900 + n}, {3 + n}); " for n in range(len(fds)))
    )
    code = f"{shift}\n{BECOMES}"
    done = subprocess.run(
        [sys.executable, "-c", code, sys.executable, "-c", INHERITS, ""],
        pass_fds=fds,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, "LISTEN_FDS": str(len(fds)), **(env or {})},
        cwd=Path(__file__).parents[2],
    )
    return done.stdout.strip()


def test_a_process_takes_what_systemd_passes_to_it_and_passes_none_of_it_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening_tcp() as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        assert started_with(tcp, unix) == f"{[text_of(tcp), f'unix:{path}']} [False, False]"


def test_what_does_not_listen_is_left_out() -> None:
    with listening_tcp() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as idle:
        assert started_with(udp, tcp, idle) == f"{[text_of(tcp)]} [False]"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "2"},
        {"LISTEN_FDS": "x", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "²", "LISTEN_PID": "1"},
        {"LISTEN_PID": "1"},
    ],
)
def test_what_is_meant_for_another_process_is_not_touched(env: dict[str, str]) -> None:
    assert inherited_from(env, 1) == []


def test_descriptors_that_are_promised_and_not_there_are_left_out() -> None:
    assert started_with(env={"LISTEN_FDS": "3"}) == "[] []"
