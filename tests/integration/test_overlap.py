"""What the kernel does with two sockets on parts of one port: what `net.overlap` builds upon."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from edge.net.overlap import overlap, seal, side_by_side, turn_away
from tests.support.ports import another_process_can_take, has_ipv6

NARROW, WIDE = "127.0.0.1", "0.0.0.0"
FAMILIES = [
    (socket.AF_INET, NARROW, WIDE),
    pytest.param(
        (socket.AF_INET6, "::1", "::"), marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
    ),
]


@dataclass
class Pair:
    """Two sockets on one port; both listen."""

    narrow: socket.socket
    wide: socket.socket
    address: tuple[str, int]  # the narrow one's

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=5)


def bound(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family)
    sock.settimeout(5)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


@pytest.fixture(params=FAMILIES, ids=["IPv4", "IPv6"] if has_ipv6() else None)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    family, narrow, wide = request.param
    with ExitStack() as stack:
        first = stack.enter_context(bound(family, narrow, 0))
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bound(family, wide, port)
        second = stack.enter_context(socket.socket(family))
        second.settimeout(5)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        with side_by_side([first, second]):
            second.bind((wide, port))
        with side_by_side([first, second]):
            second.listen()
        yield Pair(first, second, (narrow, port))


def text(host: str, port: int) -> str:
    return f"[{host}]:{port}"


def n_waiting(sock: socket.socket) -> int:
    """How many connections wait to be accepted, and are now."""
    sock.setblocking(False)
    for n in range(10):
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return n
    raise AssertionError("too many wait")


def test_the_more_specific_one_has_the_connections_until_it_turns_them_away(pair: Pair) -> None:
    with pair.connect(), pair.connect():
        turn_away(pair.narrow)
        with pair.connect():
            assert (n_waiting(pair.narrow), n_waiting(pair.wide)) == (2, 1)


def test_nobody_else_gets_the_port_that_way(pair: Pair) -> None:
    host, port = pair.address
    everywhere = pair.wide.getsockname()[0]
    assert not another_process_can_take(text(host, port))
    assert not another_process_can_take(text(everywhere, port))
    pair.narrow.close()
    assert not another_process_can_take(text(everywhere, port))


def test_what_the_kernel_remembers_of_such_a_port_is_what_the_seal_is_for(pair: Pair) -> None:
    address = text(*pair.address)
    for sock in (pair.narrow, pair.wide):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    assert another_process_can_take(address)
    for sock in (pair.narrow, pair.wide):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    seal(pair.address[1])
    assert not another_process_can_take(address)


@pytest.mark.parametrize(
    ("one", "other", "is_so"),
    [
        ((NARROW, 1), (WIDE, 1), True),
        ((WIDE, 1), (NARROW, 1), True),
        ((NARROW, 1), (WIDE, 2), False),
        ((NARROW, 0), (WIDE, 0), False),
        ((NARROW, 1), (NARROW, 1), False),
        ((NARROW, 1), ("127.0.0.2", 1), False),
        (("::1", 1, 0, 0), ("::", 1, 0, 0), True),
        (("::1", 1, 0, 0), ("::2", 1, 0, 0), False),
        ("/run/a", "/run/b", False),
    ],
)
def test_addresses_overlap_if_one_is_everywhere_and_the_port_is_the_same(
    one: tuple[str | int, ...], other: tuple[str | int, ...], is_so: bool
) -> None:
    assert overlap(socket.AF_INET, one, socket.AF_INET, other) == is_so
    assert not overlap(socket.AF_INET, one, socket.AF_INET6, other)
